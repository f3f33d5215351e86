"""Groups of command-line options that several commands share, and the texts that they name."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilm.runtime.errors import UserError
from bilm.runtime.optional import require
from bilm.runtime.options import setting, threads_setting

if TYPE_CHECKING:
    from bilm.text.tokenizer import Tokenizer
from bilm.training.tensorboard_log import Record, event_file

# --- options --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunOptions:
    """Where the data is, where results go, and what to compute on."""

    data: str | None = setting(
        None, "folder with train.csv and test.csv of AG News (default: AG_NEWS_DIR, else data/ag_news)"
    )
    train: str | None = setting(
        None, "instead of --data: your own texts to train on; .csv, .tsv, .jsonl or .parquet, or a text a line"
    )
    test: str | None = setting(None, "with --train: your own texts to test on")
    text_column: str | None = setting(None, "with --train: column of the texts; its name, or number from 1")
    label_column: str | None = setting(None, "with --train: column of the classes, of any names and number")
    output: str | None = setting(None, "folder under which models/, results/ and runs/ are written (default: this one)")
    limit: int | None = setting(
        None, "read only this many rows of each file, for a quick look; written beside, not over", at_least=1
    )
    seed: int = setting(0, "seed of everything random", below=2**62)
    device: str = setting("auto", "auto (CUDA when there is one), cpu, cuda, cuda:1 ...; mps has not been tried")
    precision: str = setting(
        "auto", "bf16 where the hardware computes in it natively, else fp32", choices=("auto", "bf16", "fp32")
    )
    threads: int | None = threads_setting()

    def __post_init__(self) -> None:
        if self.train and self.data:
            raise UserError("--train and --data exclude each other.")
        for name in ("test", "text_column", "label_column"):
            if getattr(self, name) and not self.train:
                raise UserError(f"--{name.replace('_', '-')} is for --train.")

    def corpus(self) -> Any:
        """The corpus.Corpus that the options name. Raises UserError when it is not there."""
        from bilm.text.corpus import find_corpus, own_corpus

        if self.train:
            return own_corpus(self.train, self.test, self.text_column, self.label_column)
        return find_corpus(self.data)

    def data_options(self) -> str:
        """Those of the options that name the data, to be put behind the next command."""
        names = ("data", "train", "test", "text_column", "label_column", "limit", "output")
        given = [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]
        return "".join(f" --{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in given)


@dataclass(frozen=True)
class EncoderOptions:
    """The language model that classifiers stand on."""

    bilm: str | None = setting(
        None, "its file (default: the bilstm.pt that ELMO.py wrote with the same options); needs an --output of its own"
    )

    def file(self, run: RunOptions, usual: Path) -> Path:
        """Raises UserError where classifiers and figures of another language model would replace the usual one's."""
        if self.bilm and not run.output:
            raise UserError("--bilm needs --output: what stands on that file would replace what stands on bilstm.pt.")
        return Path(self.bilm) if self.bilm else usual


@dataclass(frozen=True)
class ResumeOptions:
    """What to do about an earlier run."""

    resume: bool = setting(
        False, "go on where an earlier run with the same settings stopped; nothing if it had finished"
    )
    restart: bool = setting(False, "start anew: drop an unfinished run, replace a finished one of other settings")

    def __post_init__(self) -> None:
        if self.resume and self.restart:
            raise UserError("--resume and --restart exclude each other.")


@dataclass(frozen=True)
class TensorBoardOptions:
    """Training curves.

    Raises UserError when they are asked for and the package tensorboard is missing.
    """

    tensorboard: bool = setting(
        False,
        "write training loss, learning rate, gradient norm and validation figures for TensorBoard; to see them: "
        "tensorboard --logdir runs",
    )

    def __post_init__(self) -> None:
        if self.tensorboard:
            require("tensorboard", "--tensorboard")

    def log(self, folder: Path, is_main: bool) -> Callable[[int], AbstractContextManager[Record]] | None:
        """The `log` argument of training.fit; None without the option, and on ranks that write no files."""
        return partial(event_file, folder) if self.tensorboard and is_main else None


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
        from bilm.text.readers import read_texts, replace_surrogates

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
