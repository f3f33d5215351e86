"""A run: a command that trains or evaluates, with its corpus and its folders."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilm.cli.options import RunOptions
from bilm.cli.start import Runtime, start
from bilm.cli.truncation import truncation_note
from bilm.runtime.errors import OtherRankError, UserError
from bilm.runtime.paths import Folders, folders
from bilm.runtime.process import at_end
from bilm.runtime.provenance import run_settings, run_stamp

if TYPE_CHECKING:
    import numpy as np

    from bilm.config import TokenizerConfig
    from bilm.modules.encoder import Encoder
    from bilm.text.corpus import Corpus, Source
    from bilm.text.encoded_corpus import EncodedCorpus
    from bilm.text.vocabulary import EncodedTexts
    from bilm.training.layer_cache import LayerCache


@dataclass(frozen=True, kw_only=True)
class Run(Runtime):
    """A command that has been set up: its device, its corpus and its folders."""

    options: RunOptions
    corpus: "Corpus"
    folders: Folders

    def settings(self, *groups: Any, **inputs: str) -> dict[str, Any]:
        """See provenance.run_settings."""
        return run_settings(self.options, self, *groups, **inputs)

    def stamp(self) -> dict[str, Any]:
        """The corpus, and provenance.run_stamp."""
        return {"corpus": self.corpus.name, **run_stamp(self.options, self)}

    def encode(self, write: Callable[[Path], None]) -> "EncodedCorpus":
        """The ids of the training rows: one process of each machine writes them to a folder, every process opens it."""
        from bilm.text.encoded_corpus import open_encoded

        folder = self.folders.encoded("training")
        self.on_each_machine(lambda: write(folder))
        return open_encoded(folder)

    def print_rows(
        self,
        encoded: "EncodedCorpus",
        training_rows: "np.ndarray",
        validation_rows: "np.ndarray",
        tokenizer: "TokenizerConfig",
        model: str,
    ) -> None:
        """Print the numbers of rows, the `model`, the device, and how many texts are truncated."""
        self.print(
            f"corpus {self.corpus.name}: {len(training_rows):,} texts to train on, {len(validation_rows):,} to "
            f"validate on; {model}; {self.device}, {self.precision}"
        )
        if note := truncation_note(encoded.num_truncated, len(encoded), tokenizer.max_tokens):
            self.print(note)

    def cache_layers(self, encoder: "Encoder", texts: "EncodedTexts", limit: float = math.inf) -> "LayerCache | None":
        """The layers of a fixed encoder in at most `limit` bytes on disk, until the command ends; None if impossible.

        None also on a GPU, which computes them faster than a disk reads them, and under torchrun, whose ranks may not
        share a disk.
        """
        from bilm.text.batching import evaluation_batch_tokens
        from bilm.training.layer_cache import cache_layers

        if self.device.type != "cpu" or self.processes > 1 or not limit:
            return None
        where = (evaluation_batch_tokens(self.device), self.device, self.autocast)
        cache = cache_layers(encoder, texts, self.folders.runs, limit, *where)
        if cache is not None:
            at_end(cache.close)
        return cache

    def training_info(self, source: "Source", rows: int, rows_trained: int, settings: dict[str, Any]) -> dict[str, Any]:
        """Metadata of the training, which is saved with the model."""
        data = {"corpus": self.corpus.name, "rows": rows, "rows_trained": rows_trained, "data": source.stamp()}
        return {**data, "settings": settings, **self.stamp()}

    def next_command(self, script: str, options: str = "") -> str:
        """The sentence "Next: python SCRIPT ...", with the same data and output."""
        return f"Next: python {script}{self.options.data_options()}{options}"

    def next_evaluation(self, options: str = "") -> str:
        """The sentence that says how to evaluate; where there are no test rows, their file is to be named."""
        if self.corpus.test:
            return self.next_command("evaluate.py", options)
        return self.next_command("evaluate.py", f" --test FILE{options}") + "   (FILE: rows to test on)"

    def next_after_pretraining(self, options: str = "") -> str:
        """The sentence that says what to do with a language model."""
        if self.corpus.classes:
            return self.next_command("classification.py", options)
        return "These texts have no labels. Next: python -m bilm vectors (or neighbours, lm) with --bilm and this file."


def open_run(options: RunOptions, purpose: str, single_process: bool = False) -> Run:
    """Set up a command: see `start`; find the corpus; lock the folders for "training" or "evaluation".

    Raises UserError if another process holds the lock, or if a single-process command runs under torchrun.
    """
    runtime = start(options)
    if single_process and runtime.processes > 1:
        kind = UserError if runtime.is_main else OtherRankError
        raise kind("this command runs in one process; start it without torchrun.")
    corpus = runtime.on_main(options.corpus)
    run = Run(
        **vars(runtime), options=options, corpus=corpus, folders=folders(options.output, corpus.name, options.limit)
    )
    run.on_main(lambda: run.folders.lock(purpose))
    return run
