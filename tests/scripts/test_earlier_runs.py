"""What a script does about the runs before it: finished ones, those that came with the repository, and none at all."""

import io
import json
import shutil
import signal
from pathlib import Path

import pytest
from conftest import CLASSIFY, ROOT, SAMPLE, TINY, run_script, start, wait_for_checkpoints

import ELMO
from bilm.checkpoints import serialization
from bilm.checkpoints.classifier_files import find_classifiers, keep_best_classifier
from bilm.checkpoints.model_format import finished_settings, load_bilm
from bilm.cli.options import ResumeOptions
from bilm.runtime.errors import UserError
from bilm.runtime.files import file_hash


@pytest.fixture
def finished(trained, tmp_path) -> list:
    """The options of a folder in which a tiny model has been trained for two epochs."""
    shutil.copytree(trained[0], tmp_path / "out")
    return ["--data", SAMPLE, "--output", tmp_path / "out"]


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_hash(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize(
    ("command", "difference"),
    [
        (["ELMO.py", *TINY, "--epochs", 3], "(epochs: 2, now 3)"),
        (["ELMO.py", *TINY, "--epochs", 2, "--seed", 1], "(seed: 0, now 1)"),
        (["classification.py", "--precision", "fp32", "--epochs", 3, "--hidden", 16], "(epochs: 2, now 3)"),
        (["classification.py", "--precision", "fp32", "--epochs", 2, "--hidden", 8, "--mode", "frozen"], "now 8"),
    ],
)
def test_a_finished_run_is_not_replaced_by_another_one_unasked(finished, tmp_path, command, difference, resume):
    before = contents(tmp_path)
    run = run_script(*command, *finished, *resume)
    assert run.code == 2 and run.err.count("\n") == 1, run.err
    assert difference in run.err and "Replace it: --restart." in run.err
    assert ("--start-from" in run.err) == (command[0] == "ELMO.py")
    assert contents(tmp_path) == before


def test_an_unfinished_classifier_of_another_run_is_refused_before_others_are_trained(finished, tmp_path):
    """Of three modes, the last one was stopped in a run with other settings."""
    checkpoint = tmp_path / "out/runs/sample/classifier_function.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    serialization.save(checkpoint, "training", {"settings": {"epochs": 7}})
    before = contents(tmp_path)
    run = run_script("classification.py", *finished, "--precision", "fp32", "--epochs", 2, "--hidden", 16, "--resume")
    assert run.code == 2 and "the unfinished run in" in run.err and "has other settings" in run.err, run.err
    assert contents(tmp_path) == before


def test_what_the_message_names_works(finished, tmp_path):
    """--restart replaces the run; --start-from goes on from it, elsewhere."""
    weights = tmp_path / "out/models/sample/bilstm.pt"
    before = load_bilm(weights).hash
    further = ["ELMO.py", "--data", SAMPLE, "--output", tmp_path / "further", "--start-from", weights, "--epochs", 1]
    assert run_script(*further, "--precision", "fp32", "--batch-tokens", 512).code == 0
    assert load_bilm(tmp_path / "further/models/sample/bilstm.pt").info["data"]["start"]["hash"] == before
    assert load_bilm(weights).hash == before
    run = run_script("ELMO.py", *TINY, "--epochs", 1, *finished, "--restart")
    assert run.code == 0 and load_bilm(weights).hash != before, run.err


def test_the_same_run_once_more_is_nobodys_loss(finished):
    run = run_script("ELMO.py", *TINY, "--epochs", 2, *finished, "--resume")
    assert run.code == 0 and "with these settings; skipped" in run.out
    assert run_script("ELMO.py", *TINY, "--epochs", 2, *finished).code == 0


def test_classifiers_of_a_former_language_model_do_not_count_as_finished_runs(finished):
    assert run_script("ELMO.py", *TINY, "--epochs", 1, *finished, "--restart").code == 0
    options = ["--precision", "fp32", "--epochs", 1, "--hidden", 16, "--mode", "frozen"]
    run = run_script("classification.py", *options, *finished)
    assert run.code == 0, run.err


# --- files that cannot be read --------------------------------------------------------------------------------------


def of_a_newer_version(path: Path) -> None:
    kind = "bilm" if path.name == "bilstm.pt" else "classifier"
    content = serialization.load(path, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serialization, "FORMAT_VERSION", serialization.FORMAT_VERSION + 1)
        serialization.save(path, kind, content)


def without_settings(path: Path) -> None:
    kind = "bilm" if path.name == "bilstm.pt" else "classifier"
    serialization.save(path, kind, serialization.load(path, kind) | {"info": {}})


DAMAGE = {
    "is empty": lambda path: path.write_bytes(b""),
    "is cut off or damaged": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "is not a file of this project": lambda path: path.write_text("my notes"),
    "a pointer of Git LFS": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    f"has format version {serialization.FORMAT_VERSION + 1}; this": of_a_newer_version,
    "does not have the content that this version": without_settings,
}
# What `trained` was trained with: the same run, as far as anyone can tell.
COMMANDS = {
    "bilstm.pt": ["ELMO.py", *TINY, "--epochs", 2],
    "classifier_frozen.pt": [
        *CLASSIFY,
        "--mode",
        "frozen",
    ],
}


@pytest.mark.parametrize("reason", DAMAGE)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_cannot_be_read_is_not_replaced_unasked(finished, tmp_path, name, reason):
    path = tmp_path / "out/models/sample" / name
    DAMAGE[reason](path)
    before = contents(tmp_path)
    for resume in ([], ["--resume"]):
        run = run_script(*COMMANDS[name], *finished, *resume)
        assert run.code == 2 and run.err.count("\n") == 1, run.err
        assert f"{name} exists, but" in run.err and reason in run.err and "Replace it: --restart." in run.err, run.err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_restart_replaces_a_file_that_cannot_be_read_but_no_folder(finished, tmp_path, name):
    path = tmp_path / "out/models/sample" / name
    path.write_text("my notes")
    run = run_script(*COMMANDS[name], *finished, "--restart")
    assert run.code == 0 and load_settings(path)["epochs"] == 2, run.err
    path.unlink()
    path.mkdir()
    for option in ([], ["--resume"], ["--restart"]):
        run = run_script(*COMMANDS[name], *finished, *option)
        assert run.code == 2 and f"{name} is a folder" in run.err and run.err.count("\n") == 1, run.err
        assert "--restart" not in run.err and "to train on" not in run.out


def load_settings(path: Path) -> dict:
    return finished_settings(path, "bilm" if path.name == "bilstm.pt" else "classifier") or {}


def test_an_unfinished_run_goes_on_beside_a_file_that_cannot_be_read(tmp_path):
    """As beside a readable one of another run, which --restart was to replace; without a file, nothing is asked."""
    weights, checkpoint, settings = tmp_path / "bilstm.pt", tmp_path / "runs/bilm.pt", {"epochs": 1}
    (tmp_path / "runs").mkdir()

    def choose(**chosen: bool) -> str:
        return ELMO.choose_action(ELMO.Options(resume=ResumeOptions(**chosen)), weights, checkpoint, settings)

    assert [choose(), choose(resume=True), choose(restart=True)] == ["start", "start", "start"]
    weights.write_bytes(b"")
    with pytest.raises(UserError, match=r"bilstm\.pt exists, but is empty.*--restart"):
        choose(resume=True)
    assert choose(restart=True) == "start"
    serialization.save(checkpoint, "training", {"settings": settings})
    assert [choose(resume=True), choose(restart=True)] == ["resume", "start"]
    with pytest.raises(UserError, match="there is an unfinished run"):
        choose()


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_files_beside_those_of_the_mode_that_cannot_be_read_are_not_replaced_unasked(finished, tmp_path, resume):
    """classifier.pt is replaced by the best classifier, and its mode may have a file of its own, to be renamed to."""
    models = tmp_path / "out/models/sample"
    command = ["classification.py", *finished, "--precision", "fp32", "--epochs", 2, "--hidden", 16, "--mode"]
    best = serialization.load(models / "classifier.pt", "classifier")["mode"]
    other = next(mode for mode in ("frozen", "function") if mode != best)
    (models / f"classifier_{other}.pt").unlink()
    for damaged, modes in ((f"classifier_{best}.pt", (best, other)), ("classifier.pt", (other,))):
        (models / damaged).write_text("my notes")
        before = contents(tmp_path)
        for mode in modes:
            run = run_script(*command, mode, *resume)
            assert run.code == 2 and f"{damaged} exists, but is refused" in run.err, run.err
            assert run.err.count("\n") == 1 and contents(tmp_path) == before
        if damaged != "classifier.pt":
            (models / damaged).unlink()
    assert run_script(*command, other, "--restart").code == 0
    assert load_settings(models / "classifier.pt")["mode"] in ("trainable", other)


@pytest.mark.parametrize(
    ("source", "name", "mode"),
    [
        ("classifier.pt", "classifier_finetune.pt", "finetune"),  # its file contains its language model
        ("classifier.pt", "classifier.pt", "frozen"),
        ("classifier_function.pt", "classifier_function.pt", "function"),  # on that of this repository
        ("classifier_function.pt", "classifier.pt", "frozen"),
    ],
)
def test_classifiers_that_other_language_models_can_be_used_with_are_not_replaced_unasked(
    finished, tmp_path, source, name, mode
):
    models = tmp_path / "out/models/sample"
    command = ["classification.py", *finished, "--precision", "fp32", "--epochs", 2, "--hidden", 16, "--mode", mode]
    saved = serialization.load(ROOT / "models" / source, "classifier")
    is_complete = saved.get("encoder") is not None
    serialization.save(models / name, "classifier", saved | ({"bilm": 64 * "0"} if is_complete else {}))
    before = contents(tmp_path)
    run = run_script(*command)
    assert run.code == 2 and f"{name} exists, but was trained on another language model" in run.err, run.err
    assert "can still be used" in run.err and run.err.count("\n") == 1 and contents(tmp_path) == before
    if mode == "frozen":
        assert run_script(*command, "--restart").code == 0
        assert load_settings(models / "classifier.pt")["mode"] != "finetune"


def test_but_those_that_came_with_the_repository_are(finished, tmp_path):
    """They are copied first."""
    models = tmp_path / "out/models/sample"
    names = ("classifier.pt", "classifier_function.pt")
    for name in names:
        shutil.copy(ROOT / "models" / name, models)
    (models / "shipped.json").write_text(json.dumps({"files": {name: file_hash(models / name) for name in names}}))
    common = ("classification.py", *finished, "--precision", "fp32", "--epochs", 1, "--hidden", 16)
    run = run_script(*common, "--mode", "function")
    assert run.code == 0 and "are now in" in run.out, run.err
    assert sorted(path.name for path in models.glob("shipped/*/*.pt")) == sorted(names)


def test_classifiers_whose_language_model_is_gone_are_replaced(finished, tmp_path):
    models = tmp_path / "out/models/sample"
    for name in ("classifier_frozen.pt", "classifier.pt"):
        saved = serialization.load(models / name, "classifier")
        serialization.save(models / name, "classifier", saved | {"bilm": 64 * "0"})
    run = run_script(
        *("classification.py", *finished, "--precision", "fp32", "--epochs", 1, "--hidden", 16, "--mode", "frozen")
    )
    assert run.code == 0, run.err


def test_weights_that_came_with_the_repository_are_no_run_of_ones_own(finished, tmp_path):
    """Other settings start at once, and what came is kept aside."""
    models = tmp_path / "out/models/sample"
    came = {path.name: file_hash(path) for path in models.glob("*.pt")}
    (models / "shipped.json").write_text(json.dumps({"files": came}))
    run = run_script("ELMO.py", *TINY, "--epochs", 1, *finished, "--resume")
    assert run.code == 0 and "are now in" in run.out, run.err


def test_a_user_at_a_terminal_is_asked(finished, monkeypatch, tmp_path):
    from bilm.cli import earlier_runs

    query = []
    monkeypatch.setattr("builtins.input", lambda question: query.append(question) or answer)
    monkeypatch.delenv("RANK", raising=False)

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr(earlier_runs.sys, "stdin", Terminal())
    monkeypatch.setattr(earlier_runs.sys, "stdout", Terminal())
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    options = earlier_runs.ResumeOptions()
    for answer, expected in (("r", "start"), ("", None)):  # noqa: B007 - read by the lambda above
        if expected:
            assert earlier_runs.decide_action(tmp_path / "none", options, False, "That is there.") == expected
        else:
            with pytest.raises(earlier_runs.UserError, match="That is there"):
                earlier_runs.decide_action(tmp_path / "none", options, False, "That is there.")
    assert len(query) == 2 and "Replace it [r]" in query[0]
    # Nobody can type into a cell of a notebook, whose commands run on a terminal; nobody sees a question in a file.
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    with pytest.raises(earlier_runs.UserError, match="That is there"):
        earlier_runs.decide_action(tmp_path / "none", options, False, "That is there.")
    monkeypatch.delenv("JPY_PARENT_PID")
    monkeypatch.setattr(earlier_runs.sys, "stdout", io.StringIO())
    with pytest.raises(earlier_runs.UserError, match="That is there"):
        earlier_runs.decide_action(tmp_path / "none", options, False, "That is there.")
    assert len(query) == 2


def test_an_answer_to_resume_is_not_to_train_finished_classifiers_again(finished, tmp_path, monkeypatch):
    """The others are finished, `trainable` is not; Enter resumes it, as --resume does, and leaves them alone."""
    from bilm.cli import earlier_runs

    options = ["--precision", "fp32", "--epochs", 2, "--hidden", 16, "--checkpoint-seconds", 0]
    folder = tmp_path / "out/runs/sample"
    process = start("classification.py", *options, *finished, "--restart", "--mode", "trainable")
    wait_for_checkpoints(folder / "classifier_trainable.pt", process, 1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert (folder / "classifier_trainable.pt").exists()
    monkeypatch.setattr(earlier_runs, "_ask", lambda question: "")
    run = run_script("classification.py", *options, *finished)
    assert run.code == 0 and run.out.count("with these settings; skipped") == 2, run.out + run.err


# --- classifier.pt ---------------------------------------------------------------------------------------------------


def test_the_repository_has_the_two_files_of_the_assignment():
    """classifier.pt is the best mode's only file."""
    models = ROOT / "models"
    listed = json.loads((models / "shipped.json").read_text(encoding="utf-8"))["files"]
    assert {"bilstm.pt", "classifier.pt"} <= set(listed) and all((models / name).exists() for name in listed)
    result = find_classifiers(models, load_bilm(models / "bilstm.pt"))
    assert result.paths[result.best].name == "classifier.pt" and not result.mismatched
    assert len(result.paths) == 4


@pytest.fixture
def only_in_classifier_pt(trained, tmp_path):
    """A folder of models, its language model, and the best mode, which has no file but classifier.pt."""
    models = tmp_path / "models"
    shutil.copytree(trained[0] / "models/sample", models)
    pretrained = load_bilm(models / "bilstm.pt")
    best = find_classifiers(models, pretrained).best
    (models / f"classifier_{best}.pt").unlink()
    return models, pretrained, best


def test_the_mode_of_classifier_pt_is_found_in_it(only_in_classifier_pt):
    models, pretrained, best = only_in_classifier_pt
    result = find_classifiers(models, pretrained)
    assert result.best == best and result.paths[best] == models / "classifier.pt" and len(result.paths) == 3


def test_a_better_classifier_does_not_lose_the_mode_that_classifier_pt_alone_held(only_in_classifier_pt):
    models, pretrained, best = only_in_classifier_pt
    other = next(mode for mode in ("frozen", "function") if mode != best)
    saved = serialization.load(models / f"classifier_{other}.pt", "classifier")
    saved["info"]["validation_accuracy"] = 1.0
    serialization.save(models / f"classifier_{other}.pt", "classifier", saved)
    assert keep_best_classifier(models, pretrained, other) == other
    result = find_classifiers(models, pretrained)
    assert result.best == other and result.paths[best].name == f"classifier_{best}.pt" and len(result.paths) == 3
    assert serialization.load(models / "classifier.pt", "classifier")["mode"] == other


def test_a_classifier_pt_of_other_rows_does_not_hide_the_ones_there_are(only_in_classifier_pt):
    """As after a run that was interrupted before it wrote classifier.pt."""
    models, pretrained, best = only_in_classifier_pt
    shutil.copy(models / "classifier.pt", models / f"classifier_{best}.pt")
    saved = serialization.load(models / "classifier.pt", "classifier")
    saved["info"]["settings"]["corpus"] = "earlier rows"
    serialization.save(models / "classifier.pt", "classifier", saved)
    assert find_classifiers(models, pretrained).best == best


# --- without AG News and without a network ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A run of the three scripts that names no data; fewer rows and epochs than by default, and nothing fine-tuned."""
    output = tmp_path_factory.mktemp("offline")
    common = ["--output", output, "--limit", 120]
    runs = [
        run_script("ELMO.py", *common, "--epochs", 1),
        run_script("classification.py", *common, "--mode", "fixed", "--epochs", 8),
        run_script("evaluate.py", *common),
    ]
    return output, runs


def test_the_sample_goes_on_from_the_weights_of_the_repository(offline):
    output, (pretraining, *others) = offline
    assert pretraining.code == 0 and "starts from the weights of this repository" in " ".join(
        pretraining.err.replace("*", " ").split()
    ), pretraining.err
    assert "The model to start from has 27,021 words" in pretraining.out
    assert [run.code for run in others] == [0, 0]
    summary = json.loads((output / "results/sample-limit-120/summary.json").read_text())
    for mode, entry in summary["classifiers"].items():
        assert entry["test"]["accuracy"] >= 0.85, mode
    assert len(summary["classifiers"]) == 3


def test_from_scratch_and_options_that_shape_the_model_start_from_nothing(tmp_path):
    for i, options in enumerate((["--from-scratch", "--limit", 40], ["--width", 24, "--limit", 40])):
        run = run_script("ELMO.py", "--output", tmp_path / str(i), "--epochs", 1, *options)
        assert run.code == 0 and "The model to start from" not in run.out, run.err
