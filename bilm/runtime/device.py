"""Choose device and precision; measure memory."""

import contextlib
import platform
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilm.runtime.errors import UserError

if TYPE_CHECKING:  # torch takes seconds to import, and `--help` does not need it
    import torch

PRECISIONS = ("auto", "bf16", "fp32")


def find_device(name: "str | torch.device") -> "torch.device":
    """Return the device of this name; "auto" is CUDA where it is available, else the CPU. Raises UserError."""
    import torch

    if isinstance(name, torch.device):
        name = str(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # With its number: torch.cuda.set_device refuses the device "cuda".
        device = torch.zeros(1, device=torch.device(name)).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".")  # the rest of some is a page long
        raise UserError(f"device {name!r} cannot be used: {reason}. The CPU always can.", "device") from error
    if device.type == "meta":
        raise UserError("device 'meta' does not compute.", "device")
    return device


def find_precision(name: str, device: "torch.device") -> str:
    """Return "bf16" or "fp32"; "auto" is bf16 where the hardware computes in it natively. Raises UserError."""
    if name not in PRECISIONS:
        raise UserError(f"precision {name!r}: choose {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}.", "precision")
    if name == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    if name == "bf16" and (reason := lack_of_bf16(device)):
        raise UserError(f"precision bf16: {reason}. Use fp32, or auto.", "precision")
    return name


def autocast(device: "torch.device", precision: str) -> contextlib.AbstractContextManager:
    """Return a context in which torch computes matrix products in "bf16", or everything in "fp32"."""
    import torch

    context = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
    return _WithoutTF32(context) if device.type == "cuda" and precision == "fp32" else context


class _WithoutTF32(contextlib.AbstractContextManager):
    """Within `context`, a GPU computes in fp32; see `set_tf32`.

    The setting is that of the process: of threads that compute at the same time, the first one sets it, and the last
    one restores it.
    """

    _lock, _inside = threading.Lock(), 0
    _restore: Callable[[], None]

    def __init__(self, context: contextlib.AbstractContextManager):
        self._context = context

    def __enter__(self) -> None:
        with _WithoutTF32._lock:
            if not _WithoutTF32._inside:
                _WithoutTF32._restore = staticmethod(set_tf32(False))
            _WithoutTF32._inside += 1
        self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            self._context.__exit__(*error)
        finally:
            with _WithoutTF32._lock:
                _WithoutTF32._inside -= 1
                if not _WithoutTF32._inside:
                    _WithoutTF32._restore()


def set_tf32(allowed: bool) -> Callable[[], None]:
    """Let a GPU round the inputs of LSTMs and of matrix products to the 10 bits of TF32, or not; return the way back.

    PyTorch's default rounds those of LSTMs.
    """
    import torch

    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    # From torch 2.9 on. There, the earlier names raise errors in a program that uses these, and where those of LSTMs
    # and of convolutions differ.
    is_new = hasattr(getattr(cudnn, "rnn", None), "fp32_precision")
    owners, name = ((cudnn.rnn, cudnn.conv, matmul), "fp32_precision") if is_new else ((cudnn, matmul), "allow_tf32")
    value: str | bool = ("tf32" if allowed else "ieee") if is_new else allowed
    before = [getattr(owner, name) for owner in owners]

    def restore() -> None:
        for owner, earlier in zip(owners, before, strict=True):
            setattr(owner, name, earlier)

    for owner in owners:
        setattr(owner, name, value)
    return restore


def has_native_bf16(device: "torch.device") -> bool:
    """Whether the hardware has bf16 arithmetic: CUDA of compute capability 8 or above, a CPU with AVX512-BF16/AMX."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    if info := _cpu_info():
        return "avx512_bf16" in info or "amx_bf16" in info
    # A private function, but the only source on systems without /proc; versions of torch may lack it.
    is_supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(is_supported and is_supported())


def lack_of_bf16(device: "torch.device") -> str:
    """Return why LSTMs cannot be trained in bf16 on this device; an empty text where they can."""
    import torch

    if device.type == "cuda":
        return "" if has_native_bf16(device) else "this GPU has no bf16 arithmetic (compute capability 8 or above)"
    try:  # on a CPU it depends on what oneDNN implements for it: only an attempt shows it
        with torch.autocast(device.type, dtype=torch.bfloat16):
            torch.nn.LSTM(8, 8, batch_first=True).to(device)(torch.zeros(2, 3, 8, device=device))
    except RuntimeError:
        return "this CPU cannot compute LSTMs in bf16 (it lacks AVX-512 or AMX instructions for it)"
    return ""


def hardware(device: "torch.device") -> str:
    """Return a description of the hardware, for instance "AMD EPYC, 2 cores" or "NVIDIA H200"."""
    import torch
    from joblib import cpu_count

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = re.search(r"^model name\s*:(.*)", _cpu_info(), re.MULTILINE)
    return f"{model[1].strip() if model else platform.processor() or platform.machine()}, {cpu_count()} cores"


def _cpu_info() -> str:
    """Return the content of /proc/cpuinfo; an empty text on systems without it."""
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return ""


def peak_memory(device: "torch.device") -> int:
    """Return the peak memory of this process so far, in bytes; on a GPU, the peak that torch allocated there."""
    import psutil

    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return info.peak_wset
    try:
        import resource
    except ImportError:
        return info.rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> None:
    """Have glibc keep large freed blocks of memory instead of returning them to the kernel.

    A training step frees and allocates the same few hundred MB each time; the page faults cost 30 % of the speed on a
    CPU with batches of 4,096 tokens, 5 % with 2,048. mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, max); without
    effect where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)
        libc.mallopt(-1, 2**31 - 1)
