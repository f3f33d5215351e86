"""Comparisons that the report shows: `python -m studies.NAME`."""

from dataclasses import replace

from bilm.config import CLASSIFICATION, CLASSIFIER_FIT, ClassifierConfig

# Settings of the classifiers in all studies: those of the preset best.
CLASSIFIER = ClassifierConfig(dropout=CLASSIFICATION["best"]["dropout"])
FIT = replace(CLASSIFIER_FIT, epochs=CLASSIFICATION["best"]["epochs"])
