import numpy as np
import pytest
import torch

from bilm.config import MODES, ClassifierConfig, FitConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.layers import masked_mean_max
from bilm.text.batching import collate, iterate_batches, mask_of
from bilm.training.classification import ClassificationTask, predict
from bilm.training.loop import fit
from bilm.training.optimizer import build_optimizer

CONFIG = ClassifierConfig(hidden=11, dropout=0.2, label_smoothing=0.0)
LABELS = np.array([2, 1, 0, 3, 0])


def build(bilm, mode: str, config=CONFIG) -> EncoderClassifier:
    classifier = Classifier(config, mode, bilm, num_classes=4, seed=3)
    return EncoderClassifier(bilm, classifier, finetuned=mode == "finetune")


def train(model, vocabulary, texts, tmp_path, epochs, learning_rate=0.02):
    rows = np.arange(len(texts))
    config = FitConfig(epochs=epochs, learning_rate=learning_rate, batch_tokens=32, checkpoint_seconds=1e9)
    task = ClassificationTask(
        "classifier", vocabulary.encode(texts), LABELS, rows, rows, config.batch_tokens, 0, torch.device("cpu")
    )
    return fit(
        model,
        task,
        build_optimizer([(model, learning_rate)], 0.0),
        config,
        checkpoint_path=tmp_path / "checkpoint.pt",
        settings={},
        autocast=lambda: torch.autocast("cpu", enabled=False),
        resume=False,
    )


def test_pooling_by_hand():
    x = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [100.0, 100.0]]])
    pooled = masked_mean_max(x, torch.tensor([[True, True, False]]))
    assert pooled.tolist() == [[2.0, -6.0, 3.0, -5.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling_has_the_gradient_of_mean_and_amax(dtype):
    """Tokens that share the maximum share its gradient; 70 of them do in one feature."""
    mask = mask_of(torch.tensor([90, 3, 1]), 90)
    x = torch.randn(3, 90, 5).relu().to(dtype)
    x[0, :70, 0] = 7.0
    upstream = torch.randn(3, 10).to(dtype)
    gradients = []
    for pooled in (
        lambda x: masked_mean_max(x, mask),
        lambda x: torch.stack(
            [torch.cat([t[:n].mean(0), t[:n].amax(0)]) for t, n in zip(x, (90, 3, 1), strict=True)],
        ),
    ):
        x = x.detach().requires_grad_()
        pooled(x).backward(upstream)
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)
    assert not gradients[0][~mask].any()


@pytest.mark.parametrize("mode", MODES)
def test_a_text_has_the_same_probabilities_in_any_company(bilm, vocabulary, texts, mode):
    model = build(bilm, mode).eval()
    encoded = vocabulary.encode(texts)
    together = collate(encoded, np.arange(5))
    with torch.no_grad():
        probabilities = model(together).softmax(-1)
        for row in range(5):
            alone = collate(encoded, np.array([row]))
            torch.testing.assert_close(model(alone).softmax(-1)[0], probabilities[row], rtol=0, atol=1e-5)


def test_a_text_without_words_has_a_class(bilm, vocabulary):
    batch = collate(vocabulary.encode([""]), np.array([0]))
    assert build(bilm, "trainable").eval()(batch).isfinite().all()


@pytest.mark.parametrize("mode", MODES)
def test_who_gets_a_gradient(bilm, vocabulary, texts, mode):
    model = build(bilm, mode).train()
    batch = collate(vocabulary.encode(texts), np.arange(5))
    model(batch, torch.from_numpy(LABELS)).backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    names = {name for name, _ in model.named_parameters()}
    expected = {name for name in names if name.startswith("classifier.")}
    if mode == "frozen":
        expected -= {"classifier.combine.w", "classifier.combine.gamma"}
    if mode == "finetune":
        expected |= {name for name in names if name.startswith("encoder.") and "softmax" not in name}
    assert moved == expected


def test_a_frozen_encoder_does_not_drop_out(bilm, vocabulary, texts):
    model = build(bilm, "trainable").train()
    batch = collate(vocabulary.encode(texts), np.arange(5))
    first, second = (model.layers(batch) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    finetuned = build(bilm, "finetune").train()
    assert not torch.equal(finetuned.layers(batch)[-1], finetuned.layers(batch)[-1])


@pytest.mark.parametrize("mode", MODES)
def test_what_training_moves(bilm, vocabulary, texts, tmp_path, mode):
    model = build(bilm, mode)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    train(model, vocabulary, texts, tmp_path, epochs=3)
    same = {name for name, weight in model.state_dict().items() if torch.equal(weight, before[name])}
    combination = {"classifier.combine.w", "classifier.combine.gamma"}
    assert combination & same == (combination if mode == "frozen" else set())
    encoder = {name for name in before if name.startswith("encoder.") and "softmax" not in name}
    assert encoder & same == (set() if mode == "finetune" else encoder)


@pytest.mark.parametrize("mode", MODES)
def test_a_tiny_corpus_is_learned_by_heart(bilm, vocabulary, texts, tmp_path, mode):
    model = build(bilm, mode, ClassifierConfig(hidden=32, dropout=0.0, label_smoothing=0.0))
    state = train(model, vocabulary, texts, tmp_path, epochs=40)
    assert state.best_figure == 1.0
    encoded = vocabulary.encode(texts)
    with torch.no_grad():
        predicted = predict(model.eval(), iterate_batches(encoded, np.arange(5), 20), 5, torch.device("cpu"))
    assert predicted.tolist() == LABELS.tolist()
