"""The language model against independent computations: no leak, aligned states, no loss on padding."""

import math

import numpy as np
import pytest
import torch
from conftest import numpy_lstm

from bilm.config import BiLMConfig, FitConfig
from bilm.modules.language_model import BiLM
from bilm.runtime.distributed import Ranks
from bilm.text.batching import Batch, collate, iterate_batches, mask_of
from bilm.text.vocabulary import BOS, EOS, EncodedTexts
from bilm.training.loop import fit
from bilm.training.optimizer import build_optimizer
from bilm.training.pretraining import PretrainingTask, perplexities

WIDTH = 7


def encode_one(model: BiLM, ids: list[int]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [layer[0] for layer in model.encode(Batch(torch.tensor([ids]), torch.tensor([len(ids)])))]


def test_shapes(bilm, vocabulary, texts):
    batch = collate(vocabulary.encode(texts), np.arange(5))
    layers = bilm.encode(batch)
    assert [tuple(layer.shape) for layer in layers] == [(5, 16, 2 * WIDTH)] * 3
    assert (bilm.num_layers, bilm.output_dim) == (3, 2 * WIDTH)


@pytest.mark.parametrize("position", [1, 4, 7])
def test_forward_states_have_not_seen_what_follows(bilm, position):
    ids = [BOS, 5, 9, 6, 11, 8, 7, 10, EOS]
    changed = ids.copy()
    changed[position] = 20
    for before, after in zip(encode_one(bilm, ids)[1:], encode_one(bilm, changed)[1:], strict=True):
        moved = ((before - after).abs() > 1e-6).view(len(ids), 2, WIDTH).any(-1)
        assert moved[:, 0].tolist() == [t >= position for t in range(len(ids))], "forward"
        assert moved[:, 1].tolist() == [t <= position for t in range(len(ids))], "backward"


def test_predictions_come_from_states_that_have_not_seen_their_target(bilm):
    """The state that predicts a target does not change with the target's own id in the input."""
    ids = [BOS, 5, 9, 6, 11, EOS]
    for t in range(1, len(ids)):
        changed = ids.copy()
        changed[t] = 20
        one, two = (bilm.lm_targets(Batch(torch.tensor([x]), torch.tensor([len(ids)]))) for x in (ids, changed))
        # In reading order, state n predicts token n + 1; backwards, token t is number len - 1 - t.
        assert torch.equal(one["forward"].states[t - 1], two["forward"].states[t - 1])
        if t < len(ids) - 1:
            back = len(ids) - 1 - t - 1
            assert torch.equal(one["backward"].states[back], two["backward"].states[back])


def test_targets_are_the_neighbours(bilm, vocabulary, texts):
    encoded = vocabulary.encode(texts)
    batch = collate(encoded, np.array([0, 1, 2]))
    result = bilm.lm_targets(batch)
    rows = [encoded.ids[encoded.offsets[i] : encoded.offsets[i + 1]].tolist() for i in range(3)]
    assert result["forward"].targets.tolist() == [token for row in rows for token in row[1:]]
    assert result["backward"].targets.tolist() == [token for row in rows for token in row[::-1][1:]]


@pytest.mark.parametrize("given", [False, True])
def test_layers_equal_a_numpy_lstm(bilm, vocabulary, texts, given):
    """Values and alignment of e0, e1, e2: both directions, with residuals, for a padded text of a batch.

    Also of other vectors that are given in place of those of the token layer.
    """
    batch = collate(vocabulary.encode(texts), np.array([1, 3, 0]))
    other = torch.randn(*batch.ids.shape, WIDTH)
    with torch.no_grad():
        layers = bilm.encode(batch, other if given else None)
    ids = batch.ids[2, : batch.lengths[2]].numpy()
    x = (other[2, : len(ids)] if given else bilm.tokens.word.weight.detach()[ids]).double().numpy()
    f1 = numpy_lstm(bilm.forward_lstm.lstms[0], x)
    f2 = numpy_lstm(bilm.forward_lstm.lstms[1], f1) + f1
    b1 = numpy_lstm(bilm.backward_lstm.lstms[0], x[::-1])
    b2 = numpy_lstm(bilm.backward_lstm.lstms[1], b1) + b1
    expected = [np.hstack([x, x]), np.hstack([f1, b1[::-1]]), np.hstack([f2, b2[::-1]])]
    for layer, reference in zip(layers, expected, strict=True):
        np.testing.assert_allclose(layer[2, : len(ids)].numpy(), reference, atol=1e-5)


def test_a_text_has_the_same_vectors_in_any_company(bilm, vocabulary, texts):
    encoded = vocabulary.encode(texts)
    together = collate(encoded, np.arange(5))
    with torch.no_grad():
        layers = bilm.encode(together)
        for row in range(5):
            alone = collate(encoded, np.array([row]))
            for a, b in zip(bilm.encode(alone), layers, strict=True):
                torch.testing.assert_close(a[0], b[row, : a.shape[1]], rtol=0, atol=1e-5)


def test_padding_counts_in_no_loss(bilm, vocabulary, texts):
    encoded = vocabulary.encode(texts)
    together = collate(encoded, np.arange(5))
    with torch.no_grad():
        in_one = bilm(together)
        each = sum(bilm(b) for b in (collate(encoded, np.array([row])) for row in range(5)))
        noise = together.ids.clone()
        noise[~mask_of(together.lengths, noise.shape[1])] = 17
        with_noise = bilm(Batch(noise, together.lengths))
    torch.testing.assert_close(in_one, each, rtol=1e-5, atol=1e-4)
    assert torch.equal(in_one, with_noise)


def test_perplexity_by_hand(bilm, vocabulary, texts):
    """exp of the mean over all targets (not over batches), from the log-probabilities at each state."""
    encoded = vocabulary.encode(texts)
    nll = {"forward": [], "backward": []}
    with torch.no_grad():
        for row in range(5):
            ids = encoded.ids[encoded.offsets[row] : encoded.offsets[row + 1]].tolist()
            top = encode_one(bilm, ids)[-1]
            forward = bilm.softmax.log_probs(top[:, :WIDTH])
            backward = bilm.softmax.log_probs(top[:, WIDTH:])
            nll["forward"] += [-float(forward[t, ids[t + 1]]) for t in range(len(ids) - 1)]
            nll["backward"] += [-float(backward[t, ids[t - 1]]) for t in range(1, len(ids))]
        result = perplexities(bilm, iterate_batches(encoded, np.arange(5), 20), torch.device("cpu"), Ranks())
    for direction, values in nll.items():
        assert result[f"{direction}_perplexity"] == pytest.approx(math.exp(np.mean(values)), rel=1e-5)
    assert result["perplexity"] == pytest.approx((result["forward_perplexity"] + result["backward_perplexity"]) / 2)


PARAMETERS = {
    # width, layers, softmax: parameters at a vocabulary of 12,000
    (256, 2, "adaptive"): 3_072_000
    + 4 * 526_336
    + 503 * 257
    + (256 + 1500) * 128
    + (256 + 6000) * 64
    + (256 + 4000) * 32,
    (256, 2, "full"): 3_072_000 + 4 * 526_336 + 12_000 * 257,
    (128, 1, "full"): 1_536_000 + 2 * 132_096 + 12_000 * 129,
    (64, 3, "adaptive"): 768_000 + 6 * 33_280 + 503 * 65 + 1564 * 32 + 6064 * 16 + 4064 * 8,
}


@pytest.mark.parametrize(("width", "layers", "softmax"), PARAMETERS)
def test_parameter_counts(width, layers, softmax):
    model = BiLM(BiLMConfig(width=width, layers=layers, softmax=softmax), 12_000)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[width, layers, softmax]


def train(texts: EncodedTexts, rows, validation, tmp_path, model: BiLM, epochs: int, learning_rate: float):
    config = FitConfig(epochs=epochs, learning_rate=learning_rate, batch_tokens=256, checkpoint_seconds=1e9)
    task = PretrainingTask(texts, rows, validation, config.batch_tokens, 0, torch.device("cpu"))
    return fit(
        model,
        task,
        build_optimizer([(model, learning_rate)], 0.0),
        config,
        checkpoint_path=tmp_path / "checkpoint.pt",
        settings={},
        autocast=lambda: torch.autocast("cpu", enabled=False),
        resume=False,
    )


def test_a_tiny_corpus_is_learned_by_heart(vocabulary, texts, tmp_path):
    model = BiLM(BiLMConfig(width=32, dropout=0.0, softmax="adaptive"), len(vocabulary))
    rows = np.arange(5)
    state = train(vocabulary.encode(texts), rows, rows, tmp_path, model, epochs=80, learning_rate=0.02)
    assert state.best_figure < 3


def test_random_words_cannot_be_predicted(tmp_path):
    """A model that could see its targets would reach a low perplexity on noise."""
    words, size = 400, 24
    generator = np.random.default_rng(0)
    texts = [np.r_[BOS, generator.integers(4, 4 + words, size), EOS].astype(np.int32) for _ in range(300)]
    encoded = EncodedTexts(np.concatenate(texts), np.arange(301) * (size + 2))
    model = BiLM(BiLMConfig(width=32, dropout=0.0, softmax="full"), 4 + words)
    state = train(encoded, np.arange(250), np.arange(250, 300), tmp_path, model, epochs=6, learning_rate=0.01)
    # 24 of 25 targets are noise; the last is the boundary, which can be counted to. Learned to perfection, that leaves
    # 400 ** (24 / 25) = 315.
    assert state.best_figure > 300
