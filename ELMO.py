"""Pretrain ELMo's language model: two stacks of LSTMs that predict the next and the previous word of news descriptions.

python ELMO.py                        all of AG News, default size     -> models/bilstm.pt
python ELMO.py --limit 2000           a quick look                     -> models/limit-2000/bilstm.pt
python ELMO.py --resume               go on after Ctrl-C or a crash
python ELMO.py --preset best          longer, for the best classifiers; fast, for a first look
python ELMO.py --token-layer char     words read from their characters
python ELMO.py --import-original options.json weights.hdf5     the published ELMo as a file like ours
torchrun --nproc_per_node=2 ELMO.py   the same on two GPUs, or in two processes on a CPU
"""

from dataclasses import dataclass
from pathlib import Path

from bilm.config import BiLMConfig, FitConfig, TokenizerConfig, VocabularyConfig, setting
from bilm.errors import UserError
from bilm.folders import ROOT, folders, shown, write_json
from bilm.options import parse_options
from bilm.presets import PRETRAINING
from utils import (
    ResumeOptions,
    RunOptions,
    run_script,
    run_settings,
    run_stamp,
    start,
    what_to_do,
)


@dataclass(frozen=True)
class EmbeddingOptions:
    """The token embedding."""

    init_embeddings: str = setting(
        "random",
        "what it starts from: random, or word2vec (skip-gram trained on the same descriptions)",
        choices=("random", "word2vec"),
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
    run, again, importing, embedding, model_config, tokenizer_config, vocabulary_config, fit_config = parse_options(
        __doc__,
        RunOptions,
        ResumeOptions,
        ImportOptions,
        EmbeddingOptions,
        BiLMConfig,
        TokenizerConfig,
        VocabularyConfig,
        FitConfig,
        presets=PRETRAINING,
    )
    if importing.import_original:
        options, weights = importing.import_original
        return convert(Path(options), Path(weights), run.output)
    if embedding.init_embeddings == "word2vec" and model_config.token_layer == "char":
        raise UserError("--init-embeddings word2vec fills a table of words; --token-layer char has none.")
    # Imported once the command line is understood: torch takes seconds, and --help needs none of it.
    import torch

    from bilm.corpus import find_corpus, split_validation
    from bilm.csv_rows import file_hash
    from bilm.encoded_corpus import Source, learn_and_encode, open_encoded
    from bilm.language_model import BiLM
    from bilm.optimizer import build_optimizer
    from bilm.pretrained import save_bilm, was_trained_with
    from bilm.pretraining import PretrainingTask
    from bilm.shipped import drop_shipped_classifiers, keep_shipped, shipped_files
    from bilm.static_vectors import skip_gram
    from bilm.training import fit
    from bilm.vocabulary import Tokenizer, Vocabulary

    runtime = start(run)
    say = print if runtime.is_main else lambda *_: None
    corpus = runtime.on_main(lambda: find_corpus(run.data))
    source = Source(corpus.path("train"), run.limit, runtime.on_main(lambda: file_hash(corpus.path("train"))))
    out = folders(run.output, corpus.name, run.limit)
    weights, checkpoint = out.models / "bilstm.pt", out.runs / "bilm.pt"
    settings = run_settings(
        run, runtime, embedding, model_config, tokenizer_config, vocabulary_config, fit_config, corpus=source.sha256
    )
    runtime.on_main(lambda: out.hold("training"))
    runtime.on_main(lambda: shipped_files(out.models))  # a list that cannot be read is said now, not at the end
    todo = runtime.on_main(lambda: what_to_do(checkpoint, lambda: was_trained_with(weights, "bilm", settings), again))
    if todo == "skip":
        say(f"{shown(weights)} is finished, with these settings. Next: python classification.py")
        return

    tokenizer, place = Tokenizer(tokenizer_config), out.encoded("training")
    runtime.on_each_machine(lambda: learn_and_encode(source, tokenizer, vocabulary_config, place, model_config.spells))
    encoded = open_encoded(place)
    texts, vocabulary = encoded.texts, Vocabulary(encoded.words, tokenizer, model_config.spells)
    training_rows, validation_rows = split_validation(encoded.labels, encoded.keys)
    model = BiLM(model_config, len(vocabulary))
    # Under torchrun all ranks start from rank 0's weights.
    if embedding.init_embeddings == "word2vec" and todo == "start" and runtime.is_main:
        say("Word2Vec: training skip-gram vectors for the token embedding (about a minute on all of AG News) ...")
        vectors = skip_gram(texts, training_rows, len(vocabulary), model_config.width, run.seed)
        assert model.tokens.word is not None
        model.tokens.word.weight.data.copy_(torch.from_numpy(vectors))
    model.to(runtime.device)
    out.prepare()
    if todo == "start":
        runtime.on_main(lambda: checkpoint.unlink(missing_ok=True))
    say(
        f"corpus {corpus.name}: {len(training_rows):,} descriptions to train on, {len(validation_rows):,} to validate"
        f" on; {len(vocabulary):,} words; {sum(p.numel() for p in model.parameters()):,} parameters; "
        f"{runtime.device}, {runtime.precision}"
    )
    state = fit(
        model,
        PretrainingTask(texts, training_rows, validation_rows, fit_config.batch_tokens, run.seed, runtime.device),
        build_optimizer(model.learning_rates(fit_config.learning_rate), fit_config.weight_decay),
        fit_config,
        checkpoint_path=checkpoint,
        settings=settings,
        autocast=runtime.autocast,
        resume=todo == "resume",
    )
    info = {
        "corpus": corpus.name,
        "rows": len(encoded),
        "rows_trained": len(training_rows),
        "settings": settings,
        **run_stamp(run, runtime),
        "validation_perplexity": state.best_figure,
        "best_epoch": state.best_epoch + 1,
        "seconds": round(state.seconds, 1),
    }
    results = out.results / "bilstm_training.json"

    def write() -> None:
        if kept := keep_shipped(out.models):
            say(kept)
        save_bilm(weights, model.cpu(), vocabulary, info)
        drop_shipped_classifiers(out.models)
        write_json(results, {**info, "vocabulary": len(vocabulary), "epochs": state.epochs, "curve": state.curve})
        checkpoint.unlink()

    runtime.on_main(write)
    say(
        f"Best epoch {state.best_epoch + 1}: validation perplexity {state.best_figure:.1f}, {state.seconds:,.0f} s.\n"
        f"Wrote {shown(weights)} and {shown(results)}. Next: python classification.py"
    )


def convert(options: Path, weights: Path, output: str | None) -> None:
    """The original ELMo -> a bilstm.pt."""
    from bilm import signals
    from bilm.pretrained import import_original, save_bilm
    from bilm.shipped import keep_shipped, shipped_files

    signals.let_through()
    path = Path(output) if output else ROOT / "models"
    if path.suffix != ".pt":
        path = path / "original.pt"
    found = import_original(options, weights)
    if path in shipped_files(path.parent) and (kept := keep_shipped(path.parent)):
        print(kept)
    save_bilm(path, found.model, found.vocabulary, found.info)
    print(
        f"Read {found.model.num_layers} layers of width {found.model.output_dim} from {shown(weights)}.\n"
        f"Wrote {shown(path)}. Next: python classification.py --bilm {shown(path)} --output FOLDER"
    )


if __name__ == "__main__":
    run_script(main)
