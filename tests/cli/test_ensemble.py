"""Ensembles as files: written by hash, used by predict, refused where a member has changed."""

import shlex
import shutil

import numpy as np
import pytest
from conftest import ROOT, run_script

from bilm import TextClassifier
from bilm.checkpoints import ensembles
from bilm.runtime.errors import UserError

TEXTS = ["Stocks fell in New York.", "The coach resigned today.", ""]


@pytest.fixture
def models(trained_bilm, tmp_path):
    """Two folders with the same models."""
    for name in ("one", "two"):
        shutil.copytree(trained_bilm.parent, tmp_path / name)
    return tmp_path


def test_an_ensemble_answers_with_the_mean_of_its_members(models):
    files = [models / "one/classifier_trainable.pt", models / "one/classifier_frozen.pt"]
    files.append(models / "two/classifier_function.pt")
    run = run_script("-m", "bilm", "ensemble", "--output", models / "one/best.json", *files)
    assert run.code == 0 and "3 classifiers on 1 language model." in run.out, run.err
    each = [TextClassifier.load(file.parent / "bilstm.pt", file).predict_proba(TEXTS) for file in files]
    ensemble = TextClassifier.load(classifier=models / "one/best.json")
    np.testing.assert_allclose(ensemble.predict_proba(TEXTS), np.mean(each, axis=0), atol=1e-6)
    assert ensemble.info["settings"]["mode"] == "ensemble" and len(ensemble.explain(TEXTS[0]).weights) == 6
    command = run.out.strip().split("Next: ")[1]
    run = run_script(*shlex.split(command)[1:-1], TEXTS[0])
    assert run.code == 0 and ensemble.predict(TEXTS[:1])[0] in run.out
    shutil.move(models / "one", models / "elsewhere")
    shutil.move(models / "two", models / "one")
    with pytest.raises(UserError, match=r"there is no .*two"):  # paths are relative to the file
        TextClassifier.load(classifier=models / "elsewhere/best.json")


def test_the_language_model_is_the_one_that_the_classifier_was_trained_on(models, tmp_path):
    """Not whatever is beside it: `bilm fit` writes a classifier on the shipped weights into any folder."""
    for name in ("classifier", "classifier_function"):
        shutil.copy(ROOT / f"models/{name}.pt", models / f"one/{name}.pt")
    members = models / "one/classifier.pt", models / "one/classifier_function.pt"
    run = run_script("-m", "bilm", "ensemble", "--output", models / "both.json", *members)
    assert run.code == 0 and "2 classifiers on 1 language model." in run.out, run.err
    assert TextClassifier.load(classifier=models / "both.json").predict(TEXTS[:1]) == ["Business"]
    (models / "two/bilstm.pt").unlink()
    run = run_script("-m", "bilm", "ensemble", "--output", models / "no.json", members[0], models / "two/classifier.pt")
    assert run.code == 2 and "Copy its language model beside it" in run.err and not (models / "no.json").exists()


@pytest.mark.parametrize("place", ["beside", "repository"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-1000], "bilstm.pt cannot be read: it is cut off or damaged"),
        (lambda content: b"", "bilstm.pt is empty"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "bilstm.pt is a pointer of Git LFS"),
    ],
)
def test_a_language_model_that_cannot_be_read_is_named(models, monkeypatch, place, damage, reason):
    """Not passed over, as a missing one is: the advice to copy it beside the classifier would not help."""
    repository, members = models / "repository.pt", [models / f"one/classifier_{m}.pt" for m in ("frozen", "function")]
    beside = models / "one/bilstm.pt"
    monkeypatch.setattr(ensembles, "bundled_bilm", lambda: repository)
    shutil.move(beside, repository)
    if place == "beside":
        beside.write_bytes(damage(repository.read_bytes()))
    else:
        repository.write_bytes(damage(repository.read_bytes()))
    with pytest.raises(UserError, match=reason if place == "beside" else reason.replace("bilstm.pt", "repository.pt")):
        ensembles.write_ensemble(models / "no.json", members)
    assert not (models / "no.json").exists()


def test_a_repository_without_a_language_model_is_passed_over(models, monkeypatch):
    def missing():
        raise UserError("the language model of this repository is missing")

    members = [models / f"one/classifier_{mode}.pt" for mode in ("frozen", "function")]
    monkeypatch.setattr(ensembles, "bundled_bilm", missing)
    assert len(ensembles.write_ensemble(models / "best.json", members)) == 2
    (models / "one/bilstm.pt").unlink()
    with pytest.raises(UserError, match="Copy its language model beside it"):
        ensembles.write_ensemble(models / "best.json", members)


