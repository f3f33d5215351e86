"""What ELMo is measured against: TF-IDF with a linear SVM, on the same rows.

    python baselines.py      -> results/summary.json, results/predictions.json

evaluate.py then compares each classifier with it, row by row. What was chosen was chosen on the validation rows.
"""

import time
from pathlib import Path

import numpy as np

from bilm.csv_rows import read_rows
from bilm.folders import folders, shown, write_json
from bilm.options import parse_options
from utils import RunOptions, run_script, run_stamp, start

NAME = "tfidf_svm"


def main() -> None:
    (run,) = parse_options(__doc__, RunOptions)
    from bilm import summary as summaries
    from bilm.corpus import find_corpus, split_validation, text_key
    from bilm.csv_rows import CLASS_NAMES
    from bilm.evaluation import classification_figures
    from bilm.predictions import Predictions
    from bilm.tables import classifier_table, comparison_table
    from bilm.tfidf import fit_tfidf_svm

    runtime = start(run)
    corpus = find_corpus(run.data)
    out = folders(run.output, corpus.name, run.limit)
    out.hold("evaluation")
    stamp = run_stamp(run, runtime)
    path = out.results / "summary.json"
    summary = summaries.read_summary(path) or summaries.empty({"corpus": corpus.name, **stamp})
    (labels, texts), (test_labels, test_texts) = (
        _columns(corpus.path(split), run.limit) for split in ("train", "test")
    )
    training, validation = split_validation(labels, np.array([text_key(text) for text in texts], dtype=np.uint64))
    print(f"corpus {corpus.name}: TF-IDF and a linear SVM on {len(training):,} descriptions ...", flush=True)
    started = time.perf_counter()
    model, accuracies = fit_tfidf_svm(texts, labels, training, validation, run.seed)
    fitted = time.perf_counter()
    predicted = model.predict(test_texts)
    done = time.perf_counter()
    figures = classification_figures(test_labels, predicted, list(CLASS_NAMES))
    summary["baselines"][NAME] = {
        "test": figures,
        "validation_accuracy": max(accuracies.values()),
        "validation_accuracy_by_strength": accuracies,
        "rows_trained": len(training),
        "seconds_to_train": round(fitted - started, 1),
        "seconds_to_classify": round(done - fitted, 2),
        "training": {key: stamp[key] for key in ("seed", "command", "commit", "hardware", "date")},
    }
    out.prepare()
    predictions = Predictions(out.results / "predictions.json", test_labels)
    predictions.models[NAME] = predicted
    predictions.write()
    summaries.add_comparisons(summary, predictions)
    write_json(path, summary)
    print(f"\n{classifier_table(NAME, figures)}")
    if summary["paired"]:
        print(f"\n{comparison_table(summary['paired'])}")
    print(f"\nWrote {shown(path)} and {shown(predictions.path)}. Next: python evaluate.py")


def _columns(path: Path, limit: int | None) -> tuple[np.ndarray, list[str]]:
    labels, texts = zip(*read_rows(path, limit), strict=True)
    return np.array(labels), list(texts)


if __name__ == "__main__":
    run_script(main)
