"""The weights that come with the repository: what a user's own run would replace is kept beside them first.

    models/shipped.json         {"files": {NAME: SHA-256 of the file}}
    models/shipped/1a2b3c4d/    where they are kept once a run writes its own: a folder for each list that ever came

A folder without a shipped.json, such as any --output, has nothing to keep.
"""

import shutil
from pathlib import Path

from bilm.checkpoint import understood, written_whole
from bilm.csv_rows import file_hash
from bilm.folders import read_json, shown

MANIFEST = "shipped.json"
KEPT_IN = "shipped"


def shipped_files(models: Path) -> list[Path]:
    """Those of `models` that are as they came. Raises UserError when the list of them cannot be read."""
    if not (models / MANIFEST).exists():
        return []
    with understood(models / MANIFEST):
        hashes = dict(read_json(models / MANIFEST)["files"])
    there = [(models / name, wanted) for name, wanted in hashes.items() if (models / name).exists()]
    return [path for path, wanted in there if file_hash(path) == wanted]


def keep_shipped(models: Path, remove_classifiers: bool) -> str | None:
    """Copy the shipped files to a folder in KEPT_IN; a line that says so, or None when there is nothing to copy.

    remove_classifiers: those that shipped go from `models`, as the language model they stand on is to be replaced.
    Raises UserError as `shipped_files`, and when the disk refuses; then everything is where it was.
    """
    files = shipped_files(models)
    if not files:
        return None
    place, kept = models / KEPT_IN / file_hash(models / MANIFEST)[:8], []
    for path in files:
        if not (copy := place / path.name).exists():
            with written_whole(copy) as temporary:
                shutil.copyfile(path, temporary)
            kept.append(copy)
    for path in files:
        if remove_classifiers and path.name.startswith("classifier"):
            path.unlink()
    if not kept:
        return None
    back = f"cp {shown(place)}/*.pt {shown(models)}"
    return f"The weights that came with this repository are now in {shown(place)} (back with: {back})."