def test_a_member_that_was_trained_again_is_refused(models):
    files = [models / f"one/classifier_{mode}.pt" for mode in ("trainable", "frozen")]
    assert run_script("-m", "bilm", "ensemble", "--output", models / "best.json", *files).code == 0
    shutil.copy(files[1], files[0])
    run = run_script("-m", "bilm", "predict", "--classifier", models / "best.json", TEXTS[0])
    assert run.code == 2 and "classifier_trainable.pt was trained again" in run.err


@pytest.mark.parametrize(
    "content", ["", "[]", '{"kind": "ensemble"}', '{"kind": "ensemble", "members": []}', '{"members": [{}]}']
)
def test_another_file_is_refused(models, content):
    (models / "best.json").write_text(content)
    run = run_script("-m", "bilm", "predict", "--classifier", models / "best.json", TEXTS[0])
    assert run.code == 2 and "best.json" in run.err and "Traceback" not in run.err


def test_one_classifier_or_another_name_is_refused(models):
    one = models / "one/classifier_frozen.pt"
    assert "two or more" in run_script("-m", "bilm", "ensemble", "--output", models / "best.json", one).err
    assert ".json" in run_script("-m", "bilm", "ensemble", "--output", models / "best.pt", one, one).err
    assert not list(models.glob("best*"))


def test_another_file_is_not_replaced(models):
    file, members = models / "one/fit.json", [models / f"one/classifier_{mode}.pt" for mode in ("frozen", "function")]
    file.write_text('{"rows": 9}')
    run = run_script("-m", "bilm", "ensemble", "--output", file, *members)
    assert run.code == 2 and "is not an ensemble" in run.err and file.read_text() == '{"rows": 9}'
    for _ in range(2):  # an ensemble is
        assert run_script("-m", "bilm", "ensemble", "--output", models / "both.json", *members).code == 0


def test_members_with_other_classes_are_refused(models):
    from bilm.checkpoints import serialization

    file = models / "two/classifier_frozen.pt"
    content = serialization.load(file, "classifier")
    serialization.save(file, "classifier", content | {"class_names": content["class_names"][::-1]})
    run = run_script(
        "-m", "bilm", "ensemble", "--output", models / "best.json", models / "one/classifier_frozen.pt", file
    )
    assert run.code == 2 and "same classes" in run.err and not (models / "best.json").exists()


def test_a_classifier_without_a_language_model_beside_it_is_on_that_of_the_repository(tmp_path):
    shutil.copy(ROOT / "models/classifier.pt", tmp_path / "classifier.pt")
    members = tmp_path / "classifier.pt", ROOT / "models/classifier_function.pt"
    run = run_script("-m", "bilm", "ensemble", "--output", tmp_path / "both.json", *members)
    assert run.code == 0 and "2 classifiers on 1 language model." in run.out, run.err
    assert TextClassifier.load(classifier=tmp_path / "both.json").predict(TEXTS[:1]) == ["Business"]


def test_an_explanation_has_the_probabilities_of_the_answer(models):
    """The second language model reads two words of a text; the words that are left out are those of the first."""
    from bilm.checkpoints import serialization

    content = serialization.load(models / "two/bilstm.pt", "bilm")
    content["tokenizer"]["max_tokens"] = 2
    serialization.save(models / "two/bilstm.pt", "bilm", content)
    members = [models / folder / "classifier_trainable.pt" for folder in ("one", "two")]
    assert run_script("-m", "bilm", "ensemble", "--output", models / "both.json", *members).code == 0
    ensemble = TextClassifier.load(classifier=models / "both.json")
    explanation = ensemble.explain(TEXTS[0])
    np.testing.assert_allclose(explanation.probabilities, ensemble.predict_proba(TEXTS[:1])[0], atol=1e-6)
    assert len(explanation.words) == len(explanation.weights) == 6


