"""ELMo: sentences -> the vectors of all layers."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bilm.checkpoints.bundled import bundled_bilm
from bilm.checkpoints.model_format import Pretrained, import_original, load_bilm
from bilm.inference.input_checks import check_text, check_texts
from bilm.modules.lstm import ProjectedLSTMStack
from bilm.runtime.device import autocast, find_device, find_precision
from bilm.runtime.errors import UserError
from bilm.text.batching import Batch, collate, inference_batch_tokens, mask_of, plan_batches
from bilm.text.vocabulary import EncodedTexts


class ELMo:
    """Encodes tokens with a pretrained language model: that of a bilstm.pt, or the original ELMo.

    num_layers: J, with the token layer as layer 0; output_dim: E, the width of a layer's vectors; vocabulary: words and
    tokenizer of the language model; model: the BiLM itself, in eval mode; device: where it computes; stateful: see
    `load`; info: its training data, settings and validation perplexity, as bilstm.pt has them; hash: SHA-256 of its
    weights, configuration and words, by which other files refer to it.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        device: str | torch.device = "cpu",
        stateful: bool = False,
        precision: str = "fp32",
    ):
        """Arguments and errors as in `load`. A stateful encoder copies the model."""
        self.device = find_device(device)
        model = copy.deepcopy(pretrained.model) if stateful else pretrained.model
        self.model = model.to(self.device).eval()
        self.num_layers = model.num_layers
        self.output_dim = model.output_dim
        self.vocabulary = pretrained.vocabulary
        self.info = pretrained.info
        self.hash = pretrained.hash
        self._autocast = partial(autocast, self.device, find_precision(precision, self.device))
        self.stateful = stateful
        stacks = (model.forward_lstm, model.backward_lstm)
        self._projected_stacks = [stack for stack in stacks if isinstance(stack, ProjectedLSTMStack)]
        if stateful and not self._projected_stacks:
            raise UserError("stateful: only the original ELMo can carry its state from one sentence to the next.")
        for stack in self._projected_stacks:
            stack.stateful = stateful

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        weights: str | Path | None = None,
        *,
        device: str | torch.device = "cpu",
        stateful: bool = False,
        precision: str = "fp32",
    ) -> "ELMo":
        """Load a language model: ELMo.load("models/bilstm.pt"), or ELMo.load("options.json", "weights.hdf5").

        path: by default the models/bilstm.pt of this repository; with `weights`, the options of an original ELMo.

        device: a name that torch accepts, or "auto": CUDA where it is available.

        stateful: as in the original program, sentence b of a call to `embed` starts in the state in which sentence b of
        the previous call ended. The vectors of a sentence then depend on the previous calls.

        precision: of the computation, "fp32", "bf16" or "auto", which is bf16 where the hardware supports it natively.
        The results are fp32 in any case; computed in fp32, they are the same on every machine up to the last digits.

        Raises UserError when a file is missing, damaged or of another kind, when the model cannot be stateful, or when
        there is no such device or it cannot compute in bf16.
        """
        if weights is not None and path is None:
            raise UserError('name the options of the original ELMo as well: ELMo.load("options.json", "weights.hdf5").')
        file = bundled_bilm() if path is None else Path(path)
        pretrained = load_bilm(file) if weights is None else import_original(file, Path(weights))
        return cls(pretrained, device, stateful, precision)

    def forget(self) -> None:
        """Reset the state, so that the next sentences start from zero, if the encoder is stateful."""
        for stack in self._projected_stacks:
            stack.forget()

    def embed(self, sentences: Iterable[str | Iterable[str]]) -> list[np.ndarray]:
        """Compute the vectors of each sentence: [e0, e1, ...], fp32 (J, n, E) for n words, without the boundaries.

        A sentence is a text or a list of words. A text is tokenized and cut to the tokenizer's `max_tokens`, as in
        pretraining (original ELMo: 128 words, case preserved). Words of a list are only lower-cased, if the tokenizer
        does so. An empty word has no characters; without a character model it is unknown. A word with more bytes than
        the model reads is cut. Raises TypeError as `input_checks.check_texts`; also for a list whose words all have a
        space (U+0020) in them, which are texts.
        """
        texts = self._encode_words(sentences)
        vectors = [np.empty(0, dtype=np.float32)] * len(texts)
        for batch, layers in self._batches(texts):
            of_batch = torch.stack(layers, dim=1).float().cpu().numpy()
            for row, of_row, length in zip(batch.rows, of_batch, batch.lengths.tolist(), strict=True):
                vectors[row] = of_row[:, 1 : length - 1].copy()
        return vectors

    def sentence_vectors(
        self, sentences: Iterable[str | Iterable[str]], layers: Sequence[int] | None = None
    ) -> np.ndarray:
        """Compute one vector per sentence: the means of some layers over its words, concatenated.

        layers: their numbers, negative ones counted from the last layer; by default all but e0, which gives the best
        accuracy with few labels (docs/results.md). A sentence without words has the mean of its two boundaries.

        Returns fp32 (N, len(layers) * E). Raises TypeError as `embed`, IndexError and ValueError as `layer_numbers`.
        """
        chosen = self.layer_numbers(layers)
        texts = self._encode_words(sentences)
        vectors = np.zeros((len(texts), len(chosen), self.output_dim), dtype=np.float32)
        for batch, outputs in self._batches(texts):
            weights = _averaging_weights(batch.lengths, batch.ids.shape[1]).to(self.device)
            for i, layer in enumerate(chosen):
                vectors[batch.rows, i] = torch.einsum("bt,bte->be", weights, outputs[layer].float()).cpu().numpy()
        return vectors.reshape(len(texts), len(chosen) * self.output_dim)

    def layer_numbers(self, layers: Sequence[int] | None) -> list[int]:
        """The layers that `layers` of `sentence_vectors` means: by default all but e0.

        Raises IndexError when there is no such layer, ValueError when there is none at all or no list.
        """
        every = range(self.num_layers)
        if layers is None:
            return list(every[1:])
        if not isinstance(layers, Sequence | np.ndarray) or not len(layers):
            raise ValueError(f"layers is {layers!r}; a list of numbers is expected, such as (1, 2)")
        for layer in layers:
            if not -len(every) <= layer < len(every):
                raise IndexError(f"there is no layer {layer}: the layers are 0 to {every[-1]}")
        return [every[layer] for layer in layers]

    def words(self, text: str) -> list[str]:
        """Tokenize a text: the words that the model reads of it. Raises TypeError as `input_checks.check_text`."""
        return self.vocabulary.tokenizer.words_of(check_text(text))

    def _encode_words(self, sentences: Iterable[str | Iterable[str]]) -> EncodedTexts:
        return self.vocabulary.encode_words(map(self.vocabulary.tokenizer.words_of, check_texts(sentences)))

    @torch.no_grad()
    def _batches(self, texts: EncodedTexts) -> Iterator[tuple[Batch, list[torch.Tensor]]]:
        """Yield each batch with its layers, (B, T, E) each. With a state, all sentences of a call are one batch."""
        is_one_batch = self.stateful and len(texts)
        batch_tokens = inference_batch_tokens(self.device)
        for rows in [np.arange(len(texts))] if is_one_batch else plan_batches(texts.lengths, batch_tokens):
            batch = collate(texts, rows).to(self.device)
            with self._autocast():
                layers = self.model.encode(batch)
            yield batch, layers


def _averaging_weights(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """Return the weights of the mean over the words of each text, fp32 (B, width).

    Boundaries have weight 0 unless the text has no words.
    """
    words = mask_of(lengths - 1, width)
    words[:, 0] = False
    words = torch.where((lengths == 2)[:, None], mask_of(lengths, width), words)
    return words / words.sum(1, keepdim=True)
