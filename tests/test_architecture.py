"""The packages import each other in one direction, and what answers `--help` imports no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# Each may import from those of lower rank and from itself.
RANKS = {
    "bilm.runtime": 0,
    "bilm.config": 1,
    "bilm.metrics": 1,
    "bilm.model_selection": 1,
    "bilm.text": 2,
    "bilm.modules": 3,
    "bilm.checkpoints": 4,
    "bilm.training": 5,
    "bilm.baselines": 5,
    "bilm.evaluation": 6,
    "bilm.inference": 7,
    "bilm.vectorizer": 8,
    "bilm": 8,  # its __init__ exports classes of bilm.inference
    "bilm.cli": 9,
    "bilm.__main__": 10,
    "utils": 10,
    "studies": 11,
    "ELMO": 11,
    "classification": 11,
    "evaluate": 11,
    "benchmarks": 12,
}
COMMANDS = [
    *(["ELMO.py"], ["classification.py"], ["evaluate.py"]),
    *(["-m", "bilm", name] for name in ("fit", "predict", "evaluate", "ensemble", "vectors", "neighbours", "lm")),
    *(["-m", f"studies.{name}"] for name in ("baselines", "label_efficiency", "lambda_study", "own_texts", "report")),
    ["-m", "benchmarks"],
]


def modules() -> dict[str, Path]:
    files = [
        *ROOT.glob("*.py"),
        *(p for name in ("bilm", "studies", "benchmarks") for p in (ROOT / name).rglob("*.py")),
    ]
    names = {path: list(path.relative_to(ROOT).with_suffix("").parts) for path in files}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in names.items()}


MODULES = modules()


def imports_of(path: Path) -> set[str]:
    """The modules of this repository that a file imports, also inside functions."""
    result = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            result |= {name if name in MODULES else str(node.module) for name in names}
    return result & MODULES.keys()


def package_of(module: str) -> str:
    """The longest name in RANKS that `module` is, or is in."""
    return max((name for name in RANKS if f"{module}.".startswith(f"{name}.")), key=len)


def test_every_module_imports_downwards_only():
    assert len(MODULES) > 100
    wrong = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in imports_of(path)
        if package_of(other) != package_of(module) and RANKS[package_of(other)] >= RANKS[package_of(module)]
    ]
    assert wrong == []


def test_no_module_imports_itself_through_others():
    graph = {module: imports_of(path) for module, path in MODULES.items()}
    while leaves := [module for module, others in graph.items() if not others & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert not graph


def test_only_distributed_imports_torch_in_runtime():
    for module, path in MODULES.items():
        if module.startswith("bilm.runtime.") and module != "bilm.runtime.distributed":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            at_import = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            assert not [line for line in at_import if "torch" in line], module


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_loads_no_torch(command):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in loaded and not loaded & {"torch", "nltk", "pandas", "sklearn", "matplotlib"}
