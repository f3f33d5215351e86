"""Ensembles: a small JSON file that names classifiers, on one or more language models, by their files and hashes.

    {"kind": "ensemble", "members": [{"bilm": "bilstm.pt", "classifier": "classifier_finetune.pt", "hash": "..."}, ...]}

Paths are relative to the folder of the file; `bilm` is null for a fine-tuned classifier, whose file contains its own
language model. An ensemble answers with the mean of its members' probabilities.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from bilm.checkpoints import serialization
from bilm.checkpoints.bundled import bundled_bilm
from bilm.checkpoints.model_format import (
    Pretrained,
    TrainedClassifier,
    load_bilm,
    load_classifier,
    load_complete_classifier,
)
from bilm.config import ENSEMBLE
from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json, reject_malformed, write_json

SUFFIX = ".json"


def write_ensemble(path: Path, classifiers: Sequence[Path]) -> list[TrainedClassifier]:
    """Write an ensemble of classifiers, each on the language model in its file, in its folder or of this repository.

    Returns the members. Raises UserError when a file cannot be read or written, when neither is the language model of a
    classifier, when the classes of the classifiers differ, or when `path` is another file.
    """
    if path.exists() and not _is_ensemble(path):
        raise UserError(f"{path} exists and is not an ensemble. Name another file.", "output")
    for classifier in classifiers:
        if classifier.suffix == SUFFIX:
            raise UserError(f"{classifier} is an ensemble, which cannot be a member of another. Name its classifiers.")
    if len({classifier.resolve() for classifier in classifiers}) < len(classifiers):
        raise UserError("two of these files are the same. Name each once.")
    files = [(_language_model_of(classifier), classifier) for classifier in classifiers]
    members = _load(files)
    _require_same_classes([classifier for _, classifier in files], members)
    entries = [
        {"bilm": bilm and _relative(bilm, path), "classifier": _relative(classifier, path), "hash": trained.hash}
        for (bilm, classifier), trained in zip(files, members, strict=True)
    ]
    write_json(path, {"kind": ENSEMBLE, "members": entries})
    return members


def read_ensemble(path: Path) -> list[TrainedClassifier]:
    """Return the members of the ensemble in `path`.

    Raises UserError when a file is missing or malformed, or when a member is not the one that was chosen.
    """
    if not path.exists():
        raise UserError(f"there is no {path}.", "classifier")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("kind") != ENSEMBLE:
        raise UserError(f"{path} is not an ensemble. Name a classifier, or what python -m bilm ensemble wrote.")
    with reject_malformed(path):
        if not content["members"]:
            raise ValueError("no members")
        files = [
            (None if entry["bilm"] is None else path.parent / entry["bilm"], path.parent / entry["classifier"])
            for entry in content["members"]
        ]
        hashes = [str(entry["hash"]) for entry in content["members"]]
    for bilm, _ in files:
        if bilm is not None and not bilm.exists():
            raise UserError(
                f"there is no {bilm}, the language model of a member of {path}. Copy it back, or make the ensemble "
                "again: python -m bilm ensemble"
            )
    members = _load(files)
    for (_, classifier), expected, trained in zip(files, hashes, members, strict=True):
        if trained.hash != expected:
            raise UserError(
                f"{classifier} was trained again after {path} was written. Make the ensemble again: python -m bilm "
                "ensemble"
            )
    _require_same_classes([classifier for _, classifier in files], members)
    return members


def _is_ensemble(path: Path) -> bool:
    with contextlib.suppress(UserError, OSError):
        content = read_json(path)
        return isinstance(content, dict) and content.get("kind") == ENSEMBLE
    return False


def _language_model_of(classifier: Path) -> Path | None:
    """The file of the language model that a classifier was trained on; None if its own file contains it.

    Raises UserError if it is neither beside the classifier nor in this repository, or if either of these files cannot
    be read; one that is missing is passed over.
    """
    if load_complete_classifier(classifier) is not None:
        return None
    required, beside = serialization.load(classifier, "classifier")["bilm"], classifier.parent / "bilstm.pt"
    candidates = [beside] if beside.exists() else []
    with contextlib.suppress(UserError):
        candidates.append(bundled_bilm())
    for path in candidates:
        if load_bilm(path).hash == required:
            return path
    raise UserError(
        f"{classifier} was trained neither on {beside} nor on the bilstm.pt of this repository. "
        "Copy its language model beside it, under the name bilstm.pt."
    )


def _load(files: Sequence[tuple[Path | None, Path]]) -> list[TrainedClassifier]:
    """Load each language model once. A classifier without one contains it, unless it was trained again."""
    models = {bilm: load_bilm(bilm) for bilm in dict.fromkeys(bilm for bilm, _ in files) if bilm is not None}
    return [_load_member(classifier, None if bilm is None else models[bilm]) for bilm, classifier in files]


def _load_member(path: Path, pretrained: Pretrained | None) -> TrainedClassifier:
    if pretrained is not None:
        return load_classifier(path, pretrained)
    trained = load_complete_classifier(path)
    if trained is None:
        raise UserError(f"{path} does not contain its language model. Make the ensemble again: python -m bilm ensemble")
    return trained


def _relative(file: Path, ensemble: Path) -> str:
    return Path(os.path.relpath(file, ensemble.parent)).as_posix()


def _require_same_classes(files: Sequence[Path], members: Sequence[TrainedClassifier]) -> None:
    for file, trained in zip(files, members, strict=True):
        if trained.class_names != members[0].class_names:
            raise UserError(
                "the classifiers of an ensemble need the same classes, in the same order. "
                f"{files[0]} has {', '.join(members[0].class_names)[:80]}; {file} has "
                f"{', '.join(trained.class_names)[:80]}."
            )
