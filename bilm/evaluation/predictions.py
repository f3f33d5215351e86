"""results/predictions.json: each model's predicted class of each test row, for comparisons between any two models.

    {"corpus": {"train": SHA-256, "test": SHA-256}, "labels": "2 0 3 ...",
     "models": {NAME: {"of": hash of the weights, "classes": "2 0 1 ..."}},
     "near_duplicates": {"rows": "5 17 ...", "labels_differ": share}}

Classes and rows are counted from 0, in the order of test.csv. A file for another train.csv or test.csv is not used.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json, write_json


@dataclass
class Predictions:
    """Predicted classes of the N test rows.

    corpus: hashes of the files, by split; labels: true classes, int64 (N,), None before an evaluation; models: by name,
    the hash of the weights and the predicted classes, int64 (N,); near_duplicates: the rows with a near-duplicate among
    the training rows, int64, and the share of them whose label differs from it; None if not determined.
    """

    corpus: dict[str, str]
    labels: np.ndarray | None = None
    models: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    near_duplicates: tuple[np.ndarray, float | None] | None = None


def read_predictions(path: Path, corpus: dict[str, str]) -> Predictions:
    """Read the predictions in `path`; return empty ones when it does not exist, or belongs to another corpus.

    corpus: hashes of the present files; a missing test file matches any. Raises UserError when the file is malformed.
    """
    if not path.exists():
        return Predictions(corpus)
    saved = read_json(path)
    try:
        labels, near = _parse(saved["labels"]), saved["near_duplicates"]
        models = {name: (str(model["of"]), _parse(model["classes"])) for name, model in saved["models"].items()}
        duplicates = None if near is None else (_parse(near["rows"]), near["labels_differ"])
        if any(len(classes) != len(labels) for _, classes in models.values()) or (
            duplicates and not ((duplicates[0] < len(labels)).all() and isinstance(duplicates[1], float | None))
        ):
            raise ValueError
        if any(saved["corpus"].get(split) != sha256 for split, sha256 in corpus.items()):
            return Predictions(corpus)
        return Predictions(dict(saved["corpus"]), labels, models, duplicates)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} does not contain predictions. Remove it; evaluate.py writes a new one.") from error


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions`, which have labels, to `path`. Raises UserError when writing fails."""
    assert predictions.labels is not None
    near, models = predictions.near_duplicates, sorted(predictions.models.items())
    content = {
        "corpus": predictions.corpus,
        "labels": _format(predictions.labels),
        "models": {name: {"of": sha256, "classes": _format(classes)} for name, (sha256, classes) in models},
        "near_duplicates": None if near is None else {"rows": _format(near[0]), "labels_differ": near[1]},
    }
    write_json(path, content)


def _parse(text: str) -> np.ndarray:
    return np.array([int(word) for word in text.split()], dtype=np.int64)


def _format(numbers: np.ndarray) -> str:
    return " ".join(map(str, numbers.tolist()))
