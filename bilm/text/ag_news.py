"""AG News: download it, and read it in each form in which it is distributed:

    class,title,description                      as published: CSV without a header
    Class Index,Title,Description                Kaggle; the title may be missing
    text,label                                   the datasets library, which numbers classes from 0, the others from 1

The columns of a header may be in any order, and the file may be CSV, TSV, JSON lines or Parquet.
"""

import contextlib
import hashlib
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bilm.runtime.errors import UserError
from bilm.runtime.files import atomic_write
from bilm.runtime.locks import acquire_lock
from bilm.runtime.terminal import progress
from bilm.text.readers import Table, sample_evenly

CLASS_NAMES = ("World", "Sports", "Business", "Sci/Tech")


def read_ag_news(path: Path, limit: int | None = None) -> Iterator[tuple[int, str]]:
    """Yield label (from 0) and description, unchanged, of every row, or of `limit` rows.

    The `limit` rows are evenly spaced, so that a file sorted by class yields all classes; the file is then read twice.
    Raises UserError with file, row and column of the first mistake, which may come after valid rows.
    """
    return sample_evenly(path, partial(_all_rows, path), limit)


def _all_rows(path: Path, progress_label: str) -> Iterator[tuple[int, str]]:
    table = Table(path, partial(_select_columns, path))
    for number, (cell, text) in table.rows(progress_label):
        label, description = str(cell).strip(), table.require_text(number, text, table.columns[1])
        first = 0 if table.columns[0].strip().lower() == "label" else 1
        if not label.isdecimal() or len(label) > 9 or not 0 <= int(label) - first < len(CLASS_NAMES):
            classes = f"the classes are {first} to {first + len(CLASS_NAMES) - 1}"
            options = "--text-column NAME --label-column NAME"
            advice = "" if label.isdecimal() else f" For classes of another form, name both columns: {options}."
            raise table.error(number, f"{label[:40]!r} is not a class; {classes}.{advice}", table.columns[0])
        if not any(character.isalnum() for character in description):
            problem = f"not text ({description[:40]!r})" if description.strip() else "empty"
            raise table.error(number, f"it is {problem}. Fill it in or remove the row.", table.columns[1])
        yield int(label) - first, description


def _select_columns(path: Path, first: Sequence[str]) -> tuple[str, str]:
    """Choose the columns of class and text by the cells of the first row; see readers.Table."""
    names = {name.strip().lower(): name for name in first}
    for label, text in (("class index", "description"), ("label", "text")):
        if label in names and text in names:
            return names[label], names[text]
    if len(first) == 3 and first[0].strip().isdecimal():
        return "1", "3"
    raise UserError(
        f"{path}, row 1: these are not AG News columns ({', '.join(first)[:80]!r}). Expected the header 'Class Index,"
        "Title,Description', 'Class Index,Description' or 'text,label', or three columns class, title, description "
        "without a header. For texts of your own, name their columns (in the scripts together with --train FILE).",
        *("text_column", "label_column"),
    )


BASE_URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
MD5 = {"train.csv": "b1a00f826fdfbd249f79597b59e1dc12", "test.csv": "d52ea96a97a2d943681189a97654912d"}
TIMEOUT_SECONDS = 5.0  # without a byte from the server


class Unreachable(Exception):
    """The server cannot be reached or refuses the file, the connection broke, or the folder cannot be created."""


def download_ag_news(folder: Path, base_url: str = BASE_URL, md5: dict[str, str] = MD5) -> None:
    """Download the files named in `md5` into `folder` unless they exist.

    Raises Unreachable if the server cannot be reached or `folder` not be created; UserError if a file has the wrong
    checksum or cannot be written, or another process is downloading to the same folder.
    """
    existed = folder.exists()
    refusal = f"is downloading AG News to {folder}. Wait until it is done."
    try:
        release = acquire_lock(folder / ".download.lock", refusal)
    except OSError as error:  # on Kaggle, a notebook's input is read-only
        raise Unreachable(f"{folder} cannot be written to: {error.strerror}.") from error
    try:
        for name, expected in md5.items():
            if not (folder / name).exists():
                _download(f"{base_url}/{name}", folder / name, expected)
    finally:
        release()
        with contextlib.suppress(OSError):
            if not existed:
                folder.rmdir()  # if it is empty


def _download(url: str, path: Path, expected: str) -> None:
    from pooch import HTTPDownloader
    from requests import HTTPError

    # Not pooch.retrieve, whose files only their owner can read. In memory: the larger file has 30 MB.
    content = io.BytesIO()
    try:
        # Not 0: pooch leaves out a bar that is false. It sets the total itself.
        with progress(total=1, unit="B", unit_scale=True, label=f"downloading {url}") as bar:
            # Uncompressed, so that the server's Content-Length is the size of the file.
            download = HTTPDownloader(bar, 1 << 16, timeout=TIMEOUT_SECONDS, headers={"Accept-Encoding": "identity"})
            download(url, content, None)
    except HTTPError as error:
        assert error.response is not None
        raise Unreachable(f"{url} answered {error.response.status_code} {error.response.reason}.") from error
    except OSError as error:  # all errors of requests, and a REQUESTS_CA_BUNDLE that names no file
        raise Unreachable(f"{url}: {_first_cause(error)}.") from error
    actual = hashlib.md5(content.getbuffer(), usedforsecurity=False).hexdigest()
    if actual != expected:
        raise UserError(f"{url}: the file has MD5 {actual}, not {expected}. Try again later.")
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _first_cause(error: BaseException) -> BaseException:
    cause = error.__cause__ or error.__context__
    return _first_cause(cause) if cause else error
