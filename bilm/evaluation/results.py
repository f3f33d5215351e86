"""The results on one set of test rows: summary.json and predictions.json in a results folder.

Before other test rows are evaluated, both files are copied to test-HASH/ beside them, and an evaluation of the first
rows continues from that copy: results on rows that take turns (two files of --test, say) do not replace each other.
"""

import sys
from pathlib import Path
from typing import Any

from bilm.evaluation.predictions import Predictions, read_predictions, write_predictions
from bilm.evaluation.summary import read_summary
from bilm.runtime.files import write_json, write_text
from bilm.runtime.paths import display_path

SUMMARY, PREDICTIONS = "summary.json", "predictions.json"


def read_results(folder: Path, hashes: dict[str, str]) -> tuple[dict[str, Any], Predictions]:
    """The summary of the latest evaluation on these test rows, {} if there is none, and their predictions.

    hashes: Source.identity by split; without test rows, the results of those that were evaluated last. Raises UserError
    if a file is malformed.
    """
    test_rows, places = hashes.get("test"), [folder]
    if test_rows:
        places.append(_kept(folder, test_rows))
    for place in places:
        summary = read_summary(place / SUMMARY)
        if summary and _is_of(summary, test_rows):
            return summary, read_predictions(place / PREDICTIONS, hashes)
    return {}, Predictions(hashes)


def write_results(folder: Path, summary: dict[str, Any], predictions: Predictions) -> None:
    """Write both files; those in their place are kept if they are of other test rows. Raises UserError on failure.

    summary: with the hash of the test rows, `test_csv`.
    """
    previous = read_summary(folder / SUMMARY)
    if not _is_of(previous, summary["test_csv"]):
        kept = _kept(folder, previous["test_csv"])
        for name in (SUMMARY, PREDICTIONS):
            if (folder / name).exists():
                write_text(kept / name, (folder / name).read_text(encoding="utf-8"))
        print(
            f"Note: earlier results, of baselines too, are of other test rows; they are now in {display_path(kept)}.",
            file=sys.stderr,
        )
        (folder / PREDICTIONS).unlink(missing_ok=True)
    if predictions.labels is not None:
        write_predictions(folder / PREDICTIONS, predictions)
    write_json(folder / SUMMARY, summary)


def _is_of(summary: dict[str, Any], test_rows: str | None) -> bool:
    """Whether a summary is of these test rows; also if either is not known."""
    return test_rows is None or summary.get("test_csv") in (None, test_rows)


def _kept(folder: Path, test_rows: str) -> Path:
    return folder / f"test-{test_rows[:8]}"
