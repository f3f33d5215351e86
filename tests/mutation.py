"""Small faults put into the code, one at a time: do the tests of the package fail?  `make mutation`

The mutants are those of Cosmic Ray (sixty-north/cosmic-ray), one at most for each place in the code, since an operator
of arithmetic has a dozen replacements. They are drawn by a hash of the seed and of the line, so that the sample changes
only where the code changes. FAULTS are judged as well: faults of training that no single operator of Cosmic Ray makes.

A process that starts Python and torch takes seconds; the tests that notice a mutant often take less. So each worker
imports the libraries once, holds a copy of the repository, and forks a child per mutant, which imports `bilm` from that
copy and runs the tests, the fastest first, until one fails.

Left out by rule, because the tests cannot or need not tell them from the original:
- docstrings and type annotations; what does not parse, and what parses to the same syntax tree
- what is only displayed: f-strings, and the arguments of the functions DISPLAY
- checks of what cannot be otherwise: `assert`, `strict=True` of zip, `frozen=True` of dataclasses
- `is` for `==` and the reverse, which agree on None, small integers and short strings
- `<` and the like for `==` between strings, whose order means nothing
- what matters on a GPU alone: comparisons with "cuda", branches of a condition that names CUDA, `non_blocking`
- the values of SPEED_CONSTANTS, which change speed and memory alone
- `@staticmethod` and `@property` removed: not a small fault, but another interface
"""

import argparse
import ast
import compileall
import contextlib
import difflib
import hashlib
import importlib
import multiprocessing
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import tqdm

ROOT = Path(__file__).resolve().parent.parent
# What is mutated, and the tests that judge it.
PACKAGES = {
    "modules": (["bilm/modules/*.py"], ["tests/modules"]),
    "training": (["bilm/training/*.py"], ["tests/training"]),
    "text": (
        ["bilm/text/split.py", "bilm/text/batching.py"],
        ["tests/text/test_split*.py", "tests/text/test_corpus.py", "tests/text/test_batching*.py"],
    ),
    "metrics": (["bilm/metrics.py"], ["tests/test_metrics*.py"]),
    "baselines": ([], ["tests/baselines/test_self_training_*.py"]),
}
DISPLAY = {"print_line", "print_note", "progress", "set_postfix_str"}
SPEED_CONSTANTS = {"BLOCK", "ROWS", "_AT_ONCE"}
LIBRARIES = ("numpy", "torch", "pytest", "hypothesis", "scipy.stats", "sklearn.linear_model", "sklearn.decomposition")
# A mutant that loops, or takes all memory, ends here.
LEAST_TIMEOUT, TIMES_UNCHANGED = 30.0, 3.0
MEMORY = 6 * 2**30


@dataclass(frozen=True)
class Mutant:
    """One changed line of a file; `code` is the changed file."""

    name: str
    package: str
    file: str
    line: int
    before: str
    after: str
    code: str


@dataclass(frozen=True)
class Fault:
    """`old` occurs in `file` exactly once; the fault has `new` in its place."""

    name: str
    package: str
    file: str
    old: str
    new: str


FAULTS = [
    Fault(
        "the same order of batches in every epoch", "text", "bilm/text/batching.py", "([seed, epoch])", "([seed, 0])"
    ),
    Fault(
        "no shuffling within a length",
        "text",
        "bilm/text/batching.py",
        "generator.uniform(0.0, 2.0, len(lengths))",
        "generator.uniform(0.0, 0.0, len(lengths))",
    ),
    Fault("no gradient clipping", "training", "bilm/training/loop.py", "self.config.clip_norm or math.inf", "math.inf"),
    Fault("no label smoothing", "modules", "bilm/modules/classifier.py", "self.config.label_smoothing", "0.0"),
    Fault(
        "the encoder's learning rate is ignored in mode finetune",
        "training",
        "bilm/training/classification.py",
        "learning_rates(encoder_learning_rate)",
        "learning_rates(self.fit_config.learning_rate)",
    ),
    Fault(
        "the encoder's learning rate is ignored in the steps",
        "training",
        "bilm/training/loop.py",
        'group["peak"] * factor',
        'run.optimizer.param_groups[0]["peak"] * factor',
    ),
    Fault(
        "self-training takes unbalanced classes",
        "baselines",
        "bilm/baselines/self_training.py",
        " / len(model.classes_)",
        "",
    ),
    Fault(
        "self-training gives labels no weight",
        "baselines",
        "bilm/baselines/self_training.py",
        "sample_weight=weights",
        "sample_weight=None",
    ),
]


