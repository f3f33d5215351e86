"""Split rows into training and validation rows within each class, by a hash of each text; there is no seed."""

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np

from bilm.runtime.errors import UserError
from bilm.text.ag_news import CLASS_NAMES
from bilm.text.custom_dataset import NO_LABEL
from bilm.text.text_rules import collapse_blanks, composed, letters_and_digits

VALIDATION_SHARE = 0.05
# Small classes give up to this number of distinct texts (at most a quarter of them, at least one), so that the best
# epoch is not chosen on two or three texts.
VALIDATION_AT_LEAST = 10
# Texts with fewer letters and digits are compared in all characters. No text of AG News has fewer than 23.
FEW_LETTERS = 8


# Fewer validation rows are too few to choose by; accuracies on as many are uncertain by 1.5 points and more.
MANY_ROWS = 1_000
FOLDS = 5


def text_key(text: str) -> int:
    """Hash the letters and digits of `text`, in lower case, to 64 bits: texts that agree in them count as one text.

    Texts with few letters and digits ("C" and "C++", "!!!", emojis) count as one only if they agree in every character
    up to case and the number of blanks.
    """
    content = letters_and_digits(text).lower()
    if len(content) < FEW_LETTERS:
        content = collapse_blanks(composed(text)).casefold()
    return int.from_bytes(hashlib.sha256(content.encode("utf-8", "replace")).digest()[:8], "big")


def split_validation(
    labels: np.ndarray, keys: np.ndarray, names: Sequence[str] = CLASS_NAMES
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training rows and of the validation rows, int64 each, in ascending order.

    labels: int64 (N,); keys: uint64 (N,), text_key of each text; names: of the classes. Validation gets the
    smallest keys of each class. Texts with the same key are on the same side, so that no validation text is trained on;
    a text with several labels belongs to the class of its first row. Other rows without a label are for training,
    unless no row has one. Raises UserError if a class has fewer than two distinct texts.
    """
    distinct, first = np.unique(keys, return_index=True)
    key_labels = labels[first]
    chosen = []
    # Of all rows: a class all of whose texts are in earlier rows of other classes has no key.
    for label in np.unique(labels[labels != NO_LABEL] if (labels != NO_LABEL).any() else labels):
        members = distinct[key_labels == label]
        if len(members) < 2:
            subject = f"class {names[label]!r} has" if label != NO_LABEL else "there is"
            number = "a single distinct text" if len(members) else "not a single distinct text of its own"
            advice = (
                "Add texts or remove the class. A text of several classes counts for the one of its first row. If the "
                "file has a header, name the columns: where they are given by number, the first row is data."
            )
            raise UserError(
                f"{subject} {number} among the {len(labels)} training rows; at least 2 are needed, one to train on and "
                f"one to validate on. {advice if label != NO_LABEL else 'Add texts.'}"
            )
        count = max(round(VALIDATION_SHARE * len(members)), min(VALIDATION_AT_LEAST, len(members) // 4), 1)
        chosen.append(members[:count])
    is_validation = np.isin(keys, np.concatenate(chosen))
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def validation_splits(
    labels: np.ndarray, keys: np.ndarray, training: np.ndarray, validation: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs of rows to train on and rows to validate on, int64 each: one, or a fifth of all rows in turn.

    labels, keys: see split_validation, whose result is `training` and `validation`; it is the only pair where
    VALIDATION_SHARE of all rows are at least MANY_ROWS. The folds are stratified, and texts with the same key are in
    the same fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second to import

    rows = np.sort(np.concatenate([training, validation]))
    if VALIDATION_SHARE * len(rows) >= MANY_ROWS:
        return [(training, validation)]
    count = min(FOLDS, int(np.bincount(labels[rows]).max()), len(np.unique(keys[rows])))
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some folds have no row of a small class
        return [(rows[train], rows[left]) for train, left in folds.split(rows, labels[rows], keys[rows])]
