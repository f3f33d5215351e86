"""Learn the hybrid classifier: a linear SVM on TF-IDF features beside pooled vectors of a fixed language model.

Which features it reads besides words, and the strength C of the SVM, is chosen on validation rows or by
cross-validation. What is answered there also gives the temperature, and an estimate of the accuracy on new texts.
The vectors are reduced to principal components of variance 1: with these the SVM takes a tenth of the time and is as
accurate (docs/log.md).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from bilm.modules.encoder import Encoder
from bilm.modules.hybrid import HybridClassifier, HybridConfig, pooled_vectors
from bilm.runtime.errors import UserError
from bilm.runtime.terminal import progress
from bilm.text.batching import Batch
from bilm.text.word_features import WordFeatures, Words
from bilm.training.calibration import best_temperature

# Training rows, and rows to validate on: int64 each.
Split = tuple[np.ndarray, np.ndarray]
# What is tried; of equally accurate choices the first one is taken.
PARTS: tuple[tuple[str, ...], ...] = (
    ("words",),
    ("words", "vectors"),
    ("words", "pieces"),
    ("words", "pieces", "vectors"),
)
STRENGTHS = (1.0, 3.0, 0.3, 10.0, 0.1)
COMPONENTS = 100
SMALLEST = 1e-6  # variance of a component, relative to the first
# Logit of a class without a training row.
_NEVER = -1e4


@dataclass(frozen=True)
class Choice:
    """What validation found.

    parts: one of PARTS; strength: one of STRENGTHS; accuracies: of all that was tried, by (parts, strength); logits: of
    the best, for the rows that were validated on, fp64 (N, C), not scaled; NaN in other rows.
    """

    parts: tuple[str, ...]
    strength: float
    accuracies: dict[tuple[tuple[str, ...], float], float]
    logits: np.ndarray

    @property
    def accuracy(self) -> float:
        return self.accuracies[self.parts, self.strength]


@dataclass(frozen=True)
class HybridTrainer:
    """words: of each text; vectors: pooled_vectors of some layers, fp32 (N, D); labels: int64 (N,), below C."""

    words: Words
    vectors: np.ndarray
    labels: np.ndarray
    num_classes: int
    seed: int

    def choose(self, splits: Sequence[Split]) -> Choice:
        """Try all on each split. Raises UserError as `fit`."""
        tried = [(parts, strength) for parts in PARTS for strength in STRENGTHS]
        logits = {key: np.full((len(self.labels), self.num_classes), np.nan) for key in tried}
        bar = progress(total=len(splits) * len(tried), unit="fit", label="choosing features")
        with bar:
            for training, validation in splits:
                features = _Features(*self._rows(training))
                new = features.compute(*self._rows(validation))
                for parts in PARTS:
                    known, unknown = (sparse.hstack([f[p] for p in parts], format="csr") for f in (features.known, new))
                    for strength in STRENGTHS:
                        weights, biases = self._fit_linear(known, self.labels[training], strength)
                        logits[parts, strength][validation] = unknown @ weights + biases
                        bar.update()
        rows = np.concatenate([validation for _, validation in splits])
        accuracies = {
            key: float((values[rows].argmax(1) == self.labels[rows]).mean()) for key, values in logits.items()
        }
        best = max(tried, key=accuracies.__getitem__)
        return Choice(*best, accuracies, logits[best])

    def fit(self, rows: np.ndarray, choice: Choice, encoder: Encoder, layers: Sequence[int]) -> HybridClassifier:
        """Fit on `rows`, int64. layers: the numbers of those in `vectors`.

        Raises UserError for rows of a single class, or without words.
        """
        features = _Features(*self._rows(rows))
        known = sparse.hstack([features.known[part] for part in choice.parts], format="csr")
        weights, biases = self._fit_linear(known, self.labels[rows], choice.strength)
        ends = np.cumsum([features.known[part].shape[1] for part in choice.parts])
        of_part = dict(zip(choice.parts, np.split(weights, ends[:-1]), strict=True))
        terms = {kind: features.words[kind].terms if kind in of_part else () for kind in features.words}
        used = tuple(layers) if "vectors" in of_part else ()
        model = HybridClassifier(HybridConfig(terms["words"], terms["pieces"], used), encoder, self.num_classes)
        state = {f"{kind}_idf": features.words[kind].idf for kind in features.words if kind in of_part}
        if used:
            of_part["vectors"], biases = features.of_vectors(of_part["vectors"], biases)
        state |= {f"weights.{part}": values for part, values in of_part.items()} | {"bias": biases}
        validated = ~np.isnan(choice.logits[:, 0])
        state["temperature"] = np.array(best_temperature(choice.logits[validated], self.labels[validated]))
        tensors = {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in state.items()}
        model.load_state_dict(model.state_dict() | tensors)
        return model.requires_grad_(False).eval()

    def _rows(self, rows: np.ndarray) -> tuple[Words, np.ndarray]:
        return [self.words[i] for i in rows], self.vectors[rows]

    def _fit_linear(self, features: sparse.csr_matrix, labels: np.ndarray, C: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights (F, C) and biases (C,) of a linear SVM for each class against the rest."""
        if len(set(labels.tolist())) < 2:
            raise UserError(f"these {len(labels)} rows are all of one class; a classifier needs two.")
        # With the default tolerance, 1e-4, a fit takes twice the time, for the same accuracy.
        svm = LinearSVC(C=C, tol=1e-2, random_state=self.seed % 2**32).fit(features, labels)
        signs = np.array([-1.0, 1.0]) if len(svm.classes_) == 2 else np.ones(len(svm.classes_))
        weights, biases = np.zeros((features.shape[1], self.num_classes)), np.full(self.num_classes, _NEVER)
        weights[:, svm.classes_], biases[svm.classes_] = svm.coef_.T * signs, svm.intercept_ * signs
        return weights, biases