@pytest.fixture
def finetuned(models):
    """A fine-tuned classifier, alone in a folder, and the same one beside its language model."""
    from bilm.checkpoints.model_format import load_bilm, save_classifier
    from bilm.config import ClassifierConfig
    from bilm.modules.classifier import Classifier, EncoderClassifier

    beside, alone = models / "one/classifier_finetune.pt", models / "alone/classifier.pt"
    pretrained = load_bilm(models / "one/bilstm.pt")
    classifier = Classifier(ClassifierConfig(hidden=8), "finetune", pretrained.model, 4, seed=0)
    model = EncoderClassifier(pretrained.model, classifier, finetuned=True)
    info = {"rows_trained": 8, "validation_accuracy": 0.5, "settings": {}, "combination": {"after": {}}, "seed": 0}
    save_classifier(beside, model, pretrained, ["World", "Sports", "Business", "Sci/Tech"], info)
    alone.parent.mkdir()
    shutil.copy(beside, alone)
    return beside, alone


def test_a_fine_tuned_classifier_is_enough_by_itself(models, finetuned):
    beside, alone = finetuned
    expected = TextClassifier.load(models / "one/bilstm.pt", beside).predict_proba(TEXTS)
    assert np.array_equal(TextClassifier.load(models / "nothing.pt", alone).predict_proba(TEXTS), expected)
    run = run_script("-m", "bilm", "predict", "--classifier", alone, "--format", "csv", TEXTS[0])
    assert run.code == 0 and f"{expected[0].max():.4f}" in run.out, run.err

    function = models / "one/classifier_function.pt"
    run = run_script("-m", "bilm", "ensemble", "--output", models / "both.json", alone, function)
    assert run.code == 0 and "2 classifiers on 1 language model." in run.out, run.err
    other = TextClassifier.load(models / "one/bilstm.pt", function).predict_proba(TEXTS)
    both = TextClassifier.load(classifier=models / "both.json").predict_proba(TEXTS)
    np.testing.assert_allclose(both, (expected + other) / 2, atol=1e-6)

    shutil.copy(models / "one/classifier_trainable.pt", alone)  # trained again, in another mode
    run = run_script("-m", "bilm", "predict", "--classifier", models / "both.json", TEXTS[0])
    assert run.code == 2 and "Make the ensemble again" in run.err and str(alone.name) in run.err


def test_a_language_model_that_is_named_has_to_be_that_of_a_fine_tuned_classifier(models, finetuned):
    from bilm.checkpoints.model_format import LanguageModelMismatch, load_bilm, load_classifier

    beside, _ = finetuned
    pretrained = load_bilm(models / "two/bilstm.pt")
    assert load_classifier(beside, pretrained).vocabulary is pretrained.vocabulary
    with pytest.raises(LanguageModelMismatch):
        load_classifier(beside, load_bilm(ROOT / "models/bilstm.pt"))


def test_an_ensemble_is_not_a_member_of_another(models):
    members = models / "one/classifier_trainable.pt", models / "one/classifier_frozen.pt"
    assert run_script("-m", "bilm", "ensemble", "--output", models / "first.json", *members).code == 0
    run = run_script("-m", "bilm", "ensemble", "--output", models / "second.json", models / "first.json", members[0])
    assert run.code == 2 and "cannot be a member of another" in run.err and not (models / "second.json").exists()


def test_a_member_whose_language_model_is_gone_is_named(models):
    members = (models / "one/classifier_function.pt", models / "two/classifier_frozen.pt")
    assert run_script("-m", "bilm", "ensemble", "--output", models / "both.json", *members).code == 0
    (models / "two/bilstm.pt").unlink()
    run = run_script("-m", "bilm", "predict", "--classifier", models / "both.json", TEXTS[0])
    assert run.code == 2 and "the language model of a member of" in run.err and "--bilm" not in run.err, run.err


def test_an_explanation_counts_a_long_text_once(models):
    ensembles.write_ensemble(
        models / "both.json", [path / "classifier_function.pt" for path in (models / "one", ROOT / "models")]
    )
    ensemble = TextClassifier.load(classifier=models / "both.json")
    tokenizer = ensemble.vocabulary.tokenizer
    ensemble.explain("word " * (tokenizer.config.max_tokens + 1))
    assert (tokenizer.num_texts, tokenizer.num_truncated) == (1, 1)


def test_the_same_classifier_twice_and_what_is_no_ensemble_are_refused(models):
    file = models / "one/classifier_function.pt"
    run = run_script("-m", "bilm", "ensemble", "--output", models / "both.json", file, file)
    assert run.code == 2 and "are the same" in run.err and not (models / "both.json").exists()
    run = run_script("-m", "bilm", "predict", "--classifier", ROOT / "models/shipped.json", TEXTS[0])
    assert run.code == 2 and "shipped.json is not an ensemble" in run.err, run.err
