"""The classifiers in a folder that were trained on one language model, and which of them is classifier.pt."""

import shutil
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bilm.checkpoints import serialization
from bilm.checkpoints.bundled import find_bundled_bilm
from bilm.checkpoints.model_format import LanguageModelMismatch, Pretrained, is_complete, require_language_model
from bilm.config import HYBRID, MODES
from bilm.runtime.errors import UserError
from bilm.runtime.files import atomic_write, reject_malformed, replace_patiently
from bilm.runtime.paths import repository_folder


@dataclass(frozen=True)
class ClassifierFiles:
    """The classifiers in a folder that were trained on one language model.

    paths: the file of each mode; accuracies: of each of these modes on the validation rows; learned: the rows (their
    identity and limit) and the classes that it was trained on; mismatched: a message for each mode whose file was
    trained on another language model, or has other classes than those that were asked for; damaged: the error of each
    file that cannot be read; on_others: of each file that another language model can still be used with; in_use: of
    `learned`, that of classifier.pt.
    """

    paths: dict[str, Path]
    accuracies: dict[str, float]
    learned: dict[str, tuple[Any, ...]]
    mismatched: dict[str, str]
    damaged: dict[Path, UserError]
    on_others: dict[Path, UserError]
    in_use: tuple[Any, ...] | None = None

    @property
    def best(self) -> str | None:
        """The mode with the highest validation accuracy of those that learned the same rows as classifier.pt.

        Of all modes if there is none, or no classifier.pt; None without a classifier.
        """
        comparable = [mode for mode in self.paths if self.in_use in (None, self.learned[mode])]
        return max(comparable or self.paths, key=self.accuracies.__getitem__, default=None)

    @property
    def to_keep(self) -> dict[Path, UserError]:
        """Why files should not be replaced without a question, though they are of no use with this language model."""
        return self.damaged | self.on_others

    def in_place_of_best(self, folder: Path, trained: Container[str]) -> dict[Path, UserError]:
        """Those of `to_keep` that keep_best_classifier would replace after modes `trained`.

        These are classifier.pt, and the file that an earlier classifier.pt is renamed to; not those of the modes that
        are trained, which are written by the training.
        """
        best = folder / "classifier.pt"
        earlier = [mode for mode, path in self.paths.items() if path == best and mode not in trained]
        renamed = [folder / f"classifier_{mode}.pt" for mode in earlier]
        return {path: self.to_keep[path] for path in (best, *renamed) if path in self.to_keep}


def find_classifiers(folder: Path, pretrained: Pretrained, classes: Sequence[str] | None = None) -> ClassifierFiles:
    """Find the classifier of each mode: classifier_MODE.pt, or classifier.pt if that is of this mode.

    classes: those of the texts that will be classified, if they are known.
    """
    paths: dict[str, Path] = {}
    accuracies: dict[str, float] = {}
    learned: dict[str, tuple[Any, ...]] = {}
    mismatched: dict[str, str] = {}
    damaged: dict[Path, UserError] = {}
    on_others: dict[Path, UserError] = {}
    in_use = None
    modes = (*MODES, HYBRID)
    candidates = [*(folder / f"classifier_{mode}.pt" for mode in modes), folder / "classifier.pt"]
    for path in filter(Path.exists, candidates):
        try:
            file = _read(path, pretrained)
        except UserError as error:
            damaged[path] = error
            continue
        is_first = file.mode not in paths and file.mode not in mismatched
        is_best = path.name == "classifier.pt"
        if file.mismatch and (is_first or is_best):
            mismatched.setdefault(file.mode, str(file.mismatch))
            if _has_its_language_model(file.content):
                reason = "was trained on another language model, with which it can still be used."
                on_others[path] = UserError(f"{path} {reason}")
        elif classes is not None and file.classes != tuple(classes):
            names = ", ".join(map(str, file.classes))
            mismatched.setdefault(file.mode, f"{path} was trained on other classes: {names}.")
        else:
            if is_first:
                paths[file.mode], accuracies[file.mode], learned[file.mode] = path, file.accuracy, file.learned
            if is_best:
                in_use = file.learned
    paths = {mode: paths[mode] for mode in modes if mode in paths}
    return ClassifierFiles(paths, accuracies, learned, mismatched, damaged, on_others, in_use)


@dataclass(frozen=True)
class _File:
    """A classifier's file. learned: as in ClassifierFiles; mismatch: if it is not on the present language model."""

    content: dict[str, Any]
    mode: str
    accuracy: float
    classes: tuple[str, ...]
    learned: tuple[Any, ...]
    mismatch: LanguageModelMismatch | None


def _read(path: Path, pretrained: Pretrained) -> _File:
    """Raises UserError when the file cannot be read."""
    saved, mismatch = serialization.load(path, "classifier"), None
    with reject_malformed(path):
        mode, info = str(saved["mode"]), saved["info"]
        accuracy = float(info.get("accuracy_on_validation_rows", info["validation_accuracy"]))
        settings, classes = info["settings"], tuple(saved["class_names"])
        learned = (settings.get("corpus"), settings.get("limit"), classes)
        try:
            require_language_model(path, saved, pretrained)
        except LanguageModelMismatch as error:
            mismatch = error
        return _File(saved, mode, accuracy, classes, learned, mismatch)


def _has_its_language_model(saved: dict[str, Any]) -> bool:
    """Whether the language model of this classifier still exists: in its own file, or as that of this repository."""
    if is_complete(saved):
        return True
    bundled = find_bundled_bilm(folder / "models") if (folder := repository_folder()) else None
    return bundled is not None and serialization.load(bundled, "bilm")["id"] == saved["bilm"]


def keep_best_classifier(folder: Path, pretrained: Pretrained, trained: str) -> str:
    """Copy the classifier in `folder` that is best on validation to classifier.pt; return its mode.

    trained: the mode that was just trained. Only classifiers that learned the same rows compete with it: accuracies on
    other rows, or of other classes, do not compare.

    An earlier classifier.pt is renamed to classifier_MODE.pt if no readable file has that name. Files that cannot be
    read are ignored here; evaluate.py reports them. Raises KeyError when no classifier of mode `trained` is on this
    language model.
    """
    files, target = find_classifiers(folder, pretrained), folder / "classifier.pt"
    files = replace(files, in_use=files.learned[trained])
    assert files.best is not None
    source = files.paths[files.best]
    if source != target:
        for mode, path in files.paths.items():
            if path == target:
                replace_patiently(target, folder / f"classifier_{mode}.pt")
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
    return files.best
