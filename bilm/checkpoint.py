"""Files that travel: written whole or not at all, and read without running what is in them.

Every file is a dict of tensors and plain dict/list/str/number, so that `torch.load(weights_only=True)` reads it. It
says what kind it is ("bilm", "classifier", "training"), in which version of the format, and holds a SHA-256 over all
the rest: a file that was cut, changed or made by another program is refused with one line.
"""

import contextlib
import hashlib
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilm.errors import UserError

FORMAT_VERSION = 1


def content_hash(content: Any) -> str:
    """SHA-256 over nested dicts, lists, tensors and plain values; the same content gives the same hash anywhere."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            value = value.detach().cpu().contiguous()
            digest.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, Mapping):
            digest.update(f"dict {len(value)};".encode())
            for key, item in value.items():
                add(key)
                add(item)
        elif isinstance(value, list | tuple):
            digest.update(f"list {len(value)};".encode())
            for item in value:
                add(item)
        else:
            digest.update(f"{value!r};".encode())

    add(content)
    return digest.hexdigest()


@contextlib.contextmanager
def written_whole(path: Path):
    """Yields a temporary path beside `path`; renames it to `path` at the end, or removes it if anything goes wrong."""
    # One name for all attempts: what a killed process leaves is overwritten by the next.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save wraps a full disk into a RuntimeError
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path} could not be written: {reason}. What was there before is untouched.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the new name survive a power cut, too, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def save(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write `content` to `path`. Raises UserError when the disk refuses; then `path` is as it was."""
    with written_whole(path) as temporary:
        torch.save(
            {"kind": kind, "format_version": FORMAT_VERSION, "sha256": content_hash(content), "content": content},
            temporary,
        )


def load(path: Path, kind: str) -> dict[str, Any]:
    """The content that `save` wrote, its tensors on the CPU. Raises UserError when it is anything else."""
    if not path.exists():
        raise UserError(f"{path} is not there.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own remarks on files that are refused anyway
            file = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it is not a file of this project, or it holds objects that could run code "
            "(only tensors and plain values are read)."
        ) from error
    except Exception as error:  # bytes that are not what they were can make an unpickler raise anything
        raise UserError(f"{path} cannot be read: it is cut off or damaged. Make it again, or copy it again.") from error
    if not isinstance(file, dict) or "kind" not in file or "content" not in file:
        raise UserError(f"{path} was not written by this project.")
    if file["kind"] != kind:
        raise UserError(f"{path} is a {file['kind']!r} file; a {kind!r} file is needed here.")
    if file.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {file.get('format_version')}; this program reads version {FORMAT_VERSION}. "
            "Train it again."
        )
    if content_hash(file["content"]) != file.get("sha256"):
        raise UserError(f"{path} is damaged: its checksum does not fit its content. Make it again, or copy it again.")
    return file["content"]
