"""Evaluate the language model and the classifiers: accuracy, precision, recall, F1, confusion matrices.

    python evaluate.py                  on the test rows
    python evaluate.py --split train    on the rows they were trained on
    python evaluate.py --split all      on both
    python evaluate.py --train FILE --test FILE --text-column NAME --label-column NAME    on your own texts
    python evaluate.py --robustness     also with typing errors, and on the rows with the most unknown words
    python evaluate.py --classifier models/best.json    also another classifier, or an ensemble

With several classifiers, the mean of their probabilities is evaluated as the ensemble. Baselines of
`python -m studies.baselines` are compared with the classifiers row by row.

Writes results/summary.json (entries that are not computed now stay while language model and test rows are the same),
results/predictions.json, results/mistakes.json (of the classifier with the best validation accuracy) and
results/figures/*.png.
Apart from this script only the studies evaluate models on the test rows; `python -m benchmarks` measures speed on them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilm.config import ENSEMBLE, HYBRID, MODES
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path
from bilm.runtime.process import quoted
from utils import EncoderOptions, Run, RunOptions, open_run, run_script, truncation_note

if TYPE_CHECKING:
    import numpy as np

    from bilm.checkpoints.classifier_files import ClassifierFiles
    from bilm.evaluation.evaluator import Evaluator
    from bilm.evaluation.predictions import Predictions
    from bilm.inference.text_classifier import TextClassifier
    from bilm.text.corpus import Source
    from bilm.text.encoded_corpus import EncodedCorpus


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate."""

    split: str = setting("test", "rows to evaluate on", choices=("test", "train", "all"))
    robustness: bool = setting(
        False,
        "also classify the test rows with typing errors, and separately those with the most unknown words, by the "
        "classifiers on this language model",
    )
    duplicates: bool = setting(
        False, "also evaluate separately the test rows that nearly repeat a training row, and the other ones"
    )
    classifier: str | None = setting(
        None, "also evaluate this classifier or ensemble, on any language model; it is called as its file"
    )
    batch_tokens: int | None = setting(
        None, "tokens in a batch, including padding (default: 8,192; on a GPU 16,384)", at_least=1
    )

    def __post_init__(self) -> None:
        for name in ("robustness", "duplicates"):
            if getattr(self, name) and self.split == "train":
                raise UserError(f"--{name} is for test rows: --split test or all.")

    def splits(self) -> tuple[str, ...]:
        return ("test", "train") if self.split == "all" else (self.split,)


@dataclass(frozen=True)
class Options:
    """All options of this script, by group."""

    # In fp32 by default: figures should not depend on the machine that prints them.
    run: RunOptions = RunOptions(precision="fp32")
    encoder: EncoderOptions = EncoderOptions()
    evaluation: EvaluationOptions = EvaluationOptions()


@dataclass(frozen=True)
class Evaluation:
    """The inputs of every step of an evaluation; the steps fill `summary` and `predictions`."""

    run: Run
    options: EvaluationOptions
    evaluator: Evaluator
    files: ClassifierFiles
    other: TextClassifier | None
    summary: dict[str, Any]
    predictions: Predictions


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, arguments=arguments)
    # oneDNN caches the code that it generates for each shape of a product, 1,024 of them by default. Evaluation has a
    # new shape in nearly every batch, so that the cache would take gigabytes; training pads to few shapes.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.evaluation import summary as summaries
    from bilm.evaluation.figures import draw_results
    from bilm.evaluation.results import read_results, write_results

    run = open_run(options.run, "evaluation", single_process=True)
    if "test" in options.evaluation.splits():
        run.corpus.path("test")  # raises UserError if there is none
    sources = {split: run.corpus.source(split, run.options.limit) for split in run.corpus.splits}
    evaluator, files = load_models(run, options)
    check_rows(run, options, evaluator, sources)
    results = run.folders.results
    hashes = {split: source.identity for split, source in sources.items()}
    previous, predictions = read_results(results, hashes)
    summary = summaries.begin(previous, evaluator.pretrained, hashes.get("test"), run.stamp())
    other = load_other(run, options, evaluator, summary)
    evaluation = Evaluation(run, options.evaluation, evaluator, files, other, summary, predictions)
    for split in options.evaluation.splits():
        evaluate_split(evaluation, split, sources[split])
    summaries.refresh_comparisons(summary, predictions)
    print_comparisons(summary)
    summary["peak_memory_mb"] = run.stamp()["peak_memory_mb"]  # of everything up to here
    write_results(results, summary, predictions)
    figures = draw_results(results, summary)
    print(
        f"\nWrote {display_path(results / 'summary.json')} and {len(figures)} figures in "
        f"{display_path(results / 'figures')}."
    )
    if not evaluator.classifiers:
        bilm = f" --bilm {quoted(options.encoder.bilm)}" if options.encoder.bilm else ""
        print(f"There is no classifier on this language model yet. {run.next_after_pretraining(bilm)}")


