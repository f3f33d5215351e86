"""Measure speed and memory on this machine; about 10 minutes.

python -m benchmarks            on all of AG News                    -> results/benchmark_bf16.json, or _fp32.json
python -m benchmarks --pretraining    only pretraining, in a minute -> results/pretraining_bf16.json, or _fp32.json
python -m benchmarks --quick    a test of the benchmark, in seconds  -> results/limit-400/
python -m benchmarks --busy     instead: pretraining while other programs run, which it starts -> results/busy.json
python -m benchmarks --tools    instead: the commands of `python -m bilm`, on the test rows    -> results/tools.json
python -m benchmarks --bulk 1000000    instead: `predict` and `vectors`, on so many rows       -> results/bulk.json

The file has the precision in its name: bf16 where the hardware computes in it, else fp32. Run nothing else at the same
time. Every figure is the median of several repetitions, with minimum and maximum.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bilm.cli.options import RunOptions
from bilm.cli.run import open_run
from bilm.runtime.errors import UserError
from bilm.runtime.files import write_json
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import ROOT, display_path
from bilm.runtime.process import run_script


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured."""

    quick: bool = setting(False, "few rows, few steps, one repetition: tests the benchmark, its figures mean nothing")
    pretraining: bool = setting(False, "only pretraining, beside a plain implementation, and the machine's rates")
    busy: bool = setting(False, "pretraining while other programs keep one core, or all cores, busy")
    tools: bool = setting(False, "the commands of `python -m bilm`, with trained weights, as a user calls them")
    bulk: int | None = setting(
        None, "`predict` and `vectors` on a file of so many rows, made from the training rows", at_least=1
    )
    bilm: str | None = setting(None, "with --tools or --bulk: the language model (default: models/bilstm.pt)")

    @property
    def calls_commands(self) -> bool:
        """Whether commands are measured as a user calls them, which may have texts of their own."""
        return self.tools or self.bulk is not None


@dataclass(frozen=True)
class Options:
    """All options of this command, by group."""

    run: RunOptions = RunOptions()
    benchmark: BenchmarkOptions = BenchmarkOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    groups = parse_options(Options, __doc__, arguments=arguments)
    check_options(groups)
    run_options, options = groups.run, groups.benchmark
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    import tempfile
    from pathlib import Path

    from benchmarks import bulk, inference, pretraining
    from benchmarks.measure import as_text
    from benchmarks.parts import QUICK, QUICK_ROWS, Job, Sizes, in_own_process

    sizes = QUICK if options.quick else Sizes()
    if options.quick:
        run_options = replace(run_options, limit=min(run_options.limit or QUICK_ROWS, QUICK_ROWS))
    if options.calls_commands and run_options.device == "auto":
        run_options = replace(run_options, device="cpu")  # the default of the commands that are called
    run = open_run(run_options, "training", single_process=True)  # another training run would slow both down
    corpus, out = run.corpus, run.folders
    out.results.mkdir(parents=True, exist_ok=True)
    name, stamp, is_full = f"benchmark_{run.precision}", {"quick": options.quick}, False
    bilm = Path(options.bilm or ROOT / "models" / "bilstm.pt")
    if options.tools:
        name, source = "tools", corpus.source("test", run_options.limit)
        figures = inference.measure_commands(bilm, source, sizes.slow_repeats)
        figures |= {"precision": "fp32", "processes": 1}
    elif options.bulk:
        name, source = "bulk", corpus.source("train", run_options.limit)
        with tempfile.TemporaryDirectory(dir=out.runs, prefix="benchmark-") as folder:
            texts = [text for _, text in source.rows()]
            figures = bulk.measure(bilm, texts, options.bulk, run.precision, Path(folder))
    else:
        with tempfile.TemporaryDirectory(dir=out.runs, prefix="benchmark-") as folder:
            job = Job(run_options, sizes, corpus.path("train"), corpus.path("test"), Path(folder))
            if options.busy:
                name, (figures, _) = "busy", in_own_process(pretraining.measure_busy, job)
            elif options.pretraining:
                name, figures = f"pretraining_{run.precision}", measure_pretraining(job, run.precision)
            else:
                figures, is_full = measure_all(job, run.precision), True
    result = {**stamp, **run.stamp(), **figures}
    path = out.results / f"{name}.json"
    if is_full:
        del result["peak_memory_mb"]  # of this process; `memory` has that of each part
    write_json(path, result)
    print((f"\n{as_text(result)}\n\n" if is_full else "") + f"Wrote {display_path(path)}.")


def check_options(options: Options) -> None:
    """Raises UserError if options exclude each other."""
    chosen = options.benchmark
    if sum(map(bool, (chosen.pretraining, chosen.busy, chosen.tools, chosen.bulk))) > 1:
        raise UserError("--pretraining, --busy, --tools and --bulk exclude each other.")
    if chosen.bilm and not chosen.calls_commands:
        raise UserError("--bilm is for --tools and --bulk.")
    if options.run.train and not chosen.calls_commands:
        raise UserError("--train is for --tools and --bulk: the rest is measured on AG News.")


def measure_all(job: Any, precision: str) -> dict[str, Any]:
    """Run all parts, each in its own process; return the contents of the file without the stamp."""
    from functools import partial

    from benchmarks import classifiers, efficiency, growth, inference, pretraining
    from benchmarks.parts import Part, in_own_process

    parts: dict[str, Part] = {
        "documents": growth.prepare,
        "machine": efficiency.measure_machine,
        "pretraining and reference": pretraining.measure,
        "pretraining": efficiency.measure_step,
        "classifier": classifiers.measure,
        "inference": inference.measure,
        "token_layers": pretraining.measure_token_layers,
        "startup": inference.measure_startup,
    }
    sizes: dict[str, Part] = {f"growth to {n:,}": partial(growth.measure, documents=n) for n in job.sizes.growth}
    figures, memory = {}, {}
    for i, (name, part) in enumerate((parts | sizes).items(), start=1):
        print(f"{i} of {len(parts | sizes)}: {name}", flush=True)
        figures[name], memory[name] = in_own_process(part, job)
    language_model = figures["pretraining and reference"] | figures["pretraining"]
    gemm = figures["machine"][f"gemm_{precision}_gflops"]["median"]
    return {
        "what": "speed, memory, start-up and growth, measured by python -m benchmarks; see docs/performance.md",
        "extrapolated": "names that end in _120000, the documents of AG News: from the rates of the rows measured",
        **figures["documents"],
        **{name: figures[name] for name in ("machine", "classifier", "inference", "token_layers", "startup")},
        "pretraining": efficiency.with_shares(language_model, gemm),
        "growth": [figures[name] | memory[name] for name in sizes],
        "memory": {name.replace(" ", "_"): memory[name] for name in parts if name not in ("documents", "machine")},
    }


def measure_pretraining(job: Any, precision: str) -> dict[str, Any]:
    """The parts "machine" and "pretraining and reference" of `measure_all`."""
    from benchmarks import efficiency, pretraining
    from benchmarks.parts import in_own_process

    machine, _ = in_own_process(efficiency.measure_machine, job)
    figures, memory = in_own_process(pretraining.measure, job)
    gemm = machine[f"gemm_{precision}_gflops"]["median"]
    return {"machine": machine, "pretraining": efficiency.with_shares(figures, gemm), "memory": memory}


if __name__ == "__main__":
    run_script(main)
