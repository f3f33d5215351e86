"""Train classifiers on the layers of the pretrained language model (models/bilstm.pt).

    python classification.py                    trainable, frozen and function   -> models/classifier_MODE.pt
    python classification.py --mode finetune    the language model learns along
    python classification.py --preset best      all four, as the weights that ship were made
    python classification.py --resume           go on after Ctrl-C or a crash
    python classification.py --train FILE --text-column NAME --label-column NAME      classes of your own texts
    python classification.py --bilm FILE        on another language model, the imported original for instance

    trainable   gamma * sum_j lambda_j e_j, lambda = softmax(w); w and gamma learn, the language model is kept as it is
    frozen      the same with random lambdas that never change
    function    a learned function of [e0; e1; e2]
    finetune    as trainable, and the language model's weights learn too

models/classifier.pt is a copy of the one that does best on validation.
"""

import copy
import shlex
import time
from dataclasses import dataclass, replace
from functools import partial

from bilm.cli.options import EncoderOptions, ResumeOptions, RunOptions, TensorBoardOptions, truncation_note
from bilm.cli.run import decide_action, replacement_warning, start
from bilm.config import CLASSIFICATION, MODES, ClassifierConfig, FitConfig
from bilm.runtime.errors import UserError
from bilm.runtime.files import write_json
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path, folders
from bilm.runtime.process import run_script
from bilm.runtime.provenance import run_settings, run_stamp

# The language model is kept as it is in them.
KEPT = ("trainable", "frozen", "function")


@dataclass(frozen=True)
class ClassificationOptions:
    """How the layers are combined."""

    mode: str = setting(
        "kept",
        "which classifier to train; kept: trainable, frozen and function; all: these and finetune",
        choices=(*MODES, "kept", "all"),
    )
    encoder_learning_rate: float = setting(1e-3, "peak learning rate of the language model in mode finetune")


@dataclass(frozen=True)
class StoreOptions:
    """The layers of a language model that is kept as it is, computed once for all epochs and modes."""

    store_gb: float = setting(
        16.0, "gigabytes of disk they may take while this runs (80,000 descriptions: 7 in bf16, 13 in fp32); 0 for none"
    )


FIT = FitConfig(epochs=4, learning_rate=2e-3)


