"""Few labels: the draws, self-training on unlabelled texts, and the study that compares them."""

import json
import shutil

import numpy as np
import pytest
from conftest import SAMPLE, run_script
from sklearn.linear_model import LogisticRegression

from bilm.baselines.self_training import choose_C, draw, project, self_train


def test_a_draw_has_as_many_of_each_class_and_none_twice():
    labels = np.array([0, 1, 2] * 20)
    rows = np.arange(45)
    chosen = draw(labels, rows, 5, seed=1)
    assert len(set(chosen.tolist())) == 15 and chosen.max() < 45
    assert np.bincount(labels[chosen]).tolist() == [5, 5, 5]
    assert np.array_equal(chosen, draw(labels, rows, 5, seed=1))
    assert not np.array_equal(chosen, draw(labels, rows, 5, seed=2))


def test_a_projection_keeps_distances_where_it_keeps_all_components():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(30, 2, 3))
    result = project(vectors, np.arange(20))
    flat = vectors.reshape(30, 6)
    between, expected = (np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (result, flat))
    np.testing.assert_allclose(between / between[0, 1], expected / expected[0, 1], rtol=1e-6)
    assert result[:20].std() == pytest.approx(1)
    vectors[20:] = 50.0
    np.testing.assert_allclose(project(vectors, np.arange(20))[:20], result[:20])


def test_texts_without_a_label_help_where_classes_are_clouds():
    """Two clusters with a few misleading labels; the labels of the other rows are wrong, so they must not be read."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 2000)
    vectors = random.normal(size=(2000, 2)) * [1.0, 2.0] + np.where(truth, 2.5, -2.5)[:, None] * [1.0, 0.0]
    labelled = np.concatenate(
        [np.flatnonzero((truth == c) & (sign * vectors[:, 1] > 1))[:3] for c, sign in ((0, 1), (1, -1))]
    )
    labels = 1 - truth
    labels[labelled] = truth[labelled]
    unlabelled = np.setdiff1d(np.arange(2000), labelled)
    plain = LogisticRegression().fit(vectors[labelled], labels[labelled]).predict(vectors)
    taught = self_train(vectors, labels, labelled, unlabelled, C=1.0).predict(vectors)
    assert (taught == truth).mean() > (plain == truth).mean() + 0.03


def test_C_is_chosen_on_validation_over_all_draws():
    scored = [(1.0, 0.5, 0.9), (1.0, 0.9, 0.8), (3.0, 0.8, 0.1), (3.0, 0.7, 0.3), (9.0, 0.9, 0.5), (9.0, 0.1, 0.5)]
    best, on_validation, on_test = choose_C(scored)
    assert best == 3.0 and on_validation == pytest.approx(0.75) and on_test == [0.1, 0.3]


def test_the_script(trained, tmp_path):
    shutil.copytree(trained[0] / "models", tmp_path / "models")
    common = ["-m studies.label_efficiency", "--data", SAMPLE, "--output", tmp_path, "--device", "cpu"]
    run = run_script(*common, "--draws", 2)
    assert run.code == 0 and "elmo_self_training" in run.out, run.err
    result = json.loads((tmp_path / "results/sample/label_efficiency.json").read_text())
    sizes = result["labels_per_class"]
    assert set(sizes) == {"25", "all"}, "of 40 rows a class, 50 cannot be drawn"
    linear = {"tfidf", "svd", "word2vec", "elmo"}
    assert set(sizes["25"]) == {*linear, "elmo_self_training"}
    assert all({"words", "strength"} <= set(methods["tfidf"]) for methods in sizes.values())
    assert set(sizes["all"]) == {*linear, "word2vec_classifier", "elmo_classifier"}
    for size, methods in sizes.items():
        for figures in methods.values():
            assert len(figures["test_accuracies"]) == (1 if size == "all" else 2)
            assert figures["test_accuracy"] == pytest.approx(np.mean(figures["test_accuracies"]))
    shutil.copytree(tmp_path / "models/sample", tmp_path / "models/sample-limit-40")
    run = run_script(*common, "--limit", 40)
    assert run.code == 2 and run.err.count("\n") == 1 and "more than 25 training rows of each" in run.err, run.err
