"""Explanations of predictions, word by word: coloured for a terminal, as plain text, and as one HTML page."""

import html
from collections.abc import Sequence

import numpy as np

from bilm.inference.text_classifier import Explanation
from bilm.runtime.terminal import printable

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The words that decided</title>
<style>
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }}
article {{ border-top: 1px solid #ccc; padding: 1rem 0 }}
mark {{ padding: .05em .15em; border-radius: .2em; color: inherit }}
table {{ border-collapse: collapse; font-size: .9rem }}
td {{ padding: 0 .8rem 0 0 }}
.note {{ color: #555; font-size: .9rem }}
</style>
<h1>The words that decided</h1>
<p class="note">Green words support the class, red words oppose it. The weight of a word is by how much the log-odds of
the class fall when the word is left out; point at a word to see it.</p>
{articles}
</html>
"""


def in_colour(explanation: Explanation) -> str:
    """Format the words for a terminal: green if they support the class, red if they oppose it; strong ones are bold."""
    parts = []
    for word, weight in zip(map(printable, explanation.words), _relative_weights(explanation), strict=True):
        code = ("32" if weight > 0 else "31") + (";1" if abs(weight) > 0.5 else "")
        parts.append(f"\x1b[{code}m{word}\x1b[0m" if abs(weight) > 0.1 else word)
    return " ".join(parts)


def in_numbers(explanation: Explanation) -> str:
    """Format the words as plain text, with weights of at least 0.1: "stocks (+0.78) fell (+0.30) after"."""
    pairs = zip(map(printable, explanation.words), explanation.weights, strict=True)
    return " ".join(f"{word} ({weight:+.2f})" if abs(weight) >= 0.1 else word for word, weight in pairs)


def as_page(explanations: Sequence[Explanation], classes: Sequence[str]) -> str:
    """Format a self-contained HTML page with one section per text."""
    return _PAGE.format(articles="\n".join(_article(explanation, classes) for explanation in explanations))


def _article(explanation: Explanation, classes: Sequence[str]) -> str:
    words = " ".join(
        f'<mark style="background:{_colour(relative)}" title="{weight:+.2f}">{html.escape(word)}</mark>'
        for word, weight, relative in zip(
            explanation.words, explanation.weights, _relative_weights(explanation), strict=True
        )
    )
    rows = "".join(
        f"<tr><td>{html.escape(name)}<td>{p:.1%}" for name, p in zip(classes, explanation.probabilities, strict=True)
    )
    title = html.escape(classes[int(explanation.probabilities.argmax())])
    return f"<article><h2>{title}</h2><p>{words or '(no words)'}</p><table>{rows}</table></article>"


def _relative_weights(explanation: Explanation) -> np.ndarray:
    """Scale the weights to the range from -1 to 1."""
    return explanation.weights / (float(np.abs(explanation.weights).max(initial=0.0)) or 1.0)


def _colour(weight: float) -> str:
    """Return the CSS colour of a weight from -1 to 1."""
    return f"rgba({'0,140,60' if weight > 0 else '200,40,30'},{abs(weight) * 0.55:.2f})"
