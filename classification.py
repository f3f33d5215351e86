"""Train classifiers on the layers of the pretrained language model (models/bilstm.pt).

    python classification.py                    trainable, frozen and function   -> models/classifier_MODE.pt
    python classification.py --mode finetune    the language model is trained too
    python classification.py --mode hybrid      with TF-IDF features: for texts of your own
    python classification.py --preset best      all four, as the weights in models/ were trained
    python classification.py --resume           continue after Ctrl-C or a crash
    python classification.py --train FILE --text-column NAME --label-column NAME      classes of your own texts
    python classification.py --bilm FILE        on another language model, for instance the imported original

    trainable   gamma * sum_j lambda_j e_j, lambda = softmax(w); w and gamma are trained, the language model is fixed
    frozen      the same with random lambdas that never change
    function    a learned function of [e0; e1; e2]
    finetune    as trainable, and the weights of the language model are trained too
    hybrid      a linear SVM on TF-IDF n-grams, clusters of tokens, and pooled vectors of e1 and e2

models/classifier.pt is a copy of the classifier with the best validation accuracy.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilm.config import CLASSIFICATION, CLASSIFIER_FIT, FIXED_ENCODER_MODES, HYBRID, MODES, ClassifierConfig, FitConfig
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path
from bilm.runtime.process import quoted
from utils import (
    EncoderOptions,
    ResumeOptions,
    Run,
    RunOptions,
    TensorBoardOptions,
    confirm_replacement,
    decide_action,
    open_run,
    replacement_warning,
    run_script,
    unusable_warning,
)

if TYPE_CHECKING:
    from bilm.checkpoints.classifier_files import ClassifierFiles
    from bilm.checkpoints.model_format import Pretrained
    from bilm.text.corpus import Source
    from bilm.text.encoded_corpus import EncodedCorpus
    from bilm.training.classification import ClassifierTrainer, Trained
    from bilm.training.layer_cache import LayerCache


@dataclass(frozen=True)
class ClassificationOptions:
    """How the layers are combined."""

    mode: str = setting(
        "fixed",
        "which classifier to train; fixed: trainable, frozen and function; all: these and finetune",
        choices=(*MODES, HYBRID, "fixed", "all"),
    )
    encoder_learning_rate: float = setting(1e-3, "peak learning rate of the language model in mode finetune")

    def modes(self) -> tuple[str, ...]:
        return {"fixed": FIXED_ENCODER_MODES, "all": MODES}.get(self.mode, (self.mode,))

    def of_mode(self, mode: str) -> ClassificationOptions:
        """The options of one mode; the encoder's learning rate is 0 where the encoder is fixed."""
        return replace(self, mode=mode, **({"encoder_learning_rate": 0.0} if mode in FIXED_ENCODER_MODES else {}))


@dataclass(frozen=True)
class CacheOptions:
    """The layers of a fixed language model, computed once for all epochs and modes."""

    store_gb: float = setting(
        24.0,
        "gigabytes of disk for the layers during the run (80,000 descriptions: 7 in bf16, 13 in fp32); 0: no cache",
    )


@dataclass(frozen=True)
class Options:
    """All options of this script, by group."""

    run: RunOptions = RunOptions()
    resume: ResumeOptions = ResumeOptions()
    encoder: EncoderOptions = EncoderOptions()
    tensorboard: TensorBoardOptions = TensorBoardOptions()
    classification: ClassificationOptions = ClassificationOptions()
    cache: CacheOptions = CacheOptions()
    classifier: ClassifierConfig = ClassifierConfig()
    fit: FitConfig = CLASSIFIER_FIT


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, presets=CLASSIFICATION, arguments=arguments)
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.checkpoints.bundled import keep_bundled
    from bilm.checkpoints.classifier_files import keep_best_classifier
    from bilm.checkpoints.model_format import load_bilm
    from bilm.cli.hybrid import train_hybrid

    run = open_run(options.run, "training")
    source = run.on_main(lambda: labelled_rows(run))
    pretrained = load_bilm(options.encoder.file(options.run, run.folders.models / "bilstm.pt"))
    settings = settings_by_mode(run, options, source, pretrained)
    # For all modes before the first is trained, so that a question comes before hours of training.
    actions = run.on_main(lambda: choose_actions(run, options, pretrained, settings))
    trainer, encoded = prepare(run, options, source, pretrained, actions)
    cache, cache_seconds = cache_fixed_layers(run, options, trainer, pretrained, actions)
    if set(actions.values()) != {"skip"} and (note := run.on_main(lambda: keep_bundled(run.folders.models))):
        run.print(note)
    for mode, action in actions.items():
        if action == "skip":
            run.print(f"{display_path(weights_of(run, mode))} already has a classifier with these settings; skipped.")
            continue
        if mode == HYBRID:
            info = run.training_info(source, len(encoded), len(trainer.training_rows), settings[mode])
            run.on_main(partial(train_hybrid, run, pretrained, encoded, source.classes, info))
            continue
        trained = train(run, options, mode, trainer, pretrained, settings[mode], action == "resume", cache)
        report_combination(run, mode, trained)
        info = run.training_info(source, len(encoded), len(trainer.training_rows), settings[mode])
        if mode in FIXED_ENCODER_MODES:
            info["seconds_for_layers"] = round(cache_seconds, 2)  # once for all of these modes
        run.on_main(partial(save, run, mode, trained, pretrained, list(source.classes), info))
    best = run.on_main(lambda: keep_best_classifier(run.folders.models, pretrained, next(iter(actions))))
    bilm = f" --bilm {quoted(options.encoder.bilm)}" if options.encoder.bilm else ""
    path = display_path(run.folders.models / "classifier.pt")
    run.print(f"Wrote {path}: {best}, the best on validation. {run.next_evaluation(bilm)}")


