import numpy as np
import pytest
from conftest import SAMPLE
from hypothesis import given
from hypothesis import strategies as st

from bilm.evaluation import near_duplicates
from bilm.evaluation.near_duplicates import SPAN, find_duplicates, near_rows, nearest
from bilm.text.corpus import Corpus


def jaccard(one, other):
    """The definition, with sets of tuples."""
    sets = [{tuple((*w, *[""] * SPAN)[i : i + SPAN]) for i in range(max(1, len(w) - SPAN + 1))} for w in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("block", [1, 3, 4, 500])
def test_by_hand(monkeypatch, block):
    """With any number of texts compared at a time."""
    monkeypatch.setattr(near_duplicates, "BLOCK", block)
    texts = [list("abcdef"), list("abcdxyz"), ["q"], list("abcdef")]
    best, similarity = nearest(texts, [list("abcdeg"), ["q"], list("none"), list("abcdef")])
    assert best.tolist() == [0, 2, -1, 0] and similarity.tolist() == [2 / 4, 1, 0, 1]


WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=9)


@given(st.lists(WORDS, min_size=1, max_size=6), WORDS)
def test_it_is_the_jaccard_index(texts, query):
    (best,), (similarity,) = nearest(texts, [query])
    expected = [jaccard(words, query) for words in texts]
    assert similarity == pytest.approx(max(expected))
    assert best == (expected.index(max(expected)) if max(expected) else -1)


def test_rows_by_hand():
    similarity, nearest_labels, labels = np.array([0.6, 0.9, 0.59, 0.0]), np.array([1, 0, 3, 2]), np.array([1, 2, 3, 0])
    rows, differ = near_rows(similarity, nearest_labels, labels)
    assert rows.tolist() == [0, 1] and differ == 0.5
    assert near_rows(np.zeros(2), labels[:2], labels[:2])[1] is None


def test_only_rows_that_are_trained_on_count(tmp_path):
    """Every row of the sample is its own duplicate, but for the validation rows."""
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_bytes((SAMPLE / "train.csv").read_bytes())
    rows, differ = find_duplicates(Corpus.in_folder("copy", tmp_path), None)
    assert len(rows) == 160 and differ == 0
