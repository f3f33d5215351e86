"""Train classifiers one after the other on the same rows."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bilm.config import ClassifierConfig, FitConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.scalar_mix import ScalarMix
from bilm.text.vocabulary import EncodedTexts
from bilm.training.classification import ClassificationTask
from bilm.training.layer_cache import LayerCache
from bilm.training.loop import State, fit
from bilm.training.optimizer import build_optimizer
from bilm.training.tensorboard_log import Record


@dataclass(frozen=True)
class Trained:
    """A trained classifier with its encoder, the history of its training, and its combination before and after."""

    model: EncoderClassifier
    state: State
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True)
class ClassifierTrainer:
    """The rows, the settings and the device that the classifiers have in common.

    labels: int64 (N,) of all `texts`; training_rows, validation_rows: int64, rows of `texts`; num_classes: C.
    """

    texts: EncodedTexts
    labels: np.ndarray
    training_rows: np.ndarray
    validation_rows: np.ndarray
    num_classes: int
    config: ClassifierConfig
    fit_config: FitConfig
    device: torch.device
    autocast: Callable[[], AbstractContextManager]

    def train(
        self,
        label: str,
        encoder: Any,
        mode: str,
        seed: int,
        *,
        checkpoint_path: Path,
        settings: dict[str, Any],
        resume: bool,
        encoder_learning_rate: float | None = None,
        mix: Sequence[float] | None = None,
        cache: LayerCache | None = None,
        log: Callable[[int], AbstractContextManager[Record]] | None = None,
    ) -> Trained:
        """Train one classifier of `mode` on `encoder`; see loop.fit for what it raises, and for the other arguments.

        encoder_learning_rate: peak rate of the encoder, which is trained too; None to keep it fixed. mix: initial w of
        the ScalarMix. cache: the layers of `texts`, if the encoder is fixed and they have been computed.
        """
        finetuned = encoder_learning_rate is not None
        classifier = Classifier(self.config, mode, encoder, self.num_classes, seed)
        if mix is not None:
            assert isinstance(classifier.combine, ScalarMix)
            classifier.combine.start_from(mix)
        model = EncoderClassifier(encoder, classifier, finetuned).to(self.device)
        rates: list[tuple[nn.Module, float]] = [(classifier, self.fit_config.learning_rate)]
        if encoder_learning_rate is not None:
            rates += encoder.learning_rates(encoder_learning_rate)
        before = classifier.combine.describe()
        rows = (self.training_rows, self.validation_rows, self.fit_config.batch_tokens)
        state = fit(
            model,
            ClassificationTask(label, self.texts, self.labels, *rows, seed, self.device, cache),
            build_optimizer(rates, self.fit_config.weight_decay),
            self.fit_config,
            checkpoint_path=checkpoint_path,
            settings=settings,
            autocast=self.autocast,
            resume=resume,
            log=log,
        )
        return Trained(model, state, before, classifier.combine.describe())
