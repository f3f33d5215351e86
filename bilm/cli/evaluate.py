"""Evaluate a trained classifier on a file of texts and their classes.

    python -m bilm evaluate test.csv --text-column text --label-column topic --classifier FILE
    python -m bilm evaluate test.csv          the classifier of this repository, on a file in a form of AG News

Prints accuracy, precision, recall and F1, the confusion matrix, and the expected calibration error. The file of any
classifier will do, and that of an ensemble; the texts that it was trained on are not needed. evaluate.py evaluates the
language model as well, and compares classifiers on the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilm.cli.options import ClassifierOptions
from bilm.cli.start import start_inference
from bilm.cli.truncation import print_truncation
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.terminal import print_note

if TYPE_CHECKING:
    import numpy as np

    from bilm.inference.text_classifier import TextClassifier
    from bilm.text.corpus import Source

# Texts that are classified at a time: sorted by length, many waste less on padding.
BATCH_TEXTS = 2048


@dataclass(frozen=True)
class EvaluateOptions:
    """The texts and their classes."""

    file: tuple[str, ...] = setting(
        (), "file with texts and their classes: .csv, .tsv, .jsonl, .parquet", positional=True
    )
    text_column: str | None = setting(None, "column of the texts, by name or by number from 1")
    label_column: str | None = setting(None, "column of the classes, named as those of the classifier")

    def __post_init__(self) -> None:
        if bool(self.text_column) != bool(self.label_column):
            raise UserError("name both columns: --text-column NAME --label-column NAME.")


@dataclass(frozen=True)
class Options:
    """All options of this command, by group."""

    evaluate: EvaluateOptions = EvaluateOptions()
    model: ClassifierOptions = ClassifierOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    from bilm.runtime.files import require_file

    options = parse_options(Options, __doc__, arguments=arguments, program="python -m bilm evaluate")
    if len(options.evaluate.file) != 1:
        raise UserError("name one file of texts.")
    require_file(options.evaluate.file[0])
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.evaluation.tables import classifier_table
    from bilm.inference.text_classifier import TextClassifier
    from bilm.metrics import calibration_error, classification_figures

    device, precision = start_inference(options.model), options.model.precision
    model = TextClassifier.load(options.model.bilm, options.model.classifier, device=device, precision=precision)
    source = find_rows(options.evaluate, model)
    if source.sha256 in model.training_files:
        print_note("Note: the classifier was trained on rows of this file. On new texts it is less accurate.")
    labels, probabilities = classify(model, source)
    print_truncation(model.vocabulary.tokenizer)
    figures = classification_figures(labels, probabilities.argmax(1), model.classes)
    figures["calibration_error"] = calibration_error(probabilities, labels)
    print(f"{source.path}: {len(labels):,} texts\n\n{classifier_table(model.info['settings']['mode'], figures)}")


def find_rows(options: EvaluateOptions, model: "TextClassifier") -> "Source":
    """The rows of the file, whose classes are those of the model. Raises UserError."""
    from bilm.text.ag_news import CLASS_NAMES
    from bilm.text.corpus import labelled

    if options.text_column is None and tuple(model.classes) != CLASS_NAMES:
        raise UserError("name the columns: --text-column NAME --label-column NAME.")
    return labelled(options.file[0], options.text_column, options.label_column, model.classes)


def classify(model: "TextClassifier", source: "Source") -> "tuple[np.ndarray, np.ndarray]":
    """The classes of the rows, int64 (N,), and their probabilities by the model, fp32 (N, C). Raises UserError."""
    import numpy as np

    from bilm.runtime.terminal import progress
    from bilm.text.readers import batched

    labels, probabilities = [], []
    with progress(unit="text", label="classifying") as bar:
        for batch in batched(source.rows(), BATCH_TEXTS):
            labels += [label for label, _ in batch]
            probabilities.append(model.predict_proba([text for _, text in batch]))
            bar.update(len(batch))
    return np.array(labels), np.concatenate(probabilities)
