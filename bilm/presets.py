"""Settings by name, for --preset: what each changes in the defaults of ELMO.py and of classification.py.

What each takes and reaches stands in the README.
"""

from typing import Any

PRETRAINING: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 3},
    "base": {},
    "best": {"epochs": 12, "dropout": 0.25},
}

CLASSIFICATION: dict[str, dict[str, Any]] = {
    "fast": {"mode": "function"},
    "base": {},
    "best": {"mode": "all", "epochs": 3, "dropout": 0.15},
}
