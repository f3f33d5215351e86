"""Files of vectors, complete or absent: .npz for NumPy, .hdf5 as written by `allennlp elmo`, .safetensors.

    .npz, per text     vectors (N, D)
    .npz, per token    vectors (total, J, E), text i from offsets[i] to offsets[i + 1]; offsets (N + 1,); words: all
                       words as UTF-8, separated by newlines, uint8: bytes(words).decode().split("\\n")
    .hdf5, per text    "0", "1", ...: (D,) each
    .hdf5, per token   "0", "1", ...: (J, n, E) each, without the boundaries

    .safetensors       as .hdf5 without the index; texts, and words (a list for each text): JSON in UTF-8, uint8

The .hdf5 per token is the format of `allennlp elmo --all` (allennlp/commands/elmo.py, before 1.0): the key of a text's
vectors, fp32, is its number from 0. The dataset sentence_to_index, of shape (1,), is JSON: {text: number as a string},
with white space removed from both ends of the text (`str.strip`); equal texts have the number of the last one. allennlp
refused empty lines; here an empty text has vectors of shape (J, 0, E).
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bilm.runtime.errors import UserError
from bilm.runtime.files import atomic_write
from bilm.runtime.optional_packages import require

KINDS = (".npz", ".hdf5", ".safetensors")
_PACKAGES = {".hdf5": "h5py", ".safetensors": "safetensors.numpy"}

# A text, its words, and its vectors: (D,) or (J, n, E).
Row = tuple[str, list[str], np.ndarray]


def write_vectors(path: Path, rows: Iterable[Row]) -> int:
    """Write the vectors of all texts; return the number of texts.

    An .hdf5 is written row by row; other formats are collected in memory first. Raises UserError for another file
    extension, a missing package, or a failure of the disk.
    """
    if path.suffix not in KINDS:
        raise UserError(f"the name of {path} should end in {', '.join(KINDS[:-1])} or {KINDS[-1]}.", "output")
    write = {".npz": _write_npz, ".hdf5": _write_hdf5, ".safetensors": _write_safetensors}[path.suffix]
    if path.suffix in _PACKAGES:
        require(_PACKAGES[path.suffix], f"Writing {path}")
    with atomic_write(path) as temporary:
        return write(temporary, rows)


def _write_hdf5(path: Path, rows: Iterable[Row]) -> int:
    import h5py

    index: dict[str, str] = {}
    count = 0
    with h5py.File(path, "w") as file:
        for count, (text, _, vectors) in enumerate(rows, start=1):
            file.create_dataset(str(count - 1), data=vectors, dtype="float32")
            index[text.strip()] = str(count - 1)
        strings = file.create_dataset("sentence_to_index", (1,), dtype=h5py.string_dtype())
        strings[0] = json.dumps(index)
    return count


def _write_safetensors(path: Path, rows: Iterable[Row]) -> int:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contents = list(rows)
    tensors = {str(number): np.ascontiguousarray(vectors) for number, (_, _, vectors) in enumerate(contents)}
    for name, values in (("texts", [row[0] for row in contents]), ("words", [row[1] for row in contents])):
        tensors[name] = np.frombuffer(json.dumps(values).encode(), np.uint8)
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise UserError(f"{path}: {error}. An .hdf5 file has no such limit.") from error
    return len(contents)


def _write_npz(path: Path, rows: Iterable[Row]) -> int:
    all_vectors, all_words = [], []
    for number, (_, words, vectors) in enumerate(rows, start=1):
        if vectors.ndim == 3 and any("\n" in word for word in words):
            raise UserError(
                f"a token of text {number} contains a line break; .npz keeps one token per line. Write .hdf5 or "
                ".safetensors.",
                "output",
            )
        all_vectors.append(vectors)
        all_words += words
    arrays = {}
    if all_vectors and all_vectors[0].ndim == 3:
        arrays["vectors"] = np.concatenate([v.transpose(1, 0, 2) for v in all_vectors])
        arrays["offsets"] = np.cumsum([0, *(v.shape[1] for v in all_vectors)])
        # One byte string: in an array of strings every word would be as wide as the longest.
        arrays["words"] = np.frombuffer("\n".join(all_words).encode(), np.uint8)
    else:
        arrays["vectors"] = np.stack(all_vectors) if all_vectors else np.zeros((0, 0), np.float32)
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return len(all_vectors)
