"""Set up a command: device, precision, threads, ranks, corpus and folders; decide what to do about an earlier run.

torch is imported inside functions, so that `--help` and a mistyped option answer at once.
"""

import contextlib
import datetime
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bilm.cli.options import ModelOptions, ResumeOptions, RunOptions
from bilm.runtime.errors import OtherRankError, UserError
from bilm.runtime.paths import Folders, display_path, folders
from bilm.runtime.process import allow_interrupts, at_end
from bilm.runtime.provenance import first_difference, run_settings, run_stamp

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bilm.config import TokenizerConfig
    from bilm.modules.encoder import Encoder
    from bilm.text.corpus import Corpus, Source
    from bilm.text.encoded_corpus import EncodedCorpus
    from bilm.text.tokenizer import Tokenizer
    from bilm.text.vocabulary import EncodedTexts
    from bilm.training.layer_cache import LayerCache

T = TypeVar("T")
# Tokens in a batch, including padding, for computing layers.
CACHE_BATCH_TOKENS = 8192

# --- devices and ranks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runtime:
    """Device, precision and rank of a command.

    precision: "bf16" or "fp32"; rank: the number of this process among the `processes` of torchrun.
    """

    device: "torch.device"
    precision: str
    rank: int = 0
    processes: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager:
        from bilm.runtime.device import autocast

        return autocast(self.device, self.precision)

    def seed(self, seed: int) -> None:
        """Seed this rank: ranks draw different dropout masks, but start from the same weights, those of rank 0."""
        import torch

        torch.manual_seed(seed + 1_000_003 * self.rank)

    def print(self, text: str) -> None:
        """Print on rank 0 only."""
        if self.is_main:
            print(text, flush=True)

    def on_each_machine(self, function: Callable[[], None]) -> None:
        """See Ranks.on_each_machine."""
        from bilm.runtime.distributed import Ranks

        Ranks().on_each_machine(function)

    def on_main(self, function: Callable[[], T]) -> T:
        """See Ranks.on_main."""
        from bilm.runtime.distributed import Ranks

        return Ranks().on_main(function)


