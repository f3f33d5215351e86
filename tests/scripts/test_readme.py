"""What README.md says can be done can be done, and what it says was measured stands in results/."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, torchrun
from original_files import OPTIONS, datasets, write
from pypdf import PdfReader

from bilm.config import PRETRAINING, FitConfig

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the project without what a user's own runs left, on a machine without data and network."""
    copy = tmp_path_factory.mktemp("checkout") / "elmo"
    left_out = shutil.ignore_patterns(".git", ".venv", "runs", "*.pt", "ag_news", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=left_out)
    write(copy, OPTIONS, datasets(OPTIONS, np.random.default_rng(0)))  # of the original ELMo, but small
    return copy


BESIDE = ("alone", "one", "one_per_core")
# What makes a run short; weights that go on from others have their size.
TINY = ["--width", "24", "--min-count", "2", "--batch-tokens", "512"]
TOOLS = ("predict.py", "vectors.py", "neighbours.py", "lm.py")
# Too long for a test, or asking the network: looked at, not run.
LONG_TARGETS = {"best", "studies", "report", "test", "check", "bench", "reliability", "audit"}


def run(command: list[str], cwd: Path) -> str:
    # `make test` passes its own options on to a make that is called here.
    env = {k: v for k, v in os.environ.items() if k not in ("AG_NEWS_DIR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    env |= {"https_proxy": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def shortened(words: list[str]) -> list[str]:
    """A script and its options, with those that make it short, and with weights that are there."""
    script, *options = words
    if script in TOOLS and "--bilm" not in options:
        options += ["--bilm", "models/sample/bilstm.pt"]  # the weights that come along were left out of the copy
    if "--start-from" in options:
        options[options.index("models/bilstm.pt")] = "models/sample/bilstm.pt"
    if script == "ELMO.py" and "--import-original" not in options:
        options += ["--epochs", "1", *([] if "--start-from" in options else TINY)]
    if script in ("classification.py", "baselines.py", "lambda_study.py"):
        options += ["--epochs", "1", "--hidden", "16"]
    return [script, *options]


def commands_of(line: str, cwd: Path) -> list[list[str]]:
    """The scripts that a line of the README calls; none where it is only looked at."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        # The environment counts as made.
        dry = run(
            ["make", "--dry-run", "--no-print-directory", "-o", ".venv/ready", "-o", ".venv/ready-dev", *words[1:]], cwd
        )
        lines = [shlex.split(text) for text in dry.splitlines()]
        assert lines, f"{line} does nothing"
        return [] if words[1] in LONG_TARGETS else [shortened(called[1:]) for called in lines]
    assert words[0] == "python", f"the README has a command that this test does not know: {line}"
    return [shortened(words[1:])]


def test_the_plain_commands_come_first_and_make_beside_them():
    plain, by_make = ([line.split("#")[0].strip() for line in text.splitlines()] for text in blocks("bash")[:2])
    assert plain[-3:] == ["python ELMO.py", "python classification.py", "python evaluate.py"]
    assert plain[-4] == "python -m pip install -r requirements.txt" and by_make == ["make run", "make test"]
    assert README[: README.index("make run")].count("\n") < 40


def test_commands(checkout):
    """Every line of every bash block, in order, in one process; the data is the sample, since there is no other."""
    lines = [
        line for block in blocks("bash") for line in block.splitlines() if line.strip() and not line.startswith("#")
    ]
    lines = [line for line in lines if not line.startswith(("git clone", "cd ", "python -m pip"))]
    lines = [line for line in lines if "--serve" not in line]  # which does not end; test_page.py has it
    assert len(lines) > 30
    commands = [command for line in lines if "torchrun" not in line for command in commands_of(line, checkout)]
    after_the_example = next(i for i, command in enumerate(commands) if "examples/docstrings.py" in command) + 1
    said = run_in_one_process(commands[:after_the_example], checkout)
    assert "SAMPLE DATA" in said
    for path in (checkout / "data/docstrings").glob("*.csv"):  # of a tenth of them
        header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join([header, *rows[::10]]), encoding="utf-8")
    run_in_one_process(commands[after_the_example:], checkout)
    assert (checkout / "models/sample/classifier.pt").exists()
    real = [path.name for path in (checkout / "models").glob("*.pt")]
    assert real == ["original.pt"], "the sample's models are not the real ones"
    for line in lines:
        if "torchrun" in line:
            words = [word for word in shlex.split(line, comments=True)[1:] if "nproc" not in word]
            run([sys.executable, *torchrun(), *shortened(words)], checkout)
    code = "\n".join(blocks("python")).replace("models/bilstm.pt", "models/sample/bilstm.pt")
    code = code.replace("models/classifier", "models/sample/classifier")
    run([sys.executable, "-c", code], checkout)


def run_in_one_process(commands: list[list[str]], cwd: Path) -> str:
    return run([sys.executable, "tests/run_commands.py", json.dumps(commands)], cwd)


def test_the_file_tree_is_true():
    listed = set(re.findall(r"^([\w./-]+\.(?:py|md|txt|toml)|[\w.-]+/|Makefile)\s", blocks("text")[0], re.MULTILINE))
    listed |= {f"bilm/{name}" for name in re.findall(r"^  (\w+\.py)\s", blocks("text")[0], re.MULTILINE)}
    assert all((ROOT / name).exists() for name in listed), [n for n in listed if not (ROOT / n).exists()]
    code = {str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.py"), *ROOT.glob("bilm/*.py")]} - {"bilm/__init__.py"}
    assert code <= listed, code - listed


def test_speed_is_what_was_measured():
    """Every row of "How fast" that names a figure of results/benchmark.json by its key shows that figure."""
    measured = json.loads((ROOT / "results/benchmark.json").read_text(encoding="utf-8"))
    assert measured["corpus"] == "ag_news" and not measured["quick"]
    section = README.split("## How fast")[1].split("\n## ")[0]
    rows = re.findall(r"^\|[^|]+\| ([\d.,]+)[^|]*\| `([\w.]+)` \|$", section, re.MULTILINE)
    assert len(rows) > 15
    for shown, key in rows:
        figure = measured
        for part in key.split("."):
            figure = figure[int(part) if isinstance(figure, list) else part]
        figure = figure["median"] if isinstance(figure, dict) else figure
        digits = len(shown.partition(".")[2])
        assert float(shown.replace(",", "")) == round(figure, digits), key


def test_speed_of_the_tools_is_what_was_measured():
    measured = json.loads((ROOT / "results/tools.json").read_text(encoding="utf-8"))
    assert measured["corpus"] == "ag_news" and not measured["quick"] and measured["documents"] == 7600
    rows = re.findall(r"^\|[^|]+\| ([\d.,]+) \| `tools: (\w+)\.(\w+)` \|$", README, re.MULTILINE)
    assert len(rows) == 12
    for shown, part, name in rows:
        digits = len(shown.partition(".")[2])
        assert float(shown.replace(",", "")) == round(measured[part][name]["median"], digits), name


def test_speed_beside_other_programs_is_what_was_measured():
    measured = json.loads((ROOT / "results/busy.json").read_text(encoding="utf-8"))
    assert measured["corpus"] == "ag_news" and not measured["quick"] and measured["cores"] == 2
    rates = {
        way: [f"{round(measured['beside'][beside][way]['tokens_per_second']['median']):,}" for beside in BESIDE]
        for way in ("chosen", "one_per_core")
    }
    said = " ".join(README.split())
    alone, one, each = rates["chosen"]
    assert f"{alone} tokens/s alone, {one} beside one busy program, {each} beside one per core" in said
    assert "it would have {}, {} and {} (".format(*rates["one_per_core"]) in said


def test_what_the_sample_reaches_without_a_network_is_what_was_measured():
    means = json.loads((ROOT / "results/sample_fallback.json").read_text(encoding="utf-8"))["test_accuracy_mean"]
    assert all(accuracy >= 0.9 for accuracy in means.values()) and len(means) == 4
    said = " ".join(README.split())
    assert ", ".join(f"`{mode}` {accuracy:.3f}" for mode, accuracy in means.items()) in said


def test_times_are_what_was_measured():
    """With bf16: make_run.json and make_fast.json. Without: an epoch is measured, the rest follows by its ratio."""
    run, fast, best = (
        json.loads((ROOT / f"results/make_{name}.json").read_text(encoding="utf-8")) for name in ("run", "fast", "best")
    )
    without = json.loads((ROOT / "results/epoch_without_bf16.json").read_text(encoding="utf-8"))
    assert without["rows_trained"] == run["rows_trained"] and without["precision"] == "fp32"
    epoch = run["parts_seconds"]["pretraining"] / FitConfig().epochs
    ratio = without["seconds"] / epoch
    best_seconds = sum(best["parts_seconds"].values())
    found = {
        "one epoch of pretraining": (epoch, without["seconds"]),
        "`--preset fast`": (fast["seconds"], fast["seconds"] * ratio),
        "the default, `make run`": (run["seconds"], run["seconds"] * ratio),
        "`--preset best`": (best_seconds, best_seconds * ratio),
    }
    for name, seconds in found.items():
        (row,) = re.findall(rf"^\| {re.escape(name)} \| (\d+) min \| (?:about )?(\d+) min", README, re.MULTILINE)
        assert [int(cell) for cell in row] == [round(s / 60) for s in seconds], (name, seconds)


def test_reliability_is_what_was_counted():
    counted = json.loads((ROOT / "results/reliability.json").read_text(encoding="utf-8"))
    kills = {"SIGKILL": [], "gentle": []}
    for name, figures in counted["kills"].items():
        for number in ("SIGKILL", "gentle"):
            if name.endswith(", SIGKILL") == (number == "SIGKILL"):
                kills[number].append(figures)
    files = counted["foreign_files"].values()
    strings = counted["bad_data"]["random Unicode strings through each classifier"]["strings"]
    numbers = [
        *(sum(f["kills"] for f in kills[number]) for number in kills),
        *(sum(f[key] for f in files) for key in ("flips_refused", "flips_harmless", "truncations_refused")),
        strings,
    ]
    table = README.split("## What it withstands")[1].split("##")[0]
    for value in numbers:
        assert f"{value:,}" in table, value
    most = max(f["seconds_lost_most"] for f in counted["kills"].values())
    assert f"at most {most:.1f} s" in table


def test_token_layers_are_what_was_measured():
    layers = json.loads((ROOT / "results/token_layers.json").read_text(encoding="utf-8"))["token_layers"]
    section = README.split("## Words from their characters")[1].split("\n## ")[0]
    costs = re.findall(r"^\| `([\w+]+)` \| ([\d,]+) \| ([\d.]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", section, re.M)
    assert [name for name, *_ in costs] == ["word", "char", "word+char"]
    speeds = ("tokens_per_second", "first_encoded_per_second", "later_encoded_per_second")
    for name, parameters, perplexity, *rates in costs:
        layer = layers[name]
        assert int(parameters.replace(",", "")) == layer["parameters"]
        assert float(perplexity) == round(layer["perplexity"][-1], 1)
        assert [int(rate.replace(",", "")) for rate in rates] == [round(layer[key]["median"]) for key in speeds]
    rows = re.findall(r"^\| `([\w+]+)` \| `(\w+)` \| ([\d.| ]+) \|$", section, re.M)
    assert len(rows) == 9
    for name, mode, shown in rows:
        found = layers[name]["classifiers"][mode]
        wanted = [found["validation_accuracy"], found["test_accuracy"], *found["accuracy_with_errors"].values()]
        wanted.append(found["accuracy_hardest"])
        assert [float(x) for x in shown.split(" | ")] == [round(x, 4) for x in wanted], (name, mode)


@pytest.fixture(scope="module")
def summary() -> dict:
    return json.loads((ROOT / "results/summary.json").read_text(encoding="utf-8"))


def points(figures: dict) -> str:
    """A row-by-row difference as the tables show it: "+1.2 (0.6 to 1.8)"."""
    low, high = figures["interval"]
    return f"{100 * figures['difference']:+.1f} ({100 * low:.1f} to {100 * high:.1f})"


@pytest.mark.parametrize("path", ["README.md", "models/README.md"])
def test_results_are_those_of_the_summary(summary, path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert summary["corpus"] == "ag_news"
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([^|]+) \| ([\d.]+ ± [\d.]+) \| ([^|]+) \|$",
        text,
        re.MULTILINE,
    )
    assert {row[0] for row in rows} == set(summary["classifiers"]) and len(rows) == 4
    for mode, *shown, mix, spread, above in rows:
        entry = summary["classifiers"][mode]
        wanted = (
            entry["test"]["accuracy"],
            entry["test"]["f1"],
            entry["train"]["accuracy"],
            entry["validation_accuracy"],
        )
        assert [float(x) for x in shown] == [round(x, 4) for x in wanted]
        lambdas = entry["lambdas"]
        assert mix == ("none" if not lambdas else " ".join(f"{x:.2f}" for x in lambdas) + f"; {entry['gamma']:.2f}")
        assert len(entry["seeds"]) == 3
        assert spread == f"{entry['accuracy_mean']:.4f} ± {entry['accuracy_std']:.4f}"
        assert above == points(summary["paired"][mode]["tfidf_svm"])
    (ensemble,) = re.findall(r"^\| the mean of all four \| ([\d.]+) \| ([\d.]+) \|.*\| ([^|]+) \|$", text, re.MULTILINE)
    figures = summary["ensemble"]["test"]
    assert ensemble == (
        f"{figures['accuracy']:.4f}",
        f"{figures['f1']:.4f}",
        points(summary["paired"]["ensemble"]["tfidf_svm"]),
    )
    (svm,) = re.findall(r"^\| TF-IDF and a linear SVM \| ([\d.]+) \| ([\d.]+) \|", text, re.MULTILINE)
    figures = summary["baselines"]["tfidf_svm"]["test"]
    assert svm == (f"{figures['accuracy']:.4f}", f"{figures['f1']:.4f}")


def test_language_model_figures_are_those_of_the_summary(summary):
    rows = re.findall(
        r"^\| (forward|backward) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", README, re.MULTILINE
    )
    assert len(rows) == 2
    for direction, *shown in rows:
        figures = summary["language_model"]["test"][direction]
        wanted = [round(figures["perplexity"], 1)]
        wanted += [round(figures[name], 4) for name in ("accuracy", "top5_accuracy", "f1_macro")]
        assert [float(x) for x in shown] == wanted


def test_near_duplicates_are_those_of_the_summary(summary):
    near = summary["near_duplicates"]
    both = near["accuracy"]["ensemble"]
    said = " ".join(README.split())
    assert f"{near['rows']:,} of the test rows nearly repeat a row trained on" in said
    assert f"in {near['labels_differ']:.0%} of them" in said
    assert f"{both['near_duplicates']:.4f} on those rows and {both['rest']:.4f} on the rest" in said


def test_presets_are_what_was_measured():
    rows = re.findall(r"^\| `(\w+)` \| `make (\w+)` \| (\d+) \| ([\d.]+) \| (\d+) \| (\d+) \| ([^|]+) \|", README, re.M)
    assert [row[0] for row in rows] == list(PRETRAINING)
    for preset, make, epochs, perplexity, pretraining, classifiers, accuracies in rows:
        measured = json.loads((ROOT / f"results/make_{make}.json").read_text(encoding="utf-8"))
        parts = measured["parts_seconds"]
        assert int(epochs) == PRETRAINING[preset].get("epochs", FitConfig().epochs)
        assert float(perplexity) == round(measured["validation_perplexity"], 1)
        assert int(pretraining) == round(parts["pretraining"] / 60)
        assert int(classifiers) == round((sum(parts.values()) - parts["pretraining"]) / 60)
        shown = re.findall(r"`(\w+)` ([\d.]+)", accuracies)
        assert {m: float(a) for m, a in shown} == {m: round(f["test"], 4) for m, f in measured["accuracy"].items()}


def test_few_labels_are_what_was_measured():
    measured = json.loads((ROOT / "results/label_efficiency.json").read_text(encoding="utf-8"))
    assert measured["corpus"] == "ag_news" and measured["draws"] == 10
    found = measured["labels_per_class"]
    section = README.split("**Few labels**")[1].split("**What the")[0]
    header, _, *rows = re.findall(r"^\|(.*)\|$", section, re.M)
    assert [cell.strip().replace(",", "") for cell in header.split("|")[1:]] == list(found)
    assert [row.split("|")[0].strip(" `") for row in rows] == list(
        {name: 0 for size in found.values() for name in size}
    )
    for row in rows:
        name, *cells = (cell.strip(" `") for cell in row.split("|"))
        for cell, size in zip(cells, found.values(), strict=True):
            f = size.get(name)
            spread = "" if f is None or f["test_accuracy_std"] is None else f" ± {100 * f['test_accuracy_std']:.1f}"
            assert cell == ("" if f is None else f"{100 * f['test_accuracy']:.1f}{spread}"), (name, size)


def test_lambdas_and_baselines_are_what_was_measured(summary):
    study = json.loads((ROOT / "results/lambda_study.json").read_text(encoding="utf-8"))
    said = " ".join(README.split("**What the λs do**")[1].split("**Presets**")[0].split())
    for name in ("e0", "e1", "e2", "mean", "trainable_0", "trainable_1", "trainable_2"):
        assert f"{study['parts'][name]['test_accuracy']:.4f}" in said, name
    frozen = study["frozen"]
    assert f"{frozen['mean']:.4f} ± {frozen['std']:.4f}" in said
    assert f"{frozen['least']:.4f}" in said and f"{frozen['most']:.4f}" in said
    assert study["bilm"] == summary["bilm"]
    baselines = summary["baselines"]
    shown = {"TF-IDF and logistic": "tfidf_logistic", "fastText": "fasttext", "random": "random"}
    for kind, label in (("svd", "SVD of PPMI, window "), ("word2vec", "Word2Vec, window ")):
        best = max((n for n in baselines if n.startswith(kind)), key=lambda n: baselines[n]["validation_accuracy"])
        shown[f"{label}{baselines[best]['window']},"] = best
    for label, name in shown.items():
        (row,) = re.findall(rf"^\| {re.escape(label)}[^|]*\| ([\d.]+) \| ([\d.]+) \| \| ([\d.]+) \|", README, re.M)
        entry = baselines[name]
        wanted = (entry["test"]["accuracy"], entry["test"]["f1"], entry["validation_accuracy"])
        assert row == tuple(f"{x:.4f}" for x in wanted), name


def test_the_report_has_as_many_pages_as_said():
    assert f"on {len(PdfReader(ROOT / 'report.pdf').pages)} pages" in " ".join(README.split())


def test_another_seed_is_what_was_measured(summary):
    other = json.loads((ROOT / "results/best_seed_1.json").read_text(encoding="utf-8"))
    (said,) = re.findall(r"^Preset `best` once more.*?(?=\n\n)", README, re.MULTILINE | re.DOTALL)
    assert f"perplexity {other['validation_perplexity']:.1f}" in said
    for mode, figures in other["accuracy"].items():
        assert f"`{mode}` {figures['test']:.4f}" in said
        if mode != "frozen":
            assert abs(figures["test"] - summary["classifiers"][mode]["accuracy_mean"]) < 0.001
    assert f"the mean of all four {other['ensemble']:.4f}" in said
    assert abs(other["ensemble"] - summary["ensemble"]["test"]["accuracy"]) < 0.002


def test_the_worked_example_is_what_was_measured():
    measured = json.loads((ROOT / "results/docstrings.json").read_text(encoding="utf-8"))
    section = README.split("## Your own texts")[1].split("\n## ")[0]
    rows = re.findall(
        r"^\| (.+?) \| ([\d,]+) \| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([-+\d.]+) \((.+) to (.+)\) \|$", section, re.M
    )
    assert len(rows) == len(measured["runs"]) == 3
    for row, run in zip(rows, measured["runs"], strict=True):
        best = max(run["classifiers"], key=lambda mode: run["classifiers"][mode]["validation"])
        figures, paired = run["classifiers"][best], run["above_tfidf"]
        numbers = [f"{figures[split]:.3f}" for split in ("validation", "test")]
        points = [f"{100 * paired['difference']:+.1f}", *(f"{100 * x:.1f}" for x in paired["interval"])]
        assert row == (run["language_model"], f"{run['vocabulary']:,}", best, *numbers, *points)
    rival = measured["tfidf_svm"]
    assert f"| {rival['validation']:.3f} | {rival['test']:.3f} | |" in section
    said = " ".join(section.split())
    assert (
        f"{measured['rows_trained']:,} rows trained on" in said and f"{measured['rows_tested']:,} to test with" in said
    )


def test_what_a_start_is_worth_is_what_was_measured():
    measured = json.loads((ROOT / "results/sample_start.json").read_text(encoding="utf-8"))
    accuracies = []
    for run in measured["runs"]:
        best = max(run["classifiers"], key=lambda mode: run["classifiers"][mode]["validation"])
        accuracies.append(run["classifiers"][best]["test"])
    scratch, start = accuracies
    said = " ".join(README.split())
    wanted = f"from scratch learns {scratch:.3f}, TF-IDF {measured['tfidf_svm']['test']:.3f}, and one with"
    assert wanted in said and f"`--start-from models/bilstm.pt` {start:.3f}, each" in said


def test_other_seeds_of_the_presets_are_what_was_measured():
    found = json.loads((ROOT / "results/other_seeds.json").read_text(encoding="utf-8"))
    fast, base = found["fast"], found["base"]
    (said,) = re.findall(r"^Presets `fast` and `base` once more.*?(?=\n\n)", README, re.MULTILINE | re.DOTALL)
    for name, figures in (("fast", fast), ("base", base)):
        assert re.search(rf"`{name}` has\s+perplexity {figures['validation_perplexity']:.1f} ", said)
    assert f"`function` {fast['accuracy']['function']['test']:.4f};" in said
    first = json.loads((ROOT / "results/make_run.json").read_text(encoding="utf-8"))["accuracy"]
    for mode, entry in first.items():
        others = [figures[mode]["test"] for figures in base["accuracy_by_classifier_seed"].values()]
        for values in (others, [entry["test"], *others]):
            assert f"`{mode}` {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in said
        if mode != "frozen":
            assert max(abs(np.array(values) - np.mean(values))) < 0.003, "a run is within 0.3 points of what to expect"


def test_senses_part_as_was_measured():
    jets, planes, money, land = json.loads((ROOT / "results/senses.json").read_text(encoding="utf-8"))["queries"]
    said = " ".join(README.split())
    assert jets["layers"][0] == planes["layers"][0], "the word alone has one sense"
    for query in (jets, planes):
        assert f'"{query["text"]}"' in said
        nearest = query["layers"][2]["nearest"][0]["around"]
        (quoted,) = (text for text in re.findall(r'"([^"]*\[jets\][^"]*)"', said) if nearest.startswith(text))
        assert len(quoted) > 20
    counts = [[layer["of_10_behind_west"] for layer in query["layers"]] for query in (money, land)]
    (first, second), wanted = (
        counts,
        "{} are of a West Bank in e0, {} in e1, {} in e2; to the one of a West Bank town, {}, {}, {} ",
    )
    assert wanted.format(*first, *second) in said
