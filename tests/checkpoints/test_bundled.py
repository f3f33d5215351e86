"""Weights that came with the repository are not lost to a user's own run."""

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, SAMPLE, TINY, run_script

from bilm.checkpoints.bundled import bundled_files, keep_bundled, remove_bundled_classifiers
from bilm.checkpoints.pretrained import find_classifiers, load_bilm, load_classifier
from bilm.config import MODES
from bilm.evaluation.scoring import class_probabilities
from bilm.runtime.errors import UserError
from bilm.runtime.files import file_hash
from bilm.text.ag_news import read_ag_news
from bilm.text.batching import iterate_batches

CAME = ("bilstm.pt", "classifier_frozen.pt", "classifier_finetune.pt")


@pytest.fixture
def models(tmp_path):
    """Two files as they came, one that the user made, one that is no longer as it came."""
    for name in (*CAME, "mine.pt"):
        (tmp_path / name).write_text(f"came as {name}")
    files = {name: file_hash(tmp_path / name) for name in CAME}
    (tmp_path / "classifier_frozen.pt").write_text("the user's")
    (tmp_path / "shipped.json").write_text(json.dumps({"files": {**files, "gone.pt": "0"}}))
    return tmp_path


def folder_of(models):
    (folder,) = (models / "shipped").iterdir()
    return folder


def contents(folder):
    return {path.name: path.read_text() for path in folder.glob("*.pt")}


def test_only_what_is_as_it_came_is_kept(models):
    assert "/*.pt " in keep_bundled(models)
    remove_bundled_classifiers(models)
    came = {name: f"came as {name}" for name in ("bilstm.pt", "classifier_finetune.pt")}
    assert contents(folder_of(models)) == came
    assert contents(models) == {
        "bilstm.pt": "came as bilstm.pt",
        "classifier_frozen.pt": "the user's",
        "mine.pt": "came as mine.pt",
    }
    (models / "bilstm.pt").write_text("a second run")
    assert keep_bundled(models) is None and contents(folder_of(models)) == came


def test_classifiers_on_the_shipped_language_model_stay(models):
    keep_bundled(models)
    assert (models / "classifier_finetune.pt").exists()
    (copy,) = (models / "shipped").glob("*/classifier_finetune.pt")
    copy.write_text("damaged since")
    keep_bundled(models)
    assert copy.read_text() == "came as classifier_finetune.pt"


def test_a_folder_of_ones_own_has_nothing_to_keep(tmp_path):
    (tmp_path / "bilstm.pt").write_text("mine")
    assert keep_bundled(tmp_path) is None and not (tmp_path / "shipped").exists()


def test_a_users_own_runs_move_them_aside(trained, tmp_path):
    """A folder like the repository's, and in it runs of one's own: a classifier first, then a language model."""
    shutil.copytree(trained[0] / "models/sample", folder := tmp_path / "models/sample")
    came = {path.name: file_hash(path) for path in folder.glob("*.pt")}
    (folder / "shipped.json").write_text(json.dumps({"files": came}))
    common = ["--data", SAMPLE, "--output", tmp_path, "--epochs", 1]
    run = run_script("classification.py", *common, "--mode", "frozen", "--hidden", 16, "--seed", 5)
    assert run.code == 0 and "are now in" in run.out, run.err
    run = run_script("ELMO.py", *common, *TINY, "--seed", 5)
    assert run.code == 0 and "are now in" in run.out, run.err
    assert {path.name: file_hash(path) for path in folder_of(folder).glob("*.pt")} == came
    own = {path.name for path in folder.glob("*.pt")}
    assert {"bilstm.pt", "classifier_frozen.pt"} <= own <= {"bilstm.pt", "classifier_frozen.pt", "classifier.pt"}


def test_a_later_release_is_kept_beside_the_earlier_one(models):
    keep_bundled(models)
    (models / "bilstm.pt").write_text("release 2")
    (models / "shipped.json").write_text(json.dumps({"files": {"bilstm.pt": file_hash(models / "bilstm.pt")}}))
    keep_bundled(models)
    remaining = {path.read_text() for path in (models / "shipped").glob("*/bilstm.pt")}
    assert remaining == {"came as bilstm.pt", "release 2"}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"files": 3}'])
def test_a_list_that_cannot_be_read_is_refused_by_name(tmp_path, content):
    (tmp_path / "models/sample").mkdir(parents=True)
    (tmp_path / "models/sample/shipped.json").write_text(content)
    with pytest.raises(UserError, match=r"shipped\.json"):
        bundled_files(tmp_path / "models/sample")


def test_what_ships_is_what_the_list_says():
    files = bundled_files(ROOT / "models")
    listed = json.loads((ROOT / "models/shipped.json").read_text(encoding="utf-8"))["files"]
    assert {path.name for path in files} == set(listed)
    others = {f"classifier_{mode}.pt" for mode in MODES if mode != "finetune"}
    assert set(listed) == {"bilstm.pt", "classifier.pt", *others}, "the best mode has no second file"
    assert sum(path.stat().st_size for path in files) < 60e6


@pytest.mark.real_data
@pytest.mark.skipif("AG_NEWS_DIR" not in os.environ, reason="AG_NEWS_DIR is not set")
def test_what_ships_predicts_what_the_results_say():
    """On any machine: of every fourth test row, hardly one is given another class than in results/predictions.json."""
    models = ROOT / "models"
    pretrained = load_bilm(models / "bilstm.pt")
    summary = json.loads((ROOT / "results/summary.json").read_text(encoding="utf-8"))
    assert summary["bilm"] == pretrained.hash
    rows = np.arange(0, 7600, 4)
    inputs = [text for _, text in read_ag_news(Path(os.environ["AG_NEWS_DIR"]) / "test.csv")]
    texts = pretrained.vocabulary.encode([inputs[row] for row in rows])
    paths = find_classifiers(models, pretrained).paths
    classifiers = {mode: load_classifier(path, pretrained).model for mode, path in paths.items()}
    batches = iterate_batches(texts, np.arange(len(texts)), 8192)
    result = class_probabilities(classifiers, batches, len(texts), torch.device("cpu"), nullcontext)
    expected = json.loads((ROOT / "results/predictions.json").read_text(encoding="utf-8"))["models"]
    assert set(result) == set(summary["classifiers"]) | {"ensemble"}
    for name, probabilities in result.items():
        classes = np.array(expected[name]["classes"].split(), dtype=int)[rows]
        assert (probabilities.argmax(1) != classes).sum() <= 2, name
