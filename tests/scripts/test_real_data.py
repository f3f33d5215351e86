"""On the real AG News, where AG_NEWS_DIR says it is."""

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import run_script

from bilm.config import VocabularyConfig
from bilm.runtime.files import file_hash
from bilm.text.ag_news import read_ag_news
from bilm.text.corpus import Source
from bilm.text.encoded_corpus import learn_and_encode, open_encoded
from bilm.text.split import split_validation
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import UNK

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not os.environ.get("AG_NEWS_DIR"), reason="AG_NEWS_DIR is not set"),
]


@pytest.fixture(scope="module")
def path():
    return Path(os.environ["AG_NEWS_DIR"]) / "train.csv"


def test_it_is_read_whole(path):
    counts = np.bincount([label for label, _ in read_ag_news(path)])
    assert len(counts) == 4 and counts.sum() >= 80_000
    assert counts.min() > 0.95 * counts.max(), "the four classes are of one size"


@pytest.fixture(scope="module")
def encoded(path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    learn_and_encode(Source(path, None, file_hash(path)), Tokenizer(), VocabularyConfig(), folder / "texts")
    return open_encoded(folder / "texts")


def test_vocabulary_and_unknown_words(encoded):
    _, validation = split_validation(encoded.labels, encoded.keys)
    assert len(validation) == pytest.approx(0.05 * len(encoded), rel=0.05)
    assert 25_000 < len(encoded.words) < 36_000
    texts = encoded.texts
    ids = np.concatenate([texts.ids[texts.offsets[i] : texts.offsets[i + 1]] for i in validation])
    assert (ids == UNK).mean() < 0.03


def test_nothing_is_left_of_the_markup(encoded):
    id_of = {word: i for i, word in enumerate(encoded.words)}
    markup = [id_of[word] for word in ("lt", "gt", "quot", "href", "br") if word in id_of]
    count = int(np.isin(encoded.texts.ids, markup).sum())
    assert count < len(encoded) / 2000, [encoded.words[i] for i in markup]


@pytest.mark.slow
def test_a_quick_look_learns_something(tmp_path):
    """2,000 rows and half a minute: far above chance already."""
    common = ["--limit", 2000, "--output", tmp_path]
    env = {"AG_NEWS_DIR": os.environ["AG_NEWS_DIR"]}
    assert run_script("ELMO.py", *common, "--epochs", 5, **env).code == 0
    assert run_script("classification.py", *common, "--mode", "trainable", "--epochs", 8, **env).code == 0
    run = run_script("evaluate.py", *common, **env)
    assert run.code == 0
    accuracy = float(run.out.split("classifier trainable: accuracy ")[1].split()[0])
    assert accuracy > 0.65
