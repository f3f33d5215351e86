"""README.md and docs/: every command in them runs, every figure is that of results/, every file they name exists."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, thinned_sample
from original_files import OPTIONS, datasets, write
from pypdf import PdfReader

from bilm.__main__ import COMMANDS
from bilm.checkpoints.serialization import FORMAT_VERSION, OLDEST_VERSION, load
from bilm.config import PRETRAINING, BiLMConfig, CharCNNConfig, FitConfig, TokenizerConfig, VocabularyConfig


def page(path: str) -> str:
    """The text of a page, by its path in the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def flowing(path: str) -> str:
    """The text of a page in one line, so that a sentence is found wherever its lines are wrapped."""
    return " ".join(page(path).split())


def section(path: str, title: str) -> str:
    """From the heading `## title` to the next one of that level."""
    return page(path).split(f"\n## {title}\n")[1].split("\n## ")[0]


def results(name: str) -> dict[str, Any]:
    return json.loads(page(f"results/{name}.json"))


README = "README.md"
# README.md and the pages in the order of their index, in which the commands are run.
PAGES = [README, *(f"docs/{name}" for name in re.findall(r"^\| \[(\w+\.md)\]", page("docs/README.md"), re.M))]
OTHERS = ["docs/README.md", "models/README.md", "data/README.md"]


def blocks(language: str, paths: list[str]) -> list[str]:
    return [
        block for path in paths for block in re.findall(rf"^```{language}\n(.*?)^```", page(path), re.MULTILINE | re.S)
    ]


# --- the pages themselves -------------------------------------------------------------------------------------------


