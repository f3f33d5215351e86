"""Which device and precision a command computes with, and how much memory it has taken."""

import contextlib
import platform
import sys
from pathlib import Path
from typing import Any

from bilm.runtime.errors import UserError


def find_device(name: str) -> Any:
    """The torch.device of this name; "auto" is CUDA when there is one, else the CPU. Raises UserError."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        return device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r}: {str(error).splitlines()[0]}", "device") from error


def find_precision(name: str, device: Any) -> str:
    """ "bf16" or "fp32"; "auto" is bf16 where the hardware computes in it natively. Raises UserError."""
    if name == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    if name == "bf16" and (lack := lack_of_bf16(device)):
        raise UserError(f"precision bf16: {lack}. Use fp32, or leave the choice to the program.", "precision")
    return name


def has_native_bf16(device: Any) -> bool:
    """CUDA of compute capability 8 or above; a CPU with avx512_bf16 or amx."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return "avx512_bf16" in flags or "amx_bf16" in flags
    # Private, but the only source where there is no /proc; a torch without it is taken for one that cannot.
    supports = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supports and supports())


def lack_of_bf16(device: Any) -> str:
    """Why LSTMs cannot be trained in bf16 there; empty where they can."""
    import torch

    if device.type == "cuda":
        return "" if has_native_bf16(device) else "this GPU has no bf16 arithmetic (compute capability 8 or above)"
    try:  # on a CPU it depends on what oneDNN has for it, so that trying is the only sure way
        with torch.autocast(device.type, dtype=torch.bfloat16):
            torch.nn.LSTM(8, 8, batch_first=True).to(device)(torch.zeros(2, 3, 8, device=device))
    except RuntimeError:
        return "this CPU cannot compute LSTMs in bf16 (it lacks AVX-512 or AMX instructions for it)"
    return ""


def hardware(device: Any) -> str:
    """For instance "AMD EPYC, 2 cores" or "NVIDIA H200"."""
    import torch
    from joblib import cpu_count

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{model}, {cpu_count()} cores"


def peak_memory(device: Any) -> int:
    """The most memory that this process has held so far, in bytes; on a GPU, what torch allocated there."""
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
    """Have glibc keep large blocks that were freed instead of handing them back to the kernel.

    A training step frees and takes the same few hundred MB again; faulting those pages in anew cost 30 % of the speed
    on a CPU with batches of 4,096 tokens, 5 % with 2,048. mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, max);
    nothing where there is no glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)
        libc.mallopt(-1, 2**31 - 1)
