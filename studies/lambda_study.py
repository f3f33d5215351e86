"""What the lambdas do: classifiers on single layers, on their mean, on random mixtures, and on trained ones.

    python -m studies.lambda_study            -> results/lambda_study.json, results/figures/lambdas.png
    python -m studies.lambda_study --resume   continue after Ctrl-C or a crash

    e0, e1, e2    one layer alone
    mean          all layers with the same weight
    frozen_N      the N-th random draw of lambdas, fixed
    trainable_N   lambdas that start from that draw and are trained, with gamma

All but the last have gamma = 1. The classifiers have the same initial weights and see the same batches; only
trainable_N has seed N. Their settings are those of the preset best.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bilm.cli.options import EncoderOptions, ResumeOptions, RunOptions
from bilm.cli.run import open_run
from bilm.config import ClassifierConfig, FitConfig
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path
from bilm.runtime.process import run_script
from studies import CLASSIFIER, FIT


@dataclass(frozen=True)
class LambdaOptions:
    """Repetitions."""

    draws: int = setting(10, "random draws of frozen lambdas", at_least=2)
    starts: int = setting(3, "of these, how many trainable lambdas start from", at_least=1)

    def __post_init__(self) -> None:
        if self.starts > self.draws:
            raise UserError("--starts is larger than --draws: trainable lambdas start from draws of frozen ones.")


@dataclass(frozen=True)
class Options:
    """All options of this study, by group."""

    run: RunOptions = RunOptions()
    resume: ResumeOptions = ResumeOptions()
    encoder: EncoderOptions = EncoderOptions()
    lambdas: LambdaOptions = LambdaOptions()
    classifier: ClassifierConfig = CLASSIFIER
    fit: FitConfig = FIT


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, arguments=arguments)
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.checkpoints.model_format import load_bilm
    from bilm.evaluation.figures import save
    from bilm.evaluation.tables import table
    from studies.dataset import read_labelled
    from studies.figures import lambdas as draw_lambdas
    from studies.runner import Study, has_settings, open_progress, write_study

    run = open_run(options.run, "evaluation", single_process=True)
    pretrained = load_bilm(options.encoder.file(options.run, run.folders.models / "bilstm.pt"))
    rows = read_labelled(run.corpus, options.run.limit)
    groups = (options.lambdas, options.classifier, options.fit)
    settings = run.settings(*groups, bilm=pretrained.hash, **rows.hashes)
    path = run.folders.results / "lambda_study.json"
    progress = open_progress(run, options.resume, "lambda_study", settings, has_settings(path, settings))
    if progress is None:
        print(f"{display_path(path)} has results with these settings; skipped. Next: python -m studies.report")
        return
    encoder, encoded = pretrained.model.to(run.device), pretrained.vocabulary.encode(rows.texts)
    study = Study(run, rows, encoded, progress, options.classifier, options.fit)
    cache = run.cache_layers(encoder, encoded)
    parts = {}
    for name, (mode, seed, w) in mixtures(options, encoder.num_layers).items():
        parts[name] = progress.part(name, partial(study.classifier, name, encoder, mode, seed, mix=w, cache=cache))
    summary = compare(parts, rows.labels[rows.test], options.lambdas.draws)
    result = {
        **run.stamp(),
        "rows_trained": len(rows.training),
        "bilm": pretrained.hash,
        "settings": settings,
        **summary,
    }
    write_study(path, result)
    progress.close()
    if encoder.num_layers == 3:
        save(draw_lambdas(result), run.folders.results / "figures" / "lambdas.png")
    lines = []
    for name, part in parts.items():
        after = part["after"]
        mix = [" ".join(f"{x:.2f}" for x in after["lambdas"]), f"{after['gamma']:.2f}"]
        lines.append([name, *mix, part["validation_accuracy"], part["test_accuracy"]])
    print(f"\n{table(lines, ['', 'lambdas', 'gamma', 'validation', 'test'])}")
    print(f"\nWrote {display_path(path)}. Next: python -m studies.report")


def mixtures(options: Options, num_layers: int) -> dict[str, tuple[str, int, list[float]]]:
    """By name: the mode, the seed, and the initial w, of which the lambdas are the softmax."""
    from bilm.modules.scalar_mix import ScalarMix

    seed, draws = options.run.seed, range(options.lambdas.draws)
    random = [ScalarMix(num_layers, trainable=False, seed=seed + n).w.tolist() for n in draws]
    layers = range(num_layers)
    alone = {f"e{layer}": [0.0 if j == layer else -math.inf for j in layers] for layer in layers}
    fixed = alone | {"mean": [0.0] * num_layers} | {f"frozen_{n}": w for n, w in enumerate(random)}
    trained = random[: options.lambdas.starts]
    return {name: ("frozen", seed, w) for name, w in fixed.items()} | {
        f"trainable_{n}": ("trainable", seed + n, w) for n, w in enumerate(trained)
    }


def compare(parts: dict[str, dict[str, Any]], labels: Any, draws: int) -> dict[str, Any]:
    """The classifiers without their classes, the spread of the frozen ones, and paired comparisons.

    labels: of the test rows, int64 (N,).
    """
    from bilm.metrics import mcnemar
    from studies.runner import classes_of

    frozen = [parts[f"frozen_{n}"]["test_accuracy"] for n in range(draws)]
    classes = {name: classes_of(part) for name, part in parts.items()}
    return {
        "parts": {name: {k: v for k, v in part.items() if k != "classes"} for name, part in parts.items()},
        "frozen": {
            "mean": statistics.mean(frozen),
            "std": statistics.stdev(frozen),
            "least": min(frozen),
            "most": max(frozen),
        },
        "paired_with": {
            other: {name: mcnemar(labels, classes[name], classes[other]) for name in parts if name != other}
            for other in ("mean", "trainable_0")
        },
    }


if __name__ == "__main__":
    run_script(main)