def load_models(run: Run, options: Options) -> tuple[Evaluator, ClassifierFiles]:
    """The language model, and the classifiers that were trained on it. Raises UserError if a file cannot be used."""
    from bilm.checkpoints.classifier_files import find_classifiers
    from bilm.checkpoints.model_format import load_bilm, load_classifier
    from bilm.evaluation.evaluator import Evaluator
    from bilm.text.batching import evaluation_batch_tokens

    pretrained = load_bilm(options.encoder.file(options.run, run.folders.models / "bilstm.pt"))
    files = find_classifiers(run.folders.models, pretrained, run.corpus.classes)
    for error in files.damaged.values():
        raise error
    classifiers = {mode: load_classifier(path, pretrained) for mode, path in files.paths.items()}
    if files.mismatched and not classifiers:
        raise UserError(next(iter(files.mismatched.values())))
    for name in ("robustness", "duplicates"):
        if getattr(options.evaluation, name) and not classifiers:
            raise UserError(f"--{name} needs a classifier on this language model. Train one: python classification.py.")
    for message in files.mismatched.values():
        print(f"Not evaluated: {message}", file=sys.stderr)
    batch_tokens = options.evaluation.batch_tokens or evaluation_batch_tokens(run.device)
    return Evaluator(pretrained, classifiers, batch_tokens, run.device, run.autocast), files


def load_other(run: Run, options: Options, evaluator: Evaluator, summary: dict[str, Any]) -> TextClassifier | None:
    """The model of --classifier. Raises UserError if its file cannot be used, or has the name of another model."""
    from bilm.inference.text_classifier import TextClassifier

    if options.evaluation.classifier is None:
        return None
    path = Path(options.evaluation.classifier)
    if path.stem in {ENSEMBLE, HYBRID, *MODES, *evaluator.classifiers, *summary["classifiers"], *summary["baselines"]}:
        raise UserError(f"another model is called {path.stem!r}; rename the file.", "classifier")
    bilm = options.encoder.file(options.run, run.folders.models / "bilstm.pt")
    model = TextClassifier.load(bilm, path, device=run.device, precision=run.precision)
    if model.classes != list(run.corpus.classes):
        raise UserError(f"{path} was trained on other classes than those of {run.corpus.train}.", "classifier")
    rows = run.corpus.source("train", run.options.limit).identity, run.options.limit
    if "train" in options.evaluation.splits() and model.trained_on != {rows}:
        raise UserError(f"{path} was not trained on these rows of {run.corpus.train}.", "classifier", "split")
    return model


