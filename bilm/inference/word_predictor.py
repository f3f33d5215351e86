"""Predictions of the language model: how surprising a text is, which words fit a blank, continuations of a text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from bilm.checkpoints.model_format import Pretrained
from bilm.metrics import perplexity
from bilm.modules.language_model import DIRECTIONS
from bilm.runtime.device import autocast, find_device, find_precision
from bilm.runtime.errors import UserError
from bilm.text.batching import collate, evaluation_batch_tokens, iterate_batches
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import BOS, EOS, PAD, SPECIALS, UNK, Vocabulary

BLANK = "___"
MAX_WORDS = 100_000
# No space before these marks and the second part of "China's", and none after the opening marks.
_CLOSING, _OPENING = re.compile(r" ([.,;:!?)\]%]|'(?:s|t|re|ve|ll|d|m)\b)"), re.compile(r"([(\[$#]) ")


@dataclass(frozen=True)
class Score:
    """words: the predicted tokens, of which the last is a boundary; nll: -log p of each, nats, fp32 (n,)."""

    words: list[str]
    nll: np.ndarray

    @property
    def perplexity(self) -> float:
        return perplexity(float(self.nll.sum()), len(self.nll))


class WordPredictor:
    """Predicts words with the language model of a bilstm.pt.

    model: the BiLM, in eval mode; softmax: its output layer; vocabulary: its words, and its tokenizer, which here reads
    up to MAX_WORDS words of a text; device: where it computes.
    """

    def __init__(self, pretrained: Pretrained, device: str | torch.device = "cpu", precision: str = "fp32"):
        """precision: see `ELMo.load`.

        Raises UserError when the language model has no softmax, as the original ELMo's files have none, or when the
        device cannot compute in bf16.
        """
        if pretrained.model.softmax is None:
            raise UserError(
                "this language model was imported without its softmax: it has vectors, but predicts no words."
            )
        self.device = find_device(device)
        self._autocast = partial(autocast, self.device, find_precision(precision, self.device))
        self.model = pretrained.model.to(self.device).eval()
        self.softmax = pretrained.model.softmax
        # Texts are not cut: a prediction depends on the words next to a blank or to the end.
        tokenizer = Tokenizer(replace(pretrained.vocabulary.tokenizer.config, max_tokens=MAX_WORDS))
        self.vocabulary = Vocabulary(
            pretrained.vocabulary.words, tokenizer, open_ended=pretrained.vocabulary.open_ended
        )

    @torch.no_grad()
    def score(self, texts: Sequence[str]) -> list[dict[str, Score]]:
        """Return a Score for each text and direction ("forward", "backward"), with tokens in the order of prediction.

        A word outside the vocabulary is <unk>.
        """
        encoded = self.vocabulary.encode(texts)
        scores: list[dict[str, Score]] = [{} for _ in range(len(encoded))]
        if not scores:
            return scores
        for batch in iterate_batches(encoded, np.arange(len(encoded)), evaluation_batch_tokens(self.device)):
            ends = np.cumsum(batch.lengths.numpy() - 1)
            with self._autocast():
                directions = self.model.lm_targets(batch.to(self.device))
            for direction, predictions in directions.items():
                nll = self.softmax.nll(predictions.states.float(), predictions.targets).cpu().numpy()
                words = [self.vocabulary.words[i] for i in predictions.targets.tolist()]
                for row, start, end in zip(batch.rows, [0, *ends[:-1]], ends, strict=True):
                    scores[row][direction] = Score(words[start:end], nll[start:end])
        return scores

    @torch.no_grad()
    def fill(self, text: str, count: int) -> list[list[tuple[str, float]]]:
        """Return for each BLANK of `text` the `count` most probable words with their probabilities.

        The distributions of the two directions are multiplied and normalized. Other blanks are read as unknown words.
        Raises ValueError when the text has no blank.
        """
        parts = list(map(self.vocabulary.tokenizer, re.split(f"{BLANK}_*", text)))
        if len(parts) == 1:
            raise ValueError(f"the text has no {BLANK}")
        words, positions = parts[0], []
        for part in parts[1:]:
            positions.append(len(words) + 1)  # after <s>
            words = [*words, SPECIALS[UNK], *part]
        forward, backward = self._states(words)
        candidates = []
        for position in positions:
            states = torch.stack([forward[position - 1], backward[position + 1]])
            log_p = self.softmax.log_probs(states).sum(0)
            log_p[: len(SPECIALS)] = -torch.inf
            p, ids = log_p.softmax(0).topk(min(count, len(log_p) - len(SPECIALS)))
            candidates.append(list(zip([self.vocabulary.words[i] for i in ids.tolist()], p.tolist(), strict=True)))
        return candidates

    @torch.no_grad()
    def generate(
        self, text: str, count: int, direction: str, temperature: float, top_p: float, random: np.random.Generator
    ) -> list[str]:
        """Generate up to `count` words that follow `text` (direction "forward") or precede it ("backward").

        Each word is drawn by `draw`. Generation stops early when the model predicts the boundary of the text.
        """
        is_forward = direction == DIRECTIONS[0]
        stop, excluded = (EOS, BOS) if is_forward else (BOS, EOS)
        words, new = self.vocabulary.tokenizer(text), []
        for _ in range(count):
            forward, backward = self._states(words)
            state = forward[-2] if is_forward else backward[1]  # next to the boundary
            log_p = self.softmax.log_probs(state[None])[0]
            log_p[[PAD, UNK, excluded]] = -torch.inf
            drawn = draw(log_p.cpu().double().numpy(), temperature, top_p, random)
            if drawn == stop:
                break
            new.append(self.vocabulary.words[drawn])
            words = [*words, new[-1]] if is_forward else [new[-1], *words]
        return new if is_forward else new[::-1]

    def _states(self, words: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the top states of both directions at each token with its boundaries, (n + 2, D) each."""
        texts = self.vocabulary.encode_words([words])
        with self._autocast():
            top = self.model.encode(collate(texts, np.arange(1)).to(self.device))[-1][0]
        forward, backward = top.float().chunk(2, dim=-1)
        return forward, backward


def draw(log_p: np.ndarray, temperature: float, top_p: float, random: np.random.Generator) -> int:
    """Draw an index of log_p, fp64 (V,), by nucleus sampling (Holtzman et al. 2020).

    The distribution is sharpened (`temperature` below 1) or flattened (above 1), and restricted to the most probable
    words that together have the probability `top_p`. Temperature 0 selects the most probable word.
    """
    if temperature == 0:
        return int(log_p.argmax())
    p = np.exp((log_p - log_p.max()) / temperature)
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    nucleus = order[: int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1]
    return int(random.choice(nucleus, p=p[nucleus] / p[nucleus].sum()))


def joined(words: Sequence[str]) -> str:
    """Join words to a text, without spaces around punctuation marks where English has none."""
    return _OPENING.sub(r"\1", _CLOSING.sub(r"\1", " ".join(words)))
