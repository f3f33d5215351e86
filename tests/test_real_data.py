"""On the real AG News, where AG_NEWS_DIR says it is."""

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import run_script

from bilm.config import VocabularyConfig
from bilm.corpus import read_csv, split_validation
from bilm.vocabulary import UNK, Tokenizer, Vocabulary

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("AG_NEWS_DIR" not in os.environ, reason="AG_NEWS_DIR is not set"),
]


@pytest.fixture(scope="module")
def documents():
    return read_csv(Path(os.environ["AG_NEWS_DIR"]) / "train.csv")


def test_it_is_read_whole(documents):
    counts = np.bincount(documents.labels)
    assert len(counts) == 4 and len(documents) >= 80_000
    assert counts.min() > 0.95 * counts.max(), "the four classes are of one size"


def test_nothing_is_left_of_the_markup(documents):
    left = [t for t in documents.texts if any(w in ("lt", "gt", "quot", "href", "br") for w in Tokenizer()(t))]
    assert len(left) < len(documents) / 2000, left[:5]


def test_vocabulary_and_unknown_words(documents):
    training, validation = split_validation(documents)
    assert len(validation) == pytest.approx(0.05 * len(documents), rel=0.05)
    vocabulary = Vocabulary.learn((documents.texts[i] for i in training), Tokenizer(), VocabularyConfig())
    assert 25_000 < len(vocabulary) < 36_000
    unknown = (vocabulary.encode(documents.texts[i] for i in validation).ids == UNK).mean()
    assert unknown < 0.03


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
