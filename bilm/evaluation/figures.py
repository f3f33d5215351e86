"""Pictures from numbers: confusion matrices and learning curves as PNG."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bilm.runtime.files import atomic_write, read_json, reject_malformed
from bilm.runtime.terminal import printable

# Rows of a matrix of which the numbers can be read.
_READABLE = 60


def new_figure(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """As pyplot.subplots, but without pyplot: in a notebook, what its user draws goes on being shown.

    `options` go to Figure.subplots.
    """
    figure = Figure(figsize=figsize, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, path: Path) -> None:
    """As PNG or SVG, by the name of the file. The same numbers give the same bytes: no date, no version in it."""
    kind = path.suffix.removeprefix(".")
    unstamped = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
    with (
        atomic_write(path) as temporary,
        matplotlib.rc_context({"svg.hashsalt": path.name}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph")  # scripts that the font lacks show as boxes
        figure.savefig(temporary, format=kind, dpi=120, metadata=unstamped)


def draw_confusion_matrix(
    path: Path, matrix: Sequence[Sequence[int]], rows: Sequence[str], columns: Sequence[str], title: str
) -> None:
    """Counts as numbers, as long as there is room for them, shares of each row as colour."""
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.2 + 0.45 * min(len(rows), _READABLE) if len(rows) > 6 else 5.0
    figure, axes = new_figure(figsize=(side + 0.6, side))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(
        range(len(columns)), [*map(printable, columns)], rotation=90 if len(rows) > 6 else 0, parse_math=False
    )
    axes.set_yticks(range(len(rows)), [*map(printable, rows)], parse_math=False)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    size = 7 if len(rows) > 6 else 11
    for (row, column), count in np.ndenumerate(counts):
        if count and len(rows) <= _READABLE:
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=size, color=ink)
    save(figure, path)


def draw_learning_curves(path: Path, runs: Mapping[str, Mapping[str, Any]], figure_name: str, title: str) -> None:
    """Training loss (running mean within each epoch) beside a validation figure per epoch, one line per run."""
    figure, (left, right) = new_figure(1, 2, figsize=(10, 4))
    for name, run in runs.items():
        left.plot([p["step"] for p in run["curve"]], [p["loss"] for p in run["curve"]], label=name)
        right.plot([e["epoch"] for e in run["epochs"]], [e[figure_name] for e in run["epochs"]], marker="o", label=name)
    left.set(xlabel="step", ylabel="training loss (mean of the epoch so far)", title=title)
    right.set(xlabel="epoch", ylabel=f"validation {figure_name}")
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    if len(runs) > 1:
        right.legend()
    save(figure, path)


def draw_results(folder: Path, summary: Mapping[str, Any]) -> list[Path]:
    """Every picture that the figures in `summary` and the learning curves of its models give; returns their paths.

    Pictures of models that are no longer in the summary are removed from `folder`/figures.
    """
    figures = folder / "figures"
    drawn = []
    for split in ("test", "train"):
        for direction, values in summary["language_model"].get(split, {}).items():
            path = figures / f"confusion_language_model_{direction}_{split}.png"
            words = values["confusion_words"]
            title = f"{direction} language model, {split}: most frequent words"
            draw_confusion_matrix(path, values["confusion_matrix"], words, [*words, "other"], title)
            drawn.append(path)
        for mode, entry in {**summary["classifiers"], "ensemble": summary.get("ensemble", {})}.items():
            if split in entry:
                path = figures / f"confusion_{mode}_{split}.png"
                classes = [c["class"] for c in entry[split]["per_class"]]
                title = f"{mode}, {split}: accuracy {entry[split]['accuracy']:.4f}"
                draw_confusion_matrix(path, entry[split]["confusion_matrix"], classes, classes, title)
                drawn.append(path)
    histories = {
        ("language_model", "perplexity"): {"language model": folder / "bilstm_training.json"},
        ("classifiers", "accuracy"): {m: folder / f"classifier_{m}_training.json" for m in summary["classifiers"]},
    }
    for (name, figure_name), paths in histories.items():
        runs = {label: read_json(p) for label, p in paths.items() if p.exists()}
        if runs:
            path = figures / f"learning_curves_{name}.png"
            with reject_malformed(paths[next(iter(runs))]):
                draw_learning_curves(path, runs, figure_name, name.replace("_", " "))
            drawn.append(path)
    ours = (*figures.glob("confusion_*.png"), *figures.glob("learning_curves_*.png"))
    for path in set(ours) - set(drawn):
        path.unlink()
    return drawn
