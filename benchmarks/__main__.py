"""Measure how fast everything is, and how much memory it takes, on this machine; about 10 minutes.

python -m benchmarks            on all of AG News        -> results/benchmark.json
python -m benchmarks --quick    seconds, to see it work  -> results/limit-400/benchmark.json
python -m benchmarks --busy     instead: pretraining beside other programs, which it starts   -> results/busy.json
python -m benchmarks --tools    instead: the commands of `python -m bilm`, on the test rows   -> results/tools.json

Nothing else should run beside it. Every figure is the median of several repetitions, with the least and the greatest.
"""

from dataclasses import dataclass, replace

from bilm.cli.options import RunOptions
from bilm.cli.run import start
from bilm.runtime.files import write_json
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import ROOT, display_path, folders
from bilm.runtime.process import run_script
from bilm.runtime.provenance import run_stamp


@dataclass(frozen=True)
class BenchmarkOptions:
    """How much is measured."""

    quick: bool = setting(False, "few rows, few steps, each once: shows that all works, its figures mean nothing")
    busy: bool = setting(False, "how fast pretraining is beside programs that keep one core, or all cores, busy")
    tools: bool = setting(
        False, "what the commands of `python -m bilm` take, with trained weights, as a user calls them"
    )
    bilm: str | None = setting(None, "with --tools: the language model (default: models/bilstm.pt)")


def main() -> None:
    run, options = parse_options(__doc__, RunOptions, BenchmarkOptions)
    # Imported once the command line is understood: torch takes seconds, and --help needs none of it.
    import tempfile
    from functools import partial
    from pathlib import Path

    from benchmarks import (
        busy,
        classifiers,
        documents,
        growth,
        inference,
        machine,
        pretraining,
        startup,
        step,
        token_layers,
        tools,
    )
    from benchmarks.parts import Job, Part, in_own_process
    from benchmarks.report import as_text, with_shares
    from benchmarks.sizes import QUICK, QUICK_ROWS, Sizes
    from bilm.runtime.errors import UserError

    sizes = QUICK if options.quick else Sizes()
    if options.quick:
        run = replace(run, limit=min(run.limit or QUICK_ROWS, QUICK_ROWS))
    if options.bilm and not options.tools:
        raise UserError("--bilm is for --tools.")
    if run.train and not options.tools:
        raise UserError("--train is for --tools: the rest is measured on AG News.")
    runtime = start(run)
    if runtime.processes > 1:
        raise UserError("the benchmark takes one process; call it without torchrun.")
    corpus = run.corpus()
    out = folders(run.output, corpus.name, run.limit)
    out.lock("training")  # beside it, neither would run as it does alone
    out.results.mkdir(parents=True, exist_ok=True)
    if options.tools:
        source = corpus.source("test", run.limit)
        found = tools.measure(Path(options.bilm or ROOT / "models" / "bilstm.pt"), source, sizes.slow_repeats)
        stamp = {
            "corpus": corpus.name,
            "quick": options.quick,
            **run_stamp(run, runtime),
            "precision": "fp32",
            "processes": 1,
        }
        path = out.results / "tools.json"
        write_json(path, stamp | found)
        print(f"Wrote {display_path(path)}.")
        return
    if options.busy:
        with tempfile.TemporaryDirectory(dir=out.runs, prefix="benchmark-") as folder:
            job = Job(run, sizes, corpus.path("train"), corpus.path("train"), Path(folder))
            found, _ = in_own_process(busy.measure, job)
        stamp = {"corpus": corpus.name, "quick": options.quick, **run_stamp(run, runtime)}
        path = out.results / "busy.json"
        write_json(path, stamp | found)
        print(f"Wrote {display_path(path)}.")
        return
    parts: dict[str, Part] = {
        "documents": documents.prepare,
        "machine": machine.measure,
        "pretraining and reference": pretraining.measure,
        "pretraining": step.measure,
        "classifier": classifiers.measure,
        "inference": inference.measure,
        "token_layers": token_layers.measure,
        "startup": startup.measure,
    }
    growth_parts: dict[str, Part] = {f"growth to {n:,}": partial(growth.measure, documents=n) for n in sizes.growth}
    figures, memory = {}, {}
    with tempfile.TemporaryDirectory(dir=out.runs, prefix="benchmark-") as folder:
        job = Job(run, sizes, corpus.path("train"), corpus.path("test"), Path(folder))
        for i, (name, part) in enumerate((parts | growth_parts).items(), start=1):
            print(f"{i} of {len(parts | growth_parts)}: {name}", flush=True)
            figures[name], memory[name] = in_own_process(part, job)
    rates = figures["machine"]["machine"]
    language_model = figures["pretraining and reference"] | figures["pretraining"]
    found = {
        "what": "speed, memory, start-up and growth, by benchmark.py; README.md says what the figures mean",
        "extrapolated": "what ends in _120000, the documents of AG News: from the rates of the rows measured",
        "quick": options.quick,
        "corpus": corpus.name,
        **figures["documents"],
        **figures["machine"]["stamp"],
        "machine": rates,
        "pretraining": with_shares(language_model, rates[f"gemm_{runtime.precision}_gflops"]["median"]),
        **{name: figures[name] for name in ("classifier", "inference", "token_layers", "startup")},
        "growth": [figures[name] | memory[name] for name in growth_parts],
        "memory": {name.replace(" ", "_"): memory[name] for name in parts if name not in ("documents", "machine")},
    }
    path = out.results / "benchmark.json"
    write_json(path, found)
    print(f"\n{as_text(found)}\n\nWrote {display_path(path)}.")


if __name__ == "__main__":
    run_script(main)
