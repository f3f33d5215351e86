"""The benchmark runs from end to end and writes all figures. Their values depend on the machine and are not tested."""

import json
import math
import os
import re
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import WHOLE_SAMPLE, run_process, run_script

from benchmarks import bulk
from benchmarks.efficiency import matrix_operations, softmax_operations, training_operations, with_shares
from benchmarks.growth import write_csv
from benchmarks.measure import figure, rate_figure
from benchmarks.parts import QUICK, Job, in_own_process
from benchmarks.reference import LENGTH, PlainBiLM, PlainTraining, fixed_length
from benchmarks.training import Training, cyclic_slice
from bilm.cli.options import RunOptions
from bilm.config import BiLMConfig
from bilm.modules.language_model import BiLM
from bilm.modules.softmax import AdaptiveSoftmax, FullSoftmax
from bilm.runtime.errors import UserError
from bilm.text.ag_news import read_ag_news
from bilm.text.batching import reverse_within_length
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import BOS, EOS, PAD, EncodedTexts

MODES = {"trainable", "frozen", "function", "finetune"}


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> dict:
    """The file of a quick run on the sample."""
    output = tmp_path_factory.mktemp("benchmark")
    run = run_script(
        "-m benchmarks",
        "--quick",
        "--data",
        WHOLE_SAMPLE,
        "--output",
        output,
        "--precision",
        "fp32",
        OMP_NUM_THREADS="1",
    )
    assert run.code == 0, run.err
    written = [path for path in output.rglob("*") if path.is_file()]
    assert [path.name for path in written] == ["benchmark_fp32.json"], "no temporary file is left"
    assert str(written[0]) in run.out
    return json.loads(written[0].read_text(encoding="utf-8"))


