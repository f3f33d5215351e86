"""TF-IDF of the n-grams of texts that are split into words: of words, or of the characters within words.

Character n-grams have a blank for the edge of a word: "unhappily" shares some with "unhappy". Instead of its words, a
text may be given by the clusters of its words (modules/token_clusters).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Words = Sequence[Sequence[str]]
# By kind, the settings of scikit-learn's TfidfVectorizer; a text is its words with blanks between them.
NGRAMS: dict[str, dict[str, Any]] = {
    "words": {"ngram_range": (1, 2), "tokenizer": str.split, "token_pattern": None, "sublinear_tf": True},
    # One that occurs in a single text says nothing that its word does not say.
    "characters": {"ngram_range": (2, 5), "analyzer": "char_wb", "min_df": 2, "sublinear_tf": True},
    "clusters": {
        "ngram_range": (1, 2),
        "tokenizer": str.split,
        "token_pattern": None,
        "min_df": 2,
        "sublinear_tf": True,
    },
}
# The norm of a text in the n-grams of a kind. With 1, the clusters cost accuracy where words decide (docs/log.md).
NORMS = {"words": 1.0, "characters": 1.0, "clusters": 0.7}


class NgramFeatures:
    """TF-IDF of n-grams of one kind. Each text has the norm of NORMS, or 0 if none of its n-grams is known."""

    def __init__(self, kind: str):
        """kind: one of NGRAMS."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # takes a second to import

        self._vectorizer = TfidfVectorizer(lowercase=False, **NGRAMS[kind])
        self._norm = NORMS[kind]

    @classmethod
    def restore(cls, kind: str, terms: Sequence[str], idf: np.ndarray) -> "NgramFeatures":
        """Return features with these terms and inverse document frequencies, fp (F,)."""
        result = cls(kind)
        result._vectorizer.set_params(vocabulary={term: i for i, term in enumerate(terms)})
        result._vectorizer.idf_ = idf.astype(np.float64)
        return result

    def learn(self, texts: Words) -> "csr_matrix":
        """Learn the n-grams of N texts, and compute their TF-IDF: fp64 (N, F). Raises ValueError if there are none."""
        joined = [" ".join(words) for words in texts]
        try:
            return self._vectorizer.fit_transform(joined) * self._norm
        except ValueError:
            if self._vectorizer.min_df == 1:
                raise
            self._vectorizer.set_params(min_df=1)  # few texts, which have no n-gram in common
            return self._vectorizer.fit_transform(joined) * self._norm

    def compute(self, texts: Words) -> "csr_matrix":
        """Compute the features of N texts: fp64 (N, F)."""
        return self._vectorizer.transform(map(" ".join, texts)) * self._norm

    @property
    def terms(self) -> tuple[str, ...]:
        """The n-grams by column; between the words of a pair there is a blank."""
        return tuple(self._vectorizer.get_feature_names_out().tolist())

    @property
    def idf(self) -> np.ndarray:
        """The inverse document frequencies, fp64 (F,)."""
        return np.asarray(self._vectorizer.idf_)
