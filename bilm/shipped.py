"""The weights that come with the repository: what a user's own run would replace is kept beside them first.

    models/shipped.json      {"files": {NAME: SHA-256 of the file}}
    models/shipped/          where they are kept once a run writes its own

A folder without a shipped.json, such as any --output, has nothing to keep.
"""

import shutil
from pathlib import Path

from bilm.checkpoint import written_whole
from bilm.csv_rows import file_hash
from bilm.folders import read_json, shown

MANIFEST = "shipped.json"
KEPT_IN = "shipped"


def shipped_files(models: Path) -> list[Path]:
    """Those of `models` that are as they came. Raises UserError when the list of them cannot be read."""
    if not (models / MANIFEST).exists():
        return []
    hashes = read_json(models / MANIFEST)["files"]
    there = [(models / name, wanted) for name, wanted in hashes.items() if (models / name).exists()]
    return [path for path, wanted in there if file_hash(path) == wanted]


def keep_shipped(models: Path, remove_classifiers: bool) -> str | None:
    """Copy the shipped files to KEPT_IN, where they are not there yet; a line that says so, or None.

    remove_classifiers: those that shipped go from `models`, as the language model they stand on is to be replaced.
    """
    kept = []
    for path in shipped_files(models):
        copy = models / KEPT_IN / path.name
        if not copy.exists():
            with written_whole(copy) as temporary:
                shutil.copyfile(path, temporary)
            kept.append(copy)
        if remove_classifiers and path.name.startswith("classifier"):
            path.unlink()
    if not kept:
        return None
    place = shown(models / KEPT_IN)
    return (
        f"The weights that came with this repository are now in {place} (back with: cp {place}/*.pt {shown(models)})."
    )
