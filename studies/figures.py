"""Figures of the report and of docs/: label efficiency, lambdas, windows, confusion matrices, learning curves.

Each function returns a figure; evaluation.figures.save writes it as SVG or PNG.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bilm.evaluation.figures import new_figure

# Okabe and Ito 2008: distinguishable with colour blindness.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"
_LINES = {
    "elmo_finetune": ("ELMo, fine-tuned", RED, "-", "s"),
    "elmo_classifier": ("ELMo, classifier with trainable λ", BLUE, "--", "o"),
    "elmo_self_training": ("ELMo, mean vector, self-training", PURPLE, "-", "^"),
    "elmo": ("ELMo, mean vector", BLUE, "-", "o"),
    "word2vec_classifier": ("Word2Vec, the same classifier", ORANGE, "--", "D"),
    "word2vec": ("Word2Vec, mean vector", ORANGE, "-", "D"),
    "svd": ("SVD, mean vector", GREEN, "-", "v"),
    "tfidf": ("TF-IDF, linear SVM", GREY, "-", "x"),
}


def label_efficiency(results: Mapping[str, Any], finetuned_on_all: float | None) -> Figure:
    """Test accuracy, mean and band of one standard deviation, against the labels per class on a logarithmic scale.

    results: results/label_efficiency.json; finetuned_on_all: test accuracy of mode finetune on all rows.
    """
    sizes, classes = results["labels_per_class"], results["classes"]
    position = {size: results["rows_of_all"] / classes if size == "all" else int(size) for size in sizes}
    figure, axes = new_figure(figsize=(7.2, 4.2))
    for name, (label, colour, style, marker) in _LINES.items():
        points = [
            (position[size], 100 * f[name]["test_accuracy"], 100 * (f[name]["test_accuracy_std"] or 0.0))
            for size, f in sizes.items()
            if name in f
        ]
        if name == "elmo_finetune" and finetuned_on_all is not None:
            points.append((position["all"], 100 * finetuned_on_all, 0.0))
        if not points:
            continue
        x, mean, std = np.array(points).T
        axes.plot(x, mean, style, color=colour, marker=marker, markersize=4, linewidth=1.4, label=label)
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(list(position.values()), [f"{n:,.0f}" for n in position.values()])
    axes.minorticks_off()
    axes.set(xlabel="labelled descriptions a class", ylabel="accuracy on test, %")
    _frame(axes)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def lambdas(study: Mapping[str, Any]) -> Figure:
    """Each classifier at its lambdas in the triangle of three layers; arrows go from initial to trained lambdas.

    study: results/lambda_study.json.
    """
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    parts = study["parts"]
    figure, axes = new_figure(figsize=(5.4, 4.4))
    axes.fill(*corners.T, facecolor="none", edgecolor=GREY, linewidth=0.8)
    at = {name: np.array(part["after"]["lambdas"]) @ corners for name, part in parts.items()}
    accuracies = {name: 100 * part["test_accuracy"] for name, part in parts.items()}
    for name, part in parts.items():
        if name.startswith("trainable"):
            start = np.array(part["before"]["lambdas"]) @ corners
            arrow = {"arrowstyle": "->", "color": GREY, "linewidth": 0.9, "shrinkB": 6}
            axes.annotate("", at[name], start, arrowprops=arrow)
    points = np.array(list(at.values()))
    is_fixed = np.array([not name.startswith("trainable") for name in at])
    values = np.array(list(accuracies.values()))
    for chosen, marker, size in ((is_fixed, "o", 60), (~is_fixed, "*", 150)):
        drawn = axes.scatter(
            points[chosen, 0],
            points[chosen, 1],
            c=values[chosen],
            marker=marker,
            s=size,
            cmap="viridis",
            vmin=values.min(),
            vmax=values.max(),
            edgecolors="black",
            linewidths=0.5,
            zorder=3,
        )
    for name, (dx, dy, ha) in {
        "e0": (0, -0.09, "center"),
        "e1": (0, -0.09, "center"),
        "e2": (0, 0.05, "center"),
    }.items():
        x, y = at[name]
        axes.text(x + dx, y + dy, f"{name} alone: {accuracies[name]:.2f}", ha=ha, fontsize=9)
    x, y = at["mean"]
    axes.text(x + 0.03, y - 0.01, f"mean: {accuracies['mean']:.2f}", fontsize=8, va="center")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7)
    bar.set_label("accuracy on test, %", labelpad=10)
    axes.set(xlim=(-0.16, 1.16), ylim=(-0.14, 0.98), aspect="equal")
    axes.axis("off")
    return figure


def windows(summary: Mapping[str, Any], lines: Sequence[tuple[str, float, str]]) -> Figure:
    """Test accuracy of the SVD and Word2Vec baselines by window; `lines`: name, accuracy and colour of other models."""
    figure, axes = new_figure(figsize=(5.4, 3.2))
    for kind, label, colour, marker in (("svd", "SVD of PPMI", GREEN, "v"), ("word2vec", "Word2Vec", ORANGE, "D")):
        points = sorted(
            (entry["window"], 100 * entry["test"]["accuracy"])
            for name, entry in summary["baselines"].items()
            if name.startswith(kind)
        )
        axes.plot(
            [w for w, _ in points], [a for _, a in points], color=colour, marker=marker, markersize=4, label=label
        )
        axes.set_xticks([window for window, _ in points])
    for label, accuracy, colour in lines:
        axes.axhline(100 * accuracy, color=colour, linewidth=1, linestyle="--", label=label)
    axes.set(xlabel="window, words on each side", ylabel="accuracy on test, %")
    _frame(axes)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def confusion_matrices(matrices: Mapping[str, Sequence[Sequence[int]]], classes: Sequence[str]) -> Figure:
    """Confusion matrices by title, three per row of the figure; colours show the shares of each true class (row)."""
    columns = min(3, len(matrices))
    rows = -(-len(matrices) // columns)
    figure, grid = new_figure(rows, columns, figsize=(2.35 * columns, 2.45 * rows), squeeze=False)
    for axes in grid.flat[len(matrices) :]:
        axes.axis("off")
    for i, (axes, (title, matrix)) in enumerate(zip(grid.flat, matrices.items(), strict=False)):
        counts = np.array(matrix)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_title(title, fontsize=8, pad=8)
        axes.set_xticks(range(len(classes)), classes, fontsize=7)
        axes.set_yticks(range(len(classes)), classes if i % columns == 0 else [], fontsize=7)
        axes.tick_params(length=0)
        for (row, column), count in np.ndenumerate(counts):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=7, color=ink)
    return figure


def learning_curves(pretraining: Mapping[str, Any], classifiers: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Training loss and validation perplexity of the language model, and validation accuracy of the classifiers."""
    figure, (loss, perplexity, accuracy) = new_figure(1, 3, figsize=(7.4, 2.5))
    loss.plot([p["step"] for p in pretraining["curve"]], [p["loss"] for p in pretraining["curve"]], color=BLUE, lw=0.9)
    loss.set(xlabel="step", ylabel="loss of language model, nats", ylim=(None, 7))
    for direction, colour in (("forward", BLUE), ("backward", ORANGE)):
        epochs = pretraining["epochs"]
        values = [e[f"{direction}_perplexity"] for e in epochs]
        perplexity.plot([e["epoch"] for e in epochs], values, color=colour, marker="o", markersize=3, label=direction)
    perplexity.set(xlabel="epoch", ylabel="validation perplexity")
    perplexity.legend(fontsize=7, frameon=False)
    for (mode, run), colour in zip(classifiers.items(), (BLUE, GREEN, ORANGE, RED), strict=False):
        values = [100 * e["accuracy"] for e in run["epochs"]]
        accuracy.plot([e["epoch"] for e in run["epochs"]], values, color=colour, marker="o", markersize=3, label=mode)
    accuracy.xaxis.get_major_locator().set_params(integer=True)
    accuracy.set(xlabel="epoch", ylabel="validation accuracy, %")
    accuracy.legend(fontsize=7, frameon=False)
    for axes in (loss, perplexity, accuracy):
        _frame(axes)
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
        axes.tick_params(labelsize=7)
    return figure


def _frame(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
