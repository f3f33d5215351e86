"""Learn the hybrid classifier: a linear SVM on TF-IDF features, and on what a fixed language model reads.

The latter are TF-IDF features of clusters of tokens (training/token_clusters), and pooled vectors.

Each n-gram is scaled by its log-count ratio, as in the NB-SVM of Wang and Manning 2012, which needs fewer rows to learn
which n-grams tell the classes apart. The vectors are reduced to 100 principal components: with these the SVM takes a
tenth of the time and is as accurate (docs/log.md). Where there are texts without labels, these and LSA are learned from
them, too (training/hybrid_features).

By default the classifier reads all features, with C = DEFAULT_C (the inverse of the regularisation strength). Fewer
features or another C are chosen only if they are clearly better on validation rows or in cross-validation: on few rows,
the best of many candidates is often best by chance. The predictions for these rows, held out from fitting, also
determine the temperature, and their accuracy is the validation accuracy of the classifier.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from bilm.model_selection import is_clearly_better, search
from bilm.modules.encoder import Encoder
from bilm.modules.hybrid import HybridClassifier, HybridConfig, pooled_vectors
from bilm.modules.token_clusters import TokenClusters
from bilm.runtime.errors import UserError
from bilm.runtime.terminal import progress
from bilm.text.batching import Batch
from bilm.text.ngrams import NGRAMS, Words
from bilm.training.calibration import best_temperature
from bilm.training.hybrid_features import LSA, VECTORS, ByKind, Features, UnlabelledTexts

# Training rows, and rows to validate on: int64 each.
Split = tuple[np.ndarray, np.ndarray]
# The candidates, the default first. In each, n-grams come before other features: _fit_linear scales the first columns.
FEATURE_SETS: tuple[tuple[str, ...], ...] = (
    ("words", "characters", "clusters", "vectors"),
    ("words", "characters"),
    ("words", "clusters", "vectors"),
    ("words",),
)
# With texts without labels. LSA costs nothing where labels are many (docs/log.md).
FEATURE_SETS_WITH_LSA = ((*FEATURE_SETS[0], LSA), *FEATURE_SETS)
DEFAULT_C = 0.3
# Share of the texts from which on log-count ratios are smoothed by whole texts.
FULLY_SMOOTHED = 0.25
# Logit of a class without a training row.
_NEVER = -1e4


@dataclass(frozen=True)
class Choice:
    """The features and the C that validation chose.

    features: one of HybridTrainer.feature_sets; accuracies: of all that were tried, by (features, C);
    logits: those of the chosen model for held-out rows, fp64 (N, classes), at temperature 1; NaN in other rows.
    """

    features: tuple[str, ...]
    C: float
    accuracies: dict[tuple[tuple[str, ...], float], float]
    logits: np.ndarray

    @property
    def accuracy(self) -> float:
        return self.accuracies[self.features, self.C]


@dataclass(frozen=True)
class HybridTrainer:
    """words and clusters (see TokenClusters): of each text; vectors: pooled_vectors of some layers, fp32 (N, D).

    labels: int64 (N,), below num_classes; unlabelled: texts without labels, if there are any.
    """

    words: Words
    clusters: Words
    vectors: np.ndarray
    labels: np.ndarray
    num_classes: int
    seed: int
    unlabelled: UnlabelledTexts | None = None

    @property
    def feature_sets(self) -> tuple[tuple[str, ...], ...]:
        """The candidates, the default first."""
        return FEATURE_SETS_WITH_LSA if self.unlabelled else FEATURE_SETS

    def choose(self, splits: Sequence[Split]) -> Choice:
        """Search features and C by the accuracy over all splits. Raises UserError as `fit`.

        The best candidate is chosen only if it is clearly better than the default.
        """
        rows = np.concatenate([validation for _, validation in splits])
        computed = []
        with progress(splits, unit="fold", label="computing features") as folds:
            for training, validation in folds:
                learned = Features(*self._rows(training), self.unlabelled)
                computed.append((learned.of_labelled, learned.compute(*self._rows(validation))))
        logits: dict[tuple[tuple[str, ...], float], np.ndarray] = {}
        # The search usually ends after three values of C.
        bar = progress(total=3 * len(self.feature_sets) * len(splits), unit="fit", label="choosing features")

        def accuracy(features: tuple[str, ...], C: float) -> float:
            answers = []
            for (training, _), (of_training, of_validation) in zip(splits, computed, strict=True):
                weights, biases = self._fit_linear(of_training, features, training, C)
                answers.append(_matrix(of_validation, features) @ weights + biases)
                bar.total = max(bar.total, bar.n + 1)
                bar.update()
            logits[features, C] = np.concatenate(answers)
            return float((logits[features, C].argmax(1) == self.labels[rows]).mean())

        with bar:
            found = search(self.feature_sets, accuracy, DEFAULT_C)
        key, usual = (found.candidate, found.C), (self.feature_sets[0], DEFAULT_C)
        is_right = {k: logits[k].argmax(1) == self.labels[rows] for k in (key, usual)}
        if not is_clearly_better(is_right[key], is_right[usual]):
            key = usual
        chosen = np.full((len(self.labels), self.num_classes), np.nan)
        chosen[rows] = logits[key]
        return Choice(*key, found.accuracies, chosen)

    def fit(
        self,
        rows: np.ndarray,
        choice: Choice,
        encoder: Encoder,
        layers: Sequence[int],
        token_clusters: TokenClusters,
    ) -> HybridClassifier:
        """Fit on `rows`, int64. layers: the numbers of those in `vectors`; token_clusters: what gave `clusters`.

        Raises UserError for rows of a single class, or without words.
        """
        learned = Features(*self._rows(rows), self.unlabelled)
        weights, biases = self._fit_linear(learned.of_labelled, choice.features, rows, choice.C)
        ends = np.cumsum([learned.of_labelled[kind].shape[1] for kind in choice.features])
        by_kind, biases = learned.fold(dict(zip(choice.features, np.split(weights, ends[:-1]), strict=True)), biases)
        ngrams = {kind: features for kind, features in learned.ngrams.items() if kind in by_kind}
        terms = {kind: ngrams[kind].terms if kind in ngrams else () for kind in NGRAMS}
        used = tuple(layers) if VECTORS in by_kind else ()
        sizes = token_clusters.sizes if "clusters" in by_kind else ()
        model = HybridClassifier(HybridConfig(**terms, layers=used, cluster_sizes=sizes), encoder, self.num_classes)
        state = {f"{kind}_idf": features.idf for kind, features in ngrams.items()}
        state |= {f"weights.{kind}": values for kind, values in by_kind.items()} | {"bias": biases}
        # Held-out rows, without those of folds whose training rows lacked a class.
        validated = (choice.logits > _NEVER / 2).all(1)
        state["temperature"] = np.array(best_temperature(choice.logits[validated], self.labels[validated]))
        tensors = {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in state.items()}
        model.load_state_dict(model.state_dict() | tensors)
        if sizes:
            model.token_clusters = token_clusters
        return model.requires_grad_(False).eval()

    def _rows(self, rows: np.ndarray) -> tuple[dict[str, Words], np.ndarray]:
        """The texts by kind of n-grams, and the vectors."""
        words, clusters = ([texts[i] for i in rows] for texts in (self.words, self.clusters))
        return {"words": words, "characters": words, "clusters": clusters}, self.vectors[rows]

    def _fit_linear(
        self, by_kind: ByKind, features: tuple[str, ...], rows: np.ndarray, C: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights (F, K) and biases (K,) of an NB-SVM for each of K classes against the rest.

        by_kind: the features of `rows`.
        """
        labels, matrix = self.labels[rows], _matrix(by_kind, features)
        classes = np.unique(labels).tolist()
        if len(classes) < 2:
            raise UserError(
                f"without the rows that are validated on, the other {len(labels)} rows are all of one class; a "
                "classifier needs two. Add texts of other classes."
            )
        num_ngrams = sum(by_kind[kind].shape[1] for kind in features if kind in NGRAMS)
        occurs = matrix[:, :num_ngrams] > 0
        weights, biases = np.zeros((matrix.shape[1], self.num_classes)), np.full(self.num_classes, _NEVER)
        # Of two classes, one is the rest.
        for label in classes if len(classes) > 2 else classes[1:]:
            scale = np.ones(matrix.shape[1])
            scale[:num_ngrams] = log_count_ratios(occurs, labels == label)
            # With the default tolerance, 1e-4, a fit takes twice the time, for the same accuracy.
            svm = LinearSVC(C=C, tol=1e-2, random_state=self.seed % 2**32)
            with warnings.catch_warnings():
                # One that has not converged is judged by its validation accuracy, like the others.
                warnings.simplefilter("ignore", ConvergenceWarning)
                svm.fit(matrix @ sparse.diags(scale), labels == label)
            weights[:, label], biases[label] = svm.coef_[0] * scale, svm.intercept_[0]
        if len(classes) == 2:
            weights[:, classes[0]], biases[classes[0]] = -weights[:, classes[1]], -biases[classes[1]]
        return weights, biases


