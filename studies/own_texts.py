"""Compare hybrid classifiers with TF-IDF on own texts, with all labels, with 25 of each class, and with these and texts
without labels: those of the other training rows.

    python -m studies.own_texts FOLDER ...      -> results/own_texts.json

Each folder has train.csv and test.csv with the column "text" and one other column, that of the classes;
examples/public_texts.py writes ten such folders. `bilm fit` does the work, with its defaults, on the language model of
this repository. Figures of other folders in the file stay if they are of the same commit.
"""

from __future__ import annotations

import csv
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilm.cli import fit
from bilm.cli.options import RunOptions
from bilm.config import HYBRID
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import ROOT, display_path
from bilm.runtime.process import run_script

if TYPE_CHECKING:
    import pandas as pd

FEW = 25
# By which labels a classifier learns from, what is added to the name of a data set.
LABELS = {"all": "", "few": "_{}_labels", "few and unlabelled": "_{}_labels_unlabelled"}


@dataclass(frozen=True)
class OwnTextsOptions:
    """The data sets, and how often."""

    folders: tuple[str, ...] = setting((), "folders with train.csv and test.csv", positional=True)
    seeds: int = setting(
        3, "draws of few labels; with all labels there is one run, in which little is random", at_least=1
    )
    result: str = setting("own_texts", "the name of the file in results/, without its ending")


@dataclass(frozen=True)
class Options:
    """All options of this study, by group."""

    own_texts: OwnTextsOptions = OwnTextsOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, arguments=arguments).own_texts
    if not options.folders:
        raise UserError("name one or more folders.")
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.cli.start import start
    from bilm.runtime.files import write_json
    from bilm.runtime.provenance import run_stamp

    folders = {Path(folder).resolve().name: Path(folder) for folder in options.folders}
    if len(folders) < len(options.folders):
        raise UserError("two of the folders have the same name, by which their results are kept.", "folders")
    for folder in folders.values():
        read_training_rows(folder)  # raises UserError now, not hours later
    stamp_options = RunOptions(device="cpu", precision="fp32")  # those of `bilm fit`
    stamp, path = run_stamp(stamp_options, start(stamp_options)), ROOT / "results" / f"{options.result}.json"
    results: dict[str, Any] = {"corpus": "own texts", **stamp, "data": same_commit(path, stamp)}
    for name, folder in folders.items():
        for labels in LABELS:
            runs = [fitted(folder, seed, labels) for seed in range(1 if labels == "all" else options.seeds)]
            figures = {**summarised(runs), "command": stamp["command"]}
            results["data"][name + LABELS[labels].format(FEW)] = figures
            write_json(path, results)  # now: the next data set may take an hour
    print(f"Wrote {display_path(path)}.")


def same_commit(path: Path, stamp: dict[str, Any]) -> dict[str, Any]:
    """The figures in an earlier file at the same commit: data sets can be measured one after the other."""
    from bilm.runtime.files import read_json

    earlier = read_json(path) if path.exists() else {}
    commit = str(earlier.get("commit"))
    is_known = commit != "unknown" and not commit.endswith("+")
    return dict(earlier["data"]) if is_known and commit == stamp["commit"] else {}


def fitted(folder: Path, seed: int, labels: str) -> dict[str, Any]:
    """The figures of `bilm fit` on all training rows, or on FEW of each class. labels: see LABELS."""
    rows, label = read_training_rows(folder)
    # On Windows the lock of the run, held by this process, is still open when the folder is removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        train, unlabelled = (Path(name) / f"{file}.csv" for file in (folder.resolve().name, "unlabelled"))
        chosen = rows if labels == "all" else few_of_each(rows, label, seed)
        chosen.to_csv(train, index=False)
        rows.drop(chosen.index)[["text"]].to_csv(unlabelled, index=False)
        command = [str(train), "--text-column", "text", "--label-column", label, "--test", str(folder / "test.csv")]
        more = ["--unlabelled", str(unlabelled)] if labels == "few and unlabelled" else []
        fit.main([*command, *more, "--output", name, "--seed", str(seed)])
        (figures,) = (Path(name) / "results").glob("*/fit.json")
        return dict(json.loads(figures.read_text(encoding="utf-8")))


def read_training_rows(folder: Path) -> tuple[pd.DataFrame, str]:
    """Read train.csv; return its rows and the name of the column of the classes.

    Raises UserError if it cannot be read, or if there is no test.csv.
    """
    import pandas as pd

    from bilm.runtime.files import require_file

    path = folder / "train.csv"
    require_file(path)
    require_file(folder / "test.csv")
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, quoting=csv.QUOTE_MINIMAL)
    except ValueError as error:  # ParserError and UnicodeDecodeError are such errors
        raise UserError(f"{path} cannot be read as a CSV file in UTF-8: {error}") from error
    if "text" not in rows.columns or len(rows.columns) != 2:
        raise UserError(f"{path} should have the column text and one other, of the classes.")
    return rows, next(name for name in rows.columns if name != "text")


def few_of_each(rows: pd.DataFrame, label: str, seed: int) -> pd.DataFrame:
    """FEW rows of each class, or all of a smaller class, in the order of the file."""
    shuffled = rows.sample(frac=1, random_state=seed)
    return shuffled.groupby(label).head(FEW).sort_index()


def summarised(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means and standard deviations over the runs on test rows, by model, and the comparisons of the first run."""
    result: dict[str, Any] = {
        "rows_trained": runs[0]["rows_trained"],
        **({"rows_unlabelled": runs[0]["rows_unlabelled"]} if "rows_unlabelled" in runs[0] else {}),
        "seeds": len(runs),
        "seconds": [run["seconds"] for run in runs],
    }
    for model in (HYBRID, fit.BASELINE):
        result[model] = {}
        for name, key in (("accuracy", "accuracy"), ("f1_macro", "f1")):
            values = [run["test"][model][key] for run in runs]
            result[model][name] = statistics.mean(values)
            result[model][f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
        result[model]["validation_accuracy"] = statistics.mean(run["validation"][model]["accuracy"] for run in runs)
    return result | {"paired": runs[0]["test"]["paired"], "paired_validation": runs[0]["validation"]["paired"]}


if __name__ == "__main__":
    run_script(main)