def start(options: RunOptions) -> Runtime:
    """Choose device, precision and threads, join the other ranks under torchrun, seed."""
    # cuBLAS computes the same bits twice only with a workspace of fixed size, set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from bilm.runtime import threads
    from bilm.runtime.device import find_device, find_precision, keep_freed_memory, set_tf32

    keep_freed_memory()
    thread_count = threads.start(options.threads)
    processes, local_rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank >= torch.cuda.device_count() > 0:
        raise UserError(f"there are {torch.cuda.device_count()} GPUs; lower --nproc_per_node, or use --device cpu.")
    if processes > 1 and name.startswith("cuda:"):
        raise UserError(f"{name} would be used by each of the {processes} processes; name cuda.", "device")
    device = find_device(f"cuda:{local_rank}" if name == "cuda" and processes > 1 else name)
    precision = find_precision(options.precision, device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = True
        at_end(set_tf32(precision == "bf16"))  # in a run with bf16, TF32 is precise enough for the rest
    if thread_count is not None:
        thread_count.choose()
    rank = 0
    if processes > 1:
        # All ranks wait while one process of each machine reads the texts: 15 minutes for a billion words.
        timeout = datetime.timedelta(hours=2)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
        rank = torch.distributed.get_rank()
    runtime = Runtime(device, precision, rank, processes)
    allow_interrupts()
    runtime.seed(options.seed)
    return runtime


def start_inference(options: ModelOptions) -> "torch.device":
    """The device of a command that uses a model without training it; call it after all imports."""
    from bilm.runtime import threads
    from bilm.runtime.device import find_device

    threads.start(options.threads)
    device = find_device(options.device)
    allow_interrupts()
    return device


# --- runs -------------------------------------------------------------------------------------------------------------


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
        from bilm.training.layer_cache import cache_layers

        if self.device.type != "cpu" or self.processes > 1 or not limit:
            return None
        where = (CACHE_BATCH_TOKENS, self.device, self.autocast)
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


def truncation_note(num_truncated: int, num_texts: int, max_tokens: int) -> str:
    """The note for the user if texts were truncated; otherwise an empty string."""
    if not num_truncated:
        return ""
    return (
        f"Note: {num_truncated:,} of {num_texts:,} texts have more than {max_tokens:,} words; only their first "
        f"{max_tokens:,} words are read. ELMO.py --max-tokens sets the limit when a language model is pretrained."
    )


def print_truncation(tokenizer: "Tokenizer") -> None:
    """Print the note to standard error, after all texts have been read."""
    if note := truncation_note(tokenizer.num_truncated, tokenizer.num_texts, tokenizer.config.max_tokens):
        print(note, file=sys.stderr)


# --- earlier runs -----------------------------------------------------------------------------------------------------


def decide_action(unfinished: Path, options: ResumeOptions, finished: bool, warning: str | None = None) -> str:
    """Return "start", "resume" or "skip", by the options or by the user's answer at a terminal.

    unfinished: the checkpoint of an earlier run, or the folder of a study; if the new run starts over, its caller
    deletes it. finished: whether the results of a run with these settings exist; the run is then skipped with --resume
    and repeated without. warning: which other file would be replaced, if any.
    Raises UserError if nobody can be asked: neither resuming nor starting over is a safe guess.
    """
    if unfinished.exists():
        return _about_unfinished(unfinished, options)
    if finished:
        return "skip" if options.resume else "start"
    confirm_replacement(warning, options)
    return "start"


def confirm_replacement(warning: str | None, options: ResumeOptions) -> None:
    """Return if there is nothing to warn of, with --restart, or if the user agrees. Raises UserError otherwise."""
    if warning and not options.restart:
        answer = _ask(f"{warning} Replace it [r], or leave everything as it is [Enter]? ")
        if answer is None or not answer.startswith("r"):
            raise UserError(warning)


def _about_unfinished(unfinished: Path, options: ResumeOptions) -> str:
    if options.resume or options.restart:
        return "resume" if options.resume else "start"
    fact = f"there is an unfinished run in {display_path(unfinished.parent)}"
    answer = _ask(f"{fact[0].upper()}{fact[1:]}. Resume it [Enter], or drop it and start over [n]? ")
    if answer is None:
        raise UserError(f"{fact}. Resume it: --resume. Drop it and start over: --restart.")
    return "start" if answer.startswith("n") else "resume"


def _ask(question: str) -> str | None:
    """The answer in lower case; None if nobody can be asked.

    A notebook runs a command ("!python ELMO.py") on a terminal that nobody can type into. Where the output goes to a
    file, nobody sees the question.
    """
    streams = sys.stdin, sys.stdout
    in_notebook = "JPY_PARENT_PID" in os.environ
    if in_notebook or "RANK" in os.environ or not all(stream and stream.isatty() for stream in streams):
        return None
    try:
        return input(question).strip().lower()
    except EOFError:
        return None


def replacement_warning(
    weights: Path, read: Callable[[], dict[str, Any] | None], settings: dict[str, Any], advice: str = ""
) -> str | None:
    """The warning of decide_action if a finished run with other settings, or a file of no use here, would be replaced;
    otherwise None.

    read: returns the settings of the run that wrote `weights`, None if there is none, or raises UserError if they
    cannot be read or if the file is of use elsewhere; advice: another way to use that file. Raises UserError if no file
    can be written there.
    """
    _require_place_for(weights)
    try:
        saved = read()
    except UserError as error:
        return unusable_warning(weights, error)
    key = first_difference(saved, settings) if saved is not None else None
    if saved is None or key is None:
        return None
    difference = f"{key}: {saved.get(key)}, now {settings.get(key)}"
    if key in ("corpus", "unlabelled"):
        difference = f"it was trained on other {'rows' if key == 'corpus' else 'unlabelled texts'}"
    return (
        f"{display_path(weights)} was written by a finished run with other settings ({difference}). "
        f"Replace it: --restart. {advice}Keep it and write elsewhere: --output FOLDER."
    )


def unusable_warning(weights: Path, error: UserError) -> str:
    """The warning of decide_action if a file that is of no use here would be replaced.

    It may be of a newer version, or belong to another language model. error: of reading it. Raises UserError if no file
    can be written there.
    """
    _require_place_for(weights)
    reason = str(error).removeprefix(f"{weights} ")
    return (
        f"{display_path(weights)} exists, but {reason} Replace it: --restart. Keep it: move it away, or write "
        "elsewhere: --output FOLDER."
    )


def _require_place_for(weights: Path) -> None:
    """Raise UserError before hours of training, not after them, if a folder or a device has this name."""
    if weights.exists() and not weights.is_file():
        raise UserError(
            f"{display_path(weights)} is a folder or a device, where a file is to be written. Move it away, or write "
            "elsewhere: --output FOLDER."
        )