def check_rows(run: Run, options: Options, evaluator: Evaluator, sources: dict[str, Source]) -> None:
    """Raises UserError if training rows are needed, and a model was trained on others.

    Of a user's own texts, a note says that a classifier was trained on others; AG News has its own test rows.
    """
    rows, settings = (sources["train"].identity, run.options.limit), evaluator.pretrained.info["settings"]
    pretrained_on = settings["corpus"], settings.get("limit")
    needs_training_rows = options.evaluation.duplicates or "train" in options.evaluation.splits()
    if needs_training_rows and settings["corpus"] is not None and pretrained_on != rows:
        raise UserError(
            f"the language model was not pretrained on {run.corpus.path('train')}{but_with_limit(settings, rows)}.",
            *("data", "split", "limit"),
        )
    for mode, trained in evaluator.classifiers.items():
        settings = trained.info["settings"]
        if (settings.get("corpus"), settings.get("limit")) == rows:
            continue
        if "train" in options.evaluation.splits():
            raise UserError(
                f"classifier {mode} was not trained on {run.corpus.path('train')}{but_with_limit(settings, rows)}.",
                *("data", "split", "limit"),
            )
        if run.corpus.columns:
            print(
                f"Note: classifier {mode} was trained on other rows than those of {display_path(run.corpus.train)}; "
                "they may include test rows.",
                file=sys.stderr,
            )


def but_with_limit(settings: dict[str, Any], rows: tuple[str, int | None]) -> str:
    """What to add to "was not trained on this file" where only the number of its rows is another."""
    limit = settings.get("limit")
    if settings["corpus"] != rows[0]:
        return ""
    return f", but on {limit:,} of its rows (--limit)" if limit else f", but on all of its rows, not on {rows[1]:,}"


def evaluate_split(evaluation: Evaluation, split: str, source: Source) -> None:
    """Print and collect the metrics of one split."""
    import numpy as np

    from bilm.evaluation.summary import add_language_model
    from bilm.evaluation.tables import language_model_table
    from bilm.text.encoded_corpus import encode, open_encoded
    from bilm.text.split import split_validation

    run, evaluator = evaluation.run, evaluation.evaluator
    pretrained, folder = evaluator.pretrained, run.folders.encoded("evaluation") / split
    encode(source, evaluator.vocabulary, folder)
    encoded = open_encoded(folder)
    rows = np.arange(len(encoded))
    if split == "train":
        rows, _ = split_validation(encoded.labels, encoded.keys, list(source.classes))
    print(f"\n=== {run.corpus.name}, {split}: {len(rows):,} texts ===\n", flush=True)
    max_tokens = pretrained.vocabulary.tokenizer.config.max_tokens
    if note := truncation_note(encoded.num_truncated, len(encoded), max_tokens):
        print(f"{note}\n")
    if pretrained.model.softmax is None:
        print("The language model was imported without its softmax, so its perplexity cannot be measured.")
    else:
        figures = evaluator.language_model(encoded.texts, rows)
        print(language_model_table(figures), flush=True)
        add_language_model(evaluation.summary, pretrained, split, figures)
    if evaluator.classifiers:
        probabilities = evaluator.probabilities("classifiers", encoded.texts, rows)
        evaluate_classifiers(evaluation, split, encoded.labels[rows], probabilities, list(source.classes))
        if split == "test":
            evaluate_test_rows(evaluation, source, encoded, probabilities)
    if evaluation.other:
        evaluate_other(evaluation, evaluation.other, split, source, encoded.labels[rows], rows)


def evaluate_classifiers(
    evaluation: Evaluation, split: str, labels: np.ndarray, probabilities: dict[str, np.ndarray], class_names: list[str]
) -> None:
    """Print and collect the metrics of each classifier, and of the ensemble if there are several.

    labels: int64 (N,); probabilities: by classifier, fp32 (N, C).
    """
    from bilm.evaluation import summary as summaries
    from bilm.evaluation.tables import classifier_table
    from bilm.metrics import calibration_error, classification_figures
    from bilm.training.calibration import uncalibrated

    classifiers, predictions = evaluation.evaluator.classifiers, evaluation.predictions
    members = {mode: trained.hash for mode, trained in classifiers.items()}
    for name, values in probabilities.items():
        classes = values.argmax(1)
        figures = classification_figures(labels, classes, class_names)
        figures["calibration_error"] = calibration_error(values, labels)
        if name != ENSEMBLE:
            before = uncalibrated(values, float(classifiers[name].model.classifier.temperature))
            figures["calibration_error_at_temperature_1"] = calibration_error(before, labels)
        print(f"\n{classifier_table(name, figures)}", flush=True)
        if name == ENSEMBLE:
            summaries.add_ensemble(evaluation.summary, members, split, figures)
        else:
            summaries.add_classifier(evaluation.summary, name, classifiers[name], split, figures)
        if split == "test":
            predictions.models[name] = (members.get(name) or summaries.name_of_ensemble(members), classes)
            predictions.labels = labels


