"""fit(): the one training loop, for the language model and for the classifiers.

It knows nothing of tokens or labels. It is given the batches of an epoch, a loss as (sum, count), and a validation
that returns named figures; it does the steps, the schedule, clipping, data-parallel averaging, validation, the best
epoch, checkpoints, and the way out when it is told to stop.

A step whose gradient is infinite or no number is left out: it changes nothing but the count of such steps. When
MOST_LEFT_OUT follow each other the run stops. No checkpoint is written within such a row: it may be the weights.

Resuming is exact: a checkpoint holds the weights, the optimizer, the random states and the position, and the plan of
an epoch is a function of its number, so that a run that died goes on bit for bit as if it had not.
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
from torch.nn.parallel import DistributedDataParallel

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
from bilm.training.tensorboard_log import Record

# Steps between two readings of the running loss: a GPU is asked for it no more often than that.
STEPS_BETWEEN_READINGS = 25
# Steps in a row without a finite gradient, after which nothing better is to be hoped for.
MOST_LEFT_OUT = 10


class Task(Protocol):
    """What a training run is about. `better_is` names the validation figure that picks the best epoch."""

    label: str
    unit: str
    better_is: tuple[str, str]  # name of the figure, "lower" or "higher"

    def plan(self, epoch: int) -> Sequence[Any]:
        """What identifies each batch of this epoch (numbered from 0); the same for the same epoch, always."""

    def loss(self, model: nn.Module, item: Any, rank: int, world_size: int) -> tuple[Tensor, int, int]:
        """This rank's share of the batch: sum of the losses (with its graph), how many targets, how many units."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures on the validation rows."""


@dataclass
class State:
    """Where a run stands; all of it is in the checkpoint."""

    epoch: int = 0
    batch: int = 0  # batches done in this epoch
    step: int = 0  # batches done in all
    loss_sum: float = 0.0  # of this epoch, until now
    loss_count: int = 0
    largest_norm: float = 0.0  # of the gradients of this epoch
    left_out: int = 0  # steps of this epoch without a finite gradient
    left_out_in_a_row: int = 0  # up to the last step
    longest_row: int = 0  # of steps left out, ever
    seconds: float = 0.0  # of training, all sessions together
    best_epoch: int = -1
    best_figure: float = math.nan
    epochs: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, float | None]] = field(default_factory=list)


def fit(
    model: nn.Module,
    task: Task,
    optimizer: torch.optim.Optimizer,
    config: FitConfig,
    *,
    checkpoint_path: Path,
    settings: dict[str, Any],
    autocast: Callable[[], AbstractContextManager],
    resume: bool,
    log: Callable[[int], AbstractContextManager[Record]] | None = None,
) -> State:
    """Train `model` and leave it with the weights of its best epoch; returns the history.

    `log` is entered with the number of steps done, and receives the figures of the run while it trains; see
    tensorboard_log.py. `settings` are compared with the checkpoint's when resuming. Raises Interrupted when told to
    stop, UserError when the loss is no longer a number or the checkpoint belongs to another run. Under torchrun, each
    rank calls this with the same arguments but for `log`; rank 0 writes.
    """
    ranks = Ranks()
    run = _Run(model, optimizer, config, checkpoint_path, settings, ranks)
    if resume:
        run.restore()
        if ranks.is_main:
            place = f"in epoch {run.state.epoch + 1} of {config.epochs}, after step {run.state.batch}"
            print_line(f"{task.label}: going on {place if run.state.epoch < config.epochs else 'after the last epoch'}")
    elif run.parameters[0].device.type == "cpu" and (number := settle_threads(model, task, autocast)):
        settings["threads"] = number
    stepped = DistributedDataParallel(model) if ranks.size > 1 else model
    with defer_signals() as received, log(run.state.step) if log else nullcontext() as run.record:
        while run.state.epoch < config.epochs:
            _train_epoch(run, stepped, task, autocast, received)
            run.finish_epoch(task, autocast)
            (stop,) = ranks.sum(bool(received))
            if stop:
                raise Interrupted(received[0] if received else signal.SIGTERM, f"epoch {run.state.epoch}, at its end")
    model.load_state_dict(run.best_weights or {}, strict=False)
    return run.state


