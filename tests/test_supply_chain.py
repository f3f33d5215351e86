"""What the project brings onto a machine, and what it does there unasked. The linter looks for eval and the like."""

import re
import subprocess
import sys

from conftest import ROOT

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
    modules = [p.stem for p in ROOT.glob("*.py")] + [f"bilm.{p.stem}" for p in ROOT.glob("bilm/*.py")]
    command = [sys.executable, "-c", NO_NETWORK, *modules, "gensim.models", "matplotlib.pyplot"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


REQUIREMENTS = re.findall(
    r"^([\w-]+)==([\w.]+) +# ([\w.]+) to ([\w.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE
)


def number(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text.split("+")[0])))


def test_every_requirement_is_pinned_and_has_a_tested_range():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert len(REQUIREMENTS) == len(lines) >= 4
    for _, pinned, lowest, highest in REQUIREMENTS:
        assert number(lowest) <= number(pinned) <= number(highest)
