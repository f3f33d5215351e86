"""Typing errors and unknown words: which words are changed, how often, and what is counted."""

import json

import numpy as np
import pytest
from conftest import SAMPLE, run_script

from bilm.evaluation.robustness import hardest_rows, misspell, robustness, unknown_shares, with_errors
from bilm.text.vocabulary import Vocabulary


def one_edit_apart(a: str, b: str) -> bool:
    """Whether the optimal string alignment distance is 1, by enumeration."""
    letters = set(a) | set(b)
    result = {a[:i] + a[i + 1 :] for i in range(len(a))}
    result |= {a[:i] + c + a[i:] for i in range(len(a) + 1) for c in letters}
    result |= {a[:i] + c + a[i + 1 :] for i in range(len(a)) for c in letters}
    result |= {a[:i] + a[i + 1] + a[i] + a[i + 2 :] for i in range(len(a) - 1)}
    return a != b and b in result


def test_an_error_is_one_edit_and_all_four_kinds_come():
    random, kinds = np.random.default_rng(0), set()
    for word in ["stocks", "aaaa", "a", "ab", "öl", "2004's"] * 60:
        edited = misspell(word, random)
        assert edited and one_edit_apart(word, edited), (word, edited)
        kinds.add((len(edited) - len(word), sorted(edited) == sorted(word)))
    assert kinds == {(1, False), (-1, False), (0, True), (0, False)}


def test_errors_hit_their_share_of_the_words_with_letters():
    texts = [["stocks", "fell", ",", "1,200", "points", "."] * 50] * 40
    edited = with_errors(texts, 0.2, seed=3)
    changed = np.array([[a != b for a, b in zip(x, y, strict=True)] for x, y in zip(texts, edited, strict=True)])
    with_letters = np.array([word[0].isalpha() for word in texts[0]])
    assert not changed[:, ~with_letters].any()
    assert changed[:, with_letters].mean() == pytest.approx(0.2, abs=0.02)
    assert not np.array_equal(changed[0], changed[1])
    assert with_errors(texts, 0.2, seed=3) == edited != with_errors(texts, 0.2, seed=4)
    assert with_errors(texts[:7], 0.2, seed=3) == edited[:7], "the errors of a text do not depend on later texts"
    assert with_errors(texts, 0.0, seed=3) == texts


@pytest.mark.parametrize("open_ended", [False, True])
def test_unknown_words_are_counted_either_way(vocabulary, open_ended):
    few = Vocabulary([*vocabulary.words[:4], "stocks", "."], vocabulary.tokenizer, open_ended)
    encoded = few.encode(["Stocks fell.", "Stocks stocks", "", "moon moon moon stocks"])
    assert unknown_shares(encoded, len(few)).tolist() == [1 / 3, 0, 0, 3 / 4]


def test_the_hardest_rows_are_a_tenth():
    shares = np.array([0.1, 0.5, 0.0, 0.5, 0.9] * 6)
    assert hardest_rows(shares).tolist() == [4, 9, 14]
    assert hardest_rows(np.array([0.5] * 20)).tolist() == [0, 1]


def test_each_form_is_classified_with_its_own_words(vocabulary, texts):
    seen = {}

    def classify(label, texts):
        seen[label] = texts.ids.tolist()
        return {"mode": np.array([1, 2, 0, 0, 0])}

    labels = np.array([1, 2, 3, 0, 1])
    few = Vocabulary([word for word in vocabulary.words if word != "rain"], vocabulary.tokenizer)
    encoded = few.encode(texts)
    plain = {"mode": np.array([1, 2, 3, 0, 0])}
    result = robustness(plain, labels, enumerate(texts), few, encoded, classify, 0)["mode"]
    assert result["accuracy"] == 0.8 and result["accuracy_with_errors"] == {"0.05": 0.6, "0.1": 0.6, "0.2": 0.6}
    assert result["accuracy_hardest"] == 1.0 and result["hardest_rows"] == 1, (
        "the third text, which is classified correctly"
    )
    counts = [
        sum(a != b for a, b in zip(seen[f"{n}% of words with errors"], encoded.ids, strict=True)) for n in (5, 20)
    ]
    assert 0 <= counts[0] < counts[1] <= 20


@pytest.mark.usefixtures("trained")
def test_the_script_says_and_writes_it(trained):
    folder, _ = trained
    done = run_script("evaluate.py", "--data", SAMPLE, "--output", folder, "--robustness", "--device", "cpu")
    assert done.code == 0 and "20% of words" in done.out, done.err
    summary = json.loads((folder / "results/sample/summary.json").read_text())
    for entry in summary["classifiers"].values():
        result = entry["robustness"]
        assert result["accuracy"] == entry["test"]["accuracy"] and list(result["accuracy_with_errors"]) == [
            "0.05",
            "0.1",
            "0.2",
        ]
        assert result["hardest_rows"] == 8


def test_rows_that_were_trained_on_are_not_made_harder():
    done = run_script("evaluate.py", "--robustness", "--split", "train")
    assert done.code == 2 and "--robustness is for test rows" in done.err


def test_what_is_evaluated_of_classifiers_alone_is_not_left_out_without_a_word(trained_bilm, tmp_path):
    for option in ("--robustness", "--duplicates"):
        run = run_script("evaluate.py", "--data", SAMPLE, "--bilm", trained_bilm, "--output", tmp_path, option)
        assert run.code == 2 and f"{option} needs a classifier on this language model. Train one" in run.err, run.err
    assert not list(tmp_path.rglob("*.json"))
