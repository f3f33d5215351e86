"""Where else does a word stand like that? The nearest tokens in other texts, layer by layer.

    python -m bilm neighbours --build --input texts.txt --index my.index          once; a text a line
    python -m bilm neighbours --index my.index --word jets "The Jets lost again."

Layer 0 knows the word alone, the layers above it what stands around it: senses part there.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bilm.cli.run import start_answering
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting, threads_setting
from bilm.runtime.paths import ROOT, display_path
from bilm.runtime.terminal import printable

PORTION = 512
# Characters of a word that are shown.
LONGEST = 40


@dataclass(frozen=True)
class NeighbourOptions:
    """What to look for, and where."""

    texts: tuple[str, ...] = setting((), "texts in which --word stands", positional=True)
    word: str | None = setting(None, "the word whose neighbours are asked for, or its number in the text, from 1")
    count: int = setting(5, "neighbours in each layer", at_least=1)
    index: str = setting("neighbours.index", "folder of the index")
    build: bool = setting(False, "make the index of the texts of --input")
    input: str | None = setting(None, "with --build: file with texts, or - for standard input")
    column: str | None = setting(
        None, "with --build: column of the texts where the file has columns: its name, or its number from 1"
    )
    bilm: str = setting(str(ROOT / "models" / "bilstm.pt"), "the language model")
    device: str = setting("cpu", "cpu, cuda, cuda:1, auto ...")
    threads: int | None = threads_setting()


def main(arguments: Sequence[str] | None = None) -> None:
    (options,) = parse_options(__doc__, NeighbourOptions, arguments=arguments, program="python -m bilm neighbours")
    if options.build != (options.input is not None) or options.build == bool(options.texts):
        raise UserError("either --build --input FILE, or texts and --word WORD.")
    if options.texts and options.word is None:
        raise UserError("name the word: --word WORD.")
    if options.column is not None and options.input is None:
        raise UserError("--column is for --input.")
    # torch takes seconds to import; a mistyped option is told at once.
    from bilm.cli.options import print_truncation
    from bilm.inference.elmo import ELMo
    from bilm.inference.token_index import Index, build_index
    from bilm.runtime import threads
    from bilm.runtime.terminal import progress
    from bilm.text.readers import batched, read_texts, replace_surrogates

    elmo, folder = ELMo.load(options.bilm, device=start_answering(options)), Path(options.index)
    if options.build:

        def portions() -> Iterator[Sequence[str]]:
            with progress(unit="text", label="vectors") as bar:
                for portion in batched(read_texts(str(options.input), options.column), PORTION):
                    yield portion
                    bar.update(len(portion))
                    threads.after_step()

        count = build_index(elmo, portions(), folder)
        print_truncation(elmo.vocabulary.tokenizer)
        following = f"python -m bilm neighbours --index {options.index} --word ..."
        print(f"Wrote {display_path(folder)}: {count:,} tokens. Next: {following}")
        return
    index = Index(folder, elmo)
    mark = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("[", "]")
    for text in map(replace_surrogates, options.texts):
        words = elmo.words(text)
        place = place_of(elmo.vocabulary.tokenizer.cased(str(options.word)), words)
        (vectors,) = elmo.embed([words])
        for layer in range(elmo.num_layers):
            print(f"e{layer}: {marked(words, place, mark)}")
            for found in index.nearest(vectors[layer, place], layer, options.count, but=text):
                print(f"  {found.similarity:.3f}  {marked(found.words, found.place, mark)}")
    print_truncation(elmo.vocabulary.tokenizer)


def place_of(word: str, words: Sequence[str]) -> int:
    """Raises UserError where the word does not stand in the text, or more than once."""
    if word.isdecimal() and word not in words:
        if not 1 <= int(word) <= len(words):
            raise UserError(f"--word {word}: the text has {len(words)} words.")
        return int(word) - 1
    places = [i for i, other in enumerate(words) if other == word]
    if not places:
        raise UserError(f"--word: {word!r} is none of the words {' '.join(words)!r}.")
    if len(places) > 1:
        numbers = ", ".join(str(place + 1) for place in places)
        raise UserError(f"--word: {word!r} stands in the text more than once; say which by its number: {numbers}.")
    return places[0]


def marked(words: Sequence[str], place: int, mark: tuple[str, str], around: int = 10) -> str:
    """The word at `place` between the two marks, with up to so many words on either side."""
    start, end = max(0, place - around), place + around + 1
    words = [printable(word if len(word) <= LONGEST else word[:LONGEST] + "…") for word in words]
    parts = [*words[start:place], f"{mark[0]}{words[place]}{mark[1]}", *words[place + 1 : end]]
    return ("… " if start else "") + " ".join(parts) + (" …" if end < len(words) else "")
