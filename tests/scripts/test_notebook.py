"""examples/quickstart.ipynb runs from top to bottom, as in Jupyter, Colab and Kaggle."""

import csv
import re
import shutil

import pytest
from conftest import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> list[str]:
    """What each cell of code prints; run in a copy of the project, in the notebook's own folder, for one epoch."""
    copy = tmp_path_factory.mktemp("notebook") / "elmo"
    left_out = shutil.ignore_patterns(".git", ".venv", "runs", "quickstart", "results", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=left_out)
    for path in (copy / "data/sample").glob("*.csv"):  # every fourth row is enough
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[::4]
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    notebook = nbformat.read(copy / "examples/quickstart.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"--epochs \d+", "--epochs 1", cell.source)
    resources = {"metadata": {"path": str(copy / "examples")}}
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(o.get("text", "") or str(o.get("data", "")) for o in cell) for cell in outputs]


def test_it_pretrains_classifies_and_evaluates(printed):
    _, pretraining, classification, evaluation, *_ = printed
    assert "Wrote quickstart/models/sample/bilstm.pt" in pretraining
    assert "Wrote quickstart/models/sample/classifier.pt" in classification
    assert "classifier trainable: accuracy" in evaluation


def test_lambdas_and_a_confusion_matrix_are_shown(printed):
    lambdas, matrix = printed[4:6]
    assert len(re.findall(r"λ (0\.\d\d ){3}", lambdas.replace("\n", " "))) == 2 and "function" in lambdas
    assert "image/png" in matrix


def test_the_library_answers_after_the_commands(printed):
    assert "Business" in printed[6] and "Sports" in printed[6] and "(3, " in printed[6]


def test_progress_does_not_flood_the_cell(printed):
    """A line now and then: none of what is redrawn on a terminal."""
    for text in printed:
        assert "\r" not in text.replace("\r\n", "\n") and len(re.findall(r"\d+%\|", text)) < 20


def test_the_notebook_is_stored_without_outputs():
    notebook = nbformat.read(ROOT / "examples/quickstart.ipynb", as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