def numbers_of(value, name=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers_of(inner, f"{name}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from numbers_of(inner, f"{name}[{i}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


@pytest.mark.slow
def test_the_stamp_describes_data_and_machine(result):
    assert result["quick"] is True and result["corpus"] == "sample"
    assert (result["rows"], result["rows_trained"]) == (400, 360) and result["vocabulary"] > 500
    assert result["command"].startswith("python -m benchmarks --quick")
    assert {"commit", "hardware", "precision", "torch", "date", "seed"} <= set(result)
    assert {"cpu", "cores", "torch_threads", "memory_gb", "gpu"} <= set(result["machine"])
    assert result["machine"]["torch_threads"] == 1


@pytest.mark.slow
def test_every_figure_has_its_spread(result):
    def figures(value):
        if isinstance(value, dict):
            if "repeats" in value:
                yield value
            for inner in value.values():
                yield from figures(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from figures(inner)

    all_of_them = list(figures(result))
    assert len(all_of_them) > 30
    for entry in all_of_them:
        assert entry["min"] <= entry["median"] <= entry["max"] and entry["repeats"] >= 1
    allowed_zero = ("seed", "csv_mb", "disk_mb", "softmax_forward")  # the sample's are that small
    for name, number in numbers_of(result):
        assert math.isfinite(number) and (number > 0 or any(word in name for word in allowed_zero)), name


@pytest.mark.slow
def test_all_parts_are_present(result):
    assert {
        "token",
        "tokens_per_second",
        "reference_tokens_per_second",
        "ratio_to_plain_reference",
        "seconds_per_epoch_120000",
        "operations_per_token",
        "gemm_share",
        "lstm_gemm_share",
        "lstm_gemm_share_without_dropout",
        "step_ms",
    } <= set(result["pretraining"])
    parts = {"data", "lstm_forward", "softmax_forward", "backward", "optimizer", "whole"}
    assert set(result["pretraining"]["step_ms"]) == parts
    assert set(result["classifier"]) == MODES
    for mode, figures in result["classifier"].items():
        assert {"first_over_later", "first_documents_per_second", "later_documents_per_second"} <= set(figures)
        stored = result["machine"]["gpu"] is None and mode != "finetune"
        assert ("without_store_documents_per_second" in figures) == stored
    assert result["inference"]["documents"] == 160
    assert result["inference"]["single_document_ms"]["p95"] >= result["inference"]["single_document_ms"]["median"]
    assert set(result["startup"]["help_seconds"]) == {"ELMO", "classification", "evaluate"}
    assert {"pretraining", "classifier", "inference", "startup"} <= set(result["memory"])
    assert all(20 < figures["peak_memory_mb"] < 20_000 for figures in result["memory"].values())


@pytest.mark.slow
def test_pretraining_alone(tmp_path):
    options = ["--quick", "--pretraining", "--data", WHOLE_SAMPLE, "--output", tmp_path, "--precision", "fp32"]
    run = run_script("-m benchmarks", *options, OMP_NUM_THREADS="1")
    assert run.code == 0, run.err
    result = json.loads((tmp_path / "results/sample-limit-400/pretraining_fp32.json").read_text())
    assert result["pretraining"]["tokens_per_second"]["median"] > 0 and result["machine"]["gemm_fp32_gflops"]
    assert "gemm_share" in result["pretraining"] and "lstm_gemm_share" not in result["pretraining"]


@pytest.mark.slow
def test_pretraining_while_other_programs_run(tmp_path):
    run = run_script("-m benchmarks", "--quick", "--busy", "--data", WHOLE_SAMPLE, "--output", tmp_path)
    assert run.code == 0, run.err
    result = json.loads((tmp_path / "results/sample-limit-400/busy.json").read_text())
    assert set(result["beside"]) == {"alone", "one", "one_per_core", "one_that_comes_later"}
    for situation in result["beside"].values():
        assert set(situation) == {"chosen", "one_per_core", "one"}
        assert situation["one"]["threads"] == 1 and situation["one_per_core"]["threads"] == result["cores"]


@pytest.mark.slow
def test_the_tools_with_trained_weights(trained, tmp_path):
    weights = trained[0] / "models/sample/bilstm.pt"
    common = ["--data", WHOLE_SAMPLE, "--limit", 40, "--output", tmp_path, "--bilm", weights]
    run = run_script("-m benchmarks", "--quick", "--tools", *common, OMP_NUM_THREADS="1")
    assert run.code == 0, run.err
    result = json.loads((tmp_path / "results/sample-limit-40/tools.json").read_text())
    complete = result["whole_file_seconds"]
    assert set(complete) == {"predict", "vectors", "vectors_per_text", "neighbours_build"} and result["documents"] == 40
    for name, entry in result["documents_per_second"].items():
        assert entry["median"] == pytest.approx(40 / complete[name]["median"], rel=1e-2)
    assert all(entry["median"] > 0.1 for entry in result["from_shell_seconds"].values()), "each is a process"
    assert set(result["in_process_ms"]) == {"classify", "vectors", "explain"} and result["corpus"] == "sample"
    library, start = result["in_process_seconds"], result["from_shell_seconds"]
    assert set(library) == set(result["share_of_in_process"]) == {"predict", "vectors", "vectors_per_text"}
    for name, share in result["share_of_in_process"].items():
        alone = complete[name]["median"] - start[name.removesuffix("_per_text")]["median"]
        assert share * alone == pytest.approx(library[name]["median"], abs=2e-3)


@pytest.mark.slow
def test_files_of_many_rows(trained, tmp_path):
    weights = trained[0] / "models/sample/bilstm.pt"
    common = ["--data", WHOLE_SAMPLE, "--limit", 40, "--output", tmp_path, "--bilm", weights, "--precision", "fp32"]
    run = run_script("-m benchmarks", "--bulk", 200, *common, OMP_NUM_THREADS="1")
    assert run.code == 0, run.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in written] == ["bulk.json"], "no temporary file is left"
    result = json.loads(written[0].read_text())
    assert result["documents"] == 200 and result["words"] > 2000 and result["precision"] == "fp32"
    assert set(result["commands"]) == {"predict", "vectors"}
    for figures in result["commands"].values():
        assert figures["documents_per_second"] == pytest.approx(200 / figures["seconds"], rel=1e-2)
        assert figures["words_per_second"] == pytest.approx(result["words"] / figures["seconds"], rel=1e-2)
        in_process, share = figures["in_process_documents_per_second"], figures["share_of_in_process"]
        assert share == pytest.approx(200 / (figures["seconds"] - figures["startup_seconds"]) / in_process, rel=0.1)
        assert figures["output_mb"] > 0 and (figures["peak_memory_mb"] or 100) >= 100


@pytest.mark.parametrize(("answers", "message"), [("1 a\n3 c\n", "row 2 of its output is '3 c'"), ("1 a\n", "has 1 ")])
def test_missing_answers_of_many_rows_are_an_error(trained_bilm, tmp_path, monkeypatch, answers, message):
    monkeypatch.setattr(bulk, "_run", lambda _, output: output.write_text("text\n" + answers) and (1.0, None))
    monkeypatch.setattr(bulk, "_in_process", lambda *_: {"predict": 1.0, "vectors": 1.0})
    with pytest.raises(UserError, match=f"predict.*{message}"):
        bulk.measure(trained_bilm, ["a", "b", "c"], 2, "fp32", tmp_path)


@pytest.mark.slow
def test_growth_lists_each_size(result):
    sizes = [entry["documents"] for entry in result["growth"]]
    assert sizes == sorted(sizes) and len(sizes) >= 2
    for one, two in zip(result["growth"][:-1], result["growth"][1:], strict=True):
        assert two["tokens"] / one["tokens"] == pytest.approx(two["documents"] / one["documents"], rel=0.1)
    keys = {"encode_seconds_per_million_tokens", "train_seconds_per_million_tokens", "plan_seconds", "disk_mb"}
    assert all(keys | {"peak_memory_mb", "anonymous_memory_mb"} <= set(entry) for entry in result["growth"])


@pytest.mark.slow
def test_derived_figures_agree_with_measured_ones(result):
    pretraining = result["pretraining"]
    rate, plain = pretraining["tokens_per_second"]["median"], pretraining["reference_tokens_per_second"]["median"]
    assert pretraining["ratio_to_plain_reference"] == pytest.approx(rate / plain, rel=1e-3)
    seconds = 120_000 * result["tokens_per_document"] / rate
    assert pretraining["seconds_per_epoch_120000"] == pytest.approx(seconds, rel=2e-3)
    for mode in MODES:
        figures = result["classifier"][mode]
        ratio = figures["later_documents_per_second"]["median"] / figures["first_documents_per_second"]["median"]
        assert figures["first_over_later"] == pytest.approx(ratio, rel=2e-3)


def test_a_figure_is_median_minimum_and_maximum():
    assert figure([3.0, 1.0, 2.00049]) == {"median": 2.0, "min": 1.0, "max": 3.0, "repeats": 3}
    assert rate_figure(6, [3.0, 1.0, 2.0]) == {"median": 3.0, "min": 2.0, "max": 6.0, "repeats": 3}


def test_memory_is_that_of_the_process():
    """In a new process: one that has run other tests reuses memory."""
    code = """
import json
import numpy as np
from benchmarks.parts import memory_of_process
with memory_of_process() as before:
    pass
with memory_of_process() as after:
    block = np.ones(64 * 2**20, dtype=np.uint8)
print(json.dumps([before, after]))
"""
    run = run_process("-c", code)
    before, after = json.loads(run.out)
    assert after["anonymous_memory_mb"] - before["anonymous_memory_mb"] >= 60
    assert after["peak_memory_mb"] >= after["anonymous_memory_mb"] - 1


def test_operations_of_the_lstms():
    """Width 256, two layers: each of the four gates reads 256 values from below and 256 from before."""
    model = BiLM(BiLMConfig(), 50)
    assert matrix_operations(model.forward_lstm, model.backward_lstm) == 2 * 2 * 2 * (4 * 256 * (256 + 256))


def test_operations_of_the_softmax():
    """Width 16; shortlist of 11, clusters of 18 words (8 wide) and of 32 (4 wide)."""
    softmax = AdaptiveSoftmax(16, 61, (11, 29))
    head, first, second = 2 * 16 * 13, 2 * (16 * 8 + 8 * 18), 2 * (16 * 4 + 4 * 32)
    targets = np.array([0, 10, 11, 28, 29, 60, 3, 3])  # half of them in the shortlist, a quarter in each cluster
    assert softmax_operations(softmax, targets) == head + first / 4 + second / 4
    assert softmax_operations(FullSoftmax(16, 61), targets) == 2 * 16 * 61


def test_training_is_three_forward_passes_of_both_directions():
    model = BiLM(BiLMConfig(width=8, layers=1, softmax="full"), 20)
    expected = {"lstm": 3 * 2 * 2 * (4 * 8 * 16), "softmax": 3 * 2 * 2 * 8 * 20}
    assert training_operations(model, np.array([4, 5])) == expected


def test_share_of_the_matrix_products():
    rates = {"lstm_tokens_per_second": 200.0, "lstm_tokens_per_second_without_dropout": 400.0, "tokens_per_second": 100}
    pretraining = {name: figure([rate]) for name, rate in rates.items()}
    result = with_shares({**pretraining, "operations_per_token": {"lstm": 2e6, "softmax": 3e6}}, gemm=1.0)
    assert (result["gemm_share"], result["lstm_gemm_share"], result["lstm_gemm_share_without_dropout"]) == (
        0.5,
        0.4,
        0.8,
    )


@pytest.fixture
def long_and_short() -> EncodedTexts:
    """A text of 70 tokens with its boundaries, and one of 5."""
    ids = [BOS, *range(4, 72), EOS, BOS, 4, 5, 6, EOS]
    return EncodedTexts(np.array(ids, dtype=np.int32), np.array([0, 70, 75]))


def test_the_reference_counts_no_padding(long_and_short):
    ids, lengths = fixed_length(long_and_short, np.array([0, 1]))
    assert ids.shape == (2, LENGTH) and lengths.tolist() == [50, 5]
    assert (ids[1, 5:] == PAD).all() and (ids[0] != PAD).all()
    short, _ = fixed_length(long_and_short, np.array([1]))
    assert short.shape == (1, LENGTH)
    training = PlainTraining(BiLMConfig(width=6), 80, long_and_short, torch.device("cpu"))
    assert training.step(np.array([0, 1])) == 49 + 4


def test_the_reference_predicts_the_next_and_the_previous_word(long_and_short):
    """The next and the previous word, by a loss computed text by text; and the number of parameters."""
    width, vocabulary = 6, 80
    plain = PlainBiLM(BiLMConfig(width=width), vocabulary).eval()
    ids, lengths = fixed_length(long_and_short, np.array([0, 1]))
    expected = 0.0
    for lstm, read in ((plain.forward_lstm, ids), (plain.backward_lstm, reverse_within_length(ids, lengths))):
        losses = []
        for row, length in zip(read, lengths.tolist(), strict=True):
            states, _ = lstm(plain.embedding(row[None, : length - 1]))
            losses += F.cross_entropy(plain.out(states[0]), row[1:length], reduction="none").tolist()
        expected += sum(losses) / len(losses)
    assert plain(ids, lengths).item() == pytest.approx(expected, rel=1e-5)
    lstm_layer = 4 * width * (width + width) + 2 * 4 * width
    expected_parameters = vocabulary * width + 2 * 2 * lstm_layer + (width + 1) * vocabulary
    assert sum(p.numel() for p in plain.parameters()) == expected_parameters


def test_larger_corpora_are_distinct_documents_of_the_same_words(tmp_path):
    labels, texts = zip(*read_ag_news(WHOLE_SAMPLE / "train.csv"), strict=True)
    words = [Tokenizer()(text) for text in texts]
    write_csv(tmp_path / "one.csv", words, np.array(labels), 1000, seed=0)
    write_csv(tmp_path / "two.csv", words, np.array(labels), 1000, seed=0)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    written_labels, written = zip(*read_ag_news(tmp_path / "one.csv"), strict=True)
    assert len(set(written)) == 1000 and written_labels[:400] == labels
    repeated = [Tokenizer()(text) for text in written]
    assert {word for text in repeated for word in text} <= {word for text in words for word in text}
    assert np.mean([len(t) for t in repeated[:400]]) == pytest.approx(np.mean([len(t) for t in words]), rel=0.01)


def test_batches_are_cycled_through():
    assert cyclic_slice("abc", 2, 4) == ["c", "a", "b", "c"]


def test_a_token_is_a_target_in_both_directions(monkeypatch):
    monkeypatch.setattr(Training, "seconds", lambda self, items: (2.0, 10))
    assert Training.tokens_per_second(Training.__new__(Training), []) == 2.5


def fail(job: Job, runtime) -> dict:
    raise UserError("of the part")


def die(job: Job, runtime) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("part", "message"), [(fail, "of the part"), (die, "was killed")])
def test_errors_of_a_part_reach_the_user(part, message, tmp_path):
    job = Job(RunOptions(device="cpu", threads=1), QUICK, WHOLE_SAMPLE, WHOLE_SAMPLE, tmp_path)
    with pytest.raises(UserError, match=message):
        in_own_process(part, job)


def test_help_answers_without_torch():
    run = run_script("-X", "importtime", "-m", "benchmarks", "--help")
    assert run.code == 0 and "--quick" in run.out
    assert "argparse" in run.err and not re.search(r"\|\s+torch$", run.err, re.MULTILINE)
