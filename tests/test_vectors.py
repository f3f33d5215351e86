"""vectors.py as a user runs it."""

import json
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from conftest import ROOT, run_script

from bilm import TextClassifier
from bilm.errors import UserError
from bilm.vector_files import write_vectors


@pytest.fixture(scope="module")
def path(trained_bilm):
    return trained_bilm


@pytest.fixture
def file(texts, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join([*texts, "", texts[0]]) + "\n")
    return tmp_path / "texts.txt"


def test_hdf5_as_allennlp_wrote_it(path, elmo, texts, file, tmp_path):
    run = run_script("vectors.py", "--bilm", path, "--input", file, "--output", tmp_path / "x.hdf5")
    assert run.code == 0 and "7 texts" in run.out, run.err
    wanted = elmo.embed([*texts, "", texts[0]])
    with h5py.File(tmp_path / "x.hdf5") as found:
        assert set(found) == {*map(str, range(7)), "sentence_to_index"}
        index = json.loads(found["sentence_to_index"][0])
        assert index == {texts[0]: "6", **{text: str(i) for i, text in enumerate(texts) if i}, "": "5"}
        for i, vectors in enumerate(wanted):
            assert found[str(i)].shape == (3, len(elmo.words([*texts, "", texts[0]][i])), elmo.output_dim)
            np.testing.assert_allclose(found[str(i)][...], vectors, atol=1e-6)


def test_npz_of_tokens_and_of_texts(path, elmo, texts, tmp_path):
    common = ("vectors.py", "--bilm", path, *texts)
    run = run_script(*common, "--output", tmp_path / "x.npz", "--layers", "2,0")
    assert run.code == 0, run.err
    with np.load(tmp_path / "x.npz") as found:
        vectors, offsets = found["vectors"], found["offsets"]
        words = bytes(found["words"]).decode().split("\n")
    for i, wanted in enumerate(elmo.embed(texts)):
        part = slice(offsets[i], offsets[i + 1])
        np.testing.assert_allclose(vectors[part], wanted[[2, 0]].transpose(1, 0, 2), atol=1e-6)
        assert words[part] == elmo.words(texts[i])
    run = run_script(*common, "--output", tmp_path / "y.npz", "--per", "text")
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_allclose(found["vectors"], elmo.sentence_vectors(texts), atol=1e-6)
    for layers, wanted in (("all", (0, 1, 2)), ("2,0", (2, 0))):
        run = run_script(*common, "--output", tmp_path / "y.npz", "--per", "text", "--layers", layers)
        with np.load(tmp_path / "y.npz") as found:
            np.testing.assert_allclose(found["vectors"], elmo.sentence_vectors(texts, wanted), atol=1e-6)


def test_words_as_they_are(path, elmo, tmp_path):
    run = run_script("vectors.py", "--bilm", path, "--tokenized", "U.S. stocks-fell", "--output", tmp_path / "x.npz")
    assert run.code == 0, run.err
    with np.load(tmp_path / "x.npz") as found:
        assert bytes(found["words"]) == b"U.S.\nstocks-fell"
        np.testing.assert_allclose(found["vectors"][:, 1], elmo.embed([["U.S.", "stocks-fell"]])[0][1], atol=1e-6)


def test_a_trained_mix(path, elmo, texts, tmp_path):
    """gamma * sum_j lambda_j e_j with those of the classifier's file, of tokens and of texts."""
    learned = TextClassifier.load(path, path.with_name("classifier_trainable.pt")).info["combination"]["after"]
    weights = learned["gamma"] * np.array(learned["lambdas"])
    common = ("vectors.py", "--bilm", path, *texts, "--mix", path.with_name("classifier_trainable.pt"), "--output")
    assert run_script(*common, tmp_path / "x.hdf5").code == 0
    with h5py.File(tmp_path / "x.hdf5") as found:
        for i, layers in enumerate(elmo.embed(texts)):
            wanted = sum(weight * layer for weight, layer in zip(weights, layers, strict=True))
            np.testing.assert_allclose(found[str(i)][...], wanted[None], atol=1e-6)
            if i == 0:
                mean = wanted.mean(0)
    assert run_script(*common, tmp_path / "x.npz", "--per", "text").code == 0
    with np.load(tmp_path / "x.npz") as found:
        np.testing.assert_allclose(found["vectors"][0], mean, atol=1e-6)
    run = run_script(*common, tmp_path / "y.npz", "--mix", path.with_name("classifier_function.pt"))
    assert run.code == 2 and "take one of mode trainable" in run.err and not (tmp_path / "y.npz").exists()


def test_safetensors(path, elmo, texts, tmp_path):
    safe = pytest.importorskip("safetensors")
    run = run_script("vectors.py", "--bilm", path, *texts, "--output", tmp_path / "x.safetensors")
    assert run.code == 0, run.err
    with safe.safe_open(tmp_path / "x.safetensors", "numpy") as found:
        assert json.loads(bytes(found.get_tensor("texts"))) == texts
        assert json.loads(bytes(found.get_tensor("words"))) == [elmo.words(text) for text in texts]
        for i, wanted in enumerate(elmo.embed(texts)):
            np.testing.assert_allclose(found.get_tensor(str(i)), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "--output", "x.txt"], "should end in .npz, .hdf5 or .safetensors"),
        (["a", "--mix", "x.pt", "--layers", "1"], "exclude each other"),
        (["a", "--mix", "x.pt"], "x.pt"),
        (["a", "--layers", "0,3"], "numbers from 0 to 2"),
        ([], "give texts, or --input"),
        (["--input", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["a", "--device", "gpu"], "--device gpu"),
        (["a", "--device", "cuda:99"], "--device cuda:99"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_file(path, tmp_path, arguments, said):
    where = [] if "--output" in arguments else ["--output", tmp_path / "x.hdf5"]
    run = run_script("vectors.py", "--bilm", path, *arguments, *where)
    assert run.code == 2 and said in run.err and run.err.count("\n") == 1, run.err
    assert not list(tmp_path.iterdir())


def test_what_fails_on_the_way_leaves_what_was_there(tmp_path):
    def failing():
        yield "one", ["one"], np.zeros((3, 1, 4), np.float32)
        raise OSError(28, "No space left on device")

    for kind in (".npz", ".hdf5"):
        path = tmp_path / f"x{kind}"
        path.write_bytes(b"of before")
        with pytest.raises(UserError, match="No space left"):
            write_vectors(path, failing())
        assert path.read_bytes() == b"of before" and list(tmp_path.glob("*.tmp")) == []


def test_a_signal_ends_it_and_leaves_nothing(path, tmp_path):
    command = [sys.executable, "vectors.py", "--bilm", str(path), "--input", "-", "--output", str(tmp_path / "x.hdf5")]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write("Rain fell.\n" * 600)
    process.stdin.flush()
    while not list(tmp_path.iterdir()):  # the first portion is being written
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "stopped" in said
    assert not list(tmp_path.iterdir())
