"""Query the language model.

python -m bilm lm "Stocks fell in New York."              the surprisal of each word, in either direction
python -m bilm lm "The ___ of the company resigned."      words that fill the blank
python -m bilm lm --after 15 "Stocks fell"                continuations
python -m bilm lm --before 10 "in New York on Tuesday."   beginnings
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bilm.cli.options import ModelOptions
from bilm.cli.start import start_inference
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.terminal import printable

if TYPE_CHECKING:
    import numpy as np

    from bilm.inference.word_predictor import WordPredictor


@dataclass(frozen=True)
class WordOptions:
    """The query."""

    texts: tuple[str, ...] = setting((), "texts; ___ in a text is a blank", positional=True)
    after: int = setting(0, "words to append to each text")
    before: int = setting(0, "words to prepend to each text")
    samples: int = setting(3, "continuations of each text", at_least=1)
    temperature: float = setting(0.8, "values below 1 favour likely words; 0 always takes the likeliest one")
    top_p: float = setting(0.9, "sample from the likeliest words that together have this probability", below=1.0001)
    words: int = setting(8, "words to print for a blank", at_least=1)
    seed: int = setting(0, "seed of the samples", below=2**62)


@dataclass(frozen=True)
class Options:
    """All options of this command, by group."""

    words: WordOptions = WordOptions()
    model: ModelOptions = ModelOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, arguments=arguments, program="python -m bilm lm")
    query = options.words
    if not query.texts:
        raise UserError('give a text: python -m bilm lm "Stocks fell in New York."')
    if query.after and query.before:
        raise UserError("--after and --before exclude each other.")
    if (query.after or query.before) and any("___" in text for text in query.texts):
        raise UserError("--after and --before are for texts without a blank (___).")
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    import numpy as np

    from bilm.checkpoints.model_format import load_bilm
    from bilm.inference.word_predictor import BLANK, WordPredictor
    from bilm.text.readers import replace_surrogates

    device = start_inference(options.model)
    model = WordPredictor(load_bilm(Path(options.model.bilm)), device, options.model.precision)
    random = np.random.default_rng(query.seed)
    for text in map(replace_surrogates, query.texts):
        if query.after or query.before:
            print_samples(model, text, query, random)
        elif BLANK in text:
            for number, candidates in enumerate(model.fill(text, query.words), start=1):
                print(f"blank {number}: " + ", ".join(f"{word} {p:.1%}" for word, p in candidates))
        else:
            print_surprisal(model, text)


def print_samples(model: "WordPredictor", text: str, query: WordOptions, random: "np.random.Generator") -> None:
    """Print texts that continue `text`, or that end with it."""
    from bilm.inference.word_predictor import joined

    direction, count = ("forward", query.after) if query.after else ("backward", query.before)
    words = model.vocabulary.tokenizer(text)
    for _ in range(query.samples):
        new = model.generate(text, count, direction, query.temperature, query.top_p, random)
        print(printable(joined([*words, *new] if query.after else [*new, *words])))


def print_surprisal(model: "WordPredictor", text: str) -> None:
    """Print the perplexity of a text, and the surprisal of each of its words, in both directions."""
    from bilm.evaluation.tables import table

    (scores,) = model.score([text])
    print(", ".join(f"{direction} perplexity {score.perplexity:.1f}" for direction, score in scores.items()))
    forward, backward = scores.values()
    # In the order of the text: the backward direction reads from its end, and each direction has its own boundary.
    pairs = zip(forward.words[:-1], forward.nll[:-1], backward.nll[:-1][::-1], strict=True)
    rows = [[word, f"{left:.2f}", f"{right:.2f}"] for word, left, right in pairs]
    print(table(rows, ["-log p, nats", "from the left", "from the right"]))
