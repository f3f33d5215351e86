"""ELMo from scratch (Peters et al. 2018): the bidirectional language model, and classifiers on its layers.

from bilm import ELMo, TextClassifier, ELMoVectorizer, elmo_tfidf_union
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bilm.inference.elmo import ELMo
    from bilm.inference.text_classifier import TextClassifier
    from bilm.inference.vectorizer import ELMoVectorizer, elmo_tfidf_union

__all__ = ["ELMo", "ELMoVectorizer", "TextClassifier", "elmo_tfidf_union"]
_MODULES = {
    "ELMo": "elmo",
    "ELMoVectorizer": "vectorizer",
    "TextClassifier": "text_classifier",
    "elmo_tfidf_union": "vectorizer",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and the scripts' --help imports from here.
    if name in _MODULES:
        return getattr(importlib.import_module(f"bilm.inference.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'bilm' has no attribute {name!r}")
