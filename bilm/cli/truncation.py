"""Tell the user how many texts are read only in part."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bilm.text.tokenizer import Tokenizer


def truncation_note(num_truncated: int, num_texts: int, max_tokens: int) -> str:
    """The note for the user if texts were truncated; otherwise an empty string."""
    if not num_truncated:
        return ""
    return (
        f"Note: {num_truncated:,} of {num_texts:,} texts have more than {max_tokens:,} words; only their first "
        f"{max_tokens:,} words are read. ELMO.py --max-tokens sets the limit when a language model is pretrained."
    )


def print_truncation(tokenizer: "Tokenizer") -> None:
    """Print the note to standard error, after all texts have been read."""
    if note := truncation_note(tokenizer.num_truncated, tokenizer.num_texts, tokenizer.config.max_tokens):
        print(note, file=sys.stderr)
