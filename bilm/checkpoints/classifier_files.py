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
    files = ClassifierFiles({}, {}, {}, {}, {}, {})
    for path in [*(folder / f"classifier_{mode}.pt" for mode in (*MODES, HYBRID)), folder / "classifier.pt"]:
        if not path.exists():
            continue
        try:
            saved = serialization.load(path, "classifier")
            with reject_malformed(path):
                mode, info = str(saved["mode"]), saved["info"]
                accuracy = float(info.get("accuracy_on_validation_rows", info["validation_accuracy"]))
                settings, names = info["settings"], tuple(saved["class_names"])
                learned = (settings.get("corpus"), settings.get("limit"), names)
                is_new = mode not in files.paths and mode not in files.mismatched
                if is_new or path.name == "classifier.pt":
                    require_language_model(path, saved, pretrained)
                if classes is not None and names != tuple(classes):
                    files.mismatched.setdefault(mode, f"{path} was trained on other classes: {', '.join(names)}.")
                    continue
                if is_new:
                    files.paths[mode], files.accuracies[mode], files.learned[mode] = path, accuracy, learned
                if path.name == "classifier.pt":
                    files = replace(files, in_use=learned)
        except LanguageModelMismatch as error:
            files.mismatched.setdefault(mode, str(error))
            if _has_its_language_model(saved):
                reason = "was trained on another language model, with which it can still be used."
                files.on_others[path] = UserError(f"{path} {reason}")
        except UserError as error:
            files.damaged[path] = error
    modes = [mode for mode in (*MODES, HYBRID) if mode in files.paths]
    return replace(files, paths={mode: files.paths[mode] for mode in modes})


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
