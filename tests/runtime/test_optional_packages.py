"""Optional packages that are missing or broken: a message of one line, before any work."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import ELMO
from bilm import ELMo
from bilm.baselines.fasttext import fit_fasttext
from bilm.baselines.word_vectors import skip_gram
from bilm.inference.vector_files import write_vectors
from bilm.runtime import optional_packages
from bilm.runtime.errors import UserError
from bilm.runtime.optional_packages import require
from bilm.text.readers import Table
from studies import baselines, label_efficiency
from studies.report import build_report


def original(folder: Path) -> None:
    """Load a small ELMo without weights: the package is imported before the file of weights is opened."""
    options = """{"lstm": {"dim": 4, "projection_dim": 2, "use_skip_connections": true},
        "char_cnn": {"embedding": {"dim": 2}, "filters": [[1, 2]], "n_characters": 262, "activation": "relu",
        "max_characters_per_token": 9}}"""
    (folder / "options.json").write_text(options)
    ELMo.load(folder / "options.json", folder / "weights.hdf5")


def parquet(folder: Path) -> None:
    (folder / "a.parquet").write_bytes(b"PAR1")
    list(Table(folder / "a.parquet", ["text"]).rows())


REQUIREMENTS, PROJECT = (ROOT / "requirements.txt").read_text(), (ROOT / "pyproject.toml").read_text()

# All functions that need a package which requirements.txt does not install for every version of Python.
USES = [
    ("pyarrow", parquet),
    ("h5py", original),
    ("h5py", lambda folder: write_vectors(folder / "new" / "a.hdf5", [])),
    ("safetensors", lambda folder: write_vectors(folder / "new" / "a.safetensors", [])),
    ("pyarrow", lambda folder: write_vectors(folder / "new" / "a.parquet", [])),
    ("floret", lambda folder: fit_fasttext([], np.zeros(0), np.zeros(0), np.zeros(0), folder / "new", seed=0)),
    ("floret", lambda _: baselines.is_available("fasttext", required=True)),
    ("gensim", lambda _: baselines.is_available("word2vec_5", required=True)),
    ("gensim", lambda _: skip_gram(None, np.zeros(0), 0, 1, seed=0)),
    ("typst", lambda folder: build_report({}, folder / "report.typ", folder / "new" / "report.pdf")),
]


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make `package` appear uninstalled, on a version of Python that it has releases for."""
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(optional_packages, "NO_RELEASE_FROM", {})


@pytest.mark.parametrize(("package", "use"), USES)
def test_a_missing_package_is_one_line_with_the_command_that_installs_it(tmp_path, monkeypatch, package, use):
    hide(monkeypatch, package)
    with pytest.raises(UserError, match=rf"needs the package {package}: python -m pip install {package}$") as error:
        use(tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists(), "nothing was written"


@pytest.mark.parametrize(
    ("script", "arguments"), [(ELMO, ["--init-embeddings", "word2vec", "--data", "nowhere"]), (label_efficiency, [])]
)
def test_a_script_that_needs_gensim_says_so_before_it_looks_for_texts(monkeypatch, script, arguments):
    hide(monkeypatch, "gensim")
    monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *arguments])
    with pytest.raises(UserError, match="needs the package gensim"):
        script.main()


def test_of_all_baselines_those_without_their_package_are_left_out(monkeypatch, capsys):
    hide(monkeypatch, "floret")
    names = [name for name in baselines.NAMES if baselines.is_available(name, required=False)]
    assert names == [name for name in baselines.NAMES if name != "fasttext"]
    assert capsys.readouterr().out == (
        "fasttext is left out: fasttext needs the package floret: python -m pip install floret\n"
    )


def test_a_package_without_a_release_for_this_python(monkeypatch):
    hide(monkeypatch, "gensim")
    monkeypatch.setattr(optional_packages, "NO_RELEASE_FROM", {"gensim": sys.version_info[:2]})
    version = ".".join(map(str, sys.version_info[:2]))
    with pytest.raises(UserError, match=f"gensim: it has no release for Python {version} and later") as error:
        require("gensim.models", "Word2Vec")
    assert "pip install" not in str(error.value)


def test_pythons_without_a_release_are_those_that_installation_leaves_out():
    listed = re.findall(r"\b(\w+)>=[\d.,<]+; python_version < ['\"]3\.(\d+)", REQUIREMENTS + PROJECT)
    assert {package: (3, int(minor)) for package, minor in listed} == optional_packages.NO_RELEASE_FROM


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('no symbol x\\n in numpy')", "no symbol x in numpy"),
        ("import package_of_its_own", "No module named 'package_of_its_own'"),
    ],
)
def test_a_package_whose_import_fails_is_not_called_missing(tmp_path, monkeypatch, source, reason):
    module = tmp_path / f"broken_{len(source)}.py"
    module.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"Reading needs the package {module.stem}, whose import fails: {reason}$"):
        require(module.stem, "Reading")
