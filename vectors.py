"""ELMo's vectors of texts, for other programs.

    python vectors.py --input texts.txt --output texts.hdf5            of each word in each layer, as `allennlp elmo`
    python vectors.py --input texts.txt --output texts.npz --per text  one of each text: the mean over its words
    python vectors.py --input news.csv --column Description --output news.npz --per text --layers 1,2

The same text has the same vectors every time, whatever stands beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bilm.config import setting
from bilm.errors import UserError
from bilm.folders import ROOT, shown
from bilm.options import parse_options
from utils import run_script, start_answering

PORTION = 512


@dataclass(frozen=True)
class VectorOptions:
    """Of which texts, and where to."""

    texts: tuple[str, ...] = setting((), "texts", positional=True)
    input: str | None = setting(None, "file with texts, or - for standard input")
    column: str | None = setting(None, "column of the texts where the file has columns: its name, or its number from 1")
    tokenized: bool = setting(False, "the texts are words with blanks between them; take those as they are")
    output: str = setting("vectors.hdf5", "file to write, .hdf5 or .npz")
    per: str = setting("token", "vectors of each token, or of each text", choices=("token", "text"))
    layers: str | None = setting(
        None, "numbers of layers with commas between them, or all (default: all, but per text all but 0)"
    )
    bilm: str = setting(str(ROOT / "models" / "bilstm.pt"), "the language model")
    device: str = setting("cpu", "cpu, cuda, cuda:1, auto ...")


def main() -> None:
    (options,) = parse_options(__doc__, VectorOptions)
    if bool(options.texts) == (options.input is not None):
        raise UserError("give texts, or --input FILE (- for standard input).")
    # torch takes seconds to import; a mistyped option is told at once.
    from bilm.elmo import ELMo
    from bilm.progress import progress
    from bilm.text_input import in_portions, read_texts, whole
    from bilm.vector_files import write_vectors

    elmo = ELMo.load(options.bilm, device=start_answering(options.device))
    layers = chosen_layers(options.layers, elmo.num_layers)
    texts = read_texts(options.input, options.column) if options.input is not None else map(whole, options.texts)

    def found() -> Iterator[tuple[str, list[str], np.ndarray]]:
        with progress(unit="text", label="vectors", disable=options.input is None) as bar:
            for portion in in_portions(texts, PORTION):
                words = [text.split() if options.tokenized else elmo.words(text) for text in portion]
                if options.per == "text":
                    vectors = list(elmo.sentence_vectors(words, layers))
                else:
                    vectors = [v if layers is None else v[list(layers)] for v in elmo.embed(words)]
                yield from zip(portion, words, vectors, strict=True)
                bar.update(len(portion))

    count = write_vectors(Path(options.output), found())
    print(f"Wrote {shown(Path(options.output))}: {count:,} texts.")


def chosen_layers(asked: str | None, count: int) -> list[int] | None:
    """Raises UserError where these are no layers of a model that has so many."""
    if asked is None:
        return None
    if asked == "all":
        return list(range(count))
    if not all(part.strip().isdecimal() and int(part) < count for part in asked.split(",")):
        raise UserError(
            f"--layers: {asked!r} should be numbers from 0 to {count - 1} with commas between them, or all."
        )
    return [int(part) for part in asked.split(",")]


if __name__ == "__main__":
    run_script(main)
