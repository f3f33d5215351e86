"""Ask the language model for words.

python -m bilm lm "Stocks fell in New York."              how surprising it is, from either side
python -m bilm lm "The ___ of the company resigned."      what fits the blank
python -m bilm lm --after 15 "Stocks fell"                how it may go on
python -m bilm lm --before 10 "in New York on Tuesday."   how it may have begun
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bilm.cli.run import start_answering
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting, threads_setting
from bilm.runtime.paths import ROOT


@dataclass(frozen=True)
class WordOptions:
    """What to ask."""

    texts: tuple[str, ...] = setting((), "texts; ___ in one of them is a blank", positional=True)
    after: int = setting(0, "words to set behind each text")
    before: int = setting(0, "words to set before each text")
    samples: int = setting(3, "how many continuations of each text", at_least=1)
    temperature: float = setting(0.8, "below 1 the likely becomes likelier; 0 always takes the likeliest word")
    top_p: float = setting(0.9, "draw from the likeliest words that together have this probability", below=1.0001)
    words: int = setting(8, "how many words to show for a blank", at_least=1)
    seed: int = setting(0, "of what is drawn", below=2**62)
    bilm: str = setting(str(ROOT / "models" / "bilstm.pt"), "the language model")
    device: str = setting("cpu", "cpu, cuda, cuda:1, auto ...")
    threads: int | None = threads_setting()


def main(arguments: Sequence[str] | None = None) -> None:
    (options,) = parse_options(__doc__, WordOptions, arguments=arguments, program="python -m bilm lm")
    if not options.texts:
        raise UserError('give a text: python -m bilm lm "Stocks fell in New York."')
    if options.after and options.before:
        raise UserError("--after or --before: one at a time.")
    # torch takes seconds to import; a mistyped option is told at once.
    from pathlib import Path

    from bilm.checkpoints.pretrained import load_bilm
    from bilm.evaluation.tables import table
    from bilm.inference.word_predictor import BLANK, WordPredictor, joined
    from bilm.runtime.terminal import printable
    from bilm.text.readers import replace_surrogates

    model = WordPredictor(load_bilm(Path(options.bilm)), start_answering(options))
    random = np.random.default_rng(options.seed)
    for text in map(replace_surrogates, options.texts):
        if options.after or options.before:
            direction = "forward" if options.after else "backward"
            for _ in range(options.samples):
                how = (direction, options.temperature, options.top_p, random)
                new = model.generate(text, max(options.after, options.before), *how)
                words = model.vocabulary.tokenizer(text)
                print(printable(joined([*words, *new] if options.after else [*new, *words])))
        elif BLANK in text:
            for number, fitting in enumerate(model.fill(text, options.words), start=1):
                print(f"blank {number}: " + ", ".join(f"{word} {p:.1%}" for word, p in fitting))
        else:
            (scores,) = model.score([text])
            print(", ".join(f"{direction} perplexity {score.perplexity:.1f}" for direction, score in scores.items()))
            forward, backward = scores.values()
            # In the order of the text: the backward direction reads it from its end, and each has its own boundary.
            pairs = zip(forward.words[:-1], forward.nll[:-1], backward.nll[:-1][::-1], strict=True)
            rows = [[word, f"{forward:.2f}", f"{backward:.2f}"] for word, forward, backward in pairs]
            print(table(rows, ["-log p, nats", "from before", "from behind"]))
