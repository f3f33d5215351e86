"""Classify texts with the weights in models/.

    python -m bilm predict "Stocks fell after the bank cut its forecast."
    python -m bilm predict --input texts.txt --format jsonl        a text a line; - for standard input
    python -m bilm predict --input news.csv --column Description   a column of a CSV, TSV, JSON lines or Parquet file
    python -m bilm predict --explain "Stocks fell ..."             which words decided, by leaving each out
    python -m bilm predict --explain --html page.html "..."        the same as a page
    python -m bilm predict --serve                                 a page to type texts into, in your browser

Answers come in the order of the texts, a portion at a time, however many there are.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bilm.cli.options import TextOptions
from bilm.cli.run import start_answering
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting, threads_setting
from bilm.runtime.paths import ROOT, display_path
from bilm.runtime.terminal import printable

# Texts that are read before the first of them are answered.
PORTION = 512


@dataclass(frozen=True)
class PredictOptions:
    """How to say what they are."""

    format: str = setting("table", "of the answers", choices=("table", "csv", "jsonl"))
    explain: bool = setting(False, "also show which words decided")
    html: str | None = setting(None, "with --explain: write a page to this file instead")
    serve: bool = setting(
        False, "answer to a page in your browser; the texts of --input are those that it shows the nearest of"
    )
    port: int | None = setting(
        None, "with --serve: of this machine (default: 8000); 0 for any that is free", below=2**16
    )


@dataclass(frozen=True)
class ModelOptions:
    """With which weights."""

    bilm: str = setting(str(ROOT / "models" / "bilstm.pt"), "the language model")
    classifier: str | None = setting(None, "the classifier (default: the best on validation of those beside it)")
    device: str = setting("cpu", "cpu, cuda, cuda:1, auto ...")
    threads: int | None = threads_setting()


def main(arguments: Sequence[str] | None = None) -> None:
    given, options, which = parse_options(
        __doc__, TextOptions, PredictOptions, ModelOptions, arguments=arguments, program="python -m bilm predict"
    )
    if options.serve:
        if given.texts or options.explain or options.html or options.format != "table":
            raise UserError("--serve takes texts on its page; leave out texts, --explain, --html and --format.")
        serve(given, options.port, which)
        return
    if options.port is not None:
        raise UserError("--port is for --serve.")
    given.require()
    if options.html and not options.explain:
        raise UserError("--html is for --explain.")
    if options.explain and options.format != "table":
        raise UserError("--explain is shown as text, or as a page (--html); leave out --format.")
    # torch takes seconds to import; a mistyped option is told at once.
    from bilm.cli.options import print_truncation
    from bilm.inference.text_classifier import TextClassifier
    from bilm.runtime.terminal import progress
    from bilm.text.readers import batched

    texts = given.read()
    model = TextClassifier.load(which.bilm, which.classifier, device=start_answering(which))
    if options.explain:
        explain(model, texts, options.html)
        print_truncation(model.vocabulary.tokenizer)
        return
    write = Writer(options.format, model.classes)
    bar = progress(unit="text", label="classifying", disable=given.input is None)
    with bar:
        for portion in batched(texts, PORTION):
            for text, probabilities in zip(portion, model.predict_proba(portion), strict=True):
                write(text, probabilities)
            sys.stdout.flush()
            bar.update(len(portion))
    print_truncation(model.vocabulary.tokenizer)


def serve(given: TextOptions, port: int | None, which: ModelOptions) -> None:
    """Until it is told to stop."""
    import numpy as np

    from bilm.checkpoints.pretrained import load_bilm
    from bilm.cli.options import print_truncation
    from bilm.evaluation.summary import read_summary
    from bilm.inference.elmo import ELMo
    from bilm.inference.server import HOST, Nearest, model_facts
    from bilm.inference.server import serve as listen
    from bilm.inference.text_classifier import TextClassifier
    from bilm.runtime.paths import results_beside
    from bilm.runtime.terminal import progress
    from bilm.text.ag_news import CLASS_NAMES
    from bilm.text.corpus import SAMPLE
    from bilm.text.readers import batched, read_texts

    bilm, device = Path(which.bilm), start_answering(which)
    model, elmo = TextClassifier.load(bilm, which.classifier, device=device), ELMo(load_bilm(bilm), device)
    source, column = given.input, given.column
    if source is None and tuple(model.classes) == CLASS_NAMES:
        source, column = str(SAMPLE / "train.csv"), "3"
    texts = list(read_texts(source, column)) if source is not None else []
    vectors = [np.zeros((0, 0), np.float32)]
    with progress(total=len(texts), unit="text", label="vectors") as bar:
        for portion in batched(texts, PORTION):
            vectors.append(elmo.sentence_vectors(portion))
            bar.update(len(portion))
    print_truncation(elmo.vocabulary.tokenizer)
    about = f"Of the {len(texts):,} texts of {Path(str(source)).name}; in brackets the cosine of the mean vectors."
    known = model_facts(model, read_summary(results_beside(bilm) / "summary.json"), about)
    nearest = Nearest(elmo, texts, np.concatenate(vectors[1:] or vectors))
    with listen(model, nearest, known, 8000 if port is None else port) as server:
        print(f"Open http://{HOST}:{server.server_port} in a browser; Ctrl-C ends it.", flush=True)
        server.serve_forever()


def explain(model: Any, texts: Iterable[str], page: str | None) -> None:
    """Each text with its words coloured, on a terminal; weights as numbers elsewhere; or all on a page."""
    from bilm.inference.explanations import as_page, in_colour, in_numbers
    from bilm.runtime.files import write_text

    colour = sys.stdout.isatty() or os.environ.get("FORCE_COLOR")
    explanations = (model.explain(text) for text in texts)
    if page is not None:
        write_text(Path(page), as_page(list(explanations), model.classes))
        print(f"Wrote {display_path(Path(page))}.")
        return
    for found in explanations:
        shares = ", ".join(f"{name} {p:.4f}" for name, p in zip(model.classes, found.probabilities, strict=True))
        print(printable(f"{model.classes[int(found.probabilities.argmax())]} ({shares})"))
        print(f"  {in_colour(found) if colour else in_numbers(found)}")


class Writer:
    """Answers to standard output, in one of three forms.

    csv and jsonl are UTF-8 on every terminal, and texts in them can be read back as they were. A table shortens texts,
    and replaces what a terminal cannot show.
    """

    def __init__(self, form: str, classes: list[str]):
        self.form = form
        self.classes = classes
        if isinstance(sys.stdout, io.TextIOWrapper) and form == "table":
            sys.stdout.reconfigure(errors="replace")
        elif isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="\n")
        # Rows that end in "\r\n" for the csv module: with "\n" it leaves a carriage return in a text without quotes.
        # Rows that end in "\r\n" for the csv module: with "\n" it leaves a carriage return in a text without quotes.
        self._csv = csv.writer(SimpleNamespace(write=lambda row: sys.stdout.write(row.removesuffix("\r\n") + "\n")))
        # Where they are many, a table has room for the likeliest alone.
        self._columns = classes if len(classes) <= 6 else ["probability"]
        widths = "  ".join(f"{{:>{max(8, len(name))}}}" for name in self._columns)
        self._row = f"{{:<{max(map(len, ('class', *classes)))}}}  {widths}  {{}}"
        if form == "csv":
            self._csv.writerow(["class", *classes, "text"])
        elif form == "table":
            print(printable(self._row.format("class", *self._columns, "text")))

    def __call__(self, text: str, probabilities: Any) -> None:
        best = self.classes[int(probabilities.argmax())]
        if self.form == "csv":
            self._csv.writerow([best, *(f"{p:.4f}" for p in probabilities), text])
        elif self.form == "jsonl":
            shares = {name: round(float(p), 4) for name, p in zip(self.classes, probabilities, strict=True)}
            print(json.dumps({"class": best, "probabilities": shares, "text": text}, ensure_ascii=False))
        else:
            short = " ".join(text.split())
            short = short if len(short) <= 60 else short[:59] + "…"
            figures = probabilities if len(self._columns) == len(self.classes) else [probabilities.max()]
            print(printable(self._row.format(best, *(f"{p:.4f}" for p in figures), short)))