def main() -> None:
    run, again, standing, board, options, storing, config, fit_config = parse_options(
        __doc__,
        RunOptions,
        ResumeOptions,
        EncoderOptions,
        TensorBoardOptions,
        ClassificationOptions,
        StoreOptions,
        ClassifierConfig,
        FIT,
        presets=CLASSIFICATION,
    )
    # Imported once the command line is understood: torch takes seconds, and --help needs none of it.
    from bilm.checkpoints.bundled import bundled_files, keep_bundled
    from bilm.checkpoints.pretrained import (
        find_classifiers,
        finished_settings,
        keep_best_classifier,
        load_bilm,
        save_classifier,
        was_trained_with,
    )
    from bilm.modules.classifier import Classifier, EncoderClassifier
    from bilm.runtime.process import at_end
    from bilm.text.encoded_corpus import encode, open_encoded
    from bilm.text.split import split_validation
    from bilm.training.classification import ClassificationTask
    from bilm.training.layer_cache import cache_layers
    from bilm.training.loop import fit
    from bilm.training.optimizer import build_optimizer

    runtime = start(run)
    say = print if runtime.is_main else lambda *_: None
    corpus = runtime.on_main(run.corpus)
    if corpus.columns and not corpus.columns.label:
        raise UserError("name the column of the classes: --label-column NAME.")
    source = runtime.on_main(lambda: corpus.source("train", run.limit))
    class_names = list(source.classes)
    out = folders(run.output, corpus.name, run.limit)
    # Held before anything is read: another run could replace what this one stands on.
    runtime.on_main(lambda: out.lock("training"))
    pretrained = load_bilm(standing.file(run, out.models / "bilstm.pt"))
    modes = {"kept": KEPT, "all": MODES}.get(options.mode, (options.mode,))
    weights = {mode: out.models / f"classifier_{mode}.pt" for mode in modes}
    checkpoints = {mode: out.runs / f"classifier_{mode}.pt" for mode in modes}
    # The encoder's learning rate shapes nothing where the encoder is kept as it is.
    chosen = {m: replace(options, mode=m, **({} if m == "finetune" else {"encoder_learning_rate": 0.0})) for m in modes}
    inputs = {"corpus": source.identity, "bilm": pretrained.hash}
    settings = {mode: run_settings(run, runtime, chosen[mode], config, fit_config, **inputs) for mode in modes}
    bundled, present = runtime.on_main(lambda: (bundled_files(out.models), find_classifiers(out.models, pretrained)))

    def is_finished(mode: str) -> bool:
        return was_trained_with(present.paths.get(mode, weights[mode]), "classifier", settings[mode])

    def replaces(mode: str) -> str | None:
        # A classifier on another language model is of no use beside this one.
        if mode not in present.paths or present.paths[mode] in bundled:
            return None
        saved = finished_settings(present.paths[mode], "classifier")
        return None if saved is None else replacement_warning(present.paths[mode], saved, settings[mode])

    # Decided for all modes before the first is trained: a question or a refusal comes at once.
    todo = {}
    for mode in modes:
        finished, loss = partial(is_finished, mode), partial(replaces, mode)
        todo[mode] = runtime.on_main(
            partial(decide_action, checkpoints[mode], again, is_finished=finished, replaces=loss)
        )

    place = out.encoded("training")
    runtime.on_each_machine(lambda: encode(source, pretrained.vocabulary, place))
    encoded = open_encoded(place)
    texts, labels = encoded.texts, encoded.labels
    training_rows, validation_rows = split_validation(labels, encoded.keys, class_names)
    out.prepare()
    for mode in modes:
        if todo[mode] == "start":
            runtime.on_main(partial(checkpoints[mode].unlink, missing_ok=True))
    perplexity = pretrained.info["validation_perplexity"]
    quality = "imported" if perplexity is None else f"of validation perplexity {perplexity:.1f}"
    say(
        f"corpus {corpus.name}: {len(training_rows):,} descriptions to train on, {len(validation_rows):,} to validate"
        f" on; language model {quality}; "
        f"{runtime.device}, {runtime.precision}"
    )
    max_tokens = pretrained.vocabulary.tokenizer.config.max_tokens
    if note := truncation_note(encoded.num_truncated, len(encoded), max_tokens):
        say(note)
    for label in sorted(set(range(len(class_names))) - set(labels.tolist())):
        say(f"Note: no row is of class {class_names[label]!r}; the classifiers will not learn it.")
    if pretrained.info["settings"]["corpus"] not in (source.identity, None):
        say("Note: bilstm.pt was pretrained on other rows; it may have seen some that are for validation here.")

    cache, store_seconds = None, 0.0
    reads_layers = any(mode != "finetune" and todo[mode] != "skip" for mode in modes)
    # A GPU computes them faster than a disk gives them; under torchrun the ranks may not share a disk.
    if reads_layers and storing.store_gb and runtime.device.type == "cpu" and runtime.processes == 1:
        started = time.monotonic()
        cache = cache_layers(
            pretrained.model, texts, out.runs, storing.store_gb * 1e9, 8192, runtime.device, runtime.autocast
        )
        store_seconds = time.monotonic() - started
        if cache is not None:
            at_end(cache.close)
        else:
            say("The layers of the language model do not fit on the disk (--store-gb); they are computed at each step.")

    def train(mode: str) -> None:
        # Seeded per mode, so that a mode comes out the same whether it is trained alone or with the others.
        runtime.seed(run.seed)
        finetuned = mode == "finetune"
        encoder = copy.deepcopy(pretrained.model) if finetuned else pretrained.model
        classifier = Classifier(config, mode, encoder, len(class_names), run.seed)
        model = EncoderClassifier(encoder, classifier, finetuned).to(runtime.device)
        rates = [(classifier, fit_config.learning_rate), *encoder.learning_rates(options.encoder_learning_rate)]
        rows = (training_rows, validation_rows, fit_config.batch_tokens)
        where = (run.seed, runtime.device, None if finetuned else cache)
        task = ClassificationTask(f"classifier ({mode})", texts, labels, *rows, *where)
        before = classifier.combine.describe()
        state = fit(
            model,
            task,
            build_optimizer(rates, fit_config.weight_decay),
            fit_config,
            checkpoint_path=checkpoints[mode],
            settings=settings[mode],
            autocast=runtime.autocast,
            resume=todo[mode] == "resume",
            log=board.log(out.runs / "tensorboard" / f"classifier_{mode}", runtime.is_main),
        )
        after = classifier.combine.describe()
        say(f"  before: {in_words(before)}\n  after:  {in_words(after)}")
        if mode == "frozen":
            assert after == before, "the frozen lambdas moved"
            say("  The random lambdas are what they were, to the last digit.")
        info = {
            "corpus": corpus.name,
            "rows": len(encoded),
            "rows_trained": len(training_rows),
            "data": source.stamp(),
            "settings": settings[mode],
            **run_stamp(run, runtime),
            "validation_accuracy": state.best_figure,
            "best_epoch": state.best_epoch + 1,
            "combination": {"before": before, "after": after},
            "seconds": round(state.seconds, 1),
            "seconds_for_layers": round(store_seconds, 2),  # once for all modes
        }
        results = out.results / f"classifier_{mode}_training.json"

        def write() -> None:
            save_classifier(weights[mode], model.cpu(), pretrained.hash, class_names, info)
            write_json(results, {**info, "epochs": state.epochs, "curve": state.curve})
            checkpoints[mode].unlink()

        runtime.on_main(write)
        say(
            f"  Best epoch {state.best_epoch + 1}: validation accuracy {state.best_figure:.4f}, {state.seconds:,.0f} s."
            f"\n  Wrote {display_path(weights[mode])} and {display_path(results)}."
        )

    if any(todo[mode] != "skip" for mode in modes) and (kept := runtime.on_main(lambda: keep_bundled(out.models))):
        say(kept)
    for mode in modes:
        if todo[mode] == "skip":
            say(f"{display_path(weights[mode])} is finished, with these settings.")
        else:
            train(mode)
    also = run.data_options() + (f" --bilm {shlex.quote(standing.bilm)}" if standing.bilm else "")
    best = runtime.on_main(lambda: keep_best_classifier(out.models, pretrained))
    say(
        f"Wrote {display_path(out.models / 'classifier.pt')}: {best}, the best on validation. "
        f"Next: python evaluate.py{also}"
    )


def in_words(combination: dict) -> str:
    """For the terminal: "lambdas 0.3333 0.3333 0.3333, gamma 1.0000"."""
    return ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {' '.join(f'{v:.4f}' for v in value)}"
        for name, value in combination.items()
    )


if __name__ == "__main__":
    run_script(main)
