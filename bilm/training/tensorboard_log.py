"""Event files with the curves of a training run, for the package tensorboard."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bilm.runtime.paths import display_path
from bilm.runtime.terminal import print_line

# Called with a step and the figures at that step, by name; None stands for a figure that is not finite.
Record = Callable[[int, Mapping[str, float | None]], None]


@contextmanager
def event_file(folder: Path, step: int) -> Iterator[Record]:
    """Open an event file in `folder` for a run that has done `step` steps; earlier files count up to that step only.

    A resumed run repeats the steps after its checkpoint, and a new run (step 0) replaces the previous one.
    """
    from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

    print_line(f"Curves for TensorBoard: {display_path(folder)}")
    with SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def record(step: int, figures: Mapping[str, float | None]) -> None:
            for name, value in figures.items():
                if value is not None:
                    writer.add_scalar(name, value, step)
            writer.flush()

        yield record
