"""The hybrid classifier with texts without labels, against scikit-learn and NumPy."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler

from bilm.modules.classifier import EncoderClassifier
from bilm.runtime.errors import UserError
from bilm.text.batching import collate
from bilm.text.ngrams import NGRAMS
from bilm.training import hybrid_features
from bilm.training.hybrid import (
    FEATURE_SETS,
    FEATURE_SETS_WITH_LSA,
    Choice,
    HybridTrainer,
    read_layers,
)
from bilm.training.hybrid_features import Features, UnlabelledTexts
from bilm.training.token_clusters import learn_clusters

CPU = torch.device("cpu")
LABELLED = [f"the {noun} was {word}" for noun in ("coach", "club", "moon", "rain", "water") for word in ("zyx", "qwv")]
# "abcd" is in texts like those of "zyx", and in no labelled one.
UNLABELLED = [
    f"{noun} {of_class} {word}"
    for noun in ("stock", "bank", "lab")
    for of_class, word in (("zyx", "abcd"), ("qwv", "efgh"), ("zyx again", "abcd"), ("qwv again", "efgh"))
]
NEW = ["abcd", "efgh", "the lab was zyx"]
LABELS = np.array([0, 1] * 5)
COUNT = len(LABELLED)


def read(bilm, vocabulary, clusters, texts):
    """The words, clusters and vectors of texts."""
    batch = collate(vocabulary.opened().encode(texts), np.arange(len(texts)))
    return batch.words(), *read_layers(bilm, (1, 2), clusters, [batch], len(texts), CPU, nullcontext)


@pytest.fixture
def token_clusters(bilm, vocabulary):
    texts = vocabulary.opened().encode(LABELLED + UNLABELLED)
    return learn_clusters(bilm, texts, np.arange(len(texts)), CPU, nullcontext, seed=0)


@pytest.fixture
def trainer(bilm, vocabulary, token_clusters) -> HybridTrainer:
    more, _, vectors = read(bilm, vocabulary, token_clusters, UNLABELLED)
    labelled = read(bilm, vocabulary, token_clusters, LABELLED)
    return HybridTrainer(*labelled, LABELS, 2, 0, UnlabelledTexts(more, vectors))


def by_kind(words, clusters) -> dict:
    return {"words": words, "characters": words, "clusters": clusters}


def features_by_hand(trainer, new) -> tuple[list, list, np.ndarray]:
    """By kind, as in FEATURE_SETS_WITH_LSA[0], of the labelled texts and of `new`: words, clusters, vectors."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
    characters = TfidfVectorizer(ngram_range=(2, 5), sublinear_tf=True, analyzer="char_wb", min_df=2)
    clusters = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\S+")
    of_all = [" ".join(text) for text in [*trainer.words, *trainer.unlabelled.words]]
    new_words, new_clusters = ([" ".join(text) for text in x] for x in new[:2])
    known, of_new, tfidf = [], [], []
    for vectorizer in (words, characters):
        tfidf.append((vectorizer.fit_transform(of_all).toarray(), vectorizer.transform(new_words).toarray()))
        known.append(tfidf[-1][0][:COUNT])
        of_new.append(tfidf[-1][1])
    known.append(0.7 * clusters.fit_transform(map(" ".join, trainer.clusters)).toarray())
    of_new.append(0.7 * clusters.transform(new_clusters).toarray())
    scaler = StandardScaler()
    scaled = scaler.fit_transform(np.concatenate([trainer.vectors, trainer.unlabelled.vectors]))
    rank = np.linalg.matrix_rank(scaled, tol=1e-3)
    pca = PCA(rank).fit(scaled)
    length = np.sqrt(pca.explained_variance_.sum())
    known.append(pca.transform(scaled)[:COUNT] / length)
    of_new.append(pca.transform(scaler.transform(new[2])) / length)
    every, of_texts = (np.concatenate([x[i] for x in tfidf], axis=1) for i in (0, 1))
    basis = np.linalg.svd(every)[2][: len(every) - 1].T
    points = every @ basis
    size = np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())
    known.append((points[:COUNT] - points.mean(0)) / size)
    of_new.append((of_texts @ basis - points.mean(0)) / size)
    return known, of_new


def test_features_are_learned_from_all_texts_but_for_those_of_clusters(trainer, bilm, vocabulary, token_clusters):
    """Compared by their products, which do not depend on the signs and the number of principal components."""
    new = read(bilm, vocabulary, token_clusters, NEW)
    features = Features(by_kind(trainer.words, trainer.clusters), trainer.vectors, trainer.unlabelled)
    computed = features.compute(by_kind(*new[:2]), new[2])
    for kind, known, of_new in zip(FEATURE_SETS_WITH_LSA[0], *features_by_hand(trainer, new), strict=True):
        np.testing.assert_allclose(
            (features.of_labelled[kind] @ features.of_labelled[kind].T).toarray(), known @ known.T, atol=1e-5
        )
        np.testing.assert_allclose(
            (computed[kind] @ features.of_labelled[kind].T).toarray(), of_new @ known.T, atol=1e-5
        )


