"""A study trains many classifiers on the same rows, and saves each result when it is computed.

StudyProgress   the results so far, in a folder: an interrupted study skips them
Study           trains one classifier and evaluates it on the test rows
"""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bilm.checkpoints.serialization import content_hash
from bilm.cli.earlier_runs import decide_action
from bilm.cli.options import ResumeOptions
from bilm.cli.run import Run
from bilm.config import ClassifierConfig, FitConfig
from bilm.modules.encoder import Encoder
from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json, write_json, write_text
from bilm.runtime.paths import display_path
from bilm.runtime.provenance import first_difference
from bilm.text.batching import evaluation_batch_tokens, iterate_batches
from bilm.text.vocabulary import EncodedTexts
from bilm.training.classification import ClassifierTrainer, Trained, predict
from bilm.training.layer_cache import LayerCache
from studies.dataset import LabelledTexts


class StudyProgress:
    """The results of a study by name, and the checkpoint of the classifier in training, in `folder`.

    settings: all that determines the results, JSON-compatible. Raises UserError if an unfinished study has others.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], restart: bool):
        """restart: delete what an unfinished study left in the folder."""
        self.folder = folder
        self.settings = settings
        self._path = folder / "parts.json"
        self._content: dict[str, Any] = {"settings": settings, "parts": {}}
        if restart:
            self.close()
        if self._path.exists():
            self._content = read_json(self._path)
            if not isinstance(self._content, dict) or first_difference(self._content.get("settings") or {}, settings):
                raise UserError(f"the unfinished study in {folder} has other settings. Drop it with --restart.")
        else:
            write_json(self._path, self._content)

    def __contains__(self, name: str) -> bool:
        return name in self._content["parts"]

    def part(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of this name; only if it is not known yet, `compute` is called and returns it, a dict for JSON."""
        parts = self._content["parts"]
        if name not in parts:
            parts[name] = compute()
            write_json(self._path, self._content)
        return parts[name]

    def close(self) -> None:
        """Delete the folder: the study is finished, or was given up."""
        shutil.rmtree(self.folder, ignore_errors=True)


def open_progress(
    run: Run, options: ResumeOptions, name: str, settings: dict[str, Any], finished: bool
) -> StudyProgress | None:
    """Start or resume the study `name`; None if there is nothing to do. finished: whether its results exist."""
    folder = run.folders.runs / name
    action = decide_action(folder, options, finished)
    if action == "skip":
        return None
    run.folders.prepare()
    return StudyProgress(folder, settings, restart=action == "start")


def has_settings(path: Path, settings: dict[str, Any]) -> bool:
    """Whether the results at `path` are those of a study with these settings."""
    results = read_json(path) if path.exists() else None
    return isinstance(results, dict) and first_difference(results.get("settings") or {}, settings) is None


def write_study(path: Path, result: dict[str, Any]) -> None:
    """Write the results of a study; earlier ones with other settings, perhaps of hours, are kept beside them."""
    earlier = read_json(path) if path.exists() else {}
    if earlier and not has_settings(path, result["settings"]):
        of_settings = content_hash([earlier.get("settings") if isinstance(earlier, dict) else None])
        kept = path.with_name(f"{path.stem}-{of_settings[:8]}.json")
        write_text(kept, path.read_text(encoding="utf-8"))
        print(f"Note: the earlier results have other settings; they are now in {display_path(kept)}.", file=sys.stderr)
    write_json(path, result)


@dataclass(frozen=True)
class Study:
    """What the classifiers of a study have in common.

    rows: the texts, and which are for training, validation and test; encoded: the same texts as ids.
    """

    run: Run
    rows: LabelledTexts
    encoded: EncodedTexts
    progress: StudyProgress
    config: ClassifierConfig
    fit_config: FitConfig

    def classifier(
        self,
        name: str,
        encoder: Encoder,
        mode: str,
        seed: int,
        *,
        training: np.ndarray | None = None,
        mix: Sequence[float] | None = None,
        encoder_learning_rate: float | None = None,
        cache: LayerCache | None = None,
    ) -> dict[str, Any]:
        """Train a classifier; its figures, and its classes of the test rows as text: "2 0 1 ...".

        training: rows to train on, all training rows by default; the rest: see ClassifierTrainer.train.
        """
        torch.manual_seed(seed)
        training = self.rows.training if training is None else training
        rows = (self.rows.labels, training, self.rows.validation, len(self.run.corpus.classes))
        where = (self.run.device, self.run.autocast)
        trainer = ClassifierTrainer(self.encoded, *rows, self.config, self.fit_config, *where)
        checkpoint = self.progress.folder / f"{name}.pt"
        trained = trainer.train(
            name,
            encoder,
            mode,
            seed,
            checkpoint_path=checkpoint,
            settings={**self.progress.settings, "part": name},
            resume=checkpoint.exists(),
            encoder_learning_rate=encoder_learning_rate,
            mix=mix,
            cache=cache,
        )
        checkpoint.unlink(missing_ok=True)
        settings = {"epochs": self.fit_config.epochs, "rows_trained": len(training), "seed": seed}
        return settings | self._test(trained, cache)

    def _test(self, trained: Trained, cache: LayerCache | None) -> dict[str, Any]:
        """The figures of a trained classifier, and its classes of the test rows."""
        started, rows, state = time.perf_counter(), self.rows.test, trained.state
        batches = iterate_batches(self.encoded, rows, evaluation_batch_tokens(self.run.device))
        trained.model.eval()
        with torch.no_grad(), self.run.autocast():
            classes = predict(trained.model, batches, len(self.encoded), self.run.device, cache)[rows]
        return {
            "validation_accuracy": state.best_figure,
            "test_accuracy": float((classes == self.rows.labels[rows]).mean()),
            "best_epoch": state.best_epoch + 1,
            "before": trained.before,
            "after": trained.after,
            "seconds_to_train": round(state.seconds, 1),
            "seconds_to_classify": round(time.perf_counter() - started, 2),
            "classes": " ".join(map(str, classes.tolist())),
        }

    def with_epochs(self, epochs: int) -> "Study":
        """The same study with another number of epochs."""
        return replace(self, fit_config=replace(self.fit_config, epochs=epochs))

    def with_texts(self, encoded: EncodedTexts) -> "Study":
        """The same study with the texts encoded by another vocabulary."""
        return replace(self, encoded=encoded)


def classes_of(part: dict[str, Any]) -> np.ndarray:
    """The classes of the test rows in a result of a study, int64 (N,)."""
    return np.array(part["classes"].split(), dtype=np.int64)
