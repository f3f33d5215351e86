"""Folders of this repository, and of a run's models, results and temporary files.

The weights and the sample of this repository are not part of the installed package. They are in

    the folder of the package                      for a run in the checkout, or after `pip install -e .`
    the folder that it was installed from          after `pip install .`, which records it (PEP 610)
"""

import contextlib
import functools
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bilm.runtime.errors import UserError

DISTRIBUTION = "elmo-ag-news"
# Temporary files that a killed command may leave, by purpose: the field of Folders, and a pattern.
_TEMPORARY_FILES = {
    "training": (("models", ".*.tmp"), ("runs", ".*.pt.tmp"), ("results", ".*_training.json.tmp")),
    "evaluation": (
        ("results", ".summary.json.tmp"),
        ("results", ".predictions.json.tmp"),
        ("results", ".mistakes.json.tmp"),
        ("results", "figures/.*.tmp"),
        ("runs", ".*.json.tmp"),
    ),
}


def checkout() -> Path | None:
    """Return the checkout that contains the package; None for a package in site-packages."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "ELMO.py").is_file() else None


def install_source() -> Path | None:
    """Return the folder that pip installed the package from, which may have been removed; None for other sources."""
    # Imported here: these imports take longer than the rest of `--help`, and a run in the checkout needs none of them.
    import importlib.metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        recorded = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        source = json.loads(recorded or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    url = urlsplit(source.get("url", ""))
    return Path(url2pathname(url.path)) if "dir_info" in source and url.scheme == "file" else None


def working_folder() -> Path:
    """Return the folder for models/, results/, runs/ and data/: the checkout, or for an installed package the current
    folder; never site-packages."""
    return checkout() or Path.cwd()


def repository_folder() -> Path | None:
    """Return the folder of this repository, which may have been removed since the installation; None if unknown."""
    return checkout() or install_source()


ROOT = working_folder()


@dataclass(frozen=True)
class Folders:
    """models: weights; results: small JSON files and figures; runs: files from which unfinished runs are resumed."""

    models: Path
    results: Path
    runs: Path

    def encoded(self, purpose: str) -> Path:
        """Return the folder for the ids of the texts; those of a training run are kept as long as its checkpoint."""
        return self.runs / f"{purpose}-texts"

    def prepare(self) -> None:
        """Create the folders. Raises UserError when they cannot be written to, before hours of training are wasted."""
        for folder in (self.models, self.results, self.runs):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"{folder} cannot be created: {error.strerror}.", "output") from error
            if not os.access(folder, os.W_OK):
                raise UserError(f"{folder} cannot be written to.", "output")

    def lock(self, purpose: str) -> None:
        """Lock these folders for a `purpose` ("training", "evaluation") until this command ends.

        Removes incomplete files of a killed process. Raises UserError when another process holds the lock.
        """
        from bilm.runtime.locks import acquire_lock
        from bilm.runtime.process import at_end

        refusal = (
            f"is running the {purpose} in {display_path(self.models)}. Wait until it has finished, or give this run "
            "another folder."
        )
        output = self.runs.parent.parent
        removed_when_empty = [self.runs, self.runs.parent] + ([] if output.exists() else [output])
        try:
            release = acquire_lock(self.runs / f"{purpose}.lock", refusal, "output")
        except OSError as error:
            raise UserError(f"{self.runs} cannot be written to: {error.strerror}.", "output") from error
        at_end(functools.partial(self._unlock, purpose, release, removed_when_empty))
        for folder, pattern in _TEMPORARY_FILES[purpose]:
            for path in getattr(self, folder).glob(pattern):
                path.unlink(missing_ok=True)
        self._remove_encoded(purpose)

    def _remove_encoded(self, purpose: str) -> None:
        """Remove encoded texts that no later run can use."""
        unused = [*self.runs.glob(f".{purpose}-texts-*.tmp")]
        if purpose == "training":
            unused += self.runs.glob("benchmark-*")
        if purpose == "evaluation" or not any(self.runs.glob("*.pt")):
            unused.append(self.encoded(purpose))
        for folder in unused:
            shutil.rmtree(folder, ignore_errors=True)

    def _unlock(self, purpose: str, release: Callable[[], None], removed_when_empty: list[Path]) -> None:
        self._remove_encoded(purpose)
        release()
        with contextlib.suppress(OSError):
            for folder in removed_when_empty:
                folder.rmdir()


def folders(output: str | None, corpus: str, limit: int | None) -> Folders:
    """Return the folders of a run: models/ and results/ for all of AG News, a subfolder of each for any other run."""
    root = Path(output) if output else ROOT
    if corpus in ("full", "figures", "shipped") or corpus.startswith(".") or re.search(r"^limit-|-limit-\d+$", corpus):
        corpus = f"data-{corpus}"  # these names have another use
    parts = [] if corpus == "ag_news" else [corpus]
    if limit is not None:
        parts.append(f"limit-{limit}")
    name = "-".join(parts)
    return Folders(root / "models" / name, root / "results" / name, root / "runs" / (name or "full"))


def results_beside(weights: Path) -> Path:
    """Return the folder with the results of these weights: results/X for models/X; else the folder of the weights."""
    folder = weights.resolve().parent
    for root in folder.parents:
        if (root / "models") in (folder, *folder.parents):
            return root / "results" / folder.relative_to(root / "models")
    return folder


def display_path(path: Path) -> str:
    """Return `path` relative to the current folder where it is below it."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)
