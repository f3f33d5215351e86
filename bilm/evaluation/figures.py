"""Figures: confusion matrices and learning curves, as PNG."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bilm.config import ENSEMBLE, HYBRID
from bilm.runtime.files import atomic_write, read_json, reject_malformed
from bilm.runtime.terminal import printable

# The numbers in a confusion matrix of more rows are too small to be read.
_MAX_READABLE_ROWS = 60
# Characters of the name of a class that are shown; and of all names side by side below a matrix of few rows.
_NAME_LENGTH, _LINE_LENGTH = 30, 60


def new_figure(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """Create a figure with axes, like pyplot.subplots, but without changing the backend that a notebook's user has set.

    `options` are passed to Figure.subplots.
    """
    figure = Figure(figsize=figsize, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the suffix of `path`, without date and version: its bytes are reproducible."""
    kind = path.suffix.removeprefix(".")
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
    with (
        atomic_write(path) as temporary,
        matplotlib.rc_context({"svg.hashsalt": path.name}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph")  # characters that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", "constrained_layout")  # names that leave little room
        if kind == "png":
            figure.set_dpi(120)
            FigureCanvasAgg(figure).print_png(temporary, metadata=metadata)  # savefig would draw it twice
        else:
            figure.savefig(temporary, format=kind, dpi=120, metadata=metadata)


def draw_confusion_matrix(
    path: Path, matrix: Sequence[Sequence[int]], rows: Sequence[str], columns: Sequence[str], title: str
) -> None:
    """Draw a confusion matrix: shares of each row as colours, and counts as numbers where they are readable."""
    counts, is_large = np.array(matrix), len(rows) > 6
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.2 + 0.45 * min(len(rows), _MAX_READABLE_ROWS) if is_large else 5.0
    figure, axes = new_figure(figsize=(side + 0.6, side))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    below, beside = ([_shortened(printable(name)) for name in names] for names in (columns, rows))
    fit_in_a_line = max(map(len, below), default=0) * len(below) <= _LINE_LENGTH
    axes.set_xticks(range(len(columns)), below, rotation=0 if fit_in_a_line and not is_large else 90, parse_math=False)
    axes.set_yticks(range(len(rows)), beside, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    style = {"ha": "center", "va": "center", "fontsize": 7 if is_large else 11}
    for (row, column), count in np.ndenumerate(counts):
        if count and len(rows) <= _MAX_READABLE_ROWS:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", color=colour, **style, in_layout=False)
    save(figure, path)


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


def draw_learning_curves(path: Path, runs: Mapping[str, Mapping[str, Any]], metric: str, title: str) -> None:
    """Draw the training loss (running mean within each epoch) and a validation metric per epoch, one line per run."""
    figure, (left, right) = new_figure(1, 2, figsize=(10, 4))
    for name, run in runs.items():
        left.plot([p["step"] for p in run["curve"]], [p["loss"] for p in run["curve"]], label=name)
        right.plot([e["epoch"] for e in run["epochs"]], [e[metric] for e in run["epochs"]], marker="o", label=name)
    left.set(xlabel="step", ylabel="training loss (mean of the epoch so far)", title=title)
    right.set(xlabel="epoch", ylabel=f"validation {metric}")
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    if len(runs) > 1:
        right.legend()
    save(figure, path)


def draw_results(folder: Path, summary: Mapping[str, Any]) -> list[Path]:
    """Draw the confusion matrices in `summary` and the learning curves of its models; return the paths of the files.

    Figures in `folder`/figures of models that are no longer in the summary are removed.
    """
    figures, drawn = folder / "figures", []
    for name, matrix, rows, columns, title in _confusion_matrices(summary):
        drawn.append(figures / f"confusion_{name}.png")
        draw_confusion_matrix(drawn[-1], matrix, rows, columns, title)
    histories = {
        ("language_model", "perplexity"): {"language model": folder / "bilstm_training.json"},
        ("classifiers", "accuracy"): {
            m: folder / f"classifier_{m}_training.json" for m in summary["classifiers"] if m != HYBRID
        },
    }
    for (name, metric), paths in histories.items():
        runs = {label: _read_run(path, metric) for label, path in paths.items() if path.exists()}
        if runs:
            drawn.append(figures / f"learning_curves_{name}.png")
            draw_learning_curves(drawn[-1], runs, metric, name.replace("_", " "))
    for path in {*figures.glob("confusion_*.png"), *figures.glob("learning_curves_*.png")} - set(drawn):
        path.unlink()
    return drawn


def _read_run(path: Path, metric: str) -> dict[str, list[dict[str, float]]]:
    """Return the learning curve in a file of a training run. Raises UserError if it has none."""
    run = read_json(path)
    with reject_malformed(path):
        points = [{key: float(point[key]) for key in ("step", "loss")} for point in run["curve"]]
        return {"curve": points, "epochs": [{key: float(e[key]) for key in ("epoch", metric)} for e in run["epochs"]]}


def _confusion_matrices(summary: Mapping[str, Any]) -> Iterator[tuple[str, list[list[int]], list[str], list[str], str]]:
    """Yield the name, the matrix, the labels of its rows and columns, and the title of each confusion matrix."""
    for split in ("test", "train"):
        for direction, values in summary["language_model"].get(split, {}).items():
            words = values["confusion_words"]
            title = f"{direction} language model, {split}: most frequent words"
            name = f"language_model_{direction}_{split}"
            yield name, values["confusion_matrix"], words, [*words, "other"], title
        for mode, entry in {**summary["classifiers"], ENSEMBLE: summary.get("ensemble", {})}.items():
            if split in entry:
                classes = [c["class"] for c in entry[split]["per_class"]]
                title = f"{mode}, {split}: accuracy {entry[split]['accuracy']:.4f}"
                yield f"{mode}_{split}", entry[split]["confusion_matrix"], classes, classes, title
