"""The split into training and validation rows: a function of the texts alone."""

import hashlib
from collections.abc import Sequence

import numpy as np

from bilm.runtime.errors import UserError
from bilm.text.ag_news import CLASS_NAMES
from bilm.text.custom_dataset import NO_LABEL
from bilm.text.text_rules import collapse_blanks, composed, letters_and_digits

VALIDATION_SHARE = 0.05
# A class of few rows gives more than that share, so that the best epoch is not picked on two or three texts.
VALIDATION_AT_LEAST = 10
# A text with fewer letters and digits is known by its other characters, too. No text of AG News has fewer than 23.
FEW_LETTERS = 8


def text_key(text: str) -> int:
    """64 bits of a hash of the letters and digits of `text`: texts that agree in them count as one.

    Texts with hardly any ("C" and "C++", "!!!", emojis) count as one where they agree in every character, up to case
    and the number of blanks.
    """
    content = letters_and_digits(text).lower()
    if len(content) < FEW_LETTERS:
        content = collapse_blanks(composed(text)).casefold()
    return int.from_bytes(hashlib.sha256(content.encode("utf-8", "replace")).digest()[:8], "big")


def split_validation(
    labels: np.ndarray, keys: np.ndarray, names: Sequence[str] = CLASS_NAMES
) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and rows for validation: fixed by the texts alone, whatever the seed or the order of rows.

    `labels`: int64 (N,); `keys`: uint64 (N,), text_key of each text; `names`: of the classes. Of each class the
    smallest keys; of rows without a label none, unless no row has one. Texts of one key go to the same side, so that no
    validation text is also trained on. Raises UserError when a class has a single text.
    """
    distinct, first = np.unique(keys, return_index=True)
    owners = labels[first]
    chosen = []
    for label in np.unique(owners[owners != NO_LABEL] if (labels != NO_LABEL).any() else owners):
        members = distinct[owners == label]
        if len(members) < 2:
            whose = "there is" if label == NO_LABEL else f"class {names[label]!r} has"
            raise UserError(
                f"{whose} a single distinct text among the {len(labels)} training rows; at least 2 are needed, one to "
                "train on and one to validate on."
            )
        wanted = max(round(VALIDATION_SHARE * len(members)), min(VALIDATION_AT_LEAST, len(members) // 4), 1)
        chosen.append(members[:wanted])
    is_validation = np.isin(keys, np.concatenate(chosen))
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)
