"""Train a classifier on your own texts, and compare it with TF-IDF.

    bilm fit news.csv --text-column text --label-column topic
    bilm fit train.csv --text-column text --label-column topic --test test.csv
    bilm fit few.csv --text-column text --label-column topic --unlabelled more.csv

The classifier is a linear SVM on TF-IDF of words, character n-grams and clusters of tokens, and on vectors of ELMo
(mode hybrid of classification.py); the language model stays as it is. TF-IDF with a linear SVM, as strong as validation
makes it, is trained on the same rows. Both are compared on rows that they were not trained on: by five-fold
cross-validation, or on a twentieth of the rows where that is a thousand or more; and on the test rows, if there are
any.

Texts of --unlabelled have no classes; where labels are few, the classifier learns from them which words occur in the
same contexts. At most 10,000 are used, a random choice. Those that also are in the training file or in --test are left
out; only where --unlabelled names the file of --test itself are its texts, without their classes, learned from. TF-IDF
learns from the labelled rows alone.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilm.cli.options import ModelOptions, RunOptions
from bilm.cli.run import Run, open_run
from bilm.cli.unlabelled import open_unlabelled, usable_rows
from bilm.config import HYBRID
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path
from bilm.runtime.process import quoted

if TYPE_CHECKING:
    import numpy as np

    from bilm.checkpoints.model_format import Pretrained
    from bilm.cli.hybrid import HybridResult
    from bilm.cli.unlabelled import UsableRows
    from bilm.text.corpus import Source
    from bilm.text.encoded_corpus import EncodedCorpus

BASELINE = "tfidf_svm"
# The duration is estimated by a trial on every tenth text; of fewer texts on a larger share, at least 100 of them.
TRIAL, TRIAL_AT_LEAST = 10, 100
# TF-IDF, which reads the labelled texts alone, takes about this share of the time of a hybrid classifier on these.
TFIDF_SHARE = 0.5


@dataclass(frozen=True)
class FitOptions:
    """The texts, and where to write."""

    train: tuple[str, ...] = setting(
        (), "file with texts and their classes: .csv, .tsv, .jsonl, .parquet", positional=True
    )
    text_column: str | None = setting(None, "column of the texts, by name or by number from 1")
    label_column: str | None = setting(None, "column of the classes, which may have any names")
    test: str | None = setting(None, "file with more such rows, to test on")
    unlabelled: str | None = setting(
        None, "file of texts without classes to learn from, too; one per line, or a column"
    )
    unlabelled_column: str | None = setting(
        None, "column of the texts in --unlabelled (default: that of --text-column)"
    )
    output: str | None = setting(
        None, "folder under which models/ and results/ are written (default: that of this repository)"
    )
    restart: bool = setting(False, "replace an earlier classifier on other rows or on another language model")
    seed: int = setting(0, "seed of everything random", below=2**62)

    def __post_init__(self) -> None:
        if self.train and not (self.text_column and self.label_column):
            raise UserError("name the columns: --text-column NAME --label-column NAME.")


@dataclass(frozen=True)
class Options:
    """All options of this command, by group."""

    fit: FitOptions = FitOptions()
    model: ModelOptions = ModelOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    from bilm.runtime.files import require_file, write_json

    options = parse_options(Options, __doc__, arguments=arguments, program="python -m bilm fit")
    if len(options.fit.train) != 1:
        raise UserError("name one file of texts.")
    require_file(options.fit.train[0])
    if options.fit.unlabelled:
        require_file(options.fit.unlabelled, "unlabelled")
    elif options.fit.unlabelled_column:
        raise UserError("--unlabelled-column is for --unlabelled.")
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.checkpoints.classifier_files import keep_best_classifier
    from bilm.checkpoints.model_format import load_bilm
    from bilm.cli.hybrid import find_splits, hybrid_path, hybrid_settings, is_labelled, train_hybrid
    from bilm.runtime.terminal import duration

    started, run = time.monotonic(), open_run(run_options(options), "training", single_process=True)
    pretrained = load_bilm(Path(options.model.bilm))
    source = find_source(run, options.fit, pretrained)
    # Read now, so that a mistake in the file is found before anything is trained.
    test_rows = list(run.corpus.source("test", None).rows()) if options.fit.test else []
    encoded, usable, notes = encode_rows(run, pretrained, source, test_rows)
    inputs = {"corpus": source.identity, "bilm": pretrained.hash} | ({"unlabelled": usable.identity} if usable else {})
    settings = hybrid_settings(run, **inputs)
    refuse_replacement(hybrid_path(run), settings, options.fit.restart)
    writes_best = is_folder_of(run.folders.models, pretrained)
    if writes_best:
        refuse_replacement_of_best(run.folders.models, pretrained, options.fit.restart)
    rows, num_splits = int(is_labelled(encoded).sum()), len(find_splits(encoded, source.classes))
    run.folders.prepare()
    seconds = estimate_seconds(run, pretrained, encoded, len(source.classes), num_splits)
    print(f"{rows:,} texts of {len(source.classes)} classes; this takes about {duration(seconds)}.", flush=True)
    print("".join(f"{note}\n" for note in notes), end="", flush=True)
    info = run.training_info(source, rows, rows, settings)
    info |= {"unlabelled_are_test_rows": usable.are_test_rows} if usable else {}
    result = train_hybrid(run, pretrained, encoded, source.classes, info)
    figures = compare(run, result, pretrained, encoded.labels[:rows], replace(source, unlabelled=None), test_rows)
    figures["seconds"] = round(time.monotonic() - started, 1)
    path = run.folders.results / "fit.json"
    kept = ("rows_trained", "rows_unlabelled", "unlabelled_are_test_rows")
    figures = {key: result.info[key] for key in kept if key in result.info} | figures
    write_json(path, run.stamp() | figures)
    if writes_best:
        keep_best_classifier(run.folders.models, pretrained, HYBRID)
    print(f"\n{verdict(figures)}\nWrote {display_path(path)}. Classify with it:\n  {use(options, result.path)}")


def find_source(run: Run, fit: FitOptions, pretrained: "Pretrained") -> "Source":
    """The labelled rows, and the texts without classes, if any. Raises UserError."""
    from bilm.text.custom_dataset import NoClass

    try:
        source = run.corpus.source("train", None)
    except NoClass as error:
        raise UserError(f"{error} Or move such rows to a file of their own: --unlabelled FILE.") from error
    if not fit.unlabelled:
        return source
    column, default = fit.unlabelled_column, fit.text_column
    if default and default.isdecimal() and fit.label_column and not fit.label_column.isdecimal():
        default = None  # a number there, beside a name, but here it would mean that there is no header
    unlabelled = open_unlabelled(fit.unlabelled, column, default, pretrained.vocabulary.tokenizer)
    return replace(source, unlabelled=unlabelled)


def encode_rows(
    run: Run, pretrained: "Pretrained", source: "Source", test_rows: "Sequence[tuple[int, str]]"
) -> tuple["EncodedCorpus", "UsableRows | None", list[str]]:
    """The rows to train on, those without classes last; the latter; what to tell the user of both. Raises UserError."""
    from bilm.cli.truncation import truncation_note
    from bilm.text.encoded_corpus import encode

    encoded = run.encode(lambda folder: encode(source, pretrained.vocabulary.opened(), folder))
    max_tokens, notes = pretrained.vocabulary.tokenizer.config.max_tokens, []
    if note := truncation_note(encoded.num_truncated, len(encoded), max_tokens):
        labelled = "those that have classes, all of them" if source.unlabelled else "all of them"
        notes.append(f"{note} TF-IDF, with which it is compared, reads {labelled}.")
    if repeated := count_repeated(encoded, test_rows):
        notes.append(
            f"Note: {repeated:,} of the {len(test_rows):,} texts to test on are in the training file, too; on new "
            "texts both models are less accurate than on these."
        )
    if not source.unlabelled:
        return encoded, None, notes
    usable = usable_rows(encoded, source.unlabelled, run.corpus.test, test_rows, run.options.seed)
    return usable.encoded, usable, [usable.note, *notes]


def count_repeated(encoded: "EncodedCorpus", test_rows: "Sequence[tuple[int, str]]") -> int:
    """The number of test texts that are also among the labelled training texts, by split.text_key."""
    import numpy as np

    from bilm.cli.hybrid import is_labelled
    from bilm.text.split import text_key

    keys = np.array([text_key(text) for _, text in test_rows], np.uint64)
    return int(np.isin(keys, encoded.keys[is_labelled(encoded)]).sum())


def refuse_replacement(path: Path, settings: dict[str, Any], restart: bool) -> None:
    """Raises UserError, unless with `restart`, if `path` has a classifier on other rows, labelled or not, or on another
    language model, or cannot be read; also with `restart`, if it is a folder."""
    from bilm.checkpoints.model_format import finished_settings
    from bilm.cli.earlier_runs import replacement_warning

    inputs = ("corpus", "bilm", "unlabelled")

    def read() -> dict[str, Any] | None:
        saved = finished_settings(path, "classifier")
        return None if saved is None else {name: saved.get(name) for name in inputs}

    warning = replacement_warning(path, read, {name: settings.get(name) for name in inputs})
    if warning and not restart:
        raise UserError(warning)


def refuse_replacement_of_best(folder: Path, pretrained: "Pretrained", restart: bool) -> None:
    """Raises UserError, unless with `restart`, if keep_best_classifier would replace a file that should be kept.

    In any case, if that is a folder.
    """
    from bilm.checkpoints.classifier_files import find_classifiers
    from bilm.cli.earlier_runs import unusable_warning

    files = find_classifiers(folder, pretrained)
    for path, error in files.in_place_of_best(folder, (HYBRID,)).items():
        warning = unusable_warning(path, error)  # raises UserError of a folder
        if not restart:
            raise UserError(warning)


def is_folder_of(folder: Path, pretrained: "Pretrained") -> bool:
    """Whether classifiers on this language model belong into the folder, or it has another one, with classifier.pt.

    Raises UserError if its bilstm.pt cannot be read.
    """
    from bilm.checkpoints.model_format import load_bilm

    own = folder / "bilstm.pt"
    return not own.exists() or load_bilm(own).hash == pretrained.hash


def run_options(options: Options) -> RunOptions:
    """The options of a training run on these texts, in the precision of `predict`."""
    fit, model = options.fit, options.model
    columns = {"text_column": fit.text_column, "label_column": fit.label_column}
    where = {"output": fit.output, "device": model.device, "precision": model.precision, "threads": model.threads}
    return RunOptions(train=fit.train[0], test=fit.test, **columns, **where, seed=fit.seed)  # type: ignore[arg-type]


def estimate_seconds(
    run: Run, pretrained: "Pretrained", encoded: "EncodedCorpus", num_classes: int, num_splits: int
) -> float:
    """Estimate how long training and comparison take, by a trial: vectors of some texts, and one fold of them."""
    import numpy as np

    from bilm.cli.hybrid import find_clusters, is_labelled, prepare_trainer

    labelled = is_labelled(encoded)
    counts = (int(labelled.sum()), len(labelled))
    of_labelled, of_all = (max(1, min(TRIAL, count // TRIAL_AT_LEAST)) for count in counts)
    rows = np.concatenate([np.flatnonzero(labelled)[::of_labelled], np.flatnonzero(~labelled)[::of_all]])
    started = time.monotonic()
    token_clusters = find_clusters(run, pretrained.model, encoded, rows)
    # Learned from a sample of the tokens, they take a few seconds, however many texts there are.
    of_clusters, started = time.monotonic() - started, time.monotonic()
    trainer = prepare_trainer(run, pretrained.model, encoded, num_classes, rows, token_clusters)
    of_vectors = time.monotonic() - started
    if len(set(trainer.labels.tolist())) > 1:
        every = np.arange(len(trainer.labels))
        trainer.choose([(every, every)])
    of_fold = time.monotonic() - started - of_vectors
    with_tfidf = 1 + TFIDF_SHARE * float(labelled.mean())
    return of_clusters + len(encoded) / len(rows) * (of_vectors + with_tfidf * num_splits * of_fold)


def compare(
    run: Run,
    result: "HybridResult",
    pretrained: "Pretrained",
    labels: "np.ndarray",
    source: "Source",
    test_rows: "Sequence[tuple[int, str]]",
) -> dict[str, Any]:
    """Train TF-IDF, and print and return the metrics of both on validation rows and on test rows; and the differences.

    labels: int64 (N,), of the rows of `source`; texts without classes are not for TF-IDF.

    Everything on validation rows is answered by models that were not trained on them; but features and C of both were
    chosen by these answers, and with folds the clusters of tokens are learned, without labels, from all rows.
    """
    import numpy as np

    from bilm.baselines import tfidf
    from bilm.checkpoints.model_format import load_classifier
    from bilm.inference.text_classifier import TextClassifier

    texts, seed = [text for _, text in source.rows()], run.options.seed
    recipe = tfidf.choose("svm", texts, labels, result.splits, seed)
    answers = np.zeros(len(texts), dtype=np.int64)
    for training, validation in result.splits:
        model = tfidf.fit(recipe, [texts[i] for i in training], labels[training], seed)
        answers[validation] = model.predict([texts[i] for i in validation])
    rows = np.concatenate([validation for _, validation in result.splits])
    by_model = {HYBRID: result.choice.logits[rows].argmax(1), BASELINE: answers[rows]}
    figures = {"validation": comparison(labels[rows], by_model, source.classes)}
    if test_rows:
        training = result.splits[0][0] if len(result.splits) == 1 else np.arange(len(texts))
        model = tfidf.fit(recipe, [texts[i] for i in training], labels[training], seed)
        actual, test_texts = zip(*test_rows, strict=True)
        classifier = TextClassifier([load_classifier(result.path, pretrained)], run.device, run.precision)
        of_test = {HYBRID: classifier.predict_proba(test_texts).argmax(1), BASELINE: model.predict(list(test_texts))}
        figures["test"] = comparison(np.array(actual), of_test, source.classes)
    print_table(figures)
    return {
        "tfidf": {"words": recipe.words, "strength": recipe.C},
        "validation_splits": len(result.splits),
        **figures,
    }


def comparison(labels: "np.ndarray", by_model: "dict[str, np.ndarray]", class_names: Sequence[str]) -> dict[str, Any]:
    """Metrics of each model, and McNemar's test; labels, and the classes that each model answers: int64 (N,)."""
    from bilm.metrics import classification_figures, mcnemar

    metrics = {name: classification_figures(labels, answers, list(class_names)) for name, answers in by_model.items()}
    return {**metrics, "paired": mcnemar(labels, by_model[HYBRID], by_model[BASELINE])}


