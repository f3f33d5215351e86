"""results/summary.json: all metrics in one file, updated by each evaluation.

    {"corpus", "rows_trained", "hardware", "bilm": hash of the language model, "test_csv": hash of the file, ...,
     "language_model": {SPLIT: {"forward": {...}, "backward": {...}}, "training": {...}, "evaluated": {SPLIT: {...}}},
     "classifiers": {MODE: {SPLIT: {...}, "lambdas": [3], "gamma": float, "seeds": {SEED: test accuracy},
                            "robustness": {...}, ...}},
     "ensemble": {SPLIT: {...}, "members": {MODE: hash}},
     "others": {NAME of the file of --classifier: {SPLIT: {...}, "hash": of a classifier or of an ensemble's members}},
     "baselines": {NAME: {...}},
     "near_duplicates": {"rows", "labels_differ", "accuracy": {NAME: {"near_duplicates", "rest"}}},
     "paired": {MODE or "ensemble": {NAME of a baseline: mcnemar on the test rows}},
     "paired_classifiers": {MODE or "ensemble": {another: mcnemar on the test rows}}}

The last three are computed from results/predictions.json at each update, by `refresh_comparisons`.

Metrics of different language models are never in one file: a new one removes all entries but those of the baselines. A
newly trained classifier replaces its entry, but for the test accuracies of other seeds with the same settings.
"""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from bilm.checkpoints.model_format import Pretrained, TrainedClassifier
from bilm.config import ENSEMBLE
from bilm.evaluation.predictions import Predictions
from bilm.metrics import mcnemar
from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json

_PARTS = ("language_model", "classifiers", "ensemble", "baselines")
# The provenance of an evaluation; and that of a training run, in the order of the file.
_EVALUATION = ("command", "commit", "hardware", "precision", "date")
_TRAINING = (
    *("seed", "command", "commit", "hardware", "precision", "torch", "date"),
    *("rows_trained", "seconds", "peak_memory_mb", "processes"),
)


def read_summary(path: Path) -> dict[str, Any]:
    """Return the summary in `path`, {} when it does not exist. Raises UserError when the file is malformed."""
    if not path.exists():
        return {}
    summary = read_json(path)
    parts = [summary.get(name) for name in _PARTS] if isinstance(summary, dict) else [None]
    if not all(isinstance(part, dict) for part in parts) or not all(
        isinstance(entry, dict) and "hash" in entry
        for part in ("classifiers", "baselines")
        for entry in summary[part].values()
    ):
        raise UserError(f"{path} is not a summary by this program. Remove it; evaluate.py writes a new one.")
    return summary


def empty(stamp: dict[str, Any]) -> dict[str, Any]:
    """Return a summary without a language model; `stamp`: see run_stamp."""
    return {**stamp, "rows_trained": None, "bilm": None, "test_csv": None, **{part: {} for part in _PARTS}}


def begin(
    previous: dict[str, Any], pretrained: Pretrained, test_csv: str | None, stamp: dict[str, Any]
) -> dict[str, Any]:
    """Return the summary to be updated: a new stamp, and the metrics in `previous` that are still valid.

    test_csv: Source.identity of the test rows, None without test rows. Metrics of another language model, or on other
    test rows, are invalid; those on training rows are always on the rows that the language model was pretrained on.
    """
    if test_csv is None:
        test_csv = previous.get("test_csv")
    same = previous.get("bilm") == pretrained.hash and previous.get("test_csv") == test_csv
    return {
        **stamp,
        "rows_trained": pretrained.info["rows_trained"],
        "bilm": pretrained.hash,
        "test_csv": test_csv,
        **{part: previous[part] if same else {} for part in ("language_model", "classifiers", "ensemble")},
        # They have their own language models.
        "others": previous.get("others", {}) if previous.get("test_csv") == test_csv else {},
        "baselines": previous.get("baselines", {}),
    }


def _add_figures(summary: dict[str, Any], entry: dict[str, Any], split: str, figures: dict[str, Any]) -> None:
    """Add metrics to an entry, with the provenance of the present evaluation."""
    entry[split] = figures
    entry.setdefault("evaluated", {})[split] = {key: summary[key] for key in _EVALUATION}


def _training_provenance(info: dict[str, Any]) -> dict[str, Any]:
    return {key: info[key] for key in _TRAINING if key in info}


def add_language_model(summary: dict[str, Any], pretrained: Pretrained, split: str, figures: dict[str, Any]) -> None:
    """Add metrics of the language model, from evaluate_language_model."""
    entry = summary["language_model"]
    _add_figures(summary, entry, split, figures)
    entry |= {
        "validation_perplexity": pretrained.info["validation_perplexity"],
        "training": _training_provenance(pretrained.info),
    }


def add_ensemble(summary: dict[str, Any], members: dict[str, str], split: str, figures: dict[str, Any]) -> None:
    """Add metrics of the mean of the probabilities of `members`: the hash of each classifier, by mode."""
    if summary["ensemble"].get("members") != members:
        summary["ensemble"] = {"members": members}
    _add_figures(summary, summary["ensemble"], split, figures)


