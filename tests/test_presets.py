"""What the presets and the options of the three scripts stand for."""

import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import ROOT

import classification
import ELMO
import studies
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
    source = SimpleNamespace(identity=saved["corpus"], unlabelled=None, same_words_by_both_rules=True)
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
