"""Activations, filters as wide as a word, and words that are read to their end."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bilm.config import CharCNNConfig
from bilm.modules import char_cnn
from bilm.modules.char_cnn import CharCNN
from bilm.text.vocabulary import PAD, SPECIALS, characters_of


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("filters", [((1, 2), (7, 3)), ((7, 4),), ((2, 3), (3, 2))])
@pytest.mark.parametrize("projection", [True, False])
def test_features_are_activated_maxima_of_convolutions(activation, filters, projection):
    """Words of 7 characters at most, marks among them; one filter may span all of them."""
    config = CharCNNConfig(3, filters, highways=1, projection=projection, activation=activation, max_characters=7)
    cnn = CharCNN(config, 6).double()
    for parameter in cnn.parameters():
        torch.nn.init.normal_(parameter)
    cnn.embedding.weight.data[PAD] = 0.0
    words = ["", "a", "ab", "abc", "abcd", "abcde", "abcdefgh", "é"]
    characters = torch.from_numpy(characters_of(np.arange(len(words)) + len(SPECIALS), words, 7))
    for part in (characters, characters[:1], characters[:3], characters[5:7]):
        x = F.embedding(part.int(), cnn.embedding.weight).transpose(1, 2)
        x = torch.cat([convolution(x).amax(2) for convolution in cnn.convolutions], dim=1)
        x = x.relu() if activation == "relu" else x.tanh()
        (highway,) = cnn.highways
        share = highway.gate(x).sigmoid()
        x = share * highway.transform(x).relu() + (1 - share) * x
        torch.testing.assert_close(cnn(part), cnn.projection(x), rtol=1e-10, atol=1e-10)


def test_words_come_back_in_their_order():
    cnn = CharCNN(CharCNNConfig(3, ((1, 4), (3, 5)), max_characters=9), 6)
    cnn.reset_parameters(0.5)
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abc"), n)) for n in random.integers(0, 12, 300)]
    characters = torch.from_numpy(characters_of(np.arange(300) + len(SPECIALS), words, 9))
    order = torch.randperm(300)
    torch.testing.assert_close(cnn(characters[order]), cnn(characters)[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("letters", "windows"), [(0, 3), (3, 6), (20, 21)])
def test_short_words_cost_few_windows(monkeypatch, letters, windows):
    """One for each character of the longest word, marks among them, and one for all that follow."""
    cnn = CharCNN(CharCNNConfig(3, ((1, 4), (3, 5)), max_characters=20), 6)
    characters = torch.from_numpy(characters_of(np.array([9, 10]), ["a" * letters, ""], 20))
    shapes, plain = [], F.linear
    monkeypatch.setattr(char_cnn.F, "linear", lambda x, *others: shapes.append(x.shape) or plain(x, *others))
    cnn(characters)
    assert shapes[0] == (windows, char_cnn.BLOCK, 3 * 3)
