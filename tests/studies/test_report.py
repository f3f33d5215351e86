"""report.pdf is built from results/, and shows their figures."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT, run_process, run_script
from pypdf import PdfReader

from bilm.config import MODES
from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json
from studies.report import SOURCES, TEMPLATE, build_report


@cache
def text_of(path: Path) -> list[str]:
    """Return the text of each page, with white space reduced to single spaces."""
    return [" ".join(page.extract_text().split()) for page in PdfReader(path).pages]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.pdf"
    run = run_script("-m studies.report", "--pdf", path)
    assert run.code == 0 and "report.pdf" in run.out, run.err
    return path


@pytest.fixture(scope="module")
def result() -> dict:
    return {name: read_json(ROOT / "results" / f"{name}.json") for name in SOURCES}


def test_the_committed_report_is_what_the_results_give(built):
    assert text_of(built) == text_of(ROOT / "report.pdf")
    assert 8 <= len(PdfReader(built).pages) <= 12


def test_its_figures_are_those_of_the_results(built, result):
    text, summary = " ".join(text_of(built)), result["summary"]
    for mode in MODES:
        entry = summary["classifiers"][mode]
        for split in ("test", "train"):
            row = " ".join(f"{entry[split][key]:.4f}" for key in ("accuracy", "precision", "recall", "f1"))
            assert row in text, (mode, split)
        assert f"{entry['accuracy_mean']:.4f} ± {entry['accuracy_std']:.4f}" in text
    for name, entry in summary["baselines"].items():
        row = " ".join(f"{entry['test'][key]:.4f}" for key in ("accuracy", "precision", "recall", "f1"))
        assert f"{name} {row} {entry['validation_accuracy']:.4f}" in text, name
    for key, digits in (("perplexity", 1), ("top5_accuracy", 4)):
        language = [summary["language_model"][s][d][key] for s in ("test", "train") for d in ("forward", "backward")]
        assert " ".join(f"{value:.{digits}f}" for value in language) in text, key
    for name, part in result["lambda_study"]["parts"].items():
        assert re.search(rf"{name} .{{20,90}}{part['validation_accuracy']:.4f} {part['test_accuracy']:.4f}", text), name
    sizes = result["label_efficiency"]["labels_per_class"].values()
    for name in {name for methods in sizes for name in methods}:
        entries = [methods[name] for methods in sizes if name in methods]
        pairs = [(100 * entry["test_accuracy"], entry["test_accuracy_std"]) for entry in entries]
        cells = [f"{mean:.1f}" + (f" ±{100 * std:.1f}" if std is not None else "") for mean, std in pairs]
        assert f" {name} {' '.join(cells)}" in text, name
    near = summary["near_duplicates"]["accuracy"]["ensemble"]
    near_duplicates, rest = (f"{100 * near[key]:.2f} %" for key in ("near_duplicates", "rest"))
    assert f"{near_duplicates} on those rows and {rest} on the rest" in text
    for mode, figures in result["best_seed_1"]["accuracy"].items():
        assert f"{mode} {figures['test']:.4f}" in text
    for confusion in result["mistakes"]["confusions"]:
        assert f"{confusion['true']} taken for {confusion['predicted']}, {confusion['count']} times" in text
        assert all(f"row {entry['row']}," in text for entry in confusion["texts"])


@pytest.mark.slow
def test_a_changed_figure_changes_the_report(result, tmp_path):
    changed = json.loads(json.dumps(result))
    changed["summary"]["classifiers"]["function"]["test"]["accuracy"] = 0.12345
    assert build_report(changed, TEMPLATE, tmp_path / "report.pdf") == len(PdfReader(tmp_path / "report.pdf").pages)
    assert "0.1235" in " ".join(text_of(tmp_path / "report.pdf"))


def test_the_same_results_give_the_same_bytes(built, result, tmp_path):
    build_report(result, TEMPLATE, tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes() == built.read_bytes()


def test_incomplete_results_are_one_line_and_no_file(result, tmp_path):
    for name, part in (("summary", "baselines"), ("label_efficiency", "labels_per_class"), ("mistakes", "confusions")):
        poor = {**result, name: {key: value for key, value in result[name].items() if key != part}}
        with pytest.raises(UserError, match=part):
            build_report(poor, TEMPLATE, tmp_path / "report.pdf")
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named_with_the_command_that_writes_it(tmp_path):
    for name in ("utils.py", "bilm", "studies"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    run = run_process("-m studies.report", cwd=tmp_path)
    assert run.code == 2 and run.err.count("\n") == 1, run.err
    assert "there is no results/bilstm_training.json. Make it first: python ELMO.py" in run.err


def test_figures_of_different_models_are_refused(result, tmp_path):
    for name, part in (("lambda_study", {"bilm": "another"}), ("mistakes", {"hash": "another"})):
        with pytest.raises(UserError, match=f"{name}.json is not of the models"):
            build_report({**result, name: {**result[name], **part}}, TEMPLATE, tmp_path / "report.pdf")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_place_of_a_file_is_one_line(tmp_path):
    run = run_script("-m studies.report", "--pdf", tmp_path)
    assert run.code == 2 and "is not the name of a file" in run.err and run.err.count("\n") == 1
