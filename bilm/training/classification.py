"""Training of a classifier: the task for fit(), and predictions."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bilm.config import ClassifierConfig, FitConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.scalar_mix import ScalarMix
from bilm.text.batching import Batch, iterate_batches
from bilm.text.vocabulary import EncodedTexts
from bilm.training.calibration import best_temperature
from bilm.training.layer_cache import LayerCache
from bilm.training.loop import fit
from bilm.training.optimizer import build_optimizer
from bilm.training.state import State
from bilm.training.tensorboard_log import Record
from bilm.training.text_task import TextTask


def predict(
    model: nn.Module, batches: Iterable[Batch], num_texts: int, device: torch.device, cache: LayerCache | None = None
) -> np.ndarray:
    """Class of each text by its row, int64 (num_texts,); -1 for rows that are in no batch.

    `cache`: the layers of these texts, if computed before.
    """
    classes = np.full(num_texts, -1, dtype=np.int64)
    for batch in batches:
        logits = model(batch.to(device), upper=cached_layers(cache, batch, device))
        classes[batch.rows] = logits.argmax(-1).cpu().numpy()
    return classes


def cached_layers(cache: LayerCache | None, batch: Batch, device: torch.device) -> list[Tensor] | None:
    """e1, e2, ... of `batch` on `device`; None without a cache."""
    return None if cache is None else [layer.to(device) for layer in cache.read(batch)]


class ClassificationTask(TextTask):
    """Predict the labels of texts; the best epoch is the one with the highest accuracy on the validation rows.

    `labels`: int (N,), of all `texts`. `cache`: the layers of `texts`, if they were computed before by an encoder that
    is not finetuned.
    """

    unit = "texts"
    better_is = ("accuracy", "higher")

    def __init__(
        self,
        label: str,
        texts: EncodedTexts,
        labels: np.ndarray,
        training_rows: np.ndarray,
        validation_rows: np.ndarray,
        batch_tokens: int,
        seed: int,
        device: torch.device,
        cache: LayerCache | None = None,
    ):
        super().__init__(texts, training_rows, validation_rows, batch_tokens, seed, device)
        self.label = label
        self.labels = labels
        self.cache = cache

    def batch_loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int, int]:
        upper = cached_layers(self.cache, batch, self.device)
        labels = torch.from_numpy(self.labels[batch.rows]).to(self.device)
        return model(batch.to(self.device), labels, upper), len(batch.rows), len(batch.rows)

    def validate(self, model: nn.Module) -> dict[str, float]:
        rows = self.validation_rows
        predicted = predict(model, self.validation_batches(), len(self.texts), self.device, self.cache)[rows]
        return {"accuracy": float((predicted == self.labels[rows]).mean())}


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
    autocast: Callable[[], AbstractContextManager[object]]

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
        classifier.temperature.fill_(self._temperature(model, cache))
        return Trained(model, state, before, classifier.combine.describe())

    @torch.no_grad()
    def _temperature(self, model: EncoderClassifier, cache: LayerCache | None) -> float:
        """The best temperature on the validation rows."""
        rows = self.validation_rows
        logits = np.empty((len(self.texts), self.num_classes), dtype=np.float32)
        with self.autocast():
            for batch in iterate_batches(self.texts, rows, self.fit_config.batch_tokens):
                upper = cached_layers(cache, batch, self.device)
                logits[batch.rows] = model.eval()(batch.to(self.device), upper=upper).cpu().numpy()
        return best_temperature(logits[rows], self.labels[rows])
