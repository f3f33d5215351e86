"""Confusion matrices with names of classes as users have them; learning curves from damaged files."""

import json
import warnings

import pytest

from bilm.evaluation import figures
from bilm.evaluation.figures import draw_confusion_matrix, draw_results
from bilm.runtime.errors import UserError


def labels_below(monkeypatch, tmp_path, names):
    """Draw a matrix of these classes; return the labels below it, with their angle."""
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure))
    draw_confusion_matrix(tmp_path / "x.png", [[1] * len(names)] * len(names), names, names, "title")
    return [(label.get_text(), label.get_rotation()) for label in drawn[0].axes[0].get_xticklabels()]


def test_names_that_would_overlap_are_upright_and_long_ones_are_cut(monkeypatch, tmp_path):
    short = ["World", "Sports", "Business", "Sci/Tech"]
    assert labels_below(monkeypatch, tmp_path, short) == [(name, 0) for name in short]
    long = [f"customer complaint type {i}" for i in range(6)]
    assert labels_below(monkeypatch, tmp_path, long) == [(name, 90) for name in long]
    assert labels_below(monkeypatch, tmp_path, ["a", "x" * 200])[1][0] == "x" * 29 + "…"


def test_a_very_long_name_gives_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion_matrix(tmp_path / "x.png", [[1, 0], [0, 1]], ["a", "b" * 200], ["a", "b" * 200], "t")


def test_the_file_without_a_curve_is_named(tmp_path):
    good = {"curve": [{"step": 1, "loss": 1.0}], "epochs": [{"epoch": 1, "accuracy": 0.5}]}
    (tmp_path / "classifier_trainable_training.json").write_text(json.dumps(good))
    (tmp_path / "classifier_function_training.json").write_text(json.dumps({"epochs": []}))
    summary = {"language_model": {}, "classifiers": {"trainable": {}, "function": {}}}
    with pytest.raises(UserError, match="classifier_function_training"):
        draw_results(tmp_path, summary)
    (tmp_path / "classifier_function_training.json").unlink()
    assert [path.name for path in draw_results(tmp_path, summary)] == ["learning_curves_classifiers.png"]
