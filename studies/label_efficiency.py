"""How few labels suffice: accuracy on test by the number of labelled descriptions a class.

    python -m studies.label_efficiency            -> results/label_efficiency.json, results/figures/label_efficiency.png
    python -m studies.label_efficiency --resume   go on after Ctrl-C or a crash

    tfidf                linear SVM on words and pairs of words
    svd, word2vec, elmo  logistic regression on the mean vector of a text: of SVD, of skip-gram, of ELMo's e1 and e2
    elmo_self_training   the same as elmo; the texts it is surest of join the labelled ones
    word2vec_classifier, elmo_classifier    the classifier of classification.py, lambdas trainable
    elmo_finetune        the same, and the language model learns along

Vectors and counts are of all training descriptions, without labels. The strength of each regression is chosen on the
validation rows, once for all draws of a size; so is the best epoch of each classifier.
"""

import copy
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bilm.cli.options import EncoderOptions, ResumeOptions, RunOptions
from bilm.cli.run import decide_action, start
from bilm.config import CLASSIFICATION, ClassifierConfig, FitConfig
from bilm.runtime.errors import UserError
from bilm.runtime.files import write_json
from bilm.runtime.optional import require
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path, folders
from bilm.runtime.process import run_script
from bilm.runtime.provenance import run_settings, run_stamp

SIZES = (25, 50, 100, 250, 1000, 5000)
ALL = "all"
# From so many labels a class on, draws hardly differ; and classifiers that learn more than a regression are tried.
MANY, DRAWS_OF_MANY = 1000, 3
# C of the linear models to choose from: of vectors of variance 1, and of TF-IDF, whose texts are of length 1.
STRENGTHS, STRENGTHS_TFIDF = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0), (0.1, 1.0, 10.0)
STRENGTHS_SELF_TRAINING = (0.001, 0.003, 0.01)
# Texts without a label that self-training learns from: more of them take longer and add nothing that was seen.
UNLABELLED = 15_000
WINDOW = 5
CLASSIFIER = ClassifierConfig(dropout=CLASSIFICATION["best"]["dropout"])
FIT = FitConfig(epochs=CLASSIFICATION["best"]["epochs"], learning_rate=2e-3)
ENCODER_RATE = 1e-3


@dataclass(frozen=True)
class DrawOptions:
    """How often."""

    draws: int = setting(10, "random choices of the labelled rows, of each size below 1,000; of those 3", at_least=2)


def epochs_for(rows: int) -> int:
    """Fewer rows are read more often, up to 8 times; 20,000 and more as in preset best."""
    return min(8, max(FIT.epochs, round(60_000 / rows)))


