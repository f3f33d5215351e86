"""Rows as token ids on disk: the texts are read once, the ids memory-mapped by every process that trains on them.

    folder/ids.bin       int32, one text after the other, with boundaries
    folder/rows.npz      offsets (N + 1,), labels (N,) and keys (N,)
    folder/corpus.json   the manifest (source and settings), the words by id, and how many of them are the vocabulary

Memory grows with the number of texts, by a few dozen bytes each, and with the number of distinct words, but not with
the length of the texts. A folder with the same manifest is reused, so that a resumed run does not read the texts again.
"""

import hashlib
import json
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from bilm.config import VocabularyConfig
from bilm.runtime.errors import UserError
from bilm.runtime.files import replace_patiently
from bilm.text.corpus import Source
from bilm.text.split import split_validation, text_key
from bilm.text.tokenizer import Tokenizer, comparable_settings
from bilm.text.vocabulary import BOS, EOS, SPECIALS, EncodedTexts, Lexicon, Vocabulary

# Ids in memory at a time.
_CHUNK = 2**20
_FORMAT = 3


@dataclass(frozen=True)
class EncodedCorpus:
    """texts: N of them; labels: int64 (N,), from 0, or NO_LABEL; keys: uint64 (N,), split.text_key.

    words: of the vocabulary.

    texts.lexicon begins with the vocabulary, and has further words only if that is open-ended. num_truncated: how many
    texts had more words than the tokenizer's maximum. manifest: the source and the settings.
    """

    texts: EncodedTexts
    labels: np.ndarray
    keys: np.ndarray
    words: list[str]
    num_truncated: int
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.texts)


def open_encoded(folder: Path) -> EncodedCorpus:
    """Open a folder written by `encode` or `learn_and_encode`.

    Raises OSError, ValueError, KeyError, TypeError, EOFError or BadZipFile if a file is missing or damaged.
    """
    content = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    with (folder / "rows.npz").open("rb") as file, np.load(file) as rows:
        offsets, labels, keys = rows["offsets"], rows["labels"], rows["keys"]
    # A plain view: every access to an np.memmap costs time.
    ids = np.asarray(np.memmap(folder / "ids.bin", np.int32, "r"))
    if len(ids) != offsets[-1]:
        raise ValueError(f"{folder}: {len(ids)} ids instead of {offsets[-1]}")
    texts = EncodedTexts(ids, offsets, Lexicon(content["words"]))
    vocabulary = content["words"][: content["vocabulary_size"]]
    # Earlier versions did not count truncated texts.
    return EncodedCorpus(texts, labels, keys, vocabulary, content.get("num_truncated", 0), content["made_of"])


def encode(source: Source, vocabulary: Vocabulary, folder: Path) -> None:
    """Write the ids of `source` in a given vocabulary to `folder`, unless the folder is up to date.

    Raises UserError if a row is not valid or the folder cannot be written; the folder is then unchanged.
    """
    words, open_ended = _hash_of_words(vocabulary.words), vocabulary.open_ended
    manifest = _manifest(source, vocabulary.tokenizer, vocabulary=words, open_ended=open_ended)
    if not _is_current(folder, manifest):
        with _atomic_folder(folder, manifest) as temporary:
            id_of, words_by_id = vocabulary.numbering()
            *_, num_truncated = _write_rows(source, vocabulary.tokenizer, id_of, temporary)
            _write_json(temporary, manifest, words_by_id(), len(vocabulary), num_truncated)