def add_other(summary: dict[str, Any], name: str, sha256: str, split: str, figures: dict[str, Any]) -> None:
    """Add metrics of the classifier or ensemble of --classifier. name: not that of a mode or of a baseline."""
    others = summary.setdefault("others", {})
    if others.get(name, {}).get("hash") != sha256:
        others[name] = {"hash": sha256}
    _add_figures(summary, others[name], split, figures)


def name_of_ensemble(members: dict[str, str]) -> str:
    """Return the identifier of an ensemble: the hashes of its members."""
    return " ".join(members[mode] for mode in sorted(members))


def refresh_comparisons(summary: dict[str, Any], predictions: Predictions) -> None:
    """Remove outdated entries from `summary` and `predictions`, and compute the comparisons between the others.

    Outdated are an ensemble of other classifiers, predictions by other weights, and baselines without predictions.
    Classifiers are compared with baselines and with each other row by row, and on near-duplicates and all other rows.
    """
    hashes = {mode: entry["hash"] for mode, entry in summary["classifiers"].items()}
    members = summary["ensemble"].get("members", {})
    if any(hashes.get(mode) != sha256 for mode, sha256 in members.items()):
        summary["ensemble"], members = {}, {}
    if members:
        hashes[ENSEMBLE] = name_of_ensemble(members)
    taken = {*hashes, *summary["baselines"]}  # by models that were trained after another one had this name
    summary["others"] = {name: x for name, x in summary.get("others", {}).items() if name not in taken}
    hashes |= {name: entry["hash"] for name, entry in summary["others"].items()}
    current = hashes | {name: entry["hash"] for name, entry in summary["baselines"].items()}
    models = predictions.models
    predictions.models = {name: model for name, model in models.items() if current.get(name) == model[0]}
    classes = {name: predicted for name, (_, predicted) in predictions.models.items()}
    summary["baselines"] = {name: entry for name, entry in summary["baselines"].items() if name in classes}
    summary["paired"], summary["paired_classifiers"], summary["near_duplicates"] = {}, {}, {}
    labels = predictions.labels
    if labels is None:
        return
    names = [name for name in hashes if name in classes]
    compared_with = {
        "paired": {name: list(summary["baselines"]) for name in names},
        "paired_classifiers": {name: names[:i] for i, name in enumerate(names)},
    }
    for key, others_by_name in compared_with.items():
        summary[key] = {
            name: {other: mcnemar(labels, classes[name], classes[other]) for other in others}
            for name, others in others_by_name.items()
            if others
        }
    if predictions.near_duplicates:
        rows, differ = predictions.near_duplicates
        summary["near_duplicates"] = near_duplicate_figures(labels, classes, rows) | {"labels_differ": differ}


def with_strongest(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the comparisons of `paired` with the baseline of the highest validation accuracy."""
    strongest = max(summary["baselines"], key=lambda name: summary["baselines"][name]["validation_accuracy"])
    return {name: {strongest: against[strongest]} for name, against in summary["paired"].items()}


def near_duplicate_figures(labels: np.ndarray, classes: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, Any]:
    """Return the number of `rows`, and each model's accuracy on them and on all other rows (None without rows).

    labels: int (N,); classes: each model's predicted classes, int (N,), by name.
    """
    near = np.isin(np.arange(len(labels)), rows)
    parts = {"near_duplicates": near, "rest": ~near}
    return {
        "rows": len(rows),
        "accuracy": {
            name: {part: float((c == labels)[mask].mean()) if mask.any() else None for part, mask in parts.items()}
            for name, c in classes.items()
        },
    }


def add_robustness(summary: dict[str, Any], mode: str, figures: dict[str, Any]) -> None:
    """Add `figures` to the entry of add_classifier or add_ensemble for the test rows."""
    entry = summary["ensemble"] if mode == ENSEMBLE else summary["classifiers"][mode]
    _add_figures(summary, entry, "robustness", figures)
    entry["evaluated"]["robustness"]["seed"] = summary["seed"]


def add_classifier(
    summary: dict[str, Any], mode: str, trained: TrainedClassifier, split: str, figures: dict[str, Any]
) -> None:
    """Add metrics of a classifier, from classification_figures, and on test rows the mean over seeds."""
    info = trained.info
    settings = {key: value for key, value in info["settings"].items() if key not in ("seed", "threads")}
    entry = summary["classifiers"].get(mode, {})
    if entry.get("hash") != trained.hash:
        seeds = entry.get("seeds", {}) if entry.get("settings") == settings else {}
        entry = summary["classifiers"][mode] = {"hash": trained.hash, "settings": settings, "seeds": seeds}
    combination = info["combination"]["after"]
    entry |= {
        "lambdas": combination.get("lambdas"),
        "gamma": combination.get("gamma"),
        "combination": info["combination"],
        "validation_accuracy": info["validation_accuracy"],
        "training": _training_provenance(info),
    }
    _add_figures(summary, entry, split, figures)
    if split == "test":
        entry["seeds"][str(info["seed"])] = figures["accuracy"]
        accuracies = list(entry["seeds"].values())
        entry["accuracy_mean"] = statistics.mean(accuracies)
        entry["accuracy_std"] = statistics.stdev(accuracies) if len(accuracies) > 1 else None
