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
    from sklearn.metrics import confusion_matrix  # takes a second to import

    assert model.softmax is not None
    size = len(vocabulary)
    words = range(len(SPECIALS), min(len(SPECIALS) + CONFUSION_WORDS, size))
    index = np.full(size, len(words))  # of each word's row and column in the confusion matrix
    index[words] = np.arange(len(words))
    counts = {direction: ClassCounts(size) for direction in DIRECTIONS}
    confusion = {direction: np.zeros((len(words) + 1,) * 2, dtype=np.int64) for direction in DIRECTIONS}
    nll = dict.fromkeys(DIRECTIONS, 0.0)
    in_top = dict.fromkeys(DIRECTIONS, 0)
    for batch in batches:
        batch = batch.to(device)
        with autocast():
            for direction, lm in model.lm_targets(batch).items():
                nll[direction] += float(model.softmax.nll(lm.states, lm.targets).cpu().double().sum())
                top = model.softmax.topk(lm.states, min(TOP, size))
                in_top[direction] += int((top == lm.targets[:, None]).sum())
                actual, predicted = lm.targets.cpu().numpy(), top[:, 0].cpu().numpy()
                counts[direction].add(actual, predicted)
                confusion[direction] += confusion_matrix(index[actual], index[predicted], labels=range(len(words) + 1))
    figures: dict[str, Any] = {}
    for direction in DIRECTIONS:
        targets = int(counts[direction].actual.sum())
        scores = counts[direction].scores()
        figures[direction] = {
            "perplexity": perplexity(nll[direction], targets),
            "accuracy": scores["accuracy"],
            "top5_accuracy": in_top[direction] / targets,
            "targets": targets,
            **{f"{name}_macro": scores[name] for name in ("precision", "recall", "f1")},
            **{f"{name}_weighted": scores[f"{name}_weighted"] for name in ("precision", "recall", "f1")},
            "words": scores["classes"],
            "words_undefined": scores["undefined"],
            "confusion_words": [vocabulary.words[i] for i in words],
            "confusion_matrix": confusion[direction][: len(words)].tolist(),
        }
    return figures


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