def learn_and_encode(
    source: Source,
    tokenizer: Tokenizer,
    config: VocabularyConfig,
    folder: Path,
    open_ended: bool = False,
    base_words: Sequence[str] = (),
) -> None:
    """Write the ids of `source` in the vocabulary of its training rows to `folder`, unless the folder is up to date.

    open_ended: see Vocabulary; base_words: see Vocabulary.from_counts.

    The texts are tokenised once: a word gets a provisional id when it first occurs, and all are replaced by final ids
    when the words have been counted. Raises UserError as `encode`.
    """
    learned = asdict(config) | {"known": _hash_of_words(base_words)}
    manifest = _manifest(source, tokenizer, learned=learned, open_ended=open_ended)
    if _is_current(folder, manifest):
        return
    provisional = {word: i for i, word in enumerate(SPECIALS)}
    with _atomic_folder(folder, manifest) as temporary:
        offsets, labels, keys, num_truncated = _write_rows(
            source, tokenizer, lambda word: provisional.setdefault(word, len(provisional)), temporary
        )
        is_training = np.zeros(len(labels), dtype=bool)
        is_training[split_validation(labels, keys, source.classes)[0]] = True
        ids = np.memmap(temporary / "ids.bin", np.int32, "r+")
        counts = np.zeros(len(provisional), dtype=np.int64)
        for chunk, rows in _chunks(offsets):
            counts += np.bincount(ids[chunk][is_training[rows]], minlength=len(provisional))
        words = list(provisional)[len(SPECIALS) :]
        counted = {word: count for word, count in zip(words, counts[len(SPECIALS) :].tolist(), strict=True) if count}
        vocabulary = Vocabulary.from_counts(counted, tokenizer, config, base_words)
        id_of, words_by_id = Vocabulary(vocabulary.words, tokenizer, open_ended).numbering()
        final = np.array([*range(len(SPECIALS)), *map(id_of, words)], dtype=np.int32)
        for chunk, _ in _chunks(offsets):
            ids[chunk] = final[ids[chunk]]
        ids.flush()
        del ids  # Windows does not rename a folder with a mapped file
        _write_json(temporary, manifest, words_by_id(), len(vocabulary), num_truncated)


def _manifest(source: Source, tokenizer: Tokenizer, **vocabulary: Any) -> dict[str, Any]:
    """Describe everything that ids, labels and keys depend on: rows, tokenizer, and how `vocabulary` was obtained."""
    rows = source.stamp() | {"classes": list(source.classes)}
    settings = comparable_settings(asdict(tokenizer.config), source.same_words_by_both_rules)
    return {**vocabulary, "rows": rows, "tokenizer": settings, "format": _FORMAT}


def _hash_of_words(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _is_current(folder: Path, manifest: dict[str, Any]) -> bool:
    try:
        return open_encoded(folder).manifest == manifest
    except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile):
        return False


@contextmanager
def _atomic_folder(folder: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder; at the end, rename it to `folder`, or remove it after an error."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A unique name: processes on several machines may share this disk, and each writes its own folder.
        with tempfile.TemporaryDirectory(".tmp", f".{folder.name}-", folder.parent, ignore_cleanup_errors=True) as name:
            yield Path(name)
            # A folder that another process has written meanwhile has the same content, and may be mapped already.
            if not _is_current(folder, manifest):
                shutil.rmtree(folder, ignore_errors=True)
                replace_patiently(Path(name), folder)
    except OSError as error:
        if not _is_current(folder, manifest):
            raise UserError(f"{folder} could not be written: {error.strerror}.") from error


def _write_rows(
    source: Source, tokenizer: Tokenizer, id_of: Callable[[str], int], folder: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Write ids.bin and rows.npz; return offsets, labels, keys and the number of truncated texts.

    Raises UserError as Source.rows.
    """
    offsets, labels, keys = array("q", [0]), array("q"), array("Q")
    truncated_before = tokenizer.num_truncated
    with (folder / "ids.bin").open("wb") as file:
        for label, text in source.rows():
            ids = np.array([BOS, *map(id_of, tokenizer(text)), EOS], dtype=np.int32)
            file.write(ids.tobytes())
            offsets.append(offsets[-1] + len(ids))
            labels.append(label)
            keys.append(text_key(text))
    rows = np.array(offsets), np.array(labels), np.array(keys)
    np.savez(folder / "rows.npz", offsets=rows[0], labels=rows[1], keys=rows[2])
    return *rows, tokenizer.num_truncated - truncated_before


def _chunks(offsets: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield consecutive ranges of ids, and the row of each id in them; no text is divided."""
    start = 0
    while start < len(offsets) - 1:
        stop = max(int(np.searchsorted(offsets, offsets[start] + _CHUNK)), start + 1)
        stop = min(stop, len(offsets) - 1)
        yield (
            slice(offsets[start], offsets[stop]),
            np.repeat(np.arange(start, stop), np.diff(offsets[start : stop + 1])),
        )
        start = stop


def _write_json(
    folder: Path, manifest: dict[str, Any], words: Sequence[str], vocabulary_size: int, num_truncated: int
) -> None:
    content = {"made_of": manifest, "vocabulary_size": vocabulary_size, "num_truncated": num_truncated, "words": words}
    (folder / "corpus.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
