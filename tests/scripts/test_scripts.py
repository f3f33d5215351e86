"""The scripts as a user runs them: processes of their own, on the sample."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from conftest import CLASSIFY, ROOT, SAMPLE, TINY, run_script, start, wait_for_checkpoints

import classification
from bilm.checkpoints import serialization

SCRIPTS = ("ELMO.py", "classification.py", "evaluate.py", "-m studies.baselines")
MODES = ("trainable", "frozen", "function")


def test_the_three_scripts_run_in_order(trained):
    output, runs = trained
    assert [run.code for run in runs] == [0, 0, 0], [run.err for run in runs]
    written = {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}
    expected = {"models/sample/bilstm.pt", "models/sample/classifier.pt", "results/sample/summary.json"}
    expected |= {"results/sample/predictions.json", "results/sample/mistakes.json"}
    expected |= {f"models/sample/classifier_{mode}.pt" for mode in MODES}
    expected |= {f"results/sample/classifier_{mode}_training.json" for mode in MODES} | {
        "results/sample/bilstm_training.json"
    }
    names = [f"confusion_{x}" for x in (*MODES, "ensemble", "language_model_forward", "language_model_backward")]
    figures = [f"{name}_{split}" for name in names for split in ("test", "train")]
    figures += ["learning_curves_language_model", "learning_curves_classifiers"]
    expected |= {f"results/sample/figures/{name}.png" for name in figures}
    assert written == expected, "and no checkpoint or temporary file is left"


def test_each_script_says_what_it_wrote_and_what_comes_next(trained):
    pretraining, classification, evaluation = (run.out for run in trained[1])
    for out in (pretraining, classification):
        assert "corpus sample: 160 texts to train on, 40 to validate on; " in out
    assert "bilstm.pt" in pretraining and "Next: python classification.py" in pretraining
    assert "classifier.pt" in classification and "Next: python evaluate.py" in classification
    assert "summary.json" in evaluation


def test_lambdas_are_printed_before_and_after_and_the_frozen_ones_stay(trained):
    report = trained[1][1].out
    lines = re.findall(r"before: (.*)\n  after:  (.*)", report)
    assert len(lines) == 3
    (trainable_before, trainable_after), (frozen_before, frozen_after), _ = lines
    assert trainable_before == "lambdas 0.3333 0.3333 0.3333, gamma 1.0000" != trainable_after
    assert frozen_before == frozen_after != trainable_before


def test_the_summary_has_its_fixed_form(trained):
    output, runs = trained
    summary = json.loads((output / "results/sample/summary.json").read_text())
    assert summary["corpus"] == "sample" and summary["rows_trained"] == 160 and summary["hardware"]
    for split in ("test", "train"):
        for direction in ("forward", "backward"):
            figures = summary["language_model"][split][direction]
            assert {"perplexity", "accuracy", "top5_accuracy", "f1_macro"} <= set(figures)
    assert set(summary["classifiers"]) == set(MODES)
    for mode, entry in summary["classifiers"].items():
        for split, rows in (("test", 80), ("train", 160)):
            figures = entry[split]
            assert {"accuracy", "precision", "recall", "f1"} <= set(figures)
            matrix = torch.tensor(figures["confusion_matrix"])
            assert matrix.shape == (4, 4) and matrix.sum() == rows
            assert figures["accuracy"] == pytest.approx(matrix.trace().item() / rows)
            assert f"classifier {mode}: accuracy {figures['accuracy']:.4f}" in runs[2].out
        assert entry["seeds"] == {"0": entry["test"]["accuracy"]}
        assert mode == "function" or sum(entry["lambdas"]) == pytest.approx(1)
    assert summary["baselines"] == {}


def test_classifier_pt_is_the_best_on_validation(trained):
    models = trained[0] / "models/sample"
    accuracy = {
        m: serialization.load(models / f"classifier_{m}.pt", "classifier")["info"]["validation_accuracy"] for m in MODES
    }
    best = serialization.load(models / "classifier.pt", "classifier")
    assert accuracy[best["mode"]] == max(accuracy.values())


def test_the_same_seed_gives_the_same_weights(trained, tmp_path):
    output, _ = trained
    run = run_script("ELMO.py", "--data", SAMPLE, "--output", tmp_path, *TINY, "--epochs", 2)
    assert run.code == 0, run.err
    one, two = (serialization.load(o / "models/sample/bilstm.pt", "bilm") for o in (output, tmp_path))
    assert one["id"] == two["id"]


def test_another_seed_adds_to_the_summary(trained, tmp_path):
    output, _ = trained
    subprocess.run(["cp", "-r", f"{output}/.", tmp_path], check=True)
    common = ["--data", SAMPLE, "--output", tmp_path]
    run = run_script(
        *CLASSIFY,
        *common,
        "--mode",
        "frozen",
        "--seed",
        7,
        "--restart",
    )
    assert run.code == 0, run.err
    assert run_script("evaluate.py", *common).code == 0
    classifiers = json.loads((tmp_path / "results/sample/summary.json").read_text())["classifiers"]
    assert set(classifiers["frozen"]["seeds"]) == {"0", "7"} and set(classifiers["trainable"]["seeds"]) == {"0"}
    assert "train" not in classifiers["frozen"] and "train" in classifiers["trainable"], (
        "seed 0's figures are not seed 7's"
    )
    assert classifiers["frozen"]["accuracy_std"] is not None


def test_word2vec_beside_characters_and_all_of_it_finetuned(tmp_path):
    common = ["--data", SAMPLE, "--output", tmp_path, "--epochs", 1]
    tokens = ["--token-layer", "word+char", "--init-embeddings", "word2vec"]
    run = run_script("ELMO.py", *common, *TINY, *tokens)
    assert run.code == 0 and "Word2Vec" in run.out, run.err
    run = run_script("classification.py", *common, "--precision", "fp32", "--mode", "finetune")
    assert run.code == 0, run.err
    saved = serialization.load(tmp_path / "models/sample/classifier_finetune.pt", "classifier")
    assert "seconds_for_layers" not in saved["info"], "it does not read the layers that are computed once"
    pretrained = serialization.load(tmp_path / "models/sample/bilstm.pt", "bilm")["weights"]
    for name in ("tokens.word.weight", "tokens.characters.projection.weight"):
        assert not torch.equal(saved["encoder"]["weights"][name], pretrained[name])
    run = run_script("evaluate.py", "--data", SAMPLE, "--output", tmp_path)
    assert run.code == 0 and "classifier finetune" in run.out, run.err


def test_only_modes_with_a_fixed_encoder_do_not_use_its_learning_rate(trained):
    """A mode that fine-tunes has its rate among the settings, also one that there is not yet."""
    options = classification.ClassificationOptions(encoder_learning_rate=0.5)
    for mode, rate in {**dict.fromkeys(MODES, 0.0), "finetune": 0.5, "finetune_upper_layers": 0.5}.items():
        chosen = options.of_mode(mode)
        assert (chosen.mode, chosen.encoder_learning_rate) == (mode, rate)
    for mode in MODES:
        info = serialization.load(trained[0] / f"models/sample/classifier_{mode}.pt", "classifier")["info"]
        assert info["settings"]["encoder_learning_rate"] == 0 and "seconds_for_layers" in info


def test_characters_have_no_table_for_word2vec_to_fill():
    run = run_script("ELMO.py", "--token-layer", "char", "--init-embeddings", "word2vec")
    assert run.code == 2 and run.err.count("\n") == 1 and "which --token-layer char does not have" in run.err


def test_pretraining_says_how_long_it_takes_and_which_presets_are_shorter(monkeypatch, tmp_path):
    monkeypatch.setattr("bilm.training.loop.SECONDS_BEFORE_ESTIMATE", 0.0)
    done = run_script("ELMO.py", *TINY, "--epochs", 10, "--data", SAMPLE, "--from-scratch", "--output", tmp_path)
    (line,) = re.findall(r"^At this speed .*", done.err, re.MULTILINE)
    assert re.fullmatch(
        r"At this speed the run takes about another \d+ s\. --preset fast would take about \d+ s in total\. "
        r"--preset base would take about \d+ s in total\.",
        line,
    )


def test_a_quick_look_is_written_beside(trained, tmp_path):
    data = tmp_path / "ag_news"
    data.mkdir()
    for split in ("train", "test"):
        (data / f"{split}.csv").write_bytes((SAMPLE / f"{split}.csv").read_bytes())
    everything = ["--output", tmp_path]
    small = [*everything, "--limit", 80]
    for arguments, folder in ((everything, "."), (small, "limit-80")):
        assert run_script("ELMO.py", *arguments, *TINY, "--epochs", 1, AG_NEWS_DIR=str(data)).code == 0
        assert (tmp_path / "models" / folder / "bilstm.pt").exists()
        assert (tmp_path / "results" / folder / "bilstm_training.json").exists()
    full, part = (
        json.loads((tmp_path / "results" / f / "bilstm_training.json").read_text()) for f in (".", "limit-80")
    )
    assert (full["corpus"], full["rows"], part["rows"]) == ("ag_news", 200, 80)


# --- stopped and resumed ---------------------------------------------------------------------------------------------


def test_each_script_says_how_many_texts_are_truncated(tmp_path):
    common = ["--data", SAMPLE, "--limit", 60, "--output", tmp_path, "--precision", "fp32"]
    note = "of 60 texts have more than 12 words; only their first 12 words are read. ELMO.py --max-tokens"
    for arguments in (["ELMO.py", *TINY, "--max-tokens", 12], ["classification.py", "--hidden", 8], ["evaluate.py"]):
        run = run_script(*arguments, *common, *([] if arguments[0] == "evaluate.py" else ["--epochs", 1]))
        assert run.code == 0 and run.out.count("texts have more than") == 1 and note in run.out, run.err


def test_an_unfinished_run_is_not_touched_without_a_word(tmp_path):
    """Stopped once: it is refused, or gone on with, or dropped, as it is told. Bits are compared in test_kills.py."""
    data, output = tmp_path / "data", tmp_path / "out"
    shutil.copytree(SAMPLE, data)
    arguments = ["ELMO.py", "--data", data, "--output", output, *TINY, "--epochs", 5, "--checkpoint-seconds", 0]
    process = start(*arguments, "--restart")
    unfinished, finished = output / "runs/data/bilm.pt", output / "models/data/bilstm.pt"
    wait_for_checkpoints(unfinished, process, 3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (
        process.returncode == 143
        and "saved. Continue with: python ELMO.py --" in err
        and err.rstrip().endswith(" --resume")
    ), err
    assert "--restart" not in err
    before = {path: path.read_bytes() for path in unfinished.parent.rglob("*") if path.is_file()}
    assert len(before) > 1, "the texts, too"

    refused = run_script(*arguments)
    assert refused.code == 2 and "--resume" in refused.err and "--restart" in refused.err

    def unchanged() -> bool:
        return before == {path: path.read_bytes() for path in unfinished.parent.rglob("*") if path.is_file()}

    for option in ("learning_rate", "max_tokens", "min_count"):  # the last two change the texts
        other = run_script(*arguments, f"--{option.replace('_', '-')}", 9, "--resume")
        assert other.code == 2 and f"other settings ({option}" in other.err
        assert unchanged(), "a refusal costs nothing"
    # It is dropped when the new one begins, not when the data turns out to be broken.
    content = (data / "train.csv").read_bytes()
    (data / "train.csv").write_bytes(content + b'"9","t","text"\n')
    assert "'9' is not a class" in run_script(*arguments, "--restart").err
    (data / "train.csv").write_bytes(content)
    assert unchanged()

    unfinished.write_bytes(before[unfinished][:-1000])
    damaged = run_script(*arguments, "--max-tokens", 9, "--resume")
    assert damaged.code == 2 and "Option: --restart" in damaged.err and damaged.err.count("\n") == 1
    assert all(path.read_bytes() == saved for path, saved in before.items() if path != unfinished)
    restarted = run_script(*arguments, "--restart")
    assert restarted.code == 0 and finished.exists() and not unfinished.exists()
    repeated = run_script(*arguments, "--resume")
    assert repeated.code == 0 and "with these settings; skipped" in repeated.out


def test_two_runs_at_once(tmp_path, trained):
    """The second is refused, whichever script it is; the first does not notice. Another output is another matter."""
    output, _ = trained
    subprocess.run(["cp", "-r", f"{output}/.", tmp_path], check=True)
    common = ["--data", SAMPLE, "--output", tmp_path]
    first = start("ELMO.py", *common, *TINY, "--epochs", 200, "--checkpoint-seconds", 0, "--restart")
    wait_for_checkpoints(tmp_path / "runs/sample/bilm.pt", first, 1)
    for arguments in (["ELMO.py", *TINY, "--restart"], ["classification.py", "--resume"]):
        second = run_script(*arguments, *common)
        assert second.code == 2 and re.fullmatch(
            rf"\w+\.py: error: process {first.pid} on .* is running the training in .*models/sample\. .* --output\n",
            second.err,
        ), second.err
    assert run_script("evaluate.py", *common).code == 0, "evaluation reads what is finished"
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 143 and "saved" in err and not list(tmp_path.rglob("*.lock"))


def test_memory_that_runs_out_is_one_line(tmp_path):
    run = run_script("ELMO.py", "--data", SAMPLE, "--output", tmp_path, "--width", 10**8 - 1)
    assert run.code == 2 and "out of memory" in run.err and run.err.count("\n") == 1, run.err


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    run = run_script(script, "--help")
    assert run.code == 0 and "--data" in run.out and f"python {script}" in run.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no train.csv"),
        (b"a,b\n1,2\n", "not AG News columns"),
        (b'"9","t","text"\n', "'9' is not a class"),
        (b'"1","t",""\n', "it is empty"),
        (b'"1","t","caf\xe9"\n', "not UTF-8"),
        (b'"1","t","cut', "quotation mark"),
    ],
)
def test_bad_data_is_one_line_and_nothing_written(tmp_path, content, message):
    data, output = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    if content is not None:
        (data / "train.csv").write_bytes(content)
        (data / "test.csv").write_bytes(content)
    run = run_script("ELMO.py", "--data", data, "--output", output)
    assert run.code == 2 and not output.exists()
    assert re.fullmatch(r"ELMO\.py: error: .*\n", run.err) and message in run.err and run.out == ""


@pytest.mark.parametrize(
    "options",
    [
        ["--device", "nonsense"],
        ["--device", "cuda:99"],
        ["--nonsense"],
        ["--epochs", "many"],
        ["--epochs", 0],
        ["--limit", 0],
        ["--seed", -1],
        ["--seed", 10**30],
        ["--dropout", 1],
        ["--learning-rate", "nan"],
        ["--max-words", 2],
        ["--resume", "--restart"],
    ],
)
def test_bad_options_are_exit_status_2(tmp_path, options):
    run = run_script("ELMO.py", "--data", SAMPLE, "--output", tmp_path / "out", *options)
    assert run.code == 2 and "error: " in run.err and "Traceback" not in run.err and not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    run = run_script("ELMO.py", "--data", SAMPLE, "--output", tmp_path / "file", *TINY)
    assert run.code == 2 and "Option: --output" in run.err and "epoch" not in run.out and run.err.count("\n") == 1


def test_a_diverging_run_stops_with_one_line(tmp_path):
    run = run_script("ELMO.py", "--data", SAMPLE, "--output", tmp_path, *TINY, "--learning-rate", 1e30, "--epochs", 3)
    assert run.code == 2 and re.search(r"infinite or NaN in \d+ steps in a row, at step \d+ \(learning rate", run.err)
    assert "There is no checkpoint yet" in run.err and run.err.count("\n") == 1 and not list(tmp_path.rglob("*.pt"))


def test_a_disk_that_fills_up_loses_nothing(trained, tmp_path):
    """A limit on the size of files stands for the disk: the new model does not fit, the old one stays."""
    output, _ = trained
    subprocess.run(["cp", "-r", f"{output}/.", tmp_path], check=True)
    before = (tmp_path / "models/sample/bilstm.pt").read_bytes()
    command = shlex.join(
        map(str, [sys.executable, "ELMO.py", "--data", SAMPLE, "--output", tmp_path, *TINY, "--restart"])
    )
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 100; exec {command}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (
        done.returncode == 2
        and re.search(r"bil(m|stm)\.pt could not be written", done.stderr)
        and done.stderr.count("\n") == 1
    ), done.stderr
    assert (tmp_path / "models/sample/bilstm.pt").read_bytes() == before
    assert not list(tmp_path.rglob("*.tmp")) and not list((tmp_path / "runs").rglob("*.pt"))


@pytest.mark.parametrize("script", ("classification.py", "evaluate.py"))
def test_no_language_model_yet(tmp_path, script):
    run = run_script(script, "--data", SAMPLE, "--output", tmp_path)
    assert run.code == 2 and "bilstm.pt. Train it first" in run.err and "python ELMO.py" in run.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "another kind", "another language model", "a pickle"])
def test_bad_weights_are_one_line_and_nothing_lost(trained, tmp_path, damage):
    output, _ = trained
    subprocess.run(["cp", "-r", f"{output}/.", tmp_path], check=True)
    models = tmp_path / "models/sample"
    if damage == "truncated":
        (models / "bilstm.pt").write_bytes((models / "bilstm.pt").read_bytes()[:10_000])
        expected = "cut off or damaged"
    elif damage == "another kind":
        (models / "bilstm.pt").write_bytes((models / "classifier.pt").read_bytes())
        expected = "is a 'classifier' file"
    elif damage == "another language model":
        other = ["--epochs", 1, "--seed", 5, "--restart"]
        assert run_script("ELMO.py", "--data", SAMPLE, "--output", tmp_path, *TINY, *other).code == 0
        expected = "trained on another language model"
    else:
        torch.save({"kind": "bilm", "content": re.compile("x")}, models / "bilstm.pt")
        expected = "could execute code"
    summary = (tmp_path / "results/sample/summary.json").read_bytes()
    run = run_script("evaluate.py", "--data", SAMPLE, "--output", tmp_path)
    assert run.code == 2 and expected in run.err and run.err.count("\n") == 1, run.err
    assert (tmp_path / "results/sample/summary.json").read_bytes() == summary


def test_a_classifier_of_an_older_language_model_does_not_stand_in_the_way(trained, tmp_path):
    """Trained again after the language model was; what is left of the older one is passed over, and said."""
    output, _ = trained
    subprocess.run(["cp", "-r", f"{output}/.", tmp_path], check=True)
    common = ["--data", SAMPLE, "--output", tmp_path]
    assert run_script("ELMO.py", *common, *TINY, "--epochs", 1, "--seed", 5, "--restart").code == 0
    run = run_script("classification.py", *common, "--mode", "frozen", "--epochs", 1, "--resume")
    assert run.code == 0, run.err
    run = run_script("evaluate.py", *common)
    assert run.code == 0 and run.err.count("Not evaluated: ") == 2, run.err
    summary = json.loads((tmp_path / "results/sample/summary.json").read_text())
    assert set(summary["classifiers"]) == {"frozen"} and "train" not in summary["language_model"]
    figures = {p.name for p in (tmp_path / "results/sample/figures").iterdir()}
    assert "confusion_frozen_test.png" in figures and "confusion_trainable_test.png" not in figures


def test_only_evaluate_opens_the_test_rows(tmp_path):
    """Pretraining and classification run with a test.csv that cannot be read."""
    (tmp_path / "train.csv").write_bytes((SAMPLE / "train.csv").read_bytes())
    (tmp_path / "test.csv").write_bytes(b"\xff not to be opened")
    common = ["--data", tmp_path, "--output", tmp_path / "out", "--epochs", 1]
    assert run_script("ELMO.py", *common, *TINY).code == 0
    assert run_script("classification.py", *common, "--mode", "frozen", "--precision", "fp32").code == 0
    assert run_script("evaluate.py", *common[:4]).code == 2