# --- mutants ---------------------------------------------------------------------------------------------------------


def is_left_out(node) -> bool:
    """Whether a rule of the first lines leaves out a mutation of this node of a parso tree."""
    while (parent := node.parent) is not None:
        annotation = {"annassign": 1, "tfpdef": 2}.get(parent.type)
        if annotation is not None and node is parent.children[annotation]:
            return True
        if parent.type == "funcdef" and node is parent.annotation:
            return True
        if "fstring" in node.type or "assert_stmt" in (node.type, parent.type):
            return True
        if node.type == "argument" and node.get_code().strip() in ("strict=True", "frozen=True", "non_blocking=True"):
            return True
        if node.type == "trailer" and node.children[0] == "(" and called(node) in DISPLAY:
            return True
        if node.type == "expr_stmt" and node.children[0].get_code(include_prefix=False) in SPEED_CONSTANTS:
            return True
        if node.type == "decorator" and node.get_code().strip() in ("@staticmethod", "@property"):
            return True
        if node.type == "comparison" and names_cuda(node):
            return True
        if parent.type == "if_stmt" and node is parent.children[3] and names_cuda(parent.children[1]):
            return True
        if parent.type == "test" and node is parent.children[0] and names_cuda(parent.children[2]):
            return True
        node = parent
    return False


def called(trailer) -> str:
    """The name of the function whose arguments `trailer` holds: f(...) and x.f(...)."""
    before = trailer.get_previous_leaf()
    return before.value if before is not None else ""


def compares_strings(comparison) -> bool:
    return any(child.type == "string" for child in comparison.children)


def names_cuda(condition) -> bool:
    return "cuda" in condition.get_code()


def places(package: str, file: str) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Each place of `file` that can be mutated: its line and node as text, and its (operator, occurrence)."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    source = (ROOT / file).read_text(encoding="utf-8")
    lines = source.splitlines()
    nodes = list(ast_nodes(get_ast(source)))
    found: dict[tuple, list[tuple[str, int]]] = {}
    for name in operator_names():
        operator = get_operator(name)
        old, _, new = name.rpartition("_")
        swapped = {old.rpartition("_")[2], new}
        if operator.arguments() or swapped in ({"Eq", "Is"}, {"NotEq", "IsNot"}):
            continue
        orders = bool(swapped & {"Eq", "NotEq"}) and new in ("Lt", "LtE", "Gt", "GtE")
        occurrence = 0
        for node in nodes:
            for begin, end in operator().mutation_positions(node):
                if not is_left_out(node) and not (orders and compares_strings(node)):
                    found.setdefault((begin, end), []).append((name, occurrence))
                occurrence += 1
    times: Counter[str] = Counter()
    for (begin, end), mutations in sorted(found.items()):
        text = f"{file}: {lines[begin[0] - 1].strip()}: {begin[1] - end[1]}"
        times[text] += 1
        yield f"{text} {times[text]}", mutations


def draw(seed: int, count: int) -> tuple[list[Mutant], int]:
    """`count` mutants at different places, and how many places there are."""

    def rank(*words: object) -> str:
        return hashlib.sha256(repr((seed, *words)).encode()).hexdigest()

    every = []
    for package, (patterns, _) in PACKAGES.items():
        for file in sorted({str(p.relative_to(ROOT)) for pattern in patterns for p in ROOT.glob(pattern)}):
            every += [(rank(text), text, package, file, found) for text, found in places(package, file)]
    mutants: list[Mutant] = []
    for _, text, package, file, found in sorted(every):
        if len(mutants) == count:
            break
        candidates = sorted(found, key=lambda mutation: rank(text, mutation[0], mutation[1] - found[0][1]))
        mutant = next(filter(None, (mutate(package, file, *mutation) for mutation in candidates)), None)
        mutants += [mutant] if mutant else []
    return mutants, len(every)


