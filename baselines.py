"""What ELMo is measured against: TF-IDF with a linear SVM, on the same rows.

    python baselines.py      -> results/summary.json, results/predictions.json

evaluate.py then compares each classifier with it, row by row. What was chosen was chosen on the validation rows.
"""

import time
from pathlib import Path
from typing import Any

from bilm.errors import UserError
from bilm.folders import folders, shown, write_json
from bilm.options import parse_options
from utils import RunOptions, run_script, run_stamp, start

NAME = "tfidf_svm"


def main() -> None:
    (run,) = parse_options(__doc__, RunOptions)
    # Imported once the command line is understood: --help needs none of it.
    import numpy as np

    from bilm import summary as summaries
    from bilm.checkpoint import content_hash
    from bilm.corpus import SPLITS, find_corpus, split_validation, text_key
    from bilm.csv_rows import CLASS_NAMES, file_hash
    from bilm.evaluation import classification_figures
    from bilm.predictions import read_predictions, write_predictions
    from bilm.tables import classifier_table, comparison_table
    from bilm.tfidf import fit_tfidf_svm

    runtime = start(run)
    if runtime.processes > 1:
        raise UserError("the baselines take one process; call it without torchrun.")
    corpus = find_corpus(run.data)
    out = folders(run.output, corpus.name, run.limit)
    out.hold("evaluation")
    stamp = run_stamp(run, runtime)
    path, predictions_path = out.results / "summary.json", out.results / "predictions.json"
    summary = summaries.read_summary(path) or summaries.empty({"corpus": corpus.name, **stamp})
    hashes = {split: file_hash(corpus.path(split)) for split in SPLITS}
    predictions = read_predictions(predictions_path, hashes)
    labels, texts = _columns(corpus.path("train"), run.limit)
    test_labels, test_texts = _columns(corpus.path("test"), run.limit)
    keys = np.array([text_key(text) for text in texts], dtype=np.uint64)
    training, validation = split_validation(labels, keys)
    print(f"corpus {corpus.name}: TF-IDF and a linear SVM on {len(training):,} descriptions ...", flush=True)
    started = time.perf_counter()
    model, accuracies = fit_tfidf_svm(texts, labels, training, validation, run.seed)
    fitted = time.perf_counter()
    predicted = model.predict(test_texts)
    done = time.perf_counter()
    figures = classification_figures(test_labels, predicted, list(CLASS_NAMES))
    name = content_hash([hashes, predicted.tolist()])
    summary["baselines"][NAME] = {
        "hash": name,
        "test": figures,
        "validation_accuracy": max(accuracies.values()),
        "validation_accuracy_by_strength": accuracies,
        "rows_trained": len(training),
        "seconds_to_train": round(fitted - started, 1),  # once for each strength
        "seconds_to_classify": round(done - fitted, 2),
        "training": {key: stamp[key] for key in ("seed", "command", "commit", "hardware", "date")},
    }
    predictions.labels = test_labels
    predictions.models[NAME] = (name, predicted)
    summaries.settle(summary, predictions)
    write_predictions(predictions_path, predictions)
    write_json(path, summary)
    print(f"\n{classifier_table(NAME, figures)}")
    if summary["paired"]:
        print(f"\n{comparison_table(summary['paired'])}")
    print(f"\nWrote {shown(path)} and {shown(predictions_path)}. Next: python evaluate.py")


def _columns(path: Path, limit: int | None) -> tuple[Any, list[str]]:
    """Labels, int64 (N,), and texts."""
    import numpy as np

    from bilm.csv_rows import read_rows

    labels, texts = zip(*read_rows(path, limit), strict=True)
    return np.array(labels), list(texts)


if __name__ == "__main__":
    run_script(main)
