"""Files of vectors, complete or absent: .npz for NumPy, .hdf5 as written by `allennlp elmo`, .safetensors, .parquet.

    .npz, per text     vectors (N, D)
    .npz, per token    vectors (total, J, E), text i from offsets[i] to offsets[i + 1]; offsets (N + 1,); words: all
                       words as UTF-8, separated by newlines, uint8: bytes(words).decode().split("\\n")
    .hdf5, per text    "0", "1", ...: (D,) each
    .hdf5, per token   "0", "1", ...: (J, n, E) each, without the boundaries

    .safetensors       as .hdf5 without the index; texts, and words (a list for each text): JSON in UTF-8, uint8

    .parquet, per text     columns text, vector: a list of D values
    .parquet, per token    columns text, words (a list of n strings), and for each layer a list of n lists of E values

The innermost lists have a fixed size in Arrow. A .parquet without texts has only the column text.

The .hdf5 per token is the format of `allennlp elmo --all` (allennlp/commands/elmo.py, before 1.0): the key of a text's
vectors (fp32 in allennlp) is its number from 0. The dataset sentence_to_index, of shape (1,), is JSON: {text: number
as a string}, with white space removed from both ends of the text (`str.strip`); equal texts have the number of the last
one. allennlp refused empty lines; here an empty text has vectors of shape (J, 0, E).
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bilm.runtime.errors import UserError
from bilm.runtime.files import atomic_write
from bilm.runtime.locks import acquire_lock
from bilm.runtime.optional_packages import require

KINDS = (".npz", ".hdf5", ".safetensors", ".parquet")
_PACKAGES = {".hdf5": "h5py", ".safetensors": "safetensors.numpy", ".parquet": "pyarrow.parquet"}
# Bytes of vectors in a row group of Parquet, which is in memory while it is written or read.
_ROW_GROUP = 2**24

# A text, its words, and its vectors: (D,) or (J, n, E).
Row = tuple[str, list[str], np.ndarray]


def write_vectors(path: Path, rows: Iterable[Row], dtype: str = "float32", layers: Sequence[str] = ()) -> int:
    """Write the vectors of all texts as float32 or float16; return the number of texts.

    layers: names of the J layers of vectors per token, for the columns of a .parquet.

    An .hdf5 is written row by row, a .parquet in row groups; other formats are collected in memory first. Raises
    UserError for another file extension, a missing package, a value that float16 cannot hold, or a failure of the disk.
    """
    if path.suffix not in KINDS:
        raise UserError(f"the name of {path} should end in {', '.join(KINDS[:-1])} or {KINDS[-1]}.", "output")
    writers: dict[str, Callable[[Path, Iterable[Row]], int]] = {
        ".npz": _write_npz,
        ".hdf5": _write_hdf5,
        ".safetensors": _write_safetensors,
        ".parquet": partial(_write_parquet, layers=layers),
    }
    if path.suffix in _PACKAGES:
        require(_PACKAGES[path.suffix], f"Writing {path}")
    with _only_writer(path), atomic_write(path) as temporary:
        return writers[path.suffix](temporary, _converted(rows, dtype))


@contextlib.contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Raise UserError if another process is writing `path`, which takes minutes for a long file."""
    try:
        release = acquire_lock(path.with_name(f".{path.name}.lock"), f"is writing {path}. Name another file.", "output")
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror or error}.", "output") from error
    try:
        yield
    finally:
        release()


def _converted(rows: Iterable[Row], dtype: str) -> Iterator[Row]:
    """Yield the rows with vectors of this type. Raises UserError for a value that float16 cannot hold."""
    for number, (text, words, vectors) in enumerate(rows, start=1):
        if dtype == "float16" and np.abs(vectors).max(initial=0) > np.finfo(dtype).max:
            raise UserError(f"text {number} has a value beyond 65,504, the largest float16. Write float32.", "dtype")
        yield text, words, vectors.astype(dtype, copy=False)


def _write_hdf5(path: Path, rows: Iterable[Row]) -> int:
    import h5py

    index: dict[str, str] = {}
    count = 0
    with _hdf5_errors(), h5py.File(path, "w") as file:
        for count, (text, _, vectors) in enumerate(rows, start=1):
            file.create_dataset(str(count - 1), data=vectors)
            index[text.strip()] = str(count - 1)
        strings = file.create_dataset("sentence_to_index", (1,), dtype=h5py.string_dtype())
        strings[0] = json.dumps(index)
    return count


@contextlib.contextmanager
def _hdf5_errors() -> Iterator[None]:
    """Raise a plain OSError for what HDF5 reports as a RuntimeError, or with the number of the error in its text.

    It does so where the file system refuses to write, for instance because the disk is full.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if found := re.search(r"errno = (\d+)", f"{error} {error.__context__}"):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        raise


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


def _write_parquet(path: Path, rows: Iterable[Row], layers: Sequence[str]) -> int:
    from pyarrow.parquet import ParquetWriter

    groups, count = _row_groups(rows), 0
    first = _as_table(next(groups, []), layers)
    # Nearly every value of a vector occurs only once.
    with ParquetWriter(path, first.schema, use_dictionary=False, compression="zstd") as writer:
        for table in chain([first], (_as_table(group, layers) for group in groups)):
            writer.write_table(table)
            count += len(table)
    return count


def _row_groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += row[2].nbytes
        if size >= _ROW_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _as_table(rows: Sequence[Row], layers: Sequence[str]) -> Any:
    """Return the pyarrow.Table of some rows."""
    import pyarrow as pa

    def lists(vectors: np.ndarray) -> Any:
        """(N, D) -> N lists of D values."""
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])

    columns = {"text": pa.array([text for text, _, _ in rows], pa.string())}
    if rows and rows[0][2].ndim == 1:
        columns["vector"] = lists(np.stack([vectors for _, _, vectors in rows]))
    elif rows:
        columns["words"] = pa.array([words for _, words, _ in rows], pa.list_(pa.string()))
        offsets = pa.array(np.cumsum([0, *(vectors.shape[1] for _, _, vectors in rows)]), pa.int32())
        for j, layer in enumerate(layers):
            columns[layer] = pa.ListArray.from_arrays(offsets, lists(np.concatenate([v[j] for _, _, v in rows])))
    return pa.table(columns)
