"""`bilm vectors` as a user runs it, and the files that it writes."""

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
from bilm.inference.vector_files import write_vectors
from bilm.runtime.errors import UserError


@pytest.fixture(scope="module")
def path(trained_bilm):
    return trained_bilm


@pytest.fixture
def file(texts, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join([*texts, "", texts[0]]) + "\n")
    return tmp_path / "texts.txt"


def test_hdf5_as_allennlp_wrote_it(path, elmo, texts, file, tmp_path):
    run = run_script("-m bilm vectors", "--bilm", path, "--input", file, "--output", tmp_path / "x.hdf5")
    assert run.code == 0 and "7 texts" in run.out, run.err
    expected = elmo.embed([*texts, "", texts[0]])
    with h5py.File(tmp_path / "x.hdf5") as result:
        assert set(result) == {*map(str, range(7)), "sentence_to_index"}
        index = json.loads(result["sentence_to_index"][0])
        assert index == {texts[0]: "6", **{text: str(i) for i, text in enumerate(texts) if i}, "": "5"}
        for i, vectors in enumerate(expected):
            assert result[str(i)].shape == (3, len(elmo.words([*texts, "", texts[0]][i])), elmo.output_dim)
            np.testing.assert_allclose(result[str(i)][...], vectors, atol=1e-6)


def test_npz_of_tokens_and_of_texts(path, elmo, texts, tmp_path):
    common = ("-m bilm vectors", "--bilm", path, *texts)
    run = run_script(*common, "--output", tmp_path / "x.npz", "--layers", "2,0")
    assert run.code == 0, run.err
    with np.load(tmp_path / "x.npz") as result:
        vectors, offsets = result["vectors"], result["offsets"]
        words = bytes(result["words"]).decode().split("\n")
    for i, expected in enumerate(elmo.embed(texts)):
        part = slice(offsets[i], offsets[i + 1])
        np.testing.assert_allclose(vectors[part], expected[[2, 0]].transpose(1, 0, 2), atol=1e-6)
        assert words[part] == elmo.words(texts[i])
    run = run_script(*common, "--output", tmp_path / "y.npz", "--per", "text")
    with np.load(tmp_path / "y.npz") as result:
        np.testing.assert_allclose(result["vectors"], elmo.sentence_vectors(texts), atol=1e-6)
    for layers, expected in (("all", (0, 1, 2)), ("2,0", (2, 0))):
        run = run_script(*common, "--output", tmp_path / "y.npz", "--per", "text", "--layers", layers)
        with np.load(tmp_path / "y.npz") as result:
            np.testing.assert_allclose(result["vectors"], elmo.sentence_vectors(texts, expected), atol=1e-6)


def test_the_index_has_stripped_texts_and_the_number_of_each(tmp_path):
    texts = [" a / b \u3000", "a / b", "", "\t\xa0", "(c", "\ufeffd"]
    vectors = [np.full((3, len(text.split()), 2), i, np.float32) for i, text in enumerate(texts)]
    assert write_vectors(tmp_path / "x.hdf5", zip(texts, map(str.split, texts), vectors, strict=True)) == 6
    with h5py.File(tmp_path / "x.hdf5") as result:
        index = result["sentence_to_index"]
        assert index.shape == (1,) and h5py.check_string_dtype(index.dtype).length is None
        assert json.loads(index[0]) == {"a / b": "1", "": "3", "(c": "4", "\ufeffd": "5"}
        assert index[0] == json.dumps(json.loads(index[0])).encode()
        for i, expected in enumerate(vectors):
            assert result[str(i)].dtype == np.float32 and np.array_equal(result[str(i)], expected)


def test_a_token_with_a_line_break_is_refused_where_lines_separate_tokens(tmp_path):
    rows = [("a", ["a"], np.zeros((3, 1, 2))), ("b\nc", ["b\nc"], np.zeros((3, 1, 2)))]
    with pytest.raises(UserError, match=r"a token of text 2 contains a line break"):
        write_vectors(tmp_path / "x.npz", rows)
    assert not list(tmp_path.iterdir())
    assert write_vectors(tmp_path / "x.hdf5", rows) == 2
    assert write_vectors(tmp_path / "x.npz", [("b\nc", [], np.zeros(2))]) == 1


def test_tokens_are_separated_only_by_spaces_and_tabs(path, elmo, tmp_path):
    lines = ["12\xa0500 people", "The \u3000\tmark", "a\x85b c", "a\u2028b\u200bc\x1cd e", " f  g\t"]
    (tmp_path / "x.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = run_script(
        "-m bilm vectors", "--bilm", path, "--input", tmp_path / "x.txt", "--tokenized", "--output", tmp_path / "x.hdf5"
    )
    assert run.code == 0 and "words" not in run.err, run.err
    with h5py.File(tmp_path / "x.hdf5") as result:
        assert [result[str(i)].shape[1] for i in range(5)] == [2, 3, 2, 2, 2]
        expected = elmo.embed([["a\x85b", "c"]])[0]
        np.testing.assert_allclose(result["2"][...], expected, atol=1e-6)


