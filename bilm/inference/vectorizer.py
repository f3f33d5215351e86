"""For scikit-learn: ELMoVectorizer, a step of a pipeline, texts -> vectors; and its union with TF-IDF."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from bilm.inference.elmo import ELMo
from bilm.inference.input_checks import check_texts
from bilm.runtime.errors import UserError
from bilm.text.ngrams import NGRAMS
from bilm.text.tokenizer import Tokenizer

# Of the variance of the vectors, the share that the principal components keep: about 100 of them.
VARIANCE = 0.9


class ELMoVectorizer(TransformerMixin, BaseEstimator):
    """Texts -> the vectors of `ELMo.sentence_vectors`: fp32 (N, D).

    path: a bilstm.pt, by default the models/bilstm.pt of this repository; layers: see `ELMo.sentence_vectors`; device:
    a name that torch accepts. Nothing is learned from the texts. The file is loaded by `fit`, or when vectors are first
    needed. A pickle contains the path and the hash of the weights, not the weights.
    """

    def __init__(self, path: str | None = None, layers: tuple[int, ...] | None = None, device: str = "cpu"):
        self.path = path
        self.layers = layers
        self.device = device

    def fit(self, X: Iterable[str | Iterable[str]], y: Any = None) -> "ELMoVectorizer":
        """Load the file. Raises UserError when it is missing or damaged, TypeError and ValueError as `transform`."""
        if not isinstance(X, Iterator):  # which can be read only once, and `fit_transform` then calls `transform`
            check_texts(X)
        self.__dict__.pop("_weights", None)
        self._loaded_from: Any = None
        self._load().layer_numbers(self.layers)
        return self

    def transform(self, X: Iterable[str | Iterable[str]]) -> np.ndarray:
        """Compute the vectors of X; see `ELMo.embed` for its form. Raises as `ELMo.sentence_vectors`."""
        return self._load().sentence_vectors(X, self.layers)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features: "e1_0", "e1_1", ..., layer after layer. input_features: ignored."""
        elmo = self._load()
        return np.array(
            [f"e{layer}_{i}" for layer in elmo.layer_numbers(self.layers) for i in range(elmo.output_dim)], dtype=object
        )

    def _load(self) -> ELMo:
        """Return the encoder; load it if `path` or `device` has changed.

        Raises UserError if the weights at `path` are not those that were there before pickling: what has been learned
        from the vectors of one language model cannot be applied to those of another.
        """
        source = (self.path, self.device)
        if getattr(self, "_loaded_from", None) != source:
            elmo = ELMo.load(self.path, device=self.device)
            path, hash = getattr(self, "_weights", (self.path, elmo.hash))
            if path == self.path and hash != elmo.hash:
                raise UserError(
                    f"{self.path or 'models/bilstm.pt'} has other weights ({elmo.hash[:12]}) than when this vectorizer "
                    f"was pickled ({hash[:12]}). Restore the file, or fit again."
                )
            self._elmo, self._loaded_from, self._weights = elmo, source, (self.path, elmo.hash)
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


class _TextUnion(FeatureUnion):
    """A union whose input is one list for all of its parts: a generator can be read only once."""

    def fit(self, X: Any, y: Any = None, **parameters: Any) -> "_TextUnion":
        return super().fit(check_texts(X), y, **parameters)

    def fit_transform(self, X: Any, y: Any = None, **parameters: Any) -> Any:
        return super().fit_transform(check_texts(X), y, **parameters)

    def transform(self, X: Any, **parameters: Any) -> Any:
        return super().transform(check_texts(X), **parameters)


def _all_words(text: str | list[str]) -> list[str]:
    """The words of a text as the language models of this repository read them, however long it is."""
    tokenizer = Tokenizer()
    return tokenizer.split(text) if isinstance(text, str) else tokenizer.words_of(text)


def elmo_tfidf_union(
    path: str | None = None, layers: tuple[int, ...] | None = None, device: str = "cpu"
) -> FeatureUnion:
    """Texts -> vectors of ELMo beside TF-IDF of words and pairs of words, sparse (N, F), for a linear classifier.

    Both have the same weight: a text has norm 1 in either. The vectors are reduced to principal components of variance
    1, with which a linear SVM converges quickly. For the arguments and the texts see ELMoVectorizer.
    """
    vectors = ELMoVectorizer(path, layers, device)
    components = PCA(VARIANCE, whiten=True, svd_solver="full")
    tfidf = TfidfVectorizer(**{**NGRAMS["words"], "tokenizer": _all_words}, lowercase=False)
    return _TextUnion([("elmo", make_pipeline(vectors, StandardScaler(), components, Normalizer())), ("tfidf", tfidf)])
