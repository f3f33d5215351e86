"""What the project brings onto a machine, and what it does there unasked. The linter looks for eval and the like."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NO_NETWORK = """
import socket

def refuse(*_, **__):
    raise AssertionError("the network was asked at import")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_no_network_at_import():
    files = [*ROOT.glob("*.py"), *ROOT.glob("bilm/**/*.py"), *ROOT.glob("studies/*.py")]
    assert len(files) > 70
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    command = [sys.executable, "-c", NO_NETWORK, *modules, "gensim.models", "matplotlib.pyplot"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def lines(file: str) -> list[str]:
    return [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]


EXTRAS = {
    extra: [Requirement(line) for line in listed]
    for extra, listed in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ].items()
}
REQUIRED = [Requirement(line) for line in lines("requirements.txt")]
# Packages whose module has another name.
MODULES = {"scikit-learn": "sklearn", "cosmic-ray": "cosmic_ray"}
# Used without an import: commands of the Makefile, and what an imported package asks for.
TOOLS = {"ruff", "mypy", "pip-audit", "pytest-xdist", "nbclient", "ipykernel", "setuptools", "tensorboard"}


def packages(requirements: list[Requirement]) -> set[str]:
    return {MODULES.get(r.name, r.name) for r in requirements} - {"elmo-ag-news"}


def imported(files: list[Path]) -> set[str]:
    """The first part of every module that these files import, also by `require`, but for our own."""
    result = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                result |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                result.add(node.module or "")
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                result |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    own = {path.stem for path in (*ROOT.glob("*.py"), *(ROOT / "tests").rglob("*.py"))} | {
        "bilm",
        "benchmarks",
        "studies",
    }
    return {name.partition(".")[0] for name in result} - sys.stdlib_module_names - own


def test_what_is_imported_is_listed_and_what_is_listed_is_used():
    code = [p for folder in (".", "benchmarks", "examples", "studies") for p in (ROOT / folder).glob("*.py")]
    code += (ROOT / "bilm").rglob("*.py")
    optional = packages([r for extra in EXTRAS if extra != "dev" for r in EXTRAS[extra]])
    required = packages(REQUIRED)
    assert imported(code) <= required | optional
    assert not required & optional
    tests = list((ROOT / "tests").rglob("*.py"))
    everything = required | optional | packages(EXTRAS["dev"])
    assert imported(tests) <= everything
    assert everything - imported(code + tests) <= TOOLS


def test_every_requirement_is_a_range_that_holds_the_pinned_version():
    pinned = dict(line.split("==") for line in lines("constraints.txt"))
    for requirement in [*REQUIRED, *(r for listed in EXTRAS.values() for r in listed)]:
        if requirement.name == "elmo-ag-news":
            continue
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
        if requirement not in EXTRAS["dev"]:
            operators = {s.operator for s in requirement.specifier}
            assert operators == {">=", "<"} or requirement.name == "pyarrow", "a new major version every few months"


def test_make_installs_nothing_but_pinned_versions():
    installs = re.findall(r"pip install .*", (ROOT / "Makefile").read_text())
    assert len(installs) == 2 and all(line.endswith("-c constraints.txt") for line in installs)


def test_text_files_have_unix_line_ends_on_every_system(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    files = ["data/sample/train.csv", "data/sample/test.csv", "models/shipped.json", "models/bilstm.pt", "report.pdf"]
    windows = ["git", "-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    subprocess.run([*windows, "checkout-index", f"--prefix={tmp_path}/", "--", *files], cwd=ROOT, check=True)
    for name in files:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes(), name
