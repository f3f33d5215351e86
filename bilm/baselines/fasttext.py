"""A linear classifier on the mean vector of words and pairs of words (fastText, Joulin et al. 2016), with floret."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bilm.runtime.files import atomic_write
from bilm.runtime.optional_packages import require

# Peak learning rates; the best one on the validation rows is chosen.
RATES = (0.05, 0.1, 0.2)
OPTIONS = {
    "epoch": 5,
    "dim": 100,
    "wordNgrams": 2,
    "bucket": 500_000,  # vectors that the pairs of words share, by their hashes
    "thread": 1,
    "verbose": 0,
}


def fit_fasttext(
    texts: Sequence[Sequence[str]],
    labels: np.ndarray,
    training: np.ndarray,
    validation: np.ndarray,
    folder: Path,
    seed: int,
) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, float]]:
    """Train on the rows `training` with each of RATES, and choose the rate by accuracy on the rows `validation`.

    Returns a function, rows -> their classes (int64), and the validation accuracy by rate. texts: words of each row;
    folder: for a temporary file with the rows `training`, which the package reads. Raises UserError when the package
    is missing.
    """
    floret = require("floret", "fasttext")
    path = folder / "fasttext.txt"
    try:
        with atomic_write(path) as temporary:
            lines = (f"__label__{labels[row]} {' '.join(texts[row])}\n" for row in training)
            temporary.write_text("".join(lines), encoding="utf-8")
        models = {rate: floret.train_supervised(str(path), lr=rate, seed=seed % 2**31, **OPTIONS) for rate in RATES}
    finally:
        path.unlink(missing_ok=True)

    def classify(model: Any, rows: np.ndarray) -> np.ndarray:
        predictions, _ = model.predict([" ".join(texts[row]) for row in rows])
        return np.array([int(label.removeprefix("__label__")) for (label,) in predictions], dtype=np.int64)

    accuracies = {rate: float((classify(m, validation) == labels[validation]).mean()) for rate, m in models.items()}
    best = max(RATES, key=accuracies.__getitem__)
    return partial(classify, models[best]), {str(rate): accuracy for rate, accuracy in accuracies.items()}
