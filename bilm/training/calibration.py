"""Temperature scaling (Guo et al. 2017): probabilities that are as high as the accuracy of the answers."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

# Bounds of the search: T is between 1 / 10 and 10.
_LARGEST = 10.0


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the T for which softmax(logits / T) gives `labels` the highest likelihood; 1.0 without rows.

    The labels are smoothed as if one row were added that could be of any class, in the manner of Laplace and of Platt
    1999: where a few rows are all classified correctly, T would otherwise fall to its lower bound.

    logits: fp (N, C), of rows that the classifier was not trained on; labels: int64 (N,).
    """
    if not len(labels):
        return 1.0
    scores, targets = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    added = 1 / (len(labels) + 1)
    limits = (-np.log(_LARGEST), np.log(_LARGEST))
    found = minimize_scalar(
        lambda t: float(F.cross_entropy(scores / np.exp(t), targets, label_smoothing=added)),
        bounds=limits,
        method="bounded",
    )
    return float(np.exp(found.x))


def uncalibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return what softmax(logits) gives instead of softmax(logits / temperature), both fp (N, C)."""
    powers = np.maximum(probabilities.astype(np.float64), 1e-300) ** temperature
    return powers / powers.sum(1, keepdims=True)
