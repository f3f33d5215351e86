"""Texts without classes, from which `python -m bilm fit --unlabelled FILE` learns beside the labelled rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bilm.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from bilm.text.corpus import Unlabelled
    from bilm.text.encoded_corpus import EncodedCorpus
    from bilm.text.tokenizer import Tokenizer

# With these it takes three minutes on short texts, on long ones seven (docs/log.md).
AT_MOST = 10_000


@dataclass(frozen=True)
class UsableRows:
    """encoded: the labelled rows, and those without a label that are learned from.

    identity: a hash of the latter; are_test_rows: whether they are the texts that are tested on; note: what to tell the
    user of them.
    """

    encoded: "EncodedCorpus"
    identity: str
    are_test_rows: bool
    note: str


def open_unlabelled(file: str, column: str | None, default_column: str | None, tokenizer: "Tokenizer") -> "Unlabelled":
    """Return a file of texts, in `column` or in `default_column` if it has columns, else one a line.

    Raises UserError if it cannot be read, lacks the column, or has no word.
    """
    from bilm.text.corpus import find_unlabelled
    from bilm.text.readers import read_texts

    try:
        result = find_unlabelled(file, column, default_column)
        has_words = any(map(tokenizer, read_texts(file, result.column)))
    except UserError as error:
        raise UserError(str(error), "unlabelled", "unlabelled_column") from error
    if not has_words:
        where = f", column {result.column!r}" if result.column else ""
        raise UserError(f"{file}{where}: no text has a word. Name a file with texts, or none.", "unlabelled")
    return result


def usable_rows(
    encoded: "EncodedCorpus",
    unlabelled: "Unlabelled",
    test: Path | None,
    test_rows: "Sequence[tuple[int, str]]",
    seed: int,
) -> UsableRows:
    """Choose the rows without a label that are learned from.

    Left out are texts of labelled rows, so that no fold reads the texts that it is validated on; those of test rows,
    unless `unlabelled` is the file `test` itself; and, of more than AT_MOST, all but a random choice. Texts are the
    same if split.text_key is. Raises UserError if none is left.
    """
    import numpy as np

    from bilm.cli.hybrid import is_labelled
    from bilm.text.split import text_key

    named = test is not None and unlabelled.path.samefile(test)
    test_keys = np.array([text_key(text) for _, text in ([] if named else test_rows)], np.uint64)
    labelled = is_labelled(encoded)
    rows = np.flatnonzero(~labelled)
    new = rows[~np.isin(encoded.keys[rows], np.concatenate([encoded.keys[labelled], test_keys]))]
    if not len(new):
        raise UserError(
            f"{unlabelled.path}: all of its texts are also in the training file or in the test file, so that nothing "
            "is learned from them. Name a file with other texts.",
            "unlabelled",
        )
    chosen = new
    if len(new) > AT_MOST:
        chosen = np.sort(np.random.default_rng(seed).choice(new, AT_MOST, replace=False))
    note = f"Texts without classes that are learned from, too: {len(chosen):,}"
    if len(chosen) < len(new):
        note += f", a random choice of {len(new):,}"
    if named:
        note += "; they are the texts that are tested on"
    if len(new) < len(rows):
        others = "in the training file or in the test file" if len(test_keys) else "in the training file"
        note += f"; left out, as they also are {others}: {len(rows) - len(new):,}"
    subset = _subset(encoded, np.concatenate([np.flatnonzero(labelled), chosen]))
    return UsableRows(subset, hashlib.sha256(encoded.keys[chosen].tobytes()).hexdigest(), named, f"{note}.")


def _subset(encoded: "EncodedCorpus", rows: "np.ndarray") -> "EncodedCorpus":
    """The corpus of these rows alone, with its ids in memory."""
    import numpy as np

    ids, offsets = encoded.texts.ids, encoded.texts.offsets
    texts = replace(
        encoded.texts,
        ids=np.concatenate([ids[offsets[row] : offsets[row + 1]] for row in rows.tolist()]),
        offsets=np.cumsum([0, *encoded.texts.lengths[rows]]),
    )
    return replace(encoded, texts=texts, labels=encoded.labels[rows], keys=encoded.keys[rows])
