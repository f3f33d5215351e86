"""Comparisons that the report shows: `python -m studies.NAME`."""

from bilm.config import CLASSIFICATION, ClassifierConfig, FitConfig

# Settings of the classifiers in all studies: those of the preset best.
CLASSIFIER = ClassifierConfig(dropout=CLASSIFICATION["best"]["dropout"])
FIT = FitConfig(epochs=CLASSIFICATION["best"]["epochs"], learning_rate=2e-3)
