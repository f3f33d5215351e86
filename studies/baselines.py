"""Train baselines on the same rows: TF-IDF, fastText, and word vectors with the same classifier as ELMo.

    python -m studies.baselines                    all      -> results/summary.json, results/predictions.json
    python -m studies.baselines --only tfidf_svm   one
    python -m studies.baselines --resume           continue after Ctrl-C or a crash

    tfidf_svm, tfidf_logistic   words and pairs of words, and a linear model
    fasttext                    a supervised bag of words and pairs of words; needs the package floret
    random                      word vectors that start from random values and are trained with the classifier
    svd_2, _3, _5, _8           SVD of co-occurrences (PPMI) within so many words
    word2vec_2, _3, _5, _8      skip-gram with negative sampling, within so many words; needs the package gensim

Word vectors have by default the width of ELMo's layers, and feed the classifier of classification.py with the settings
of its preset best. What a word of TF-IDF is, C, learning rates and the best epoch are chosen on the validation
rows; as with ELMo, nothing is trained on these afterwards. evaluate.py then compares each classifier with the baselines
row by row. Without --only, baselines whose package is missing are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bilm.cli.options import ResumeOptions, RunOptions
from bilm.cli.run import Run, open_run
from bilm.config import ClassifierConfig, FitConfig
from bilm.runtime.errors import UserError
from bilm.runtime.optional_packages import require
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path
from bilm.runtime.process import run_script
from bilm.runtime.provenance import first_difference
from studies import CLASSIFIER, FIT

if TYPE_CHECKING:
    import numpy as np

    from bilm.evaluation.predictions import Predictions
    from studies.dataset import LabelledTexts
    from studies.runner import Study, StudyProgress

WINDOWS = (2, 3, 5, 8)
LINEAR = {"tfidf_svm": "svm", "tfidf_logistic": "logistic"}
STATIC = ("random", *(f"{kind}_{window}" for kind in ("svd", "word2vec") for window in WINDOWS))
PACKAGES = {"fasttext": "floret", "word2vec": "gensim"}
NAMES = (*LINEAR, "fasttext", *STATIC)


@dataclass(frozen=True)
class BaselineOptions:
    """The baselines, and the width of word vectors."""

    only: str = setting("all", "which", choices=("all", *NAMES))
    width: int = setting(512, "of word vectors", at_least=1)


@dataclass(frozen=True)
class Options:
    """All options of this study, by group."""

    run: RunOptions = RunOptions()
    resume: ResumeOptions = ResumeOptions()
    baselines: BaselineOptions = BaselineOptions()
    classifier: ClassifierConfig = CLASSIFIER
    fit: FitConfig = FIT


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, arguments=arguments)
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.evaluation import summary as summaries
    from bilm.evaluation.results import read_results, write_results
    from studies.dataset import read_labelled
    from studies.runner import open_progress

    run = open_run(options.run, "evaluation", single_process=True)
    only = options.baselines.only
    names = [name for name in NAMES if only in ("all", name) and is_available(name, required=name == only)]
    results = run.folders.results
    path, predictions_path = results / "summary.json", results / "predictions.json"
    rows = read_labelled(run.corpus, options.run.limit)
    previous, predictions = read_results(results, rows.hashes)
    summary = (previous or summaries.empty(run.stamp())) | {"test_csv": rows.hashes["test"]}
    # The choice of baselines does not determine any of them.
    groups = (replace(options.baselines, only="all"), options.classifier, options.fit)
    settings = run.settings(*groups, **rows.hashes)
    finished = [name for name in names if is_finished(summary["baselines"].get(name), settings)]
    progress = open_progress(run, options.resume, "baselines", settings, finished == names)
    if progress is None:
        print(f"{display_path(path)} contains results with these settings; skipped. {run.next_command('evaluate.py')}")
        return
    if options.resume.resume:
        names = [name for name in names if name not in finished]
    print(f"corpus {run.corpus.name}: {len(names)} baselines on {len(rows.training):,} descriptions", flush=True)
    trainers = trainers_of(run, options, names, rows, progress)
    # Results of an unfinished study are added, too, so that none of them is lost.
    names = [name for name in NAMES if name in names or name in progress]
    for name in names:
        part = progress.part(name, partial(stamped, run, trainers.get(name)))  # None: trained before
        add_baseline(name, part, run, rows, settings, summary, predictions, brief=len(names) > 1)
    summaries.refresh_comparisons(summary, predictions)
    write_results(results, summary, predictions)
    progress.close()
    print_results(summary, names)
    print(f"\nWrote {display_path(path)} and {display_path(predictions_path)}. {run.next_command('evaluate.py')}")


def stamped(run: Run, train: Callable[[], dict[str, Any]] | None) -> dict[str, Any]:
    assert train
    return train() | {"training": run.stamp()}


def is_available(name: str, required: bool) -> bool:
    """Whether the package of this baseline is installed. Raises UserError if it is `required` and not installed.

    Called before the texts are read, which may take minutes.
    """
    try:
        if package := PACKAGES.get(name.partition("_")[0]):
            require(package, name)
    except UserError as error:
        if required:
            raise
        print(f"{name} is left out: {error}")
        return False
    return True


def is_finished(entry: dict[str, Any] | None, settings: dict[str, Any]) -> bool:
    """Whether an entry of the summary has these settings."""
    return entry is not None and first_difference(entry.get("settings") or {}, settings) is None


def trainers_of(
    run: Run, options: Options, names: Sequence[str], rows: LabelledTexts, progress: StudyProgress
) -> dict[str, Callable[[], dict[str, Any]]]:
    """By name, the function that trains the baseline and returns its figures and its classes of the test rows."""
    from bilm.baselines.word_vectors import skip_gram, svd_vectors
    from studies.dataset import words_of
    from studies.runner import Study

    seed = options.run.seed
    trainers: dict[str, Callable] = {name: partial(train_tfidf, kind, rows, seed) for name, kind in LINEAR.items()}
    if not set(names) & {"fasttext", *STATIC}:
        return trainers
    trainers["fasttext"] = partial(train_fasttext, rows, progress, seed)
    vocabulary, encoded = words_of(rows)
    study = Study(run, rows, encoded, progress, options.classifier, options.fit)
    size, width = len(vocabulary), options.baselines.width
    trainers["random"] = partial(train_random_vectors, study, size, width, seed)
    for kind, vectors_of in (("svd", svd_vectors), ("word2vec", skip_gram)):
        for window in WINDOWS:
            name = f"{kind}_{window}"
            trainers[name] = partial(train_on_vectors, name, study, vectors_of, size, width, window, seed)
    return trainers


def train_tfidf(kind: str, rows: LabelledTexts, seed: int) -> dict[str, Any]:
    """A linear model on TF-IDF; the training seconds include all words and values of C that were tried."""
    from bilm.baselines.tfidf import choose, fit

    started = time.perf_counter()
    recipe = choose(kind, rows.texts, rows.labels, [(rows.training, rows.validation)], seed)
    model = fit(recipe, rows.of(rows.training), rows.labels[rows.training], seed)
    fitted = time.perf_counter()
    accuracies = {f"{words} {C:g}": accuracy for (words, C), accuracy in recipe.accuracies.items()}
    figures = figures_of("words_and_strength", accuracies, model.predict(rows.of(rows.test)), started, fitted)
    return {"words": recipe.words, "strength": recipe.C, **figures}


def train_fasttext(rows: LabelledTexts, progress: StudyProgress, seed: int) -> dict[str, Any]:
    """fastText; the training seconds include all learning rates that were tried."""
    from bilm.baselines.fasttext import fit_fasttext
    from bilm.text.tokenizer import Tokenizer

    started = time.perf_counter()
    words = list(map(Tokenizer(), rows.texts))
    classify, accuracies = fit_fasttext(words, rows.labels, rows.training, rows.validation, progress.folder, seed)
    fitted = time.perf_counter()
    return figures_of("rate", accuracies, classify(rows.test), started, fitted)


def figures_of(
    choice: str, accuracies: dict[str, float], classes: np.ndarray, started: float, fitted: float
) -> dict[str, Any]:
    """accuracies: on validation, by the value of `choice`; started, fitted: readings of time.perf_counter."""
    return {
        "validation_accuracy": max(accuracies.values()),
        f"validation_accuracy_by_{choice}": accuracies,
        "seconds_to_train": round(fitted - started, 1),
        "seconds_to_classify": round(time.perf_counter() - fitted, 2),
        "classes": " ".join(map(str, classes.tolist())),
    }


def train_random_vectors(study: Study, vocabulary_size: int, width: int, seed: int) -> dict[str, Any]:
    """Word vectors that start from random values and are trained with the classifier."""
    from bilm.modules.static_encoder import StaticEncoder

    encoder = StaticEncoder.random(vocabulary_size, width, seed)
    rate = study.fit_config.learning_rate
    return study.classifier("random", encoder, "trainable", seed, encoder_learning_rate=rate)


def train_on_vectors(
    name: str, study: Study, vectors_of: Callable, vocabulary_size: int, width: int, window: int, seed: int
) -> dict[str, Any]:
    """Word vectors learned without labels; the classifier is trained on them."""
    from bilm.modules.static_encoder import StaticEncoder

    started = time.perf_counter()
    vectors = vectors_of(study.encoded, study.rows.training, vocabulary_size, width, seed=seed, window=window)
    seconds = time.perf_counter() - started
    part = study.classifier(name, StaticEncoder(vectors), "trainable", seed)
    return {**part, "window": window, "width": width, "seconds_for_vectors": round(seconds, 1)}


def add_baseline(
    name: str,
    part: dict[str, Any],
    run: Run,
    rows: LabelledTexts,
    settings: dict[str, Any],
    summary: dict[str, Any],
    predictions: Predictions,
    brief: bool,
) -> None:
    """Print a baseline, and add it to the summary and to the predictions."""
    from bilm.checkpoints.serialization import content_hash
    from bilm.evaluation.tables import classifier_table
    from bilm.metrics import classification_figures
    from studies.runner import classes_of

    classes, labels = classes_of(part), rows.labels[rows.test]
    identity = content_hash([rows.hashes, classes.tolist()])
    figures = classification_figures(labels, classes, list(run.corpus.classes))
    details = {key: value for key, value in part.items() if key not in ("classes", "test_accuracy", "before", "after")}
    entry = {"hash": identity, "settings": settings, "rows_trained": len(rows.training), "test": figures}
    summary["baselines"][name] = entry | details
    predictions.models[name], predictions.labels = (identity, classes), labels
    print(f"{name}: accuracy {figures['accuracy']:.4f}" if brief else classifier_table(name, figures))


def print_results(summary: dict[str, Any], names: Sequence[str]) -> None:
    """A row for each baseline, and the comparison of ELMo with the strongest one."""
    from bilm.evaluation.summary import with_strongest
    from bilm.evaluation.tables import comparison_table, table

    lines = []
    for name in names:
        entry = summary["baselines"][name]
        scores = [entry["test"][key] for key in ("accuracy", "precision", "recall", "f1")]
        seconds = [f"{entry['seconds_to_train']:,.0f}", f"{entry['seconds_to_classify']:.1f}"]
        lines.append([name, *scores, entry["validation_accuracy"], *seconds])
    header = ["test", "accuracy", "precision", "recall", "f1", "on validation", "s to train", "s to classify"]
    print(f"\n{table(lines, header)}")
    if summary["paired"]:
        print(f"\n{comparison_table(with_strongest(summary))}")


if __name__ == "__main__":
    run_script(main)
