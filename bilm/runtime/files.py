"""Files: opened (compressed or not), hashed, recognised by their first bytes, and written completely or not at all."""

import contextlib
import hashlib
import importlib
import io
import json
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bilm.runtime.errors import UserError
from bilm.runtime.terminal import ProgressFile, progress

# Modules of the standard library whose `open` decompresses.
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}
HDF5 = b"\x89HDF\r\n\x1a\n"
_UTF16 = "UTF-16, not UTF-8. Save it as UTF-8 (iconv -f utf-16 -t utf-8)"
# How a file begins, what it then is, and what to do about it.
_SIGNATURES = (
    (b"PK\x03\x04", "a ZIP archive, or an Excel workbook. Unpack it, or export the sheet as CSV"),
    (b"\x1f\x8b", "compressed with gzip. Unpack it, or let its name end in .gz"),
    (b"BZh", "compressed with bzip2. Unpack it, or let its name end in .bz2"),
    (b"\xfd7zXZ", "compressed with xz. Unpack it, or let its name end in .xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard. Unpack it (zstd -d)"),
    (b"7z\xbc\xaf", "a 7z archive. Unpack it"),
    (b"PAR1", "a Parquet file. Let its name end in .parquet"),
    (b"ARROW1", "an Arrow file. Export it as Parquet or CSV"),
    (HDF5, "an HDF5 file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file. Export it as CSV or text in UTF-8"),
    (b"%PDF", "a PDF file. Export its text"),
    (b"\xff\xfe", _UTF16),
    (b"\xfe\xff", _UTF16),
)


def file_hash(path: Path) -> str:
    """SHA-256 of the file. Raises UserError when it cannot be read."""
    with open_bytes(path, decompress=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_name(path: str | Path) -> Path:
    """`path` without the ending of a compressed file: reviews.csv of reviews.csv.gz."""
    path = Path(path)
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED else path


@contextmanager
def open_bytes(path: str | Path, label: str = "", decompress: bool = True) -> Iterator[io.BufferedIOBase]:
    """The file opened for reading, decompressed by the end of its name.

    label: of a progress bar ("reading"); no bar without it. Raises UserError, also from inside the `with`, when the
    file is not there, is a folder, cannot be read, or is damaged.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder. Name a file in it.")
    module = importlib.import_module(COMPRESSED[path.suffix.lower()]) if decompress and path != data_name(path) else io
    try:
        size = path.stat().st_size
        bar = progress(total=size, unit="B", unit_scale=True, label=f"{label} {path.name}", disable=not label)
        with bar, io.BufferedReader(ProgressFile(path, bar), 2**18) as file:
            if module is io:
                yield file
            else:
                with module.open(file) as content:
                    yield content
    except (EOFError, zlib.error, getattr(module, "LZMAError", EOFError)) as error:
        raise UserError(f"{path} is damaged or cut off ({error}). Copy or download it again.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def file_type(head: bytes) -> str | None:
    """What a file that begins with `head` is, and what to do about it; None where that may be UTF-8 text."""
    even, odd = head[::2], head[1::2]
    if len(head) >= 8 and any(not any(nul) and 0 not in other for nul, other in ((even, odd), (odd[:-1], even))):
        return _UTF16
    if 0 not in head and head.decode(errors="ignore").encode() == head:
        return None
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), None)


ADVICE = "Make it again, or copy it again."


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` at the end, or removes it if anything goes wrong."""
    # One name for all attempts: what a killed process leaves is overwritten by the next.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "r+b") as file:  # Windows flushes only what is open for writing
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        cause = _root_cause(error)
        if isinstance(cause, OSError):
            reason = cause.strerror or cause
            raise UserError(f"{path} could not be written: {reason}. What was there before is untouched.") from error
        raise cause from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _root_cause(error: BaseException) -> BaseException:
    """The disk's refusal, or Ctrl-C: torch.save makes a riddle of its own out of what interrupts its writing."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError | KeyboardInterrupt):
        cause = cause.__context__
    return cause or error


def _sync_folder(folder: Path) -> None:
    """Have the new name survive a power cut, too, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def reject_malformed(path: Path) -> Iterator[None]:
    """Within: what `load` gave is taken apart. Raises UserError when it does not hold what this program looks for.

    The checksum only says that a file is as it was written; another version of this project may have written it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} is whole, but not as this version of the program writes it ({reason:.120}). {ADVICE}"
        ) from error


def read_json(path: Path) -> Any:
    """Raises UserError when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}). Remove it, or make it again.") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, with a newline at the end. What is no finite number becomes null: JSON knows none."""
    write_text(path, json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Whole or not at all, as UTF-8."""
    pass  # REMOVED

    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
