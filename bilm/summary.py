"""results/summary.json: one file with every figure, brought up to date by each evaluation.

    {"corpus", "rows_trained", "hardware", "bilm": hash of the language model, ...,
     "language_model": {SPLIT: {"forward": {...}, "backward": {...}}, "training": {...}, "evaluated": {SPLIT: {...}}},
     "classifiers": {MODE: {SPLIT: {...}, "lambdas": [3], "gamma": float, "seeds": {SEED: test accuracy},
                            "robustness": {...}, ...}},
     "ensemble": {SPLIT: {...}, "members": {MODE: hash}},
     "baselines": {NAME: {...}},
     "near_duplicates": {"rows", "labels_differ", "accuracy": {NAME: {"near_duplicates", "rest"}}},
     "paired": {MODE or "ensemble": {NAME of a baseline: mcnemar on the test rows}}}

Figures of different models never stand side by side unmarked: a new language model empties the file but for the
baselines, which need none, and a newly trained classifier empties its own entry but for the seeds that were trained
with the same settings.
"""

import statistics
from pathlib import Path
from typing import Any

from bilm.errors import UserError
from bilm.folders import read_json
from bilm.paired import mcnemar
from bilm.predictions import Predictions
from bilm.pretrained import Pretrained, TrainedClassifier

# What a training run says of itself that a reader of its figures needs.
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
    parts = (
        [found.get(part) for part in ("language_model", "classifiers", "baselines")] if isinstance(found, dict) else []
    )
    if not parts or not all(isinstance(part, dict) and all(map(_is_entry, part.items())) for part in parts):
        raise UserError(f"{path} is not a summary of this program's. Remove it; evaluate.py writes it anew.")
    return found


def _is_entry(item: tuple[str, Any]) -> bool:
    """All are objects but one number."""
    return isinstance(item[1], dict) or item[0] == "validation_perplexity"


def empty(stamp: dict[str, Any]) -> dict[str, Any]:
    """The summary of no language model yet."""
    return {
        **stamp,
        "language_model": {},
        "classifiers": {},
        "ensemble": {},
        "baselines": {},
        "near_duplicates": {},
        "paired": {},
    }


def begin(previous: dict[str, Any], pretrained: Pretrained, stamp: dict[str, Any]) -> dict[str, Any]:
    """The summary to fill: what `previous` holds that still stands, under a new stamp."""
    same = previous.get("bilm") == pretrained.hash
    return {
        **stamp,
        "rows_trained": pretrained.info["rows_trained"],
        "bilm": pretrained.hash,
        "language_model": previous["language_model"] if same else {},
        "classifiers": previous["classifiers"] if same else {},
        "ensemble": previous.get("ensemble", {}) if same else {},
        "baselines": previous.get("baselines", {}),
        "near_duplicates": previous.get("near_duplicates", {}) if same else {},
        "paired": previous.get("paired", {}) if same else {},
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


def add_comparisons(summary: dict[str, Any], predictions: Predictions) -> None:
    """Every classifier with every baseline, row by row."""
    known = predictions.models
    baselines = [name for name in summary["baselines"] if name in known]
    summary["paired"] = {
        name: {other: mcnemar(predictions.labels, known[name], known[other]) for other in baselines}
        for name in known
        if name not in summary["baselines"] and baselines
    }


def add_robustness(summary: dict[str, Any], mode: str, figures: dict[str, Any]) -> None:
    """To the entry that add_classifier made of the test rows."""
    entry = summary["classifiers"][mode]
    entry["robustness"] = figures
    entry["evaluated"]["robustness"] = {**_evaluated(summary), "seed": summary["seed"]}


def add_classifier(
    summary: dict[str, Any], mode: str, trained: TrainedClassifier, split: str, figures: dict[str, Any]
) -> None:
    info = trained.info
    settings = {key: value for key, value in info["settings"].items() if key != "seed"}
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
