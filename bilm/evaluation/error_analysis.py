"""Errors of the best classifier: the most frequent confusions of classes, with example texts.

The examples are not hand-picked: of each confusion, the texts with the highest and with the median probability.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from bilm.text.tokenizer import clean

CONFUSIONS = 5
# Longer texts are cut, at a space, to this number of characters.
MAX_CHARACTERS = 160


def typical_mistakes(
    labels: np.ndarray, probabilities: np.ndarray, texts: Sequence[str], class_names: Sequence[str]
) -> dict[str, Any]:
    """Return the most frequent confusions, with example texts.

    labels: int (N,); probabilities: float (N, C); texts: N of them; class_names: C of them.

    Returns {"rows": N, "mistakes": number of errors, "confusions": [{"true", "predicted", "count", "texts": [{"row"
    (from 1), "probability" (of the predicted class), "of_true", "text"}]}]}, the most frequent confusions first.
    """
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    counted = Counter(zip(labels[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    confusions = []
    for (true, guess), count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:CONFUSIONS]:
        rows = wrong[(labels[wrong] == true) & (predicted[wrong] == guess)]
        rows = rows[np.argsort(-probabilities[rows, guess], kind="stable")]
        examples = [
            {
                "row": int(row) + 1,
                "probability": float(probabilities[row, guess]),
                "of_true": float(probabilities[row, true]),
                "text": shortened(texts[row]),
            }
            for row in dict.fromkeys((rows[0], rows[len(rows) // 2]))
        ]
        names = {"true": class_names[true], "predicted": class_names[guess]}
        confusions.append({**names, "count": count, "texts": examples})
    return {"rows": len(labels), "mistakes": len(wrong), "confusions": confusions}


def shortened(text: str) -> str:
    """Return the cleaned text; an ellipsis replaces all after MAX_CHARACTERS."""
    text = " ".join(clean(text).split())
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS].rsplit(" ", 1)[0] + " …"
