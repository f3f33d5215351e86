"""results/summary.json: one file with every figure, brought up to date by each evaluation.

    {"corpus", "rows_trained", "hardware", "bilm": hash of the language model, "test_csv": hash of the file, ...,
     "language_model": {SPLIT: {"forward": {...}, "backward": {...}}, "training": {...}, "evaluated": {SPLIT: {...}}},
     "classifiers": {MODE: {SPLIT: {...}, "lambdas": [3], "gamma": float, "seeds": {SEED: test accuracy},
                            "robustness": {...}, ...}},
     "ensemble": {SPLIT: {...}, "members": {MODE: hash}},
     "baselines": {NAME: {...}},
     "near_duplicates": {"rows", "labels_differ", "accuracy": {NAME: {"near_duplicates", "rest"}}},
     "paired": {MODE or "ensemble": {NAME of a baseline: mcnemar on the test rows}},
     "paired_classifiers": {MODE or "ensemble": {another: mcnemar on the test rows}}}

The last three are made anew of results/predictions.json at each writing: see `settle`.

Figures of different models never stand side by side unmarked: a new language model empties the file but for the
baselines, which need none, and a newly trained classifier empties its own entry but for the seeds that were trained
with the same settings.
"""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from bilm.checkpoints.pretrained import Pretrained, TrainedClassifier
from bilm.config import ENSEMBLE
from bilm.evaluation.predictions import Predictions
from bilm.metrics import mcnemar
from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json

# What a training run says of itself that a reader of its figures needs.
_PARTS = ("language_model", "classifiers", "ensemble", "baselines")
_PROVENANCE = (
    "seed",
    "command",
    "commit",
    "hardware",
    "precision",
    "torch",
    "date",
    "rows_trained",
    "seconds",
    "peak_memory_mb",
    "processes",
)


def read_summary(path: Path) -> dict[str, Any]:
    """{} when there is none yet; UserError when it is not what an evaluation wrote."""
    if not path.exists():
        return {}
    found = read_json(path)
    parts = [found.get(name) for name in _PARTS] if isinstance(found, dict) else [None]
    if not all(isinstance(part, dict) for part in parts) or not all(
        isinstance(entry, dict) and "hash" in entry
        for part in ("classifiers", "baselines")
        for entry in found[part].values()
    ):
        raise UserError(f"{path} is not a summary of this program's. Remove it; evaluate.py writes it anew.")
    return found


def empty(stamp: dict[str, Any]) -> dict[str, Any]:
    """The summary of no language model yet."""
    return {**stamp, "rows_trained": None, "bilm": None, "test_csv": None, **{part: {} for part in _PARTS}}


def begin(
    previous: dict[str, Any], pretrained: Pretrained, test_csv: str | None, stamp: dict[str, Any]
) -> dict[str, Any]:
    """The summary to fill: what `previous` holds that still stands, under a new stamp.

    test_csv: Source.identity of the test rows, None where none are at hand. Figures of others, or of another
    language model, do not stand; those on training rows are always of those that the language model was pretrained on.
    """
    if test_csv is None:
        test_csv = previous.get("test_csv")
    same = previous.get("bilm") == pretrained.hash and previous.get("test_csv") == test_csv
    return {
        **stamp,
        "rows_trained": pretrained.info["rows_trained"],
        "bilm": pretrained.hash,
        "test_csv": test_csv,
        "language_model": previous["language_model"] if same else {},
        "classifiers": previous["classifiers"] if same else {},
        "ensemble": previous["ensemble"] if same else {},
        "baselines": previous.get("baselines", {}),
    }


def _provenance(info: dict[str, Any]) -> dict[str, Any]:
    return {key: info[key] for key in _PROVENANCE if key in info}


def _evaluated(summary: dict[str, Any]) -> dict[str, Any]:
    """The stamp of the evaluation that is under way: figures of an earlier one keep theirs."""
    return {key: summary[key] for key in ("command", "commit", "hardware", "precision", "date")}


def add_language_model(summary: dict[str, Any], pretrained: Pretrained, split: str, figures: dict[str, Any]) -> None:
    entry = summary["language_model"]
    entry[split] = figures
    entry.setdefault("evaluated", {})[split] = _evaluated(summary)
    entry["validation_perplexity"] = pretrained.info["validation_perplexity"]
    entry["training"] = _provenance(pretrained.info)


def add_ensemble(summary: dict[str, Any], members: dict[str, str], split: str, figures: dict[str, Any]) -> None:
    """Of the mean of the probabilities of `members`, which name classifiers' weights by hash."""
    if summary["ensemble"].get("members") != members:
        summary["ensemble"] = {"members": members}
    summary["ensemble"][split] = figures
    summary["ensemble"].setdefault("evaluated", {})[split] = _evaluated(summary)


