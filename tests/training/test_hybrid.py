"""The hybrid classifier against scikit-learn; folds; words that the language model does not know."""

import warnings
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from bilm.checkpoints import serialization
from bilm.checkpoints.model_format import (
    TrainedClassifier,
    load_bilm,
    load_classifier,
    save_bilm,
    save_classifier,
)
from bilm.evaluation.scoring import class_probabilities
from bilm.inference.text_classifier import TextClassifier
from bilm.model_selection import is_clearly_better
from bilm.modules.classifier import EncoderClassifier
from bilm.modules.hybrid import pooled_vectors
from bilm.modules.token_clusters import TokenClusters
from bilm.runtime.errors import UserError
from bilm.text.batching import collate
from bilm.text.ngrams import NgramFeatures
from bilm.training.calibration import best_temperature
from bilm.training.hybrid import _NEVER, FEATURE_SETS, VECTORS, Choice, HybridTrainer, read_layers
from bilm.training.token_clusters import learn_clusters

CPU = torch.device("cpu")
# Only the last word tells the classes apart, and the language model knows neither of the two.
ROWS = [f"the {noun} was {word}" for noun in ("coach", "club", "moon", "rain", "water") for word in ("zyx", "qwv")]
LABELS = np.array([0, 1] * 5)
SPLITS = [(np.arange(4, 10), np.arange(4)), (np.arange(4), np.arange(4, 10))]


@pytest.fixture
def token_clusters(bilm, vocabulary) -> TokenClusters:
    return learn_clusters(bilm, vocabulary.opened().encode(ROWS), np.arange(len(ROWS)), CPU, nullcontext, seed=0)


@pytest.fixture
def trainer(bilm, vocabulary, token_clusters) -> HybridTrainer:
    batch = collate(vocabulary.opened().encode(ROWS), np.arange(len(ROWS)))
    clusters, vectors = read_layers(bilm, (1, 2), token_clusters, [batch], len(ROWS), CPU, nullcontext)
    return HybridTrainer(batch.words(), clusters, vectors, LABELS, num_classes=3, seed=0)


@pytest.fixture
def fit(trainer, bilm, token_clusters):
    """Fit a trainer, by default that of ROWS, on some rows with a choice."""
    return lambda rows, choice, trainer=trainer: trainer.fit(np.arange(rows), choice, bilm, (1, 2), token_clusters)


def choice_of(trainer, *features: str, C: float = 1.0) -> Choice:
    logits = np.array([[1.0, -1, -9], [-1, 1, -9]] * 5)
    return Choice(features, C, {(features, C): 1.0}, logits)


def logits_of(classifier, bilm, vocabulary, texts) -> np.ndarray:
    batch = collate(vocabulary.opened().encode(texts), np.arange(len(texts)))
    with torch.no_grad():
        return EncoderClassifier(bilm, classifier, finetuned=False)(batch).numpy()