def log_count_ratios(occurs: sparse.csr_matrix, in_class: np.ndarray) -> np.ndarray:
    """Of each n-gram, how much more often it occurs in texts of a class than in others: fp64 (F,).

    log of p / q, where p and q are the shares of the texts in the class and of the others, each with one text more that
    has the n-gram and one that has not. On a side with less than a quarter of the texts these are fractions of a text,
    in proportion: with whole ones, all rare n-grams would seem to be those of the smaller side, and with 77 classes
    five points of accuracy were lost (docs/log.md). occurs: bool (N, F); in_class: bool (N,).
    """
    shares = []
    for side in (in_class, ~in_class):
        added = min(1.0, side.sum() / (~side).sum() * (1 - FULLY_SMOOTHED) / FULLY_SMOOTHED)
        shares.append((occurs[side].sum(0) + added) / (side.sum() + 2 * added))
    return np.asarray(np.log(shares[0]) - np.log(shares[1])).ravel()


def _matrix(by_kind: ByKind, features: Sequence[str]) -> sparse.csr_matrix:
    return sparse.hstack([by_kind[kind] for kind in features], format="csr")


@torch.no_grad()
def read_layers(
    encoder: Encoder,
    layers: Sequence[int],
    token_clusters: TokenClusters,
    batches: Iterable[Batch],
    num_texts: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[Words, np.ndarray]:
    """Return the clusters of each text, and pooled_vectors of these layers, fp32 (num_texts, D), by row of the text."""
    vectors = np.zeros((num_texts, 2 * len(layers) * encoder.output_dim), dtype=np.float32)
    clusters: list[list[str]] = [[] for _ in range(num_texts)]
    for batch in batches:
        with autocast():
            outputs = encoder.encode(batch.to(device))
        vectors[batch.rows] = pooled_vectors([outputs[j] for j in layers], batch).cpu().numpy()
        for row, names in zip(batch.rows, token_clusters(outputs, batch.lengths.tolist()), strict=True):
            clusters[row] = names
    return clusters, vectors
