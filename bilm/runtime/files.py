"""Read files (compressed or not), hash them, recognise them by their first bytes, and write them atomically."""

import codecs
import contextlib
import hashlib
import importlib
import io
import json
import math
import os
import re
import time
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bilm.runtime.errors import UserError
from bilm.runtime.terminal import ProgressFile, progress

# Seconds between attempts to rename a file that another program has open; only Windows refuses that.
PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0) if os.name == "nt" else ()
# Modules of the standard library whose `open` decompresses.
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}
HDF5 = b"\x89HDF\r\n\x1a\n"
_UNICODE = "{0}, not UTF-8. Save it as UTF-8 (iconv -f {1} -t utf-8)"
_UTF16, _UTF32 = (_UNICODE.format(name, name.lower()) for name in ("UTF-16", "UTF-32"))
# Without a byte order mark, iconv needs the order of the bytes.
_UNMARKED = {
    codec: _UNICODE.format(name, codec)
    for name in ("UTF-32", "UTF-16")
    for codec in (f"{name.lower()}{order}" for order in ("le", "be"))
}
# Other control characters than line ends and separators hardly occur in texts.
_CONTROLS = re.compile(rb"[\0-\x08\x0e-\x1a]")
# The first bytes of a file, what such a file is, and what a user can do about it.
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
    (b"\x93NUMPY", "an array of NumPy. Export its texts"),
    (b"%PDF", "a PDF file. Export its text"),
    (b"\xff\xfe\0\0", _UTF32),
    (b"\0\0\xfe\xff", _UTF32),
    (b"\xff\xfe", _UTF16),
    (b"\xfe\xff", _UTF16),
)
# The name of the first file in a tar archive.
_PADDED = re.compile(rb"[^\0]+\0{8,}")
_TAR = "padded with NUL bytes, as a tar archive is, or a damaged file. Unpack it, or copy it again"
# Ends the messages about files of this project that cannot be used.
ADVICE = "Create it again, or copy it again."


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal. Raises UserError when it cannot be read."""
    with open_bytes(path, decompress=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_name(path: str | Path) -> Path:
    """Return `path` without the suffix of a compressed file: reviews.csv for reviews.csv.gz."""
    path = Path(path)
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED else path


def require_file(path: str | Path, *parameters: str) -> None:
    """Raise UserError, with these parameters, unless `path` is a file. A pipe is none: it cannot be read twice."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it.", *parameters)
    if not path.exists():
        raise UserError(f"there is no file {path}.", *parameters)
    if not path.is_file():
        raise UserError(f"{path} is a pipe or a device, which can be read only once. Save it as a file.", *parameters)


@contextlib.contextmanager
def open_bytes(path: str | Path, label: str = "", decompress: bool = True) -> Iterator[io.BufferedIOBase]:
    """Open a file for reading; its suffix (.gz, .bz2, .xz) decides whether it is decompressed.

    label: of the progress bar ("reading"); no bar without it. Raises UserError, also from inside the `with` block, when
    the file does not exist, is a folder, cannot be read, or is damaged.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder. Name a file in it.")
    module = (
        importlib.import_module(COMPRESSED[path.suffix.lower()]) if decompress and path != data_name(path) else None
    )
    try:
        size = path.stat().st_size
        bar = progress(total=size, unit="B", unit_scale=True, label=f"{label} {path.name}", disable=not label)
        with (
            bar,
            io.BufferedReader(ProgressFile(path, bar), 2**18) as file,
            module.open(file) if module else contextlib.nullcontext(file) as content,
        ):
            yield content
    except (EOFError, zlib.error, getattr(module, "LZMAError", EOFError)) as error:
        raise UserError(f"{path} is damaged or cut off ({error}). Copy or download it again.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def file_type(head: bytes) -> str | None:
    """Describe a file by its first bytes, with advice to the user; None when they may be UTF-8 text."""
    if 0 not in head and _is_utf8(head):
        return None
    if name := signature_of(head):
        return name
    likelihoods = {codec: _letters_as(codec, head) for codec in _UNMARKED}
    likeliest = max(likelihoods, key=likelihoods.__getitem__)
    if likelihoods[likeliest]:
        return _UNMARKED[likeliest]
    return _TAR if _PADDED.fullmatch(head) and len(head) >= 64 else None


def signature_of(head: bytes) -> str | None:
    """Describe a file by the signature that it begins with, as `file_type` does."""
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), None)


def _is_utf8(head: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(head)
        return True
    return False


def _letters_as(codec: str, head: bytes) -> int:
    """Count the letters of alphabets (up to U+1FFF), ASCII twice, if `head` is text in UTF-16 or UTF-32; else 0.

    A UTF-8 text with NULs may be UTF-16, too, but then of ideographs: what is also UTF-8 is taken for UTF-16 only if
    it has none of them, but alphabets and their punctuation (up to U+2027).
    """
    try:
        text = codecs.getincrementaldecoder(codec)().decode(head)
    except UnicodeDecodeError:
        return 0
    if len(head) % (int(codec[4:6]) // 8) or not _CONTROLS.search(head) or not text.strip():
        return 0
    if not all(c.isspace() or unicodedata.category(c) not in ("Cc", "Cn", "Co") for c in text):
        return 0
    is_certain = "32" in codec or max(text) < "\u2028" or not _is_utf8(head)
    return sum((c < "\u2000") + c.isascii() for c in text) if is_certain else 0


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` at the end, or remove it after an error.

    Raises UserError when the file system refuses; `path` is then unchanged.
    """
    # The name is the same in every attempt, so that the file of a killed process is overwritten by the next one.
    if path.is_dir():
        raise UserError(f"{path} is a folder. Name a file.")
    if path.is_symlink():
        path = path.resolve()  # the link stays
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is a device or a pipe, not a file. Name a file.")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.open("ab").close()  # what cannot be written is refused before it is computed
        mode = temporary.stat().st_mode
        yield temporary
        os.chmod(temporary, mode)  # safetensors replaces the file by one that others cannot read
        with open(temporary, "r+b") as file:  # Windows flushes only files that are open for writing
            os.fsync(file.fileno())
        replace_patiently(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        cause = _interruption_behind(error)
        if isinstance(cause, OSError):
            reason = " ".join(str(cause.strerror or cause).split())
            raise UserError(
                f"{path} could not be written: {reason}. The earlier file, if any, is unchanged."
            ) from error
        raise cause from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def replace_patiently(source: Path, target: Path) -> None:
    """Rename a file or a folder, in place of the file `target` if it exists.

    On Windows again and again for some seconds: a virus scanner or an indexer may have the file open for a moment.
    """
    for pause in PAUSES:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)


def _interruption_behind(error: BaseException) -> BaseException:
    """Find the OSError or KeyboardInterrupt behind `error`: torch.save raises its own error when either stops it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError | KeyboardInterrupt):
        cause = cause.__context__
    return cause or error


def _sync_folder(folder: Path) -> None:
    """Flush the folder's entries to the disk, so that a renamed file survives a power failure, where supported."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def reject_malformed(path: Path) -> Iterator[None]:
    """Turn any error within this context into a UserError: the content of `path` lacks what this program expects.

    A correct checksum only shows that a file is unchanged; another version of this project may have written it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} does not have the content that this version of the program reads ({reason:.120}). {ADVICE}"
        ) from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises UserError when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}). Remove it, or create it again.") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically, with a final newline. NaN and infinities, which JSON lacks, become null."""
    write_text(path, json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text atomically, in UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
