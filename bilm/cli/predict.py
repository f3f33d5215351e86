"""Classify texts with a trained model.

    python -m bilm predict "Stocks fell after the bank cut its forecast."
    python -m bilm predict --input texts.txt --format jsonl        one text per line; - for standard input
    python -m bilm predict --input news.csv --column Description   a column of a CSV, TSV, JSON lines or Parquet file
    python -m bilm predict --explain "Stocks fell ..."             the contribution of each word, by leaving it out
    python -m bilm predict --explain --html page.html "..."        the same as an HTML page
    python -m bilm predict --serve                                 a page in your browser to type texts into

Answers have the order of the texts and are printed while the texts are read, so that memory does not grow with them.
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
from typing import TYPE_CHECKING

from bilm.cli.options import ClassifierOptions, TextOptions
from bilm.cli.start import start_inference
from bilm.cli.truncation import print_truncation
from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path
from bilm.runtime.terminal import printable

if TYPE_CHECKING:
    import numpy as np

    from bilm.inference.text_classifier import TextClassifier

# Texts that are read before the first of them is classified: sorted by length, many waste less on padding. Whoever
# writes to standard input may wait for the answers.
BATCH_TEXTS, BATCH_TEXTS_STDIN = 2048, 512
DEFAULT_PORT = 8000


@dataclass(frozen=True)
class PredictOptions:
    """The form of the answers."""

    format: str = setting("table", "of the answers", choices=("table", "csv", "jsonl"))
    explain: bool = setting(False, "also show the contribution of each word")
    html: str | None = setting(None, "with --explain: write a page to this file instead")
    serve: bool = setting(False, "serve a page in your browser; it shows which texts of --input are nearest")
    port: int | None = setting(
        None, f"with --serve: of this machine (default: {DEFAULT_PORT}); 0 for any free one", below=2**16
    )

    def check(self, texts: TextOptions) -> None:
        """Raises UserError for options that exclude each other."""
        if self.serve:
            if texts.texts or self.explain or self.html or self.format != "table":
                raise UserError("--serve takes texts on its page; leave out texts, --explain, --html and --format.")
            return
        if self.port is not None:
            raise UserError("--port is for --serve.")
        texts.require()
        if self.html is not None:
            if not self.explain:
                raise UserError("--html is for --explain.")
            texts.protect(self.html, "html")
            if Path(self.html).suffix not in (".html", ".htm"):
                raise UserError(f"the name of {self.html} should end in .html.", "html")
        if self.explain and self.format != "table":
            raise UserError("--explain is printed as text, or written as a page (--html); leave out --format.")


@dataclass(frozen=True)
class Options:
    """All options of this command, by group."""

    texts: TextOptions = TextOptions()
    predict: PredictOptions = PredictOptions()
    model: ClassifierOptions = ClassifierOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, arguments=arguments, program="python -m bilm predict")
    options.predict.check(options.texts)
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.inference.text_classifier import TextClassifier
    from bilm.runtime.terminal import progress
    from bilm.text.readers import STDIN, batched

    if options.predict.serve:
        serve(options)
        return
    texts = options.texts.read()
    device = start_inference(options.model)
    precision = options.model.precision
    model = TextClassifier.load(options.model.bilm, options.model.classifier, device=device, precision=precision)
    if options.predict.explain:
        explain(model, texts, options.predict.html)
    else:
        write: Writer | None = None
        with progress(unit="text", label="classifying", disable=options.texts.input is None) as bar:
            for batch in batched(texts, BATCH_TEXTS_STDIN if options.texts.input == STDIN else BATCH_TEXTS):
                # Not before the first texts are read: a mistake in the file leaves the output empty.
                write = write or Writer(options.predict.format, model.classes)
                for text, probabilities in zip(batch, model.predict_proba(batch), strict=True):
                    write(text, probabilities)
                sys.stdout.flush()
                bar.update(len(batch))
        if write is None:
            Writer(options.predict.format, model.classes)  # the header of no texts
    print_truncation(model.vocabulary.tokenizer)


def serve(options: Options) -> None:
    """Serve the page until the command is interrupted."""
    import numpy as np

    from bilm.checkpoints.model_format import load_bilm
    from bilm.evaluation.summary import read_summary
    from bilm.inference.elmo import ELMo
    from bilm.inference.server import HOST, Nearest, create_server, model_facts
    from bilm.inference.text_classifier import TextClassifier
    from bilm.runtime.paths import results_beside
    from bilm.runtime.terminal import progress
    from bilm.text.ag_news import CLASS_NAMES
    from bilm.text.corpus import SAMPLE
    from bilm.text.readers import batched, read_texts

    bilm, device, precision = Path(options.model.bilm), start_inference(options.model), options.model.precision
    model = TextClassifier.load(bilm, options.model.classifier, device=device, precision=precision)
    elmo = ELMo(load_bilm(bilm), device, precision=precision)
    file, column = options.texts.input, options.texts.column
    if file is None and tuple(model.classes) == CLASS_NAMES and (SAMPLE / "train.csv").exists():
        file, column = str(SAMPLE / "train.csv"), "3"
    texts = list(read_texts(file, column)) if file is not None else []
    vectors = [np.zeros((0, 0), np.float32)]
    with progress(total=len(texts), unit="text", label="vectors") as bar:
        for batch in batched(texts, BATCH_TEXTS):
            vectors.append(elmo.sentence_vectors(batch))
            bar.update(len(batch))
    print_truncation(elmo.vocabulary.tokenizer)
    about = f"Of the {len(texts):,} texts of {Path(str(file)).name}; in brackets the cosine of the mean vectors."
    facts = model_facts(model, read_summary(results_beside(bilm) / "summary.json"), about)
    nearest = Nearest(elmo, texts, np.concatenate(vectors[1:] or vectors))
    port = DEFAULT_PORT if options.predict.port is None else options.predict.port
    with create_server(model, nearest, facts, port) as server:
        print(f"Open http://{HOST}:{server.server_port} in a browser; Ctrl-C ends it.", flush=True)
        server.serve_forever()


def explain(model: "TextClassifier", texts: Iterable[str], page: str | None) -> None:
    """Print each text with coloured words on a terminal, with numbers elsewhere; or write all of them to a page."""
    from bilm.inference.explanations import as_page, in_colour, in_numbers
    from bilm.runtime.files import atomic_write

    explanations = (model.explain(text) for text in texts)
    if page is not None:
        with atomic_write(Path(page)) as temporary:
            temporary.write_text(as_page(list(explanations), model.classes), encoding="utf-8")
        print(f"Wrote {display_path(Path(page))}.")
        return
    colour = sys.stdout.isatty() or os.environ.get("FORCE_COLOR")
    for explanation in explanations:
        probabilities = explanation.probabilities
        listed = ", ".join(f"{name} {p:.4f}" for name, p in zip(model.classes, probabilities, strict=True))
        print(printable(f"{model.classes[int(probabilities.argmax())]} ({listed})"))
        print(f"  {in_colour(explanation) if colour else in_numbers(explanation)}")


class Writer:
    """Write answers to standard output, in one of three forms.

    csv and jsonl are UTF-8 on every terminal and contain the texts unchanged. A table shortens texts and replaces
    characters that the terminal cannot display.
    """

    def __init__(self, form: str, classes: list[str]):
        self.form = form
        self.classes = classes
        if isinstance(sys.stdout, io.TextIOWrapper) and form == "table":
            sys.stdout.reconfigure(errors="replace")
        elif isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="\n")
        # The csv module quotes a carriage return in a text only if rows end in "\r\n".
        self._csv = csv.writer(SimpleNamespace(write=lambda row: sys.stdout.write(row.removesuffix("\r\n") + "\n")))
        # With many classes, a table has room for the largest probability only.
        self._columns = classes if len(classes) <= 6 else ["probability"]
        widths = "  ".join(f"{{:>{max(8, len(name))}}}" for name in self._columns)
        self._row = f"{{:<{max(map(len, ('class', *classes)))}}}  {widths}  {{}}"
        if form == "csv":
            # A class of one of these names would give two columns of the same name.
            columns = [f"probability of {name}" if name in ("class", "text") else name for name in classes]
            self._csv.writerow(["class", *columns, "text"])
        elif form == "table":
            print(printable(self._row.format("class", *self._columns, "text")))

    def __call__(self, text: str, probabilities: "np.ndarray") -> None:
        """probabilities: of the classes, fp32 (C,)."""
        best = self.classes[int(probabilities.argmax())]
        if self.form == "csv":
            self._csv.writerow([best, *(f"{p:.4f}" for p in probabilities), text])
        elif self.form == "jsonl":
            by_class = {name: round(float(p), 4) for name, p in zip(self.classes, probabilities, strict=True)}
            print(json.dumps({"class": best, "probabilities": by_class, "text": text}, ensure_ascii=False))
        else:
            short = " ".join(text.split())
            short = short if len(short) <= 60 else short[:59] + "…"
            values = probabilities if len(self._columns) == len(self.classes) else [probabilities.max()]
            print(printable(self._row.format(best, *(f"{p:.4f}" for p in values), short)))
