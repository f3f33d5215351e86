"""A language model and its classifiers, applied to encoded texts with progress bars."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bilm.checkpoints.model_format import Pretrained, TrainedClassifier, vocabulary_for
from bilm.evaluation.scoring import class_probabilities, evaluate_language_model
from bilm.runtime.terminal import progress
from bilm.text.batching import Batch, iterate_batches, plan_batches
from bilm.text.vocabulary import EncodedTexts, Vocabulary


@dataclass(frozen=True)
class Evaluator:
    """The models are moved to `device`; classifiers: by mode; batch_tokens: tokens in a batch, including padding."""

    pretrained: Pretrained
    classifiers: dict[str, TrainedClassifier]
    batch_tokens: int
    device: torch.device
    autocast: Callable[[], AbstractContextManager]

    def __post_init__(self) -> None:
        self.pretrained.model.to(self.device)
        for trained in self.classifiers.values():
            trained.model.to(self.device)

    @property
    def vocabulary(self) -> Vocabulary:
        """To encode texts with; see model_format.vocabulary_for."""
        return vocabulary_for(self.pretrained.vocabulary, self.classifiers.values())

    def language_model(self, texts: EncodedTexts, rows: np.ndarray) -> dict[str, Any]:
        """See scoring.evaluate_language_model; on these `rows` of `texts`, int64."""
        model, vocabulary = self.pretrained.model, self.pretrained.vocabulary
        batches = self._batches("language model", texts, rows)
        return evaluate_language_model(model, vocabulary, batches, self.device, self.autocast)

    def probabilities(self, label: str, texts: EncodedTexts, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """See scoring.class_probabilities: by mode, fp32 (len(rows), C); of all texts by default."""
        rows = np.arange(len(texts)) if rows is None else rows
        models = {mode: trained.model for mode, trained in self.classifiers.items()}
        batches = self._batches(label, texts, rows)
        by_mode = class_probabilities(models, batches, len(texts), self.device, self.autocast)
        return {mode: probabilities[rows] for mode, probabilities in by_mode.items()}

    def classes(self, label: str, texts: EncodedTexts) -> dict[str, np.ndarray]:
        """The most likely class of each text by mode, int64 (N,)."""
        return {mode: probabilities.argmax(1) for mode, probabilities in self.probabilities(label, texts).items()}

    def _batches(self, label: str, texts: EncodedTexts, rows: np.ndarray) -> Iterator[Batch]:
        total = len(plan_batches(texts.lengths[rows], self.batch_tokens))
        batches = iterate_batches(texts, rows, self.batch_tokens)
        return iter(progress(batches, total=total, unit="batch", label=label))
