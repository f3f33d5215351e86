"""Pretrain ELMo's language model: two stacks of LSTMs that predict the next and the previous word of news descriptions.

python ELMO.py                        all of AG News, default size     -> models/bilstm.pt
python ELMO.py --limit 2000           a quick look                     -> models/limit-2000/bilstm.pt
python ELMO.py --resume               go on after Ctrl-C or a crash
python ELMO.py --preset best          longer, for the best classifiers; fast, for a first look
python ELMO.py --token-layer char     words read from their characters
python ELMO.py --train FILE --text-column NAME --label-column NAME    your own texts
python ELMO.py --train FILE --start-from models/bilstm.pt    the same, from a language model that is there
python ELMO.py --import-original options.json weights.hdf5     the published ELMo as a file like ours
torchrun --nproc_per_node=2 ELMO.py   the same on two GPUs, or in two processes on a CPU
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bilm.cli.options import ResumeOptions, RunOptions, TensorBoardOptions, truncation_note
from bilm.cli.run import decide_action, replacement_warning, start
from bilm.config import PRETRAINING, BiLMConfig, FitConfig, TokenizerConfig, VocabularyConfig
from bilm.runtime.errors import UserError
from bilm.runtime.files import write_json
from bilm.runtime.optional import require
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import ROOT, display_path, folders
from bilm.runtime.process import run_script
from bilm.runtime.provenance import run_settings, run_stamp

# For a language model that goes on from one that knows such texts: a higher one forgets more of what it knew.
FURTHER_LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class EmbeddingOptions:
    """The token embedding."""

    init_embeddings: str = setting(
        "random",
        "what it starts from: random, or word2vec (skip-gram trained on the same descriptions)",
        choices=("random", "word2vec"),
    )


@dataclass(frozen=True)
class MoreOptions:
    """What there is besides."""

    unlabelled: str | None = setting(None, "file of more texts to train on, without labels; a line each, or a column")
    unlabelled_column: str | None = setting(None, "its column of the texts (default: that of --text-column)")
    from_scratch: bool = setting(
        False, "train from nothing also where the sample stands in for AG News, not from the weights of this repository"
    )
    start_from: str | None = setting(
        None,
        "a bilstm.pt to go on from: its words, sizes and tokenizer stay, new words are added; for texts of a like kind "
        "a --learning-rate of 2e-3 leaves more of what it knew",
    )


@dataclass(frozen=True)
class ImportOptions:
    """Instead of training."""

    import_original: tuple[str, str] | None = setting(
        None,
        "write the original ELMo's files as one of ours; --output is then a folder, or a file that ends in .pt "
        "(default: models/original.pt)",
        names=("OPTIONS", "WEIGHTS"),
    )


def main() -> None:
    run, again, besides, board, importing, embedding, model_config, tokenizer_config, vocabulary_config, fit_config = (
        parse_options(
            __doc__,
            RunOptions,
            ResumeOptions,
            MoreOptions,
            TensorBoardOptions,
            ImportOptions,
            EmbeddingOptions,
            BiLMConfig,
            TokenizerConfig,
            VocabularyConfig,
            FitConfig,
            presets=PRETRAINING,
        )
    )
    if importing.import_original:
        options, weights = importing.import_original
        return convert(Path(options), Path(weights), run.output)
    if embedding.init_embeddings == "word2vec" and model_config.token_layer == "char":
        raise UserError("--init-embeddings word2vec fills a table of words; --token-layer char has none.")
    if besides.start_from and embedding.init_embeddings == "word2vec":
        raise UserError("--start-from and --init-embeddings word2vec exclude each other.")
    if besides.start_from and besides.from_scratch:
        raise UserError("--start-from and --from-scratch exclude each other.")
    if besides.unlabelled_column and not besides.unlabelled:
        raise UserError("--unlabelled-column is for --unlabelled.")
    if embedding.init_embeddings == "word2vec":
        require("gensim", "--init-embeddings word2vec")
    # Imported once the command line is understood: torch takes seconds, and --help needs none of it.
    import torch

    from bilm.baselines.word_vectors import skip_gram
    from bilm.checkpoints.bundled import bundled_files, find_bundled_bilm, keep_bundled, remove_bundled_classifiers
    from bilm.checkpoints.pretrained import extend_vocabulary, finished_settings, load_bilm, save_bilm, was_trained_with
    from bilm.modules.language_model import BiLM
    from bilm.text.corpus import Source, unlabelled
    from bilm.text.encoded_corpus import learn_and_encode, open_encoded
    from bilm.text.split import split_validation
    from bilm.text.tokenizer import Tokenizer, comparable_settings
    from bilm.text.vocabulary import Vocabulary
    from bilm.training.loop import fit
    from bilm.training.optimizer import build_optimizer
    from bilm.training.pretraining import PretrainingTask

    runtime = start(run)
    print_main = print if runtime.is_main else lambda *_: None
    base_file = Path(besides.start_from) if besides.start_from else None
    former = load_bilm(base_file) if base_file else None
    corpus = runtime.on_main(run.corpus)
    shape = (embedding, replace(model_config, dropout=BiLMConfig.dropout), tokenizer_config, vocabulary_config)
    if corpus.is_fallback and base_file is None and not besides.from_scratch and are_defaults(shape):
        base_file = find_bundled_bilm(ROOT / "models")
        if base_file and fit_config.learning_rate == FitConfig.learning_rate:
            fit_config = replace(fit_config, learning_rate=FURTHER_LEARNING_RATE)
    if base_file and former is None:
        former = load_bilm(base_file)
    if former:
        model_config, tokenizer_config = shape_of(former, model_config, tokenizer_config)

    def find_rows() -> Source:
        more = None
        if besides.unlabelled:
            more = unlabelled(besides.unlabelled, besides.unlabelled_column, run.text_column)
        return corpus.source("train", run.limit, more)

    source = runtime.on_main(find_rows)
    out = folders(run.output, corpus.name, run.limit)
    weights, checkpoint = out.models / "bilstm.pt", out.runs / "bilm.pt"
    inputs = {"corpus": source.identity}
    inputs |= {"unlabelled": source.more.identity} if source.more else {}
    inputs |= {"start": former.hash} if former else {}
    groups = (embedding, model_config, tokenizer_config, vocabulary_config, fit_config)
    settings = run_settings(run, runtime, *groups, **inputs)
    settings = comparable_settings(settings, source.same_words_by_both_rules)
    runtime.on_main(lambda: out.lock("training"))
    runtime.on_main(lambda: bundled_files(out.models))  # a list that cannot be read is said now, not at the end

    def replaces() -> str | None:
        saved = None if weights in bundled_files(out.models) else finished_settings(weights, "bilm")
        further = f"Train on from it: --start-from {display_path(weights)}, with an --output of its own. "
        return None if saved is None else replacement_warning(weights, saved, settings, further=further)

    def is_finished() -> bool:
        return was_trained_with(weights, "bilm", settings)

    decide = partial(decide_action, checkpoint, again, is_finished=is_finished, replaces=replaces)
    action = runtime.on_main(decide)
    if action == "skip":
        print_main(f"{display_path(weights)} is finished, with these settings. {what_next(run, corpus)}")
        return

    tokenizer, place = Tokenizer(tokenizer_config), out.encoded("training")
    known = former.vocabulary.words if former else ()
    learned = (source, tokenizer, vocabulary_config, place, model_config.reads_characters, known)
    runtime.on_each_machine(lambda: learn_and_encode(*learned))
    encoded = open_encoded(place)
    texts, vocabulary = encoded.texts, Vocabulary(encoded.words, tokenizer, model_config.reads_characters)
    training_rows, validation_rows = split_validation(encoded.labels, encoded.keys, source.classes)
    if former:
        model = extend_vocabulary(former, len(vocabulary), model_config.dropout)
        print_main(
            f"Going on from {base_file}: it knows {len(known):,} words; {len(vocabulary) - len(known):,} are new."
        )
    else:
        model = BiLM(model_config, len(vocabulary))
    # Under torchrun all ranks start from rank 0's weights.
    if embedding.init_embeddings == "word2vec" and action == "start" and runtime.is_main:
        print_main(
            "Word2Vec: training skip-gram vectors for the token embedding (about a minute on all of AG News) ..."
        )
        vectors = skip_gram(texts, training_rows, len(vocabulary), model_config.width, run.seed)
        assert model.tokens.word is not None
        model.tokens.word.weight.data.copy_(torch.from_numpy(vectors))
    model.to(runtime.device)
    out.prepare()
    if action == "start":
        runtime.on_main(lambda: checkpoint.unlink(missing_ok=True))
    print_main(
        f"corpus {corpus.name}: {len(training_rows):,} descriptions to train on, {len(validation_rows):,} to validate"
        f" on; {len(vocabulary):,} words; {sum(p.numel() for p in model.parameters()):,} parameters; "
        f"{runtime.device}, {runtime.precision}"
    )
    if note := truncation_note(encoded.num_truncated, len(encoded), tokenizer_config.max_tokens):
        print_main(note)
    state = fit(
        model,
        PretrainingTask(texts, training_rows, validation_rows, fit_config.batch_tokens, run.seed, runtime.device),
        build_optimizer(model.learning_rates(fit_config.learning_rate), fit_config.weight_decay),
        fit_config,
        checkpoint_path=checkpoint,
        settings=settings,
        autocast=runtime.autocast,
        resume=action == "resume",
        log=board.log(out.runs / "tensorboard" / "bilm", runtime.is_main),
    )
    info = {
        "corpus": corpus.name,
        "rows": len(encoded),
        "rows_trained": len(training_rows),
        "data": source.stamp() | ({"start": origin(former)} if former else {}),
        "settings": settings,
        **run_stamp(run, runtime),
        "validation_perplexity": state.best_figure,
        "best_epoch": state.best_epoch + 1,
        "seconds": round(state.seconds, 1),
    }
    results = out.results / "bilstm_training.json"

    def write() -> None:
        if kept := keep_bundled(out.models):
            print_main(kept)
        save_bilm(weights, model.cpu(), vocabulary, info)
        remove_bundled_classifiers(out.models)
        write_json(results, {**info, "vocabulary": len(vocabulary), "epochs": state.epochs, "curve": state.curve})
        checkpoint.unlink()

    runtime.on_main(write)
    print_main(
        f"Best epoch {state.best_epoch + 1}: validation perplexity {state.best_figure:.1f}, {state.seconds:,.0f} s.\n"
        f"Wrote {display_path(weights)} and {display_path(results)}. {what_next(run, corpus)}"
    )


def are_defaults(groups: Sequence[Any]) -> bool:
    """Whether all settings of these groups have their default values."""
    return all(group == type(group)() for group in groups)


def what_next(run: RunOptions, corpus: Any) -> str:
    if corpus.classes:
        return f"Next: python classification.py{run.data_options()}"
    return "Next, without labels: python -m bilm vectors, neighbours or lm, with --bilm and this file."


def origin(start: Any) -> dict[str, Any]:
    """What a language model says of the one that it goes on from."""
    said = {key: start.info[key] for key in ("corpus", "rows_trained", "data") if key in start.info}
    return {"hash": start.hash, **said}


def shape_of(start: Any, model: BiLMConfig, tokenizer: TokenizerConfig) -> tuple[BiLMConfig, TokenizerConfig]:
    """The shape and the tokenizer of the language model that this one goes on from; dropout is this one's own.

    Raises UserError when the command line asks for others.
    """
    theirs, their_tokenizer = start.model.config, start.vocabulary.tokenizer.config
    shape, words = (model, theirs), (tokenizer, their_tokenizer)
    pairs: dict[str, tuple[Any, Any]] = dict.fromkeys(("token_layer", "width", "layers", "softmax"), shape)
    pairs |= dict.fromkeys(("lowercase", "max_tokens"), words)
    for name, (mine, other) in pairs.items():
        asked, there = getattr(mine, name), getattr(other, name)
        if asked not in (getattr(type(mine)(), name), there):
            raise UserError(f"--{name.replace('_', '-')} {asked}: that of --start-from has {there}. Leave it out.")
    return replace(theirs, dropout=model.dropout), their_tokenizer


def convert(options: Path, weights: Path, output: str | None) -> None:
    """The original ELMo -> a bilstm.pt."""
    from bilm.checkpoints.bundled import bundled_files, keep_bundled
    from bilm.checkpoints.pretrained import import_original, save_bilm
    from bilm.runtime.process import allow_interrupts

    allow_interrupts()
    path = Path(output) if output else ROOT / "models"
    if path.suffix != ".pt":
        path = path / "original.pt"
    found = import_original(options, weights)
    if path in bundled_files(path.parent) and (kept := keep_bundled(path.parent)):
        print(kept)
    save_bilm(path, found.model, found.vocabulary, found.info)
    print(
        f"Read {found.model.num_layers} layers of width {found.model.output_dim} from {display_path(weights)}.\n"
        f"Wrote {display_path(path)}. Next: python classification.py --bilm {display_path(path)} --output FOLDER"
    )


if __name__ == "__main__":
    run_script(main)
