"""An index of tokens in context: the vectors of every token of many texts, on disk, searched by cosine.

folder/layer_J.bin   for each layer: fp16 vectors of unit length, token after token, (total, E)
folder/tokens.npz    for each token its text and its position among the words of the text: texts, places (total,)
folder/texts.jsonl   {"text", "words"} of each text
folder/index.json    format, language model and sizes
"""

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bilm.inference.elmo import ELMo
from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json, reject_malformed, replace_patiently
from bilm.text.batching import consecutive_parts

_FORMAT = 1
# Rows that are compared at once.
_CHUNK = 2**15


@dataclass(frozen=True)
class Neighbour:
    """A token: cosine similarity to the query, its text, the words of the text, and its position among them."""

    similarity: float
    text: str
    words: list[str]
    position: int


def build_index(elmo: ELMo, batches: Iterable[Sequence[str]], folder: Path) -> int:
    """Write the vectors of all tokens of the texts in `batches` to `folder`; return the number of tokens.

    An earlier index in `folder` is replaced when the new one is complete. Raises UserError when the texts contain no
    words, when the disk fails, or when `folder` exists and is not an index.
    """
    if folder.exists() and not _is_index(folder):
        raise UserError(f"{folder} exists and is not an index. Name another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The name is the same in every attempt, so that what a killed process has left is found by the next one.
    temporary = folder.with_name(f".{folder.name}.tmp")
    old, new = temporary / "old", temporary / "new"
    try:
        if old.exists() and not folder.exists():
            replace_patiently(old, folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        count = _write(elmo, batches, new)
        if not count:
            raise UserError("there is no word in these texts, so the index would be empty.")
        if folder.exists():
            replace_patiently(folder, old)
        replace_patiently(new, folder)
        return count
    except OSError as error:
        raise UserError(f"{folder} could not be written: {error.strerror or error}.") from error
    finally:
        if old.exists() and not folder.exists():
            replace_patiently(old, folder)
        shutil.rmtree(temporary, ignore_errors=True)


def _is_index(folder: Path) -> bool:
    """Return whether `folder` is empty, or has the manifest of an index and no other files than `_write` writes."""
    if not folder.is_dir():
        return False
    names, found, manifest = {"index.json", "tokens.npz", "texts.jsonl"}, list(folder.iterdir()), None
    with contextlib.suppress(UserError, OSError):
        manifest = read_json(folder / "index.json")
    # Somebody else's folder may have an index.json, too.
    is_ours = isinstance(manifest, dict) and {"bilm", "format"} <= manifest.keys()
    return not found or (is_ours and all(p.name in names or p.match("layer_*.bin") for p in found))


def _write(elmo: ELMo, batches: Iterable[Sequence[str]], folder: Path) -> int:
    folder.mkdir()
    lengths: list[int] = []
    with ExitStack() as files:
        texts_file = files.enter_context((folder / "texts.jsonl").open("w", encoding="utf-8", newline="\n"))
        layer_files = [files.enter_context(_layer_file(folder, j).open("wb")) for j in range(elmo.num_layers)]
        for batch in batches:
            all_words = [elmo.words(text) for text in batch]
            parts = consecutive_parts([*map(len, all_words)])
            all_vectors = chain.from_iterable(elmo.embed(all_words[part]) for part in parts)
            for text, words, vectors in zip(batch, all_words, all_vectors, strict=True):
                unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
                for file, layer in zip(layer_files, unit.astype(np.float16), strict=True):
                    file.write(layer.tobytes())  # `tofile` does not notice that the end was not written
                lengths.append(len(words))
                texts_file.write(json.dumps({"text": text, "words": words}, ensure_ascii=False) + "\n")
    texts = np.repeat(np.arange(len(lengths), dtype=np.int32), np.array(lengths, dtype=np.int64))
    positions = np.concatenate([np.zeros(0, np.int32), *(np.arange(length, dtype=np.int32) for length in lengths)])
    np.savez(folder / "tokens.npz", texts=texts, places=positions)
    sizes = {"layers": elmo.num_layers, "width": elmo.output_dim, "texts": len(lengths)}
    manifest = {"format": _FORMAT, "bilm": elmo.hash, **sizes}
    (folder / "index.json").write_text(json.dumps(manifest), encoding="utf-8")
    return len(texts)


def _layer_file(folder: Path, number: int) -> Path:
    return folder / f"layer_{number}.bin"


class Index:
    """An index written by `build_index`, memory-mapped."""

    def __init__(self, folder: Path, elmo: ELMo):
        """Raises UserError when `folder` is no index, is damaged, or belongs to another language model."""
        if not (folder / "index.json").exists():
            problem = "is not an index" if folder.exists() else "does not exist"
            raise UserError(f"{folder} {problem}. Build it first.", "build", "input")
        with reject_malformed(folder):
            manifest = read_json(folder / "index.json")
            if manifest["format"] != _FORMAT:
                raise UserError(f"{folder} is of another version of the program. Build it again.", "build", "input")
            if manifest["bilm"] != elmo.hash:
                raise UserError(f"{folder} was built with another language model. Build it again.", "build", "input")
            files = [_layer_file(folder, j) for j in range(elmo.num_layers)]
            self._layers = [np.memmap(file, np.float16, "r").reshape(-1, elmo.output_dim) for file in files]
            with np.load(folder / "tokens.npz") as tokens:
                self._text_numbers, self._positions = tokens["texts"], tokens["places"]
            self._file = folder / "texts.jsonl"
            with self._file.open("rb") as file:
                # Only the texts that are found are read: all of them may take more memory than the vectors.
                self._starts = np.cumsum([0, *map(len, file)])
            if any(len(layer) != len(self._text_numbers) for layer in self._layers):
                raise ValueError("the numbers of vectors and tokens differ")
            if len(self._starts) != manifest["texts"] + 1:
                raise ValueError("the number of texts differs")

    def nearest(self, vector: np.ndarray, layer: int, count: int, exclude: str = "") -> list[Neighbour]:
        """Return the `count` tokens nearest to `vector` (E,) in `layer`, one per text, without the text `exclude`."""
        unit = (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)
        table = self._layers[layer]
        chunks = (table[i : i + _CHUNK].astype(np.float32) @ unit for i in range(0, len(table), _CHUNK))
        similarity = np.concatenate(list(chunks))
        neighbours: dict[str, Neighbour] = {}
        for token in self._best_first(similarity):
            entry = self._entry(int(self._text_numbers[token]))
            if entry["text"] not in neighbours and entry["text"] != exclude:
                position = int(self._positions[token])
                neighbours[entry["text"]] = Neighbour(float(similarity[token]), **entry, position=position)
                if len(neighbours) == count:
                    break
        return list(neighbours.values())

    def _entry(self, number: int) -> dict[str, Any]:
        """Read a text and its words. Raises UserError when the file is damaged."""
        with reject_malformed(self._file), self._file.open("rb") as file:
            file.seek(int(self._starts[number]))
            entry = json.loads(file.readline())
            return {"text": entry["text"], "words": entry["words"]}

    @staticmethod
    def _best_first(similarity: np.ndarray) -> Iterator[int]:
        """Yield indices by decreasing similarity, equal ones in their order. Sorts only as many as are consumed."""
        size, bound = 256, np.inf
        while bound > -np.inf:
            size = min(size * 8, len(similarity))
            # All indices down to the similarity of the last one, so that equal ones are not separated.
            lower = -np.partition(-similarity, size - 1)[size - 1] if size < len(similarity) else -np.inf
            between = np.flatnonzero((similarity < bound) & (similarity >= lower))
            yield from map(int, between[np.argsort(-similarity[between], kind="stable")])
            bound = lower
