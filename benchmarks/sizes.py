"""How much of everything is measured: the real thing, and a run of seconds that shows that all works."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """repeats: of every figure. Steps are batches; what is not said otherwise is counted per repetition."""

    repeats: int = 5
    gemm: int = 2048  # rows and columns of the matrices
    copied_mb: int = 512
    warm_steps: int = 15  # once
    steps: int = 40
    reference_steps: int = 5  # seconds each on a CPU
    parts_steps: int = 60  # in all: each step is a repetition
    classifier_rows: int = 8_000
    finetune_rows: int = 2_000
    classifier_repeats: int = 3
    classifier_epochs: int = 3
    single_documents: int = 100  # classified one by one
    slow_repeats: int = 3  # of what reads a whole file
    growth: tuple[int, ...] = (10_000, 100_000, 1_000_000)  # documents
    growth_steps: int = 30


QUICK = Sizes(
    repeats=1,
    gemm=256,
    copied_mb=16,
    warm_steps=1,
    steps=2,
    reference_steps=1,
    parts_steps=2,
    classifier_rows=60,
    finetune_rows=60,
    classifier_repeats=1,
    classifier_epochs=2,
    single_documents=5,
    slow_repeats=1,
    growth=(200, 400),
    growth_steps=2,
)
# Rows of each file that --quick reads.
QUICK_ROWS = 400
