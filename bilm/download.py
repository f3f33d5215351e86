"""Fetch AG News: resumable, checked, and never a partial file under the final name."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from bilm.errors import UserError
from bilm.locks import acquire_lock
from bilm.progress import progress

BASE_URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
MD5 = {"train.csv": "b1a00f826fdfbd249f79597b59e1dc12", "test.csv": "d52ea96a97a2d943681189a97654912d"}
TIMEOUT_SECONDS = 5.0
_CHUNK = 1 << 16


class Unreachable(Exception):
    """No network, no such host, or the connection broke; what has arrived is kept for the next try."""


def download_ag_news(folder: Path, base_url: str = BASE_URL, md5: dict[str, str] | None = None) -> None:
    """Fetch the files of `md5` into `folder` where they are missing.

    Raises Unreachable when the server cannot be reached, UserError when what it gives has the wrong checksum (it is
    deleted then) or when another process is at it.
    """
    release = acquire_lock(folder / ".download.lock", f"is downloading AG News to {folder}. Wait until it is done.")
    try:
        _fetch_missing(folder, base_url, MD5 if md5 is None else md5)
    finally:
        release()


def _fetch_missing(folder: Path, base_url: str, md5: dict[str, str]) -> None:
    for name, expected in md5.items():
        if (folder / name).exists():
            continue
        partial = folder / f"{name}.part"
        _fetch(f"{base_url}/{name}", partial)
        if (found := hashlib.md5(partial.read_bytes(), usedforsecurity=False).hexdigest()) != expected:
            partial.unlink()
            raise UserError(
                f"{base_url}/{name} gave a file with MD5 {found}, not {expected}. It was deleted; try again later."
            )
        partial.replace(folder / name)


def _fetch(url: str, partial: Path) -> None:
    """Append to `partial` what it lacks of `url`; start over if the server does not know ranges."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (BASE_URL's)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
            missing = response.length or 0
            start = have if resumed else 0
            with (
                open(partial, "ab" if resumed else "wb") as file,
                progress(
                    total=start + missing, initial=start, unit="B", unit_scale=True, label=f"downloading {url}"
                ) as bar,
            ):
                while chunk := response.read1(_CHUNK):  # what has arrived, be it little: a slow line shows progress
                    _append(file, chunk, partial)
                    bar.update(len(chunk))
                os.fsync(file.fileno())
            if missing and partial.stat().st_size < start + missing:
                raise Unreachable(f"{url} broke off; the next try goes on from there.")
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # it is all there already; the checksum decides
        raise Unreachable(f"{url} answered {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{url}: {getattr(error, 'reason', error)}.") from error


def _append(file: BinaryIO, chunk: bytes, path: Path) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror}.") from error