def labelled_rows(run: Run) -> Source:
    """The training rows. Raises UserError if their classes are not known."""
    if run.corpus.columns and not run.corpus.columns.label:
        raise UserError("name the column of the classes: --label-column NAME.")
    return run.corpus.source("train", run.options.limit)


def weights_of(run: Run, mode: str) -> Path:
    return run.folders.models / f"classifier_{mode}.pt"


def checkpoint_of(run: Run, mode: str) -> Path:
    return run.folders.runs / f"classifier_{mode}.pt"


def settings_by_mode(run: Run, options: Options, source: Source, pretrained: Pretrained) -> dict[str, dict[str, Any]]:
    """The settings that determine the weights of each classifier."""
    from bilm.cli.hybrid import hybrid_settings

    inputs = {"corpus": source.identity, "bilm": pretrained.hash}
    groups = (options.classifier, options.fit)
    chosen = options.classification
    return {
        mode: hybrid_settings(run, **inputs)
        if mode == HYBRID
        else run.settings(chosen.of_mode(mode), *groups, **inputs)
        for mode in chosen.modes()
    }


def choose_actions(
    run: Run, options: Options, pretrained: Pretrained, settings: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Return "start", "resume" or "skip" for each mode.

    Raises UserError, before anything is trained, if an unfinished run to resume has other settings.

    Classifiers of this repository are replaced without a question, since `main` copies them first; so are classifiers
    on language models that are gone.
    """
    from bilm.checkpoints.bundled import bundled_files
    from bilm.checkpoints.classifier_files import find_classifiers
    from bilm.checkpoints.model_format import was_trained_with
    from bilm.training.loop import load_checkpoint

    files, bundled = find_classifiers(run.folders.models, pretrained), bundled_files(run.folders.models)
    actions, finished = {}, {}
    for mode, required in settings.items():
        own = weights_of(run, mode)
        # That of this mode may be classifier.pt; its own file is replaced all the same.
        path = own if own in files.to_keep else files.paths.get(mode, own)
        finished[mode] = was_trained_with(path, "classifier", required)
        warning = replacement_warning(path, partial(read_settings, path, mode, files, bundled), required)
        actions[mode] = decide_action(checkpoint_of(run, mode), options.resume, finished[mode], warning)
        if actions[mode] == "resume":
            load_checkpoint(checkpoint_of(run, mode), required)
    if "resume" in actions.values():  # perhaps the user's answer, which then holds for finished modes, too
        actions |= {mode: "skip" for mode in settings if finished[mode] and actions[mode] == "start"}
    if "start" in actions.values():
        confirm_best(run, options, files, actions, bundled)
    return actions


def read_settings(path: Path, mode: str, files: ClassifierFiles, bundled: list[Path]) -> dict[str, Any] | None:
    """The settings of the classifier of this mode in `path`; None if it may be replaced without a question.

    Raises UserError if the file cannot be read, or can still be used with another language model.
    """
    from bilm.checkpoints.model_format import finished_settings

    if path in bundled:
        return None
    if path in files.to_keep:
        raise files.to_keep[path]
    return finished_settings(path, "classifier") if mode in files.paths else None


def confirm_best(
    run: Run, options: Options, files: ClassifierFiles, modes: Container[str], bundled: Sequence[Path]
) -> None:
    """Raises UserError if keep_best_classifier would replace a file that should be kept, unless the user agrees."""
    for path, error in files.in_place_of_best(run.folders.models, modes).items():
        if path not in bundled:
            confirm_replacement(unusable_warning(path, error), options.resume)


def prepare(
    run: Run, options: Options, source: Source, pretrained: Pretrained, actions: dict[str, str]
) -> tuple[ClassifierTrainer, EncodedCorpus]:
    """Encode and split the rows, and print what is known about them."""
    from bilm.text.encoded_corpus import encode
    from bilm.text.split import split_validation
    from bilm.training.classification import ClassifierTrainer

    vocabulary = pretrained.vocabulary.opened() if HYBRID in actions else pretrained.vocabulary
    encoded = run.encode(lambda folder: encode(source, vocabulary, folder))
    class_names = list(source.classes)
    training_rows, validation_rows = split_validation(encoded.labels, encoded.keys, class_names)
    run.folders.prepare()
    for mode, action in actions.items():
        if action == "start":
            run.on_main(partial(checkpoint_of(run, mode).unlink, missing_ok=True))
    perplexity = pretrained.info["validation_perplexity"]
    quality = "imported" if perplexity is None else f"of validation perplexity {perplexity:.1f}"
    tokenizer = pretrained.vocabulary.tokenizer.config
    run.print_rows(encoded, training_rows, validation_rows, tokenizer, f"language model {quality}")
    for label in sorted(set(range(len(class_names))) - set(encoded.labels.tolist())):
        run.print(f"Note: no row is of class {class_names[label]!r}; the classifiers will not learn it.")
    pretraining = pretrained.info["settings"]
    if pretraining["corpus"] and (pretraining["corpus"], pretraining.get("limit")) != (source.identity, source.limit):
        run.print(
            "Note: the language model was pretrained on other rows; they may include validation rows of this run."
        )
    rows = (training_rows, validation_rows, len(class_names))
    where = (run.device, run.autocast)
    trainer = ClassifierTrainer(encoded.texts, encoded.labels, *rows, options.classifier, options.fit, *where)
    return trainer, encoded


def cache_fixed_layers(
    run: Run, options: Options, trainer: ClassifierTrainer, pretrained: Pretrained, actions: dict[str, str]
) -> tuple[LayerCache | None, float]:
    """The layers of the fixed language model on disk, see Run.cache_layers, and the seconds they took."""
    needed = any(mode in FIXED_ENCODER_MODES and action != "skip" for mode, action in actions.items())
    if not needed:
        return None, 0.0
    started = time.monotonic()
    cache = run.cache_layers(pretrained.model, trainer.texts, options.cache.store_gb * 1e9)
    if cache is None and options.cache.store_gb and run.device.type == "cpu" and run.processes == 1:
        run.print("The layers of the language model exceed --store-gb or the free disk space; each step computes them.")
    return cache, time.monotonic() - started if cache else 0.0


def train(
    run: Run,
    options: Options,
    mode: str,
    trainer: ClassifierTrainer,
    pretrained: Pretrained,
    settings: dict[str, Any],
    resume: bool,
    cache: LayerCache | None,
) -> Trained:
    """Train the classifier of one mode.

    Seeded per mode, so that the result does not depend on the other modes of the run.
    """
    finetuned = mode not in FIXED_ENCODER_MODES
    run.seed(options.run.seed)
    return trainer.train(
        f"classifier ({mode})",
        copy.deepcopy(pretrained.model) if finetuned else pretrained.model,
        mode,
        options.run.seed,
        checkpoint_path=checkpoint_of(run, mode),
        settings=settings,
        resume=resume,
        encoder_learning_rate=options.classification.encoder_learning_rate if finetuned else None,
        cache=None if finetuned else cache,
        log=options.tensorboard.log(run.folders.runs / "tensorboard" / f"classifier_{mode}", run.is_main),
    )


def report_combination(run: Run, mode: str, trained: Trained) -> None:
    """Print the lambdas and gamma before and after the training."""
    run.print(f"  before: {in_words(trained.before)}\n  after:  {in_words(trained.after)}")
    if mode == "frozen":
        assert trained.after == trained.before, "the frozen lambdas changed"
        run.print("  The random lambdas are unchanged, bit by bit.")


def in_words(combination: dict[str, Any]) -> str:
    """For the terminal: "lambdas 0.3333 0.3333 0.3333, gamma 1.0000"."""
    numbers = {name: value if isinstance(value, list) else [value] for name, value in combination.items()}
    return ", ".join(f"{name} {' '.join(f'{x:.4f}' for x in values)}" for name, values in numbers.items())


def save(
    run: Run, mode: str, trained: Trained, pretrained: Pretrained, class_names: list[str], info: dict[str, Any]
) -> None:
    """Write classifier_MODE.pt and the figures of its training."""
    from bilm.checkpoints.model_format import save_classifier
    from bilm.runtime.files import write_json

    state, weights, results = (
        trained.state,
        weights_of(run, mode),
        run.folders.results / f"classifier_{mode}_training.json",
    )
    info |= {
        "validation_accuracy": state.best_figure,
        "best_epoch": state.best_epoch + 1,
        "combination": {"before": trained.before, "after": trained.after},
        "temperature": float(trained.model.classifier.temperature),
        "seconds": round(state.seconds, 1),
    }
    save_classifier(weights, trained.model.cpu(), pretrained, class_names, info)
    write_json(results, {**info, "epochs": state.epochs, "curve": state.curve})
    checkpoint_of(run, mode).unlink()
    print(
        f"  Best epoch {state.best_epoch + 1}: validation accuracy {state.best_figure:.4f}, {state.seconds:,.0f} s.\n"
        f"  Wrote {display_path(weights)} and {display_path(results)}."
    )


if __name__ == "__main__":
    run_script(main)