def print_table(figures: dict[str, Any]) -> None:
    from bilm.evaluation.tables import table

    rows = [
        [name, *(figures[split][name][key] for split in figures for key in ("accuracy", "f1"))]
        for name in (HYBRID, BASELINE)
    ]
    print("\n" + table(rows, ["", *(f"{split} {key}" for split in figures for key in ("accuracy", "macro F1"))]))


def verdict(figures: dict[str, Any]) -> str:
    """Say which of the two is better, on test rows if there are any."""
    split = "test" if "test" in figures else "validation"
    paired, rows = figures[split]["paired"], figures[split][HYBRID]["rows"]
    low, high = (100 * x for x in paired["interval"])
    # The interval is an approximation; on few rows McNemar's test, which is exact, may not agree.
    better = "no difference from TF-IDF alone beyond chance"
    if paired["p"] < 0.05 and (low > 0 or high < 0):
        better = "the hybrid classifier is better than TF-IDF alone" if low > 0 else "TF-IDF alone is better"
    text = (
        f"On the {rows:,} {split} rows: {better}. Hybrid minus TF-IDF: {100 * paired['difference']:+.1f} points of "
        f"accuracy, 95 % interval {low:+.1f} to {high:+.1f}; p = {paired['p']:.2g} (McNemar's test)."
    )
    if "rows_unlabelled" in figures:
        which = ", which are those of --test" if figures["unlabelled_are_test_rows"] else ""
        text += f" Only hybrid has learned from texts without classes{which} ({figures['rows_unlabelled']:,})."
    return text


def use(options: Options, classifier: Path) -> str:
    """The command that classifies a text."""
    bilm = "" if options.model.bilm == ModelOptions.bilm else f" --bilm {quoted(options.model.bilm)}"
    return f'python -m bilm predict{bilm} --classifier {quoted(display_path(classifier))} "a text"'
