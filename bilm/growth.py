"""A language model that goes on from another one, on texts with other words (domain adaptation).

The words that it knew keep their ids and their weights; new ones follow and begin at random, as all words once did.
They are in the last cluster of an adaptive softmax, however frequent they are: the others end where they ended.
"""

from dataclasses import replace

import torch

from bilm.errors import UserError
from bilm.language_model import BiLM
from bilm.pretrained import Pretrained
from bilm.softmax import AdaptiveSoftmax


@torch.no_grad()
def grown(start: Pretrained, vocabulary_size: int, dropout: float) -> BiLM:
    """A model of the shape of `start`, with this many words and this dropout. Raises UserError when it has no softmax.

    The first rows of what has a row for each word are those of `start`, and all else is.
    """
    old = start.model
    if old.softmax is None:
        raise UserError("--start-from: that language model was imported without its softmax; it cannot be trained on.")
    config = replace(old.config, dropout=dropout)
    if isinstance(old.softmax, AdaptiveSoftmax):
        config = replace(config, cutoffs=old.softmax.edges[:-1])
    model = BiLM(config, vocabulary_size)
    known = old.state_dict()
    for name, weight in model.state_dict().items():
        weight[: len(known[name])].copy_(known[name]) if weight.dim() else weight.copy_(known[name])
    return model
