"""What decided, word by word: for a terminal, as plain text, and as one HTML page that needs nothing else."""

import html
from collections.abc import Sequence

import numpy as np

from bilm.inference.text_classifier import Explanation
from bilm.runtime.terminal import printable

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What decided</title>
<style>
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }}
article {{ border-top: 1px solid #ccc; padding: 1rem 0 }}
mark {{ padding: .05em .15em; border-radius: .2em; color: inherit }}
table {{ border-collapse: collapse; font-size: .9rem }}
td {{ padding: 0 .8rem 0 0 }}
.note {{ color: #555; font-size: .9rem }}
</style>
<h1>What decided</h1>
<p class="note">Green words speak for the class, red ones against it: by how much the logarithm of its odds falls when
the word is left out. The number shows when a word is pointed at.</p>
{articles}
</html>
"""


def in_colour(explanation: Explanation) -> str:
    """The words for a terminal: green for those that speak for the class, red for those against, stronger is bolder."""
    largest = float(np.abs(explanation.weights).max(initial=0.0)) or 1.0
    parts = []
    for word, weight in zip(map(printable, explanation.words), explanation.weights / largest, strict=True):
        code = ("32" if weight > 0 else "31") + (";1" if abs(weight) > 0.5 else "")
        parts.append(f"\x1b[{code}m{word}\x1b[0m" if abs(weight) > 0.1 else word)
    return " ".join(parts)


def in_numbers(explanation: Explanation) -> str:
    """The words, each with its weight where that is not next to nothing: "stocks (+0.78) fell (+0.30) after"."""
    pairs = zip(map(printable, explanation.words), explanation.weights, strict=True)
    return " ".join(f"{word} ({weight:+.2f})" if abs(weight) >= 0.1 else word for word, weight in pairs)


def as_page(explanations: Sequence[Explanation], classes: Sequence[str]) -> str:
    """A page with one section per text."""
    return _PAGE.format(articles="\n".join(_article(explanation, classes) for explanation in explanations))


def _article(explanation: Explanation, classes: Sequence[str]) -> str:
    best = int(explanation.probabilities.argmax())
    largest = float(np.abs(explanation.weights).max(initial=0.0)) or 1.0
    words = " ".join(
        f'<mark style="background:{_colour(weight / largest)}" title="{weight:+.2f}">{html.escape(word)}</mark>'
        for word, weight in zip(explanation.words, explanation.weights, strict=True)
    )
    rows = "".join(
        f"<tr><td>{html.escape(name)}<td>{p:.1%}" for name, p in zip(classes, explanation.probabilities, strict=True)
    )
    return (
        f"<article><h2>{html.escape(classes[best])}</h2><p>{words or '(no words)'}</p><table>{rows}</table></article>"
    )


def _colour(weight: float) -> str:
    """weight: from -1 to 1."""
    return f"rgba({'0,140,60' if weight > 0 else '200,40,30'},{abs(weight) * 0.55:.2f})"
