import io
import os
import pickle

import pytest
import torch

from bilm.checkpoints import serialization
from bilm.checkpoints.serialization import FORMAT_VERSION
from bilm.runtime.errors import UserError

CONTENT = {
    "weights": {"w": torch.randn(300, 3), "half": torch.ones(2, dtype=torch.bfloat16)},
    "words": ["a", "é"],
    "rate": 0.1,
    "none": None,
}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "folder" / "file.pt"
    serialization.save(path, "bilm", CONTENT)
    return path


def test_what_is_saved_comes_back(saved):
    result = serialization.load(saved, "bilm")
    assert torch.equal(result["weights"]["w"], CONTENT["weights"]["w"])
    assert {k: v for k, v in result.items() if k != "weights"} == {k: v for k, v in CONTENT.items() if k != "weights"}


def test_hash_names_the_content(saved):
    assert serialization.content_hash(serialization.load(saved, "bilm")) == serialization.content_hash(CONTENT)
    changed = {**CONTENT, "weights": {**CONTENT["weights"], "w": CONTENT["weights"]["w"] + 1e-6}}
    assert serialization.content_hash(changed) != serialization.content_hash(CONTENT)
    assert serialization.content_hash(["ab", "c"]) != serialization.content_hash(["a", "bc"])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, share):
    saved.write_bytes(saved.read_bytes()[: int(saved.stat().st_size * share)])
    with pytest.raises(UserError, match=r"file\.pt"):
        serialization.load(saved, "bilm")


def test_a_flipped_byte_is_refused_or_harmless(saved):
    complete = saved.read_bytes()
    for position in range(0, len(complete), 97):
        saved.write_bytes(complete[:position] + bytes([complete[position] ^ 0x10]) + complete[position + 1 :])
        try:
            result = serialization.load(saved, "bilm")
        except UserError:
            continue
        assert serialization.content_hash(result) == serialization.content_hash(CONTENT)


def test_another_kind_or_version_is_refused_by_name(saved, monkeypatch):
    with pytest.raises(UserError, match="is a 'bilm' file; a 'classifier' file is needed"):
        serialization.load(saved, "classifier")
    monkeypatch.setattr(serialization, "OLDEST_VERSION", FORMAT_VERSION + 1)
    reads = f"format version {FORMAT_VERSION}; this program reads versions {FORMAT_VERSION + 1} to"
    with pytest.raises(UserError, match=reads):
        serialization.load(saved, "bilm")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.pt does not exist"):
        serialization.load(tmp_path / "nothing.pt", "bilm")


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, write):
    path, target = tmp_path / "evil.pt", tmp_path / "ran"
    write({"kind": "bilm", "content": Malicious(target)}, path)
    with pytest.raises(UserError, match="refused"):
        serialization.load(path, "bilm")
    assert not target.exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    before = saved.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        serialization.save(saved, "bilm", {"other": 1})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_ctrl_c_in_a_write_is_ctrl_c_and_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    """torch's archive writer, when interrupted, raises an error that hides the KeyboardInterrupt."""
    before, real = saved.read_bytes(), open

    class Interrupting(io.BufferedWriter):
        def write(self, content):
            raise KeyboardInterrupt(15)

    monkeypatch.setattr(
        "builtins.open",
        lambda path, mode="r", **k: Interrupting(io.FileIO(path, "w")) if mode == "wb" else real(path, mode, **k),
    )
    with pytest.raises(KeyboardInterrupt) as stop:
        serialization.save(saved, "bilm", {"other": torch.ones(1000)})
    assert stop.value.args == (15,)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; a file of weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file; a file of weights"),
        (b"\x1f\x8b" + bytes(99), "compressed with gzip"),
        (b"text", "not a file of this project"),
    ],
)
def test_what_is_often_taken_for_weights_is_named(tmp_path, content, message):
    (tmp_path / "bilstm.pt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        serialization.load(tmp_path / "bilstm.pt", "bilm")
    with pytest.raises(UserError, match=r"is a folder. Name a file in it, such as .*bilstm\.pt"):
        serialization.load(tmp_path, "bilm")
