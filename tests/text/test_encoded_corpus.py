"""Ids on disk equal ids in memory; a folder is reused only if its manifest is the same and its files are complete."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bilm.config import BiLMConfig, TokenizerConfig, VocabularyConfig
from bilm.modules.language_model import BiLM
from bilm.runtime.errors import UserError
from bilm.runtime.files import file_hash
from bilm.text import encoded_corpus
from bilm.text.corpus import Source, Unlabelled
from bilm.text.encoded_corpus import encode, learn_and_encode, open_encoded
from bilm.text.split import split_validation, text_key
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import UNK, Vocabulary
from bilm.training.pretraining import PretrainingTask

CONFIG = VocabularyConfig(min_count=2)


@pytest.fixture(params=[2**20, 16], ids=["one chunk", "many chunks"])
def chunk(request, monkeypatch):
    monkeypatch.setattr(encoded_corpus, "_CHUNK", request.param)


@pytest.fixture
def rows() -> list[tuple[int, str]]:
    """60 texts of 1 to 11 words, most of which occur often; two texts are the same."""
    random = np.random.default_rng(0)
    words = ["stocks", "fell", "rose", "coach", "match", "bank", "oil", "water", "moon", "news"]
    texts = [f"{' '.join(random.choice(words, n))} {n}" for n in random.integers(0, 11, 59)]
    return [(i % 4, text) for i, text in enumerate([*texts, texts[0]])]


@pytest.fixture
def source(rows, tmp_path) -> Source:
    return written(rows, tmp_path)


def written(rows, folder) -> Source:
    path = folder / "train.csv"
    path.write_text("".join(f'"{label + 1}","title","{text}"\n' for label, text in rows), encoding="utf-8")
    return Source(path, None, file_hash(path))


def in_memory(rows):
    texts = [text for _, text in rows]
    labels = np.array([label for label, _ in rows])
    keys = np.array([text_key(text) for text in texts], dtype=np.uint64)
    training, _ = split_validation(labels, keys)
    vocabulary = Vocabulary.learn((texts[i] for i in training), Tokenizer(), CONFIG)
    return labels, keys, vocabulary, vocabulary.encode(texts)


def test_truncated_texts_are_counted_in_the_folder(rows, source, tmp_path):
    tokenizer = Tokenizer(TokenizerConfig(max_tokens=4))
    longer = sum(len(Tokenizer()(text)) > 4 for _, text in rows)
    assert 0 < longer < 60
    for _ in range(2):  # the second time the folder is reused
        learn_and_encode(source, tokenizer, CONFIG, tmp_path / "learned")
        assert open_encoded(tmp_path / "learned").num_truncated == longer
    encode(source, Vocabulary.learn(["a"], tokenizer, CONFIG), tmp_path / "encoded")
    assert open_encoded(tmp_path / "encoded").num_truncated == longer


def test_the_manifest_has_the_word_rule_only_if_it_matters(source, tmp_path):
    """A folder from before the rule "unicode" existed is reused for AG News and the sample, and for no other data."""
    new, old = Tokenizer(), Tokenizer(TokenizerConfig(word_rule="legacy"))
    for corpus, more, same in (("ag_news", None, True), ("sample", None, True), ("reviews", None, False)):
        rows = replace(source, corpus=corpus, unlabelled=more)
        settings = [encoded_corpus._manifest(rows, tokenizer)["tokenizer"] for tokenizer in (new, old)]
        assert (settings[0] == settings[1]) == same
        assert not same or settings[0] == {"lowercase": True, "max_tokens": 128}
    more = Unlabelled(source.path, None, source.sha256)
    assert "word_rule" in encoded_corpus._manifest(replace(source, corpus="ag_news", unlabelled=more), new)["tokenizer"]


@pytest.mark.usefixtures("chunk")
def test_learned_on_disk_as_in_memory(rows, source, tmp_path):
    learn_and_encode(source, Tokenizer(), CONFIG, tmp_path / "texts")
    result = open_encoded(tmp_path / "texts")
    labels, keys, vocabulary, texts = in_memory(rows)
    assert result.words == vocabulary.words and len(vocabulary) > 10
    assert np.array_equal(result.labels, labels) and np.array_equal(result.keys, keys)
    assert np.array_equal(result.texts.ids, texts.ids) and np.array_equal(result.texts.offsets, texts.offsets)
    assert result.texts.ids.dtype == np.int32 and not result.texts.ids.flags.writeable
    assert (result.texts.ids == UNK).any() and len(result) == 60


@pytest.mark.usefixtures("chunk")
def test_an_open_ended_vocabulary_has_an_id_for_every_word(rows, source, tmp_path):
    """Each token has the id of its word, if the vocabulary is learned from the texts and if it is given."""
    *_, closed, texts = in_memory(rows)
    vocabulary = Vocabulary(closed.words, Tokenizer(), open_ended=True)
    learn_and_encode(source, Tokenizer(), CONFIG, tmp_path / "learned", open_ended=True)
    encode(source, vocabulary, tmp_path / "encoded")
    for folder in ("learned", "encoded"):
        result = open_encoded(tmp_path / folder)
        size = len(result.words)
        assert result.words == closed.words and len(result.texts.lexicon) > size
        words = [result.texts.lexicon.words[i] for i in result.texts.ids]
        assert [word for word in words if word not in ("<s>", "</s>")] == [
            w for _, text in rows for w in Tokenizer()(text)
        ]
        assert np.array_equal(np.where(result.texts.ids < size, result.texts.ids, UNK), texts.ids)
    # The ids of the open-ended vocabulary are not taken for those of the closed one.
    encode(source, closed, tmp_path / "encoded")
    assert np.array_equal(open_encoded(tmp_path / "encoded").texts.ids, texts.ids)


@pytest.mark.usefixtures("chunk")
def test_encoded_on_disk_as_in_memory(rows, source, tmp_path):
    *_, vocabulary, texts = in_memory(rows)
    encode(source, vocabulary, tmp_path / "texts")
    result = open_encoded(tmp_path / "texts")
    assert np.array_equal(result.texts.ids, texts.ids) and np.array_equal(result.texts.offsets, texts.offsets)
    assert result.words == vocabulary.words


def test_the_same_loss_from_disk_as_from_memory(rows, source, tmp_path):
    *_, vocabulary, texts = in_memory(rows)
    encode(source, vocabulary, tmp_path / "texts")
    model = BiLM(BiLMConfig(width=7, dropout=0.0), len(vocabulary))
    both = []
    for encoded in (texts, open_encoded(tmp_path / "texts").texts):
        task = PretrainingTask(encoded, np.arange(50), np.arange(50, 60), 64, 0, torch.device("cpu"))
        both.append([task.loss(model, item, 0, 1)[0].item() for item in task.plan(0)])
        both[-1].append(task.validate(model)["perplexity"])
    assert both[0] == both[1] and len(both[0]) > 5


def test_a_complete_folder_is_reused(source, tmp_path, monkeypatch):
    folder = tmp_path / "texts"
    learn_and_encode(source, Tokenizer(), CONFIG, folder)
    monkeypatch.setattr(Source, "rows", None)  # a call would fail
    learn_and_encode(source, Tokenizer(), CONFIG, folder)


@pytest.mark.parametrize("cut", ["cut", "empty"])
@pytest.mark.parametrize("what", ["file", "limit", "tokenizer", "vocabulary", "ids", "rows", "json"])
def test_other_or_damaged_ids_are_replaced(rows, source, tmp_path, what, cut):
    folder = tmp_path / "texts"
    learn_and_encode(source, Tokenizer(), CONFIG, folder)
    tokenizer, config = Tokenizer(), CONFIG
    if what == "file":
        source = written(rows[:40], tmp_path)
    elif what == "limit":
        source = Source(source.path, 40, source.sha256)
    elif what == "tokenizer":
        tokenizer = Tokenizer(TokenizerConfig(max_tokens=2))
    elif what == "vocabulary":
        config = VocabularyConfig(min_count=20)
    else:
        path = folder / {"ids": "ids.bin", "rows": "rows.npz", "json": "corpus.json"}[what]
        path.write_bytes(path.read_bytes()[:-4] if cut == "cut" else b"")
    learn_and_encode(source, tokenizer, config, folder)
    learn_and_encode(source, tokenizer, config, tmp_path / "other")
    result, expected = open_encoded(folder), open_encoded(tmp_path / "other")
    assert np.array_equal(result.texts.ids, expected.texts.ids) and result.words == expected.words


def test_ids_of_another_vocabulary_are_replaced(rows, source, tmp_path):
    *_, vocabulary, _ = in_memory(rows)
    encode(source, vocabulary, tmp_path / "texts")
    reordered = Vocabulary([*vocabulary.words[:4], *vocabulary.words[:3:-1]], vocabulary.tokenizer)
    encode(source, reordered, tmp_path / "texts")
    assert np.array_equal(open_encoded(tmp_path / "texts").texts.ids, reordered.encode(t for _, t in rows).ids)


def test_a_row_that_is_not_valid_leaves_the_folder_unchanged(rows, source, tmp_path):
    learn_and_encode(source, Tokenizer(), CONFIG, tmp_path / "texts")
    before = sorted(tmp_path.rglob("*"))
    bad = written([*rows, (7, "no such class")], tmp_path)
    with pytest.raises(UserError, match=r"row 61 .*'8' is not a class"):
        learn_and_encode(bad, Tokenizer(), CONFIG, tmp_path / "texts")
    assert sorted(tmp_path.rglob("*")) == before
    open_encoded(tmp_path / "texts")


def test_a_folder_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/texts could not be written"):
        learn_and_encode(source, Tokenizer(), CONFIG, tmp_path / "file" / "texts")


def test_a_file_with_another_hash_is_refused(rows, source, tmp_path):
    """It has changed, or is another file on another machine."""
    written(rows[:50], tmp_path)
    with pytest.raises(UserError, match="has changed, or is another file"):
        learn_and_encode(source, Tokenizer(), CONFIG, tmp_path / "texts")
    assert not (tmp_path / "texts").exists() and not list(tmp_path.glob(".*"))


def test_a_folder_that_another_process_wrote_meanwhile_stays(source, tmp_path, monkeypatch):
    folder = tmp_path / "texts"

    def meanwhile(self, rows=Source.rows):
        monkeypatch.setattr(Source, "rows", rows)
        learn_and_encode(source, Tokenizer(), CONFIG, folder)
        meanwhile.inode = folder.stat().st_ino
        return rows(self)

    monkeypatch.setattr(Source, "rows", meanwhile)
    learn_and_encode(source, Tokenizer(), CONFIG, folder)
    assert folder.stat().st_ino == meanwhile.inode and not list(tmp_path.glob(".*"))
