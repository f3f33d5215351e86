"""The weights of the repository are kept when a user's own run replaces them."""

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
from bilm.checkpoints.classifier_files import find_classifiers
from bilm.checkpoints.model_format import load_bilm, load_classifier
from bilm.config import MODES
from bilm.evaluation.scoring import class_probabilities
from bilm.runtime.errors import UserError
from bilm.runtime.files import file_hash
from bilm.text.ag_news import read_ag_news
from bilm.text.batching import iterate_batches

BUNDLED = ("bilstm.pt", "classifier_frozen.pt", "classifier_finetune.pt")


@pytest.fixture
def models(tmp_path):
    """Two unchanged bundled files, one that was replaced, and one of the user's own."""
    for name in (*BUNDLED, "mine.pt"):
        (tmp_path / name).write_text(f"bundled {name}")
    files = {name: file_hash(tmp_path / name) for name in BUNDLED}
    (tmp_path / "classifier_frozen.pt").write_text("the user's")
    (tmp_path / "shipped.json").write_text(json.dumps({"files": {**files, "gone.pt": "0"}}))
    return tmp_path


def folder_of(models):
    (folder,) = (models / "shipped").iterdir()
    return folder


def contents(folder):
    return {path.name: path.read_text() for path in folder.glob("*.pt")}


def test_only_unchanged_bundled_files_are_kept(models):
    assert "/*.pt " in keep_bundled(models)
    remove_bundled_classifiers(models)
    bundled = {name: f"bundled {name}" for name in ("bilstm.pt", "classifier_finetune.pt")}
    assert contents(folder_of(models)) == bundled
    assert contents(models) == {
        "bilstm.pt": "bundled bilstm.pt",
        "classifier_frozen.pt": "the user's",
        "mine.pt": "bundled mine.pt",
    }
    (models / "bilstm.pt").write_text("a second run")
    assert keep_bundled(models) is None and contents(folder_of(models)) == bundled


def test_classifiers_of_the_bundled_language_model_remain(models):
    keep_bundled(models)
    assert (models / "classifier_finetune.pt").exists()
    (copy,) = (models / "shipped").glob("*/classifier_finetune.pt")
    copy.write_text("damaged since")
    keep_bundled(models)
    assert copy.read_text() == "bundled classifier_finetune.pt"


def test_a_folder_of_ones_own_has_nothing_to_keep(tmp_path):
    (tmp_path / "bilstm.pt").write_text("mine")
    assert keep_bundled(tmp_path) is None and not (tmp_path / "shipped").exists()


def test_a_users_own_runs_move_them_aside(trained, tmp_path):
    """In a folder like the repository's: training a classifier first, then a language model."""
    shutil.copytree(trained[0] / "models/sample", folder := tmp_path / "models/sample")
    bundled = {path.name: file_hash(path) for path in folder.glob("*.pt")}
    (folder / "shipped.json").write_text(json.dumps({"files": bundled}))
    common = ["--data", SAMPLE, "--output", tmp_path, "--epochs", 1]
    run = run_script("classification.py", *common, "--mode", "frozen", "--hidden", 16, "--seed", 5)
    assert run.code == 0 and "are now in" in run.out, run.err
    run = run_script("ELMO.py", *common, *TINY, "--seed", 5)
    assert run.code == 0 and "are now in" in run.out, run.err
    assert {path.name: file_hash(path) for path in folder_of(folder).glob("*.pt")} == bundled
    own = {path.name for path in folder.glob("*.pt")}
    assert {"bilstm.pt", "classifier_frozen.pt"} <= own <= {"bilstm.pt", "classifier_frozen.pt", "classifier.pt"}


def test_a_later_release_is_kept_beside_the_earlier_one(models):
    keep_bundled(models)
    (models / "bilstm.pt").write_text("release 2")
    (models / "shipped.json").write_text(json.dumps({"files": {"bilstm.pt": file_hash(models / "bilstm.pt")}}))
    keep_bundled(models)
    remaining = {path.read_text() for path in (models / "shipped").glob("*/bilstm.pt")}
    assert remaining == {"bundled bilstm.pt", "release 2"}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"files": 3}'])
def test_a_list_that_cannot_be_read_is_refused_by_name(tmp_path, content):
    (tmp_path / "models/sample").mkdir(parents=True)
    (tmp_path / "models/sample/shipped.json").write_text(content)
    with pytest.raises(UserError, match=r"shipped\.json"):
        bundled_files(tmp_path / "models/sample")


def test_the_bundled_files_are_those_of_the_list():
    files = bundled_files(ROOT / "models")
    listed = json.loads((ROOT / "models/shipped.json").read_text(encoding="utf-8"))["files"]
    assert {path.name for path in files} == set(listed)
    others = {f"classifier_{mode}.pt" for mode in MODES if mode != "finetune"}
    assert set(listed) == {"bilstm.pt", "classifier.pt", *others}, "the best mode has no second file"
    assert sum(path.stat().st_size for path in files) < 60e6


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("AG_NEWS_DIR"), reason="AG_NEWS_DIR is not set")
def test_the_bundled_weights_predict_what_the_results_say():
    """On any machine: for every tenth test row, the classes are those of results/predictions.json, but for one."""
    models = ROOT / "models"
    pretrained = load_bilm(models / "bilstm.pt")
    summary = json.loads((ROOT / "results/summary.json").read_text(encoding="utf-8"))
    assert summary["bilm"] == pretrained.hash
    rows = np.arange(0, 7600, 10)
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
        assert (probabilities.argmax(1) != classes).sum() <= 1, name
