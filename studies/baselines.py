"""What ELMo is measured against, on the same rows: TF-IDF, fastText, and word vectors under the very same classifier.

    python -m studies.baselines                    all      -> results/summary.json, results/predictions.json
    python -m studies.baselines --only tfidf_svm   one
    python -m studies.baselines --resume           go on after Ctrl-C or a crash

    tfidf_svm, tfidf_logistic   words and pairs of words, and a linear model
    fasttext                    a learned bag of words and pairs of words; needs the package floret
    random                      word vectors that the classifier learns with the rest, from random ones
    svd_2, _3, _5, _8           SVD of co-occurrences (PPMI) within so many words
    word2vec_2, _3, _5, _8      skip-gram with negative sampling, within so many words; needs the package gensim

The last three kinds are by default as wide as ELMo's layers, and feed the classifier of classification.py, with the
settings of its preset best. What is chosen (strengths, rates, the best epoch) is chosen on validation rows. evaluate.py
then compares each classifier with them, row by row. Without --only, baselines whose package is missing are left out.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bilm.cli.options import ResumeOptions, RunOptions
from bilm.cli.run import decide_action, start
from bilm.config import CLASSIFICATION, ClassifierConfig, FitConfig
from bilm.runtime.errors import UserError
from bilm.runtime.files import write_json
from bilm.runtime.optional import require
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path, folders
from bilm.runtime.process import run_script
from bilm.runtime.provenance import first_difference, run_settings, run_stamp

WINDOWS = (2, 3, 5, 8)
LINEAR = {"tfidf_svm": "svm", "tfidf_logistic": "logistic"}
STATIC = ("random", *(f"{kind}_{window}" for kind in ("svd", "word2vec") for window in WINDOWS))
PACKAGES = {"fasttext": "floret", "word2vec": "gensim"}
NAMES = (*LINEAR, "fasttext", *STATIC)


@dataclass(frozen=True)
class BaselineOptions:
    """Which, and how wide."""

    only: str = setting("all", "which", choices=("all", *NAMES))
    width: int = setting(512, "of word vectors", at_least=1)


CLASSIFIER = ClassifierConfig(dropout=CLASSIFICATION["best"]["dropout"])
FIT = FitConfig(epochs=CLASSIFICATION["best"]["epochs"], learning_rate=2e-3)


def main() -> None:
    run, again, options, shape, fitting = parse_options(
        __doc__, RunOptions, ResumeOptions, BaselineOptions, CLASSIFIER, FIT
    )
    # Imported once the command line is understood: --help needs none of it.
    from bilm.checkpoints.serialization import content_hash
    from bilm.evaluation import summary as summaries
    from bilm.evaluation.predictions import read_predictions, write_predictions
    from bilm.evaluation.scoring import classification_figures
    from bilm.evaluation.tables import classifier_table, comparison_table, table
    from studies.dataset import read_labelled
    from studies.runner import StudyProgress, classes_of

    runtime = start(run)
    if runtime.processes > 1:
        raise UserError("the baselines take one process; call it without torchrun.")
    names = list(NAMES) if options.only == "all" else [options.only]
    names = [name for name in names if is_available(name, asked_for=name == options.only)]
    corpus = run.corpus()
    out = folders(run.output, corpus.name, run.limit)
    out.lock("evaluation")
    path, predictions_path = out.results / "summary.json", out.results / "predictions.json"
    summary = summaries.read_summary(path) or summaries.empty({"corpus": corpus.name, **run_stamp(run, runtime)})
    rows = read_labelled(corpus, run.limit)
    predictions = read_predictions(predictions_path, rows.hashes)
    # Which of them are asked for shapes none.
    settings = run_settings(run, runtime, replace(options, only="all"), shape, fitting, **rows.hashes)
    known = {name: entry.get("settings") or {} for name, entry in summary["baselines"].items()}
    there = [name for name in names if name in known and first_difference(known[name], settings) is None]
    unfinished = out.runs / "baselines"
    todo = decide_action(unfinished, again, is_finished=lambda: there == names)
    if todo == "skip":
        print(f"{display_path(path)} has them, with these settings. Next: python evaluate.py{run.data_options()}")
        return
    if again.resume:
        names = [name for name in names if name not in there]
    out.prepare()
    ledger = StudyProgress(unfinished, settings, restart=todo == "start")
    print(f"corpus {corpus.name}: {len(names)} baselines on {len(rows.training):,} descriptions", flush=True)

    makers: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, kind in LINEAR.items():
        makers[name] = partial(linear, kind, rows, run.seed)
    if set(names) & {"fasttext", *STATIC}:
        makers |= on_words(rows, ledger, run.seed, options.width, shape, fitting, runtime, len(corpus.classes))

    def stamped(name: str) -> dict[str, Any]:
        return makers[name]() | {"training": run_stamp(run, runtime)}

    labels = rows.labels[rows.test]
    # Those of an unfinished run too, so that nothing of it is lost.
    names = [name for name in NAMES if name in names or name in ledger]
    for name in names:
        part = ledger.part(name, partial(stamped, name))
        classes = classes_of(part)
        named = content_hash([rows.hashes, classes.tolist()])
        figures = classification_figures(labels, classes, list(corpus.classes))
        said = {key: value for key, value in part.items() if key not in ("classes", "test_accuracy", "before", "after")}
        own = {"hash": named, "settings": settings, "rows_trained": len(rows.training), "test": figures}
        summary["baselines"][name] = own | said
        predictions.models[name] = (named, classes)
        print(f"{name}: accuracy {figures['accuracy']:.4f}" if len(names) > 1 else classifier_table(name, figures))
    predictions.labels = labels
    summaries.refresh_comparisons(summary, predictions)
    write_predictions(predictions_path, predictions)
    write_json(path, summary)
    ledger.close()
    entries = {name: summary["baselines"][name] for name in names}
    lines = [
        [
            name,
            *(e["test"][key] for key in ("accuracy", "precision", "recall", "f1")),
            e["validation_accuracy"],
            f"{e['seconds_to_train']:,.0f}",
            f"{e['seconds_to_classify']:.1f}",
        ]
        for name, e in entries.items()
    ]
    header = ["test", "accuracy", "precision", "recall", "f1", "on validation", "s to train", "s to classify"]
    print(f"\n{table(lines, header)}")
    if summary["paired"]:
        print(f"\n{comparison_table(summaries.with_strongest(summary))}")
    print(
        f"\nWrote {display_path(path)} and {display_path(predictions_path)}. "
        f"Next: python evaluate.py{run.data_options()}"
    )


def is_available(name: str, asked_for: bool) -> bool:
    """Whether the package of this baseline is installed. Raises UserError when it is not, and was `asked_for` by name.

    Checked before the texts are read, which may take minutes.
    """
    try:
        if package := PACKAGES.get(name.partition("_")[0]):
            require(package, name)
    except UserError as error:
        if asked_for:
            raise
        print(f"{name} is left out: {error}")
        return False
    return True


def linear(kind: str, rows: Any, seed: int) -> dict[str, Any]:
    """A linear model on TF-IDF; the seconds to train are of all strengths that were tried."""
    from bilm.baselines.tfidf import fit_tfidf

    started = time.perf_counter()
    model, accuracies = fit_tfidf(kind, rows.texts, rows.labels, rows.training, rows.validation, seed)
    fitted = time.perf_counter()
    classes = model.predict(rows.of(rows.test))
    return {
        "validation_accuracy": max(accuracies.values()),
        "validation_accuracy_by_strength": accuracies,
        "seconds_to_train": round(fitted - started, 1),
        "seconds_to_classify": round(time.perf_counter() - fitted, 2),
        "classes": " ".join(map(str, classes.tolist())),
    }


def on_words(rows, ledger, seed, width, shape, fitting, runtime, num_classes) -> dict[str, Callable]:
    """What makes each baseline that reads words of the same vocabulary as the language model's."""
    from bilm.baselines.fasttext import fit_fasttext
    from bilm.baselines.word_vectors import skip_gram, svd_vectors
    from bilm.config import TokenizerConfig
    from bilm.modules.static_encoder import StaticEncoder
    from bilm.text.tokenizer import Tokenizer
    from studies.dataset import words_of
    from studies.runner import Study

    vocabulary, encoded = words_of(rows)
    study = Study(rows, encoded, num_classes, shape, fitting, ledger, runtime.device, runtime.autocast)

    def fasttext() -> dict[str, Any]:
        started = time.perf_counter()
        words = list(map(Tokenizer(TokenizerConfig()), rows.texts))
        classify, accuracies = fit_fasttext(words, rows.labels, rows.training, rows.validation, ledger.folder, seed)
        fitted = time.perf_counter()
        found = classify(rows.test)
        return {
            "validation_accuracy": max(accuracies.values()),
            "validation_accuracy_by_rate": accuracies,
            "seconds_to_train": round(fitted - started, 1),  # of all rates
            "seconds_to_classify": round(time.perf_counter() - fitted, 2),
            "classes": " ".join(map(str, found.tolist())),
        }

    def random() -> dict[str, Any]:
        encoder = StaticEncoder.random(len(vocabulary), width, seed)
        return study.classifier("random", encoder, "trainable", seed, encoder_rate=fitting.learning_rate)

    def static(name: str, vectors_of: Callable, window: int) -> dict[str, Any]:
        started = time.perf_counter()
        encoder = StaticEncoder(vectors_of(encoded, rows.training, len(vocabulary), width, seed=seed, window=window))
        seconds = time.perf_counter() - started
        part = study.classifier(name, encoder, "trainable", seed)
        return {**part, "window": window, "width": width, "seconds_for_vectors": round(seconds, 1)}

    kinds = (("svd", svd_vectors), ("word2vec", skip_gram))
    made: dict[str, Callable] = {"fasttext": fasttext, "random": random}
    for kind, vectors_of in kinds:
        for window in WINDOWS:
            made[f"{kind}_{window}"] = partial(static, f"{kind}_{window}", vectors_of, window)
    return made


if __name__ == "__main__":
    run_script(main)
