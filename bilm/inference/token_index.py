"""Tokens that are near each other in context: an index of the vectors of every token of many texts, on the disk.

folder/layer_J.bin   fp16, unit length, token after token: (total, E) for each layer
folder/tokens.npz    texts (total,) and places (total,): of each token its text, and its place among the words
folder/texts.jsonl   {"text", "words"} of each text
folder/index.json    what it was made with
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bilm.inference.elmo import ELMo
from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json, reject_malformed

_FORMAT = 1
# Rows that are compared at once.
_CHUNK = 2**15


@dataclass(frozen=True)
class Neighbour:
    """similarity: cosine; words: of the text it stands in; place: its own among them."""

    similarity: float
    text: str
    words: list[str]
    place: int


def build_index(elmo: ELMo, portions: Iterable[Sequence[str]], folder: Path) -> int:
    """Write the vectors of all tokens of the texts in `portions` to `folder`; returns their number.

    What was there before is replaced once the new one is whole. Raises UserError when there is no word in them, when
    the disk refuses, or when something stands there that is no index.
    """
    if folder.exists() and not _is_index(folder):
        raise UserError(f"{folder} exists and is not an index. Name another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".tmp", dir=folder.parent))
    try:
        count = _write(elmo, portions, temporary / "new")
        if not count:
            raise UserError("there is no word in these texts, so that there is nothing to be near to.")
        if folder.exists():
            folder.rename(temporary / "old")
        (temporary / "new").rename(folder)
        return count
    except OSError as error:
        raise UserError(f"{folder} could not be written: {error.strerror}.") from error
    finally:
        if (temporary / "old").exists() and not folder.exists():
            (temporary / "old").rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)


def _is_index(folder: Path) -> bool:
    """Whether there is nothing in it but what _write writes."""
    names = {"index.json", "tokens.npz", "texts.jsonl"}
    return folder.is_dir() and all(p.name in names or p.match("layer_*.bin") for p in folder.iterdir())


def _write(elmo: ELMo, portions: Iterable[Sequence[str]], folder: Path) -> int:
    folder.mkdir()
    texts, places, number = [], [], 0
    with ExitStack() as files:
        said = files.enter_context((folder / "texts.jsonl").open("w", encoding="utf-8", newline="\n"))
        layers = [files.enter_context(_layer(folder, j).open("wb")) for j in range(elmo.num_layers)]
        for portion in portions:
            words = [elmo.words(text) for text in portion]
            for text, of_text, vectors in zip(portion, words, elmo.embed(words), strict=True):
                unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
                for file, of_layer in zip(layers, unit.astype(np.float16), strict=True):
                    of_layer.tofile(file)
                texts.append(np.full(len(of_text), number, dtype=np.int32))
                places.append(np.arange(len(of_text), dtype=np.int16))
                said.write(json.dumps({"text": text, "words": of_text}, ensure_ascii=False) + "\n")
                number += 1
    none = np.zeros(0, np.int32)
    of_tokens = {"texts": np.concatenate([none, *texts]), "places": np.concatenate([none, *places])}
    np.savez(folder / "tokens.npz", **of_tokens)  # type: ignore[arg-type]
    made = {"format": _FORMAT, "bilm": elmo.hash, "layers": elmo.num_layers, "width": elmo.output_dim, "texts": number}
    (folder / "index.json").write_text(json.dumps(made), encoding="utf-8")
    return len(of_tokens["texts"])


def _layer(folder: Path, number: int) -> Path:
    return folder / f"layer_{number}.bin"


class Index:
    """What build_index wrote, memory-mapped."""

    def __init__(self, folder: Path, elmo: ELMo):
        """Raises UserError when there is no index, or one of another language model."""
        if not (folder / "index.json").exists():
            raise UserError(f"{folder} is not an index. Build it first.", "build", "input")
        with reject_malformed(folder):
            made = read_json(folder / "index.json")
            if made["bilm"] != elmo.hash or made["format"] != _FORMAT:
                raise UserError(f"{folder} was built with another language model. Build it again.", "build", "input")
            files = [_layer(folder, j) for j in range(elmo.num_layers)]
            self._layers = [np.memmap(file, np.float16, "r").reshape(-1, elmo.output_dim) for file in files]
            with np.load(folder / "tokens.npz") as tokens:
                self._texts, self._places = tokens["texts"], tokens["places"]
            with (folder / "texts.jsonl").open(encoding="utf-8", newline="\n") as file:
                self._said = [json.loads(line) for line in file]
            if any(len(layer) != len(self._texts) for layer in self._layers):
                raise ValueError("not as many vectors as tokens")

    def nearest(self, vector: np.ndarray, layer: int, count: int, but: str = "") -> list[Neighbour]:
        """The `count` nearest tokens to `vector` (E,) in `layer`, one of each text, none of a text that is `but`."""
        unit = (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)
        table = self._layers[layer]
        similarity = np.empty(len(table), dtype=np.float32)
        for i in range(0, len(table), _CHUNK):
            similarity[i : i + _CHUNK] = table[i : i + _CHUNK].astype(np.float32) @ unit
        found: dict[str, Neighbour] = {}
        for token in self._best_first(similarity):
            said = self._said[self._texts[token]]
            if said["text"] not in found and said["text"] != but:
                found[said["text"]] = Neighbour(float(similarity[token]), **said, place=int(self._places[token]))
                if len(found) == count:
                    break
        return list(found.values())

    @staticmethod
    def _best_first(similarity: np.ndarray) -> Iterator[int]:
        """Places by falling similarity, the first of equals first; no more of them are sorted than are asked for."""
        wanted, bound = 256, np.inf
        while bound > -np.inf:
            wanted = min(wanted * 8, len(similarity))
            # All that are as near as the last of them: equals are never torn apart.
            lower = -np.partition(-similarity, wanted - 1)[wanted - 1] if wanted < len(similarity) else -np.inf
            between = np.flatnonzero((similarity < bound) & (similarity >= lower))
            yield from map(int, between[np.argsort(-similarity[between], kind="stable")])
            bound = lower
