"""Groups of command-line options that several commands share."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bilm.runtime.device import PRECISIONS
from bilm.runtime.errors import UserError
from bilm.runtime.optional_packages import require
from bilm.runtime.options import setting
from bilm.runtime.paths import ROOT
from bilm.runtime.process import quoted
from bilm.runtime.terminal import print_note

if TYPE_CHECKING:
    from bilm.text.corpus import Corpus
    from bilm.training.tensorboard_log import Record

_THREADS = "CPU threads to compute with (default: OMP_NUM_THREADS, else as many as cores are free)"


@dataclass(frozen=True)
class RunOptions:
    """The data, the folder of the results, and the device."""

    data: str | None = setting(
        None, "folder with train.csv and test.csv of AG News (default: AG_NEWS_DIR, else data/ag_news)"
    )
    train: str | None = setting(
        None, "instead of --data: your own training texts; .csv, .tsv, .jsonl, .parquet, or one text per line"
    )
    test: str | None = setting(None, "with --train: your own test texts")
    text_column: str | None = setting(None, "with --train: column of the texts, by name or by number from 1")
    label_column: str | None = setting(None, "with --train: column of the classes, which may have any names")
    output: str | None = setting(
        None, "folder under which models/, results/ and runs/ are written (default: that of this repository)"
    )
    limit: int | None = setting(
        None, "read only this many rows of each file, for a quick look; written to folders of its own", at_least=1
    )
    seed: int = setting(0, "seed of everything random", below=2**62)
    device: str = setting("auto", "auto (CUDA if available), cpu, cuda, cuda:1 ...; mps has not been tried")
    precision: str = setting("auto", "auto: bf16 where hardware supports it natively, else fp32", choices=PRECISIONS)
    threads: int | None = setting(None, _THREADS, at_least=1, below=1024)

    def __post_init__(self) -> None:
        if self.train and self.data:
            raise UserError("--train and --data exclude each other.")
        for name in ("test", "text_column", "label_column"):
            if getattr(self, name) and not self.train:
                raise UserError(f"--{name.replace('_', '-')} is for --train.")

    def corpus(self) -> "Corpus":
        """Find the corpus that the options name. Raises UserError if it does not exist."""
        from bilm.text.corpus import find_corpus, own_corpus

        if self.train:
            return own_corpus(self.train, self.test, self.text_column, self.label_column)
        return find_corpus(self.data)

    def data_options(self) -> str:
        """The options that name the data and the output, for the next command: " --data FOLDER"."""
        names = ("data", "train", "test", "text_column", "label_column", "limit", "output")
        values = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return "".join(f" --{name.replace('_', '-')} {quoted(str(value))}" for name, value in values.items())


@dataclass(frozen=True)
class EncoderOptions:
    """The language model that the classifiers read."""

    bilm: str | None = setting(
        None, "its file (default: the bilstm.pt that ELMO.py wrote with the same options); requires --output"
    )

    def file(self, run: RunOptions, default: Path) -> Path:
        """Raises UserError if results of another language model would replace those of the default one."""
        if self.bilm and not run.output:
            raise UserError("--bilm requires --output: its classifiers would replace those of the default bilstm.pt.")
        return Path(self.bilm) if self.bilm else default


@dataclass(frozen=True)
class ResumeOptions:
    """What to do about an earlier run."""

    resume: bool = setting(
        False, "continue an earlier run with the same settings where it stopped; do nothing if it had finished"
    )
    restart: bool = setting(False, "drop an unfinished run, or replace a finished one that has other settings")

    def __post_init__(self) -> None:
        if self.resume and self.restart:
            raise UserError("--resume and --restart exclude each other.")


@dataclass(frozen=True)
class TensorBoardOptions:
    """Training curves.

    Raises UserError if they are requested and the package tensorboard is missing.
    """

    tensorboard: bool = setting(
        False,
        "write training loss, learning rate, gradient norm and validation figures for TensorBoard; to see them: "
        "tensorboard --logdir runs",
    )

    def __post_init__(self) -> None:
        if self.tensorboard:
            require("tensorboard", "--tensorboard")

    def log(self, folder: Path, is_main: bool) -> "Callable[[int], AbstractContextManager[Record]] | None":
        """The `log` argument of training.loop.fit; None without the option, and on ranks that write no files."""
        if not (self.tensorboard and is_main):
            return None
        from bilm.training.tensorboard_log import event_file

        return partial(event_file, folder)


@dataclass(frozen=True)
class ModelOptions:
    """The model, and the device."""

    bilm: str = setting(str(ROOT / "models" / "bilstm.pt"), "file of the language model")
    device: str = setting("cpu", "cpu, cuda, cuda:1, auto ...")
    precision: str = setting(
        "fp32",
        "fp32: the same answers on every machine; bf16: faster, where supported; auto: bf16 where the hardware has it "
        "natively",
        choices=PRECISIONS,
    )
    threads: int | None = setting(None, _THREADS, at_least=1, below=1024)


@dataclass(frozen=True)
class ClassifierOptions(ModelOptions):
    """The classifier, its language model, and the device."""

    classifier: str | None = setting(
        None,
        "file of a classifier or an ensemble (default: the one beside --bilm with the best validation accuracy)",
    )


@dataclass(frozen=True)
class TextOptions:
    """The texts."""

    texts: tuple[str, ...] = setting((), "texts", positional=True)
    input: str | None = setting(None, "file with texts, or - for standard input")
    column: str | None = setting(None, "column of the texts if the file has columns, by name or by number from 1")

    def __post_init__(self) -> None:
        if self.column is not None and self.input is None:
            raise UserError("--column is for --input.")

    def require(self) -> None:
        """Raises UserError unless there are texts, from one source."""
        if bool(self.texts) == (self.input is not None):
            raise UserError("give either texts or --input FILE (- for standard input).")
        for text in self.texts:
            if os.path.isfile(text):  # Path.is_file raises OSError for a name that is too long
                print_note(f"Note: {text} is the name of a file, but read as a text; --input reads the file.")

    def protect(self, output: str, parameter: str) -> None:
        """Raises UserError if `output`, the value of `parameter`, is the file that the texts are read from."""
        source, target = Path(self.input or "-"), Path(output)
        if source.exists() and target.exists() and source.samefile(target):
            raise UserError(f"{output} is the file of the texts, and would be replaced. Name another one.", parameter)

    def read(self) -> Iterator[str]:
        """Yield the texts one by one. Raises UserError as readers.read_texts does."""
        from bilm.text.readers import read_texts, replace_surrogates

        return read_texts(self.input, self.column) if self.input is not None else map(replace_surrogates, self.texts)
