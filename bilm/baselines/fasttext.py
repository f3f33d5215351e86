"""A supervised bag of words and pairs of words (fastText, Joulin et al. 2016), by the package floret if it is there."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bilm.runtime.files import atomic_write
from bilm.runtime.optional import require

# Peak learning rates that validation chooses from.
RATES = (0.05, 0.1, 0.2)
EPOCHS, WIDTH, PAIRS = 5, 100, 500_000  # pairs of words share so many vectors


def fit_fasttext(
    texts: Sequence[Sequence[str]],
    labels: np.ndarray,
    training: np.ndarray,
    validation: np.ndarray,
    folder: Path,
    seed: int,
) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, float]]:
    """Rows -> their classes, int64, by the rate that does best on `validation`; and the accuracies there by rate.

    texts: words of each row; folder: where the rows `training` lie meanwhile, as the package wants them. Raises
    UserError when the package is missing.
    """
    floret = require("floret", "fasttext")
    path = folder / "fasttext.txt"
    try:
        with atomic_write(path) as temporary:
            lines = (f"__label__{labels[row]} {' '.join(texts[row])}\n" for row in training)
            temporary.write_text("".join(lines), encoding="utf-8")
        options = {
            "epoch": EPOCHS,
            "dim": WIDTH,
            "wordNgrams": 2,
            "bucket": PAIRS,
            "thread": 1,
            "seed": seed % 2**31,
            "verbose": 0,
        }
        models = {rate: floret.train_supervised(str(path), lr=rate, **options) for rate in RATES}
    finally:
        path.unlink(missing_ok=True)

    def classes(model, rows: np.ndarray) -> np.ndarray:
        found, _ = model.predict([" ".join(texts[row]) for row in rows])
        return np.array([int(label.removeprefix("__label__")) for (label,) in found], dtype=np.int64)

    accuracies = {rate: float((classes(m, validation) == labels[validation]).mean()) for rate, m in models.items()}
    best = max(RATES, key=accuracies.__getitem__)
    return partial(classes, models[best]), {str(rate): accuracy for rate, accuracy in accuracies.items()}