def settle_threads(model: nn.Module, task: Task, autocast: Callable[[], AbstractContextManager]) -> int | None:
    """See threads.settle_for_training; tried on the first, a middle and the last batch of the first epoch."""
    plan = task.plan(0)
    state = torch.get_rng_state()

    def gradients(item: Any, number: int) -> list[Tensor | None]:
        torch.set_num_threads(number)
        torch.set_rng_state(state)
        with autocast():
            loss, _, _ = task.loss(model.train(), item, 0, 1)
        return list(torch.autograd.grad(loss, parameters, allow_unused=True))

    parameters = [p for p in model.parameters() if p.requires_grad]
    items = [plan[i] for i in sorted({0, len(plan) // 2, len(plan) - 1})]

    def have_same_gradients(one: int, other: int) -> bool:
        number = torch.get_num_threads()
        pairs = ((a, b) for item in items for a, b in zip(gradients(item, one), gradients(item, other), strict=True))
        same = all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)
        torch.set_num_threads(number)
        return same

    number = threads.settle_for_training(have_same_gradients)
    torch.set_rng_state(state)
    return number


def _train_epoch(run: "_Run", stepped: nn.Module, task: Task, autocast: Callable, received: list[int]) -> None:
    state, config, ranks = run.state, run.config, run.ranks
    plan = task.plan(state.epoch)
    stepped.train()
    tally = Tally(state, ranks.is_main)
    bar = progress(
        total=len(plan),
        initial=state.batch,
        unit="step",
        label=f"{task.label}: epoch {state.epoch + 1}/{config.epochs}",
        disable=not ranks.is_main,
    )
    started, units = time.monotonic(), 0
    with bar:
        for batch in range(state.batch, len(plan)):
            step_started = time.monotonic()
            factor = schedule((state.epoch + (batch + 0.5) / len(plan)) / config.epochs, config.warmup)
            for group in run.optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            with autocast():
                loss_sum, count, batch_units = task.loss(stepped, plan[batch], ranks.rank, ranks.size)
            # All ranks agree, by sums, on the number of targets, on stopping, and on when to save.
            count, stop, save = ranks.sum(count, bool(received), ranks.is_main and run.checkpoint_is_due())
            save = save or stop
            # DistributedDataParallel averages gradients over ranks; times their number, that is the sum.
            (loss_sum * (ranks.size / count)).backward()
            norm = nn.utils.clip_grad_norm_(run.parameters, config.clip_norm)
            good = tally.add(loss_sum.detach(), count, norm)
            # The fused AdamW leaves everything as it is where this is 1, without a GPU being asked for it; it is meant
            # for a gradient scaler, which sets it in the same way.
            run.optimizer.found_inf = 1.0 - good.float()  # type: ignore[attr-defined]
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)
            threads.after_step(batch_units, time.monotonic() - step_started)

            state.batch, state.step = batch + 1, state.step + 1
            units += batch_units
            left_out = state.left_out
            reading = state.batch == len(plan) or state.step % STEPS_BETWEEN_READINGS == 0
            if reading or save:
                run.read(tally)
            if reading and state.loss_count:
                mean, rate = state.loss_sum / state.loss_count, units * ranks.size / (time.monotonic() - started)
                last_norm = tally.last_norm if math.isfinite(tally.last_norm) else None
                state.curve.append({"step": state.step, "loss": mean, "gradient_norm": last_norm})
                if run.record:
                    figures = {"loss": mean, "learning_rate": run.learning_rate, "gradient_norm": last_norm}
                    run.record(state.step, {f"training/{name}": value for name, value in figures.items()})
                bar.set_postfix_str(f"loss {mean:.3f}, {rate:,.0f} {task.unit}/s", refresh=False)
            bar.update()
            if state.left_out > left_out and ranks.is_main:
                print_note(
                    f"{task.label}: steps left out until step {state.step}: {state.left_out - left_out}; the gradient "
                    f"was infinite or no number (learning rate {run.learning_rate:.2g})"
                )
            if not save or state.left_out_in_a_row:
                continue  # also when told to stop: a good step comes soon, or the end
            run.save()
            if stop:
                where = f"epoch {state.epoch + 1} of {config.epochs}, after step {state.batch} of {len(plan)}"
                raise Interrupted(received[0] if received else signal.SIGTERM, where)


class Tally:
    """What the steps of an epoch add up to; a GPU need not wait for the CPU, since it is asked only by `read_into`.

    Sums are of Python's floats (fp64, which some devices lack) and step by step, so that a run in one process that was
    stopped and resumed comes to the same ones.
    """

    def __init__(self, state: State, is_main: bool):
        # The losses are of this rank alone, the rest is the same on all of them.
        self.loss_sum = state.loss_sum if is_main else 0.0
        self.last_norm = math.nan
        self._unread: list[Tensor] = []
        self._counts: list[int] = []

    def add(self, loss_sum: Tensor, count: int, norm: Tensor) -> Tensor:
        """Count a step with this loss and norm of the gradient; returns whether that is finite, bool ()."""
        self._unread.append(torch.stack([loss_sum.float(), norm.float()]))
        self._counts.append(count)
        return norm.isfinite()

    def read_into(self, state: State, ranks: Ranks) -> None:
        """Bring `state` up to the last step."""
        steps = torch.stack(self._unread).tolist() if self._unread else []
        for (loss_sum, norm), count in zip(steps, self._counts, strict=True):
            if math.isfinite(norm):
                self.loss_sum += loss_sum
                state.loss_count += count
                state.largest_norm = max(state.largest_norm, norm)
                state.left_out_in_a_row = 0
            else:
                state.left_out += 1
                state.left_out_in_a_row += 1
                state.longest_row = max(state.longest_row, state.left_out_in_a_row)
            self.last_norm = norm
        self._unread.clear()
        self._counts.clear()
        (state.loss_sum,) = ranks.sum(self.loss_sum)


class _Run:
    """A run's moving parts, and how they go into a checkpoint and come back."""

    def __init__(self, model, optimizer, config, path, settings, ranks):
        self.model: nn.Module = model
        self.optimizer: torch.optim.Optimizer = optimizer
        self.config: FitConfig = config
        self.path: Path = path
        self.settings: dict[str, Any] = settings
        self.ranks: Ranks = ranks
        self.record: Record | None = None
        self.state = State()
        self.best_weights: dict[str, Tensor] | None = None
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._clock = self._saved = time.monotonic()

    def learned_weights(self) -> dict[str, Tensor]:
        """What this run changes; weights that are kept as they are (a frozen encoder's) need no copy."""
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}

    def checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._saved >= self.config.checkpoint_seconds

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def read(self, tally: Tally) -> None:
        """Fetch the epoch's sums from the device (and the other ranks). Raises UserError if training has diverged."""
        state = self.state
        tally.read_into(state, self.ranks)
        if state.longest_row >= MOST_LEFT_OUT:
            self.give_up(f"the gradient was infinite or no number in {state.longest_row} steps in a row")
        self.require_number("loss", state.loss_sum)

    def require_number(self, name: str, value: float) -> None:
        """Raises UserError, before anything is saved, when `value` is infinite or no number."""
        if not math.isfinite(value):
            self.give_up(f"the {name} is {value}")

    def give_up(self, what: str) -> NoReturn:
        good = f"The last good checkpoint is {self.path}." if self.path.exists() else "There is no checkpoint yet."
        raise UserError(
            f"{what}, seen at step {self.state.step} (learning rate {self.learning_rate:.2g}). {good} "
            "Resuming would repeat this; restart with a lower learning rate, or in fp32.",
            *("restart", "learning_rate", "precision"),
        )

    def finish_epoch(self, task: Task, autocast: Callable) -> None:
        """Validate, keep the weights if they are the best so far, note the figures, save."""
        state = self.state
        if not state.loss_count:
            self.give_up(f"not one step of epoch {state.epoch + 1} had a finite gradient")
        self.model.eval()
        with torch.no_grad(), autocast():
            figures = task.validate(self.model)
        name, direction = task.better_is
        figure = figures[name]
        if self.record:
            self.record(state.step, {f"validation/{key}": value for key, value in figures.items()})
        self.require_number(f"validation {name}", figure)
        if state.best_epoch < 0 or (figure < state.best_figure if direction == "lower" else figure > state.best_figure):
            state.best_epoch, state.best_figure = state.epoch, figure
            self.best_weights = {name: weight.cpu().clone() for name, weight in self.learned_weights().items()}
        self._count_seconds()
        state.epochs.append(
            {
                "epoch": state.epoch + 1,
                "train_loss": state.loss_sum / state.loss_count,
                **figures,
                "largest_gradient_norm": state.largest_norm,
                "steps_left_out": state.left_out,
                "seconds": round(state.seconds, 1),
            }
        )
        said = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        left_out = f", steps left out: {state.left_out}" if state.left_out else ""
        line = (
            f"{task.label}: epoch {state.epoch + 1}/{self.config.epochs}: training loss "
            f"{state.loss_sum / state.loss_count:.3f}, validation {said}, gradient norm up to "
            f"{state.largest_norm:.2g}{left_out} ({state.seconds:,.0f} s)"
        )
        state.epoch, state.batch, state.loss_sum, state.loss_count = state.epoch + 1, 0, 0.0, 0
        state.largest_norm, state.left_out = 0.0, 0
        self.save()
        if self.ranks.is_main:
            print_line(line)

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now

    def save(self) -> None:
        """Raises UserError, on all ranks, when a weight is no number or the disk refuses."""
        if not all(bool(weight.isfinite().all()) for weight in self.learned_weights().values()):
            self.give_up("a weight is infinite or no number")
        random_states = self.ranks.gather(_random_state(self.parameters[0].device))
        self._saved = time.monotonic()
        self._count_seconds()
        content = {
            "settings": self.settings,
            "state": asdict(self.state),
            "weights": self.learned_weights(),
            "optimizer": self.optimizer.state_dict(),
            "best_weights": self.best_weights,
            "random_states": random_states,
        }
        self.ranks.on_main(lambda: serialization.save(self.path, "training", content))

    def restore(self) -> None:
        saved = serialization.load(self.path, "training")
        with reject_malformed(self.path):
            if key := first_difference(saved["settings"], self.settings):
                raise UserError(
                    f"the unfinished run in {self.path.parent} has other settings ({key}: "
                    f"{saved['settings'].get(key)}, now {self.settings.get(key)}). Use the same settings, or restart.",
                    "restart",
                )
            if set(saved["weights"]) != set(self.learned_weights()):
                raise UserError(f"{self.path} holds the weights of another model. Restart the run.", "restart")
            if number := saved["settings"].get("threads"):
                self.settings["threads"] = threads.fix(number)
            self.state = State(**saved["state"])
            self.model.load_state_dict(saved["weights"], strict=False)
            self.optimizer.load_state_dict(saved["optimizer"])
            self.best_weights = saved["best_weights"]
            # A run that goes on with more ranks than before keeps the fresh random state of the new ones.
            if self.ranks.rank < len(saved["random_states"]):
                _set_random_state(saved["random_states"][self.ranks.rank], self.parameters[0].device)


def _random_state(device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(device) if on_gpu else None}


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