def test_folded_weights_give_the_same_logits(trainer):
    features = Features(by_kind(trainer.words, trainer.clusters), trainer.vectors, trainer.unlabelled)
    random = np.random.default_rng(0)
    weights = {kind: random.normal(size=(x.shape[1], 3)) for kind, x in features.of_labelled.items()}
    expected = 1 + sum(x @ weights[kind] for kind, x in features.of_labelled.items())
    folded, biases = features.fold(weights, np.ones(3))
    ngrams = sum(features.of_labelled[kind] @ folded[kind] for kind in NGRAMS)
    np.testing.assert_allclose(ngrams + trainer.vectors @ folded["vectors"] + biases, expected, rtol=1e-4, atol=1e-4)


def test_the_file_answers_as_the_features_that_it_was_chosen_by(trainer, bilm, vocabulary, token_clusters):
    choice = trainer.choose([(np.arange(4, COUNT), np.arange(4))])
    classifier = trainer.fit(np.arange(4, COUNT), choice, bilm, (1, 2), token_clusters)
    with torch.no_grad():
        batch = collate(vocabulary.opened().encode(LABELLED), np.arange(4))
        logits = EncoderClassifier(bilm, classifier, finetuned=False)(batch).numpy() * float(classifier.temperature)
    np.testing.assert_allclose(logits, choice.logits[:4], rtol=1e-3, atol=1e-4)


def test_words_of_unlabelled_texts_alone_decide(trainer, bilm, vocabulary, token_clusters, monkeypatch):
    """In few components, a word is near to those that it occurs with."""
    monkeypatch.setattr(hybrid_features, "COMPONENTS", 4)
    features = ("words", "characters", "lsa")
    choice = Choice(features, 1.0, {(features, 1.0): 1.0}, np.array([[1.0, -1], [-1, 1]] * 5))
    classifier = trainer.fit(np.arange(COUNT), choice, bilm, (1, 2), token_clusters)
    of_abcd, of_efgh = (classifier.weights["words"][classifier.config.words.index(word)] for word in ("abcd", "efgh"))
    assert of_abcd[0] > 0.03 and of_efgh[1] > 0.03
    torch.testing.assert_close(torch.stack([of_abcd[1], of_efgh[0]]), -torch.stack([of_abcd[0], of_efgh[1]]))


def test_lsa_is_the_usual_choice_only_with_unlabelled_texts(trainer):
    splits = [(np.arange(4, 10), np.arange(4)), (np.arange(4), np.arange(4, 10))]
    choice = trainer.choose(splits)
    assert choice.features == FEATURE_SETS_WITH_LSA[0] == (*FEATURE_SETS[0], "lsa") and choice.C == 0.3
    assert {features for features, _ in choice.accuracies} == set(FEATURE_SETS_WITH_LSA)
    without = replace(trainer, unlabelled=None).choose(splits)
    assert without.features == FEATURE_SETS[0]
    assert {features for features, _ in without.accuracies} == set(FEATURE_SETS)


def test_a_fold_reads_neither_labels_nor_texts_of_other_validation_rows(trainer):
    splits = [(np.arange(4, 10), np.arange(4))]
    expected = trainer.choose(splits).logits[0]
    words = [trainer.words[0], *(["stock", "abcd"] for _ in range(3)), *trainer.words[4:]]
    vectors = np.concatenate([trainer.vectors[:1], trainer.vectors[1:4] + 1, trainer.vectors[4:]])
    other = replace(trainer, words=words, vectors=vectors, labels=np.array([0, 0, 1, 0, *LABELS[4:]]))
    assert np.array_equal(other.choose(splits).logits[0], expected)


def test_without_unlabelled_texts_features_are_those_of_the_labelled_texts_to_the_bit(trainer):
    features = Features(by_kind(trainer.words, trainer.clusters), trainer.vectors, None)
    expected = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
    assert (features.of_labelled["words"] != expected.fit_transform(map(" ".join, trainer.words))).nnz == 0
    scaled = StandardScaler().fit_transform(trainer.vectors)
    pca = PCA(random_state=0).fit(scaled)
    components = scaled @ (pca.components_ / np.sqrt(pca.explained_variance_.sum())).T
    assert np.array_equal(features.of_labelled["vectors"].toarray(), components)
    assert set(features.of_labelled) == {*FEATURE_SETS[0]}


def test_texts_without_words_are_an_error(trainer):
    with pytest.raises(UserError, match="cannot be trained on these 2 rows"):
        Features(by_kind([[], []], [[], []]), trainer.vectors[:2], None)