def features_of(trainer, rows: int) -> tuple[dict, dict]:
    """By kind, the features learned from the first `rows`, and those of all rows; by scikit-learn alone."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(ngram_range=(2, 5), sublinear_tf=True, analyzer="char_wb", min_df=2)
    # The rows differ in five words: their pooled vectors have as many distinct values, and a component less.
    rank = np.linalg.matrix_rank(StandardScaler().fit_transform(trainer.vectors[:rows]), tol=1e-3)
    deep = make_pipeline(StandardScaler(), PCA(rank))
    clusters = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\S+")
    of_texts = list(map(" ".join, trainer.clusters))
    learned = {"words": words.fit_transform(ROWS[:rows]), "characters": characters.fit_transform(ROWS[:rows])}
    learned["clusters"] = 0.7 * clusters.fit_transform(of_texts[:rows])
    learned["vectors"] = deep.fit_transform(trainer.vectors[:rows])
    length = np.sqrt((learned["vectors"] ** 2).sum() / (rows - 1))
    learned["vectors"] /= length
    new = {"words": words.transform(ROWS), "characters": characters.transform(ROWS)}
    new["clusters"] = 0.7 * clusters.transform(of_texts)
    new["vectors"] = deep.transform(trainer.vectors) / length
    return learned, new


def ratio_by_counting(column: np.ndarray, in_class: np.ndarray) -> float:
    """Of an n-gram, by its TF-IDF in each text."""
    have = sum(1 for value, inside in zip(column, in_class, strict=True) if inside and value > 0)
    others = sum(1 for value, inside in zip(column, in_class, strict=True) if not inside and value > 0)
    inside, outside = in_class.sum(), len(in_class) - in_class.sum()
    # Texts that are added to each side: one, or fewer on a side with less than a quarter of the texts.
    here, there = min(1, 3 * inside / outside), min(1, 3 * outside / inside)
    return np.log(((have + here) / (inside + 2 * here)) / ((others + there) / (outside + 2 * there)))


@pytest.mark.parametrize("features", FEATURE_SETS)
@pytest.mark.parametrize(
    "labels",
    [[0, 1] * 5, [0, 1, 2, 0, 1, 2, 0, 1, 0, 1], [0, 0, 0, 1, 0, 0, 0, 0, 0, 1], [0, 1, 2, 0, 1, 0, 1, 0, 0, 1]],
    ids=["two classes", "three", "a rare one of two", "a rare one of three"],
)
def test_logits_are_those_of_a_linear_svm_on_scaled_ngrams(trainer, fit, bilm, vocabulary, features, labels):
    labels = np.array(labels)
    trainer = replace(trainer, labels=labels)
    classifier = fit(8, choice_of(trainer, *features), trainer)
    logits = logits_of(classifier, bilm, vocabulary, ROWS) * float(classifier.temperature)
    learned, new = features_of(trainer, 8)
    for label in sorted(set(labels)):
        in_class = labels[:8] == label
        scales = {
            kind: np.ones(x.shape[1])
            if kind == "vectors"
            else np.array([ratio_by_counting(column, in_class) for column in x.toarray().T])
            for kind, x in learned.items()
        }
        scaled = [
            sparse.hstack([sparse.csr_matrix(x[kind]) @ sparse.diags(scales[kind]) for kind in features])
            for x in (learned, new)
        ]
        svm = LinearSVC(C=1.0, tol=1e-2, random_state=0).fit(scaled[0], in_class)
        np.testing.assert_allclose(logits[:8, label], svm.decision_function(scaled[1])[:8], rtol=2e-2, atol=5e-3)


def test_pooled_vectors_are_means_over_tokens_and_the_vectors_of_first_words(bilm, vocabulary):
    batch = collate(vocabulary.encode(["Rain.", "", "The coach resigned today"]), np.arange(3))
    layers = bilm.encode(batch)
    pooled = pooled_vectors(layers[1:], batch)
    for row, length in enumerate(batch.lengths.tolist()):
        expected = [part for x in layers[1:] for part in (x[row, :length].mean(0), x[row, 1])]
        torch.testing.assert_close(pooled[row], torch.cat(expected))


def test_words_that_the_language_model_does_not_know_decide(trainer, fit, bilm, vocabulary):
    classifier = fit(10, choice_of(trainer, *FEATURE_SETS[0]))
    new = ["nobody said zyx", "nobody said qwv"]
    assert logits_of(classifier, bilm, vocabulary, new).argmax(1).tolist() == [0, 1]


def test_vectors_that_are_all_equal_decide_nothing(trainer, fit, bilm, vocabulary):
    equal = replace(trainer, vectors=np.ones_like(trainer.vectors))
    features = ("words", "vectors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier = fit(10, choice_of(equal, *features), equal)
    assert not classifier.weights[VECTORS].any() and torch.isfinite(classifier.weights["words"]).all()


def test_a_class_without_rows_is_never_predicted(trainer, fit, bilm, vocabulary):
    classifier = fit(10, choice_of(trainer, *FEATURE_SETS[0]))
    assert (torch.from_numpy(logits_of(classifier, bilm, vocabulary, [*ROWS, ""])).softmax(1)[:, 2] == 0).all()


def test_what_a_fold_answers_does_not_depend_on_the_labels_that_it_leaves_out(trainer):
    choice = trainer.choose(SPLITS[:1])
    assert np.isnan(choice.logits[4:]).all() and np.isfinite(choice.logits[:4]).all()
    other = replace(trainer, labels=np.array([1, 0, 1, 0, *LABELS[4:]]))
    assert choice.accuracies == {key: 1.0 - value for key, value in other.choose(SPLITS[:1]).accuracies.items()}


def test_what_is_clearly_better_on_validation_rows_is_chosen_where_these_are_enough():
    """One of many words tells the class; vectors do so in the first half of the rows, and wrongly in the second."""
    labels = np.arange(100) % 2
    words = [
        [f"word{(n * 7 + i * 13) % 90}" for i in range(60)] + [("zyx", "qwv")[label]] for n, label in enumerate(labels)
    ]
    vectors = np.where(np.arange(100) < 50, labels, 1 - labels).astype(np.float32)[:, None]
    trainer = HybridTrainer(words, [["0.0"]] * 100, vectors, labels, 2, 0)
    few = trainer.choose([(np.arange(50), np.arange(50, 54))])
    assert few.features == FEATURE_SETS[0] and few.accuracy < max(few.accuracies.values()) == 1.0
    choice = trainer.choose([(np.arange(50), np.arange(50, 100))])
    assert VECTORS not in choice.features and choice.accuracy == max(choice.accuracies.values()) == 1.0
    assert (choice.logits[50:].argmax(1) == labels[50:]).all() and np.isnan(choice.logits[:50]).all()


@pytest.mark.parametrize(("more", "fewer", "expected"), [(5, 0, True), (4, 0, False), (30, 14, True), (30, 17, False)])
def test_two_standard_errors_are_clear(more, fewer, expected):
    right = np.array([True] * more + [False] * fewer + [True] * 50)
    other = np.array([False] * more + [True] * fewer + [True] * 50)
    assert is_clearly_better(right, other) == expected


def test_a_fold_that_was_trained_without_a_class_does_not_count_for_the_temperature(trainer, fit):
    """Its classifier gives that class no chance, whatever the row."""
    choice, labels = choice_of(trainer, "words"), LABELS.copy()
    expected = best_temperature(choice.logits[:-4], LABELS[:-4])
    labels[-1] = 2
    choice.logits[-4:, 2] = _NEVER
    found = float(fit(10, choice, replace(trainer, labels=labels)).temperature)
    assert found == pytest.approx(expected, rel=1e-3)


def test_texts_without_a_common_ngram_are_learned_from():
    """An n-gram of characters has to be in two texts, unless none is."""
    features = NgramFeatures("characters")
    assert features.learn([["abc"], ["xyz"]]).shape[0] == 2 and "abc" in features.terms
    with pytest.raises(ValueError, match="empty vocabulary"):
        NgramFeatures("words").learn([[], []])


def test_one_class_is_an_error(trainer):
    with pytest.raises(UserError, match=r"all of one class; .* Add texts of other classes"):
        replace(trainer, labels=np.zeros(10, np.int64), num_classes=1).choose(SPLITS)


def test_a_file_gives_the_same_probabilities_and_explanations(trainer, fit, bilm, vocabulary, tmp_path):
    classifier = fit(10, choice_of(trainer, *FEATURE_SETS[0]))
    bilm_info = {"rows_trained": 10, "validation_perplexity": 1.0, "settings": {}}
    save_bilm(tmp_path / "bilstm.pt", bilm, vocabulary, bilm_info)
    info = {"validation_accuracy": 1.0, "settings": {}, "combination": {}, "seed": 0}
    model = EncoderClassifier(bilm, classifier, finetuned=False)
    names = ["good", "bad", "none"]
    pretrained = load_bilm(tmp_path / "bilstm.pt")
    save_classifier(tmp_path / "classifier_hybrid.pt", model, pretrained, names, info)
    loaded = TextClassifier([load_classifier(tmp_path / "classifier_hybrid.pt", pretrained)])
    batch = collate(vocabulary.opened().encode(ROWS), np.arange(len(ROWS)))
    expected = class_probabilities({"": model}, [batch], len(ROWS), CPU, torch.no_grad)[""]
    np.testing.assert_allclose(loaded.predict_proba(ROWS), expected, atol=5e-3)
    explanation = loaded.explain("nobody was zyx")
    assert explanation.words[int(explanation.weights.argmax())] == "zyx"


def test_words_of_a_text_whose_class_is_certain_still_have_weights(trainer, fit, bilm, vocabulary):
    classifier = fit(10, choice_of(trainer, *FEATURE_SETS[0]))
    classifier.temperature.fill_(0.02)
    model = EncoderClassifier(bilm, classifier, finetuned=False)
    trained = TrainedClassifier(model, vocabulary, ["good", "bad", "none"], {}, "of a test", "of a test")
    certain = TextClassifier([trained])
    explanation = certain.explain("the rain was zyx")
    assert explanation.probabilities.max() == 1.0
    assert explanation.words[int(explanation.weights.argmax())] == "zyx" and explanation.weights.max() > 1


@pytest.mark.parametrize("version", [4, 5])
def test_files_of_earlier_versions_without_clusters(trainer, fit, bilm, vocabulary, tmp_path, version):
    classifier = fit(10, choice_of(trainer, "words", "characters", "vectors"))
    save_bilm(
        tmp_path / "bilstm.pt", bilm, vocabulary, {"rows_trained": 10, "validation_perplexity": 1.0, "settings": {}}
    )
    info = {"validation_accuracy": 1.0, "settings": {}, "combination": {}, "seed": 0}
    model, path = EncoderClassifier(bilm, classifier, finetuned=False), tmp_path / "classifier_hybrid.pt"
    pretrained = load_bilm(tmp_path / "bilstm.pt")
    save_classifier(path, model, pretrained, ["good", "bad", "none"], info)
    present = TextClassifier([load_classifier(path, pretrained)]).predict_proba(ROWS)
    as_in_version(path, version)
    earlier = TextClassifier([load_classifier(path, pretrained)]).predict_proba(ROWS)
    assert np.array_equal(earlier, present)


def as_in_version(path, version: int) -> None:
    content = serialization.load(path, "classifier")
    content["tuned_encoder"] = content.pop("encoder")
    for part in ("config", "weights"):
        content[part] = {name: value for name, value in content[part].items() if "cluster" not in name}
        if version == 4:
            content[part] = {name.replace("characters", "pieces"): x for name, x in content[part].items()}
    serialization.save(path, "classifier", content)