def name_of_ensemble(members: dict[str, str]) -> str:
    """What predictions of the mean of `members` are kept by."""
    return " ".join(members[mode] for mode in sorted(members))


def refresh_comparisons(summary: dict[str, Any], predictions: Predictions) -> None:
    """Make all that depends on several models fit those in the summary; call it once they are all there.

    An ensemble of other classifiers goes, and so do baselines and predictions of another corpus or other weights.
    What is left is compared: every classifier with every baseline row by row, and each on near-duplicates and the rest.
    """
    hashes = {mode: entry["hash"] for mode, entry in summary["classifiers"].items()}
    members = summary["ensemble"].get("members", {})
    if any(hashes.get(mode) != name for mode, name in members.items()):
        summary["ensemble"], members = {}, {}
    ours = hashes | ({ENSEMBLE: name_of_ensemble(members)} if members else {})
    baselines = {name: entry["hash"] for name, entry in summary["baselines"].items()}
    wanted = ours | baselines
    predictions.models = {name: (of, c) for name, (of, c) in predictions.models.items() if wanted.get(name) == of}
    known = {name: classes for name, (_, classes) in predictions.models.items()}
    summary["baselines"] = {name: entry for name, entry in summary["baselines"].items() if name in known}
    labels, others = predictions.labels, summary["baselines"]
    summary["paired"], summary["paired_classifiers"], summary["near_duplicates"] = {}, {}, {}
    if labels is None:
        return
    if others:
        summary["paired"] = {
            name: {other: mcnemar(labels, known[name], known[other]) for other in others}
            for name in ours
            if name in known
        }
    there = [name for name in ours if name in known]
    for i, name in enumerate(there):
        if others_of_ours := {o: mcnemar(labels, known[name], known[o]) for o in there[:i]}:
            summary["paired_classifiers"][name] = others_of_ours
    if predictions.near_duplicates:
        rows, differ = predictions.near_duplicates
        summary["near_duplicates"] = near_duplicate_figures(labels, known, rows) | {"labels_differ": differ}


def with_strongest(summary: dict[str, Any]) -> dict[str, Any]:
    """Of `paired`, the comparison with the baseline that is best on validation."""
    strongest = max(summary["baselines"], key=lambda name: summary["baselines"][name]["validation_accuracy"])
    return {name: {strongest: against[strongest]} for name, against in summary["paired"].items()}


def near_duplicate_figures(labels: np.ndarray, classes: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, Any]:
    """How many of the `rows` there are, and each model's accuracy on them and on the rest (None where there is no row).

    labels: int (N,); classes: by model, its class of each row, int (N,).
    """
    near = np.isin(np.arange(len(labels)), rows)
    parts = {"near_duplicates": near, "rest": ~near}
    return {
        "rows": len(rows),
        "accuracy": {
            name: {part: float((c == labels)[there].mean()) if there.any() else None for part, there in parts.items()}
            for name, c in classes.items()
        },
    }


def add_robustness(summary: dict[str, Any], mode: str, figures: dict[str, Any]) -> None:
    """To the entry that add_classifier or add_ensemble made of the test rows."""
    entry = summary["ensemble"] if mode == ENSEMBLE else summary["classifiers"][mode]
    entry["robustness"] = figures
    entry["evaluated"]["robustness"] = {**_evaluated(summary), "seed": summary["seed"]}


def add_classifier(
    summary: dict[str, Any], mode: str, trained: TrainedClassifier, split: str, figures: dict[str, Any]
) -> None:
    info = trained.info
    settings = {key: value for key, value in info["settings"].items() if key not in ("seed", "threads")}
    entry = summary["classifiers"].get(mode, {})
    if entry.get("hash") != trained.hash:
        seeds = entry.get("seeds", {}) if entry.get("settings") == settings else {}
        entry = summary["classifiers"][mode] = {"hash": trained.hash, "settings": settings, "seeds": seeds}
    combination = info["combination"]["after"]
    entry["lambdas"], entry["gamma"] = combination.get("lambdas"), combination.get("gamma")
    entry["combination"] = info["combination"]
    entry["validation_accuracy"] = info["validation_accuracy"]
    entry["training"] = _provenance(info)
    entry[split] = figures
    entry.setdefault("evaluated", {})[split] = _evaluated(summary)
    if split == "test":
        entry["seeds"][str(info["seed"])] = figures["accuracy"]
        accuracies = list(entry["seeds"].values())
        entry["accuracy_mean"] = statistics.mean(accuracies)
        entry["accuracy_std"] = statistics.stdev(accuracies) if len(accuracies) > 1 else None
