"""Metrics of a language model and of classifiers on the texts of one split; mean vectors of texts."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from bilm.config import ENSEMBLE
from bilm.metrics import ClassCounts, perplexity
from bilm.modules.classifier import EncoderClassifier
from bilm.modules.encoder import Encoder
from bilm.modules.language_model import DIRECTIONS, BiLM
from bilm.text.batching import Batch, mask_of
from bilm.text.vocabulary import SPECIALS, Vocabulary

# Words in the confusion matrix of a language model: the first ones of the vocabulary, which are the most frequent ones
# of the texts that it was built from (after --start-from: those of the model started from).
CONFUSION_WORDS = 20
# A prediction is in the top 5 when the target is among the 5 most probable words.
TOP = 5


class DirectionCounts:
    """What is counted over the targets of one direction of a language model."""

    def __init__(self, vocabulary: Vocabulary):
        size, first = len(vocabulary), len(SPECIALS)
        self.words = vocabulary.words[first : first + CONFUSION_WORDS]
        # Of each word, its row and column in the confusion matrix; the last one is of all other words.
        self._index = np.full(size, len(self.words))
        self._index[first : first + len(self.words)] = np.arange(len(self.words))
        self.by_word = ClassCounts(size)
        self.confusion = np.zeros((len(self.words) + 1,) * 2, dtype=np.int64)
        self.nll, self.in_top = 0.0, 0

    def add(self, nll: torch.Tensor, top: torch.Tensor, targets: torch.Tensor) -> None:
        """nll: negative log-likelihood of each target, (N,); top: its most probable words, int64 (N, k)."""
        from sklearn.metrics import confusion_matrix  # takes a second to import

        self.nll += float(nll.cpu().double().sum())
        self.in_top += int((top == targets[:, None]).sum())
        actual, predicted = targets.cpu().numpy(), top[:, 0].cpu().numpy()
        self.by_word.add(actual, predicted)
        labels = range(len(self.confusion))
        self.confusion += confusion_matrix(self._index[actual], self._index[predicted], labels=labels)

    def figures(self) -> dict[str, Any]:
        """Return the metrics of this direction."""
        targets, scores = int(self.by_word.actual.sum()), self.by_word.scores()
        return {
            "perplexity": perplexity(self.nll, targets),
            "accuracy": scores["accuracy"],
            "top5_accuracy": self.in_top / targets,
            "targets": targets,
            **{f"{name}_macro": scores[name] for name in ("precision", "recall", "f1")},
            **{f"{name}_weighted": scores[f"{name}_weighted"] for name in ("precision", "recall", "f1")},
            "words": scores["classes"],
            "words_undefined": scores["undefined"],
            "confusion_words": list(self.words),
            "confusion_matrix": self.confusion[: len(self.words)].tolist(),
        }


@torch.no_grad()
def evaluate_language_model(
    model: BiLM,
    vocabulary: Vocabulary,
    batches: Iterable[Batch],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> dict[str, Any]:
    """Return the metrics of each direction over all targets in `batches`, in which padding is no target.

    Perplexity, accuracy and top-5 accuracy of the next (previous) word; precision, recall and F1 over the vocabulary;
    the confusion matrix of the first CONFUSION_WORDS words (row: the true word; last column: any other predicted word).
    """
    assert model.softmax is not None
    counts = {direction: DirectionCounts(vocabulary) for direction in DIRECTIONS}
    for batch in batches:
        batch = batch.to(device)
        with autocast():
            for direction, lm in model.lm_targets(batch).items():
                nll = model.softmax.nll(lm.states, lm.targets)
                top = model.softmax.topk(lm.states, min(TOP, len(vocabulary)))
                counts[direction].add(nll, top, lm.targets)
    return {direction: counts[direction].figures() for direction in DIRECTIONS}


@torch.no_grad()
def class_probabilities(
    models: Mapping[str, EncoderClassifier],
    batches: Iterable[Batch],
    num_texts: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> dict[str, np.ndarray]:
    """Return each model's class probabilities, fp32 (num_texts, C), by row of the text; NaN in rows of no batch.

    With several models, ENSEMBLE is the mean of their probabilities. For models with the same encoder, the layers of a
    batch are computed once.
    """
    result = {name: np.full((num_texts, m.classifier.num_classes), np.nan, np.float32) for name, m in models.items()}
    for batch in batches:
        batch = batch.to(device)
        layers: dict[int, list[torch.Tensor]] = {}
        with autocast():
            for name, model in models.items():
                key = id(model.encoder)
                if key not in layers:
                    layers[key] = model.layers(batch)
                result[name][batch.rows] = model.classifier(layers[key], batch).softmax(-1).cpu().numpy()
    if len(result) > 1:
        result[ENSEMBLE] = np.mean(list(result.values()), axis=0)
    return result


@torch.no_grad()
def mean_layers(
    encoder: Encoder,
    batches: Iterable[Batch],
    num_texts: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> np.ndarray:
    """Return the mean of e0, e1, ... over the tokens of each text, boundaries included.

    fp32 (num_texts, J, E) for J layers of width E, by row of the text; NaN in rows of no batch.
    """
    pooled = np.full((num_texts, encoder.num_layers, encoder.output_dim), np.nan, dtype=np.float32)
    for batch in batches:
        with autocast():
            layers = torch.stack(encoder.encode(batch.to(device)), dim=1)
        inside = mask_of(batch.lengths, batch.ids.shape[1]).to(layers.device)[:, None, :, None]
        sums = (layers * inside).sum(2, dtype=torch.float32).cpu()
        pooled[batch.rows] = (sums / batch.lengths[:, None, None]).numpy()
    return pooled
