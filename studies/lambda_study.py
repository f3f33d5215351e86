"""What the lambdas do: classifiers on single layers, on their mean, on random mixtures, and on those that learn.

    python -m studies.lambda_study            -> results/lambda_study.json, results/figures/lambdas.png
    python -m studies.lambda_study --resume   go on after Ctrl-C or a crash

    e0, e1, e2    one layer alone
    mean          all with the same weight
    frozen_N      the N-th random draw of lambdas, kept
    trainable_N   lambdas that begin at that draw and learn, with gamma

All but the last have gamma = 1. The classifiers have the same first weights and see the same batches; only trainable_N
is of seed N. Settings of the classifiers are those of the preset best.
"""

import math
import statistics
from dataclasses import dataclass
from functools import partial

from bilm.cli.options import EncoderOptions, ResumeOptions, RunOptions
from bilm.cli.run import decide_action, start
from bilm.config import CLASSIFICATION, ClassifierConfig, FitConfig
from bilm.runtime.errors import UserError
from bilm.runtime.files import write_json
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path, folders
from bilm.runtime.process import run_script
from bilm.runtime.provenance import run_settings, run_stamp


@dataclass(frozen=True)
class LambdaOptions:
    """How often."""

    draws: int = setting(10, "random draws of frozen lambdas", at_least=2)
    starts: int = setting(3, "of these, how many trainable lambdas begin at", at_least=1)


CLASSIFIER = ClassifierConfig(dropout=CLASSIFICATION["best"]["dropout"])
FIT = FitConfig(epochs=CLASSIFICATION["best"]["epochs"], learning_rate=2e-3)


def main() -> None:
    run, again, standing, options, shape, fitting = parse_options(
        __doc__, RunOptions, ResumeOptions, EncoderOptions, LambdaOptions, CLASSIFIER, FIT
    )
    if options.starts > options.draws:
        raise UserError("--starts: trainable lambdas begin at draws of frozen ones; there are not as many (--draws).")
    # Imported once the command line is understood: torch takes seconds, and --help needs none of it.
    from bilm.checkpoints.pretrained import load_bilm
    from bilm.evaluation.figures import save
    from bilm.evaluation.tables import table
    from bilm.metrics import mcnemar
    from bilm.modules.scalar_mix import ScalarMix
    from bilm.runtime.process import at_end
    from bilm.training.layer_cache import cache_layers
    from studies.dataset import read_labelled
    from studies.figures import lambdas as draw_lambdas
    from studies.runner import Study, StudyProgress, classes_of, is_finished

    runtime = start(run)
    if runtime.processes > 1:
        raise UserError("this takes one process; call it without torchrun.")
    corpus = run.corpus()
    out = folders(run.output, corpus.name, run.limit)
    out.lock("evaluation")
    pretrained = load_bilm(standing.file(run, out.models / "bilstm.pt"))
    rows = read_labelled(corpus, run.limit)
    path = out.results / "lambda_study.json"
    settings = run_settings(run, runtime, options, shape, fitting, bilm=pretrained.hash, **rows.hashes)
    unfinished = out.runs / "lambda_study"
    todo = decide_action(unfinished, again, is_finished=lambda: is_finished(path, settings))
    if todo == "skip":
        print(f"{display_path(path)} is finished, with these settings. Next: python -m studies.report")
        return
    out.prepare()
    ledger = StudyProgress(unfinished, settings, restart=todo == "start")

    num_layers = pretrained.model.num_layers
    uniform = [0.0] * num_layers
    random = [ScalarMix(num_layers, trainable=False, seed=run.seed + n).w.tolist() for n in range(options.draws)]
    alone = [[0.0 if j == layer else -math.inf for j in range(num_layers)] for layer in range(num_layers)]
    wanted = {f"e{layer}": ("frozen", run.seed, w) for layer, w in enumerate(alone)}
    wanted |= {"mean": ("frozen", run.seed, uniform)}
    wanted |= {f"frozen_{n}": ("frozen", run.seed, w) for n, w in enumerate(random)}
    wanted |= {f"trainable_{n}": ("trainable", run.seed + n, w) for n, w in enumerate(random[: options.starts])}

    encoded = pretrained.vocabulary.encode(rows.texts)
    encoder = pretrained.model.to(runtime.device)
    cache = None
    if runtime.device.type == "cpu":
        cache = cache_layers(encoder, encoded, out.runs, math.inf, 8192, runtime.device, runtime.autocast)
        if cache is not None:
            at_end(cache.close)
    study = Study(rows, encoded, len(corpus.classes), shape, fitting, ledger, runtime.device, runtime.autocast)
    found = {}
    for name, (mode, seed, w) in wanted.items():
        train = partial(study.classifier, name, encoder, mode, seed, weights=w, cache=cache)
        found[name] = ledger.part(name, train)
    labels = rows.labels[rows.test]
    against = {
        other: {
            name: mcnemar(labels, classes_of(part), classes_of(found[other]))
            for name, part in found.items()
            if name != other
        }
        for other in ("mean", "trainable_0")
    }
    frozen = [found[f"frozen_{n}"]["test_accuracy"] for n in range(options.draws)]
    result = {
        "corpus": corpus.name,
        **run_stamp(run, runtime),
        "rows_trained": len(rows.training),
        "bilm": pretrained.hash,
        "settings": settings,
        "parts": {
            name: {key: value for key, value in part.items() if key != "classes"} for name, part in found.items()
        },
        "frozen": {
            "mean": statistics.mean(frozen),
            "std": statistics.stdev(frozen),
            "least": min(frozen),
            "most": max(frozen),
        },
        "paired_with": against,
    }
    write_json(path, result)
    ledger.close()
    picture = out.results / "figures" / "lambdas.png"
    if num_layers == 3:
        save(draw_lambdas(result), picture)
    lines = [
        [
            name,
            " ".join(f"{x:.2f}" for x in part["after"]["lambdas"]),
            f"{part['after']['gamma']:.2f}",
            part["validation_accuracy"],
            part["test_accuracy"],
        ]
        for name, part in found.items()
    ]
    print(f"\n{table(lines, ['', 'lambdas', 'gamma', 'validation', 'test'])}")
    print(f"\nWrote {display_path(path)}. Next: python -m studies.report")


if __name__ == "__main__":
    run_script(main)
