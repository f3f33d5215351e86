"""What the language model expects: how surprising a text is, what fits a blank, how a text may go on or have begun."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from bilm.checkpoints.pretrained import Pretrained
from bilm.metrics import perplexity
from bilm.modules.language_model import DIRECTIONS
from bilm.runtime.errors import UserError
from bilm.text.batching import collate, iterate_batches
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import BOS, EOS, PAD, SPECIALS, UNK, Vocabulary

BLANK = "___"
BATCH_TOKENS = 8192
MOST_WORDS = 100_000
# Marks that stand against the word before them, and the end of "China's"; those against the word behind.
_CLOSING, _OPENING = re.compile(r" ([.,;:!?)\]%]|'(?:s|t|re|ve|ll|d|m)\b)"), re.compile(r"([(\[$#]) ")


@dataclass(frozen=True)
class Score:
    """words: what was predicted, a closing boundary at the end; nll: -log p of each, nats, fp32 (n,)."""

    words: list[str]
    nll: np.ndarray

    @property
    def perplexity(self) -> float:
        return perplexity(float(self.nll.sum()), len(self.nll))


class WordPredictor:
    """The language model of a bilstm.pt, asked for words."""

    def __init__(self, pretrained: Pretrained, device: str | torch.device = "cpu"):
        """Raises UserError when the language model came without its softmax, as the original did."""
        if pretrained.model.softmax is None:
            raise UserError(
                "this language model was imported without its softmax: it has vectors, but predicts no words."
            )
        self.device = torch.device(device)
        self.model = pretrained.model.to(self.device).eval()
        self.softmax = pretrained.model.softmax
        # Texts are not cut: what a blank or an end is about is what stands next to it.
        whole = replace(pretrained.vocabulary.tokenizer.config, max_tokens=MOST_WORDS)
        self.vocabulary = Vocabulary(
            pretrained.vocabulary.words, Tokenizer(whole), open_ended=pretrained.vocabulary.open_ended
        )

    @torch.no_grad()
    def score(self, texts: Sequence[str]) -> list[dict[str, Score]]:
        """Of each text, by direction: the words in the order in which they are predicted, and how surprising they were.

        A word that the vocabulary lacks counts as <unk>, and stands as that.
        """
        encoded = self.vocabulary.encode(texts)
        found: list[dict[str, Score]] = [{} for _ in range(len(encoded))]
        for batch in iterate_batches(encoded, np.arange(len(encoded)), BATCH_TOKENS) if len(encoded) else []:
            ends = np.cumsum(batch.lengths.numpy() - 1)
            for direction, asked in self.model.lm_targets(batch.to(self.device)).items():
                nll = self.softmax.nll(asked.states, asked.targets).float().cpu().numpy()
                targets = asked.targets.cpu().numpy()
                for row, start, end in zip(batch.rows, [0, *ends[:-1]], ends, strict=True):
                    words = [self.vocabulary.words[i] for i in targets[start:end]]
                    found[row][direction] = Score(words, nll[start:end])
        return found

    @torch.no_grad()
    def fill(self, text: str, count: int) -> list[list[tuple[str, float]]]:
        """For each BLANK of `text`, the `count` likeliest words and their probabilities.

        The two directions' distributions, multiplied word by word and scaled to sum to one. Other blanks are read as
        unknown words. Raises ValueError when there is no blank.
        """
        parts = re.split(f"{BLANK}_*", text)
        if len(parts) == 1:
            raise ValueError(f"there is no {BLANK} in the text")
        words = self.vocabulary.tokenizer(parts[0])
        places = []
        for part in parts[1:]:
            places.append(len(words) + 1)  # behind <s>
            words += [SPECIALS[UNK], *self.vocabulary.tokenizer(part)]
        forward, backward = self._states(words)
        fitting = []
        for place in places:
            both = torch.stack([forward[place - 1], backward[place + 1]])
            log_p = self.softmax.log_probs(both).sum(0)
            log_p[: len(SPECIALS)] = -torch.inf
            best, ids = log_p.softmax(0).topk(min(count, len(log_p) - len(SPECIALS)))
            chosen = zip(ids.tolist(), best.tolist(), strict=True)
            fitting.append([(self.vocabulary.words[i], p) for i, p in chosen])
        return fitting

    @torch.no_grad()
    def generate(
        self, text: str, count: int, direction: str, temperature: float, top_p: float, random: np.random.Generator
    ) -> list[str]:
        """At most `count` words that the forward direction sets behind `text`, or the backward one before it.

        Drawn one by one from the likeliest words that together have `top_p` of the probability, which `temperature`
        sharpens (below 1) or flattens. Ends early where the model ends, or begins, the text.
        """
        words, new = self.vocabulary.tokenizer(text), []
        for _ in range(count):
            forward, backward = self._states(words)
            state = forward[-2] if direction == DIRECTIONS[0] else backward[1]  # next to the boundary
            log_p = self.softmax.log_probs(state[None])[0]
            stop, never = (EOS, BOS) if direction == DIRECTIONS[0] else (BOS, EOS)
            log_p[[PAD, UNK, never]] = -torch.inf
            drawn = draw(log_p.cpu().double().numpy(), temperature, top_p, random)
            if drawn == stop:
                break
            word = self.vocabulary.words[drawn]
            new.append(word)
            words = [*words, word] if direction == DIRECTIONS[0] else [word, *words]
        return new if direction == DIRECTIONS[0] else new[::-1]

    def _states(self, words: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """The top states of both directions at each token, (n + 2, D) each; <unk> is the unknown word."""
        texts = self.vocabulary.encode_words([words])
        top = self.model.encode(collate(texts, np.arange(1)).to(self.device))[-1][0]
        forward, backward = top.chunk(2, dim=-1)
        return forward, backward


def draw(log_p: np.ndarray, temperature: float, top_p: float, random: np.random.Generator) -> int:
    """A place in log_p, fp64 (V,): see WordPredictor.generate. A temperature of 0 takes the likeliest."""
    if temperature == 0:
        return int(log_p.argmax())
    scaled = (log_p - log_p.max()) / temperature
    p = np.exp(scaled) / np.exp(scaled).sum()
    order = np.argsort(-p, kind="stable")
    kept = order[: int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1]
    return int(random.choice(kept, p=p[kept] / p[kept].sum()))


def joined(words: Sequence[str]) -> str:
    """Words as a text, with marks where they belong."""
    return _OPENING.sub(r"\1", _CLOSING.sub(r"\1", " ".join(words)))
