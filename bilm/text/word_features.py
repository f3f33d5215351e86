"""TF-IDF features of texts that are split into words: words and pairs of words, or pieces of words.

A piece is 2 to 5 characters within a word, with a blank for its edges: "unhappily" shares pieces with "unhappy".
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Words = Sequence[Sequence[str]]
# By kind, the settings of scikit-learn's TfidfVectorizer; a text is its words with blanks between them.
KINDS: dict[str, dict[str, Any]] = {
    "words": {"ngram_range": (1, 2), "tokenizer": str.split, "token_pattern": None},
    # A piece that occurs in one text alone says nothing that its word does not say.
    "pieces": {"ngram_range": (2, 5), "analyzer": "char_wb", "min_df": 2},
}


class WordFeatures:
    """The features of one kind. Each text has norm 1, or 0 if none of its terms is known."""

    def __init__(self, kind: str):
        """kind: one of KINDS."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # takes a second to import

        self._vectorizer = TfidfVectorizer(sublinear_tf=True, lowercase=False, **KINDS[kind])

    @classmethod
    def restore(cls, kind: str, terms: Sequence[str], idf: np.ndarray) -> "WordFeatures":
        """Return features with these terms and inverse document frequencies, fp (F,)."""
        result = cls(kind)
        result._vectorizer.set_params(vocabulary={term: i for i, term in enumerate(terms)})
        result._vectorizer.idf_ = idf.astype(np.float64)
        return result

    def learn(self, texts: Words) -> "csr_matrix":
        """Learn the features of N texts, and compute them: fp64 (N, F). Raises ValueError if there are none."""
        return self._vectorizer.fit_transform(map(" ".join, texts))

    def compute(self, texts: Words) -> "csr_matrix":
        """Compute the features of N texts: fp64 (N, F)."""
        return self._vectorizer.transform(map(" ".join, texts))

    @property
    def terms(self) -> tuple[str, ...]:
        """The features by column; between the words of a pair there is a blank."""
        return tuple(self._vectorizer.get_feature_names_out().tolist())

    @property
    def idf(self) -> np.ndarray:
        """The inverse document frequencies, fp64 (F,)."""
        return np.asarray(self._vectorizer.idf_)
