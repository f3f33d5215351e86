"""Scores, blanks and continuations, compared with the losses of the model and with small examples."""

import numpy as np
import pytest
import torch
from conftest import run_script

from bilm.checkpoints.model_format import Pretrained
from bilm.inference.word_predictor import WordPredictor, draw, joined
from bilm.runtime.errors import UserError
from bilm.text.batching import collate
from bilm.text.vocabulary import UNK


@pytest.fixture
def predictor(bilm, vocabulary):
    return WordPredictor(Pretrained(bilm, vocabulary, {}, ""))


@torch.no_grad()
def test_scores_are_the_losses_of_the_language_model(predictor, bilm, vocabulary, texts):
    texts = [*texts, "Martians resigned."]
    encoded = vocabulary.encode(texts)
    for i, scores in enumerate(predictor.score(texts)):
        losses = bilm(collate(encoded, np.array([i])))
        for (direction, score), loss in zip(scores.items(), losses.tolist(), strict=True):
            assert score.nll.sum() == pytest.approx(loss, rel=1e-4)
            assert score.perplexity == pytest.approx(np.exp(loss / (encoded.lengths[i] - 1)), rel=1e-4)
            words = [word if word in vocabulary.ids else "<unk>" for word in vocabulary.tokenizer(texts[i])]
            assert score.words == ([*words, "</s>"] if direction == "forward" else [*words[::-1], "<s>"])
    assert predictor.score([]) == []


@torch.no_grad()
def test_a_blank_is_filled_by_both_sides(predictor, bilm, vocabulary):
    """The product of both directions' probabilities of each word in that position, which neither direction reads."""
    products = {}
    for word, number in vocabulary.ids.items():
        encoded = vocabulary.encode_words([["stocks", word, "in", "york"]])
        query = bilm.lm_targets(collate(encoded, np.arange(1)))
        nll = [bilm.softmax.nll(query[d].states, query[d].targets) for d in ("forward", "backward")]
        assert query["forward"].targets[1] == number == query["backward"].targets[2]
        products[word] = float(torch.exp(-nll[0][1] - nll[1][2]))
    total = sum(products.values())
    ((*fitting,),) = predictor.fill("Stocks ___ in York", 5)
    assert fitting == [
        (word, pytest.approx(products[word] / total, rel=1e-3))
        for word in sorted(products, key=lambda w: -products[w])[:5]
    ]
    one, other = predictor.fill("Stocks ____ in York on ___", 1000)
    assert len(one) == len(vocabulary) - 4 and sum(p for _, p in other) == pytest.approx(1, abs=1e-4)
    encoded = vocabulary.encode_words([["stocks", "<unk>", "in", "york", "on", "rain"]])
    query = bilm.lm_targets(collate(encoded, np.arange(1)))
    forward, backward = (
        bilm.softmax.log_probs(query[d].states)[[position]] for d, position in (("forward", 5), ("backward", 0))
    )
    log_p = (forward + backward)[0]
    log_p[:4] = -torch.inf
    assert dict(other)["rain"] == pytest.approx(float(log_p.softmax(0)[vocabulary.ids["rain"]]), rel=1e-3)
    far = predictor.fill("Stocks fell . " * 60 + "The coach ___", 3)
    near = predictor.fill("Stocks fell . " * 50 + "The coach ___", 3)
    assert far[0] == [(word, pytest.approx(p, rel=1e-2)) for word, p in near[0]], "texts are not cut"
    with pytest.raises(ValueError, match="no ___"):
        predictor.fill("Stocks fell", 5)


@torch.no_grad()
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_temperature_zero_takes_the_most_probable_word_each_time(predictor, bilm, vocabulary, direction):
    new = predictor.generate("Stocks fell", 4, direction, 0.0, 1.0, np.random.default_rng(0))
    words = ["stocks", "fell"]
    for word in new if direction == "forward" else new[::-1]:
        encoded = vocabulary.encode_words([words])
        query = bilm.lm_targets(collate(encoded, np.arange(1)))[direction]
        log_p = bilm.softmax.log_probs(query.states[-1:])[0]  # after the last word read
        log_p[[0, UNK, 2 if direction == "forward" else 3]] = -torch.inf
        assert vocabulary.words[int(log_p.argmax())] == word
        words = [*words, word] if direction == "forward" else [word, *words]
    assert 0 < len(new) <= 4


def test_generation_stops_at_a_boundary(predictor, bilm):
    """With a softmax that always predicts the closing boundary (forward) or the opening one (backward)."""
    for direction, stop in (("forward", 3), ("backward", 2)):
        with torch.no_grad():
            bilm.softmax.out.bias.zero_()
            bilm.softmax.out.bias[stop] = 1e4
        assert predictor.generate("Stocks fell", 5, direction, 1.0, 1.0, np.random.default_rng(0)) == []


def test_a_seed_determines_the_draws(predictor):
    one, same, other = (
        predictor.generate("Rain", 20, "forward", 1.0, 1.0, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert one == same != other


def test_draws_follow_temperature_and_top_p():
    log_p = np.log([0.5, 0.3, 0.15, 0.05])
    random = np.random.default_rng(0)

    def shares(temperature: float, top_p: float) -> np.ndarray:
        return np.bincount([draw(log_p, temperature, top_p, random) for _ in range(20_000)], minlength=4) / 20_000

    np.testing.assert_allclose(shares(1.0, 1.0), [0.5, 0.3, 0.15, 0.05], atol=0.015)
    np.testing.assert_allclose(shares(1.0, 0.75), [0.625, 0.375, 0, 0], atol=0.015)
    squared = np.array([0.25, 0.09, 0.0225, 0.0025])
    np.testing.assert_allclose(shares(0.5, 1.0), squared / squared.sum(), atol=0.015)
    assert draw(log_p, 0.0, 1.0, random) == 0
    assert draw(np.array([-np.inf, 0.0]), 1.0, 1.0, random) == 1


def test_words_become_a_text():
    words = ["china", "'s", "trade", "(", "in", "$", "5", ",", "say", ")", "grew", "."]
    assert joined(words) == "china's trade (in $5, say) grew."


def test_as_a_user_runs_it(trained, predictor):
    path = trained[0] / "models/sample/bilstm.pt"
    run = run_script("-m bilm lm", "--bilm", path, "Stocks fell.", "The ___ resigned", "--words", 3)
    assert run.code == 0 and "forward perplexity" in run.out and "blank 1: " in run.out, run.err
    run = run_script("-m bilm lm", "--bilm", path, "--before", 5, "--samples", 2, "resigned.")
    lines = run.out.splitlines()
    assert run.code == 0 and len(lines) == 2 and all(line.endswith("resigned.") for line in lines), run.err
    for arguments, message in (
        ([], "give a text"),
        (["--after", 1, "--before", 1, "x"], "exclude each other"),
        (["--after", 3, "Rain.", "The ___ fell"], "texts without a blank"),
    ):
        run = run_script("-m bilm lm", "--bilm", path, *arguments)
        assert run.code == 2 and message in run.err and run.err.count("\n") == 1


def test_a_model_without_softmax_predicts_nothing(bilm, vocabulary):
    bilm.softmax = None
    with pytest.raises(UserError, match="predicts no words"):
        WordPredictor(Pretrained(bilm, vocabulary, {}, ""))
