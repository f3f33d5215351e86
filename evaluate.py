"""Print what the language model and the classifiers are worth: accuracy, precision, recall, F1, confusion matrices.

    python evaluate.py                  on the test rows
    python evaluate.py --split train    on the rows they were trained on
    python evaluate.py --split all      on both
    python evaluate.py --train FILE --test FILE --text-column NAME --label-column NAME    of your own texts
    python evaluate.py --robustness     also with typing errors, and on the rows with the most unknown words

Where several classifiers stand on the language model, the mean of their probabilities is evaluated as the ensemble;
where baselines.py has been run, each is compared with its classifiers, row by row.

Writes results/summary.json (kept up to date: what is not evaluated now stays as it was), results/predictions.json,
results/mistakes.json (of the classifier that is best on validation) and results/figures/*.png.
Besides this script baselines.py, lambda_study.py and label_efficiency.py score models on test.csv; benchmark.py reads
it for its speed.
"""

import os
import sys
from dataclasses import dataclass

from bilm.cli.options import EncoderOptions, RunOptions, truncation_note
from bilm.cli.run import start
from bilm.config import ENSEMBLE
from bilm.runtime.errors import UserError
from bilm.runtime.files import write_json
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path, folders
from bilm.runtime.process import run_script
from bilm.runtime.provenance import run_stamp


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate."""

    split: str = setting("test", "rows to evaluate on", choices=("test", "train", "all"))
    robustness: bool = setting(
        False, "also classify the test rows with typing errors, and those with the most unknown words by themselves"
    )
    duplicates: bool = setting(False, "also tell the test rows that a training row nearly repeats from the rest")
    batch_tokens: int = setting(8192, "tokens in a batch, padding counted in")


def main() -> None:
    # In fp32 by default: figures should not depend on whose machine prints them.
    run, standing, options = parse_options(__doc__, RunOptions(precision="fp32"), EncoderOptions, EvaluationOptions)
    if options.robustness and options.split == "train":
        raise UserError("--robustness is of the test rows: --split test, or all.")
    if options.duplicates and options.split == "train":
        raise UserError("--duplicates is of the test rows: --split test, or all.")
    # oneDNN keeps the code it makes for each shape of a product, 1,024 of them by default. Here hardly two are alike,
    # and gigabytes would gather; training pads them to few.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    # Imported once the command line is understood: torch takes seconds, and --help needs none of it.
    import numpy as np

    from bilm.checkpoints.pretrained import find_classifiers, load_bilm, load_classifier
    from bilm.evaluation import summary as summaries
    from bilm.evaluation.error_analysis import typical_mistakes
    from bilm.evaluation.figures import draw_results
    from bilm.evaluation.near_duplicates import find_duplicates
    from bilm.evaluation.predictions import read_predictions, write_predictions
    from bilm.evaluation.robustness import robustness
    from bilm.evaluation.scoring import class_probabilities, classification_figures, evaluate_language_model
    from bilm.evaluation.tables import (
        classifier_table,
        comparison_table,
        duplicate_table,
        language_model_table,
        robustness_table,
    )
    from bilm.runtime.terminal import progress
    from bilm.text.batching import iterate_batches, plan_batches
    from bilm.text.encoded_corpus import encode, open_encoded
    from bilm.text.split import split_validation

    runtime = start(run)
    if runtime.processes > 1:
        raise UserError("evaluation takes one process; call it without torchrun.")
    corpus = run.corpus()
    splits = ("test", "train") if options.split == "all" else (options.split,)
    if "test" in splits:
        corpus.path("test")  # which may be missing
    out = folders(run.output, corpus.name, run.limit)
    out.lock("evaluation")
    sources = {split: corpus.source(split, run.limit) for split in corpus.splits}
    hashes = {split: source.identity for split, source in sources.items()}
    class_names = list(corpus.classes)
    pretrained = load_bilm(standing.file(run, out.models / "bilstm.pt"))
    files = find_classifiers(out.models, pretrained)
    for error in files.damaged.values():
        raise error
    classifiers = {mode: load_classifier(path, pretrained) for mode, path in files.paths.items()}
    if options.duplicates and pretrained.info["settings"]["corpus"] not in (hashes["train"], None):
        raise UserError(f"--duplicates: {corpus.path('train')} is not what bilstm.pt was pretrained on.")
    if files.mismatched and not classifiers:
        raise UserError(next(iter(files.mismatched.values())))
    for mode, trained in classifiers.items():
        if trained.class_names != class_names:
            raise UserError(f"{files.paths[mode].name} tells other classes apart than those of {corpus.train}.")
    for message in files.mismatched.values():
        print(f"Left out: {message}", file=sys.stderr)
    models = {mode: trained.model.to(runtime.device) for mode, trained in classifiers.items()}
    pretrained.model.to(runtime.device)
    path = out.results / "summary.json"
    stamp = {"corpus": corpus.name, **run_stamp(run, runtime)}
    predictions = read_predictions(out.results / "predictions.json", hashes)
    summary = summaries.begin(summaries.read_summary(path), pretrained, hashes.get("test"), stamp)

    for split in splits:
        source = sources[split]
        if split == "train" and pretrained.info["settings"]["corpus"] not in (source.identity, None):
            raise UserError(f"{source.path} is not what bilstm.pt was pretrained on.")
        place = out.encoded("evaluation") / split
        encode(source, pretrained.vocabulary, place)
        encoded = open_encoded(place)
        texts, labels = encoded.texts, encoded.labels
        rows = split_validation(labels, encoded.keys, class_names)[0] if split == "train" else np.arange(len(texts))

        def batches(label: str, texts=texts, rows=rows):
            total = len(plan_batches(texts.lengths[rows], options.batch_tokens))
            return progress(iterate_batches(texts, rows, options.batch_tokens), total=total, unit="batch", label=label)

        def probabilities_of(label: str, texts=texts, rows=rows):
            where = (len(texts), runtime.device, runtime.autocast)
            found = class_probabilities(models, batches(label, texts, rows), *where)
            return {name: probabilities[rows] for name, probabilities in found.items()}

        def classify(label: str, texts=texts, rows=rows, probabilities_of=probabilities_of):
            return {name: found.argmax(1) for name, found in probabilities_of(label, texts, rows).items()}

        print(f"\n=== {corpus.name}, {split}: {len(rows):,} descriptions ===\n", flush=True)
        max_tokens = pretrained.vocabulary.tokenizer.config.max_tokens
        if note := truncation_note(encoded.num_truncated, len(encoded), max_tokens):
            print(f"{note}\n")
        if pretrained.model.softmax is None:
            print("The language model was imported without its softmax: there is nothing to say of its predictions.")
        else:
            language = evaluate_language_model(
                pretrained.model, pretrained.vocabulary, batches("language model"), runtime.device, runtime.autocast
            )
            print(language_model_table(language), flush=True)
            summaries.add_language_model(summary, pretrained, split, language)
        if not models:
            continue  # the last line says so
        probabilities = probabilities_of("classifiers")
        classes = {name: values.argmax(1) for name, values in probabilities.items()}
        members = {mode: trained.hash for mode, trained in classifiers.items()}
        names = members | {ENSEMBLE: summaries.name_of_ensemble(members)}
        for name, predicted in classes.items():
            figures = classification_figures(labels[rows], predicted, class_names)
            print(f"\n{classifier_table(name, figures)}", flush=True)
            if name == ENSEMBLE:
                summaries.add_ensemble(summary, members, split, figures)
            else:
                summaries.add_classifier(summary, name, classifiers[name], split, figures)
            if split == "test":
                predictions.models[name] = (names[name], predicted)
        if split == "test":
            predictions.labels = labels
            best = files.best
            assert best is not None
            given = [text for _, text in source.rows()]
            stood = {"corpus": corpus.name, **run_stamp(run, runtime), "classifier": best, "hash": members[best]}
            stood["rows_trained"] = pretrained.info["rows_trained"]
            mistakes = stood | typical_mistakes(labels, probabilities[best], given, class_names)
            write_json(out.results / "mistakes.json", mistakes)
        if options.duplicates and split == "test":
            predictions.near_duplicates = find_duplicates(corpus, run.limit)
        if options.robustness and split == "test":
            labelled = source.rows()
            harder = robustness(classes, labels, labelled, pretrained.vocabulary, texts, classify, run.seed)
            for name, values in harder.items():
                summaries.add_robustness(summary, name, values)
            print(f"\n{robustness_table(harder)}", flush=True)

    summaries.refresh_comparisons(summary, predictions)
    if summary["paired"]:
        print(f"\n{comparison_table(summaries.with_strongest(summary))}", flush=True)
    if summary["paired_classifiers"]:
        print(f"\n{comparison_table(summary['paired_classifiers'])}", flush=True)
    if summary["near_duplicates"]:
        print(f"\n{duplicate_table(summary['near_duplicates'])}", flush=True)
    summary["peak_memory_mb"] = run_stamp(run, runtime)["peak_memory_mb"]  # of all that has been done by now
    if predictions.labels is not None:
        write_predictions(out.results / "predictions.json", predictions)
    write_json(path, summary)
    drawn = draw_results(out.results, summary)
    print(f"\nWrote {display_path(path)} and {len(drawn)} figures in {display_path(out.results / 'figures')}.")
    if not classifiers:
        print(f"No classifier stands on this language model yet. Next: python classification.py{run.data_options()}")


if __name__ == "__main__":
    run_script(main)
