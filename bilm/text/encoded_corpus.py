"""Rows as token ids on the disk: written once in one pass, then memory-mapped by every process that trains on it.

    folder/ids.bin       int32, text after text, boundaries included
    folder/rows.npz      offsets (N + 1,), labels (N,) and keys (N,)
    folder/corpus.json   what it was made of, the words that ids stand for, and how many of them are the vocabulary

Memory grows with the number of texts, by a few dozen bytes each, and of distinct words, but not with the length of the
texts. A folder that was made of the same file in the same way is used as it is, so that a run that was stopped need not
read everything again.
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
from bilm.text.corpus import Source
from bilm.text.split import split_validation, text_key
from bilm.text.tokenizer import Tokenizer, comparable_settings
from bilm.text.vocabulary import BOS, EOS, SPECIALS, EncodedTexts, Lexicon, Vocabulary

# Ids that are handled at once.
_CHUNK = 2**20
_FORMAT = 3


@dataclass(frozen=True)
class EncodedCorpus:
    """texts: N of them; labels: int64 (N,), from 0; keys: uint64 (N,), corpus.text_key; words: of the vocabulary.

    num_truncated: how many texts had more words than the tokenizer reads of one.
    texts.lexicon begins with the vocabulary, and ends there if that is not open-ended.
    """

    texts: EncodedTexts
    labels: np.ndarray
    keys: np.ndarray
    words: list[str]
    num_truncated: int

    def __len__(self) -> int:
        return len(self.texts)


def open_encoded(folder: Path) -> EncodedCorpus:
    """What the functions below write. Raises all kinds of errors where it is not whole."""
    made_of = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    with (folder / "rows.npz").open("rb") as file, np.load(file) as rows:
        offsets, labels, keys = rows["offsets"], rows["labels"], rows["keys"]
    # A plain view: np.memmap's own class costs time at every access.
    ids = np.asarray(np.memmap(folder / "ids.bin", np.int32, "r"))
    if len(ids) != offsets[-1]:
        raise ValueError(f"{folder}: {len(ids)} ids where there should be {offsets[-1]}")
    words = made_of["words"]
    texts, vocabulary = EncodedTexts(ids, offsets, Lexicon(words)), words[: made_of["vocabulary_size"]]
    # Folders of earlier versions did not count them.
    return EncodedCorpus(texts, labels, keys, vocabulary, made_of.get("num_truncated", 0))


def encode(source: Source, vocabulary: Vocabulary, folder: Path) -> None:
    """See to it that `folder` holds the ids of `source` by a vocabulary that is known.

    Raises UserError when the CSV is not as it should be; the folder is then not there.
    """
    words = hashlib.sha256("\n".join(vocabulary.words).encode()).hexdigest()
    made_of = {"vocabulary": words, "open_ended": vocabulary.open_ended, **_made_of(source, vocabulary.tokenizer)}
    if not _is_current(folder, made_of):
        with _atomic_folder(folder, made_of) as temporary:
            id_of, words_by_id = vocabulary.numbering()
            rows = _encode_rows(source, vocabulary.tokenizer, id_of, temporary)
            _finish(temporary, made_of, words_by_id(), len(vocabulary), *rows)


def learn_and_encode(
    source: Source,
    tokenizer: Tokenizer,
    config: VocabularyConfig,
    folder: Path,
    open_ended: bool = False,
    known: Sequence[str] = (),
) -> None:
    """See to it that `folder` holds the ids of `source` by the vocabulary of its own training rows.

    open_ended: see Vocabulary; known: the words of a vocabulary that this one goes on from.

    Tokenises once: every word gets a number at first sight, and the numbers become ids when all counts are known.
    Raises UserError as `encode`.
    """
    learned_from = asdict(config) | {"known": hashlib.sha256("\n".join(known).encode()).hexdigest()}
    made_of = {"learned": learned_from, "open_ended": open_ended, **_made_of(source, tokenizer)}
    if _is_current(folder, made_of):
        return
    numbers = {word: i for i, word in enumerate(SPECIALS)}
    with _atomic_folder(folder, made_of) as temporary:
        rows = _encode_rows(source, tokenizer, lambda word: numbers.setdefault(word, len(numbers)), temporary)
        offsets, labels, keys, _ = rows
        in_training = np.zeros(len(labels), dtype=bool)
        in_training[split_validation(labels, keys, source.classes)[0]] = True
        ids = np.memmap(temporary / "ids.bin", np.int32, "r+")
        counts = np.zeros(len(numbers), dtype=np.int64)
        for place, row_of_each in _chunks(offsets):
            counts += np.bincount(ids[place][in_training[row_of_each]], minlength=len(numbers))
        words = list(numbers)
        counted = {words[i]: int(counts[i]) for i in range(len(SPECIALS), len(words)) if counts[i]}
        learned = Vocabulary.from_counts(counted, tokenizer, config, known)
        id_of_word, words_by_id = Vocabulary(learned.words, tokenizer, open_ended).numbering()
        others = [id_of_word(word) for word in words[len(SPECIALS) :]]
        id_of = np.array([*range(len(SPECIALS)), *others], dtype=np.int32)
        for place, _ in _chunks(offsets):
            ids[place] = id_of[ids[place]]
        ids.flush()
        del ids  # Windows renames no folder in which a file is mapped
        _finish(temporary, made_of, words_by_id(), len(learned), *rows)


def _made_of(source: Source, tokenizer: Tokenizer) -> dict[str, Any]:
    """`source` is known by what it says of itself, and labels by the classes that they number."""
    rows = source.stamp() | {"classes": list(source.classes)}
    settings = comparable_settings(asdict(tokenizer.config), source.same_words_by_both_rules)
    return {"rows": rows, "tokenizer": settings, "format": _FORMAT}


def _is_current(folder: Path, made_of: dict[str, Any]) -> bool:
    try:
        found = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        open_encoded(folder)
        return found["made_of"] == made_of
    except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile):
        return False


@contextmanager
def _atomic_folder(folder: Path, made_of: dict[str, Any]) -> Iterator[Path]:
    """A new folder beside `folder`, which takes its place at the end, or goes when something fails."""
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: processes of several machines may share this disk, and each writes one.
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".tmp", dir=folder.parent))
        yield temporary
        # What another of them wrote meanwhile is the same, and may be in use.
        if not _is_current(folder, made_of):
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    except OSError as error:
        if not _is_current(folder, made_of):
            raise UserError(f"{folder} could not be written: {error.strerror}.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _encode_rows(
    source: Source, tokenizer: Tokenizer, id_of: Callable[[str], int], folder: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Write ids.bin; offsets, labels, keys, and how many texts were cut. Raises UserError as Source.rows."""
    offsets, labels, keys = array("q", [0]), array("q"), array("Q")
    cut_before = tokenizer.num_truncated
    ids, written = array("i"), 0
    with (folder / "ids.bin").open("wb") as file:
        for label, text in source.rows():
            ids.append(BOS)
            ids.extend(map(id_of, tokenizer(text)))
            ids.append(EOS)
            offsets.append(written + len(ids))
            labels.append(label)
            keys.append(text_key(text))
            if len(ids) >= _CHUNK:
                ids.tofile(file)
                written += len(ids)
                del ids[:]
        ids.tofile(file)
    return np.array(offsets), np.array(labels), np.array(keys), tokenizer.num_truncated - cut_before


def _chunks(offsets: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """A stretch of ids, and the row of each of them; texts are not torn apart."""
    start = 0
    while start < len(offsets) - 1:
        stop = max(int(np.searchsorted(offsets, offsets[start] + _CHUNK)), start + 1)
        stop = min(stop, len(offsets) - 1)
        lengths = np.diff(offsets[start : stop + 1])
        yield slice(offsets[start], offsets[stop]), np.repeat(np.arange(start, stop), lengths)
        start = stop


def _finish(
    folder: Path, made_of: dict[str, Any], words: Sequence[str], size: int, offsets, labels, keys, num_truncated: int
) -> None:
    np.savez(folder / "rows.npz", offsets=offsets, labels=labels, keys=keys)
    content = {"made_of": made_of, "vocabulary_size": size, "num_truncated": num_truncated, "words": words}
    (folder / "corpus.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
