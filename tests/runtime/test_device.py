"""Devices and precisions: what is refused, and that no device needs fp64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import CPU_BF16, SAMPLE, run_script
from torch.utils._python_dispatch import TorchDispatchMode

from bilm.cli.options import RunOptions
from bilm.cli.start import start
from bilm.config import ClassifierConfig, FitConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.runtime import device
from bilm.runtime.errors import UserError
from bilm.runtime.process import run_script as run_command
from bilm.training.classification import ClassificationTask
from bilm.training.optimizer import build_optimizer
from bilm.training.pretraining import PretrainingTask
from bilm.training.state import State, Tally

CPU = torch.device("cpu")


class NoDoubles(TorchDispatchMode):
    """Fails on any tensor in fp64 among the inputs and outputs of an operation: Apple's MPS has no fp64."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for value in torch.utils._pytree.tree_leaves((arguments, options, result)):
            assert not isinstance(value, torch.Tensor) or value.dtype != torch.float64, function
        return result


def test_the_mode_notices_fp64():
    with pytest.raises(AssertionError), NoDoubles():
        torch.zeros(2).double()


@pytest.mark.parametrize("mode", [None, "trainable", "frozen", "function", "finetune"])
def test_no_step_of_either_training_has_a_tensor_in_fp64(bilm, vocabulary, texts, mode):
    """Forward, loss, backward, clipping, step and validation."""
    encoded, rows = vocabulary.encode(texts), np.arange(5)
    model, task = bilm, PretrainingTask(encoded, rows, rows, 1000, 0, CPU)
    if mode is not None:
        finetuned = mode == "finetune"
        bilm.set_trainable(finetuned)
        model = EncoderClassifier(bilm, Classifier(ClassifierConfig(hidden=5), mode, bilm, 4, seed=0), finetuned)
        task = ClassificationTask("", encoded, np.arange(5) % 4, rows, rows, 1000, 0, CPU)
    optimizer, state = build_optimizer([(model, 1e-2)], 0.01), State()
    tally = Tally(state, is_main=True)
    with NoDoubles():
        loss, count, _ = task.loss(model.train(), rows, 0, 1)
        (loss / count).backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        good = tally.add(loss.detach(), count, torch.nn.utils.clip_grad_norm_(parameters, FitConfig.clip_norm))
        optimizer.found_inf = 1.0 - good.float()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        task.validate(model)


@pytest.mark.skipif(CPU_BF16, reason="this CPU computes in bf16")
def test_bf16_where_the_cpu_cannot_is_one_line_before_any_work(tmp_path):
    for script in ("ELMO.py", "classification.py", "evaluate.py"):
        run = run_script(script, "--data", SAMPLE, "--output", tmp_path / "out", "--precision", "bf16")
        assert run.code == 2 and "precision bf16: this CPU cannot" in run.err and run.err.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_bf16_is_refused_where_an_lstm_fails(monkeypatch):
    class Failing(torch.nn.LSTM):
        def forward(self, *_):
            raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")

    monkeypatch.setattr(torch.nn, "LSTM", Failing)
    with pytest.raises(UserError, match=r"precision bf16: .* Use fp32"):
        device.find_precision("bf16", CPU)
    assert device.find_precision("fp32", CPU) == "fp32"


def test_auto_is_bf16_only_where_it_is_native(monkeypatch):
    for native, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(device, "has_native_bf16", lambda _, native=native: native)
        assert device.find_precision("auto", CPU) == expected


def test_auto_is_cuda_or_the_cpu_and_never_mps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.find_device("auto").type == "cpu"


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an MPS device")
def test_a_device_that_is_not_there_is_one_line():
    with pytest.raises(UserError, match=r"^device 'mps' cannot be used: .{5,200}\. The CPU always can\.$"):
        device.find_device("mps")


def test_a_device_that_does_not_compute_is_refused():
    with pytest.raises(UserError, match="device 'meta' does not compute"):
        device.find_device("meta")


# What the tests below look at; earlier versions of torch have other names for it.
NEW_NAMES = hasattr(getattr(torch.backends.cudnn, "rnn", None), "fp32_precision")
has_new_names = pytest.mark.skipif(not NEW_NAMES, reason="torch before 2.9")


def tf32() -> tuple[str, str]:
    """What LSTMs and matrix products on a GPU are rounded to."""
    return torch.backends.cudnn.rnn.fp32_precision, torch.backends.cuda.matmul.fp32_precision


@has_new_names
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
@pytest.mark.parametrize(("precision", "expected"), [("fp32", "ieee"), ("bf16", "tf32")])
def test_one_gpu_is_set_up(monkeypatch, name, precision, expected):
    """With as much of a GPU as the set-up asks for: torch.cuda.set_device itself refuses a device without a number."""
    chosen, before = [], tf32()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch, "zeros", lambda _, device: SimpleNamespace(device=torch.device(device.type, 0)))
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", torch.backends.cudnn.deterministic)

    def main():
        runtime = start(RunOptions(device=name, precision=precision, threads=1))
        assert chosen == [0] and runtime.device == torch.device("cuda", 0) and runtime.precision == precision
        assert tf32() == (expected, expected)

    run_command(main)
    assert tf32() == before, "a notebook goes on as it was"


def test_a_gpu_by_number_is_not_shared_by_ranks(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="each of the 2 processes; name cuda"):
        start(RunOptions(device="cuda:0", threads=torch.get_num_threads()))


@has_new_names
@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("setting", [None, "ieee", "tf32"])
def test_fp32_on_a_gpu_is_not_tf32(setting):
    """The vectors of a GPU are those of a CPU, whatever the program around allows; TF32 leaves three digits of them."""
    before = tf32()
    try:
        for owner in (torch.backends.cudnn.rnn, torch.backends.cuda.matmul):
            owner.fp32_precision = setting or owner.fp32_precision
        outside = tf32()
        with device.autocast(torch.device("cuda"), "fp32"):
            assert tf32() == ("ieee", "ieee")
        with device.autocast(torch.device("cuda"), "bf16"):
            assert tf32() == outside
        assert tf32() == outside
    finally:
        torch.backends.cudnn.rnn.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before


@has_new_names
def test_threads_share_the_setting_of_the_process():
    """The first thread to compute sets it, the last one restores it, whatever the order in which they end."""
    before, (first, second) = tf32(), (device.autocast(torch.device("cuda"), "fp32") for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert tf32() == ("ieee", "ieee")
    second.__exit__(None, None, None)
    assert tf32() == before


def test_torch_before_2_9_has_other_names_for_it(monkeypatch):
    """There, `cudnn.rnn` is a module without the setting."""
    old = SimpleNamespace(allow_tf32=True, rnn=SimpleNamespace())
    monkeypatch.setattr(torch.backends, "cudnn", old)
    matmul = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends, "cuda", SimpleNamespace(matmul=matmul))
    restore = device.set_tf32(False)
    assert not old.allow_tf32 and not matmul.allow_tf32
    restore()
    assert old.allow_tf32 and matmul.allow_tf32