def mutate(package: str, file: str, operator_name: str, occurrence: int) -> Mutant | None:
    """None when the code does not parse, or parses to the same syntax tree."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / file).read_text(encoding="utf-8")
    code = mutate_code(source, get_operator(operator_name)(), occurrence)
    try:
        if not code or ast.dump(ast.parse(code)) == ast.dump(ast.parse(source)):
            return None
    except SyntaxError:
        return None
    return changed(operator_name.removeprefix("core/"), package, file, source, code)


def changed(name: str, package: str, file: str, source: str, code: str) -> Mutant:
    old, new = source.splitlines(), code.splitlines()
    edits = [edit for edit in difflib.SequenceMatcher(None, old, new, False).get_opcodes() if edit[0] != "equal"]
    before, after = (
        "\n".join(line.strip() for line in lines)
        for lines in (old[edits[0][1] : edits[-1][2]], new[edits[0][3] : edits[-1][4]])
    )
    return Mutant(name, package, file, edits[0][1] + 1, before, after, code)


def named_fault(fault: Fault) -> Mutant:
    """Raises SystemExit when the code no longer has the text that the fault replaces."""
    source = (ROOT / fault.file).read_text(encoding="utf-8")
    if source.count(fault.old) != 1:
        sys.exit(
            f"the fault {fault.name!r} of tests/mutation.py replaces {fault.old!r}, which {fault.file} has "
            f"{source.count(fault.old)} times: bring the fault up to date with the code"
        )
    return changed(fault.name, fault.package, fault.file, source, source.replace(fault.old, fault.new))


# --- a worker: libraries imported once, one child per mutant ----------------------------------------------------------

COPY = Path()


def prepare(folder: str) -> None:
    """Start a worker: its copy of the repository, and the libraries that the tests import."""
    global COPY
    COPY = Path(tempfile.mkdtemp(dir=folder)).resolve()
    for name in ("bilm", "tests", "studies", "benchmarks", "examples", "data"):
        shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("*.py"), *ROOT.glob("*.toml"), *ROOT.glob("*.txt"), ROOT / "README.md"):
        shutil.copy(path, COPY)
    os.chdir(COPY)
    sys.path[:] = [
        str(COPY),
        str(COPY / "tests"),
        *(p for p in sys.path if not Path(p).resolve().is_relative_to(ROOT) or "site-packages" in p),
    ]
    compileall.compile_dir(COPY / "bilm", quiet=1)
    sys.dont_write_bytecode = True  # of mutants
    for library in LIBRARIES:
        importlib.import_module(library)
    tqdm.tqdm.get_lock()  # made once: children do not give back semaphores
    assert not any(name.partition(".")[0] in ("bilm", "conftest") for name in sys.modules)


@dataclass(frozen=True)
class Verdict:
    outcome: str  # "survived", "killed" or "timed out"
    seconds: float
    durations: dict[str, float]  # seconds by test, of those that ran
    output: str  # the last lines of pytest


def judge(mutant: Mutant | None, package: str, known: dict[str, float], timeout: float) -> Verdict:
    """Run the tests of `package` on a mutant, or on the code as it is; `known`: seconds by test."""
    path = COPY / mutant.file if mutant else None
    original, times = (path.read_bytes(), path.stat()) if path else (b"", None)
    if path and mutant:
        path.write_text(mutant.code, encoding="utf-8")
    started = time.monotonic()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if not child:
        run_tests(package, known, sender)
    sender.close()
    try:
        durations = receiver.recv() if receiver.poll(timeout) else None
    except EOFError:  # it died: out of memory, or a fault of memory
        durations = {}
    with contextlib.suppress(ProcessLookupError):
        if durations is None:
            os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if path and times:
        path.write_bytes(original)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # by which Python finds its bytecode
    outcome = "timed out" if durations is None else "survived" if status == 0 else "killed"
    return Verdict(outcome, time.monotonic() - started, durations or {}, (COPY / "output.txt").read_text()[-2000:])


def run_tests(package: str, known: dict[str, float], sender) -> None:
    """In a child, to its end: exit status 0 when all tests passed."""
    import resource  # Windows has neither this nor fork

    import pytest

    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with open(COPY / "output.txt", "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    durations: Counter[str] = Counter()

    class Order:
        def pytest_collection_modifyitems(self, items) -> None:
            items.sort(key=lambda item: known.get(item.nodeid, 0.0))

        def pytest_runtest_logreport(self, report) -> None:
            durations[report.nodeid] += report.duration

    tests = sorted(str(p.relative_to(COPY)) for pattern in PACKAGES[package][1] for p in COPY.glob(pattern))
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported already
    status = 3
    try:
        status = int(pytest.main([*options, "--basetemp", str(COPY / "temporary"), *tests], plugins=[Order()]))
        used = [m.__file__ for name, m in sys.modules.items() if name.partition(".")[0] == "bilm" and m.__file__]
        assert all(Path(file).is_relative_to(COPY) for file in used), "not the code that was to be judged"
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sender.send(dict(durations))
        os._exit(status)


# --- the run ---------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="which mutants are drawn (default 0)")
    parser.add_argument("--mutants", type=int, default=300, help="how many (default 300)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default 2)")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "mutation.json")
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    started = time.monotonic()
    stamp = describe_run(options.seed)
    faults = [named_fault(fault) for fault in FAULTS]
    mutants, count = draw(options.seed, options.mutants)
    print(f"{len(mutants)} mutants at {count} places, {len(faults)} named faults", flush=True)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(options.jobs, spawn, prepare, (folder,)) as pool:
        verdicts = judge_all(pool.submit, [*faults, *mutants])
    content = {
        **stamp,
        "cosmic_ray": version("cosmic-ray"),
        "places": count,
        **counts(verdicts[len(faults) :]),
        "packages": {
            package: counts([v for m, v in zip(mutants, verdicts[len(faults) :], strict=True) if m.package == package])
            for package in PACKAGES
            if PACKAGES[package][0]
        },
        "named_faults": {fault.name: verdict.outcome for fault, verdict in zip(faults, verdicts, strict=False)},
        "survivors": [
            {key: value for key, value in asdict(mutant).items() if key not in ("code", "package")}
            for mutant, verdict in sorted(
                zip(mutants, verdicts[len(faults) :], strict=True), key=lambda pair: (pair[0].file, pair[0].line)
            )
            if verdict.outcome == "survived"
        ],
        "seconds": round(time.monotonic() - started),
    }
    sys.path.insert(0, str(ROOT))
    from bilm.runtime.files import write_json

    write_json(options.output, content)
    killed = content["killed"] + content["timed_out"]
    print(f"{killed} of {content['mutants']} mutants died; {options.output}")
    for name, outcome in content["named_faults"].items():
        print(f"{outcome}: {name}")


def describe_run(seed: int) -> dict[str, object]:
    sys.path.insert(0, str(ROOT))
    import torch

    from bilm.cli.options import RunOptions
    from bilm.cli.start import Runtime
    from bilm.runtime.provenance import run_stamp

    stamp = run_stamp(RunOptions(seed=seed), Runtime(torch.device("cpu"), "fp32"))
    stamp["command"] = shlex.join(["python", "tests/mutation.py", *sys.argv[1:]])
    return {key: value for key, value in stamp.items() if key not in ("peak_memory_mb", "processes", "precision")}


def judge_all(submit: Callable, mutants: list[Mutant]) -> list[Verdict]:
    """Raises SystemExit when tests fail on the code as it is: they would kill every mutant."""
    unchanged = {package: submit(judge, None, package, {}, 900.0) for package in PACKAGES}
    known: dict[str, Verdict] = {package: future.result() for package, future in unchanged.items()}
    for package, verdict in known.items():
        if verdict.outcome != "survived" or not verdict.durations:
            sys.exit(f"{verdict.output}\nthe tests of {package} fail without a mutant, or there are none")
        print(f"{package}: {len(verdict.durations)} tests, {verdict.seconds:.0f} s", flush=True)
    futures = [
        submit(
            judge,
            mutant,
            mutant.package,
            known[mutant.package].durations,
            max(LEAST_TIMEOUT, TIMES_UNCHANGED * known[mutant.package].seconds),
        )
        for mutant in mutants
    ]
    verdicts = []
    for number, (mutant, future) in enumerate(zip(mutants, futures, strict=True), 1):
        verdict = future.result()
        verdicts.append(verdict)
        note = f"{mutant.file}:{mutant.line} {mutant.name}"
        if verdict.outcome == "survived":
            note += f"\n    - {mutant.before}\n    + {mutant.after}"
        print(f"{number}/{len(mutants)} {verdict.outcome} ({verdict.seconds:.1f} s) {note}", flush=True)
    return verdicts


def counts(verdicts: list[Verdict]) -> dict[str, object]:
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    died = outcomes["killed"] + outcomes["timed out"]
    return {
        "mutants": len(verdicts),
        "killed": outcomes["killed"],
        "survived": outcomes["survived"],
        "timed_out": outcomes["timed out"],
        "share_that_died": round(died / max(1, len(verdicts)), 4),
    }


if __name__ == "__main__":
    main()
