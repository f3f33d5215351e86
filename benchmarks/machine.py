"""What the machine gives: its matrix products and its memory are what all other figures are held against."""

import os
from typing import Any

import psutil
import torch

from benchmarks.measure import figure, timed
from benchmarks.parts import Job
from bilm.cli.run import Runtime
from bilm.runtime.device import hardware
from bilm.runtime.provenance import run_stamp

PRODUCTS = 8  # in a row, per repetition


def measure(job: Job, runtime: Runtime) -> dict[str, Any]:
    """Who measures here (run_stamp), and rates of the bare machine.

    gemm_*: matrix products, 10^9 operations per second (a multiplication and an addition are two). copy: 10^9 bytes per
    second, what is read and what is written both counted.
    """
    stamp = run_stamp(job.run, runtime)
    del stamp["peak_memory_mb"]  # of this process, which is of no interest
    machine: dict[str, Any] = {
        "cpu": hardware(torch.device("cpu")),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": hardware(runtime.device) if runtime.device.type == "cuda" else None,
    }
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        machine[f"gemm_{name}_gflops"] = figure(_gemm_rates(job, runtime.device, dtype))
    machine["copy_gb_per_second"] = figure(_copy_rates(job, runtime.device))
    return {"stamp": stamp, "machine": machine}


def _gemm_rates(job: Job, device: torch.device, dtype: torch.dtype) -> list[float]:
    size = job.sizes.gemm
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def products() -> None:
        for _ in range(PRODUCTS):
            torch.mm(a, b, out=out)

    products()
    return [PRODUCTS * 2 * size**3 / s / 1e9 for s in timed(products, device, job.sizes.repeats)]


def _copy_rates(job: Job, device: torch.device) -> list[float]:
    source = torch.ones(job.sizes.copied_mb * 2**20, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    moved = 2 * source.numel()
    return [moved / s / 1e9 for s in timed(lambda: target.copy_(source), device, job.sizes.repeats)]
