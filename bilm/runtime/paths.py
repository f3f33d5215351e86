"""Folders: of this repository, and of a run's models, results and temporary files.

The weights and the sample of this repository are not part of the installed package:

    a run in the checkout, or `pip install -e .`   the folder that holds the package
    `pip install .`                                the folder that it was installed from, which pip records (PEP 610)
"""

import contextlib
import functools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bilm.runtime.errors import UserError

DISTRIBUTION = "elmo-ag-news"


def checkout() -> Path | None:
    """The checkout that the package lies in; None for a package in site-packages."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "ELMO.py").is_file() else None


def install_source() -> Path | None:
    """The folder that pip installed the package from, whether it still exists or not; None if it was no folder."""
    # Imported here: they take longer than the rest of a --help, and a run in the checkout needs neither.
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
    """Where models/, results/, runs/ and data/ are written: the checkout; for an installed package the current folder.

    Never site-packages.
    """
    return checkout() or Path.cwd()


def repository_folder() -> Path | None:
    """The folder of this repository; None where it is not known. It may have been removed since the installation."""
    return checkout() or install_source()


ROOT = working_folder()


@dataclass(frozen=True)
class Folders:
    """models: weights; results: small JSON and figures; runs: what an unfinished run needs to go on."""

    models: Path
    results: Path
    runs: Path

    def encoded(self, purpose: str) -> Path:
        """Where the ids of the texts lie. Those of a training run stay while there is a checkpoint to go on from."""
        return self.runs / f"{purpose}-texts"

    def prepare(self) -> None:
        """Make them. Raises UserError when that cannot be, before hours are spent on what could not be written."""
        for folder in (self.models, self.results, self.runs):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"{folder} cannot be created: {error.strerror}.", "output") from error
            if not os.access(folder, os.W_OK):
                raise UserError(f"{folder} cannot be written to.", "output")

    def lock(self, purpose: str) -> None:
        """Keep other processes with the same `purpose` ("training", "evaluation") away from here until this one ends.

        Raises UserError when one is at it. What a killed one left half-written goes.
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
            at_end(functools.partial(self._leave, purpose, release, removed_when_empty))
        except OSError as error:
            raise UserError(f"{self.runs} cannot be written to: {error.strerror}.", "output") from error
        written = {
            "training": (
                self.models.glob(".*.tmp"),
                self.runs.glob(".*.pt.tmp"),
                self.results.glob(".*_training.json.tmp"),
            ),
            "evaluation": (
                self.results.glob(".summary.json.tmp"),
                self.results.glob(".predictions.json.tmp"),
                self.results.glob(".mistakes.json.tmp"),
                self.runs.glob(".*.json.tmp"),
                self.results.glob("figures/.*.tmp"),
            ),
        }
        for leftover in (path for paths in written[purpose] for path in paths):
            leftover.unlink(missing_ok=True)
        self._sweep_encoded(purpose)

    def _sweep_encoded(self, purpose: str) -> None:
        """Remove ids that nobody will come back for."""
        left = [f".{purpose}-texts-*.tmp"] + (["benchmark-*"] if purpose == "training" else [])
        for leftover in (path for pattern in left for path in self.runs.glob(pattern)):
            shutil.rmtree(leftover, ignore_errors=True)
        if purpose == "evaluation" or not any(self.runs.glob("*.pt")):
            shutil.rmtree(self.encoded(purpose), ignore_errors=True)

    def _leave(self, purpose: str, release: Callable[[], None], removed_when_empty: list[Path]) -> None:
        self._sweep_encoded(purpose)
        release()
        with contextlib.suppress(OSError):
            for folder in removed_when_empty:
                folder.rmdir()


def folders(output: str | None, corpus: str, limit: int | None) -> Folders:
    """A full run on AG News writes to models/ and results/; every other kind writes to a folder of its own in them."""
    root = Path(output) if output else ROOT
    if corpus in ("full", "figures", "shipped") or corpus.startswith(("limit-", ".")):
        corpus = f"data-{corpus}"  # those names are taken
    parts = [] if corpus == "ag_news" else [corpus]
    if limit is not None:
        parts.append(f"limit-{limit}")
    beside = "-".join(parts)
    return Folders(root / "models" / beside, root / "results" / beside, root / "runs" / (beside or "full"))


def results_beside(weights: Path) -> Path:
    """Where the figures of the weights in this file are: results/X for models/X; the folder itself elsewhere."""
    folder = weights.resolve().parent
    for root in folder.parents:
        if (root / "models") in (folder, *folder.parents):
            return root / "results" / folder.relative_to(root / "models")
    return folder


def display_path(path: Path) -> str:
    """`path` as a user would type it from here."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)
