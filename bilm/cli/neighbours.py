"""Find tokens in similar contexts: the nearest tokens in other texts, layer by layer.

    python -m bilm neighbours --build --input texts.txt --index my.index          once; one text per line
    python -m bilm neighbours --index my.index --word jets "The Jets lost again."

Layer 0 depends on the word alone, the higher layers on its context as well: they separate the senses of a word.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bilm.cli.options import ModelOptions, TextOptions
from bilm.cli.start import start_inference
from bilm.cli.truncation import print_truncation
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path
from bilm.runtime.process import quoted
from bilm.runtime.terminal import printable

# Texts that are read before their vectors are computed.
BATCH_TEXTS = 512
# Characters of a word that are printed.
MAX_CHARACTERS = 40


@dataclass(frozen=True)
class NeighbourOptions:
    """The index, and the word."""

    word: str | None = setting(None, "the word whose neighbours to find, or its number in the text, from 1")
    count: int = setting(5, "neighbours in each layer", at_least=1)
    index: str = setting("neighbours.index", "folder of the index")
    build: bool = setting(False, "build the index of the texts of --input")

    def check(self, texts: TextOptions) -> None:
        """Raises UserError for options that do not fit together."""
        if self.build != (texts.input is not None) or self.build == bool(texts.texts):
            raise UserError("either --build --input FILE, or texts and --word WORD.")
        if texts.texts and self.word is None:
            raise UserError("name the word: --word WORD.")


@dataclass(frozen=True)
class Options:
    """All options of this command, by group."""

    texts: TextOptions = TextOptions()
    neighbours: NeighbourOptions = NeighbourOptions()
    model: ModelOptions = ModelOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, arguments=arguments, program="python -m bilm neighbours")
    options.neighbours.check(options.texts)
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.inference.elmo import ELMo
    from bilm.inference.token_index import Index, build_index

    device, folder = start_inference(options.model), Path(options.neighbours.index)
    elmo = ELMo.load(options.model.bilm, device=device, precision=options.model.precision)
    if options.neighbours.build:
        count = build_index(elmo, batches_of_texts(options.texts), folder)
        print(f"Wrote {display_path(folder)}: {count:,} tokens.", end=" ")
        bilm = "" if options.model.bilm == ModelOptions.bilm else f" --bilm {quoted(options.model.bilm)}"
        print(f"Next: python -m bilm neighbours{bilm} --index {quoted(options.neighbours.index)} --word ...")
    else:
        index = Index(folder, elmo)
        marks = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("[", "]")
        for text in options.texts.read():
            words = elmo.words(text)
            position = find_word(elmo.vocabulary.tokenizer.cased(str(options.neighbours.word)), words)
            (vectors,) = elmo.embed([words])
            for layer in range(elmo.num_layers):
                print(f"e{layer}: {marked(words, position, marks)}")
                for near in index.nearest(vectors[layer, position], layer, options.neighbours.count, exclude=text):
                    print(f"  {near.similarity:.3f}  {marked(near.words, near.position, marks)}")
    print_truncation(elmo.vocabulary.tokenizer)


def batches_of_texts(texts: TextOptions) -> Iterator[Sequence[str]]:
    """The texts of --input in batches, with a progress bar."""
    from bilm.runtime import threads
    from bilm.runtime.terminal import progress
    from bilm.text.readers import batched

    with progress(unit="text", label="vectors") as bar:
        for batch in batched(texts.read(), BATCH_TEXTS):
            yield batch
            bar.update(len(batch))
            threads.after_step()


def find_word(word: str, words: Sequence[str]) -> int:
    """The position of `word`, or of the word with this number. Raises UserError unless there is exactly one."""
    if word.isdecimal() and word not in words:
        if not 1 <= int(word) <= len(words):
            raise UserError(f"--word {word}: the text has {len(words)} words.")
        return int(word) - 1
    positions = [i for i, other in enumerate(words) if other == word]
    if not positions:
        raise UserError(f"--word: {word!r} is not among the words {' '.join(words)!r}.")
    if len(positions) > 1 and word.isdecimal() and int(word) - 1 in positions:
        return int(word) - 1
    if len(positions) > 1:
        numbers = ", ".join(str(position + 1) for position in positions)
        raise UserError(f"--word: {word!r} occurs more than once in the text; choose one by its number: {numbers}.")
    return positions[0]


def marked(words: Sequence[str], position: int, marks: tuple[str, str], context: int = 10) -> str:
    """The word at `position` between the two marks, with `context` words on either side."""
    start, end = max(0, position - context), position + context + 1
    words = [printable(word if len(word) <= MAX_CHARACTERS else word[:MAX_CHARACTERS] + "…") for word in words]
    parts = [*words[start:position], f"{marks[0]}{words[position]}{marks[1]}", *words[position + 1 : end]]
    return ("… " if start else "") + " ".join(parts) + (" …" if end < len(words) else "")
