"""Vectors on the disk: .npz for NumPy, .hdf5 as `allennlp elmo` wrote it, .safetensors. Whole or not at all.

    .npz, per text     vectors (N, D)
    .npz, per token    vectors (total, J, E); those of text i from offsets[i] to offsets[i + 1], (N + 1,); words: all of
                       them as UTF-8 with a newline between, uint8: bytes(words).decode().split("\\n")
    .hdf5, per text    "0", "1", ...: (D,) each
    .hdf5, per token   "0", "1", ...: (J, n, E) each, without the boundaries

    .safetensors       as .hdf5 without the index; texts, and words: of each its words; both as JSON in UTF-8, uint8

An .hdf5 per token is the file of `allennlp elmo --all` (allennlp/commands/elmo.py, until 1.0): the number of a text,
from 0, is the key of its vectors, fp32; one more dataset, sentence_to_index of shape (1,), is JSON of
{text: number as a string}, where a text has lost the white space at both ends (`str.strip`), and of equal texts the
last counts. allennlp refused empty lines; here an empty text has vectors of shape (J, 0, E).
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bilm.runtime.errors import UserError
from bilm.runtime.files import atomic_write
from bilm.runtime.optional import require

KINDS = (".npz", ".hdf5", ".safetensors")
_PACKAGES = {".hdf5": "h5py", ".safetensors": "safetensors.numpy"}


def write_vectors(path: Path, found: Iterable[tuple[str, list[str], np.ndarray]]) -> int:
    """found: of each text the text, its words, and its vectors: (D,), or (J, n, E). Returns how many there were.

    What ends in .hdf5 is written as it comes; others are gathered in memory. Raises UserError for another ending, when
    the package that writes the file is missing, or when the disk refuses.
    """
    if path.suffix not in KINDS:
        raise UserError(f"the name of {path} should end in {', '.join(KINDS[:-1])} or {KINDS[-1]}.", "output")
    write = {".npz": _write_npz, ".hdf5": _write_hdf5, ".safetensors": _write_safetensors}[path.suffix]
    if path.suffix in _PACKAGES:
        require(_PACKAGES[path.suffix], f"Writing {path}")
    with atomic_write(path) as temporary:
        return write(temporary, found)


def _write_hdf5(path: Path, found: Iterable[tuple[str, list[str], np.ndarray]]) -> int:
    import h5py

    index: dict[str, str] = {}
    count = 0
    with h5py.File(path, "w") as file:
        for count, (text, _, vectors) in enumerate(found, start=1):
            file.create_dataset(str(count - 1), data=vectors, dtype="float32")
            index[text.strip()] = str(count - 1)
        strings = file.create_dataset("sentence_to_index", (1,), dtype=h5py.string_dtype())
        strings[0] = json.dumps(index)
    return count


def _write_safetensors(path: Path, found: Iterable[tuple[str, list[str], np.ndarray]]) -> int:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    texts, words, vectors = [], [], {}
    for number, (text, of_text, of_vectors) in enumerate(found):
        texts.append(text)
        words.append(of_text)
        vectors[str(number)] = np.ascontiguousarray(of_vectors)
    said = {name: np.frombuffer(json.dumps(of).encode(), np.uint8) for name, of in (("texts", texts), ("words", words))}
    try:
        save_file(vectors | said, path)
    except SafetensorError as error:
        raise UserError(f"{path}: {error}. An .hdf5 file has no such limit.") from error
    return len(texts)


def _write_npz(path: Path, found: Iterable[tuple[str, list[str], np.ndarray]]) -> int:
    vectors, words = [], []
    for number, (_, of_text, of_vectors) in enumerate(found, start=1):
        if of_vectors.ndim == 3 and any("\n" in word for word in of_text):
            raise UserError(
                f"a token of text {number} contains a line break; .npz keeps one token per line. Write .hdf5 or "
                ".safetensors.",
                "output",
            )
        vectors.append(of_vectors)
        words.append(of_text)
    arrays = {}
    if vectors and vectors[0].ndim == 3:
        arrays["vectors"] = np.concatenate([v.transpose(1, 0, 2) for v in vectors])
        arrays["offsets"] = np.cumsum([0, *(v.shape[1] for v in vectors)])
        # Not an array of strings: each would be as wide as the longest.
        arrays["words"] = np.frombuffer("\n".join(word for text in words for word in text).encode(), np.uint8)
    else:
        arrays["vectors"] = np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return len(vectors)
