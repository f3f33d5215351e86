"""A table of word vectors with the interface of a language model."""

import numpy as np
import torch

from bilm.modules.static_encoder import StaticEncoder
from bilm.modules.token_layer import EMBEDDING_STD
from bilm.text.batching import Batch
from bilm.text.vocabulary import PAD, UNK


def test_each_id_has_its_row_and_one_that_the_table_lacks_has_that_of_unk():
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    encoder = StaticEncoder(vectors)
    batch = Batch(torch.tensor([[2, 5, 6, 3], [2, 4, 3, PAD]]), torch.tensor([4, 3]))
    (layer,) = encoder.encode(batch)
    np.testing.assert_array_equal(layer.numpy(), vectors[[[2, 5, UNK, 3], [2, 4, 3, PAD]]])
    assert (encoder.num_layers, encoder.output_dim) == (1, 4)
    assert encoder.embed(batch, torch.bfloat16).dtype == torch.bfloat16
    assert torch.equal(encoder.embed(batch, torch.float32), layer)


def test_random_vectors_are_like_those_a_language_model_begins_with():
    encoder = StaticEncoder.random(2000, 8, seed=1)
    table = encoder.table.weight
    assert table.shape == (2000, 8) and table.dtype == torch.float32
    assert not table[PAD].any() and table[PAD + 1 :].abs().sum(1).min() > 0
    assert abs(table[1:].mean().item()) < 0.02 and abs(table[1:].std().item() / EMBEDDING_STD - 1) < 0.03
    assert not torch.equal(table, StaticEncoder.random(2000, 8, seed=2).table.weight)


def test_the_table_is_fixed_unless_it_is_made_trainable():
    encoder = StaticEncoder(np.ones((6, 4), np.float32))
    assert not encoder.table.weight.requires_grad
    encoder.set_trainable(True)
    assert encoder.table.weight.requires_grad
    encoder.set_trainable(False)
    assert not encoder.table.weight.requires_grad
    assert encoder.learning_rates(0.3) == [(encoder, 0.3)]
