"""The option --tensorboard: event files with the curves of a training run, for the package tensorboard."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bilm.config import setting
from bilm.folders import shown
from bilm.optional import require
from bilm.progress import tell

# Called with a step and the figures known at it, by name; None stands for a figure that is no number.
Record = Callable[[int, Mapping[str, float | None]], None]


@dataclass(frozen=True)
class TensorBoardOptions:
    """Training curves.

    Raises UserError when they are asked for and the package tensorboard is missing.
    """

    tensorboard: bool = setting(
        False,
        "write training loss, learning rate, gradient norm and validation figures for TensorBoard; to see them: "
        "tensorboard --logdir runs",
    )

    def __post_init__(self) -> None:
        if self.tensorboard:
            require("tensorboard", "--tensorboard")

    def log(self, folder: Path, is_main: bool) -> Callable[[int], AbstractContextManager[Record]] | None:
        """The `log` argument of training.fit; None without the option, and on ranks that write no files."""
        return partial(event_file, folder) if self.tensorboard and is_main else None


@contextmanager
def event_file(folder: Path, step: int) -> Iterator[Record]:
    """Open an event file in `folder` for a run that has done `step` steps; earlier files count up to that step only.

    A resumed run repeats the steps after its checkpoint, and a new run (step 0) replaces the one before.
    """
    from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

    tell(f"Curves for TensorBoard: {shown(folder)}")
    with SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def record(step: int, figures: Mapping[str, float | None]) -> None:
            for name, value in figures.items():
                if value is not None:
                    writer.add_scalar(name, value, step)
            writer.flush()

        yield record
