"""What the best classifier gets wrong: which classes it takes for which, and typical texts.

Nobody picks them: of each of the most frequent confusions, the text that it is surest of and the one in the middle.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from bilm.text.tokenizer import clean

CONFUSIONS = 5
# Characters of a text that are kept, cut at a blank.
SHOWN = 160


def typical_mistakes(
    labels: np.ndarray, probabilities: np.ndarray, texts: Sequence[str], class_names: Sequence[str]
) -> dict[str, Any]:
    """labels: int (N,); probabilities: (N, C); texts: N of them.

    {"rows": N, "mistakes": how many, "confusions": [{"true", "predicted", "count", "texts": [{"row" from 1,
    "probability" of the predicted class, "of_true", "text"}]}]}, the most frequent confusions first.
    """
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    counted = Counter(zip(labels[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    confusions = []
    for (true, taken), count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:CONFUSIONS]:
        rows = wrong[(labels[wrong] == true) & (predicted[wrong] == taken)]
        rows = rows[np.argsort(-probabilities[rows, taken], kind="stable")]
        shown = [
            {
                "row": int(row) + 1,
                "probability": float(probabilities[row, taken]),
                "of_true": float(probabilities[row, true]),
                "text": shortened(texts[row]),
            }
            for row in dict.fromkeys((rows[0], rows[len(rows) // 2]))
        ]
        names = {"true": class_names[true], "predicted": class_names[taken]}
        confusions.append({**names, "count": count, "texts": shown})
    return {"rows": len(labels), "mistakes": len(wrong), "confusions": confusions}


def shortened(text: str) -> str:
    """At most SHOWN characters of the text as it is read, and an ellipsis where there are more."""
    text = " ".join(clean(text).split())
    return text if len(text) <= SHOWN else text[:SHOWN].rsplit(" ", 1)[0] + " …"
