"""ELMo as a library: words in, the vectors of every layer out."""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from bilm.checkpoints.bundled import bundled_bilm
from bilm.checkpoints.pretrained import Pretrained, import_original, load_bilm
from bilm.inference.input_checks import check_texts
from bilm.modules.lstm import ProjectedLSTMStack
from bilm.runtime.errors import UserError
from bilm.text.batching import collate, mask_of, plan_batches
from bilm.text.vocabulary import EncodedTexts

BATCH_TOKENS = 8192


class ELMo:
    """The language model of a bilstm.pt, or the original one, as an encoder of tokens.

    num_layers (J) and output_dim (E) are those of the file; layer 0 is the token layer.
    """

    def __init__(self, pretrained: Pretrained, device: str | torch.device = "cpu", stateful: bool = False):
        """See `load`; `pretrained` itself does not become stateful. Raises UserError when it cannot be."""
        model = copy.deepcopy(pretrained.model) if stateful else pretrained.model
        self.model = model.to(device).eval()
        self.vocabulary = pretrained.vocabulary
        self.info = pretrained.info
        self.hash = pretrained.hash
        self.device = torch.device(device)
        self.stateful = stateful
        if stateful and not all(isinstance(stack, ProjectedLSTMStack) for stack in self._stacks):
            raise UserError("stateful: only the original ELMo can; this one was trained to start every text anew.")
        for stack in self._stacks:
            if isinstance(stack, ProjectedLSTMStack):
                stack.stateful = stateful

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        weights: str | Path | None = None,
        *,
        device: str | torch.device = "cpu",
        stateful: bool = False,
    ) -> "ELMo":
        """ELMo.load("models/bilstm.pt"), or ELMo.load("options.json", "weights.hdf5") in the original's format.

        path: without one, the models/bilstm.pt of this repository.

        stateful: as the original program did, let sentence b of a call to `embed` go on in the state in which sentence
        b of the call before ended. The same sentence then has other vectors each time.

        Raises UserError when a file is missing, damaged or not of its kind, or cannot be `stateful`.
        """
        file = bundled_bilm() if path is None else Path(path)
        pretrained = load_bilm(file) if weights is None else import_original(file, Path(weights))
        return cls(pretrained, device, stateful)

    @property
    def _stacks(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        return self.model.forward_lstm, self.model.backward_lstm

    @property
    def num_layers(self) -> int:
        return self.model.num_layers

    @property
    def output_dim(self) -> int:
        return self.model.output_dim

    def forget(self) -> None:
        """Let the next sentences start anew, where the state is carried."""
        for stack in self._stacks:
            if isinstance(stack, ProjectedLSTMStack):
                stack.forget()

    @torch.no_grad()
    def embed(self, sentences: Iterable[str | Iterable[str]]) -> list[np.ndarray]:
        """The vectors of each sentence: fp32 (J, n, E) for its n words; [e0, e1, ...] without the boundaries.

        A sentence is a text or a list of words. A text is tokenised, and read up to `max_tokens` of the tokenizer's
        settings, as in pretraining (the original: 128 words, case kept). Words are taken as they are, but for their
        case. An empty word has no characters (unknown, where there is only a table of words), a word of more bytes than
        the model reads loses its end. Raises TypeError as `input_checks.check_texts`.
        """
        texts = self._encoded(sentences)
        vectors = [np.empty(0, dtype=np.float32)] * len(texts)
        for rows in self._plan(texts):
            batch = collate(texts, rows).to(self.device)
            layers = torch.stack(self.model.encode(batch), dim=1).float().cpu().numpy()
            for row, found, length in zip(rows, layers, batch.lengths.tolist(), strict=True):
                vectors[row] = found[:, 1 : length - 1].copy()
        return vectors

    @torch.no_grad()
    def sentence_vectors(
        self, sentences: Iterable[str | Iterable[str]], layers: Sequence[int] | None = None
    ) -> np.ndarray:
        """One vector per sentence: the means of these layers over its words, side by side: fp32 (N, len(layers) * E).

        layers: numbers from 0, or from -1 downwards; all but e0 if none are named, which is what few labels are learned
        from best (README.md). A sentence without a word has the mean of its two boundaries. Raises TypeError as
        `embed`, IndexError when there is no such layer.
        """
        wanted = range(1, self.num_layers) if layers is None else layers
        chosen = [range(self.num_layers)[layer] for layer in wanted]
        texts = self._encoded(sentences)
        vectors = np.zeros((len(texts), len(chosen), self.output_dim), dtype=np.float32)
        for rows in self._plan(texts):
            batch = collate(texts, rows)
            found = self.model.encode(batch.to(self.device))
            weights = _inside(batch.lengths, batch.ids.shape[1]).to(self.device)
            for place, layer in enumerate(chosen):
                vectors[rows, place] = torch.einsum("bt,bte->be", weights, found[layer].float()).cpu().numpy()
        return vectors.reshape(len(texts), len(chosen) * self.output_dim)

    def _plan(self, texts: EncodedTexts) -> list[np.ndarray]:
        """Rows of each batch. Where the state is carried, the sentences of a call stand side by side."""
        if not len(texts):
            return []
        return [np.arange(len(texts))] if self.stateful else plan_batches(texts.lengths, BATCH_TOKENS)

    def words(self, text: str) -> list[str]:
        """What is read of a text."""
        return self.vocabulary.tokenizer(text)

    def _encoded(self, sentences: Iterable[str | Iterable[str]]) -> EncodedTexts:
        return self.vocabulary.encode_words(map(self.vocabulary.tokenizer.words_of, check_texts(sentences)))


def _inside(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """Weights of the mean over the words of each text, fp32 (B, width): not of its boundaries, if it has a word."""
    words = mask_of(lengths - 1, width)
    words[:, 0] = False
    words = torch.where((lengths == 2)[:, None], mask_of(lengths, width), words)
    return words / words.sum(1, keepdim=True)