def test_a_note_counts_the_texts_that_are_cut(path, tmp_path):
    (tmp_path / "x.txt").write_text(("a " * 129 + "\n") * 600 + "b\n" + "a " * 128 + "\n")
    message = (
        "Note: 600 of 602 texts have more than 128 words; only their first 128 words are read. ELMO.py --max-tokens"
    )
    for command in (
        ("-m bilm vectors", "--input", tmp_path / "x.txt", "--per", "text", "--output", tmp_path / "x.npz"),
        ("-m bilm predict", "--input", tmp_path / "x.txt", "--format", "csv"),
        ("-m bilm neighbours", "--build", "--input", tmp_path / "x.txt", "--index", tmp_path / "index"),
    ):
        run = run_script(*command, "--bilm", path)
        assert run.code == 0 and run.err.count("Note:") == 1 and message in run.err, run.err
    run = run_script("-m bilm predict", "--bilm", path, "--explain", "b c. " * 43, "b")
    assert run.code == 0 and "Note: 1 of 2 texts have" in run.err, run.err
    run = run_script("-m bilm vectors", "--bilm", path, "Rain fell.", "--output", tmp_path / "x.npz")
    assert run.code == 0 and "Note" not in run.err, run.err


def test_tokenized_words_are_not_changed(path, elmo, tmp_path):
    run = run_script(
        "-m bilm vectors", "--bilm", path, "--tokenized", "U.S. stocks-fell", "--output", tmp_path / "x.npz"
    )
    assert run.code == 0, run.err
    with np.load(tmp_path / "x.npz") as result:
        assert bytes(result["words"]) == b"U.S.\nstocks-fell"
        np.testing.assert_allclose(result["vectors"][:, 1], elmo.embed([["U.S.", "stocks-fell"]])[0][1], atol=1e-6)


def test_a_trained_mix(path, elmo, texts, tmp_path):
    """gamma * sum_j lambda_j e_j with the values of the classifier's file, for tokens and for texts."""
    learned = TextClassifier.load(path, path.with_name("classifier_trainable.pt")).info["combination"]["after"]
    weights = learned["gamma"] * np.array(learned["lambdas"])
    common = ("-m bilm vectors", "--bilm", path, *texts, "--mix", path.with_name("classifier_trainable.pt"), "--output")
    assert run_script(*common, tmp_path / "x.hdf5").code == 0
    with h5py.File(tmp_path / "x.hdf5") as result:
        for i, layers in enumerate(elmo.embed(texts)):
            expected = sum(weight * layer for weight, layer in zip(weights, layers, strict=True))
            np.testing.assert_allclose(result[str(i)][...], expected[None], atol=1e-6)
            if i == 0:
                mean = expected.mean(0)
    assert run_script(*common, tmp_path / "x.npz", "--per", "text").code == 0
    with np.load(tmp_path / "x.npz") as result:
        np.testing.assert_allclose(result["vectors"][0], mean, atol=1e-6)
    run = run_script(*common, tmp_path / "y.npz", "--mix", path.with_name("classifier_function.pt"))
    assert run.code == 2 and "name a classifier of mode trainable" in run.err and not (tmp_path / "y.npz").exists()


def test_safetensors(path, elmo, texts, tmp_path):
    safe = pytest.importorskip("safetensors")
    run = run_script("-m bilm vectors", "--bilm", path, *texts, "--output", tmp_path / "x.safetensors")
    assert run.code == 0, run.err
    with safe.safe_open(tmp_path / "x.safetensors", "numpy") as result:
        assert json.loads(bytes(result.get_tensor("texts"))) == texts
        assert json.loads(bytes(result.get_tensor("words"))) == [elmo.words(text) for text in texts]
        for i, expected in enumerate(elmo.embed(texts)):
            np.testing.assert_allclose(result.get_tensor(str(i)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--output", "x.txt"], "should end in .npz, .hdf5 or .safetensors"),
        (["a", "--mix", "x.pt", "--layers", "1"], "exclude each other"),
        (["a", "--mix", "x.pt"], "x.pt"),
        (["a", "--layers", "0,3"], "numbers from 0 to 2"),
        ([], "give texts, or --input"),
        (["--input", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["a", "--device", "gpu"], "device 'gpu'"),
        (["a", "--device", "cuda:99"], "device 'cuda:99'"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_file(path, tmp_path, arguments, message):
    where = [] if "--output" in arguments else ["--output", tmp_path / "x.hdf5"]
    run = run_script("-m bilm vectors", "--bilm", path, *arguments, *where)
    assert run.code == 2 and message in run.err and run.err.count("\n") == 1, run.err
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_the_earlier_file(tmp_path):
    def failing():
        yield "one", ["one"], np.zeros((3, 1, 4), np.float32)
        raise OSError(28, "No space left on device")

    for kind in (".npz", ".hdf5"):
        path = tmp_path / f"x{kind}"
        path.write_bytes(b"earlier")
        with pytest.raises(UserError, match="No space left"):
            write_vectors(path, failing())
        assert path.read_bytes() == b"earlier" and list(tmp_path.glob("*.tmp")) == []


def test_a_signal_leaves_no_file(path, tmp_path):
    command = [
        sys.executable,
        "-m",
        "bilm",
        "vectors",
        "--bilm",
        str(path),
        "--input",
        "-",
        "--output",
        str(tmp_path / "x.hdf5"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write("Rain fell.\n" * 600)
    process.stdin.flush()
    while not list(tmp_path.iterdir()):  # the first batch is being written
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "stopped" in message
    assert not list(tmp_path.iterdir())
