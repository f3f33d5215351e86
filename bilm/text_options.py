"""Options of the tools that take texts: on the command line, or from a file."""

from collections.abc import Iterator
from dataclasses import dataclass

from bilm.config import setting
from bilm.errors import UserError


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
        """The texts, one after the other. Raises UserError as text_input.read_texts."""
        from bilm.text_input import read_texts, whole

        return read_texts(self.input, self.column) if self.input is not None else map(whole, self.texts)
