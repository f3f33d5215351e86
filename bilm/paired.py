"""Two classifiers on the same rows, row by row: is one better, or luckier?"""

import math
from typing import Any

import numpy as np


def mcnemar(actual: np.ndarray, one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """The exact test of McNemar 1947 for three int arrays (N,): labels, and the classes that two classifiers give.

    difference: of their accuracies, in favour of `one`, with `interval`, its 95 % confidence interval (Wald's, for
    paired proportions). p: of a difference at least as large, either way, were both equally good: a fair coin, thrown
    for each row that one of them alone has right.
    """
    from scipy.stats import binomtest  # takes a second to import

    right, other_right = one == actual, other == actual
    only_one, only_other = int((right & ~other_right).sum()), int((~right & other_right).sum())
    rows, discordant = len(actual), only_one + only_other
    difference = (only_one - only_other) / rows
    spread = 1.96 * math.sqrt(discordant - (only_one - only_other) ** 2 / rows) / rows
    return {
        "difference": difference,
        "interval": [difference - spread, difference + spread],
        "only_one_right": only_one,
        "only_other_right": only_other,
        "p": float(binomtest(only_one, discordant).pvalue) if discordant else 1.0,
    }
