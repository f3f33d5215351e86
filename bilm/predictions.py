"""results/predictions.json: the class that each model gives each test row, so that any two can be compared.

    {"labels": "2 0 3 ...", "models": {NAME: "2 0 1 ..."}}

Classes are counted from 0, in the order of the rows of test.csv. Other labels than before, of other rows, empty it.
"""

from pathlib import Path

import numpy as np

from bilm.errors import UserError
from bilm.folders import read_json, write_json


class Predictions:
    """What is in the file at `path`, for test rows with these `labels`, int (N,)."""

    def __init__(self, path: Path, labels: np.ndarray):
        """Raises UserError when the file is there and not one that `write` wrote."""
        self.path = path
        self.labels = labels
        self.models: dict[str, np.ndarray] = {}
        if path.exists():
            found = read_json(path)
            try:
                theirs = _numbers(found["labels"])
                models = {name: _numbers(text) for name, text in found["models"].items()}
                if any(len(classes) != len(theirs) for classes in models.values()):
                    raise ValueError
                self.models = models if np.array_equal(theirs, labels) else {}
            except (TypeError, KeyError, ValueError, AttributeError) as error:
                raise UserError(f"{path} does not hold predictions. Remove it; evaluate.py writes it anew.") from error

    def write(self) -> None:
        models = {name: _text(classes) for name, classes in sorted(self.models.items())}
        write_json(self.path, {"labels": _text(self.labels), "models": models})


def _numbers(text: str) -> np.ndarray:
    return np.array([int(word) for word in text.split()], dtype=np.int64)


def _text(numbers: np.ndarray) -> str:
    return " ".join(map(str, numbers.tolist()))
