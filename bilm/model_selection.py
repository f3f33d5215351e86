"""The choice of a linear model by its accuracy on validation rows: its features, and C.

C is that of scikit-learn, the inverse of the regularisation strength. Files call it "strength".
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

# Beyond these there is nothing to gain: with a smaller C the weights hardly change their direction, with a larger one
# nearly all training rows are well separated already.
C_VALUES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

Candidate = TypeVar("Candidate", bound=Hashable)


@dataclass(frozen=True)
class Found(Generic[Candidate]):
    """The best candidate and its C; accuracies: by (candidate, C), of all that were tried."""

    candidate: Candidate
    C: float
    accuracies: dict[tuple[Candidate, float], float]


def search(
    candidates: Sequence[Candidate], accuracy: Callable[[Candidate, float], float], usual: float
) -> Found[Candidate]:
    """Find the candidate and the C, one of C_VALUES, with the highest `accuracy` (candidate, C).

    Ties are broken by the C nearest to the default, `usual`, and then by the order of the candidates: on few rows, most
    values of C have the same accuracy.

    Candidates are searched one after the other. For each, the neighbours of the best C so far are tried until all of
    them have been: the best C is then between two others, or at an end of C_VALUES. The first search begins at the
    default C, each later one at the best C of the search before it.
    """
    accuracies: dict[tuple[Candidate, float], float] = {}
    best = start = C_VALUES.index(usual)
    for candidate in candidates:
        tried: dict[int, float] = {}
        while untried := {*range(len(C_VALUES))[max(0, best - 1) : best + 2]} - tried.keys():
            tried |= {index: accuracy(candidate, C_VALUES[index]) for index in untried}
            best = max(tried, key=lambda index: (tried[index], -abs(index - start)))
        accuracies |= {(candidate, C_VALUES[index]): tried[index] for index in sorted(tried)}
    candidate, C = max(accuracies, key=lambda x: (accuracies[x], -abs(C_VALUES.index(x[1]) - start)))
    return Found(candidate, C, accuracies)


def is_clearly_better(right: np.ndarray, other_right: np.ndarray) -> bool:
    """Whether one model is more accurate than another on the same rows by more than two standard errors.

    right, other_right: bool (N,). The standard error is that of McNemar's test, in which each row that one model alone
    has right is equally likely to be of either kind.
    """
    more, fewer = int((right & ~other_right).sum()), int((~right & other_right).sum())
    return more - fewer > 2 * math.sqrt(more + fewer)
