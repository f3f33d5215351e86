"""What `make mutation` puts into the code, and what it leaves out."""

import ast

import mutation
import pytest


@pytest.mark.parametrize("fault", mutation.FAULTS, ids=lambda fault: fault.name)
def test_a_named_fault_replaces_code_that_is_still_there(fault):
    mutant = mutation.named_fault(fault)
    assert fault.old in mutant.before and fault.new in mutant.after
    ast.parse(mutant.code)


def test_a_named_fault_whose_code_is_gone_ends_the_run(monkeypatch, tmp_path):
    (tmp_path / "module.py").write_text("x = 1\n")
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"module\.py has 0 times"):
        mutation.named_fault(mutation.Fault("a fault", "text", "module.py", "y = 1", "y = 2"))


SOURCE = '''
"""1 + 1"""
# A comment, too.
BLOCK = 128
LIMIT = 7


@dataclass(frozen=True)
class Shape:
    width: int | None = 2

    @property
    def half(self) -> int | None:
        assert self.width > 1
        return self.width // 2


def put(x: Tensor | None, limit: float | None = None) -> dict[str, int | float]:
    print_note(f"{x + 1} of {limit * 2}", 3)
    if x.is_cuda:
        return x + 9
    y = x - 8 if x.device.type == "cuda" else x * 6
    if x.device.type == "cpu":
        return x
    return zip(x.to("cpu", non_blocking=True), y == 5, strict=True)
'''


@pytest.fixture
def found(monkeypatch, tmp_path) -> set[str]:
    """The changed lines of all mutants of SOURCE."""
    pytest.importorskip("cosmic_ray")
    (tmp_path / "module.py").write_text(SOURCE)
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    every = [m for _, mutations in mutation.places("text", "module.py") for m in mutations]
    mutants = filter(None, (mutation.mutate("text", "module.py", *one) for one in every))
    return {mutant.after for mutant in mutants}


def test_what_is_left_out(found):
    """Annotations, texts for people, checks, what runs on a GPU alone, constants of speed, identity for equality."""
    unchanged = ("BLOCK", "@", "assert", "print_note", "return x ", "def ", '"""', "class ")
    assert not [line for line in found if line.startswith(unchanged)]
    assert not any(line.startswith("y =") and "x - 8" not in line for line in found)
    assert not any(" is 5" in line or "strict=False" in line or "non_blocking=False" in line for line in found)
    changed = {line for line in found if line.startswith("if x.device.type ")}
    assert changed == {'if x.device.type != "cpu":', 'if x.device.type is not "cpu":'}
    assert all("int | None" in line for line in found if line.startswith("width"))


def test_what_is_put_in(found):
    assert {"LIMIT = 8", "LIMIT = 6", "return self.width * 2", "return self.width // 3"} <= found
    assert any("x + 6" in line for line in found) and any("y != 5" in line for line in found)
    assert any(line.startswith("if not x.is_cuda") for line in found)
    assert any(line.startswith("width: int | None = 3") or "=  3" in line for line in found)


def test_a_sample_is_that_of_its_seed_and_one_mutant_at_each_place(monkeypatch, tmp_path):
    pytest.importorskip("cosmic_ray")
    (tmp_path / "module.py").write_text(SOURCE)
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "PACKAGES", {"text": (["*.py"], [])})
    every, count = mutation.draw(0, 100)
    one, same, other = (mutation.draw(seed, 5)[0] for seed in (0, 0, 1))
    assert 5 < len(every) == count and one == same == every[:5] != other
    # A line that is added elsewhere changes the numbers of lines and nothing else.
    (tmp_path / "module.py").write_text("import math\n" + SOURCE)
    assert [(m.before, m.after) for m in mutation.draw(0, 5)[0]] == [(m.before, m.after) for m in one]
