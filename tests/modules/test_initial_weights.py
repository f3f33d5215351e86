"""What weights begin with: spreads, biases, padding."""

import numpy as np
import pytest
import torch

from bilm.config import BiLMConfig, CharCNNConfig
from bilm.modules.char_cnn import CHARACTER_STD, CharCNN
from bilm.modules.language_model import BiLM
from bilm.modules.token_layer import EMBEDDING_STD, TokenLayer
from bilm.text.batching import Batch
from bilm.text.vocabulary import PAD, SPECIALS, characters_of

CNN = CharCNNConfig(dim=16, filters=((1, 40), (3, 60), (5, 80)), highways=2, max_characters=12)


@pytest.fixture(scope="module")
def cnn() -> CharCNN:
    torch.manual_seed(0)
    model = CharCNN(CNN, 64)
    model.reset_parameters(0.7)
    return model


@pytest.fixture(scope="module")
def characters() -> torch.Tensor:
    """Other made-up words than those the weights were scaled on, of the same letters and lengths."""
    random = np.random.default_rng(5)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = ["".join(random.choice(letters, random.integers(1, 11))) for _ in range(600)]
    return torch.from_numpy(characters_of(np.arange(600) + len(SPECIALS), words, 12))


def test_characters_are_spread_and_padding_is_zero(cnn):
    table = cnn.embedding.weight
    assert not table[PAD].any() and table[PAD + 1 :].abs().sum(1).min() > 0
    assert table[1:].std().item() == pytest.approx(CHARACTER_STD, rel=0.05)


def test_every_filter_is_centred_and_of_unit_deviation(cnn, characters):
    with torch.no_grad():
        x = cnn.embedding(characters.int()).transpose(1, 2)
        for convolution in cnn.convolutions:
            features = convolution(x).amax(2)
            assert features.mean(0).abs().max() < 0.3 and features.mean().abs() < 0.05
            assert features.std(0).mean().item() == pytest.approx(1.0, abs=0.1)


def test_vectors_are_centred_and_of_the_deviation_that_is_asked_for(cnn, characters):
    with torch.no_grad():
        vectors = cnn(characters)
    assert vectors.shape == (600, 64)
    assert vectors.mean(0).abs().max() < 0.2 and vectors.mean().abs() < 0.02
    assert vectors.std(0).mean().item() == pytest.approx(0.7, abs=0.05)


def test_highways_begin_by_carrying_their_input(cnn):
    """A bias of -2: a share of 12 % goes through the transformation."""
    assert len(cnn.highways) == 2
    for highway in cnn.highways:
        assert (highway.gate.bias == -2).all()
        assert highway.transform.weight.shape == highway.gate.weight.shape == (180, 180)


def test_a_convolution_alone_is_as_wide_as_its_filters():
    model = CharCNN(CharCNNConfig(dim=4, filters=((1, 3), (2, 5)), projection=False, max_characters=5), 99)
    model.reset_parameters(0.7)
    assert model(torch.full((4, 5), 7)).shape == (4, 8)


def test_weights_on_the_meta_device_are_left_there():
    with torch.device("meta"):
        model = CharCNN(CNN, 8)
        model.reset_parameters(0.7)
    assert all(p.is_meta for p in model.parameters())


def test_the_same_seed_gives_the_same_weights_in_every_version():
    """A model that is trained again comes out as before: the biases, which depend on every word and weight."""
    torch.manual_seed(0)
    model = CharCNN(CharCNNConfig(dim=4, filters=((1, 3), (3, 2)), max_characters=12), 3)
    model.reset_parameters(0.5)
    biases = [convolution.bias.tolist() for convolution in model.convolutions]
    assert biases[0] == pytest.approx([-4.0492167, -8.2820597, -3.2799273], rel=1e-5)
    assert biases[1] == pytest.approx([-1.4187900, -1.4210944], rel=1e-5)
    assert model.projection.bias.tolist() == pytest.approx([-0.25021413, 0.25193450, 0.07694037], rel=1e-4)


@pytest.mark.parametrize("kind", ["word", "word+char"])
def test_a_table_of_words_is_spread_and_padding_is_zero(kind):
    layer = TokenLayer(kind, 3000, 8, CNN)
    layer.reset_parameters()
    table = layer.word.weight
    assert not table[PAD].any() and table[PAD + 1 :].abs().sum(1).min() > 0
    assert table[1:].std().item() == pytest.approx(EMBEDDING_STD, rel=0.03)
    assert (layer.characters is None) == (kind == "word")


def test_a_token_layer_of_no_kind_is_refused():
    with pytest.raises(ValueError, match="unknown token layer 'letters'"):
        TokenLayer("letters", 9, 4, CNN)


@pytest.mark.parametrize("softmax", ["full", "none"])
def test_a_language_model_begins_with_these_weights(softmax):
    model = BiLM(BiLMConfig(width=6, layers=3, softmax=softmax), 500)
    assert model.tokens.word.weight[1:].std().item() == pytest.approx(EMBEDDING_STD, rel=0.1)
    for stack in (model.forward_lstm, model.backward_lstm):
        assert [lstm.bias_ih_l0[6:12].tolist() for lstm in stack.lstms] == [[1.0] * 6] * 3
    assert not torch.equal(model.forward_lstm.lstms[0].weight_ih_l0, model.backward_lstm.lstms[0].weight_ih_l0)
    assert (model.softmax is None) == (softmax == "none")
    assert (model.num_layers, model.output_dim) == (4, 12)


@pytest.mark.parametrize("softmax", ["adaptive", "none"])
@pytest.mark.parametrize("learns", [True, False])
def test_what_a_classifier_trains_of_a_language_model(softmax, learns):
    model = BiLM(BiLMConfig(width=6, softmax=softmax, cutoffs=(20,)), 50)
    model.set_trainable(learns)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (learns and not name.startswith("softmax")), name
    assert model.learning_rates(0.3) == [(model, 0.3)]


def test_without_a_softmax_there_is_no_loss():
    model = BiLM(BiLMConfig(width=6, softmax="none"), 50)
    with pytest.raises(AssertionError, match="without a softmax"):
        model(Batch(torch.tensor([[2, 5, 3]]), torch.tensor([3])))


def test_the_states_that_predict_are_dropped_out_in_training():
    """At 99 %, the softmax sees next to nothing but its bias: the same loss for every text."""
    model = BiLM(BiLMConfig(width=64, layers=1, dropout=0.99, softmax="full"), 50)
    seen = []
    model.softmax.loss = lambda states, targets, _: seen.append((states == 0).float().mean().item()) or states.sum()
    batch = Batch(torch.randint(4, 50, (8, 20)), torch.full((8,), 20))
    model.train()(batch)
    model.eval()(batch)
    assert min(seen[:2]) > 0.95 and max(seen[2:]) < 0.05
