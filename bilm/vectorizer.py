"""For pickles of earlier versions, which name this module; see inference/vectorizer.py."""

from bilm.inference.vectorizer import ELMoVectorizer

__all__ = ["ELMoVectorizer"]
