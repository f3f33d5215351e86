"""`pip install .` and `pip install -e .`: the library finds the repository's weights, and site-packages stays clean."""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT

from bilm import ELMo, ELMoVectorizer, TextClassifier
from bilm.checkpoints.bundled import bundled_bilm
from bilm.runtime import paths
from bilm.runtime.errors import UserError

USE = """
import json, pathlib, sys
import bilm
from bilm import ELMo, ELMoVectorizer, TextClassifier
from bilm.text.corpus import DOWNLOADED, SAMPLE
from bilm.runtime.errors import UserError
from bilm.runtime.paths import folders
from bilm.inference.server import _PAGE

def told(load):
    try:
        load()
    except UserError as error:
        return str(error)

loads = [ELMo.load, TextClassifier.load, lambda: ELMoVectorizer().fit([])]
found = {
    "package": bilm.__file__,
    "class": TextClassifier.load().predict(["Stocks fell after the bank cut its forecast."]),
    "width": ELMoVectorizer().fit_transform(["Rain fell."]).shape[1],
    "layers": ELMo.load().num_layers,
    "page": _PAGE.is_file(),
    "sample": str(SAMPLE),
    "written": [str(DOWNLOADED), *map(str, vars(folders(None, "ag_news", None)).values())],
}
pathlib.Path(sys.argv[1]).rename(sys.argv[1] + "-moved")
print(json.dumps(found | {"moved": [told(load) for load in loads]}))
"""


def test_an_installed_package_works_in_any_folder(tmp_path):
    pytest.importorskip("pip")
    if int(metadata.version("setuptools").partition(".")[0]) < 77:
        pytest.skip("setuptools is too old to build the package")
    # A copy, since building leaves folders behind; its weights are links.
    checkout, target, elsewhere = (tmp_path / name for name in ("a checkout", "target", "elsewhere"))
    shutil.copytree(ROOT / "bilm", checkout / "bilm", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data/sample", checkout / "data/sample")
    shutil.copytree(ROOT / "models", checkout / "models", copy_function=os.symlink)
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "ELMO.py"):
        shutil.copy(ROOT / name, checkout)
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", target, checkout], check=True)
    env = os.environ | {"PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", USE, checkout], cwd=elsewhere, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert Path(result["package"]).is_relative_to(target) and result["page"]
    assert (result["class"], result["width"], result["layers"]) == (["Business"], 1024, 3)
    assert result["sample"] == str(checkout / "data/sample")
    assert all(Path(path).is_relative_to(elsewhere) for path in result["written"]), result["written"]
    for message in result["moved"]:
        assert f"there is no {checkout / 'models/bilstm.pt'}" in message and "ELMo.load('bilstm.pt')" in message
        assert "\n" not in message
    assert not list(elsewhere.iterdir())
    (info,) = target.glob("elmo_ag_news-*.dist-info")
    assert (info / "licenses/LICENSE").is_file()
    required = metadata.PathDistribution(info).requires or []
    assert [r for r in required if r.startswith("torch")] and [r for r in required if 'extra == "vectors"' in r]


@pytest.mark.parametrize("load", [ELMo.load, TextClassifier.load, lambda: ELMoVectorizer().fit([])])
def test_in_the_checkout_its_own_weights_are_found_from_any_folder(tmp_path, monkeypatch, load):
    monkeypatch.chdir(tmp_path)
    load()
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    with pytest.raises(UserError, match="there is no") as error:
        load()
    assert f"there is no {tmp_path / 'models/bilstm.pt'}" in str(error.value)


@pytest.mark.parametrize(
    ("recorded", "folder"),
    [
        (f'{{"url": "{Path("/a b").as_uri()}", "dir_info": {{"editable": true}}}}', Path("/a b")),
        ('{"url": "file:///wheels/elmo.whl", "archive_info": {}}', None),
        ('{"url": "https://host/elmo.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}', None),
        ("{", None),
        (None, None),
    ],
)
def test_the_folder_that_pip_recorded(tmp_path, monkeypatch, recorded, folder):
    info = tmp_path / "elmo_ag_news-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: elmo-ag-news\nVersion: 1.0.0\n")
    if recorded:
        (info / "direct_url.json").write_text(recorded)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert paths.install_source() == folder
    monkeypatch.setattr(paths, "checkout", lambda: None)
    with pytest.raises(UserError, match="the language model of this repository is missing"):
        bundled_bilm()


def test_a_package_that_was_never_installed_has_no_source(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    assert paths.install_source() is None
