"""Word vectors without context: counts and PPMI by hand, SVD, skip-gram, and the encoder that reads them."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import SAMPLE, run_script

from bilm.baselines.word_vectors import cooccurrences, ppmi, skip_gram, svd_vectors
from bilm.config import ClassifierConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.static_encoder import StaticEncoder
from bilm.modules.token_layer import EMBEDDING_STD
from bilm.text.batching import collate
from bilm.text.vocabulary import PAD, UNK, EncodedTexts


def encoded(*texts: list[int]) -> EncodedTexts:
    offsets = np.cumsum([0, *map(len, texts)])
    return EncodedTexts(np.array([i for text in texts for i in text], dtype=np.int32), offsets)


def test_cooccurrences_by_hand():
    """Texts "4 5 4 6" and "5 7" (7 is not in the vocabulary), and a text that is not among the rows."""
    texts = encoded([4, 5, 4, 6], [6, 6], [5, 7])
    expected = np.zeros((7, 7))
    expected[4, 5], expected[4, 6], expected[5, UNK] = 2, 1, 1
    result = cooccurrences(texts, np.array([0, 2]), 7, window=1)
    assert np.array_equal(result.toarray(), expected + expected.T)
    expected[5, 6] += 1  # two apart
    expected[4, 4] = 1  # with itself: seen from both sides
    assert np.array_equal(cooccurrences(texts, np.array([0, 2]), 7, window=2).toarray(), expected + expected.T)
    both = cooccurrences(texts, np.arange(3), 7, window=8).toarray()
    assert both[6, 6] == 2 and both[6, 5] == 1, "no pairs across texts"


def test_ppmi_by_hand():
    texts = encoded([4, 5, 4, 6], [6, 6])
    counts = cooccurrences(texts, np.arange(2), 7, window=1)
    # 4 and 5 twice, 4 and 6 once, 6 and 6 once, each from both sides: 4 has 3 of 8, 5 has 2, 6 has 3.
    result = ppmi(counts).toarray()
    assert result[4, 5] == result[5, 4] == pytest.approx(math.log(2 * 8 / (3 * 2)))
    assert result[6, 6] == pytest.approx(math.log(2 * 8 / (3 * 3)))
    assert result[4, 6] == 0, "log(8 / 9) is below 0"
    assert np.count_nonzero(result) == 3


def test_svd_of_all_components_gives_the_matrix_back():
    random = np.random.default_rng(0)
    texts = encoded(*random.integers(4, 12, (60, 9)).tolist())
    rows = np.arange(50)
    matrix = ppmi(cooccurrences(texts, rows, 14, 2)).toarray()
    vectors = svd_vectors(texts, rows, 14, width=20, window=2, seed=0)
    assert vectors.shape == (14, 20) and vectors.dtype == np.float32
    assert not vectors[12:].any() and not vectors[PAD].any()
    left, values, _ = np.linalg.svd(matrix)
    expected = (left * values) @ left.T  # U sqrt(S) sqrt(S) U^T: the matrix, but for the signs of its eigenvalues
    result = vectors @ vectors.T
    np.testing.assert_allclose(result / np.trace(result), expected / np.trace(expected), atol=1e-6)


@pytest.mark.parametrize("vectors_of", [svd_vectors, skip_gram])
def test_words_of_like_company_are_alike(vectors_of):
    """Words 4 and 5 occur among words 8 to 27, words 6 and 7 among 28 to 47."""
    random = np.random.default_rng(0)
    kinds = [([4, 5], np.arange(8, 28)), ([6, 7], np.arange(28, 48))] * 3000
    first, second = (random.integers(20, size=len(kinds)) for _ in range(2))
    words = random.integers(2, size=len(kinds))
    chosen = zip(kinds, first, words, second, strict=True)
    texts = encoded(*([int(among[a]), pair[w], int(among[b])] for (pair, among), a, w, b in chosen))
    vectors = vectors_of(texts, np.arange(len(texts)), 48, 12, seed=0, window=2)
    assert vectors.dtype == np.float32 and vectors[vectors.any(1)].std() == pytest.approx(EMBEDDING_STD, rel=1e-3)
    assert np.array_equal(vectors, vectors_of(texts, np.arange(len(texts)), 48, 12, seed=0, window=2))
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    assert min(unit[4] @ unit[5], unit[6] @ unit[7]) > max(0.9, unit[4] @ unit[6] + 0.05, unit[5] @ unit[7] + 0.05)


def test_static_encoder_under_the_classifier():
    vectors = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    vectors[PAD] = 0
    encoder = StaticEncoder(vectors)
    batch = collate(encoded([4, 5, 6, 9], [7]), np.arange(2))
    (layer,) = encoder.encode(batch)
    np.testing.assert_array_equal(layer[0], vectors[[4, 5, 6, UNK]])
    np.testing.assert_array_equal(layer[1], vectors[[7, PAD, PAD, PAD]])
    assert encoder.embed(batch, torch.bfloat16).dtype == torch.bfloat16
    config = ClassifierConfig(hidden=5)
    for finetuned in (False, True):
        classifier = Classifier(config, "trainable", encoder, 3, seed=0)
        assert classifier.combine.describe() == {"lambdas": [1.0], "gamma": 1.0}
        model = EncoderClassifier(encoder, classifier, finetuned)
        model(batch, torch.tensor([0, 2])).backward()
        gradient = encoder.table.weight.grad
        assert (gradient is not None) is finetuned
    learned = gradient.any(1).tolist()
    assert learned == [False, True, False, False, True, True, True, True], "the words of the batch, without padding"
    assert [rate for _, rate in encoder.learning_rates(0.5)] == [0.5]
    one, same, other = (StaticEncoder.random(9, 4, seed).table.weight for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other) and not one[PAD].any()


def test_static_baselines_as_a_user_runs_them(tmp_path):
    pytest.importorskip("floret")
    for name in ("fasttext", "random", "svd_3", "word2vec_8"):
        common = ("--data", SAMPLE, "--output", tmp_path, "--width", 24, "--hidden", 16, "--device", "cpu")
        run = run_script("-m studies.baselines", *common, "--only", name, OMP_NUM_THREADS="1")
        assert run.code == 0 and f"{name}: accuracy" in run.out, run.err
    baselines = json.loads((tmp_path / "results/sample/summary.json").read_text())["baselines"]
    assert set(baselines) == {"fasttext", "random", "svd_3", "word2vec_8"}
    for entry in baselines.values():
        assert entry["rows_trained"] == 160 and sum(map(sum, entry["test"]["confusion_matrix"])) == 80
    assert baselines["svd_3"]["window"] == 3 and baselines["word2vec_8"]["window"] == 8
    assert {"runs", "results"} >= {path.name for path in tmp_path.iterdir()} - {"models"}