def evaluate_other(
    evaluation: Evaluation, model: TextClassifier, split: str, source: Source, labels: np.ndarray, rows: np.ndarray
) -> None:
    """Print and collect the metrics of the model of --classifier on these rows, int64."""
    from bilm.evaluation.summary import add_other
    from bilm.evaluation.tables import classifier_table
    from bilm.metrics import calibration_error, classification_figures

    name = Path(str(evaluation.options.classifier)).stem
    texts = [text for _, text in source.rows()]
    probabilities = model.predict_proba([texts[i] for i in rows])
    classes = probabilities.argmax(1)
    figures = classification_figures(labels, classes, model.classes)
    figures["calibration_error"] = calibration_error(probabilities, labels)
    print(f"\n{classifier_table(name, figures)}", flush=True)
    add_other(evaluation.summary, name, model.hash, split, figures)
    if split == "test":
        evaluation.predictions.models[name], evaluation.predictions.labels = (model.hash, classes), labels


def evaluate_test_rows(
    evaluation: Evaluation, source: Source, encoded: EncodedCorpus, probabilities: dict[str, np.ndarray]
) -> None:
    """Write mistakes.json; find near-duplicates of training rows and evaluate robustness if requested."""
    from bilm.evaluation.error_analysis import typical_mistakes
    from bilm.evaluation.near_duplicates import find_duplicates
    from bilm.evaluation.robustness import robustness
    from bilm.evaluation.summary import add_robustness
    from bilm.evaluation.tables import robustness_table
    from bilm.runtime.files import write_json

    run, evaluator, best = evaluation.run, evaluation.evaluator, evaluation.files.best
    assert best is not None
    stamp = {**run.stamp(), "classifier": best, "hash": evaluator.classifiers[best].hash}
    stamp["rows_trained"] = evaluator.classifiers[best].info["rows_trained"]
    texts = [text for _, text in source.rows()]
    mistakes = typical_mistakes(encoded.labels, probabilities[best], texts, list(source.classes))
    write_json(run.folders.results / "mistakes.json", stamp | mistakes)
    if evaluation.options.duplicates:
        evaluation.predictions.near_duplicates = find_duplicates(run.corpus, run.options.limit)
    if evaluation.options.robustness:
        classes = {name: values.argmax(1) for name, values in probabilities.items()}
        rows = (encoded.labels, source.rows(), evaluator.vocabulary, encoded.texts)
        figures = robustness(classes, *rows, evaluator.classes, run.options.seed)
        for name, values in figures.items():
            add_robustness(evaluation.summary, name, values)
        print(f"\n{robustness_table(figures)}", flush=True)


def print_comparisons(summary: dict[str, Any]) -> None:
    """Print McNemar's tests against the strongest baseline and between classifiers; accuracy on near-duplicates."""
    from bilm.evaluation.summary import with_strongest
    from bilm.evaluation.tables import comparison_table, duplicate_table

    if summary["paired"]:
        print(f"\n{comparison_table(with_strongest(summary))}", flush=True)
    if summary["paired_classifiers"]:
        print(f"\n{comparison_table(summary['paired_classifiers'])}", flush=True)
    entries = {**summary["classifiers"], **summary["baselines"]}
    rows = {name: x.get("rows_trained", x.get("training", {}).get("rows_trained")) for name, x in entries.items()}
    if (summary["paired"] or summary["paired_classifiers"]) and len({n for n in rows.values() if n}) > 1:
        listed = ", ".join(f"{name} {n:,}" for name, n in rows.items() if n)
        print(f"\nNote: not all were trained on the same number of rows: {listed}.")
    if summary["near_duplicates"]:
        print(f"\n{duplicate_table(summary['near_duplicates'])}", flush=True)


if __name__ == "__main__":
    run_script(main)
