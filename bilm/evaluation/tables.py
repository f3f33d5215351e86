"""Tables of metrics for the terminal."""

from collections.abc import Sequence
from typing import Any

from bilm.config import ENSEMBLE
from bilm.runtime.terminal import printable

# A confusion matrix of more classes does not fit on a screen.
MAX_CLASSES = 12


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Format rows as aligned columns: the first to the left, the others to the right; floats with four decimals."""
    cells = [
        list(map(printable, header)),
        *([f"{c:.4f}" if isinstance(c, float) else printable(str(c)) for c in row] for row in rows),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def language_model_table(figures: dict[str, Any]) -> str:
    """Format the metrics of both directions, and the confusion matrix of each over the most frequent words."""
    metrics = [
        [name, *(f"{figures[d][name]:.2f}" if name == "perplexity" else figures[d][name] for d in figures)]
        for name in figures["forward"]
        if not name.startswith(("confusion", "words"))
    ]
    parts = [table(metrics, ["language model", *figures])]
    for direction, values in figures.items():
        parts.append(
            f"{direction}: the macro averages are over {values['words']:,} words; {values['words_undefined']:,} "
            "of them do not occur, or are never predicted: their ratios count as 0."
        )
        words = values["confusion_words"]
        rows = [[word, *counts] for word, counts in zip(words, values["confusion_matrix"], strict=True)]
        parts.append(
            f"{direction}: rows are true words, columns predicted words\n" + table(rows, ["", *words, "other"])
        )
    return "\n\n".join(parts)


def robustness_table(figures: dict[str, dict[str, Any]]) -> str:
    """Format the accuracy of each classifier with typing errors, and on the rows with the most unknown words."""
    first = next(iter(figures.values()))
    shares = [f"{float(share):.0%} of words" for share in first["accuracy_with_errors"]]
    rows = [[name, f["accuracy"], *f["accuracy_with_errors"].values()] for name, f in figures.items()]
    title, header = "accuracy with one typing error in a share of the words", ["classifier", "as is", *shares]
    if "accuracy_hardest" in first:
        title += (
            f", and on the {first['hardest_rows']:,} rows with the most words that the vocabulary lacks\n"
            f"({first['hardest_unknown']:.1%} of their words; {first['unknown']:.1%} in all rows)"
        )
        header.append("unknown words")
        for row, f in zip(rows, figures.values(), strict=True):
            row.append(f["accuracy_hardest"])
    return f"{title}\n{table(rows, header)}"


def duplicate_table(figures: dict[str, Any]) -> str:
    """Format the accuracies on the rows with a near-duplicate among the training rows, and on all other rows."""
    title = f"{figures['rows']:,} rows nearly repeat a training row"
    if figures["labels_differ"] is not None:
        title += f"; the labels of {figures['labels_differ']:.0%} of them differ"
    rows = [[name, *("none" if x is None else x for x in both.values())] for name, both in figures["accuracy"].items()]
    return f"{title}\n{table(rows, ['accuracy', 'near-duplicates', 'rest'])}"


def comparison_table(paired: dict[str, dict[str, Any]]) -> str:
    """Format the comparisons on the same rows: difference of the accuracies in points, and McNemar's p."""
    rows = [
        [name, other, *(f"{100 * x:+.2f}" for x in (f["difference"], *f["interval"])), f"{f['p']:.2g}"]
        for name, against in paired.items()
        for other, f in against.items()
    ]
    return table(rows, ["points of accuracy on the same rows", "above", "difference", "from", "to (95 %)", "p"])


def classifier_table(name: str, figures: dict[str, Any]) -> str:
    """Format the accuracy, scikit-learn's classification report, and the confusion matrix of a classifier."""
    import numpy as np
    from sklearn.metrics import classification_report

    matrix = np.array(figures["confusion_matrix"])
    actual, predicted = (index.repeat(matrix[matrix > 0]) for index in matrix.nonzero())
    classes = [printable(c["class"]) for c in figures["per_class"]]
    present = np.union1d(actual, predicted).tolist()
    report = classification_report(
        actual,
        predicted,
        labels=present,
        target_names=[classes[i] for i in present],
        digits=4,
        zero_division=0,
    )
    rows = [[label, *counts] for label, counts in zip(classes, matrix, strict=True)]
    notes = [
        f"Note: {', '.join(label for label, n in zip(classes, counts, strict=True) if not n)}: {effect}."
        for counts, effect in (
            (matrix.sum(1), "no row; the recall counts as 0"),
            (matrix.sum(0), "no prediction; the precision counts as 0"),
        )
        if not counts.all()
    ]
    if "calibration_error" in figures:
        notes.append(_calibration(figures))
    return "\n".join(
        [
            f"{'' if name == ENSEMBLE else 'classifier '}{name}: accuracy {figures['accuracy']:.4f}",
            report,
            table(rows, ["true \\ predicted", *classes])
            if len(classes) <= MAX_CLASSES
            else _confusions(classes, figures),
            *notes,
        ]
    )


def _calibration(figures: dict[str, Any]) -> str:
    text, before = (
        f"expected calibration error {figures['calibration_error']:.4f}",
        "calibration_error_at_temperature_1",
    )
    return text + (f" (without the temperature {figures[before]:.4f})" if before in figures else "")


def _confusions(classes: Sequence[str], figures: dict[str, Any], count: int = 10) -> str:
    """Format the most frequent confusions of a large matrix."""
    matrix = figures["confusion_matrix"]
    rows = [[classes[t], classes[p], n] for t, row in enumerate(matrix) for p, n in enumerate(row) if t != p and n]
    return table(sorted(rows, key=lambda row: -row[2])[:count], ["most frequent confusions: true", "predicted", "rows"])
