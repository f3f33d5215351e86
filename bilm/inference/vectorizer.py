"""For scikit-learn: ELMoVectorizer, a step of a pipeline, texts -> vectors; and its union with TF-IDF."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import Normalizer, StandardScaler

from bilm.inference.elmo import ELMo
from bilm.inference.input_checks import check_texts
from bilm.text.ngrams import NGRAMS

# Of the variance of the vectors, the share that the principal components keep: about 100 of them.
VARIANCE = 0.9


class ELMoVectorizer(TransformerMixin, BaseEstimator):
    """Texts -> the vectors of `ELMo.sentence_vectors`: fp32 (N, D).

    path: a bilstm.pt, by default the models/bilstm.pt of this repository; layers: see `ELMo.sentence_vectors`; device:
    a name that torch accepts. Nothing is learned from the texts. The file is loaded by `fit`, or when vectors are first
    needed. A pickle contains the path, not the weights.
    """

    def __init__(self, path: str | None = None, layers: tuple[int, ...] | None = None, device: str = "cpu"):
        self.path = path
        self.layers = layers
        self.device = device

    def fit(self, X: Iterable[str | Iterable[str]], y: Any = None) -> "ELMoVectorizer":
        """Load the file. Raises UserError when it is missing or damaged, TypeError as `transform`."""
        if not isinstance(X, Iterator):  # which can be read only once, and `fit_transform` then calls `transform`
            check_texts(X)
        self._loaded_from: Any = None
        self._load()
        return self

    def transform(self, X: Iterable[str | Iterable[str]]) -> np.ndarray:
        """Compute the vectors of X; see `ELMo.embed` for its form. Raises TypeError as `input_checks.check_texts`."""
        return self._load().sentence_vectors(X, self.layers)

    def get_feature_names_out(self, _: Any = None) -> np.ndarray:
        """Return the names of the features: "e1_0", "e1_1", ..., layer after layer."""
        elmo = self._load()
        layers = range(1, elmo.num_layers) if self.layers is None else self.layers
        numbers = [range(elmo.num_layers)[layer] for layer in layers]
        return np.array([f"e{layer}_{i}" for layer in numbers for i in range(elmo.output_dim)], dtype=object)

    def _load(self) -> ELMo:
        """Return the encoder; load it if `path` or `device` has changed."""
        source = (self.path, self.device)
        if getattr(self, "_loaded_from", None) != source:
            self._elmo, self._loaded_from = ELMo.load(self.path, device=self.device), source
        return self._elmo

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {key: value for key, value in state.items() if key not in ("_elmo", "_loaded_from")}

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []  # vectors are fp32, whatever the type of the texts
        return tags


def elmo_tfidf_union(
    path: str | None = None, layers: tuple[int, ...] | None = None, device: str = "cpu"
) -> FeatureUnion:
    """Texts -> vectors of ELMo beside TF-IDF of words and pairs of words, sparse (N, F), for a linear classifier.

    Both have the same weight: a text has norm 1 in either. The vectors are reduced to principal components of variance
    1, with which a linear SVM converges quickly. For the arguments see ELMoVectorizer. Texts have to be strings.
    """
    vectors = ELMoVectorizer(path, layers, device)
    components = PCA(VARIANCE, whiten=True, svd_solver="full")
    return make_union(
        make_pipeline(vectors, StandardScaler(), components, Normalizer()), TfidfVectorizer(**NGRAMS["words"])
    )
