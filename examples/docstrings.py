"""Write an example corpus: first paragraphs of docstrings of installed libraries, labelled with the library.

    python examples/docstrings.py    -> data/docstrings/train.csv and test.csv, with the columns library and text

Up to 1,000 different paragraphs of each library to train on and 200 to test with. The library's own import name is
removed from its paragraphs; names of other libraries remain.
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
    """Yield the public modules that are loaded by importing the library and its direct submodules."""
    package = importlib.import_module(library)
    for part in pkgutil.iter_modules(package.__path__):
        if not part.name.startswith("_") and "test" not in part.name:
            with contextlib.suppress(Exception):
                importlib.import_module(f"{library}.{part.name}")
    for name in sorted(name for name in sys.modules if name == library or name.startswith(f"{library}.")):
        if not any(part.startswith("_") or "test" in part for part in name.split(".")):
            yield sys.modules[name]


def paragraphs(library: str) -> set[str]:
    """Return the first paragraphs, of at least six words, of what the library defines; its name becomes "..."."""
    result = set()
    for module in modules(library):
        members = [value for _, value in inspect.getmembers(module)]
        methods = [value for owner in members if inspect.isclass(owner) for _, value in inspect.getmembers(owner)]
        for value in members + methods:
            is_own = str(getattr(value, "__module__", None)).split(".")[0] == library
            if is_own and (inspect.isroutine(value) or inspect.isclass(value)) and (text := inspect.getdoc(value)):
                words = text.split("\n\n")[0].split()
                if len(words) > 5:
                    result.add(" ".join(words).replace(library, "..."))
    return result


def main() -> None:
    warnings.simplefilter("ignore")
    texts: dict[str, set[str]] = {}
    for library in LIBRARIES:
        print(f"reading {library} ...", flush=True)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            texts[library] = paragraphs(library)
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for library in LIBRARIES:
        unique = texts[library].difference(*(texts[other] for other in LIBRARIES if other != library))
        # Sorted by a hash: a random order that is the same on every machine.
        chosen = sorted(unique, key=lambda text: hashlib.sha256(text.encode()).digest())
        rows["test"] += [(library, text) for text in chosen[:TEST]]
        rows["train"] += [(library, text) for text in chosen[TEST : TEST + TRAINING]]
    FOLDER.mkdir(parents=True, exist_ok=True)
    for split, content in rows.items():
        with (FOLDER / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("library", "text"), *content])
        print(f"Wrote data/{FOLDER.name}/{split}.csv: {len(content):,} texts.")


if __name__ == "__main__":
    main()
