"""Pretrain ELMo's language model: two stacks of LSTMs that predict the next and the previous word of news descriptions.

python ELMO.py                        all of AG News, default size     -> models/bilstm.pt
python ELMO.py --limit 2000           a quick look                     -> models/limit-2000/bilstm.pt
python ELMO.py --resume               continue after Ctrl-C or a crash
python ELMO.py --preset best          longer, for the best classifiers; fast: for a first look
python ELMO.py --token-layer char     words from their characters
python ELMO.py --train FILE --text-column NAME --label-column NAME    your own texts
python ELMO.py --train FILE --start-from models/bilstm.pt    your own texts, from an existing model
python ELMO.py --import-original options.json weights.hdf5     convert the published ELMo to a bilstm.pt
torchrun --nproc_per_node=2 ELMO.py   on two GPUs, or in two processes on a CPU
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilm.config import PRETRAINING, BiLMConfig, FitConfig, TokenizerConfig, VocabularyConfig
from bilm.runtime.errors import UserError
from bilm.runtime.optional_packages import require
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import ROOT, display_path
from utils import (
    ResumeOptions,
    Run,
    RunOptions,
    TensorBoardOptions,
    decide_action,
    open_run,
    replacement_warning,
    run_script,
)

if TYPE_CHECKING:
    from bilm.checkpoints.model_format import Pretrained
    from bilm.modules.language_model import BiLM
    from bilm.text.corpus import Corpus, Source
    from bilm.text.encoded_corpus import EncodedCorpus
    from bilm.text.vocabulary import Vocabulary
    from bilm.training.state import State

# The default when the sample is trained from the weights of this repository: higher rates forget more of what they
# have learned. With --start-from the user chooses.
CONTINUED_LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class EmbeddingOptions:
    """The token embedding."""

    init_embeddings: str = setting(
        "random",
        "initial values of the token embedding: random, or word2vec (skip-gram trained on the same descriptions)",
        choices=("random", "word2vec"),
    )


@dataclass(frozen=True)
class StartOptions:
    """More texts, and the weights to start from."""

    unlabelled: str | None = setting(None, "file of more texts to train on, without labels; one per line, or a column")
    unlabelled_column: str | None = setting(
        None, "column of the texts in --unlabelled (default: that of --text-column)"
    )
    from_scratch: bool = setting(
        False, "with the sample in place of AG News: start from random weights, not from those in models/"
    )
    start_from: str | None = setting(
        None,
        "a bilstm.pt to start from: its words, sizes and tokenizer are kept; new words are added, with --hidden more "
        "units, too; for similar texts a --learning-rate of 2e-3 preserves more of what it has learned",
    )


@dataclass(frozen=True)
class ImportOptions:
    """Import instead of training."""

    import_original: tuple[str, str] | None = setting(
        None,
        "convert the files of the original ELMo to a bilstm.pt; --output is then a folder, or a file that ends in .pt "
        "(default: models/original.pt)",
        names=("OPTIONS", "WEIGHTS"),
    )


@dataclass(frozen=True)
class Options:
    """All options of this script, by group."""

    run: RunOptions = RunOptions()
    resume: ResumeOptions = ResumeOptions()
    start: StartOptions = StartOptions()
    tensorboard: TensorBoardOptions = TensorBoardOptions()
    original: ImportOptions = ImportOptions()
    embedding: EmbeddingOptions = EmbeddingOptions()
    model: BiLMConfig = BiLMConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    vocabulary: VocabularyConfig = VocabularyConfig()
    fit: FitConfig = FitConfig()


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, presets=PRETRAINING, arguments=arguments)
    check_options(options)
    if options.original.import_original:
        from bilm.cli.import_original import import_original_elmo

        return import_original_elmo(options.original.import_original, options.run.output, options.resume.restart)
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.text.split import split_validation
    from bilm.training.loop import fit
    from bilm.training.optimizer import build_optimizer
    from bilm.training.pretraining import PretrainingTask

    run = open_run(options.run, "training")
    base = find_base_model(options, run.corpus)
    options = adapt_options(options, base)
    source = run.on_main(lambda: find_rows(options, run.corpus))
    settings = settings_of(run, options, source, base)
    weights, checkpoint = run.folders.models / "bilstm.pt", run.folders.runs / "bilm.pt"
    action = run.on_main(lambda: choose_action(options, weights, checkpoint, settings))
    if action == "skip":
        run.print(
            f"{display_path(weights)} already has a model with these settings; skipped. {run.next_after_pretraining()}"
        )
        return

    encoded, vocabulary = encode_rows(run, options, source, base)
    training_rows, validation_rows = split_validation(encoded.labels, encoded.keys, source.classes)
    model = build_model(run, options, encoded, training_rows, vocabulary, base, action).to(run.device)
    run.folders.prepare()
    if action == "start":
        run.on_main(lambda: checkpoint.unlink(missing_ok=True))
    size = f"{len(vocabulary):,} words; {sum(p.numel() for p in model.parameters()):,} parameters"
    run.print_rows(encoded, training_rows, validation_rows, options.tokenizer, size)
    batch_tokens, seed = options.fit.batch_tokens, options.run.seed
    state = fit(
        model,
        PretrainingTask(encoded.texts, training_rows, validation_rows, batch_tokens, seed, run.device),
        build_optimizer(model.learning_rates(options.fit.learning_rate), options.fit.weight_decay),
        options.fit,
        checkpoint_path=checkpoint,
        settings=settings,
        autocast=run.autocast,
        resume=action == "resume",
        log=options.tensorboard.log(run.folders.runs / "tensorboard" / "bilm", run.is_main),
        describe_duration=describe_duration,
    )
    info = run.training_info(source, len(encoded), len(training_rows), settings)
    run.on_main(lambda: save(run, weights, checkpoint, model, vocabulary, info, state, base))


def check_options(options: Options) -> None:
    """Raises UserError if options exclude each other, if --start-from does not exist, or if gensim is missing."""
    start, word2vec = options.start, options.embedding.init_embeddings == "word2vec"
    if word2vec and options.model.token_layer == "char":
        raise UserError(
            "--init-embeddings word2vec initialises the word table, which --token-layer char does not have."
        )
    if start.start_from:
        from bilm.runtime.files import require_file

        require_file(start.start_from, "start_from")
    if start.start_from and word2vec:
        raise UserError("--start-from and --init-embeddings word2vec exclude each other.")
    if start.start_from and start.from_scratch:
        raise UserError("--start-from and --from-scratch exclude each other.")
    if start.unlabelled_column and not start.unlabelled:
        raise UserError("--unlabelled-column is for --unlabelled.")
    if word2vec:
        require("gensim", "--init-embeddings word2vec")


def find_base_model(options: Options, corpus: Corpus) -> Pretrained | None:
    """The language model to start from; None to start from random weights.

    --start-from if given; otherwise, where the sample replaces AG News, the model of this repository, unless options
    change the model or --from-scratch is given.
    """
    from bilm.checkpoints.bundled import find_bundled_bilm
    from bilm.checkpoints.model_format import load_bilm

    path = Path(options.start.start_from) if options.start.start_from else None
    shape = (
        replace(options.model, dropout=BiLMConfig.dropout),
        options.embedding,
        options.tokenizer,
        options.vocabulary,
    )
    if path is None and corpus.is_fallback and not options.start.from_scratch and all(g == type(g)() for g in shape):
        path = find_bundled_bilm(ROOT / "models")
    return load_bilm(path) if path else None


def adapt_options(options: Options, base: Pretrained | None) -> Options:
    """Options with the shape and the tokenizer of the language model to start from, and the given dropout.

    Raises UserError if an option has a value that is neither the default nor that of the model to start from.
    """
    if base is None:
        return options
    from bilm.checkpoints.growth import grown_hidden

    model, tokenizer = base.model.config, base.vocabulary.tokenizer.config
    for mine, other, names in (
        (options.model, model, ("token_layer", "width", "layers", "softmax")),
        (options.tokenizer, tokenizer, ("lowercase", "max_tokens")),
    ):
        for name in names:
            value, required = getattr(mine, name), getattr(other, name)
            if value not in (getattr(type(mine)(), name), required):
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} {value}: the model of --start-from has {required}. Omit the option.")
    fit = options.fit
    if not options.start.start_from and fit.learning_rate == FitConfig.learning_rate:  # that of all presets
        fit = replace(fit, learning_rate=CONTINUED_LEARNING_RATE)
    model = replace(model, dropout=options.model.dropout, hidden=grown_hidden(model, options.model.hidden))
    return replace(options, model=model, tokenizer=tokenizer, fit=fit)


def find_rows(options: Options, corpus: Corpus) -> Source:
    """The training rows, and the texts without labels."""
    from bilm.text.corpus import find_unlabelled

    start, unlabelled = options.start, None
    if start.unlabelled:
        unlabelled = find_unlabelled(start.unlabelled, start.unlabelled_column, options.run.text_column)
    return corpus.source("train", options.run.limit, unlabelled)


def settings_of(run: Run, options: Options, source: Source, base: Pretrained | None) -> dict[str, Any]:
    """The settings that determine the weights of this run."""
    from bilm.text.tokenizer import comparable_settings

    inputs = {"corpus": source.identity}
    inputs |= {"unlabelled": source.unlabelled.identity} if source.unlabelled else {}
    inputs |= {"start": base.hash} if base else {}
    groups = (options.embedding, options.model, options.tokenizer, options.vocabulary, options.fit)
    settings = comparable_settings(run.settings(*groups, **inputs), source.same_words_by_both_rules)
    if settings["hidden"] is None:
        del settings["hidden"]  # runs from before there was a choice do not name it
    return settings


def choose_action(options: Options, weights: Path, checkpoint: Path, settings: dict[str, Any]) -> str:
    """Return "start", "resume" or "skip".

    Raises UserError, before the texts of an unfinished run are replaced, if this has other settings or is damaged.

    Weights of this repository are replaced without a question, since `save` copies them first.
    """
    from bilm.checkpoints.bundled import bundled_files
    from bilm.checkpoints.model_format import finished_settings, was_trained_with
    from bilm.training.loop import load_checkpoint

    def read() -> dict[str, Any] | None:
        return None if weights in bundled_files(weights.parent) else finished_settings(weights, "bilm")

    advice = f"Train from it: --start-from {display_path(weights)}, with another --output. "
    warning = replacement_warning(weights, read, settings, advice)
    action = decide_action(checkpoint, options.resume, was_trained_with(weights, "bilm", settings), warning)
    if action == "resume":
        load_checkpoint(checkpoint, settings)
    return action


def encode_rows(
    run: Run, options: Options, source: Source, base: Pretrained | None
) -> tuple[EncodedCorpus, Vocabulary]:
    """Learn the vocabulary from the training rows, and write all rows as ids."""
    from bilm.text.encoded_corpus import learn_and_encode
    from bilm.text.tokenizer import Tokenizer
    from bilm.text.vocabulary import Vocabulary

    tokenizer, open_ended = Tokenizer(options.tokenizer), options.model.reads_characters
    words = base.vocabulary.words if base else ()
    encoded = run.encode(
        lambda folder: learn_and_encode(source, tokenizer, options.vocabulary, folder, open_ended, words)
    )
    if base:
        new = len(encoded.words) - len(words)
        run.print(f"The model to start from has {len(words):,} words; {new:,} new words are added.")
    return encoded, Vocabulary(encoded.words, tokenizer, open_ended)


def build_model(
    run: Run,
    options: Options,
    encoded: EncodedCorpus,
    training_rows: Any,
    vocabulary: Vocabulary,
    base: Pretrained | None,
    action: str,
) -> BiLM:
    """A new language model, with word2vec vectors if requested, or `base` with more words and more LSTM units.

    Word2vec is trained on rank 0 only, whose weights all ranks start from; a resumed run loads its checkpoint.
    """
    import torch

    from bilm.baselines.word_vectors import skip_gram
    from bilm.checkpoints.growth import grow
    from bilm.modules.language_model import BiLM

    if base:
        return grow(base, len(vocabulary), options.model)
    model = BiLM(options.model, len(vocabulary))
    if options.embedding.init_embeddings == "word2vec" and action == "start" and run.is_main:
        run.print("Word2Vec: training skip-gram vectors for the token embedding (a minute on all of AG News) ...")
        vectors = skip_gram(encoded.texts, training_rows, len(vocabulary), options.model.width, options.run.seed)
        assert model.tokens.word is not None
        model.tokens.word.weight.data.copy_(torch.from_numpy(vectors))
    return model


def describe_duration(seconds_per_epoch: float, remaining: float) -> str:
    """How long the `remaining` epochs take on this machine, and the presets that take less."""
    from bilm.runtime.terminal import duration

    text = f"At this speed the run takes about another {duration(remaining * seconds_per_epoch)}."
    for name, preset in PRETRAINING.items():
        epochs = preset.get("epochs", FitConfig.epochs)
        if epochs < remaining:
            text += f" --preset {name} would take about {duration(epochs * seconds_per_epoch)} in total."
    return text


def save(
    run: Run,
    weights: Path,
    checkpoint: Path,
    model: BiLM,
    vocabulary: Vocabulary,
    info: dict[str, Any],
    state: State,
    base: Pretrained | None,
) -> None:
    """Write bilstm.pt and the figures of the training, and print what to do next."""
    from bilm.checkpoints.bundled import keep_bundled, remove_bundled_classifiers
    from bilm.checkpoints.model_format import save_bilm
    from bilm.runtime.files import write_json

    if base:
        origin: dict[str, Any] = {key: base.info[key] for key in ("corpus", "rows_trained", "data") if key in base.info}
        info["data"]["start"] = origin | {"hash": base.hash}
    info |= {
        "validation_perplexity": state.best_figure,
        "best_epoch": state.best_epoch + 1,
        "seconds": round(state.seconds, 1),
    }
    if note := keep_bundled(run.folders.models):
        print(note)
    save_bilm(weights, model.cpu(), vocabulary, info)
    remove_bundled_classifiers(run.folders.models)
    results = run.folders.results / "bilstm_training.json"
    write_json(results, {**info, "vocabulary": len(vocabulary), "epochs": state.epochs, "curve": state.curve})
    checkpoint.unlink()
    print(
        f"Best epoch {state.best_epoch + 1}: validation perplexity {state.best_figure:.1f}, {state.seconds:,.0f} s.\n"
        f"Wrote {display_path(weights)} and {display_path(results)}. {run.next_after_pretraining()}"
    )


if __name__ == "__main__":
    run_script(main)
