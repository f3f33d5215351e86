"""`bilm neighbours` as a user runs it, and its index compared with all similarities computed by NumPy."""

import json
import shutil
import signal

import numpy as np
import pytest
from conftest import SAMPLE, run_script

from bilm import ELMo
from bilm.cli.neighbours import find_word
from bilm.inference.token_index import Index, build_index
from bilm.runtime.errors import UserError
from bilm.text.ag_news import read_ag_news


@pytest.fixture(scope="module")
def path(trained_bilm):
    return trained_bilm


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return [text for _, text in read_ag_news(SAMPLE / "test.csv", 40)]


@pytest.fixture(scope="module")
def folder(elmo, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("neighbours") / "index"
    build_index(elmo, [corpus[:25], corpus[25:]], folder)
    return folder


def test_the_nearest_are_those_of_the_largest_cosine(elmo, corpus, folder):
    index, everything = Index(folder, elmo), elmo.embed(corpus)
    for layer in range(3):
        query = everything[7][layer, 2]
        best = []
        for text, vectors in zip(corpus, everything, strict=True):
            cosines = vectors[layer] @ query / np.linalg.norm(vectors[layer], axis=1) / np.linalg.norm(query)
            best.append((cosines.max(), text, int(cosines.argmax())))
        expected = sorted((b for b in best if b[1] != corpus[7]), key=lambda b: -b[0])[:6]
        result = index.nearest(query, layer, 6, exclude=corpus[7])
        np.testing.assert_allclose([n.similarity for n in result], [b[0] for b in expected], atol=2e-3)
        assert len({n.text for n in result}) == 6 and corpus[7] not in {n.text for n in result}
        for neighbour in result:
            vectors = everything[corpus.index(neighbour.text)][layer]
            cosine = (
                vectors[neighbour.position]
                @ query
                / np.linalg.norm(vectors[neighbour.position])
                / np.linalg.norm(query)
            )
            assert cosine == pytest.approx(neighbour.similarity, abs=2e-3)
            assert elmo.words(neighbour.text) == neighbour.words
    itself = index.nearest(everything[7][2, 2], 2, 1)[0]
    assert itself.similarity == pytest.approx(1, abs=1e-3)
    found = everything[corpus.index(itself.text)][2, itself.position]
    # Itself, or a vector whose cosine to it is 1 in half precision.
    np.testing.assert_allclose(found, everything[7][2, 2], atol=0.05 * np.abs(found).max())
    assert len(index.nearest(everything[7][2, 2], 2, 1000)) == len(set(corpus))


def test_an_index_is_complete_and_belongs_to_its_language_model(elmo, corpus, folder, bilm, vocabulary, tmp_path):
    from bilm.checkpoints.model_format import Pretrained

    other = ELMo(Pretrained(bilm, vocabulary, {}, "another"))
    with pytest.raises(UserError, match="another language model"):
        Index(folder, other)
    newer = tmp_path / "newer"
    shutil.copytree(folder, newer)
    manifest = json.loads((newer / "index.json").read_text(encoding="utf-8"))
    (newer / "index.json").write_text(json.dumps({**manifest, "format": 99}), encoding="utf-8")
    with pytest.raises(UserError, match="another version of the program"):
        Index(newer, elmo)
    shutil.rmtree(newer)
    with pytest.raises(UserError, match=r"newer does not exist\. Build it first"):
        Index(newer, elmo)
    with pytest.raises(UserError, match="is not an index"):
        Index(tmp_path, elmo)
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "thesis.tex").write_text("not an index")
    with pytest.raises(UserError, match="is not an index"):
        build_index(elmo, [corpus], tmp_path)
    assert (tmp_path / "thesis.tex").exists()
    (tmp_path / "thesis.tex").unlink()
    with pytest.raises(UserError, match="is not an index"):  # an index.json of something else
        build_index(elmo, [corpus], tmp_path)
    assert (tmp_path / "index.json").exists()
    with pytest.raises(UserError, match="no word"):
        build_index(elmo, [["", " "]], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    before = sorted(path.read_bytes() for path in folder.iterdir())

    def failing():
        yield corpus[:3]
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        build_index(elmo, failing(), folder)
    assert sorted(path.read_bytes() for path in folder.iterdir()) == before and len(list(folder.parent.iterdir())) == 1
    assert build_index(elmo, [["Rain .", ""]], tmp_path / "new") == 2
    assert Index(tmp_path / "new", elmo).nearest(np.ones(elmo.output_dim), 0, 5)[0].words == ["rain", "."]


def test_what_a_killed_build_left_is_removed_and_the_earlier_index_put_back(elmo, corpus, folder, tmp_path):
    """Killed between two renames, the earlier index is in the temporary folder alone."""
    index, temporary = tmp_path / "my.index", tmp_path / ".my.index.tmp"
    shutil.copytree(folder, temporary / "old")
    (temporary / "new").mkdir()
    with pytest.raises(UserError, match="no word"):
        build_index(elmo, [[""]], index)
    assert len(Index(index, elmo).nearest(np.ones(elmo.output_dim), 0, 1)) == 1 and not temporary.exists()
    (temporary / "new").mkdir(parents=True)
    build_index(elmo, [corpus], index)
    assert [path.name for path in tmp_path.iterdir()] == ["my.index"]


def test_as_a_user_runs_it(path, tmp_path):
    common = ("-m bilm neighbours", "--bilm", path, "--index", tmp_path / "my.index")
    (tmp_path / "texts.txt").write_text("Rain fell on the bank.\nThe bank lent money.\n")
    run = run_script(*common, "--build", "--input", tmp_path / "texts.txt")
    assert run.code == 0 and "11 tokens" in run.out, run.err
    run = run_script(*common, "--word", "Bank", "--count", 1, "The bank fell.")
    assert run.code == 0 and run.out.startswith("e0: the [bank] fell"), run.err
    model = ELMo.load(path)
    (vectors,) = model.embed(["The bank fell."])
    index = Index(tmp_path / "my.index", model)
    for layer in range(3):
        (result,) = index.nearest(vectors[layer, 1], layer, 1, exclude="The bank fell.")
        assert f"e{layer}: the [bank] fell .\n  {result.similarity:.3f}  " in run.out


def test_the_next_command_names_the_language_model_and_the_index(path, tmp_path):
    (tmp_path / "texts.txt").write_text("Rain fell on the bank.\n")
    common = ("-m bilm neighbours", "--bilm", path, "--index", tmp_path / "my index")
    run = run_script(*common, "--build", "--input", tmp_path / "texts.txt")
    assert f"Next: python -m bilm neighbours --bilm {path} --index '{tmp_path}/my index' --word" in run.out


@pytest.mark.parametrize(("number", "position"), [("3", 1), ("2", 1)])
def test_a_number_that_is_also_a_word(number, position):
    """Of a number that occurs once, the word is meant; of one that occurs more than once, its place."""
    words = ["score", "3", "2"] if number == "3" else ["score", "2", "2"]
    assert find_word(number, words) == position


def test_a_part_that_was_not_written_is_an_error_and_the_earlier_index_stays(path, tmp_path):
    """The limit on the size of a file acts as a full disk does."""
    resource = pytest.importorskip("resource")
    (tmp_path / "few.txt").write_text("Rain fell.\n")
    (tmp_path / "many.txt").write_text("Rain fell.\n" * 60)
    common = ("-m bilm neighbours", "--bilm", path, "--index", tmp_path / "index", "--build", "--input")
    assert run_script(*common, tmp_path / "few.txt").code == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "index").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, limits[1]))
    try:
        run = run_script(*common, tmp_path / "many.txt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert run.code == 2 and "could not be written: File too large" in run.err, run.err
    assert {file.name: file.read_bytes() for file in (tmp_path / "index").iterdir()} == before


def test_all_equal_tokens_are_found(elmo, tmp_path):
    """In layer 0 every "rain" has the same vector, so all of them are equally near."""
    texts = [f"Rain {number}" for number in range(3000)] + ["Snow fell"]
    build_index(elmo, [texts, texts], tmp_path / "index")
    (vectors,) = elmo.embed(["rain"])
    result = Index(tmp_path / "index", elmo).nearest(vectors[0, 0], 0, 3000)
    assert len({n.text for n in result}) == 3000 and all(n.position == 0 and n.similarity > 0.999 for n in result)


def test_a_damaged_index_is_one_line(elmo, corpus, tmp_path):
    for name, content in (
        ("layer_1.bin", b"\0" * 7),
        ("tokens.npz", b"PK"),
        ("texts.jsonl", b"{"),
        ("index.json", b"[]"),
    ):
        build_index(elmo, [corpus[:4]], tmp_path / "index")
        (tmp_path / "index" / name).write_bytes(content)
        with pytest.raises(UserError):
            Index(tmp_path / "index", elmo)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["The bank"], "name the word"),
        (["--build"], "either --build --input FILE"),
        (["--word", "river", "The bank"], "'river' is not among the words"),
        (["--word", "the", "The bank of the river"], "by its number: 1, 4"),
        (["--word", "9", "The bank"], "the text has 2 words"),
        (["--word", "2", "Score 3 2 2"], "by its number: 3, 4"),
    ],
)
def test_mistakes_are_one_line(path, folder, arguments, problem):
    run = run_script("-m bilm neighbours", "--bilm", path, "--index", folder, *arguments)
    assert run.code == 2 and problem in run.err and run.err.count("\n") == 1, run.err


