"""Files of models: content, precision, and loading."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch.utils._python_dispatch import TorchDispatchMode

from bilm.checkpoints import serialization
from bilm.checkpoints.model_format import (
    in_half_precision,
    load_bilm,
    load_classifier,
    load_complete_classifier,
    save_bilm,
    save_classifier,
)
from bilm.config import BiLMConfig, ClassifierConfig, TokenizerConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.language_model import BiLM
from bilm.text.batching import collate
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import Vocabulary

INFO = {"settings": {"corpus": "x"}, "rows_trained": 3, "seed": 0, "combination": {"before": {}, "after": {}}}
INFO |= {"validation_perplexity": 9.5, "validation_accuracy": 0.5}


def test_matrices_are_halved_and_the_rest_stays():
    weights = {"matrix": torch.randn(3, 2), "vector": torch.randn(3), "number": torch.tensor(0.1)}
    weights["large"] = torch.tensor([[1.0, 70_000.0]])
    result = in_half_precision(weights)
    assert result["matrix"].dtype == torch.float16
    assert all(torch.equal(result[name], weights[name]) for name in ("vector", "number", "large"))


@pytest.mark.parametrize("imported", [False, True])
def test_a_language_model_comes_back_but_for_its_last_digits(bilm, vocabulary, tmp_path, imported):
    path = tmp_path / "bilstm.pt"
    save_bilm(path, bilm, vocabulary, INFO | ({"imported": {}} if imported else {}))
    result = load_bilm(path).model
    exact = [torch.equal(a, b) for a, b in zip(bilm.parameters(), result.parameters(), strict=True)]
    assert all(exact) if imported else not all(exact)
    for a, b in zip(bilm.parameters(), result.parameters(), strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=2**-11, atol=2**-24)


def test_the_rule_for_words_is_in_the_file(bilm, vocabulary, tmp_path):
    path = tmp_path / "bilstm.pt"
    for rule in ("unicode", "legacy"):
        config = TokenizerConfig(word_rule=rule)
        save_bilm(path, bilm, Vocabulary(vocabulary.words, Tokenizer(config)), INFO)
        assert serialization.load(path, "bilm")["tokenizer"]["word_rule"] == rule
        assert load_bilm(path).vocabulary.tokenizer.config == config
    saved = serialization.load(path, "bilm")
    del saved["tokenizer"]["word_rule"]
    for corpus, rule in (("sample", "unicode"), ("reviews", "legacy")):
        serialization.save(path, "bilm", saved | {"info": saved["info"] | {"corpus": corpus}})
        assert load_bilm(path).vocabulary.tokenizer.config.word_rule == rule


def test_the_weights_in_this_repository_are_read_by_the_new_rule():
    assert load_bilm(ROOT / "models" / "bilstm.pt").vocabulary.tokenizer("हिन्दी समाचार") == ["हिन्दी", "समाचार"]


@pytest.mark.parametrize("finetuned", [False, True])
def test_a_classifier_comes_back_without_the_softmax_it_does_not_use(bilm, vocabulary, texts, tmp_path, finetuned):
    save_bilm(tmp_path / "bilstm.pt", bilm, vocabulary, INFO)
    pretrained = load_bilm(tmp_path / "bilstm.pt")
    classifier = Classifier(ClassifierConfig(hidden=3), "frozen", pretrained.model, 4, seed=1)
    encoder = copy.deepcopy(pretrained.model)
    if finetuned:  # makes its weights differ from those of the language model
        with torch.no_grad():
            encoder.forward_lstm.lstms[0].weight_ih_l0.mul_(-1)
    model = EncoderClassifier(encoder, classifier, finetuned).eval()
    save_classifier(tmp_path / "classifier.pt", model, pretrained, ["w", "s", "b", "t"], INFO)
    saved = serialization.load(tmp_path / "classifier.pt", "classifier")
    assert saved["weights"]["combine.w"].equal(classifier.combine.w), "lambdas to the last digit"
    assert (saved["encoder"] is not None) == finetuned
    assert not finetuned or not any(name.startswith("softmax") for name in saved["encoder"]["weights"])
    result = load_classifier(tmp_path / "classifier.pt", pretrained).model
    assert dataclasses.asdict(result.classifier.config) == dataclasses.asdict(classifier.config)
    assert (result.encoder is pretrained.model) != finetuned
    batch = collate(vocabulary.encode(texts), np.arange(5))
    with torch.no_grad():
        torch.testing.assert_close(result(batch), model(batch), rtol=0, atol=5e-3)
    complete = load_complete_classifier(tmp_path / "classifier.pt")
    assert (complete is not None) == finetuned
    if complete:
        assert complete.vocabulary.words == vocabulary.words and complete.bilm_hash == pretrained.hash
        assert complete.vocabulary.tokenizer.config == vocabulary.tokenizer.config
        with torch.no_grad():
            assert torch.equal(complete.model(batch), result(batch))


def test_a_fine_tuned_classifier_of_version_6_needs_its_language_model(bilm, vocabulary, texts, tmp_path):
    save_bilm(tmp_path / "bilstm.pt", bilm, vocabulary, INFO)
    pretrained, path = load_bilm(tmp_path / "bilstm.pt"), tmp_path / "classifier.pt"
    classifier = Classifier(ClassifierConfig(hidden=3), "finetune", pretrained.model, 4, seed=1)
    model = EncoderClassifier(copy.deepcopy(pretrained.model), classifier, finetuned=True).eval()
    save_classifier(path, model, pretrained, ["w", "s", "b", "t"], INFO)
    batch, present = collate(vocabulary.encode(texts), np.arange(5)), load_classifier(path, pretrained)
    content = serialization.load(path, "classifier")
    serialization.save(path, "classifier", content | {"tuned_encoder": content.pop("encoder")["weights"]})
    assert "encoder" not in serialization.load(path, "classifier")
    assert load_complete_classifier(path) is None
    with torch.no_grad():
        assert torch.equal(load_classifier(path, pretrained).model(batch), present.model(batch))


class _Operations(TorchDispatchMode):
    """Collects the names of the operations that run within this context."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("token_layer", ["word", "char", "word+char"])
def test_loading_draws_no_initial_weights(vocabulary, tmp_path, token_layer):
    """On the device "meta" normal_ and empty_like would import torch's compiler, which takes a second."""
    model = BiLM(BiLMConfig(width=7, token_layer=token_layer), len(vocabulary))
    save_bilm(tmp_path / "bilstm.pt", model, vocabulary, INFO)
    with _Operations() as run:
        load_bilm(tmp_path / "bilstm.pt")
    assert not any("normal_" in name or "empty_like" in name for name in run.names)
