"""Figures as text for the terminal."""

from collections.abc import Sequence
from typing import Any

from bilm.runtime.terminal import printable

# Classes of which a confusion matrix fits on a screen.
MATRIX_UP_TO = 12


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Columns under each other: the first flush left, the others flush right; floats with four digits."""
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
    """Both directions side by side, and each one's confusion matrix over the most frequent words."""
    names = [name for name in figures["forward"] if not name.startswith(("confusion", "words"))]
    shown = [
        [name, *(f"{figures[d][name]:.2f}" if name == "perplexity" else figures[d][name] for d in figures)]
        for name in names
    ]
    parts = [table(shown, ["language model", *figures])]
    for direction, values in figures.items():
        parts.append(
            f"{direction}: the macro averages are over {values['words']:,} words; {values['words_undefined']:,} "
            "of them do not occur, or are never predicted: their quotients count as 0."
        )
        words = values["confusion_words"]
        rows = [[word, *counts] for word, counts in zip(words, values["confusion_matrix"], strict=True)]
        parts.append(f"{direction}: row the true word, column the predicted one\n" + table(rows, ["", *words, "other"]))
    return "\n\n".join(parts)


def robustness_table(figures: dict[str, dict[str, Any]]) -> str:
    """By classifier: accuracy with typing errors, and on the rows with the most unknown words."""
    one = next(iter(figures.values()))
    shares = [f"{float(share):.0%} of words" for share in one["accuracy_with_errors"]]
    rows = [[name, f["accuracy"], *f["accuracy_with_errors"].values()] for name, f in figures.items()]
    title, header = "accuracy with one typing error in a share of the words", ["classifier", "as is", *shares]
    if "accuracy_hardest" in one:
        title += (
            f", and on the {one['hardest_rows']:,} rows with the most words that the vocabulary lacks\n"
            f"({one['hardest_unknown']:.1%} of their words; of all {one['unknown']:.1%})"
        )
        header.append("unknown words")
        for row, f in zip(rows, figures.values(), strict=True):
            row.append(f["accuracy_hardest"])
    return f"{title}\n{table(rows, header)}"


def duplicate_table(figures: dict[str, Any]) -> str:
    """Accuracy on the rows that a training row nearly repeats, and on the rest."""
    differ = (
        "" if figures["labels_differ"] is None else f"; in {figures['labels_differ']:.0%} of them its label differs"
    )
    rows = [[name, *("none" if x is None else x for x in both.values())] for name, both in figures["accuracy"].items()]
    return f"{figures['rows']:,} rows nearly repeat a training row{differ}\n" + table(
        rows, ["accuracy", "near-duplicates", "rest"]
    )


def comparison_table(paired: dict[str, dict[str, Any]]) -> str:
    """Row by row against the baselines: difference of the accuracies in points, and McNemar's p."""
    rows = [
        [name, other, *(f"{100 * x:+.2f}" for x in (f["difference"], *f["interval"])), f"{f['p']:.2g}"]
        for name, against in paired.items()
        for other, f in against.items()
    ]
    return table(rows, ["points of accuracy on the same rows", "above", "difference", "from", "to (95 %)", "p"])


def classifier_table(name: str, figures: dict[str, Any]) -> str:
    """The accuracy, scikit-learn's classification report, and the confusion matrix."""
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
    return "\n".join(
        [
            f"{'' if name == 'ensemble' else 'classifier '}{name}: accuracy {figures['accuracy']:.4f}",
            report,
            table(rows, ["true \\ predicted", *classes])
            if len(classes) <= MATRIX_UP_TO
            else _confusions(classes, figures),
            *notes,
        ]
    )


def _confusions(classes: Sequence[str], figures: dict[str, Any], count: int = 10) -> str:
    """Of a matrix that is too large to be shown: where the most rows are mistaken."""
    matrix = figures["confusion_matrix"]
    found = [(n, t, p) for t, row in enumerate(matrix) for p, n in enumerate(row) if t != p and n]
    rows = [[classes[t], classes[p], n] for n, t, p in sorted(found, key=lambda one: -one[0])[:count]]
    return table(rows, ["most often mistaken: true", "predicted", "rows"])
