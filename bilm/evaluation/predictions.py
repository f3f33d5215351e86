"""results/predictions.json: the class that each model gives each test row, so that any two can be compared.

    {"corpus": {"train": SHA-256, "test": SHA-256}, "labels": "2 0 3 ...",
     "models": {NAME: {"of": what names the weights, "classes": "2 0 1 ..."}},
     "near_duplicates": {"rows": "5 17 ...", "labels_differ": share}}

Classes and rows are counted from 0, in the order of test.csv. Those of another train.csv or test.csv do not count.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json, write_json


@dataclass
class Predictions:
    """corpus: hashes of the two files; labels: int64 (N,), or None before there are any.

    models: by name, what names the weights, and the class of each row, int64 (N,). near_duplicates: the rows that a
    training row nearly repeats, int64, and the share of them whose label is another; None where nobody looked.
    """

    corpus: dict[str, str]
    labels: np.ndarray | None = None
    models: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    near_duplicates: tuple[np.ndarray, float | None] | None = None


def read_predictions(path: Path, corpus: dict[str, str]) -> Predictions:
    """What is in the file at `path`, if it is of this `corpus`, or of one with test rows where this one has none.

    Raises UserError when it is no such file.
    """
    if not path.exists():
        return Predictions(corpus)
    saved = read_json(path)
    try:
        labels, near = _numbers(saved["labels"]), saved["near_duplicates"]
        models = {name: (str(model["of"]), _numbers(model["classes"])) for name, model in saved["models"].items()}
        found = None if near is None else (_numbers(near["rows"]), near["labels_differ"])
        if any(len(classes) != len(labels) for _, classes in models.values()):
            raise ValueError
        if found and not ((found[0] < len(labels)).all() and isinstance(found[1], float | None)):
            raise ValueError
        if any(saved["corpus"].get(split) != name for split, name in corpus.items()):
            return Predictions(corpus)
        return Predictions(dict(saved["corpus"]), labels, models, found)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} does not hold predictions. Remove it; evaluate.py writes it anew.") from error


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Raises UserError when the disk refuses; then `path` is as it was."""
    assert predictions.labels is not None
    near = predictions.near_duplicates
    content = {
        "corpus": predictions.corpus,
        "labels": _text(predictions.labels),
        "models": {
            name: {"of": of, "classes": _text(classes)} for name, (of, classes) in sorted(predictions.models.items())
        },
        "near_duplicates": None if near is None else {"rows": _text(near[0]), "labels_differ": near[1]},
    }
    write_json(path, content)


def _numbers(text: str) -> np.ndarray:
    return np.array([int(word) for word in text.split()], dtype=np.int64)


def _text(numbers: np.ndarray) -> str:
    return " ".join(map(str, numbers.tolist()))
