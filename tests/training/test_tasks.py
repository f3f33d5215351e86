"""The two tasks of fit(), without fit(): the shares of the ranks, what a loss counts, and predictions by row."""

import copy

import numpy as np
import pytest
import torch

from bilm.config import ClassifierConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.runtime.distributed import Ranks
from bilm.text.batching import collate, epoch_batches, iterate_batches
from bilm.training.classification import ClassificationTask, predict
from bilm.training.pretraining import PretrainingTask, perplexities

CPU = torch.device("cpu")
LABELS = np.array([2, 1, 0, 3, 0])
ROWS = np.arange(5)


@pytest.fixture
def encoded(vocabulary, texts):
    return vocabulary.encode(texts)


@pytest.fixture
def model(bilm) -> EncoderClassifier:
    """An untrained classifier with large weights, that gives different texts different classes."""
    bilm = copy.deepcopy(bilm)
    classifier = Classifier(ClassifierConfig(hidden=6, dropout=0.0), "trainable", bilm, 4, seed=0)
    for parameter in (classifier.hidden.weight, classifier.out.weight):
        torch.nn.init.normal_(parameter)
    return EncoderClassifier(bilm, classifier, finetuned=False).eval()


def task_of(kind: str, encoded, training=ROWS, validation=ROWS):
    if kind == "pretraining":
        return PretrainingTask(encoded, training, validation, 32, 7, CPU)
    return ClassificationTask("classifier", encoded, LABELS, training, validation, 32, 7, CPU)


@pytest.mark.parametrize("kind", ["pretraining", "classification"])
def test_a_plan_holds_the_training_rows_once_and_changes_with_the_epoch(kind, encoded):
    task = task_of(kind, encoded, training=np.array([0, 2, 3, 4]))
    for epoch in range(3):
        plan = task.plan(epoch)
        assert sorted(np.concatenate(plan)) == [0, 2, 3, 4]
        for batch, expected in zip(plan, epoch_batches(encoded, task.training_rows, 32, 7, epoch), strict=True):
            assert np.array_equal(batch, expected)


@pytest.mark.parametrize("kind", ["pretraining", "classification"])
def test_the_shares_of_the_ranks_add_up_to_the_batch(kind, encoded, bilm, model):
    """Three ranks, a batch of five texts: two, two and one."""
    task, network = task_of(kind, encoded), bilm if kind == "pretraining" else model
    loss, targets, units = task.loss(network, ROWS, 0, 1)
    shares = [task.loss(network, ROWS, rank, 3) for rank in range(3)]
    assert sum(share[0].item() for share in shares) == pytest.approx(loss.item(), rel=1e-5)
    assert sum(share[1] for share in shares) == targets and sum(share[2] for share in shares) == units
    assert all(share[1] > 0 and share[0].item() > 0 for share in shares)


@pytest.mark.parametrize("kind", ["pretraining", "classification"])
def test_a_rank_without_a_text_counts_nothing_and_has_a_gradient_of_zero(kind, encoded, bilm, model):
    task, network = task_of(kind, encoded), bilm if kind == "pretraining" else model
    loss, targets, units = task.loss(network, ROWS[:2], 2, 3)
    assert (loss.item(), targets, units) == (0.0, 0, 0)
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients and not any(gradient.any() for gradient in gradients)


def test_a_language_model_has_a_target_per_direction_for_every_token_but_one(encoded, bilm):
    """Units are the targets of one direction: a text of n words has n + 1."""
    loss, targets, units = task_of("pretraining", encoded).loss(bilm, ROWS, 0, 1)
    assert units == int(encoded.lengths.sum()) - 5 and targets == 2 * units
    assert loss.item() == pytest.approx(bilm(collate(encoded, ROWS)).sum().item(), rel=1e-6)


def test_a_classifier_has_a_target_per_text(encoded, model):
    loss, targets, units = task_of("classification", encoded).loss(model, np.array([3, 1, 4]), 0, 1)
    assert (targets, units) == (3, 3)
    batch = collate(encoded, np.array([3, 1, 4]))
    assert loss.item() == pytest.approx(model(batch, torch.from_numpy(LABELS[[3, 1, 4]])).item(), rel=1e-6)


def test_predictions_stand_at_their_rows_and_rows_of_no_batch_have_none(encoded, model):
    with torch.no_grad():
        expected = model(collate(encoded, ROWS)).argmax(-1).numpy()
        predicted = predict(model, iterate_batches(encoded, np.array([4, 1, 3]), 20), 5, CPU)
    assert predicted.dtype == np.int64
    assert predicted.tolist() == [-1, expected[1], -1, expected[3], expected[4]]


def test_validation_accuracy_is_over_the_validation_rows_alone(encoded, model):
    with torch.no_grad():
        classes = model(collate(encoded, ROWS)).argmax(-1).numpy()
    right = (classes == LABELS).astype(float)
    for rows in (np.array([0, 2]), np.array([1, 3, 4]), ROWS):
        with torch.no_grad():
            result = task_of("classification", encoded, validation=rows).validate(model)
        assert result == {"accuracy": pytest.approx(right[rows].mean())}


def test_validation_perplexity_is_over_the_validation_rows_alone(encoded, bilm):
    rows = np.array([1, 4])
    with torch.no_grad():
        result = task_of("pretraining", encoded, validation=rows).validate(bilm)
        nll = bilm(collate(encoded, rows)).double().numpy()
    forward, backward = np.exp(nll / (encoded.lengths[rows] - 1).sum())
    assert result == {
        "forward_perplexity": pytest.approx(forward, rel=1e-5),
        "backward_perplexity": pytest.approx(backward, rel=1e-5),
        "perplexity": pytest.approx((forward + backward) / 2, rel=1e-5),
    }


def test_ranks_divide_batches_and_each_knows_the_sum(encoded, bilm):
    """Two ranks, three batches, one after the other: the sums of both are what one alone comes to."""
    batches = [*iterate_batches(encoded, ROWS, 20)]
    assert len(batches) > 2
    seen = []

    class One(Ranks):
        def __init__(self, rank: int):
            self.rank, self.size = rank, 2

        def sum(self, *values):
            seen.append(values)
            return list(values)

    with torch.no_grad():
        for rank in range(2):
            perplexities(bilm, batches, CPU, One(rank))
        expected = bilm(collate(encoded, ROWS)).tolist()
    total = np.sum(seen, axis=0)
    assert total.tolist() == pytest.approx([*expected, int((encoded.lengths - 1).sum())], rel=1e-5)
    assert all(values[-1] > 0 for values in seen)
