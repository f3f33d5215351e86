"""Files of weights: written atomically, and read without executing code in them.

Every file is a dict of tensors and plain dicts, lists, strings and numbers, which `torch.load(weights_only=True)`
reads. It contains its kind ("bilm", "classifier", "training"), the version of the format, and a SHA-256 of its content:
a file that is truncated, changed or from another program is refused with a message of one line.
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
from bilm.runtime.files import ADVICE, atomic_write, signature_of

# What earlier versions, which are read too, lack:
#   3   temperatures (1 is meant), LSTMs of another width (`hidden`), hybrid classifiers
#   4   the present name of character n-grams in hybrid classifiers: `pieces`
#   5   clusters in hybrid classifiers
#   6   shape and words of a fine-tuned encoder (its weights are `tuned_encoder`): such a classifier needs the file of
#       its language model
FORMAT_VERSION, OLDEST_VERSION = 7, 3


def content_hash(content: Any) -> str:
    """Return the SHA-256 of nested dicts, lists, tensors and plain values; it is the same on every machine."""
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
    """Write `content` to `path`. Raises UserError when writing fails; `path` is then unchanged."""
    header = {"kind": kind, "format_version": FORMAT_VERSION, "sha256": content_hash(content)}
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        torch.save(header | {"content": content}, file)


def load(path: Path, kind: str) -> dict[str, Any]:
    """Return the content that `save` wrote, with tensors on the CPU. Raises UserError for any other file.

    The error of a checkpoint ("training"), from which a run cannot be resumed, has the parameter "restart".
    """
    try:
        return _load(path, kind)
    except UserError as error:
        raise UserError(str(error), *(["restart"] if kind == "training" else [])) from error


def _load(path: Path, kind: str) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path} does not exist.")
    if path.is_dir():
        name = "classifier.pt" if kind == "classifier" else "bilstm.pt"
        raise UserError(f"{path} is a folder. Name a file in it, such as {path / name}.")
    try:
        file = _unpack(path)
        is_unchanged = isinstance(file, dict) and content_hash(file.get("content")) == file.get("sha256")
    except (PermissionError, IsADirectoryError) as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except pickle.UnpicklingError as error:
        if description := _other_type(path):
            raise UserError(f"{path} is {description}; a file of weights is needed here.") from error
        raise UserError(
            f"{path} is refused: it is not a file of this project, or it contains objects that could execute code "
            "(only tensors and plain values are read)."
        ) from error
    except Exception as error:  # damaged bytes can make an unpickler raise any exception
        raise UserError(f"{path} cannot be read: it is cut off or damaged. {ADVICE}") from error
    if not (isinstance(file, dict) and isinstance(file.get("kind"), str) and isinstance(file.get("content"), dict)):
        raise UserError(f"{path} was not written by this project.")
    if file["kind"] != kind:
        raise UserError(f"{path} is a {file['kind']!r:.40} file; a {kind!r} file is needed here.")
    version = file.get("format_version")
    if not isinstance(version, int) or not OLDEST_VERSION <= version <= FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version if isinstance(version, int) else 'unknown'}; this program reads "
            f"versions {OLDEST_VERSION} to {FORMAT_VERSION}. {ADVICE}"
        )
    if not is_unchanged:
        raise UserError(f"{path} is damaged: its checksum does not match its content. {ADVICE}")
    return dict(file["content"])


def _other_type(path: Path) -> str | None:
    """What a file is that is often taken for weights; None if it may be anything."""
    with open(path, "rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself (git lfs pull fetches it)"
    if head.startswith(b"PK"):
        return None  # as weights are
    return signature_of(head) if head else "empty"


# All names in the pickles of `save`. torch's list for weights_only has more, among them some that allocate any memory.
_ALLOWED_NAMES = re.compile(r"torch \w+Storage|torch\._utils _rebuild_tensor_v2|collections OrderedDict")
# Tied weights share a tensor of the file, so that its content may exceed its size; beyond this factor it is an attack.
_MAX_EXPANSION = 8


def _unpack(path: Path) -> Any:
    """Return the content of a file of torch.save. Raises UnpicklingError for unsafe files, any exception for damage."""
    size = path.stat().st_size
    with open(path, "rb") as opened:
        if opened.read(2) != b"PK":
            raise pickle.UnpicklingError("not an archive")
    with zipfile.ZipFile(path) as archive:
        # torch stores its records uncompressed: an archive that is larger once unpacked is an attack.
        if sum(member.file_size for member in archive.infolist()) > size:
            raise pickle.UnpicklingError("packed")
        if not any(name.endswith("data.pkl") for name in archive.namelist()):
            raise pickle.UnpicklingError("not of torch")
        for member in archive.namelist():
            if member.endswith(".pkl"):
                _require_plain_names(archive.read(member))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's warnings about files that are refused anyway
        content = torch.load(path, map_location="cpu", weights_only=True)
    _require_bounded(content, _MAX_EXPANSION * size)
    return content


def _require_plain_names(program: bytes) -> None:
    """Refuse a pickle that refers to anything but the classes of tensors and dicts."""
    for operation, argument, _ in pickletools.genops(program):
        is_allowed = operation.name == "GLOBAL" and _ALLOWED_NAMES.fullmatch(str(argument))
        if not is_allowed and operation.name.startswith(("GLOBAL", "STACK_GLOBAL", "INST", "EXT")):
            raise pickle.UnpicklingError(f"{operation.name} {argument}")


def _require_bounded(content: Any, limit: int) -> None:
    """Refuse content of more than `limit` bytes in memory: views that repeat a value, lists that repeat a list."""
    remaining, cost = [content], 0
    while remaining:
        value = remaining.pop()
        cost += 1
        if isinstance(value, Tensor):
            cost += value.numel() * value.element_size()
        elif isinstance(value, str | bytes):
            cost += len(value)
        elif isinstance(value, Mapping):
            remaining += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            remaining += value
        if cost > limit:
            raise pickle.UnpicklingError("unbounded")
