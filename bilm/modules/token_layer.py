"""Token layer: words -> vectors without context, from a table, from their characters, or as the sum of both.

    word             one learned vector per word of the vocabulary; all others share that of <unk>
    char             Peters et al. 2018, section 3.1: convolutions over the characters, highway layers, a projection
    word+char        the sum: new words get vectors from their spelling, and the table adds to those of frequent words

A vector is computed from characters once per word of a batch; in evaluation, once per word of the lexicon.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bilm.config import TOKEN_LAYERS, CharCNNConfig
from bilm.modules.char_cnn import CharCNN
from bilm.text.vocabulary import PAD, UNK, Lexicon

# Initial vectors that are close to each other (std 0.1) slow down the first epochs: a sixth more perplexity after one
# epoch than with 1.0; docs/log.md.
EMBEDDING_STD = 0.5
# Factor on the learning rate of the character weights. Every word changes them: at the full rate they do not converge;
# docs/log.md.
CHARACTERS_RATE = 0.2


class TokenLayer(nn.Module):
    """Ids (...) -> vectors (..., `width`). `kind`: one of config.TOKEN_LAYERS.

    Ids >= `vocabulary_size` are words of the batch's lexicon outside the vocabulary. To the table they are <unk>.
    """

    def __init__(self, kind: str, vocabulary_size: int, width: int, characters: CharCNNConfig):
        super().__init__()
        if kind not in TOKEN_LAYERS:
            raise ValueError(f"unknown token layer {kind!r}")
        self.vocabulary_size = vocabulary_size
        self.word = nn.Embedding(vocabulary_size, width, padding_idx=PAD) if "word" in kind else None
        self.characters = CharCNN(characters, width) if "char" in kind else None
        self._training_steps = 0

    def reset_parameters(self) -> None:
        if self.word is not None:
            nn.init.normal_(self.word.weight, std=EMBEDDING_STD)
            self.word.weight.data[PAD] = 0.0
        if self.characters is not None:
            self.characters.reset_parameters(EMBEDDING_STD)

    def forward(self, ids: Tensor, lexicon: Lexicon | None) -> Tensor:
        """Raises ValueError if characters are read and `lexicon` is None."""
        if self.characters is None:
            return self._from_table(ids)
        if lexicon is None:
            raise ValueError("a token layer that reads characters needs the words that ids stand for")
        if not self.training and not torch.is_grad_enabled():
            return lexicon.tables.setdefault(self, WordVectors(len(lexicon))).of(self, ids, lexicon)
        self._training_steps += 1
        distinct, indices = ids.unique(return_inverse=True)
        # Not index_select: on a GPU, its gradient is summed in no fixed order.
        return F.embedding(indices, self.vectors_of(distinct, lexicon))

    def vectors_of(self, ids: Tensor, lexicon: Lexicon) -> Tensor:
        """Compute the vectors (U, `width`) of words (U,) from their characters, plus those of the table if any."""
        assert self.characters is not None
        x = self.characters(lexicon.characters_of(ids, self.characters.config.max_characters))
        return x if self.word is None else x + self._from_table(ids)

    def _from_table(self, ids: Tensor) -> Tensor:
        assert self.word is not None
        return self.word(torch.where(ids < self.vocabulary_size, ids, UNK))


class WordVectors:
    """Vectors of the words of one lexicon, computed when first needed, and valid until the weights change.

    They belong to the lexicon, thus to one call: calls in several threads do not meet, and nothing outlives them.
    """

    def __init__(self, size: int) -> None:
        """size: number of words of the lexicon."""
        self._size = size
        self._key: tuple[object, ...] = ()
        self._table = self._is_computed = torch.empty(0)

    def of(self, layer: TokenLayer, ids: Tensor, lexicon: Lexicon) -> Tensor:
        """Vectors (..., `width`) of `ids` (...)."""
        kind = ids.device.type
        # Changes of a tensor in place increase its `_version`, except those of a fused optimizer and those through
        # `.data`: a step of the optimizer may follow each step of training. The vectors depend on precision and
        # device, too.
        versions = ((id(p), p.dtype, p._version) for p in layer.parameters())
        key = (layer._training_steps, *versions, ids.device, torch.is_autocast_enabled(kind))
        if key != self._key:
            self._key, self._table = key, torch.empty(0)
            self._is_computed = torch.zeros(self._size, dtype=torch.bool, device=ids.device)
        missing = ids[~self._is_computed[ids]].unique()
        if len(missing):
            vectors = layer.vectors_of(missing, lexicon)
            if not len(self._table):
                self._table = vectors.new_empty(self._size, vectors.shape[1])
            self._table[missing] = vectors
            self._is_computed[missing] = True
        return self._table[ids]
