"""The weights that come with the repository: what a user's own run would replace is kept beside them first.

    models/shipped.json         {"files": {NAME: SHA-256 of the file}}
    models/shipped/1a2b3c4d/    where they are kept once a run writes its own: a folder for each list that ever came

A folder without a shipped.json, such as that of any other output, has nothing to keep.
"""

import shutil
from pathlib import Path

from bilm.runtime.errors import UserError
from bilm.runtime.files import atomic_write, file_hash, read_json, reject_malformed
from bilm.runtime.paths import display_path, repository_folder


def bundled_bilm() -> Path:
    """models/bilstm.pt of this repository. Raises UserError, with where it was looked for, when it does not exist."""
    folder = repository_folder()
    file = folder / "models" / "bilstm.pt" if folder else None
    if file is not None and file.is_file():
        return file
    missing = f"there is no {file}" if file else "the package was not installed from a folder"
    raise UserError(
        f"the language model of this repository is missing: {missing}. Name a file, as in ELMo.load('bilstm.pt'), or "
        "install a clone of the repository in place: python -m pip install -e FOLDER"
    )


MANIFEST = "shipped.json"
KEPT_FOLDER = "shipped"


def bundled_files(models: Path) -> list[Path]:
    """Those of `models` that are as they came. Raises UserError when the list of them cannot be read."""
    if not (models / MANIFEST).exists():
        return []
    with reject_malformed(models / MANIFEST):
        hashes = dict(read_json(models / MANIFEST)["files"])
    there = [(models / name, wanted) for name, wanted in hashes.items() if (models / name).exists()]
    return [path for path, wanted in there if file_hash(path) == wanted]


def keep_bundled(models: Path) -> str | None:
    """Copy the shipped files to a folder in KEPT_IN, before any of them is replaced; a line that says where they are.

    None where there are none. Raises UserError as `shipped_files`, and when the disk refuses; then nothing is lost.
    """
    files = bundled_files(models)
    if not files:
        return None
    place = _kept_folder(models)
    for path in files:
        copy = place / path.name
        if not copy.exists() or file_hash(copy) != file_hash(path):
            with atomic_write(copy) as temporary:
                shutil.copyfile(path, temporary)
    back = f"cp {display_path(place)}/*.pt {display_path(models)}"
    return f"The weights that came with this repository are now in {display_path(place)} (back with: {back})."


def find_bundled_bilm(models: Path) -> Path | None:
    """The bilstm.pt that came with the repository: in `models`, or where `keep_shipped` put it; None if it is gone.

    Raises UserError as `shipped_files`.
    """
    manifest = models / MANIFEST
    if not manifest.exists():
        return None
    with reject_malformed(manifest):
        wanted = dict(read_json(manifest)["files"]).get("bilstm.pt")
    candidates = (models / "bilstm.pt", _kept_folder(models) / "bilstm.pt")
    return next((path for path in candidates if path.exists() and file_hash(path) == wanted), None)


def _kept_folder(models: Path) -> Path:
    return models / KEPT_FOLDER / file_hash(models / MANIFEST)[:8]


def remove_bundled_classifiers(models: Path) -> None:
    """Once another language model is in `models`: those that shipped do not stand on it. Call `keep_shipped` before."""
    for path in bundled_files(models):
        if path.name.startswith("classifier"):
            path.unlink()
