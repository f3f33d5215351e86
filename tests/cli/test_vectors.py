"""`bilm vectors` as a user runs it, and the files that it writes."""

import json
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_script

from bilm import TextClassifier
from bilm.inference import vector_files
from bilm.inference.vector_files import write_vectors
from bilm.runtime.errors import UserError
from bilm.runtime.locks import acquire_lock
from bilm.text import batching


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
    lines = ["12\xa0500 people", "The \u3000\tmark", "a\x85b c", "a\u2028b\u200bc\x1cd e", " f  g\t", "12\xa0500"]
    (tmp_path / "x.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = run_script(
        "-m bilm vectors", "--bilm", path, "--input", tmp_path / "x.txt", "--tokenized", "--output", tmp_path / "x.hdf5"
    )
    assert run.code == 0 and "words" not in run.err, run.err
    with h5py.File(tmp_path / "x.hdf5") as result:
        assert [result[str(i)].shape[1] for i in range(6)] == [2, 3, 2, 2, 2, 1]
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
    (tmp_path / "other").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    with safe.safe_open(tmp_path / "x.safetensors", "numpy") as result:
        assert json.loads(bytes(result.get_tensor("texts"))) == texts
        assert json.loads(bytes(result.get_tensor("words"))) == [elmo.words(text) for text in texts]
        for i, expected in enumerate(elmo.embed(texts)):
            np.testing.assert_allclose(result.get_tensor(str(i)), expected, atol=1e-6)


def test_parquet(path, elmo, texts, file, tmp_path):
    """A table of texts, read back with pandas; an empty line is a text without words."""
    pytest.importorskip("pyarrow")
    common = ("-m bilm vectors", "--bilm", path, "--input", file, "--output", tmp_path / "x.parquet")
    expected = elmo.embed([*texts, "", texts[0]])
    for layers, columns in ((None, ["e0", "e1", "e2"]), ("2,0", ["e2", "e0"])):
        run = run_script(*common, *(["--layers", layers] if layers else []))
        assert run.code == 0 and "7 texts" in run.out, run.err
        table = pd.read_parquet(tmp_path / "x.parquet")
        assert list(table) == ["text", "words", *columns] and table["text"].tolist() == [*texts, "", texts[0]]
        assert [words.tolist() for words in table["words"]] == [elmo.words(text) for text in table["text"]]
        for name in columns:
            assert len(table[name][5]) == 0
            for result, vectors in zip(table[name].drop(5), [*expected[:5], expected[6]], strict=True):
                np.testing.assert_allclose(np.stack(result), vectors[int(name[1])], atol=1e-6)
    assert run_script(*common, "--mix", path.with_name("classifier_trainable.pt")).code == 0
    assert list(pd.read_parquet(tmp_path / "x.parquet")) == ["text", "words", "mix"]
    assert run_script(*common, "--per", "text").code == 0
    table = pd.read_parquet(tmp_path / "x.parquet")
    assert list(table) == ["text", "vector"] and table["text"].tolist() == [*texts, "", texts[0]]
    np.testing.assert_allclose(np.stack(table["vector"]), elmo.sentence_vectors(table["text"]), atol=1e-6)


@pytest.mark.parametrize("words", [0, 3])
def test_parquet_is_written_in_row_groups(tmp_path, monkeypatch, words):
    """The file grows while the texts are read; lists of values have a fixed size."""
    pa, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    monkeypatch.setattr(vector_files, "_ROW_GROUP", 100)
    vectors, sizes = np.random.default_rng(0).random((20, 2, words, 4) if words else (20, 4), np.float32), []

    def rows():
        for i, array in enumerate(vectors):
            sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
            yield f"text {i}", ["a"] * words, array

    assert write_vectors(tmp_path / "x.parquet", rows(), layers=["e0", "e1"]) == 20
    assert sizes[-1] > sizes[10] > sizes[0]
    file = parquet.ParquetFile(tmp_path / "x.parquet")
    assert file.num_row_groups == (10 if words else 3)
    kind = file.schema_arrow.field("e1" if words else "vector").type
    assert (kind.value_type if words else kind) == pa.list_(pa.field("element", pa.float32()), 4)
    table = file.read().to_pandas()
    assert table["text"].tolist() == [f"text {i}" for i in range(20)]
    for i, array in enumerate(vectors):
        result = np.stack([np.stack(table[name][i]) for name in ("e0", "e1")]) if words else table["vector"][i]
        assert np.array_equal(result, array)


