"""report.pdf is built from results/, and lacks nothing that the assignment asks for."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, run_process, run_script
from pypdf import PdfReader

from bilm.config import MODES
from bilm.runtime.errors import UserError
from bilm.runtime.files import read_json
from studies.report import SOURCES, TEMPLATE, build_report


def text_of(path: Path) -> list[str]:
    """Of each page, with single blanks."""
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


def test_its_numbers_are_those_of_the_summary(built, result):
    message, summary = " ".join(text_of(built)), result["summary"]
    for mode in MODES:
        entry = summary["classifiers"][mode]
        for split in ("test", "train"):
            row = " ".join(f"{entry[split][key]:.4f}" for key in ("accuracy", "precision", "recall", "f1"))
            assert row in message, (mode, split)
        assert f"{entry['accuracy_mean']:.4f} ± {entry['accuracy_std']:.4f}" in message
    for name, entry in summary["baselines"].items():
        row = " ".join(f"{entry['test'][key]:.4f}" for key in ("accuracy", "precision", "recall", "f1"))
        assert f"{name} {row} {entry['validation_accuracy']:.4f}" in message, name
    for key, digits in (("perplexity", 1), ("top5_accuracy", 4)):
        language = [summary["language_model"][s][d][key] for s in ("test", "train") for d in ("forward", "backward")]
        assert " ".join(f"{value:.{digits}f}" for value in language) in message, key
    for name, part in result["lambda_study"]["parts"].items():
        assert re.search(rf"{name} .{{20,90}}{part['validation_accuracy']:.4f} {part['test_accuracy']:.4f}", message), (
            name
        )
    for size, methods in result["label_efficiency"]["labels_per_class"].items():
        for name, entry in methods.items():
            assert f"{100 * entry['test_accuracy']:.1f}" in message, (size, name)
    for mode, figures in result["best_seed_1"]["accuracy"].items():
        assert f"{mode} {figures['test']:.4f}" in message
    for confusion in result["mistakes"]["confusions"]:
        assert f"{confusion['true']} taken for {confusion['predicted']}, {confusion['count']} times" in message
        assert all(f"row {text['row']}," in message for text in confusion["texts"])


@pytest.mark.slow
def test_another_number_in_the_results_is_another_in_the_report(result, tmp_path):
    changed = json.loads(json.dumps(result))
    changed["summary"]["classifiers"]["function"]["test"]["accuracy"] = 0.12345
    assert build_report(changed, TEMPLATE, tmp_path / "report.pdf") == len(PdfReader(tmp_path / "report.pdf").pages)
    assert "0.1235" in " ".join(text_of(tmp_path / "report.pdf"))


def test_the_same_results_give_the_same_bytes(built, result, tmp_path):
    build_report(result, TEMPLATE, tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes() == built.read_bytes()


def test_results_that_lack_something_are_one_line_and_no_file(result, tmp_path):
    for name, part in (("summary", "baselines"), ("label_efficiency", "labels_per_class"), ("mistakes", "confusions")):
        poor = {**result, name: {key: value for key, value in result[name].items() if key != part}}
        with pytest.raises(UserError, match=part):
            build_report(poor, TEMPLATE, tmp_path / "report.pdf")
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path):
    for name in ("utils.py", "bilm", "studies"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    run = run_process("-m studies.report", cwd=tmp_path)
    assert run.code == 2 and run.err.count("\n") == 1, run.err
    assert "results/bilstm_training.json is not there. Make it first: python ELMO.py" in run.err


def test_figures_of_different_models_do_not_stand_side_by_side(result, tmp_path):
    for name, part in (("lambda_study", {"bilm": "another"}), ("mistakes", {"hash": "another"})):
        with pytest.raises(UserError, match=f"{name}.json is not of the models"):
            build_report({**result, name: {**result[name], **part}}, TEMPLATE, tmp_path / "report.pdf")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_none_is_one_line(tmp_path):
    run = run_script("-m studies.report", "--pdf", tmp_path)
    assert run.code == 2 and "is no name of a file" in run.err and run.err.count("\n") == 1
