"""Download AG News with pooch, verify the checksums, and never leave a partial file under the final name."""

from pathlib import Path

from bilm.errors import UserError
from bilm.locks import acquire_lock
from bilm.progress import progress

BASE_URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"
MD5 = {"train.csv": "b1a00f826fdfbd249f79597b59e1dc12", "test.csv": "d52ea96a97a2d943681189a97654912d"}
TIMEOUT_SECONDS = 5.0  # without a byte from the server


class Unreachable(Exception):
    """The server cannot be reached, refuses the file, or the connection broke."""


def download_ag_news(folder: Path, base_url: str = BASE_URL, md5: dict[str, str] | None = None) -> None:
    """Download the files named in `md5` into `folder` unless they exist.

    Raises Unreachable when the server cannot be reached; UserError when a file has the wrong checksum (it is deleted),
    cannot be written, or another process is downloading to the same folder.
    """
    release = acquire_lock(folder / ".download.lock", f"is downloading AG News to {folder}. Wait until it is done.")
    try:
        for name, expected in (MD5 if md5 is None else md5).items():
            if not (folder / name).exists():
                _download(f"{base_url}/{name}", folder / name, expected)
    finally:
        release()


def _download(url: str, path: Path, expected: str) -> None:
    from pooch import HTTPDownloader, file_hash
    from requests import HTTPError, RequestException

    # Not pooch.retrieve: files that it writes can be read by their owner alone.
    partial = path.with_name(f"{path.name}.part")
    try:
        with progress(total=0, unit="B", unit_scale=True, label=f"downloading {url}") as bar:
            # Uncompressed, so that the server's Content-Length is the size of the file.
            download = HTTPDownloader(bar, 1 << 16, timeout=TIMEOUT_SECONDS, headers={"Accept-Encoding": "identity"})
            download(url, str(partial), None)
        if (found := file_hash(str(partial), "md5")) != expected:
            raise UserError(f"{url} gave a file with MD5 {found}, not {expected}. It was deleted; try again later.")
        partial.replace(path)
    except HTTPError as error:
        assert error.response is not None
        raise Unreachable(f"{url} answered {error.response.status_code} {error.response.reason}.") from error
    except RequestException as error:
        cause: BaseException = error
        while context := cause.__cause__ or cause.__context__:
            cause = context
        raise Unreachable(f"{url}: {cause}.") from error
    except OSError as error:
        raise UserError(f"{partial} could not be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
