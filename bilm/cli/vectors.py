"""Write ELMo's vectors of texts to a file, for other programs.

    bilm vectors --input texts.txt --output texts.hdf5              each word in each layer, as `allennlp elmo` does
    bilm vectors --input texts.txt --output texts.npz --per text    one vector per text: the mean over its words
    bilm vectors --input news.csv --column Description --output news.npz --per text --layers 1,2
    bilm vectors --input texts.txt --output texts.hdf5 --mix models/classifier_trainable.pt    one layer: the mix
    bilm vectors --input texts.txt --output texts.parquet --per text --dtype float16    a table, in half the space

The vectors of a text do not depend on the other texts. `python -m bilm vectors` is the same command.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bilm.cli.options import ModelOptions, TextOptions
from bilm.cli.start import start_inference
from bilm.cli.truncation import print_truncation
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path

if TYPE_CHECKING:
    import numpy as np

    from bilm.checkpoints.model_format import Pretrained
    from bilm.inference.elmo import ELMo

# Texts that are read before their vectors are computed: sorted by length, many waste less on padding, but the vectors
# of their tokens take a hundred times the memory of one vector per text.
BATCH_TEXTS = {"text": 2048, "token": 1024}


@dataclass(frozen=True)
class VectorOptions:
    """The vectors, and the file."""

    tokenized: bool = setting(False, "the texts are tokenised already: only the blank U+0020 and tabs separate tokens")
    output: str = setting("vectors.hdf5", "file to write, .hdf5, .npz, .safetensors or .parquet")
    dtype: str = setting("float32", "type of the values; float16 takes half the space", choices=("float32", "float16"))
    per: str = setting("token", "vectors of each token, or of each text", choices=("token", "text"))
    layers: str | None = setting(
        None, "numbers of layers, separated by commas, or all (default: all, but with --per text all except 0)"
    )
    mix: str | None = setting(
        None, "instead of layers: their weighted sum, with the lambdas and gamma of this classifier of mode trainable"
    )


@dataclass(frozen=True)
class Options:
    """All options of this command, by group."""

    texts: TextOptions = TextOptions()
    vectors: VectorOptions = VectorOptions()
    model: ModelOptions = ModelOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, arguments=arguments, program="python -m bilm vectors")
    options.texts.require()
    options.texts.protect(options.vectors.output, "output")
    if options.vectors.mix and options.vectors.layers:
        raise UserError("--mix and --layers exclude each other.")
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.checkpoints.model_format import load_bilm
    from bilm.inference.elmo import ELMo
    from bilm.inference.vector_files import write_vectors

    pretrained = load_bilm(Path(options.model.bilm))
    elmo = ELMo(pretrained, start_inference(options.model), precision=options.model.precision)
    mix = read_mix(Path(options.vectors.mix), pretrained) if options.vectors.mix else None
    layers = parse_layers("all" if options.vectors.mix else options.vectors.layers, elmo.num_layers)
    names = ["mix"] if options.vectors.mix else [f"e{j}" for j in layers or range(elmo.num_layers)]
    path = Path(options.vectors.output)
    count = write_vectors(path, compute_vectors(options, elmo, layers, mix), options.vectors.dtype, names)
    print_truncation(elmo.vocabulary.tokenizer)
    print(f"Wrote {display_path(path)}: {count:,} texts.")


def compute_vectors(
    options: Options, elmo: "ELMo", layers: list[int] | None, mix: "np.ndarray | None"
) -> "Iterator[tuple[str, list[str], np.ndarray]]":
    """Yield each text with its words and its vectors: (J, n, E) per token, (J * E,) per text; J is 1 with a `mix`."""
    from bilm.runtime import threads
    from bilm.runtime.terminal import progress
    from bilm.text.batching import consecutive_parts
    from bilm.text.readers import batched
    from bilm.text.text_rules import split_tokens

    with progress(unit="text", label="vectors", disable=options.texts.input is None) as bar:
        for batch in batched(options.texts.read(), BATCH_TEXTS[options.vectors.per]):
            words = [split_tokens(text) if options.vectors.tokenized else elmo.words(text) for text in batch]
            is_per_text = options.vectors.per == "text"
            for part in [slice(None)] if is_per_text else consecutive_parts([*map(len, words)]):
                if is_per_text:
                    vectors = list(elmo.sentence_vectors(words, layers))
                else:
                    vectors = [v if layers is None else v[layers] for v in elmo.embed(words[part])]
                if mix is not None:
                    vectors = [apply_mix(v, mix) for v in vectors]
                yield from zip(batch[part], words[part], vectors, strict=True)
            bar.update(len(batch))
            threads.after_step()


def read_mix(path: Path, pretrained: "Pretrained") -> "np.ndarray":
    """gamma * lambda of each layer, fp32 (J,), of a classifier on `pretrained`. Raises UserError if it has none."""
    import numpy as np

    from bilm.checkpoints.model_format import load_classifier

    trained = load_classifier(path, pretrained)
    combination = trained.info["combination"]["after"]
    if trained.model.finetuned or "lambdas" not in combination:
        raise UserError(f"--mix: {path} has no lambdas for this language model; name a classifier of mode trainable.")
    return np.array(combination["lambdas"], dtype=np.float32) * np.float32(combination["gamma"])


def apply_mix(vectors: "np.ndarray", mix: "np.ndarray") -> "np.ndarray":
    """(J, n, E) -> (1, n, E), or the J layers side by side (J * E,) -> (E,)."""
    import numpy as np

    if vectors.ndim == 1:
        return mix @ vectors.reshape(len(mix), -1)
    return np.tensordot(mix, vectors, 1)[None]


def parse_layers(value: str | None, count: int) -> list[int] | None:
    """The layers that the option names, of a model with `count` of them. Raises UserError if they do not exist."""
    if value is None:
        return None
    if value == "all":
        return list(range(count))
    parts = value.split(",")
    numbers = [int(part) for part in parts if part.strip().isdecimal() and int(part) < count]
    if len(set(numbers)) < len(parts):
        raise UserError(
            f"--layers {value!r}: name different numbers from 0 to {count - 1}, separated by commas, or all."
        )
    return numbers
