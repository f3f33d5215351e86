"""The features of the hybrid classifier, learned from labelled texts and, if there are any, from texts without labels.

Texts without labels add to what needs no labels: the n-grams of words and characters and their document frequencies,
the principal components of the vectors; and LSA (latent semantic analysis, Deerwester et al. 1990), the principal
components of those n-grams, in which texts with words of the same contexts are near to each other. N-grams of clusters
are counted in the labelled texts alone, with which they are as good.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.preprocessing import StandardScaler

from bilm.runtime.errors import UserError
from bilm.text.ngrams import NGRAMS, NgramFeatures, Words

# The features of some texts, by kind: n-grams, VECTORS and, with texts without labels, LSA.
ByKind = dict[str, sparse.csr_matrix]
VECTORS, LSA = "vectors", "lsa"
# The n-grams that LSA is of.
OF_LSA = ("words", "characters")
COMPONENTS = 100  # of the vectors, and of LSA
SMALLEST = 1e-6  # norm of the components of a text; smaller ones, as those of equal texts, are noise


@dataclass(frozen=True)
class UnlabelledTexts:
    """words: of M texts; vectors: hybrid.pooled_vectors of these, fp32 (M, D)."""

    words: Words
    vectors: np.ndarray


class Features:
    """What was learned from N labelled texts and those without labels; of_labelled: the features of the former."""

    def __init__(self, texts: Mapping[str, Words], vectors: np.ndarray, unlabelled: UnlabelledTexts | None):
        """texts: by kind of n-grams; vectors: fp32 (N, D). Raises UserError if no text has a word."""
        count, every = len(vectors), dict(texts)
        if unlabelled:
            every |= {kind: [*texts[kind], *unlabelled.words] for kind in OF_LSA}
            vectors = np.concatenate([vectors, unlabelled.vectors])
        self.ngrams = {kind: NgramFeatures(kind) for kind in NGRAMS}
        with _reject_untrainable_texts(count):
            matrices = {kind: features.learn(every[kind]) for kind, features in self.ngrams.items()}
        self.scaler = StandardScaler().fit(vectors)
        pca = PCA(min(COMPONENTS, *vectors.shape), random_state=0)
        with np.errstate(invalid="ignore"):  # 0 / 0, where all vectors are equal
            pca.fit(self.scaler.transform(vectors))
        # Scaled so that a text has a norm near 1, as it has in the n-grams of words.
        self.basis = pca.components_ / max(np.sqrt(pca.explained_variance_.sum()), SMALLEST)
        self.of_labelled: ByKind = {kind: matrix[:count] for kind, matrix in matrices.items()}
        self.of_labelled[VECTORS] = self._components(vectors[:count])
        self.lsa = _Lsa(_of_lsa(matrices)) if unlabelled else None
        if self.lsa:
            self.of_labelled[LSA] = self.lsa.compute(_of_lsa(self.of_labelled))

    def compute(self, texts: Mapping[str, Words], vectors: np.ndarray) -> ByKind:
        """The features of other texts."""
        result: ByKind = {kind: features.compute(texts[kind]) for kind, features in self.ngrams.items()}
        result[VECTORS] = self._components(vectors)
        return result | ({LSA: self.lsa.compute(_of_lsa(result))} if self.lsa else {})

    def fold(self, weights: Mapping[str, np.ndarray], biases: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Weights of features by kind, (F, C) each, and biases (C,) -> those of n-grams and of the vectors themselves.

        Principal components and LSA are linear, so that a text has the same logits.
        """
        result = dict(weights)
        if VECTORS in result:
            result[VECTORS] = self.basis.T @ result[VECTORS] / self.scaler.scale_[:, None]
            biases = biases - self.scaler.mean_ @ result[VECTORS]
        if LSA in result:
            assert self.lsa is not None
            of_ngrams, of_bias = self.lsa.fold(result.pop(LSA))
            bounds = np.cumsum([self.of_labelled[kind].shape[1] for kind in OF_LSA])[:-1]
            for kind, part in zip(OF_LSA, np.split(of_ngrams, bounds), strict=True):
                result[kind] = result[kind] + part
            biases = biases + of_bias
        return result, biases

    def _components(self, vectors: np.ndarray) -> sparse.csr_matrix:
        return sparse.csr_matrix(self.scaler.transform(vectors) @ self.basis.T)


class _Lsa:
    """The principal components of TF-IDF features without their mean: the latter is taken off in the components."""

    def __init__(self, features: sparse.csr_matrix):
        """features: of all texts, fp64 (N, F). The mean square norm of their components is 1."""
        # Exact, and faster than the randomized algorithm where F is in the hundreds of thousands.
        svd = TruncatedSVD(min(COMPONENTS, min(features.shape) - 1), algorithm="arpack", random_state=0)
        components = svd.fit(features).components_
        projected = features @ components.T
        self._mean = projected.mean(0)
        scale = 1 / max(np.sqrt(np.square(projected - self._mean).sum(1).mean()), SMALLEST)
        self._basis, self._mean = components * scale, self._mean * scale

    def compute(self, features: sparse.csr_matrix) -> sparse.csr_matrix:
        return sparse.csr_matrix(features @ self._basis.T - self._mean)

    def fold(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (components, C) -> weights of the features (F, C), and what they add to the biases (C,)."""
        return self._basis.T @ weights, -self._mean @ weights


def _of_lsa(by_kind: Mapping[str, sparse.csr_matrix]) -> sparse.csr_matrix:
    return sparse.hstack([by_kind[kind] for kind in OF_LSA], format="csr")


@contextmanager
def _reject_untrainable_texts(rows: int) -> Iterator[None]:
    """Turn what scikit-learn cannot learn from into a UserError."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"a hybrid classifier cannot be trained on these {rows} rows: {error}") from error