@pytest.mark.parametrize("kind", vector_files.KINDS)
def test_float16(path, elmo, texts, tmp_path, kind):
    if kind in vector_files._PACKAGES:
        pytest.importorskip(vector_files._PACKAGES[kind])
    file = tmp_path / f"x{kind}"
    arguments = ("--per", "text", "--dtype", "float16", "--output", file)
    run = run_script("-m bilm vectors", "--bilm", path, *texts, *arguments)
    assert run.code == 0, run.err
    if kind == ".npz":
        vectors = np.load(file)["vectors"]
    elif kind == ".parquet":
        vectors = np.stack(pd.read_parquet(file)["vector"])
    elif kind == ".hdf5":
        with h5py.File(file) as result:
            vectors = np.stack([result[str(i)] for i in range(len(texts))])
    else:
        tensors = pytest.importorskip("safetensors.numpy").load_file(file)
        vectors = np.stack([tensors[str(i)] for i in range(len(texts))])
    assert vectors.dtype == np.float16
    np.testing.assert_allclose(vectors, elmo.sentence_vectors(texts), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("kind", vector_files.KINDS)
def test_a_value_that_float16_cannot_hold_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(vector_files, "_ROW_GROUP", 1)
    rows = [("a", ["a"], np.full(2, 65504.0)), ("b", ["b"], np.array([1.0, -70_000.0], np.float32))]
    with pytest.raises(UserError, match=r"text 2 has a value beyond 65,504, the largest float16\. Write float32\."):
        write_vectors(tmp_path / f"x{kind}", rows, "float16")
    assert not list(tmp_path.iterdir())
    assert write_vectors(tmp_path / f"x{kind}", rows[:1], "float16") == 1
    assert write_vectors(tmp_path / f"x{kind}", rows, "float32") == 2


def test_the_largest_float16_is_kept(tmp_path):
    write_vectors(tmp_path / "x.npz", [("a", ["a"], np.full(2, 65504.0))], "float16")
    assert np.load(tmp_path / "x.npz")["vectors"].tolist() == [[65504.0] * 2]


def test_a_file_that_another_process_is_writing_is_refused(tmp_path):
    path, rows = tmp_path / "x.npz", [("a", ["a"], np.zeros(3, np.float32))]
    release = acquire_lock(tmp_path / ".x.npz.lock", "is writing it")
    path.write_bytes(b"earlier")
    with pytest.raises(UserError, match=r"is writing .*x\.npz. Name another file"):
        write_vectors(path, rows)
    assert path.read_bytes() == b"earlier"
    release()
    assert write_vectors(path, rows) == 1 and [p.name for p in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("kind", vector_files.KINDS)
def test_no_text_is_a_file_without_vectors(tmp_path, kind):
    if kind in vector_files._PACKAGES:
        pytest.importorskip(vector_files._PACKAGES[kind])
    assert write_vectors(tmp_path / f"x{kind}", [], layers=["e0"]) == 0
    assert kind != ".parquet" or pd.read_parquet(tmp_path / "x.parquet").shape == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--output", "x.txt"], "should end in .npz, .hdf5, .safetensors or .parquet"),
        (["a", "--mix", "x.pt", "--layers", "1"], "exclude each other"),
        (["a", "--mix", "x.pt"], "x.pt"),
        (["a", "--layers", "0,3"], "numbers from 0 to 2"),
        (["a", "--layers", "1,1"], "different numbers from 0 to 2"),
        ([], "give either texts or --input"),
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


def test_a_failure_keeps_the_earlier_file(tmp_path, monkeypatch):
    def failing():
        yield "one", ["one"], np.zeros(4, np.float32)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vector_files, "_ROW_GROUP", 1)  # so that a table has been started
    for kind in vector_files.KINDS:
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
    while not list(tmp_path.glob(".*.tmp")):  # the first batch is being written
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "stopped" in message
    assert not list(tmp_path.iterdir())


def test_the_file_of_the_texts_is_not_replaced(path, tmp_path, texts):
    pd.DataFrame({"text": texts, "label": 1}).to_parquet(tmp_path / "x.parquet")
    before = (tmp_path / "x.parquet").read_bytes()
    source = ("--input", tmp_path / "x.parquet", "--column", "text")
    for arguments in (
        ("vectors", "--per", "text", "--output", tmp_path / "sub/../x.parquet"),
        ("predict", "--explain", "--html", tmp_path / "x.parquet"),
    ):
        (tmp_path / "sub").mkdir(exist_ok=True)
        run = run_script("-m", "bilm", *arguments, *source, "--bilm", path)
        assert run.code == 2 and "would be replaced" in run.err and run.err.count("\n") == 1, run.err
        assert (tmp_path / "x.parquet").read_bytes() == before


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Can't decrement id ref count (unable to close file, errno = 28, error message = 'No space')"),
        OSError("Can't write data (file write failed: time = Thu Nov 26\n, filename = 'x', errno = 28, buf = 0x1)"),
    ],
)
def test_a_full_disk_is_one_line_from_hdf5_too(tmp_path, error):
    def failing():
        yield "one", ["one"], np.zeros(4, np.float32)
        raise error

    with pytest.raises(UserError, match=r"could not be written: No space left on device\. The earlier file") as raised:
        write_vectors(tmp_path / "x.hdf5", failing())
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused_before_it_is_computed(tmp_path):
    def never():
        raise AssertionError("computed")
        yield

    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UserError, match=r"folder.npz is a folder"):
        write_vectors(tmp_path / "folder.npz", never())
    (tmp_path / ".x.npz.tmp").mkdir()  # cannot be opened, as in a folder without permission
    with pytest.raises(UserError, match=r"x.npz could not be written"):
        write_vectors(tmp_path / "x.npz", never())


def test_long_texts_are_computed_in_parts(path, tmp_path, monkeypatch):
    monkeypatch.setattr(batching, "TOKENS_AT_ONCE", 10)
    lengths = [3, 9, 25, 4, 6, 1]
    assert [(s.start, s.stop) for s in batching.consecutive_parts(lengths)] == [(0, 1), (1, 2), (2, 3), (3, 5), (5, 6)]
    (tmp_path / "x.txt").write_text("".join("rain " * n + "\n" for n in lengths))
    common = ("-m bilm vectors", "--bilm", path, "--tokenized", "--input", tmp_path / "x.txt", "--output")
    assert run_script(*common, tmp_path / "parts.npz").code == 0
    monkeypatch.setattr(batching, "TOKENS_AT_ONCE", 1000)
    assert run_script(*common, tmp_path / "whole.npz").code == 0
    parts, whole = (np.load(tmp_path / f"{name}.npz") for name in ("parts", "whole"))
    assert parts["offsets"].tolist() == [0, *np.cumsum(lengths)]
    np.testing.assert_allclose(parts["vectors"], whole["vectors"], atol=1e-5)
