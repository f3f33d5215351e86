"""ELMo's vectors of texts, for other programs.

    bilm vectors --input texts.txt --output texts.hdf5              each word in each layer, as `allennlp elmo` does
    bilm vectors --input texts.txt --output texts.npz --per text    one vector per text: the mean over its words
    bilm vectors --input news.csv --column Description --output news.npz --per text --layers 1,2
    bilm vectors --input texts.txt --output texts.hdf5 --mix models/classifier_trainable.pt    one layer: the mix

The same text has the same vectors every time, whatever stands beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bilm.cli.options import TextOptions
from bilm.cli.run import start_answering
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting, threads_setting
from bilm.runtime.paths import ROOT, display_path

PORTION = 512


@dataclass(frozen=True)
class VectorOptions:
    """Which vectors, and where to."""

    tokenized: bool = setting(
        False, "the texts are tokens already, parted by the blank U+0020 or a tab and by nothing else"
    )
    output: str = setting("vectors.hdf5", "file to write, .hdf5, .npz or .safetensors")
    per: str = setting("token", "vectors of each token, or of each text", choices=("token", "text"))
    layers: str | None = setting(
        None, "numbers of layers with commas between them, or all (default: all, but per text all but 0)"
    )
    mix: str | None = setting(
        None, "instead of layers: their sum as a classifier weighs them, gamma and all; its file, of mode trainable"
    )
    bilm: str = setting(str(ROOT / "models" / "bilstm.pt"), "the language model")
    device: str = setting("cpu", "cpu, cuda, cuda:1, auto ...")
    threads: int | None = threads_setting()


def main(arguments: Sequence[str] | None = None) -> None:
    given, options = parse_options(
        __doc__, TextOptions, VectorOptions, arguments=arguments, program="python -m bilm vectors"
    )
    given.require()
    if options.mix and options.layers:
        raise UserError("--mix and --layers exclude each other.")
    # torch takes seconds to import; a mistyped option is told at once.
    from bilm.checkpoints.pretrained import load_bilm
    from bilm.cli.options import print_truncation
    from bilm.inference.elmo import ELMo
    from bilm.inference.vector_files import write_vectors
    from bilm.runtime import threads
    from bilm.runtime.terminal import progress
    from bilm.text.readers import batched
    from bilm.text.text_rules import split_tokens

    pretrained = load_bilm(Path(options.bilm))
    elmo = ELMo(pretrained, start_answering(options))
    weights = trained_mix(Path(options.mix), pretrained) if options.mix else None
    layers = chosen_layers("all" if options.mix else options.layers, elmo.num_layers)
    texts = given.read()

    def found() -> Iterator[tuple[str, list[str], np.ndarray]]:
        with progress(unit="text", label="vectors", disable=given.input is None) as bar:
            for portion in batched(texts, PORTION):
                words = [split_tokens(text) if options.tokenized else elmo.words(text) for text in portion]
                if options.per == "text":
                    vectors = list(elmo.sentence_vectors(words, layers))
                else:
                    vectors = [v if layers is None else v[list(layers)] for v in elmo.embed(words)]
                if weights is not None:
                    vectors = [mixed(v, weights) for v in vectors]
                yield from zip(portion, words, vectors, strict=True)
                bar.update(len(portion))
                threads.after_step()

    count = write_vectors(Path(options.output), found())
    print_truncation(elmo.vocabulary.tokenizer)
    print(f"Wrote {display_path(Path(options.output))}: {count:,} texts.")


def trained_mix(path: Path, pretrained: Any) -> np.ndarray:
    """gamma * lambda of each layer, fp32 (J,), of a classifier on `pretrained`. Raises UserError without them."""
    from bilm.checkpoints.pretrained import load_classifier

    trained = load_classifier(path, pretrained)
    found = trained.info["combination"]["after"]
    if trained.model.finetuned or "lambdas" not in found:
        raise UserError(f"--mix: {path} has no weights of this language model's layers; take one of mode trainable.")
    return np.array(found["lambdas"], dtype=np.float32) * np.float32(found["gamma"])


def mixed(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(J, n, E) -> (1, n, E), or the J layers side by side (J * E,) -> (E,)."""
    if vectors.ndim == 1:
        return weights @ vectors.reshape(len(weights), -1)
    return np.tensordot(weights, vectors, 1)[None]


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
