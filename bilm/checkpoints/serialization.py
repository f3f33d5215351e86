"""Files that travel: written whole or not at all, and read without running what is in them.

Every file is a dict of tensors and plain dict/list/str/number, so that `torch.load(weights_only=True)` reads it. It
says what kind it is ("bilm", "classifier", "training"), in which version of the format, and holds a SHA-256 over all
the rest: a file that was cut, changed or made by another program is refused with one line.
"""

import hashlib
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilm.runtime.errors import UserError
from bilm.runtime.files import ADVICE, atomic_write

FORMAT_VERSION = 3


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


def save(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write `content` to `path`. Raises UserError when the disk refuses; then `path` is as it was."""
    whole = {"kind": kind, "format_version": FORMAT_VERSION, "sha256": content_hash(content), "content": content}
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        torch.save(whole, file)


def load(path: Path, kind: str) -> dict[str, Any]:
    """The content that `save` wrote, its tensors on the CPU. Raises UserError when it is anything else.

    A damaged checkpoint ("training") cannot be resumed from; its error carries the parameter "restart".
    """
    try:
        return _load(path, kind)
    except UserError as error:
        raise UserError(str(error), *(["restart"] if kind == "training" else [])) from error


def _load(path: Path, kind: str) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path} is not there.")
    try:
        file, sound = _unpack(path)
    except (PermissionError, IsADirectoryError) as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it is not a file of this project, or it holds objects that could run code "
            "(only tensors and plain values are read)."
        ) from error
    except Exception as error:  # bytes that are not what they were can make an unpickler raise anything
        raise UserError(f"{path} cannot be read: it is cut off or damaged. {ADVICE}") from error
    if not (isinstance(file, dict) and isinstance(file.get("kind"), str) and isinstance(file.get("content"), dict)):
        raise UserError(f"{path} was not written by this project.")
    if file["kind"] != kind:
        raise UserError(f"{path} is a {file['kind']!r:.40} file; a {kind!r} file is needed here.")
    version = file.get("format_version")
    if not isinstance(version, int) or version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version if isinstance(version, int) else 'unknown'}; this program reads "
            f"version {FORMAT_VERSION}. {ADVICE}"
        )
    if not sound:
        raise UserError(f"{path} is damaged: its checksum does not fit its content. {ADVICE}")
    return file["content"]


# All that the pickles of `save` name; torch's own list for weights_only is longer, and has what takes any memory.
_NAMES = re.compile(r"torch \w+Storage|torch\._utils _rebuild_tensor_v2|collections OrderedDict")
# A tensor may stand in a file once and be part of several (tied weights); many times over, it is a trap.
_TIMES_ITS_SIZE = 8


def _unpack(path: Path) -> tuple[Any, bool]:
    """What is in the file, and whether its checksum fits; raises all manner of things when it is not a sound file."""
    size = path.stat().st_size
    with open(path, "rb") as opened:
        if opened.read(2) != b"PK":
            raise pickle.UnpicklingError("not an archive")
    with zipfile.ZipFile(path) as archive:
        # torch stores its records as they are: an archive that unpacks to more than itself is a trap.
        if sum(member.file_size for member in archive.infolist()) > size:
            raise pickle.UnpicklingError("packed")
        for member in archive.namelist():
            if member.endswith(".pkl"):
                _require_plain_names(archive.read(member))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own remarks on files that are refused anyway
        file = torch.load(path, map_location="cpu", weights_only=True)
    _require_bounded(file, _TIMES_ITS_SIZE * size)
    return file, isinstance(file, dict) and content_hash(file.get("content")) == file.get("sha256")


def _require_plain_names(program: bytes) -> None:
    for operation, argument, _ in pickletools.genops(program):
        if operation.name == "GLOBAL" and _NAMES.fullmatch(str(argument)):
            continue
        if operation.name in ("GLOBAL", "STACK_GLOBAL", "INST") or operation.name.startswith("EXT"):
            raise pickle.UnpicklingError(f"{operation.name} {argument}")


def _require_bounded(content: Any, limit: int) -> None:
    """Refuse what is little in the file and much in memory: views that repeat a value, lists that repeat a list."""
    waiting, cost = [content], 0
    while waiting:
        value = waiting.pop()
        cost += 1
        if isinstance(value, Tensor):
            cost += value.numel() * value.element_size()
        elif isinstance(value, str | bytes):
            cost += len(value)
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        if cost > limit:
            raise pickle.UnpicklingError("unbounded")
