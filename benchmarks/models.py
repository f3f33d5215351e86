"""Models with the project's default settings and random weights: what they have learned does not change their cost."""

from bilm.classifier import ClassifiedEncoder, Classifier
from bilm.config import BiLMConfig, ClassifierConfig
from bilm.csv_rows import CLASS_NAMES
from bilm.language_model import BiLM

SHAPE = BiLMConfig()


def classified(encoder: BiLM, mode: str = "trainable") -> ClassifiedEncoder:
    """A classifier on top of `encoder`, which learns along in mode finetune."""
    dims = (encoder.num_layers, encoder.output_dim, len(CLASS_NAMES))
    return ClassifiedEncoder(encoder, Classifier(ClassifierConfig(), mode, *dims, seed=0), mode == "finetune")