def test_the_index_lists_every_page():
    files = {f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")} - {"docs/README.md"}
    assert set(PAGES) == {README, *files} and len(PAGES) > 8


def test_the_three_commands_come_first_and_make_after_them():
    plain, by_make = ([line.split("#")[0].strip() for line in text.splitlines()] for text in blocks("bash", PAGES)[:2])
    assert plain[-3:] == ["python ELMO.py", "python classification.py", "python evaluate.py"]
    assert plain[-4] == "python -m pip install -r requirements.txt" and by_make == ["make run", "make test"]
    lines = page(README).splitlines()
    assert len(lines) <= 200
    for command in plain[-3:]:
        assert any(line.startswith(command) for line in lines[:25]), command
    assert page(README)[: page(README).index("make run")].count("\n") < 40


@pytest.mark.parametrize("path", [*PAGES, *OTHERS])
def test_lines_are_wrapped(path):
    """At 120 columns; a row of a table, a command and a line that is one link cannot be wrapped."""
    fence = None
    for number, line in enumerate(page(path).splitlines(), start=1):
        if line.startswith("```"):
            fence = line if fence is None else None
        is_link = re.fullmatch(r"\s*!?\[[^\]]*\]\([^)]*\)\S?", line)
        if not line.startswith("|") and fence != "```bash" and not is_link:
            assert len(line) <= 120, f"{path}, line {number}"


def anchors(path: Path) -> set[str]:
    """The names by which links point to the headings of a page, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.S)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*PAGES, *OTHERS])
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```", "", page(path), flags=re.MULTILINE | re.S)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text) for link in link if link]
    for link in links:
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            target = (ROOT / path).parent / name if name else ROOT / path
            assert target.exists(), f"{path}: {link}"
            assert not anchor or anchor in anchors(target), f"{path}: {link}"
    assert links or path not in (README, "docs/README.md")


@pytest.mark.parametrize("path", [*PAGES, *OTHERS])
def test_files_that_are_named_exist(path):
    for name in re.findall(r"(?<![\w./-])(?:bilm|studies|benchmarks|tests|examples|docs)/[\w./-]*\w", page(path)):
        assert (ROOT / name).exists(), f"{path}: {name}"


def tree(text: str) -> set[str]:
    """The paths that an indented list of files and folders names, two more columns for each folder."""
    result, folders = set(), [""]
    for indent, name in re.findall(r"^( *)([\w.-]+(?:\.\w+|/))(?=\s)", text, re.MULTILINE):
        depth = len(indent) // 2
        path = folders[depth] + name
        result.add(path)
        if name.endswith("/"):
            folders[depth + 1 :] = [path]
    return result


ARCHITECTURE = "docs/architecture.md"


def test_the_list_of_modules_is_complete():
    listed = tree(section(ARCHITECTURE, "Modules"))
    missing = [name for name in listed if not (ROOT / name).exists()]
    assert not missing, f"listed, but not there: {missing}"
    files = [*ROOT.glob("*.py"), *ROOT.glob("bilm/**/*.py"), *ROOT.glob("studies/**/*.py")]
    modules = {file.relative_to(ROOT).as_posix() for file in files if file.name != "__init__.py"}
    assert modules == {name for name in listed if name.endswith(".py")}, "modules that are not listed, or the reverse"


def test_the_tree_of_the_readme_is_true():
    listed = tree(section(README, "The tree"))
    assert {"bilm/", "tests/", "docs/", "results/"} <= listed
    assert all((ROOT / name).exists() for name in listed), [name for name in listed if not (ROOT / name).exists()]
    assert {file.name for file in ROOT.glob("*.py")} <= listed


def test_every_command_is_shown():
    shown = re.findall(r"^python -m bilm (\w+)", "".join(blocks("bash", PAGES)), re.MULTILINE)
    assert set(shown) == set(COMMANDS)


def test_the_versions_of_the_files_are_those_that_are_read():
    text = f"`format_version` is {FORMAT_VERSION}. Files of version {OLDEST_VERSION} are read too"
    assert text in flowing(ARCHITECTURE)


def test_the_differences_from_the_paper_are_those_of_the_default_settings():
    text, shape, characters = section(ARCHITECTURE, "Differences from the paper"), BiLMConfig(), CharCNNConfig()
    rare, words, rows = VocabularyConfig().min_count, TokenizerConfig().max_tokens, results("summary")["rows_trained"]
    epochs, filters = FitConfig().epochs, sum(count for _, count in characters.filters)
    large = load(ROOT / "models/classifier_large.pt", "classifier")["encoder"]["config"]
    assert shape.token_layer == "word" and shape.softmax == "adaptive" and shape.units == shape.width
    assert large["hidden"] == 512 and large["width"] == shape.width and TokenizerConfig().lowercase
    for expected in (
        f"a word embedding of width {shape.width}, text lower-cased, one vector for all words seen fewer than {rare} ",
        f"`--token-layer char`: {filters} filters, {characters.highways} highway layer, projection to {shape.width}",
        f"{shape.layers} layers of {shape.units} units, neither projected",
        f"at most {words} words and its boundaries",
        f"{rows:,} descriptions of AG News, {epochs} epochs (preset `best`: {PRETRAINING['best']['epochs']})",
    ):
        assert expected in text, expected


# --- commands -------------------------------------------------------------------------------------------------------

# What makes a run short; weights that another model is started from have their size.
TINY = ["--width", "24", "--min-count", "2", "--batch-tokens", "512"]
# Too long for a test, or in need of the network: only their recipes are read.
LONG_TARGETS = {"best", "studies", "report", "test", "check", "mutation", "bench", "reliability", "audit"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the project without what a user's own runs left, on a machine without data and network."""
    copy = tmp_path_factory.mktemp("checkout") / "elmo"
    left_out = shutil.ignore_patterns(".git", ".venv", "runs", "*.pt", "ag_news", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=left_out)
    shutil.copy(ROOT / "models/classifier_large.pt", copy / "models")  # which no run replaces
    thinned_sample(copy / "data", 2)
    write(copy, OPTIONS, datasets(OPTIONS, np.random.default_rng(0)))  # of the original ELMo, but small
    return copy


def run(command: list[str], cwd: Path) -> str:
    # `make test` passes its own options on to a make that is called here.
    env = {k: v for k, v in os.environ.items() if k not in ("AG_NEWS_DIR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    env |= {"https_proxy": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    # Three minutes alone; with two other busy programs on two cores more than five.
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def run_in_one_process(commands: list[list[str]], cwd: Path) -> str:
    return run([sys.executable, str(ROOT / "tests" / "run_commands.py"), json.dumps(commands)], cwd)


def program_of(words: list[str]) -> list[str]:
    """The words of a command that say what is run: a script, or -m and a module, and of bilm its subcommand."""
    return words[: 1 if words[0] != "-m" else 3 if words[1] == "bilm" else 2]


def of_the_sample(text: str) -> str:
    """The weights of the repository were left out of the copy; those trained on the sample take their place."""
    return re.sub(r"\bmodels/(?!classifier_large)(?=(bilstm|classifier|best)\w*\.)", "models/sample/", text)


def shortened(words: list[str]) -> list[str]:
    """What follows "python": a command and its options, with those that make it short, and weights that exist."""
    program = program_of(words)
    name, options = program[-1], [of_the_sample(word) for word in words[len(program) :]]
    if name in COMMANDS and name != "ensemble" and "--bilm" not in options:
        options += ["--bilm", "models/sample/bilstm.pt"]
    if name == "ELMO.py" and "--import-original" not in options:
        options += ["--epochs", "1", *([] if "--start-from" in options else TINY)]
    if name in ("classification.py", "studies.baselines", "studies.lambda_study"):
        options += ["--epochs", "1", "--hidden", "16"]
    return [*program, *options]


def test_shortened_commands_keep_their_program():
    assert shortened(["ELMO.py", "--resume"]) == ["ELMO.py", "--resume", "--epochs", "1", *TINY]
    start = ["ELMO.py", "--start-from"]
    assert shortened([*start, "models/bilstm.pt"]) == [*start, "models/sample/bilstm.pt", "--epochs", "1"]
    assert shortened(["-m", "bilm", "lm", "x"]) == ["-m", "bilm", "lm", "x", "--bilm", "models/sample/bilstm.pt"]
    ensemble = ["-m", "bilm", "ensemble"]
    assert shortened([*ensemble, "models/classifier_frozen.pt"]) == [*ensemble, "models/sample/classifier_frozen.pt"]
    assert shortened(["-m", "studies.baselines"]) == ["-m", "studies.baselines", "--epochs", "1", "--hidden", "16"]


def commands_of(line: str, cwd: Path) -> list[list[str]]:
    """The commands that a line of a page calls, without "python"; none where it is only looked at."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        # The environment counts as made.
        dry = run(
            ["make", "--dry-run", "--no-print-directory", "-o", ".venv/ready", "-o", ".venv/ready-dev", *words[1:]], cwd
        )
        lines = [shlex.split(text) for text in dry.splitlines()]
        assert lines, f"{line} does nothing"
        return [] if words[1] in LONG_TARGETS else [shortened(called[1:]) for called in lines]
    if words[0] == "torchrun":  # test_torchrun.py starts several processes
        return [shortened([word for word in words[1:] if "nproc" not in word])]
    assert words[0] == "python", f"a command that this test does not know: {line}"
    if words[1:3] == ["-m", "pytest"]:
        assert all((ROOT / folder).is_dir() for folder in words[3:]), line
        return []
    return [shortened(words[1:])]


# Leaves a twentieth of the docstrings, each of which is a line.
THIN = """
from pathlib import Path
for path in Path("data/docstrings").glob("*.csv"):
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([header, *rows[::20]]), encoding="utf-8")
"""


def test_commands(checkout):
    """Every line of every bash block, in order, in one process; the data is the sample, since there is no other."""
    blocks_of_bash = blocks("bash", PAGES)
    lines = [line for block in blocks_of_bash for line in block.splitlines() if line.strip() and line[0] != "#"]
    lines = [line for line in lines if not line.startswith(("git clone", "cd ", "python -m pip"))]
    # `--serve` does not end; it has tests of its own.
    lines = [line for line in lines if "--serve" not in shlex.split(line, comments=True)]
    assert len(lines) > 40
    commands = [command for line in lines for command in commands_of(line, checkout)]
    # README.md and a page may show the same command: once is enough.
    commands = [list(words) for words in dict.fromkeys(map(tuple, commands))]
    after_the_example = next(i for i, command in enumerate(commands) if "examples/docstrings.py" in command) + 1
    (checkout / "thin.py").write_text(THIN, encoding="utf-8")
    commands[after_the_example:after_the_example] = [["thin.py"]]
    assert "SAMPLE DATA" in run_in_one_process(commands, checkout)
    assert (checkout / "models/sample/classifier.pt").exists()
    real = {path.name for path in (checkout / "models").glob("*.pt")}
    assert real == {"classifier_large.pt", "original.pt"}, "the sample's models are not those of AG News"
    code = of_the_sample("\n".join(blocks("python", PAGES)))
    run([sys.executable, "-c", code], checkout)


# --- docs/performance.md --------------------------------------------------------------------------------------------

PERFORMANCE = "docs/performance.md"
BESIDE = ("alone", "one", "one_per_core")


def test_speed_is_what_was_measured():
    """Every row that names a figure by its key shows it: with bf16, and without."""
    text = section(PERFORMANCE, "Speed and memory")
    rows = re.findall(r"^\|[^|]+\| ([\d.,]+) \| ([\d.,]+|not measured) \| `([\w.]+)` \|$", text, re.MULTILINE)
    assert len(rows) > 25
    for column, name in enumerate(("benchmark_bf16", "benchmark_fp32")):
        measured = results(name)
        assert measured["corpus"] == "ag_news" and not measured["quick"]
        for row in rows:
            displayed, figure = row[column], figure_at(measured, row[2])
            digits = len(displayed.partition(".")[2])
            assert figure is None or float(displayed.replace(",", "")) == round(figure, digits), row[2]
            assert (figure is None) == (displayed == "not measured"), row[2]


def figure_at(measured: dict, key: str) -> float | None:
    """The figure with this key, the median of several; None if it was not measured."""
    figure: Any = measured
    for part in key.split("."):
        figure = figure.get(part)
    return figure["median"] if isinstance(figure, dict) else figure


def test_growth_is_what_was_measured():
    rows = re.findall(
        r"^\| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \| (\d+) \|$",
        section(PERFORMANCE, "Growth with the corpus"),
        re.MULTILINE,
    )
    expected = [
        (
            f"{entry['documents']:,}",
            f"{entry['encode_seconds_per_million_tokens']['median']:.2f}",
            f"{entry['train_seconds_per_million_tokens']['median']:.1f}",
            *(f"{entry[key]:.0f}" for key in ("peak_memory_mb", "anonymous_memory_mb", "disk_mb")),
        )
        for entry in results("benchmark_bf16")["growth"]
    ]
    assert rows == expected


def test_speed_of_the_tools_is_what_was_measured():
    measured = results("tools")
    assert measured["corpus"] == "ag_news" and not measured["quick"] and measured["documents"] == 7600
    rows = re.findall(r"^\|[^|]+\| ([\d.,]+) \| `tools: (\w+)\.(\w+)` \|$", page(PERFORMANCE), re.MULTILINE)
    assert len(rows) == 12
    for displayed, part, name in rows:
        digits = len(displayed.partition(".")[2])
        assert float(displayed.replace(",", "")) == round(measured[part][name]["median"], digits), name


def test_files_of_many_rows_are_what_was_measured():
    predict, vectors = (results("bulk")["commands"][name] for name in ("predict", "vectors"))
    rates = " and ".join(f"{command['documents_per_second']:.0f}" for command in (predict, vectors))
    assert f"{rates} documents/s from start to end" in flowing(PERFORMANCE)
    peaks = " and ".join(f"{command['peak_memory_mb']:,}" for command in (predict, vectors))
    assert f"a peak of {peaks} MB of memory" in flowing(PERFORMANCE)
    shares = " and ".join(f"{command['share_of_in_process']:.2f}" for command in (predict, vectors))
    assert f"Start-up apart, that is {shares} of the rate" in flowing(PERFORMANCE)


def test_a_million_rows_are_what_was_measured():
    fewer = (results("bulk_10000")["commands"][name]["share_of_in_process"] for name in ("predict", "vectors"))
    assert "Of 10,000 rows it is {:.2f} and {:.2f} (".format(*fewer) in flowing(PERFORMANCE)
    measured, text = results("bulk_million"), flowing(PERFORMANCE)
    assert measured["documents"] == 1_000_000 and f"{measured['words'] / 1e6:.1f} million words" in text
    predict, vectors = (measured["commands"][name] for name in ("predict", "vectors"))
    minutes = [f"{command['seconds'] / 60:.0f}" for command in (predict, vectors)]
    assert f"take {minutes[0]} minutes to classify and {minutes[1]} to turn into vectors" in text
    rates = " and ".join(f"{command['documents_per_second']:,.0f}" for command in (predict, vectors))
    peaks = " and ".join(f"{command['peak_memory_mb']:,}" for command in (predict, vectors))
    assert f"({rates} documents/s), in {peaks} MB" in text
    assert f"The vectors take {vectors['output_mb'] / 1e3:.1f} GB" in text


def test_speed_with_other_programs_running_is_what_was_measured():
    measured = results("busy")
    assert measured["corpus"] == "ag_news" and not measured["quick"] and measured["cores"] == 2
    rates = {
        way: [f"{round(measured['beside'][beside][way]['tokens_per_second']['median']):,}" for beside in BESIDE]
        for way in ("chosen", "one_per_core")
    }
    alone, one, each = rates["chosen"]
    assert f"{alone} tokens/s alone, {one} with one busy program, {each} with one per core" in flowing(PERFORMANCE)
    assert "it would reach {}, {} and {} (".format(*rates["one_per_core"]) in flowing(PERFORMANCE)


def test_time_to_a_perplexity_is_what_was_measured():
    measured, before, text = results("presets"), results("make_fast"), flowing(PERFORMANCE)
    now, then = measured["fast"]["validation_perplexity"], before["validation_perplexity"]
    epochs = measured["fast"]["settings"]["epochs"] / PRETRAINING["fast"]["epochs"]
    rates = measured["tokens_per_second"]
    share = epochs * rates["before"]["median"] / rates["fast"]["median"]
    assert f"perplexity of {now:.1f} instead of {then:.1f}, in {share:.2f} of the time" in text
    runs = [measured[name]["accuracy"]["function"] for name in ("fast", "fast_seed_1")]
    earlier = [made["accuracy"]["function"] for made in (before, results("other_seeds")["fast"])]
    for form, pair in (("{} on validation and {} on test with them", runs), ("{} and {} without", earlier)):
        figures = [f"{np.mean([run[split] for run in pair]):.4f}" for split in ("validation", "test")]
        assert form.format(*figures) in text


def test_times_are_what_was_measured():
    """With bf16: make_run.json and make_fast.json. Without: an epoch is measured, the rest follows by its ratio."""
    default, fast, best = (results(f"make_{name}") for name in ("run", "fast", "best"))
    without = results("epoch_without_bf16")
    assert without["rows_trained"] == default["rows_trained"] and without["precision"] == "fp32"
    epoch = default["parts_seconds"]["pretraining"] / FitConfig().epochs
    ratio = without["seconds"] / epoch
    best_seconds = sum(best["parts_seconds"].values())
    result = {
        "one epoch of pretraining": (epoch, without["seconds"]),
        "`--preset fast`": (fast["seconds"], fast["seconds"] * ratio),
        "the default, `make run`": (default["seconds"], default["seconds"] * ratio),
        "`--preset best`": (best_seconds, best_seconds * ratio),
    }
    for name, seconds in result.items():
        (row,) = re.findall(
            rf"^\| {re.escape(name)} \| (\d+) min \| (?:about )?(\d+) min", page(PERFORMANCE), re.MULTILINE
        )
        assert [int(cell) for cell in row] == [round(s / 60) for s in seconds], (name, seconds)
    assert f"the ratio of the epochs, {ratio:.1f}" in flowing(PERFORMANCE)
    with_bf16, without_bf16 = (round(s / 60) for s in result["the default, `make run`"])
    fast_minutes = " and about ".join(str(round(s / 60)) for s in result["`--preset fast`"])
    assert (
        f"took {with_bf16} minutes on two CPU cores with bf16, and takes about {without_bf16} on two without; "
        f"`--preset fast` {fast_minutes}" in flowing(README)
    )


# --- docs/reliability.md, docs/characters.md, docs/tools.md ---------------------------------------------------------


def test_reliability_is_what_was_counted():
    counted = results("reliability")
    kills: dict[str, list] = {"SIGKILL": [], "gentle": []}
    for name, figures in counted["kills"].items():
        kills["SIGKILL" if name.endswith(", SIGKILL") else "gentle"].append(figures)
    files = counted["foreign_files"].values()
    strings = counted["bad_data"]["random Unicode strings through each classifier"]["strings"]
    numbers = [
        *(sum(f["kills"] for f in kills[number]) for number in kills),
        *(sum(f[key] for f in files) for key in ("flips_refused", "flips_harmless", "truncations_refused")),
        strings,
    ]
    table = section("docs/reliability.md", "What was tested, and how often")
    for value in numbers:
        assert f"{value:,}" in table, value
    most = max(f["seconds_lost_most"] for f in counted["kills"].values())
    assert f"at most {most:.1f} s" in table


def test_mutation_testing_is_what_was_counted():
    counts = results("mutation")
    share = f"{counts['killed']} of {counts['mutants']} made a test fail ({counts['share_that_died']:.0%})"
    assert share in flowing("docs/reliability.md").replace(" %", "%")
    assert set(counts["named_faults"].values()) == {"killed"}
    assert f"all {len(counts['named_faults'])} faults" in flowing("docs/reliability.md")


def test_token_layers_are_what_was_measured():
    layers = results("token_layers")["token_layers"]
    text = page("docs/characters.md")
    costs = re.findall(r"^\| `([\w+]+)` \| ([\d,]+) \| ([\d.]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", text, re.M)
    assert [name for name, *_ in costs] == ["word", "char", "word+char"]
    speeds = ("tokens_per_second", "first_encoded_per_second", "later_encoded_per_second")
    for name, parameters, perplexity, *rates in costs:
        layer = layers[name]
        assert int(parameters.replace(",", "")) == layer["parameters"]
        assert float(perplexity) == round(layer["perplexity"][-1], 1)
        assert [int(rate.replace(",", "")) for rate in rates] == [round(layer[key]["median"]) for key in speeds]
    rows = re.findall(r"^\| `([\w+]+)` \| `(\w+)` \| ([\d.| ]+) \|$", text, re.M)
    assert len(rows) == 9
    for name, mode, displayed in rows:
        result = layers[name]["classifiers"][mode]
        expected = [result["validation_accuracy"], result["test_accuracy"], *result["accuracy_with_errors"].values()]
        expected.append(result["accuracy_hardest"])
        assert [float(x) for x in displayed.split(" | ")] == [round(x, 4) for x in expected], (name, mode)


def test_what_the_sample_reaches_without_a_network_is_what_was_measured():
    means = results("sample_fallback")["test_accuracy_mean"]
    assert all(accuracy >= 0.9 for accuracy in means.values()) and len(means) == 4
    displayed = ", ".join(f"`{mode}` {accuracy:.3f}" for mode, accuracy in means.items())
    assert displayed in flowing("docs/tools.md")


def test_senses_part_as_was_measured():
    jets, planes, money, land = results("senses")["queries"]
    text = flowing("docs/tools.md")
    assert jets["layers"][0] == planes["layers"][0], "the word alone has one sense"
    for query in (jets, planes):
        assert f'"{query["text"]}"' in text
        nearest = query["layers"][2]["nearest"][0]["around"]
        (quoted,) = (quote for quote in re.findall(r'"([^"]*\[jets\][^"]*)"', text) if nearest.startswith(quote))
        assert len(quoted) > 20
    first, second = ([layer["of_10_behind_west"] for layer in query["layers"]] for query in (money, land))
    expected = '{} are of a West Bank in e0, {} in e1, {} in e2; of the "bank" of a West Bank town, {}, {}, {} '
    assert expected.format(*first, *second) in text


# --- docs/results.md and the results in README.md -------------------------------------------------------------------

RESULTS = "docs/results.md"


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return results("summary")


def points(figures: dict[str, Any]) -> str:
    """A row-by-row difference as the tables show it: "+1.2 (0.6 to 1.8)"."""
    low, high = figures["interval"]
    return f"{100 * figures['difference']:+.1f} ({100 * low:.1f} to {100 * high:.1f})"


def spread(entry: dict[str, Any]) -> str:
    assert len(entry["seeds"]) == 3
    return f"{entry['accuracy_mean']:.4f} ± {entry['accuracy_std']:.4f}"


def check_rows_below_the_classifiers(summary: dict[str, Any], text: str) -> None:
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


@pytest.mark.parametrize("path", [RESULTS, "models/README.md"])
def test_results_are_those_of_the_summary(summary, path):
    text = page(path)
    assert summary["corpus"] == "ag_news"
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([^|]+) \| ([\d.]+ ± [\d.]+) \| ([^|]+) \|$",
        text,
        re.MULTILINE,
    )
    assert {row[0] for row in rows} == set(summary["classifiers"]) and len(rows) == 4
    for mode, *displayed, mix, of_seeds, above in rows:
        entry = summary["classifiers"][mode]
        expected = (
            entry["test"]["accuracy"],
            entry["test"]["f1"],
            entry["train"]["accuracy"],
            entry["validation_accuracy"],
        )
        assert [float(x) for x in displayed] == [round(x, 4) for x in expected]
        lambdas = entry["lambdas"]
        assert mix == ("none" if not lambdas else " ".join(f"{x:.2f}" for x in lambdas) + f"; {entry['gamma']:.2f}")
        assert of_seeds == spread(entry)
        assert above == points(summary["paired"][mode]["tfidf_svm"])
    check_rows_below_the_classifiers(summary, text)


def test_the_results_in_the_readme_are_those_of_the_summary(summary):
    text = page(README)
    rows = re.findall(
        r"^\| `(\w+)`:[^|]+\| ([\d.]+) \| ([\d.]+) \| ([\d.]+ ± [\d.]+) \| ([^|]+) \|$", text, re.MULTILINE
    )
    assert [row[0] for row in rows] == list(summary["classifiers"])
    for mode, accuracy, f1, of_seeds, above in rows:
        entry = summary["classifiers"][mode]
        assert (accuracy, f1) == tuple(f"{entry['test'][name]:.4f}" for name in ("accuracy", "f1"))
        assert of_seeds == spread(entry) and above == points(summary["paired"][mode]["tfidf_svm"])
    check_rows_below_the_classifiers(summary, text)
    forward, backward = (summary["language_model"]["test"][d]["perplexity"] for d in ("forward", "backward"))
    assert f"perplexity is {forward:.1f} forward and {backward:.1f} backward" in flowing(README)
    fewest = results("label_efficiency")["labels_per_class"]["25"]
    elmo, tfidf = (100 * fewest[name]["test_accuracy"] for name in ("elmo", "tfidf"))
    assert f"ELMo's mean vector gives {elmo:.1f} %, TF-IDF {tfidf:.1f} %" in flowing(README)
    trained, rows = summary["rows_trained"], results("bilstm_training")["rows"]
    assert f"{trained:,} rows" in flowing(README)
    available = f"{rows:,} of the 120,000 training rows were available for these weights, {trained:,} to train on"
    assert f"{available} and {rows - trained:,} to validate on" in flowing(README)


def test_the_larger_model_is_what_was_measured(summary):
    large = results("large")
    tuned, gain = large["classifiers"]["finetune"], large["classifiers"]["finetune"]["against_the_smaller_finetune"]
    accuracy, f1 = (f"{tuned['test'][name]:.4f}" for name in ("accuracy", "f1"))
    above, of_seeds = points(tuned["against_tfidf_svm"]), spread(tuned)
    assert (
        f"`finetune` on a larger language model, 2.7 times as slow | {accuracy} | {f1} | {of_seeds} | {above} |"
        in page(README)
    )
    info = load(ROOT / "models/classifier_large.pt", "classifier")["info"]["combination"]["after"]
    mix = " ".join(f"{x:.2f}" for x in info["lambdas"]) + f"; {info['gamma']:.2f}"
    validation = f"{tuned['validation_accuracy']:.4f}"
    assert f"| {accuracy} | {f1} | | {validation} | {mix} | {of_seeds} | {above} |" in page("models/README.md")
    text = flowing(RESULTS)
    for mode in ("trainable", "frozen", "function"):
        pair = (summary["classifiers"][mode]["test"]["accuracy"], large["classifiers"][mode]["test_accuracy"])
        assert "| `{}` | {:.4f} | {:.4f} |".format(mode, *pair) in text
    low, high = (f"{100 * x:+.2f}" for x in gain["interval"])
    difference = f"{100 * gain['difference']:+.2f} ({low} to {high})"
    assert f"| {accuracy} | {of_seeds} | {difference} |" in text
    assert f"perplexity {large['validation_perplexity']:.1f} instead of" in text and f"With {validation} on" in text
    assert f"{100 * tuned['against_tfidf_svm']['difference']:.1f} points above TF-IDF" in text
    seconds = large["seconds_for_test_rows"]
    assert f"{seconds['512 units']['finetune'] / seconds['256 units']['finetune']:.1f} times as long" in text


def test_what_the_commands_print_is_what_was_measured():
    """The shortened output in README.md has the figures of make_run.json."""
    measured = results("make_run")
    output = blocks("text", [README])[0]
    assert f"{measured['rows_trained']:,} texts to train on" in output
    seconds = measured["parts_seconds"]
    assert f"perplexity {measured['validation_perplexity']:.1f}, {seconds['pretraining']:,.0f} s." in output
    displayed = re.findall(r"classifier \((\w+)\): ... validation accuracy ([\d.]+), (\d+) s\.", output)
    assert displayed == [
        (mode, f"{measured['accuracy'][mode]['validation']:.4f}", f"{seconds[f'classifier_{mode}']:.0f}")
        for mode in ("trainable", "frozen", "function")
    ]
    best = max(measured["accuracy"], key=lambda mode: measured["accuracy"][mode]["validation"])
    assert f"classifier.pt: {best}, the best on validation" in output
    assert f"classifier trainable: accuracy {measured['accuracy']['trainable']['test']:.4f}" in output


def test_language_model_figures_are_those_of_the_summary(summary):
    rows = re.findall(
        r"^\| (forward|backward) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", page(RESULTS), re.MULTILINE
    )
    assert len(rows) == 2
    for direction, *displayed in rows:
        figures = summary["language_model"]["test"][direction]
        expected = [round(figures["perplexity"], 1)]
        expected += [round(figures[name], 4) for name in ("accuracy", "top5_accuracy", "f1_macro")]
        assert [float(x) for x in displayed] == expected


def test_near_duplicates_are_those_of_the_summary(summary):
    near = summary["near_duplicates"]
    both = near["accuracy"]["ensemble"]
    text = flowing(RESULTS)
    assert f"{near['rows']:,} of the test rows nearly repeat a training row" in text
    assert f"in {near['labels_differ']:.0%} of them" in text
    assert f"{both['near_duplicates']:.4f} on those rows and {both['rest']:.4f} on the rest" in text
    assert f"{near['rows']:,} test rows nearly repeat a training row" in flowing("models/README.md")
    assert f"and {100 * near['labels_differ']:.0f} % of them have another label" in flowing("models/README.md")


def test_presets_are_what_was_measured():
    rows = re.findall(
        r"^\| `(\w+)` \| `make (\w+)` \| (\d+) \| ([\d.]+) \| (\d+) \| (\d+) \| ([^|]+) \|", page(RESULTS), re.M
    )
    assert [row[0] for row in rows] == list(PRETRAINING)
    for preset, make, epochs, perplexity, pretraining, classifiers, accuracies in rows:
        measured = results(f"make_{make}")
        parts = measured["parts_seconds"]
        assert int(epochs) == PRETRAINING[preset].get("epochs", FitConfig().epochs)
        assert float(perplexity) == round(measured["validation_perplexity"], 1)
        assert int(pretraining) == round(parts["pretraining"] / 60)
        assert int(classifiers) == round((sum(parts.values()) - parts["pretraining"]) / 60)
        displayed = re.findall(r"`(\w+)` ([\d.]+)", accuracies)
        assert {m: float(a) for m, a in displayed} == {m: round(f["test"], 4) for m, f in measured["accuracy"].items()}


def test_few_labels_are_what_was_measured():
    measured = results("label_efficiency")
    assert measured["corpus"] == "ag_news" and measured["draws"] == 10
    result = measured["labels_per_class"]
    header, _, *rows = re.findall(r"^\|(.*)\|$", section(RESULTS, "Few labels"), re.M)
    assert [cell.strip().replace(",", "") for cell in header.split("|")[1:]] == list(result)
    assert [row.split("|")[0].strip(" `") for row in rows] == list(
        {name: 0 for size in result.values() for name in size}
    )
    for row in rows:
        name, *cells = (cell.strip(" `") for cell in row.split("|"))
        for cell, size in zip(cells, result.values(), strict=True):
            f = size.get(name)
            std = "" if f is None or f["test_accuracy_std"] is None else f" ± {100 * f['test_accuracy_std']:.1f}"
            assert cell == ("" if f is None else f"{100 * f['test_accuracy']:.1f}{std}"), (name, size)


def test_lambdas_are_what_was_measured(summary):
    study = results("lambda_study")
    assert study["bilm"] == summary["bilm"]
    part = {name: f"{entry['test_accuracy']:.4f}" for name, entry in study["parts"].items()}
    frozen = study["frozen"]
    expected = {
        "e0 alone": part["e0"],
        "e1 alone": part["e1"],
        "e2 alone": part["e2"],
        "the mean of e0, e1, e2": part["mean"],
        "ten random draws, frozen": f"{frozen['mean']:.4f} ± {frozen['std']:.4f}",
        "the lowest of them, nearly e0 alone": f"{frozen['least']:.4f}",
        "the highest of them": f"{frozen['most']:.4f}",
        "trained, from three random starts": ", ".join(part[f"trainable_{i}"] for i in range(3)),
    }
    header, *rows = re.findall(r"^\| (.+) \| (.+) \|$", section(RESULTS, "The λs"), re.M)
    assert header == ("λ", "test accuracy") and dict(rows) == expected


def test_baselines_are_those_of_the_summary(summary):
    baselines = summary["baselines"]
    displayed = {"TF-IDF and logistic": "tfidf_logistic", "fastText": "fasttext", "random": "random"}
    for kind, label in (("svd", "SVD of PPMI, window "), ("word2vec", "Word2Vec, window ")):
        best = max((n for n in baselines if n.startswith(kind)), key=lambda n: baselines[n]["validation_accuracy"])
        displayed[f"{label}{baselines[best]['window']},"] = best
    for label, name in displayed.items():
        (row,) = re.findall(
            rf"^\| {re.escape(label)}[^|]*\| ([\d.]+) \| ([\d.]+) \| \| ([\d.]+) \|", page(RESULTS), re.M
        )
        entry = baselines[name]
        expected = (entry["test"]["accuracy"], entry["test"]["f1"], entry["validation_accuracy"])
        assert row == tuple(f"{x:.4f}" for x in expected), name


def test_the_report_has_as_many_pages_as_said():
    pages = len(PdfReader(ROOT / "report.pdf").pages)
    assert f"on {pages} pages" in flowing(README) and f"on {pages} pages" in flowing("docs/README.md")


def test_another_seed_is_what_was_measured(summary):
    other = results("best_seed_1")
    text = section(RESULTS, "Other seeds")
    (paragraph,) = re.findall(r"^Preset `best` with seed 1.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
    displayed = " ".join(paragraph.split())
    assert f"perplexity {other['validation_perplexity']:.1f}" in displayed
    for mode, figures in other["accuracy"].items():
        assert f"`{mode}` {figures['test']:.4f}" in displayed
        if mode != "frozen":
            assert abs(figures["test"] - summary["classifiers"][mode]["accuracy_mean"]) < 0.001
    assert f"the mean of all four {other['ensemble']:.4f}" in displayed
    assert abs(other["ensemble"] - summary["ensemble"]["test"]["accuracy"]) < 0.002


def test_other_seeds_of_the_presets_are_what_was_measured():
    result = results("other_seeds")
    fast, base = result["fast"], result["base"]
    text = section(RESULTS, "Other seeds")
    displayed = " ".join(text[text.index("Presets `fast` and `base` with other seeds") :].split())
    for name, figures in (("fast", fast), ("base", base)):
        assert f"`{name}` has perplexity {figures['validation_perplexity']:.1f} " in displayed
    assert f"`function` {fast['accuracy']['function']['test']:.4f};" in displayed
    first = results("make_run")["accuracy"]
    for mode, entry in first.items():
        others = [figures[mode]["test"] for figures in base["accuracy_by_classifier_seed"].values()]
        for values in (others, [entry["test"], *others]):
            assert f"`{mode}` {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in displayed
        if mode != "frozen":
            assert max(abs(np.array(values) - np.mean(values))) < 0.003, "a run is within 0.3 points of what to expect"


# --- docs/custom_data.md --------------------------------------------------------------------------------------------

CUSTOM_DATA = "docs/custom_data.md"
LOG = "docs/log.md"


def test_the_worked_example_is_what_was_measured():
    measured = results("docstrings")
    text = section(CUSTOM_DATA, "A worked example")
    rows = re.findall(
        r"^\| (.+?) \| ([\d,]+) \| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([-+\d.]+) \((.+) to (.+)\) \|$", text, re.M
    )
    assert len(rows) == len(measured["runs"]) == 3
    for row, of_run in zip(rows, measured["runs"], strict=True):
        best = max(of_run["classifiers"], key=lambda mode: of_run["classifiers"][mode]["validation"])
        figures, paired = of_run["classifiers"][best], of_run["above_tfidf"]
        numbers = [f"{figures[split]:.3f}" for split in ("validation", "test")]
        gain = [f"{100 * paired['difference']:+.1f}", *(f"{100 * x:.1f}" for x in paired["interval"])]
        assert row == (of_run["language_model"], f"{of_run['vocabulary']:,}", best, *numbers, *gain)
    rival = measured["tfidf_svm"]
    assert f"| {rival['validation']:.3f} | {rival['test']:.3f} | |" in text
    displayed = " ".join(text.split())
    assert f"{measured['rows_trained']:,} rows trained on" in displayed
    assert f"{measured['rows_tested']:,} to test with" in displayed


def test_the_gain_of_a_pretrained_start_is_what_was_measured():
    measured = results("sample_start")
    accuracies = []
    for of_run in measured["runs"]:
        best = max(of_run["classifiers"], key=lambda mode: of_run["classifiers"][mode]["validation"])
        accuracies.append(of_run["classifiers"][best]["test"])
    scratch, start = accuracies
    text, tfidf = flowing(CUSTOM_DATA), measured["tfidf_svm"]["test"]
    assert f"from scratch has test accuracy {scratch:.3f}, TF-IDF {tfidf:.3f}, and one with" in text
    assert f"`--start-from models/bilstm.pt` {start:.3f}, each" in text


def test_other_texts_are_what_was_measured():
    measured = results("other_texts")["data"]
    page = section(LOG, "Own texts: ten data sets that nothing was chosen on")
    names = [name for name in measured if "_labels" not in name]
    rows = re.findall(r"^\| ([a-z0-9: ]+) \| ([\d,]+ \| .+) \|$", page, re.MULTILINE)
    assert len(names) == len(rows) == 10
    gains: dict[str, list[float]] = {"": [], "_25_labels": [], "_25_labels_unlabelled": []}
    for name, (label, row) in zip(names, rows, strict=True):
        assert label.replace("tweets: ", "tweet_") == name
        every = [measured[name + suffix] for suffix in gains]
        (tfidf, full), (few_tfidf, few), (_, more) = (
            [of[model]["accuracy"] for model in ("tfidf_svm", "hybrid")] for of in every
        )
        for suffix, of in zip(gains, every, strict=True):
            gains[suffix].append(100 * (of["hybrid"]["accuracy"] - of["tfidf_svm"]["accuracy"]))
        paired = every[0]["paired"]
        difference, low, high = (f"{100 * x:+.1f}" for x in (paired["difference"], *paired["interval"]))
        cells = [f"{every[0]['rows_trained']:,}", f"{tfidf:.3f}", f"{full:.3f}", f"{difference} ({low} to {high})"]
        assert row.split(" | ") == [*cells, f"{few_tfidf:.3f}", f"{few:.3f}", f"{more:.3f}"]
        assert paired["interval"][1] > 0, "the page says that none is worse beyond chance"
    of_all, of_few, of_more = (f"{np.mean(values):.1f} points better on average" for values in gains.values())
    assert of_all in flowing(LOG) and of_few in flowing(LOG) and of_all in flowing(CUSTOM_DATA)
    assert f"with texts without labels {of_more.split()[0]}" in flowing(LOG)


def test_own_texts_are_what_was_measured():
    measured = results("own_texts")["data"]
    number = r"([-+\d.,]+)"
    pattern = (
        rf"^\| (\w+): [^|]+ \| {number} \| {number} \| {number} \| {number} \({number} to {number}\) \| {number} \| "
    )
    rows = re.findall(pattern + rf"{number} \| {number} \|$", section(CUSTOM_DATA, "One command"), re.MULTILINE)
    assert len(rows) == sum("_labels" not in name for name in measured) == 4
    for name, *row in rows:
        full, few = measured[name], measured[f"{name}_25_labels"]
        paired = [full["paired"]["difference"], *full["paired"]["interval"]]
        accuracies = [[f"{of[model]['accuracy']:.3f}" for model in ("tfidf_svm", "hybrid")] for of in (full, few)]
        gain = [f"{100 * x:+.1f}" for x in paired]
        more = f"{measured[f'{name}_25_labels_unlabelled']['hybrid']['accuracy']:.3f}"
        assert row == [f"{full['rows_trained']:,}", *accuracies[0], *gain, *accuracies[1], more]
        assert full["paired"]["interval"][1] > 0, "the page says that none is worse beyond chance"
        in_folds = 100 * full["paired_validation"]["difference"]
        assert re.search(rf"{in_folds:.1f} (points better )?on {name}", flowing(CUSTOM_DATA)), name
    for suffix in ("_25_labels", "_25_labels_unlabelled"):
        gains = [
            measured[name + suffix]["hybrid"]["accuracy"] - measured[name + suffix]["tfidf_svm"]["accuracy"]
            for name, *_ in rows
        ]
        assert f"better by {100 * np.mean(gains):.1f}" in flowing(CUSTOM_DATA)
    trec, r8 = (round(measured[name]["seconds"][0] / 60) for name in ("trec", "r8"))
    assert f"{trec} minutes for 5,452 questions, {r8} for 5,485 Reuters reports" in flowing(CUSTOM_DATA)
    example = (
        f"test accuracy of {measured['docstrings']['hybrid']['accuracy']:.3f}; TF-IDF, with its present settings, "
    )
    assert example + f"{measured['docstrings']['tfidf_svm']['accuracy']:.3f}" in flowing(CUSTOM_DATA)