def test_texts_of_all_kinds_through_the_other_tools(path, tmp_path):
    """A hundred thousand words, no words, control characters, other scripts: the output is short and printable."""
    odd = ["word " * 100_000, "", " ", "\x07\x1b[31m \u202e", "日本語のニュース", "🏀" * 500, "<b></b>", "a" * 100_000]
    (tmp_path / "odd.txt").write_text("\n".join(odd) + "\n", encoding="utf-8")
    own, inputs, index = ["--bilm", path], ["--input", tmp_path / "odd.txt"], ["--index", tmp_path / "index"]
    for command in (
        ["-m bilm vectors", *inputs, "--output", tmp_path / "x.hdf5"],
        ["-m bilm vectors", *inputs, "--output", tmp_path / "x.npz", "--per", "text"],
        ["-m bilm neighbours", "--build", *inputs, *index],
        ["-m bilm neighbours", *index, "--word", "word", "a word"],
        ["-m bilm lm", odd[1]],
        ["-m bilm lm", odd[3]],
        ["-m bilm lm", "--after", 3, odd[1]],
    ):
        run = run_script(*command, *own)
        assert run.code == 0 and max(map(len, run.out.splitlines()), default=0) < 2000, run.err
        assert "\x1b" not in run.out and "\x07" not in run.out
