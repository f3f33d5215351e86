"""Models with the project's default settings and random weights: what they have learned does not change their cost."""

from bilm.config import BiLMConfig, ClassifierConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.language_model import BiLM
from bilm.text.ag_news import CLASS_NAMES

SHAPE = BiLMConfig()


def classified(encoder: BiLM, mode: str = "trainable") -> EncoderClassifier:
    """A classifier on top of `encoder`, which learns along in mode finetune."""
    classifier = Classifier(ClassifierConfig(), mode, encoder, len(CLASS_NAMES), seed=0)
    return EncoderClassifier(encoder, classifier, mode == "finetune")
