"""Texts that everybody has who has installed this: first paragraphs of docstrings, and which library they are from.

    python examples/docstrings.py    -> data/docstrings/train.csv and test.csv, with the columns library and text

Up to 1,000 paragraphs of each library to train on and 200 to test with, none of them twice; the names of the libraries
are taken out as they are imported, others such as NumPy stay.
"""

import contextlib
import csv
import hashlib
import importlib
import inspect
import io
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

LIBRARIES = ("matplotlib", "numpy", "scipy", "sklearn", "torch")
TRAINING, TEST = 1000, 200
FOLDER = Path(__file__).resolve().parent.parent / "data" / "docstrings"


def modules(library: str) -> Iterator[ModuleType]:
    """The public ones that importing the library, and its parts one level below, has loaded."""
    package = importlib.import_module(library)
    for part in pkgutil.iter_modules(package.__path__):
        if not part.name.startswith("_") and "test" not in part.name:
            with contextlib.suppress(Exception):
                importlib.import_module(f"{library}.{part.name}")
    loaded = sorted(name for name in sys.modules if name == library or name.startswith(f"{library}."))
    for name in loaded:
        if not any(part.startswith("_") or "test" in part for part in name.split(".")):
            yield sys.modules[name]


def paragraphs(library: str) -> list[str]:
    """First paragraphs, of at least six words, of what the library itself defines; without the library's name."""
    found = set()
    for module in modules(library):
        members = [value for _, value in inspect.getmembers(module)]
        methods = [value for owner in members if inspect.isclass(owner) for _, value in inspect.getmembers(owner)]
        for value in members + methods:
            own = str(getattr(value, "__module__", None)).split(".")[0] == library
            if own and (inspect.isroutine(value) or inspect.isclass(value)) and (text := inspect.getdoc(value)):
                paragraph = " ".join(text.split("\n\n")[0].split())
                if len(paragraph.split()) > 5:
                    found.add(paragraph.replace(library, "..."))
    return sorted(found)


def main() -> None:
    warnings.simplefilter("ignore")
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    everywhere: dict[str, set[str]] = {}
    for library in LIBRARIES:
        print(f"reading {library} ...", flush=True)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            everywhere[library] = set(paragraphs(library))
    for library, texts in everywhere.items():
        others = set().union(*(other for name, other in everywhere.items() if name != library))
        # In an order by chance, which is the same everywhere.
        own = sorted(texts - others, key=lambda text: hashlib.sha256(text.encode()).digest())
        rows["test"] += [(library, text) for text in own[:TEST]]
        rows["train"] += [(library, text) for text in own[TEST : TEST + TRAINING]]
    FOLDER.mkdir(parents=True, exist_ok=True)
    for split, found in rows.items():
        with (FOLDER / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("library", "text"), *found])
        print(f"Wrote {FOLDER.name}/{split}.csv: {len(found):,} texts.")


if __name__ == "__main__":
    main()
