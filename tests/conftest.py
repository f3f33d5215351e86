"""Shared by the tests: a small language model whose sizes all differ, and the scripts run as a user runs them."""

import csv
import gc
import io
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from bilm import ELMo
from bilm.cli.options import RunOptions
from bilm.cli.start import Runtime
from bilm.config import BiLMConfig, TokenizerConfig, VocabularyConfig
from bilm.modules.language_model import BiLM
from bilm.runtime.device import lack_of_bf16
from bilm.runtime.files import write_json
from bilm.runtime.provenance import run_stamp
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import Vocabulary

# Started in the background, Python ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One thread, as in the Makefile: tests run side by side, and the bits of small models depend on the number.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
# What takes effect only when Python, OpenMP or oneDNN starts.
READ_AT_START = {"OMP_NUM_THREADS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "PYTHONIOENCODING", "PYTHONPATH"}

ROOT = Path(__file__).resolve().parent.parent
WHOLE_SAMPLE = ROOT / "data" / "sample"
OWN_MODULES = [
    ["-m", name] for name in ("bilm", "benchmarks", *(f"studies.{p.stem}" for p in ROOT.glob("studies/*.py")))
]


def thinned_sample(folder: Path, step: int) -> Path:
    """Write every `step`-th row of the sample to `folder`/sample."""
    copy = folder / "sample"
    copy.mkdir(parents=True, exist_ok=True)
    for path in WHOLE_SAMPLE.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[::step]
        with (copy / path.name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    return copy


_FOLDER = tempfile.TemporaryDirectory(prefix="sample-")
SAMPLE = thinned_sample(Path(_FOLDER.name), 2)
# Small enough for a test, and still every part of the real thing.
TINY = ["--width", "24", "--min-count", "2", "--batch-tokens", "512", "--precision", "fp32", "--device", "cpu"]
CLASSIFY = ["classification.py", "--precision", "fp32", "--epochs", 2, "--hidden", 16]


CPU_BF16 = lack_of_bf16(torch.device("cpu")) == ""
needs_bf16 = pytest.mark.skipif(not CPU_BF16, reason="this CPU cannot compute LSTMs in bf16")


def pytest_addoption(parser):
    parser.addoption("--record", help="write what the reliability tests counted to this JSON file")


def pytest_configure(config):
    config.counted = {}
    if config.getoption("--record") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--record counts in one process: leave out -n")


# Files whose tests take longest. Spread over processes, they come first: a long one at the end would leave the other
# processes without work.
LONGEST = ("docs/test_pages", "test_kills", "test_notebook", "test_windows", "test_scripts", "test_earlier_runs")
LONGEST += ("test_torchrun", "test_hybrid_scripts", "test_own_texts")


def pytest_collection_modifyitems(items):
    def place(item) -> int:
        path = item.path.with_suffix("").as_posix()
        return next((i for i, name in enumerate(LONGEST) if path.endswith(name)), len(LONGEST))

    items.sort(key=place)


@pytest.fixture
def record(request):
    """record(name, figures): for the file that --record names."""

    def add(name: str, figures: dict) -> None:
        request.config.counted.setdefault(request.node.path.stem.removeprefix("test_"), {})[name] = figures

    return add


def pytest_sessionfinish(session, exitstatus):
    """All that was counted, and on what machine; nothing when a test failed."""
    if (path := session.config.getoption("--record")) and exitstatus == 0:
        stamp = run_stamp(RunOptions(), Runtime(torch.device("cpu"), "fp32"))
        stamp["command"] = shlex.join(["python", "-m", "pytest", *session.config.invocation_params.args])
        stamp |= {"corpus": "sample", "rows_trained": 360}
        del stamp["peak_memory_mb"]
        write_json(Path(path), {**stamp, **session.config.counted})


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def texts() -> list[str]:
    """Five texts of different lengths, none of them a multiple of another."""
    return [
        "Stocks fell in New York.",
        "The coach resigned today, and nobody in the club could say why.",
        "Rain.",
        "Scientists found water on the far side of the moon last week.",
        "Ministers met.",
    ]


@pytest.fixture
def vocabulary(texts) -> Vocabulary:
    return Vocabulary.learn(texts, Tokenizer(TokenizerConfig()), VocabularyConfig(min_count=1))


@pytest.fixture
def bilm(vocabulary) -> BiLM:
    """D = 7, in eval mode; embeddings large enough that every token leaves its mark."""
    model = BiLM(BiLMConfig(width=7, layers=2, dropout=0.5, softmax="full"), len(vocabulary))
    torch.nn.init.normal_(model.tokens.word.weight)
    return model.eval()


def torchrun() -> list[str]:
    """To be put behind the interpreter: two processes of what follows, which find each other at a free port."""
    with socket.socket() as query:
        query.bind(("127.0.0.1", 0))
        port = query.getsockname()[1]
    return ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str


def command_words(*arguments: object) -> list[str]:
    """The words of a command: the first argument may be several, as "-m bilm predict"."""
    first, *others = map(str, arguments)
    return [*(first.split() if first.startswith("-m ") else [first]), *others]


def run_script(*arguments: object, cwd: Path = ROOT, timeout: float = 240, inputs: str = "", **environment: str) -> Run:
    """A script on the command line, `given` on its standard input; AG_NEWS_DIR unset unless given, and no network.

    Runs in this process, which saves the seconds in which Python and torch start, as IPython's %run does it; in one of
    its own where the environment has to be there at the start, or where `arguments` begin with an option of Python.
    """
    words = command_words(*arguments)
    environment = {**NO_NETWORK, **environment}
    changed = {name for name, value in environment.items() if os.environ.get(name) != value}
    if (words[0].startswith("-") and words[:2] not in OWN_MODULES) or changed & READ_AT_START:
        return run_process(*words, cwd=cwd, timeout=timeout, **environment)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    code, folder, path = 0, Path.cwd(), list(sys.path)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)
        patch.delenv("AG_NEWS_DIR", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        stdin = io.TextIOWrapper(io.BytesIO(inputs.encode()), encoding="utf-8")
        for name, stream in (("stdin", stdin), ("stdout", out), ("stderr", err)):
            patch.setattr(sys, name, stream)
        patch.setattr(sys, "argv", words[1:] if words[0] == "-m" else words)
        os.chdir(cwd)
        gc.freeze()  # a command collects garbage at its end: its own, not all that pytest has in memory
        try:
            if words[0] == "-m":
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            code = 1
        finally:
            gc.unfreeze()
            os.chdir(folder)
            sys.path[:] = path
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8"))
    return Run(code, *texts)


def run_process(*arguments: object, cwd: Path = ROOT, timeout: float = 240, **environment: str) -> Run:
    """`python ARGUMENTS` as a user would type it: a process of its own."""
    env = {k: v for k, v in os.environ.items() if k != "AG_NEWS_DIR"} | NO_NETWORK | environment
    done = subprocess.run(
        [sys.executable, *command_words(*arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
        errors="replace",
        timeout=timeout,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def start(*arguments) -> subprocess.Popen:
    """On one thread: another script can run beside it."""
    env = {k: v for k, v in os.environ.items() if k != "AG_NEWS_DIR"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command_words(*arguments)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_checkpoints(path: Path, process: subprocess.Popen, count: int) -> None:
    """Until `path` was written `count` times."""
    seen: set[int] = set()
    deadline = time.monotonic() + 120
    while len(seen) < count:
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < deadline
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.002)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> tuple[Path, list[Run]]:
    """All three scripts, in order, on the sample with a tiny model: the output folder, and what each run said."""
    output = tmp_path_factory.mktemp("trained")
    common = ["--data", SAMPLE, "--output", output]
    runs = [
        run_script("ELMO.py", *common, *TINY, "--epochs", 2),
        run_script("classification.py", *common, "--precision", "fp32", "--epochs", 2, "--hidden", 16),
        run_script("evaluate.py", *common, "--split", "all"),
    ]
    return output, runs


@pytest.fixture(scope="session")
def trained_bilm(trained) -> Path:
    return trained[0] / "models/sample/bilstm.pt"


@pytest.fixture(scope="session")
def elmo(trained_bilm) -> ELMo:
    return ELMo.load(trained_bilm)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def numpy_lstm(lstm: torch.nn.LSTM, x: np.ndarray) -> np.ndarray:
    """An LSTM (T, D) -> (T, D) from a zero state, written from the equations, gates in the order i, f, g, o."""
    weights = {name: p.detach().double().numpy() for name, p in lstm.named_parameters()}
    size = weights["weight_hh_l0"].shape[1]
    h, c, states = np.zeros(size), np.zeros(size), []
    for x_t in x:
        gates = (
            weights["weight_ih_l0"] @ x_t + weights["weight_hh_l0"] @ h + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        )
        i, f, g, o = gates.reshape(4, size)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)
