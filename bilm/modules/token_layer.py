"""Token layer: words -> vectors without context, from a table, from their characters, or as the sum of both.

    word             one learned vector per word of the vocabulary; all others share that of <unk>
    char             Peters et al. 2018, section 3.1: convolutions over the characters, highway layers, a projection
    word+char        the sum: new words have a vector of their own, and frequent ones need not follow their spelling

Characters cost per distinct word, not per token; where the weights stay as they are, per word of the lexicon.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bilm.config import TOKEN_LAYERS, CharCNNConfig
from bilm.modules.char_cnn import CharCNN
from bilm.text.vocabulary import PAD, UNK, Lexicon

# Words that look alike at first (std 0.1) start slowly: a sixth more perplexity after an epoch than at 1.0; LOG.md.
EMBEDDING_STD = 0.5
# What characters share is learned from every word at once: at the rate of the rest, it never settles; LOG.md.
CHARACTERS_RATE = 0.2


class TokenLayer(nn.Module):
    """Ids (...) -> vectors (..., `width`); one kind or both of "word" and "char" in `kind`.

    With characters, ids from `vocabulary_size` on are the words of the batch's lexicon that the vocabulary lacks.
    """

    def __init__(self, kind: str, vocabulary_size: int, width: int, characters: CharCNNConfig):
        super().__init__()
        if kind not in TOKEN_LAYERS:
            raise ValueError(f"{kind!r} is no kind of token layer")
        self.vocabulary_size = vocabulary_size
        self.word = nn.Embedding(vocabulary_size, width, padding_idx=PAD) if "word" in kind else None
        self.characters = CharCNN(characters, width) if "char" in kind else None
        self._computed = _Computed()

    def reset_parameters(self) -> None:
        if self.word is not None:
            nn.init.normal_(self.word.weight, std=EMBEDDING_STD)
            self.word.weight.data[PAD] = 0.0
        if self.characters is not None:
            self.characters.reset_parameters(EMBEDDING_STD)

    def forward(self, ids: Tensor, lexicon: Lexicon | None) -> Tensor:
        """`lexicon`: needed where characters are read; raises ValueError when it is missing there."""
        if self.characters is None:
            assert self.word is not None
            return self.word(ids)
        if lexicon is None:
            raise ValueError("a token layer that reads characters needs the words that ids stand for")
        if not self.training and not torch.is_grad_enabled():
            return self._computed.vectors(self, ids, lexicon)
        self._computed.drop()  # a step of the optimizer may follow
        distinct, places = ids.unique(return_inverse=True)
        # Not index_select: on a GPU, its gradient adds up in any order.
        return F.embedding(places, self.vectors_of(distinct, lexicon))

    def vectors_of(self, ids: Tensor, lexicon: Lexicon) -> Tensor:
        """Vectors of words (U,) from their characters, and from the table if there is one: (U, `width`)."""
        assert self.characters is not None
        x = self.characters(lexicon.characters_of(ids, self.characters.config.max_characters))
        if self.word is not None:
            x = x + self.word(torch.where(ids < self.vocabulary_size, ids, UNK))
        return x


class _Computed:
    """Vectors of the words of one lexicon as they come up, for as long as the weights stay as they are."""

    def __init__(self) -> None:
        self.drop()

    def drop(self) -> None:
        self._lexicon: Lexicon | None = None
        self._key: tuple[Any, ...] = ()
        self._table = self._known = torch.empty(0)

    def vectors(self, layer: TokenLayer, ids: Tensor, lexicon: Lexicon) -> Tensor:
        kind = ids.device.type
        # PyTorch counts the changes of a tensor in place, but for those of a fused optimizer and those by way of
        # `.data`. The vectors depend on precision and device, too.
        key = (*((id(p), p.dtype, p._version) for p in layer.parameters()), ids.device, torch.is_autocast_enabled(kind))
        if lexicon is not self._lexicon or key != self._key:
            self._lexicon, self._key = lexicon, key
            self._table, self._known = torch.empty(0), torch.zeros(len(lexicon), dtype=torch.bool, device=ids.device)
        missing = ids[~self._known[ids]].unique()
        if len(missing):
            found = layer.vectors_of(missing, lexicon)
            if not len(self._table):
                self._table = found.new_empty(len(lexicon), found.shape[1])
            self._table[missing] = found
            self._known[missing] = True
        return self._table[ids]
