"""What the presets and the options of the three scripts stand for."""

import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import ROOT, SAMPLE, TINY, run_script

import classification
import ELMO
import studies
from bilm.checkpoints import serialization
from bilm.checkpoints.model_format import finished_settings, load_bilm
from bilm.config import PRETRAINING
from bilm.runtime import provenance
from bilm.runtime.options import parse_options
from bilm.runtime.provenance import first_difference, run_settings

SHIPPED = ROOT / "models" / "bilstm.pt"


def options(*arguments: str) -> ELMO.Options:
    return parse_options(ELMO.Options, "", presets=PRETRAINING, arguments=arguments)


def test_the_preset_best_is_what_the_weights_in_the_repository_were_trained_with():
    """So that `make best` finds them finished, and trains them anew where it has to."""
    saved = finished_settings(SHIPPED, "bilm")
    source = SimpleNamespace(identity=saved["corpus"], more=None, same_words_by_both_rules=True)
    best = options("--preset", "best")
    run = SimpleNamespace(settings=lambda *groups, **inputs: settings_of_a_run(best, saved, *groups, **inputs))
    assert first_difference(saved, ELMO.settings_of(run, best, source, None)) is None
    base = options()
    run = SimpleNamespace(settings=lambda *groups, **inputs: settings_of_a_run(base, saved, *groups, **inputs))
    assert first_difference(saved, ELMO.settings_of(run, base, source, None)) == "dropout"


def settings_of_a_run(chosen: ELMO.Options, saved: dict, *groups: object, **inputs: str) -> dict:
    return run_settings(chosen.run, SimpleNamespace(precision=saved["precision"]), *groups, **inputs)


@pytest.mark.parametrize(
    ("arguments", "starts_from_shipped"),
    [
        ([], True),
        (["--preset", "fast"], True),
        (["--preset", "best"], True),
        (["--embedding-optimizer", "adagrad"], True),
        (["--width", "24"], False),
        (["--from-scratch"], False),
    ],
)
def test_in_place_of_ag_news_the_sample_is_trained_from_the_weights_in_the_repository(arguments, starts_from_shipped):
    base = ELMO.find_base_model(options(*arguments), SimpleNamespace(is_fallback=True))
    assert (base.hash if base else None) == (load_bilm(SHIPPED).hash if starts_from_shipped else None)


def test_the_classifiers_have_their_own_defaults():
    fit = parse_options(classification.Options, "", arguments=[]).fit
    assert (fit.epochs, fit.learning_rate, fit.batch_tokens) == (4, 2e-3, 2048)
    assert replace(fit, epochs=3) == studies.FIT


@pytest.mark.parametrize(
    ("arguments", "tables"),
    [
        ([], 0),
        (["--embedding-optimizer", "adagrad"], 1),
        (["--embedding-optimizer", "adagrad", "--token-layer", "word+char"], 1),
        (["--embedding-optimizer", "adagrad", "--token-layer", "char"], 0),
    ],
)
def test_the_optimizer_of_the_word_vectors_is_the_chosen_one(tmp_path, monkeypatch, arguments, tables):
    checkpoints, save = [], serialization.save

    def recording(path, kind, content):
        if kind == "training":
            checkpoints.append(content)
        save(path, kind, content)

    monkeypatch.setattr(serialization, "save", recording)
    common = ["--data", SAMPLE, "--from-scratch", "--output", tmp_path, "--limit", 60]
    run = run_script("ELMO.py", *TINY, *common, "--epochs", 1, *arguments)
    assert run.code == 0, run.err
    optimizer = checkpoints[-1]["optimizer"]
    trained_by_adagrad = [i for group in optimizer["param_groups"] if group["table"] for i in group["params"]]
    assert len(trained_by_adagrad) == tables
    for i, state in optimizer["state"].items():
        assert set(state) == ({"step", "sum"} if i in trained_by_adagrad else {"step", "exp_avg", "exp_avg_sq"})


def test_a_model_to_start_from_goes_on_with_adamw():
    adapted = ELMO.adapt_options(options("--start-from", str(SHIPPED), "--preset", "fast"), load_bilm(SHIPPED))
    assert adapted.embedding.embedding_optimizer == "adamw"


def test_the_commit_is_that_of_this_code(monkeypatch):
    """Installed outside a checkout, there is none: a user's own repository, in which it runs, is another one."""
    monkeypatch.setattr(provenance, "checkout", lambda: None)
    assert provenance._commit() == "unknown"


def test_a_copy_within_another_repository_has_no_commit_of_its_own(tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", "another"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    (tmp_path / "copy").mkdir()
    monkeypatch.setattr(provenance, "checkout", lambda: tmp_path / "copy")
    assert provenance._commit() == "unknown"
    monkeypatch.setattr(provenance, "checkout", lambda: tmp_path)
    assert len(provenance._commit()) == 12
