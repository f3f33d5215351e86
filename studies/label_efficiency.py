"""How few labels suffice: test accuracy by the number of labelled descriptions per class.

    python -m studies.label_efficiency            -> results/label_efficiency.json, results/figures/label_efficiency.png
    python -m studies.label_efficiency --resume   continue after Ctrl-C or a crash

    tfidf                linear SVM on words and pairs of words
    svd, word2vec, elmo  logistic regression on the mean vector of a text: of SVD, of skip-gram, of ELMo's e1 and e2
    elmo_self_training   the same as elmo; unlabelled texts with the most confident predictions join the labelled ones
    word2vec_classifier, elmo_classifier    the classifier of classification.py with trainable lambdas
    elmo_finetune        the same, and the language model is trained too

Vectors and TF-IDF weights are learned from all training descriptions, without labels. The C of each linear model
and what a word of TF-IDF is are chosen on the validation rows, once for all draws of a size; so is the best epoch of
each classifier.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bilm.cli.options import EncoderOptions, ResumeOptions, RunOptions
from bilm.cli.run import Run, open_run
from bilm.runtime.errors import UserError
from bilm.runtime.optional_packages import require
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path
from bilm.runtime.process import run_script
from studies import CLASSIFIER, FIT

if TYPE_CHECKING:
    import numpy as np

    from bilm.checkpoints.model_format import Pretrained
    from bilm.modules.static_encoder import StaticEncoder
    from bilm.text.vocabulary import EncodedTexts
    from bilm.training.layer_cache import LayerCache
    from studies.dataset import LabelledTexts
    from studies.runner import Study, StudyProgress

SIZES = (25, 50, 100, 250, 1000, 5000)
ALL = "all"
# From this number of labels per class on, draws hardly differ, and classifiers are trained in addition to regressions.
MANY, DRAWS_OF_MANY = 1000, 3
# Values of C to choose from, for vectors of variance 1. Those of TF-IDF: bilm/baselines/tfidf.py.
C_VALUES = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
C_VALUES_OF_SELF_TRAINING = (0.001, 0.003, 0.01)
CLASSIFIERS = ("word2vec_classifier", "elmo_classifier", "elmo_finetune")
# Unlabelled texts for self-training: more of them take longer without a measurable gain.
UNLABELLED = 15_000
WINDOW = 5
ENCODER_LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class DrawOptions:
    """Repetitions."""

    draws: int = setting(10, "random draws of labelled rows for each size below 1,000; above: 3", at_least=2)


@dataclass(frozen=True)
class Options:
    """All options of this study, by group."""

    run: RunOptions = RunOptions()
    resume: ResumeOptions = ResumeOptions()
    encoder: EncoderOptions = EncoderOptions()
    draws: DrawOptions = DrawOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, arguments=arguments)
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.checkpoints.model_format import load_bilm
    from bilm.evaluation.tables import table
    from studies.dataset import read_labelled
    from studies.runner import has_settings, open_progress, write_study

    require("gensim", "Word2Vec")
    run = open_run(options.run, "evaluation", single_process=True)
    pretrained = load_bilm(options.encoder.file(options.run, run.folders.models / "bilstm.pt"))
    rows = read_labelled(run.corpus, options.run.limit)
    sizes, num_classes = sizes_of(rows)
    path = run.folders.results / "label_efficiency.json"
    settings = run.settings(options.draws, CLASSIFIER, FIT, bilm=pretrained.hash, **rows.hashes)
    progress = open_progress(run, options.resume, "label_efficiency", settings, has_settings(path, settings))
    if progress is None:
        print(f"{display_path(path)} has results with these settings; skipped. Next: python -m studies.report")
        return
    methods = Methods.prepare(run, rows, pretrained, progress, options.run.seed)
    by_size: dict[str, dict[str, Any]] = {}
    for size in (*sizes, None):
        key = ALL if size is None else str(size)
        draws = draw_rows(rows, size, options)
        by_size[key] = {}
        for name in methods.names(size):
            label = f"{name}, {key} labels a class"
            by_size[key][name] = progress.part(label, partial(methods.evaluate, name, label, draws))
    result = {
        **run.stamp(),
        "rows_trained": pretrained.info["rows_trained"],
        "rows_without_label": len(methods.unlabelled),
        "draws": options.draws.draws,
        "bilm": pretrained.hash,
        "settings": settings,
        "labels_per_class": by_size,
        "rows_of_all": len(rows.training),
        "classes": num_classes,
    }
    write_study(path, result)
    progress.close()
    picture = draw_figure(run, result)
    lines = []
    for name in (*methods.features, *CLASSIFIERS):
        entries = [by_size[size].get(name) for size in by_size]
        lines.append([name, *("" if entry is None else f"{entry['test_accuracy']:.4f}" for entry in entries)])
    print(f"\n{table(lines, ['test accuracy by labels a class', *by_size])}")
    print(f"\nWrote {display_path(path)} and {display_path(picture)}. Next: python -m studies.report")


def sizes_of(rows: LabelledTexts) -> tuple[list[int], int]:
    """The numbers of labels per class for which there are enough rows, and the number of classes.

    Raises UserError if there are too few rows or classes.
    """
    import numpy as np

    classes, counts = np.unique(rows.labels[rows.training], return_counts=True)
    sizes = [size for size in SIZES if size < counts.min()]
    if len(classes) < 2 or not sizes:
        raise UserError(f"this study needs at least two classes, and more than {SIZES[0]} training rows of each.")
    return sizes, len(classes)


def draw_rows(rows: LabelledTexts, size: int | None, options: Options) -> list[np.ndarray]:
    """Random sets of `size` labelled rows per class, int64; all rows for None."""
    from bilm.baselines.self_training import draw

    if size is None:
        return [rows.training]
    count = options.draws.draws if size < MANY else min(options.draws.draws, DRAWS_OF_MANY)
    return [draw(rows.labels, rows.training, size, options.run.seed + n) for n in range(count)]


def draw_figure(run: Run, result: dict[str, Any]) -> Any:
    """Draw results/figures/label_efficiency.png; returns its path."""
    from bilm.evaluation.figures import save
    from bilm.evaluation.summary import read_summary
    from studies.figures import label_efficiency

    summary = read_summary(run.folders.results / "summary.json")
    of_this_model = summary.get("bilm") == result["bilm"]
    finetuned = summary["classifiers"].get("finetune", {}).get("accuracy_mean") if of_this_model else None
    path = run.folders.results / "figures" / "label_efficiency.png"
    save(label_efficiency(result, finetuned), path)
    return path


@dataclass(frozen=True)
class Methods:
    """The methods that are compared, with what they read.

    study: trains classifiers on ELMo; words: the texts as ids for word vectors; word2vec: their vectors; features: by
    method, the features of all texts (N, D) for a linear model, for `tfidf` by its kind of words; unlabelled: rows for
    self-training, int64.
    """

    study: Study
    encoder: Any
    cache: LayerCache | None
    words: EncodedTexts
    word2vec: StaticEncoder
    features: dict[str, Any]
    unlabelled: np.ndarray
    seed: int

    @classmethod
    def prepare(
        cls, run: Run, rows: LabelledTexts, pretrained: Pretrained, progress: StudyProgress, seed: int
    ) -> Methods:
        """Compute all vectors; this reads every text several times."""
        import numpy as np

        from bilm.baselines.tfidf import WORDS, word_weights
        from bilm.baselines.word_vectors import skip_gram, svd_vectors
        from bilm.modules.static_encoder import StaticEncoder
        from studies.dataset import words_of
        from studies.runner import Study

        encoder, encoded = pretrained.model.to(run.device), pretrained.vocabulary.encode(rows.texts)
        vocabulary, words = words_of(rows)
        inputs = (words, rows.training, len(vocabulary), encoder.output_dim)
        svd = StaticEncoder(svd_vectors(*inputs, seed=seed, window=WINDOW)).to(run.device)
        word2vec = StaticEncoder(skip_gram(*inputs, seed=seed, window=WINDOW)).to(run.device)
        training = rows.of(rows.training)
        weighted = {words: word_weights(words).fit(training).transform(rows.texts) for words in WORDS}
        features: dict[str, Any] = {"tfidf": weighted}
        features["svd"] = mean_vectors(run, svd, words, rows.training, "vectors of svd")
        features["word2vec"] = mean_vectors(run, word2vec, words, rows.training, "vectors of word2vec")
        features["elmo"] = mean_vectors(run, encoder, encoded, rows.training, "vectors of elmo")
        features["elmo_self_training"] = features["elmo"]
        unlabelled = np.random.default_rng(seed).permutation(rows.training)[:UNLABELLED]
        study = Study(run, rows, encoded, progress, CLASSIFIER, FIT)
        return cls(study, encoder, run.cache_layers(encoder, encoded), words, word2vec, features, unlabelled, seed)

    def names(self, size: int | None) -> list[str]:
        """The methods for this number of labels per class; finetuning on all of them is `--mode finetune`."""
        if size is not None and size < MANY:
            return list(self.features)
        names = [name for name in (*self.features, *CLASSIFIERS) if name != "elmo_self_training"]
        return [name for name in names if size is not None or name != "elmo_finetune"]

    def evaluate(self, name: str, label: str, draws: list[np.ndarray]) -> dict[str, Any]:
        """The validation accuracy of a method, averaged over the draws of labelled rows, and its test accuracies."""
        if name == "tfidf":
            return self._choose_tfidf(draws)
        by_method: Callable = self._train_classifiers if name in CLASSIFIERS else self._choose_C
        return by_method(name, label, draws)

    def _choose_tfidf(self, draws: list[np.ndarray]) -> dict[str, Any]:
        from bilm.baselines.self_training import scores
        from bilm.baselines.tfidf import linear_model, search

        rows, test_accuracies = self.study.rows, {}

        def accuracy(words: str, C: float) -> float:
            x, scored = self.features["tfidf"][words], []
            for labelled in draws:
                model = linear_model("svm", C, self.seed).fit(x[labelled], rows.labels[labelled])
                scored.append(scores(model, x, rows.labels, (rows.validation, rows.test)))
            validation, test = zip(*scored, strict=True)
            test_accuracies[words, C] = list(test)
            return statistics.mean(validation)

        recipe = search("svm", accuracy)
        chosen = (recipe.words, recipe.C)
        figures = {"words": recipe.words, "strength": recipe.C, "validation_accuracy": recipe.accuracies[chosen]}
        return {**figures, **spread(test_accuracies[chosen])}

    def _choose_C(self, name: str, label: str, draws: list[np.ndarray]) -> dict[str, Any]:
        from bilm.baselines.self_training import choose_C, scores
        from bilm.runtime.terminal import progress

        rows, features = self.study.rows, self.features[name]
        values = C_VALUES_OF_SELF_TRAINING if name == "elmo_self_training" else C_VALUES
        pairs = [(C, labelled) for C in values for labelled in draws]
        scored = []
        for C, labelled in progress(pairs, total=len(pairs), unit="fit", label=label):
            model = self._fit_linear(name, features, labelled, C)
            scored.append((C, *scores(model, features, rows.labels, (rows.validation, rows.test))))
        C, validation, test = choose_C(scored)
        return {"strength": C, "validation_accuracy": validation, **spread(test)}

    def _fit_linear(self, name: str, features: Any, labelled: np.ndarray, C: float) -> Any:
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        from bilm.baselines.self_training import self_train

        labels = self.study.rows.labels
        if name == "elmo_self_training":
            return self_train(features, labels, labelled, np.setdiff1d(self.unlabelled, labelled), C)
        return LogisticRegression(C=C, max_iter=1000).fit(features[labelled], labels[labelled])

    def _train_classifiers(self, name: str, label: str, draws: list[np.ndarray]) -> dict[str, Any]:
        parts = []
        for n, labelled in enumerate(draws):
            part = f"{label}, draw {n + 1}"
            parts.append(self.study.progress.part(part, partial(self._train, name, part, labelled, self.seed + n)))
        validation = statistics.mean(part["validation_accuracy"] for part in parts)
        test = [part["test_accuracy"] for part in parts]
        return {"epochs": parts[0]["epochs"], "validation_accuracy": validation, **spread(test)}

    def _train(self, name: str, label: str, labelled: np.ndarray, seed: int) -> dict[str, Any]:
        # Fewer rows are read more often, up to 8 times; 20,000 and more as in the preset best.
        study = self.study.with_epochs(min(8, max(FIT.epochs, round(60_000 / len(labelled)))))
        if name == "elmo_finetune":
            encoder, rate = copy.deepcopy(self.encoder), ENCODER_LEARNING_RATE
            return study.classifier(label, encoder, "finetune", seed, training=labelled, encoder_learning_rate=rate)
        if name == "elmo_classifier":
            return study.classifier(label, self.encoder, "trainable", seed, training=labelled, cache=self.cache)
        study = study.with_texts(self.words)
        return study.classifier(label, self.word2vec, "trainable", seed, training=labelled)


def mean_vectors(run: Run, encoder: Any, texts: EncodedTexts, training: np.ndarray, label: str) -> np.ndarray:
    """The mean vector of each text on its principal components; without e0 of a language model, which adds nothing."""
    import numpy as np

    from bilm.baselines.self_training import project
    from bilm.evaluation.scoring import mean_layers
    from bilm.runtime.terminal import progress
    from bilm.text.batching import evaluation_batch_tokens, iterate_batches, plan_batches

    batch_tokens, rows = evaluation_batch_tokens(run.device), np.arange(len(texts))
    total = len(plan_batches(texts.lengths, batch_tokens))
    batches = progress(iterate_batches(texts, rows, batch_tokens), total=total, unit="batch", label=label)
    vectors = mean_layers(encoder, batches, len(texts), run.device, run.autocast)
    return project(vectors[:, 1:] if encoder.num_layers > 1 else vectors, training)


def spread(accuracies: list[float]) -> dict[str, Any]:
    """Mean and standard deviation of test accuracies."""
    return {
        "test_accuracy": statistics.mean(accuracies),
        "test_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "test_accuracies": accuracies,
    }


if __name__ == "__main__":
    run_script(main)
