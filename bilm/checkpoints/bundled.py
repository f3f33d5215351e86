"""The weights in this repository, which are copied to another folder before a user's own run replaces them.

    models/shipped.json         {"files": {NAME: SHA-256 of the file}}
    models/shipped/1a2b3c4d/    the copies: a folder for each version of shipped.json

A folder without a shipped.json, such as that of any other output, has no bundled files.
"""

import shutil
from pathlib import Path

from bilm.runtime.errors import UserError
from bilm.runtime.files import atomic_write, file_hash, read_json, reject_malformed
from bilm.runtime.paths import display_path, repository_folder
from bilm.runtime.process import quoted

MANIFEST = "shipped.json"
COPIES_FOLDER = "shipped"


def bundled_bilm() -> Path:
    """Return the path of this repository's models/bilstm.pt. Raises UserError when it does not exist."""
    folder = repository_folder()
    file = folder / "models" / "bilstm.pt" if folder else None
    if file is not None and file.is_file():
        return file
    reason = f"there is no {file}" if file else "the package was not installed from a folder"
    raise UserError(
        f"the language model of this repository is missing: {reason}. Name a file, as in ELMo.load('bilstm.pt'), or "
        "install a clone of the repository in place: python -m pip install -e FOLDER"
    )


def bundled_files(models: Path) -> list[Path]:
    """Return the unchanged bundled files in `models`. Raises UserError when shipped.json cannot be read."""
    paths = {models / name: sha256 for name, sha256 in _bundled_hashes(models).items()}
    return [path for path, sha256 in paths.items() if _has_hash(path, sha256)]


def keep_bundled(models: Path) -> str | None:
    """Copy the bundled files in `models` before any of them is replaced; return a sentence that names their folder.

    Returns None when `models` has none. Raises UserError when shipped.json cannot be read, or when writing fails;
    no file is lost then.
    """
    files = bundled_files(models)
    if not files:
        return None
    folder = _copies_folder(models)
    for path in files:
        copy = folder / path.name
        if not _has_hash(copy, file_hash(path)):
            with atomic_write(copy) as temporary:
                shutil.copyfile(path, temporary)
    command = f"cp {quoted(display_path(folder))}/*.pt {quoted(display_path(models))}"
    return f"The weights that came with this repository are now in {display_path(folder)} (to restore them: {command})."


def find_bundled_bilm(models: Path) -> Path | None:
    """Return the bundled bilstm.pt, in `models` or among the copies made by `keep_bundled`; None if it was removed.

    Raises UserError when shipped.json cannot be read.
    """
    sha256 = _bundled_hashes(models).get("bilstm.pt")
    if sha256 is None:
        return None
    candidates = (models / "bilstm.pt", _copies_folder(models) / "bilstm.pt")
    return next((path for path in candidates if _has_hash(path, sha256)), None)


def remove_bundled_classifiers(models: Path) -> None:
    """Remove the bundled classifiers, which do not fit a new language model. Call `keep_bundled` first."""
    for path in bundled_files(models):
        if path.name.startswith("classifier"):
            path.unlink()


def _bundled_hashes(models: Path) -> dict[str, str]:
    """Return the SHA-256 of each bundled file, by name."""
    manifest = models / MANIFEST
    if not manifest.exists():
        return {}
    with reject_malformed(manifest):
        return dict(read_json(manifest)["files"])


def _has_hash(path: Path, sha256: str) -> bool:
    return path.exists() and file_hash(path) == sha256


def _copies_folder(models: Path) -> Path:
    return models / COPIES_FOLDER / file_hash(models / MANIFEST)[:8]
