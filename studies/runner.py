"""A study: many classifiers on the same rows, one after the other; each is kept as soon as it is done.

Ledger     what is done, in a folder: a study that was stopped goes on behind it
Study      trains one classifier and asks it for its classes
"""

import shutil
import time
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
from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json, write_json
from bilm.runtime.provenance import first_difference
from bilm.text.batching import iterate_batches
from bilm.text.vocabulary import EncodedTexts
from bilm.training.classification import ClassificationTask, predict
from bilm.training.layer_cache import LayerCache
from bilm.training.loop import fit
from bilm.training.optimizer import build_optimizer
from studies.dataset import LabelledTexts

_BATCH_TOKENS = 8192


class StudyProgress:
    """Parts of a study by name, in `folder` while it is under way; so is the classifier that is being trained.

    settings: what shapes them all, as JSON has it. Raises UserError when those of an unfinished study are others.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], restart: bool):
        """anew: drop what an unfinished study left there."""
        self.folder = folder
        self.settings = settings
        self._path = folder / "parts.json"
        self._content: dict[str, Any] = {"settings": settings, "parts": {}}
        if restart:
            self.close()
        if self._path.exists():
            found = read_json(self._path)
            if not isinstance(found, dict) or first_difference(found.get("settings") or {}, settings):
                raise UserError(f"the unfinished study in {folder} has other settings. Drop it with --restart.")
            self._content = found
        else:
            write_json(self._path, self._content)

    def __contains__(self, name: str) -> bool:
        return name in self._content["parts"]

    def part(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `make` returns, a dict that JSON can hold; it is not called when the part is known."""
        parts = self._content["parts"]
        if name not in parts:
            parts[name] = make()
            write_json(self._path, self._content)
        return parts[name]

    def close(self) -> None:
        """The study is over, or was given up."""
        shutil.rmtree(self.folder, ignore_errors=True)


def is_finished(path: Path, settings: dict[str, Any]) -> bool:
    """Whether the results at `path` are those of a study with these settings."""
    found = read_json(path) if path.exists() else None
    return isinstance(found, dict) and first_difference(found.get("settings") or {}, settings) is None


@dataclass(frozen=True)
class Study:
    """rows: the texts and what they are for; encoded: the same, as ids; num_classes: C.

    shape, fitting: of every classifier. ledger: where its checkpoint lies while it learns, and what shapes it all.
    """

    rows: LabelledTexts
    encoded: EncodedTexts
    num_classes: int
    shape: ClassifierConfig
    fitting: FitConfig
    ledger: StudyProgress
    device: torch.device
    autocast: Callable[[], AbstractContextManager]

    def classifier(
        self,
        name: str,
        encoder: Any,
        mode: str,
        seed: int,
        *,
        training: np.ndarray | None = None,
        weights: Sequence[float] | None = None,
        encoder_rate: float = 0.0,
        cache: LayerCache | None = None,
    ) -> dict[str, Any]:
        """Train one of `mode` on `encoder`; its figures, and its classes of the test rows as text: "2 0 1 ...".

        training: rows to learn from in place of all; weights: w of the scalar mix to begin with; encoder_rate: peak
        learning rate of the encoder, 0 to keep it; store: the layers of these texts, where they are known.
        """
        torch.manual_seed(seed)
        finetuned = encoder_rate > 0
        classifier = Classifier(self.shape, mode, encoder, self.num_classes, seed)
        if weights is not None:
            assert isinstance(classifier.combine, ScalarMix)
            classifier.combine.start_from(weights)
        model = EncoderClassifier(encoder, classifier, finetuned).to(self.device)
        before = classifier.combine.describe()
        rows = self.rows.training if training is None else training
        where = (rows, self.rows.validation, self.fitting.batch_tokens, seed, self.device, cache)
        rates: list[tuple[nn.Module, float]] = [(classifier, self.fitting.learning_rate)]
        if finetuned:
            rates += encoder.learning_rates(encoder_rate)
        checkpoint = self.ledger.folder / f"{name}.pt"
        state = fit(
            model,
            ClassificationTask(name, self.encoded, self.rows.labels, *where),
            build_optimizer(rates, self.fitting.weight_decay),
            self.fitting,
            checkpoint_path=checkpoint,
            settings={**self.ledger.settings, "part": name},
            autocast=self.autocast,
            resume=checkpoint.exists(),
        )
        checkpoint.unlink(missing_ok=True)
        model.eval()
        started = time.perf_counter()
        batches = iterate_batches(self.encoded, self.rows.test, _BATCH_TOKENS)
        with torch.no_grad(), self.autocast():
            classes = predict(model, batches, len(self.encoded), self.device, cache)[self.rows.test]
        return {
            "validation_accuracy": state.best_figure,
            "test_accuracy": float((classes == self.rows.labels[self.rows.test]).mean()),
            "best_epoch": state.best_epoch + 1,
            "epochs": self.fitting.epochs,
            "rows_trained": len(rows),
            "seed": seed,
            "before": before,
            "after": classifier.combine.describe(),
            "seconds_to_train": round(state.seconds, 1),
            "seconds_to_classify": round(time.perf_counter() - started, 2),
            "classes": " ".join(map(str, classes.tolist())),
        }


def classes_of(part: dict[str, Any]) -> np.ndarray:
    """The classes of the test rows that a part of a study holds, int64 (N,)."""
    return np.array(part["classes"].split(), dtype=np.int64)
