"""ELMo from scratch: the bidirectional language model, and what is made of it."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bilm.elmo import ELMo
    from bilm.text_classifier import TextClassifier
    from bilm.vectorizer import ELMoVectorizer

__all__ = ["ELMo", "ELMoVectorizer", "TextClassifier"]
_MODULES = {"ELMo": "elmo", "ELMoVectorizer": "vectorizer", "TextClassifier": "text_classifier"}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and the scripts' --help imports from here.
    if name in _MODULES:
        return getattr(importlib.import_module(f"bilm.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'bilm' has no attribute {name!r}")
