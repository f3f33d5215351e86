"""Options of the tools that take texts: on the command line, or from a file."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilm.config import setting
from bilm.errors import UserError

if TYPE_CHECKING:
    from bilm.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextOptions:
    """Which texts."""

    texts: tuple[str, ...] = setting((), "texts", positional=True)
    input: str | None = setting(None, "file with texts, or - for standard input")
    column: str | None = setting(None, "column of the texts where the file has columns: its name, or its number from 1")

    def __post_init__(self) -> None:
        if self.column is not None and self.input is None:
            raise UserError("--column is for --input.")

    def require(self) -> None:
        """Raises UserError unless there are texts, from one place."""
        if bool(self.texts) == (self.input is not None):
            raise UserError("give texts, or --input FILE (- for standard input).")

    def read(self) -> Iterator[str]:
        """The texts, one after the other. Raises UserError as readers.read_texts."""
        from bilm.readers import read_texts, replace_surrogates

        return read_texts(self.input, self.column) if self.input is not None else map(replace_surrogates, self.texts)


def truncation_note(num_truncated: int, num_texts: int, max_tokens: int) -> str:
    """For the user, where texts were cut; "" where none was."""
    if not num_truncated:
        return ""
    return (
        f"Note: {num_truncated:,} of {num_texts:,} texts have more than {max_tokens:,} words; what follows those is "
        "not read. ELMO.py --max-tokens sets how many are, when a language model is pretrained."
    )


def print_truncation(tokenizer: "Tokenizer") -> None:
    """To standard error, once all texts are read."""
    if note := truncation_note(tokenizer.num_truncated, tokenizer.num_texts, tokenizer.config.max_tokens):
        print(note, file=sys.stderr)