def main() -> None:
    run, again, standing, options = parse_options(__doc__, RunOptions, ResumeOptions, EncoderOptions, DrawOptions)
    # Imported once the command line is understood: torch takes seconds, and --help needs none of it.
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    from bilm.baselines.self_training import choose_strength, draw, project, scores, self_train
    from bilm.baselines.tfidf import word_weights
    from bilm.baselines.word_vectors import skip_gram, svd_vectors
    from bilm.checkpoints.pretrained import load_bilm
    from bilm.evaluation.figures import save
    from bilm.evaluation.scoring import mean_layers
    from bilm.evaluation.summary import read_summary
    from bilm.evaluation.tables import table
    from bilm.modules.static_encoder import StaticEncoder
    from bilm.runtime.process import at_end
    from bilm.runtime.terminal import progress
    from bilm.text.batching import iterate_batches, plan_batches
    from bilm.text.vocabulary import EncodedTexts
    from bilm.training.layer_cache import cache_layers
    from studies.dataset import read_labelled, words_of
    from studies.figures import label_efficiency as draw_label_efficiency
    from studies.runner import Study, StudyProgress, is_finished

    require("gensim", "Word2Vec")
    runtime = start(run)
    if runtime.processes > 1:
        raise UserError("this takes one process; call it without torchrun.")
    corpus = run.corpus()
    out = folders(run.output, corpus.name, run.limit)
    out.lock("evaluation")
    pretrained = load_bilm(standing.file(run, out.models / "bilstm.pt"))
    rows = read_labelled(corpus, run.limit)
    labels = rows.labels
    present, counted = np.unique(labels[rows.training], return_counts=True)
    sizes = [n for n in SIZES if n < counted.min()]
    if len(present) < 2 or not sizes:
        raise UserError(f"it takes two classes or more, and more than {SIZES[0]} training rows of each.")
    path = out.results / "label_efficiency.json"
    settings = run_settings(run, runtime, options, CLASSIFIER, FIT, bilm=pretrained.hash, **rows.hashes)
    unfinished = out.runs / "label_efficiency"
    todo = decide_action(unfinished, again, is_finished=lambda: is_finished(path, settings))
    if todo == "skip":
        print(f"{display_path(path)} is finished, with these settings. Next: python -m studies.report")
        return
    out.prepare()
    ledger = StudyProgress(unfinished, settings, restart=todo == "start")

    # --- what the methods read -----------------------------------------------------------------------------------
    encoder, encoded = pretrained.model.to(runtime.device), pretrained.vocabulary.encode(rows.texts)
    vocabulary, in_words = words_of(rows)
    learned = (in_words, rows.training, len(vocabulary), encoder.output_dim)
    static = {
        "svd": StaticEncoder(svd_vectors(*learned, seed=run.seed, window=WINDOW)).to(runtime.device),
        "word2vec": StaticEncoder(skip_gram(*learned, seed=run.seed, window=WINDOW)).to(runtime.device),
    }

    def vectors_of(source: Any, texts: EncodedTexts, label: str) -> np.ndarray:
        """The mean vector of each text, without e0 of a language model: its words alone add nothing to e1 and e2."""
        total, everything = len(plan_batches(texts.lengths, 8192)), np.arange(len(texts))
        batches = progress(iterate_batches(texts, everything, 8192), total=total, unit="batch", label=label)
        found = mean_layers(source, batches, len(texts), runtime.device, runtime.autocast)
        return project(found[:, 1:] if source.num_layers > 1 else found, rows.training)

    read: dict[str, Any] = {"tfidf": word_weights().fit(rows.of(rows.training)).transform(rows.texts)}
    read |= {name: vectors_of(source, in_words, f"vectors of {name}") for name, source in static.items()}
    read["elmo"] = read["elmo_self_training"] = vectors_of(encoder, encoded, "vectors of elmo")
    unlabelled = np.random.default_rng(run.seed).permutation(rows.training)[:UNLABELLED]

    # --- methods -------------------------------------------------------------------------------------------------
    def regression(name: str, chosen: np.ndarray, strength: float) -> Any:
        x = read[name]
        if name == "tfidf":
            return LinearSVC(C=strength, random_state=run.seed % 2**32).fit(x[chosen], labels[chosen])
        if name == "elmo_self_training":
            return self_train(x, labels, chosen, np.setdiff1d(unlabelled, chosen), strength)
        return LogisticRegression(C=strength, max_iter=1000).fit(x[chosen], labels[chosen])

    def by_strength(name: str, label: str, draws: list[np.ndarray]) -> dict[str, Any]:
        own = {"tfidf": STRENGTHS_TFIDF, "elmo_self_training": STRENGTHS_SELF_TRAINING}
        pairs = [(strength, chosen) for strength in own.get(name, STRENGTHS) for chosen in draws]
        bar = progress(pairs, total=len(pairs), unit="fit", label=label)
        asked = (rows.validation, rows.test)
        scored = [(C, *scores(regression(name, chosen, C), read[name], labels, asked)) for C, chosen in bar]
        best, on_validation, on_test = choose_strength(scored)
        return {"strength": best, "validation_accuracy": on_validation, **spread(on_test)}

    study = Study(rows, encoded, len(corpus.classes), CLASSIFIER, FIT, ledger, runtime.device, runtime.autocast)
    cache = None
    if runtime.device.type == "cpu":
        cache = cache_layers(encoder, encoded, out.runs, math.inf, 8192, runtime.device, runtime.autocast)
        if cache is not None:
            at_end(cache.close)

    def train(name: str, label: str, chosen: np.ndarray, seed: int) -> dict[str, Any]:
        fitted = replace(study, fitting=replace(FIT, epochs=epochs_for(len(chosen))))
        if name == "elmo_finetune":
            source = copy.deepcopy(encoder)
            return fitted.classifier(label, source, "finetune", seed, training=chosen, encoder_rate=ENCODER_RATE)
        if name == "elmo_classifier":
            return fitted.classifier(label, encoder, "trainable", seed, training=chosen, cache=cache)
        fitted = replace(fitted, encoded=in_words)
        return fitted.classifier(label, static["word2vec"], "trainable", seed, training=chosen)

    def by_training(name: str, label: str, draws: list[np.ndarray]) -> dict[str, Any]:
        labelled = [(f"{label}, draw {n + 1}", chosen, run.seed + n) for n, chosen in enumerate(draws)]
        parts = [ledger.part(which, partial(train, name, which, *rest)) for which, *rest in labelled]
        validation = statistics.mean(part["validation_accuracy"] for part in parts)
        on_test = [part["test_accuracy"] for part in parts]
        return {"epochs": parts[0]["epochs"], "validation_accuracy": validation, **spread(on_test)}

    # --- all of them ---------------------------------------------------------------------------------------------
    methods: dict[str, Callable] = dict.fromkeys(read, by_strength)
    trained = ("word2vec_classifier", "elmo_classifier", "elmo_finetune")
    methods |= dict.fromkeys(trained, by_training)
    found: dict[str, dict[str, Any]] = {}
    for size in (*sizes, None):
        key, few = ALL if size is None else str(size), size is not None and size < MANY
        count = 1 if size is None else options.draws if few else min(options.draws, DRAWS_OF_MANY)
        seeds = range(run.seed, run.seed + count)
        draws = [rows.training if size is None else draw(labels, rows.training, size, seed) for seed in seeds]
        left_out = set(trained) if few else {"elmo_self_training"}
        if size is None:
            left_out.add("elmo_finetune")  # `classification.py --mode finetune` does that
        found[key] = {}
        for name, method in methods.items():
            if name not in left_out:
                label = f"{name}, {key} labels a class"
                found[key][name] = ledger.part(label, partial(method, name, label, draws))
    result = {
        "corpus": corpus.name,
        **run_stamp(run, runtime),
        "rows_trained": pretrained.info["rows_trained"],
        "rows_without_label": len(unlabelled),
        "draws": options.draws,
        "bilm": pretrained.hash,
        "settings": settings,
        "labels_per_class": found,
        "rows_of_all": len(rows.training),
        "classes": len(present),
    }
    write_json(path, result)
    ledger.close()
    finetuned = read_summary(out.results / "summary.json").get("classifiers", {}).get("finetune", {})
    picture = out.results / "figures" / "label_efficiency.png"
    save(draw_label_efficiency(result, finetuned.get("accuracy_mean")), picture)
    lines = [
        [name, *(f"{found[size][name]['test_accuracy']:.4f}" if name in found[size] else "" for size in found)]
        for name in methods
    ]
    print(f"\n{table(lines, ['test accuracy by labels a class', *found])}")
    print(f"\nWrote {display_path(path)} and {display_path(picture)}. Next: python -m studies.report")


def spread(accuracies: list[float]) -> dict[str, Any]:
    return {
        "test_accuracy": statistics.mean(accuracies),
        "test_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "test_accuracies": accuracies,
    }


if __name__ == "__main__":
    run_script(main)
