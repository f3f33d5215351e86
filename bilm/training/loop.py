"""fit(): the training loop of the language model and of the classifiers.

It does not deal with tokens or labels. A Task provides the batches of an epoch, the loss of a batch as (sum, count),
and validation figures; fit() does the steps, the learning rate schedule, clipping, data-parallel averaging, validation,
the choice of the best epoch, checkpoints, and an orderly stop after a signal.

A step whose gradient is infinite or NaN is skipped: it changes only the count of such steps. After
MAX_SKIPPED_IN_A_ROW of them the run stops, at the next reading of the device. Within such a series no checkpoint is
written before the end of the epoch: the weights may be bad.

Resuming is exact: a checkpoint holds the weights, the optimizer, the random states and the position, and the batches of
an epoch depend only on its number, so that a resumed run gives the same bits as an uninterrupted one.
"""

import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from bilm.checkpoints import serialization
from bilm.config import FitConfig
from bilm.runtime import threads
from bilm.runtime.distributed import Ranks
from bilm.runtime.errors import Interrupted, UserError
from bilm.runtime.files import reject_malformed
from bilm.runtime.process import defer_signals
from bilm.runtime.provenance import first_difference
from bilm.runtime.terminal import print_line, print_note, progress
from bilm.training.optimizer import schedule
from bilm.training.settle_threads import settle_threads
from bilm.training.state import State, Tally
from bilm.training.tensorboard_log import Record

# Steps between two readings of the running loss from the device: each makes the CPU wait for a GPU.
STEPS_BETWEEN_READINGS = 25
# Seconds of training after which the duration of the run is estimated; the first steps are slower than later ones.
SECONDS_BEFORE_ESTIMATE = 20.0
# Stop after this many consecutive steps without a finite gradient.
MAX_SKIPPED_IN_A_ROW = 10


class Task(Protocol):
    """The data of a training run, its loss and its validation.

    label: the name of the run in messages; unit: what its speed is counted in; better_is: the validation figure that
    decides on the best epoch, and whether "lower" or "higher" is better.
    """

    label: str
    unit: str
    better_is: tuple[str, str]

    def plan(self, epoch: int) -> Sequence[Any]:
        """One item per batch of this epoch (numbered from 0); depends only on `epoch`."""

    def loss(self, model: nn.Module, item: Any, rank: int, world_size: int) -> tuple[Tensor, int, int]:
        """This rank's share of the batch `item`: sum of the losses (with graph), number of targets, number of units."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures on the validation rows, by name."""


def fit(
    model: nn.Module,
    task: Task,
    optimizer: torch.optim.Optimizer,
    config: FitConfig,
    *,
    checkpoint_path: Path,
    settings: dict[str, Any],
    autocast: Callable[[], AbstractContextManager[object]],
    resume: bool,
    log: Callable[[int], AbstractContextManager[Record]] | None = None,
    describe_duration: Callable[[float, float], str] | None = None,
) -> State:
    """Train `model`, load the weights of its best epoch into it, and return the history.

    `describe_duration` is called once, in the first epoch that lasts longer than SECONDS_BEFORE_ESTIMATE, with the
    seconds of an epoch and how many epochs remain; its result is printed.

    `log` is called with the number of steps done, and its result receives the figures of the run while it trains; see
    tensorboard_log.py. `settings` are compared with those of the checkpoint when resuming; "threads" is added to them
    if their number is fixed. Raises Interrupted after a signal, and UserError when the loss is no longer finite or the
    checkpoint belongs to another run. Under torchrun, each rank calls this with the same arguments except `log`; rank 0
    writes.
    """
    run = _Run(model, task, optimizer, config, checkpoint_path, settings, autocast, describe_duration)
    if resume:
        run.restore()
    elif run.device.type == "cpu" and (number := settle_threads(model, task, autocast, config.epochs)):
        settings["threads"] = number
    wrapped = nn.parallel.DistributedDataParallel(model) if run.ranks.size > 1 else model
    with defer_signals() as run.signals, log(run.state.step) if log else nullcontext() as run.record:
        while run.state.epoch < config.epochs:
            run.train_epoch(wrapped)
            run.finish_epoch()
    model.load_state_dict(run.best_weights or {}, strict=False)
    return run.state


