"""ELMo as a step of a scikit-learn pipeline: texts -> vectors."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from bilm.inference.elmo import ELMo
from bilm.inference.input_checks import check_texts


class ELMoVectorizer(TransformerMixin, BaseEstimator):
    """Texts -> the mean vectors of `ELMo.sentence_vectors`: fp32 (N, D).

    path: of a bilstm.pt; without one, the models/bilstm.pt of this repository; layers: see there; device: as torch
    names it. Nothing is learned in `fit`, so that it may be called on any texts; the file is read when vectors are
    first asked for. A pickle holds the path, not the weights.
    """

    def __init__(self, path: str | None = None, layers: tuple[int, ...] | None = None, device: str = "cpu"):
        self.path = path
        self.layers = layers
        self.device = device

    def fit(self, X: Iterable[str | Iterable[str]], y: Any = None) -> "ELMoVectorizer":
        """Reads the file anew. Raises UserError when it is missing or damaged, TypeError as `transform`."""
        if not isinstance(X, Iterator):  # which can be read once, and `fit_transform` needs it for `transform`
            check_texts(X)
        self._made_of: Any = None
        self._loaded()
        return self

    def transform(self, X: Iterable[str | Iterable[str]]) -> np.ndarray:
        """X: as for `ELMo.embed`. Raises TypeError as `input_checks.check_texts`."""
        return self._loaded().sentence_vectors(X, self.layers)

    def get_feature_names_out(self, _: Any = None) -> np.ndarray:
        """ "e1_0", "e1_1", ... of the layers in order."""
        elmo = self._loaded()
        layers = range(1, elmo.num_layers) if self.layers is None else self.layers
        numbers = [range(elmo.num_layers)[layer] for layer in layers]
        return np.array([f"e{layer}_{i}" for layer in numbers for i in range(elmo.output_dim)], dtype=object)

    def _loaded(self) -> ELMo:
        made_of = (self.path, self.device)
        if getattr(self, "_made_of", None) != made_of:
            self._elmo, self._made_of = ELMo.load(self.path, device=self.device), made_of
        return self._elmo

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {key: value for key, value in state.items() if key not in ("_elmo", "_made_of")}

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []  # vectors are fp32 whatever the texts are
        return tags