class _Features:
    """TF-IDF features, and principal components of the vectors, learned from some rows; known: those of these rows."""

    def __init__(self, words: Words, vectors: np.ndarray):
        self.words = {kind: WordFeatures(kind) for kind in ("words", "pieces")}
        with _trainable(len(words)):
            self.known = {kind: features.learn(words) for kind, features in self.words.items()}
        self.scaler = StandardScaler().fit(vectors)
        pca = PCA(min(COMPONENTS, *vectors.shape), random_state=0)
        with np.errstate(invalid="ignore"):  # 0 / 0, where all vectors are equal
            pca.fit(self.scaler.transform(vectors))
        # Components without variance, as those of few or of equal texts, would be scaled up to noise.
        variances = pca.explained_variance_[pca.explained_variance_ > SMALLEST * pca.explained_variance_[0]]
        # Scaled so that a text has a norm near 1, as it has in the features of words.
        self.basis = pca.components_[: len(variances)] / np.sqrt(variances * len(variances))[:, None]
        self.known["vectors"] = self._components(vectors)

    def compute(self, words: Words, vectors: np.ndarray) -> dict[str, sparse.csr_matrix]:
        """The features of other rows, by part."""
        return {kind: f.compute(words) for kind, f in self.words.items()} | {"vectors": self._components(vectors)}

    def of_vectors(self, weights: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (components, C) and biases (C,) -> those for the vectors themselves: (D, C) and (C,)."""
        result = self.basis.T @ weights / self.scaler.scale_[:, None]
        return result, biases - self.scaler.mean_ @ result

    def _components(self, vectors: np.ndarray) -> sparse.csr_matrix:
        return sparse.csr_matrix(self.scaler.transform(vectors) @ self.basis.T)


@torch.no_grad()
def pool_texts(
    encoder: Encoder,
    layers: Sequence[int],
    batches: Iterable[Batch],
    num_texts: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> np.ndarray:
    """Return pooled_vectors of these layers, fp32 (num_texts, D), by row of the text."""
    vectors = np.zeros((num_texts, 2 * len(layers) * encoder.output_dim), dtype=np.float32)
    for batch in batches:
        with autocast():
            outputs = encoder.encode(batch.to(device))
        vectors[batch.rows] = pooled_vectors([outputs[j] for j in layers], batch).cpu().numpy()
    return vectors


@contextmanager
def _trainable(rows: int) -> Iterator[None]:
    """Turn what scikit-learn cannot learn from into a UserError."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"a hybrid classifier cannot be trained on these {rows} rows: {error}") from error