def load_checkpoint(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Read the checkpoint of a run. Raises UserError when it is damaged, or of a run with other settings."""
    saved = serialization.load(path, "training")
    with reject_malformed(path):
        if key := first_difference(saved["settings"], settings):
            raise UserError(
                f"the unfinished run in {path.parent} has other settings ({key}: {saved['settings'].get(key)}, now "
                f"{settings.get(key)}). Use the same ones, or start over.",
                "restart",
            )
    return saved


@dataclass
class _Run:
    """A training run: model, task and optimizer, the state of training, and its checkpoints."""

    model: nn.Module
    task: Task
    optimizer: torch.optim.Optimizer
    config: FitConfig
    path: Path
    settings: dict[str, Any]
    autocast: Callable[[], AbstractContextManager[object]]
    describe_duration: Callable[[float, float], str] | None
    ranks: Ranks = field(default_factory=lambda: Ranks())
    state: State = field(default_factory=State)
    best_weights: dict[str, Tensor] | None = None
    record: Record | None = None
    signals: list[int] = field(default_factory=list)  # received by this process

    def __post_init__(self) -> None:
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self._started = self._saved = time.monotonic()

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def trainable_weights(self) -> dict[str, Tensor]:
        """The weights that training changes; the others (of an encoder that is not finetuned) are not saved."""
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}

    def train_epoch(self, wrapped: nn.Module) -> None:
        """Do the steps of this epoch that remain. Raises Interrupted after a signal, as soon as the state is saved.

        `wrapped`: the model, in DistributedDataParallel where there are several ranks.
        """
        state, ranks = self.state, self.ranks
        plan, tally = self.task.plan(state.epoch), Tally(state, ranks.is_main)
        started, units, first = time.monotonic(), 0, state.batch
        bar = progress(
            total=len(plan),
            initial=state.batch,
            unit="step",
            label=f"{self.task.label}: epoch {state.epoch + 1}/{self.config.epochs}",
            disable=not ranks.is_main,
        )
        wrapped.train()
        with bar:
            while state.batch < len(plan):
                step_units, stop, save = self.step(wrapped, plan, tally)
                units += step_units
                skipped_before = state.left_out
                report = state.batch == len(plan) or state.step % STEPS_BETWEEN_READINGS == 0
                if report or save:
                    self.read(tally)
                if report and state.loss_count:
                    rate = units * ranks.size / (time.monotonic() - started)
                    self.record_figures(tally.last_norm)
                    bar.set_postfix_str(
                        f"loss {state.loss_sum / state.loss_count:.3f}, {rate:,.0f} {self.task.unit}/s", refresh=False
                    )
                bar.update()
                if time.monotonic() - started >= SECONDS_BEFORE_ESTIMATE:
                    self.estimate_duration((time.monotonic() - started) / (state.batch - first), len(plan))
                if state.left_out > skipped_before and ranks.is_main:
                    print_note(
                        f"{self.task.label}: steps skipped until step {state.step}: {state.left_out - skipped_before}; "
                        f"the gradient was infinite or NaN (learning rate {self.learning_rate:.2g})"
                    )
                # After a skipped step, wait for a good one, even after a signal: it follows soon, or the run fails.
                if save and not state.left_out_in_a_row:
                    self.save()
                    if stop:
                        position = f"after step {state.batch} of {len(plan)}"
                        self.interrupt(f"epoch {state.epoch + 1} of {self.config.epochs}, {position}")

    def step(self, wrapped: nn.Module, plan: Sequence[Any], tally: "Tally") -> tuple[int, bool, bool]:
        """Train on the next batch; returns its units on this rank, whether to stop, and whether to save."""
        started, state, ranks = time.monotonic(), self.state, self.ranks
        factor = schedule((state.epoch + (state.batch + 0.5) / len(plan)) / self.config.epochs, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        with self.autocast():
            loss_sum, count, units = self.task.loss(wrapped, plan[state.batch], ranks.rank, ranks.size)
        # All ranks agree, by sums, on the number of targets, on stopping, and on when to save.
        due = ranks.is_main and time.monotonic() - self._saved >= self.config.checkpoint_seconds
        count, stop, save = ranks.sum(count, bool(self.signals), due)
        # DistributedDataParallel averages gradients over the ranks; multiplied by their number, that is the sum.
        (loss_sum * (ranks.size / count)).backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm or math.inf)
        finite = tally.add(loss_sum.detach(), count, norm)
        # A fused optimizer changes nothing where this is 1, without a transfer from a GPU to the CPU. PyTorch's own
        # gradient scaler sets it in the same way.
        self.optimizer.found_inf = 1.0 - finite.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        threads.after_step(units, time.monotonic() - started)
        state.batch, state.step = state.batch + 1, state.step + 1
        return units, stop, save or stop

    def estimate_duration(self, seconds_per_step: float, steps: int) -> None:
        """Print, once, what `describe_duration` returns. steps: of an epoch."""
        if self.describe_duration and self.ranks.is_main:
            remaining = self.config.epochs - self.state.epoch - self.state.batch / steps
            print_note(self.describe_duration(seconds_per_step * steps, remaining))
        self.describe_duration = None

    def read(self, tally: "Tally") -> None:
        """Read the epoch's sums from the device and the other ranks, and check them."""
        tally.read_into(self.state, self.ranks)
        if self.state.longest_row >= MAX_SKIPPED_IN_A_ROW:
            self.fail(f"the gradient was infinite or NaN in {self.state.longest_row} steps in a row")
        if not math.isfinite(self.state.loss_sum):
            self.fail(f"the loss is {self.state.loss_sum}")

    def record_figures(self, norm: float) -> None:
        """Add the mean loss of the epoch so far and the last gradient norm to the history and to the log."""
        figures = {
            "loss": self.state.loss_sum / self.state.loss_count,
            "gradient_norm": norm if math.isfinite(norm) else None,
        }
        self.state.curve.append({"step": self.state.step, **figures})
        if self.record:
            figures["learning_rate"] = self.learning_rate
            self.record(self.state.step, {f"training/{name}": value for name, value in figures.items()})

    def fail(self, message: str) -> NoReturn:
        """Raise UserError: training has diverged, and the checkpoint, if any, is older."""
        good = "There is no checkpoint yet."
        if self.path.exists():
            good = f"The last good checkpoint is {self.path}; resuming from it would repeat this."
        in_fp32 = self.settings.get("precision", "fp32") == "fp32"
        raise UserError(
            f"{message}, at step {self.state.step} (learning rate {self.learning_rate:.2g}). {good} Start over with a "
            f"lower learning rate{'' if in_fp32 else ', or in fp32'}.",
            *("restart", "learning_rate", *(() if in_fp32 else ("precision",))),
        )

    def interrupt(self, position: str) -> NoReturn:
        """Raise Interrupted; the signal may have reached another rank only."""
        raise Interrupted(self.signals[0] if self.signals else signal.SIGTERM, position)

    def finish_epoch(self) -> None:
        """Validate, keep the weights if they are the best so far, record the figures, and save."""
        state = self.state
        if not state.loss_count:
            self.fail(f"not one step of epoch {state.epoch + 1} had a finite gradient")
        self.model.eval()
        with torch.no_grad(), self.autocast():
            figures = self.task.validate(self.model)
        name, direction = self.task.better_is
        figure = figures[name]
        if self.record:
            self.record(state.step, {f"validation/{key}": value for key, value in figures.items()})
        if not math.isfinite(figure):
            self.fail(f"the validation {name} is {figure}")
        if state.best_epoch < 0 or (figure < state.best_figure if direction == "lower" else figure > state.best_figure):
            state.best_epoch, state.best_figure = state.epoch, figure
            self.best_weights = {name: weight.cpu().clone() for name, weight in self.trainable_weights().items()}
        state.seconds = time.monotonic() - self._started
        epoch = {
            "epoch": state.epoch + 1,
            "train_loss": state.loss_sum / state.loss_count,
            **figures,
            "largest_gradient_norm": state.largest_norm,
            "steps_left_out": state.left_out,
            "seconds": round(state.seconds, 1),
        }
        state.epochs.append(epoch)
        state.epoch, state.batch, state.loss_sum, state.loss_count = state.epoch + 1, 0, 0.0, 0
        state.largest_norm, state.left_out = 0.0, 0
        self.save()
        if self.ranks.is_main:
            validation = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            skipped = f", steps skipped: {epoch['steps_left_out']}" if epoch["steps_left_out"] else ""
            print_line(
                f"{self.task.label}: epoch {state.epoch}/{self.config.epochs}: training loss "
                f"{epoch['train_loss']:.3f}, validation {validation}, gradient norm up to "
                f"{epoch['largest_gradient_norm']:.2g}{skipped} ({epoch['seconds']:,.0f} s)"
            )
        (stop,) = self.ranks.sum(bool(self.signals))
        if stop:
            self.interrupt(f"epoch {state.epoch}, at its end")

    def save(self) -> None:
        """Write the checkpoint. Raises UserError, on all ranks, when a weight is infinite or NaN or writing fails."""
        weights = self.trainable_weights()
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            self.fail("a weight is infinite or NaN")
        on_gpu = self.device.type == "cuda"
        random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(self.device) if on_gpu else None}
        self._saved = time.monotonic()
        self.state.seconds = self._saved - self._started
        content = {
            "settings": self.settings,
            "state": asdict(self.state),
            "weights": weights,
            "optimizer": self.optimizer.state_dict(),
            "best_weights": self.best_weights,
            "random_states": self.ranks.gather(random),
        }
        self.ranks.on_main(lambda: serialization.save(self.path, "training", content))

    def restore(self) -> None:
        """Read the checkpoint. Raises UserError when it is damaged or belongs to another run."""
        saved = load_checkpoint(self.path, self.settings)
        with reject_malformed(self.path):
            if set(saved["weights"]) != set(self.trainable_weights()):
                raise UserError(f"{self.path} holds the weights of another model. Start over.", "restart")
            if number := saved["settings"].get("threads"):
                self.settings["threads"] = threads.fix(number)
            elif self.device.type == "cpu" and (number := threads.keep_same_gradients()):
                self.settings["threads"] = number
            self.state = State(**saved["state"])
            self._started -= self.state.seconds
            self.model.load_state_dict(saved["weights"], strict=False)
            self.optimizer.load_state_dict(saved["optimizer"])
            self.best_weights = saved["best_weights"]
            # Where there are more ranks than before, the additional ones start with their fresh random state.
            if self.ranks.rank < len(saved["random_states"]):
                random = saved["random_states"][self.ranks.rank]
                torch.set_rng_state(random["cpu"])
                if random["cuda"] is not None and self.device.type == "cuda":
                    torch.cuda.set_rng_state(random["cuda"], self.device)
        if self.ranks.is_main:
            position = f"in epoch {self.state.epoch + 1} of {self.config.epochs}, after step {self.state.batch}"
            finished = self.state.epoch >= self.config.epochs
            print_line(f"{self.task.label}: resuming {'after the last epoch' if finished else position}")
