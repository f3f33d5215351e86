"""Errors of a classifier, against results computed by hand."""

import json

import numpy as np

from bilm.evaluation.error_analysis import MAX_CHARACTERS, shortened, typical_mistakes


def test_most_frequent_confusions_with_the_surest_and_the_middle_one():
    # True class, probabilities of a, b, c.
    rows = [
        ("a", 0.9, 0.1, 0.0),
        ("a", 0.1, 0.6, 0.3),
        ("a", 0.0, 0.9, 0.1),
        ("a", 0.2, 0.7, 0.1),
        ("b", 0.3, 0.3, 0.4),
        ("c", 0.0, 0.0, 1.0),
    ]
    labels = np.array(["abc".index(row[0]) for row in rows])
    probabilities = np.array([row[1:] for row in rows])
    result = typical_mistakes(labels, probabilities, [f"text {i}" for i in range(6)], ["a", "b", "c"])
    assert result["rows"] == 6 and result["mistakes"] == 4
    first, second = result["confusions"]
    assert (first["true"], first["predicted"], first["count"]) == ("a", "b", 3)
    assert [(t["row"], t["text"], t["probability"], t["of_true"]) for t in first["texts"]] == [
        (3, "text 2", 0.9, 0.0),
        (4, "text 3", 0.7, 0.2),
    ]
    assert (second["true"], second["predicted"], second["count"]) == ("b", "c", 1)
    assert [t["row"] for t in second["texts"]] == [5], "a single text is listed once"


def test_texts_are_shown_as_they_are_read_and_cut_at_a_blank():
    assert shortened("China #39;s  trade\\grew") == "China's trade grew"
    long = shortened("word " * 100)
    assert len(long) <= MAX_CHARACTERS + 2 and long.endswith("word …")


def test_evaluation_writes_those_of_the_best_on_validation(trained):
    results = trained[0] / "results/sample"
    result, summary = (json.loads((results / f"{name}.json").read_text()) for name in ("mistakes", "summary"))
    classifiers = summary["classifiers"]
    assert result["classifier"] == max(classifiers, key=lambda mode: classifiers[mode]["validation_accuracy"])
    entry = classifiers[result["classifier"]]
    assert result["hash"] == entry["hash"] and result["rows"] == entry["test"]["rows"] == 80
    matrix = np.array(entry["test"]["confusion_matrix"])
    assert result["mistakes"] == matrix.sum() - np.trace(matrix)
    counts = sorted(matrix[~np.eye(4, dtype=bool)].tolist(), reverse=True)
    assert [c["count"] for c in result["confusions"]] == [n for n in counts[:5] if n]
