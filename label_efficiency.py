"""How few labels suffice: accuracy on test from 25 and 250 labelled descriptions a class, ELMo beside TF-IDF.

    python label_efficiency.py      -> results/label_efficiency.json

The language model has read all training descriptions, without labels; TF-IDF counts its words in all of them, too. The
strength of each regression is chosen on the validation rows, once for all draws of a size.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bilm.config import setting
from bilm.errors import UserError
from bilm.folders import folders, shown, write_json
from bilm.options import parse_options
from utils import EncoderOptions, RunOptions, run_script, run_stamp, start

SIZES = (25, 250)
# C of the regressions to choose from: of vectors of variance 1, and of TF-IDF, whose texts are of length 1.
STRENGTHS, STRENGTHS_TFIDF = (0.001, 0.003, 0.01, 0.03, 0.1), (1.0, 10.0, 100.0, 1000.0)
# Texts without a label that self-training learns from: more of them take longer and add nothing that was seen.
UNLABELLED = 15_000


@dataclass(frozen=True)
class DrawOptions:
    """How often."""

    draws: int = setting(10, "random choices of the labelled rows, of each size", at_least=2)


def main() -> None:
    run, standing, options = parse_options(__doc__, RunOptions(precision="fp32"), EncoderOptions, DrawOptions)
    # Imported once the command line is understood: torch takes seconds, and --help needs none of it.
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    from bilm.batching import iterate_batches, plan_batches
    from bilm.corpus import find_corpus, split_validation, text_key
    from bilm.csv_rows import read_rows
    from bilm.few_labels import draw, project, self_train
    from bilm.pretrained import load_bilm
    from bilm.progress import progress
    from bilm.tables import table
    from bilm.text_vectors import mean_layers

    runtime = start(run)
    if runtime.processes > 1:
        raise UserError("this takes one process; call it without torchrun.")
    corpus = find_corpus(run.data)
    out = folders(run.output, corpus.name, run.limit)
    out.hold("evaluation")
    pretrained = load_bilm(standing.file(run, out.models / "bilstm.pt"))
    rows = {split: list(read_rows(corpus.path(split), run.limit)) for split in ("train", "test")}
    texts = [text for _, text in rows["train"] + rows["test"]]
    labels = np.array([label for label, _ in rows["train"] + rows["test"]])
    known = len(rows["train"])
    keys = np.array([text_key(text) for text in texts[:known]], dtype=np.uint64)
    training, validation = split_validation(labels[:known], keys)
    test = np.arange(known, len(texts))
    present, counted = np.unique(labels[training], return_counts=True)
    sizes = [n for n in SIZES if n < counted.min()]
    if len(present) < 2 or not sizes:
        raise UserError(f"it takes two classes or more, and more than {SIZES[0]} training rows of each.")

    encoded = pretrained.vocabulary.encode(texts)
    total, everything = len(plan_batches(encoded.lengths, 8192)), np.arange(len(texts))
    batches = progress(iterate_batches(encoded, everything, 8192), total=total, unit="batch", label="vectors")
    encoder = pretrained.model.to(runtime.device)
    vectors = mean_layers(encoder, batches, len(texts), runtime.device, runtime.autocast)
    vectors = project(vectors[:, 1:], training)  # without e0: a text's words alone add nothing to e1 and e2
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    counts = words.fit([texts[i] for i in training]).transform(texts)

    def supervised(x: Any) -> Callable:
        return lambda chosen, strength: LogisticRegression(C=strength, max_iter=1000).fit(x[chosen], labels[chosen])

    def self_training(chosen: np.ndarray, strength: float) -> Any:
        return self_train(vectors, labels, chosen, np.setdiff1d(unlabelled, chosen), strength)

    unlabelled = np.random.default_rng(run.seed).permutation(training)[:UNLABELLED]
    methods: dict[str, tuple[Any, tuple[float, ...], Callable]] = {
        "tfidf": (counts, STRENGTHS_TFIDF, supervised(counts)),
        "elmo": (vectors, STRENGTHS, supervised(vectors)),
        "elmo_self_training": (vectors, STRENGTHS, self_training),
    }
    found: dict[str, dict[str, Any]] = {}
    for size in sizes:
        draws = [draw(labels, training, size, run.seed + n) for n in range(options.draws)]
        found[str(size)] = {}
        for name, (x, strengths, fit) in methods.items():
            label = f"{name}, {size} labels a class"
            scores: dict[float, list[tuple[float, float]]] = {strength: [] for strength in strengths}
            pairs = [(strength, chosen) for strength in strengths for chosen in draws]
            for strength, chosen in progress(pairs, total=len(pairs), unit="fit", label=label):
                right = fit(chosen, strength).predict(x) == labels
                scores[strength].append((float(right[validation].mean()), float(right[test].mean())))
            means = {strength: statistics.mean(v for v, _ in pairs) for strength, pairs in scores.items()}
            best = max(strengths, key=means.__getitem__)
            accuracies = [on_test for _, on_test in scores[best]]
            found[str(size)][name] = {
                "strength": best,
                "validation_accuracy": means[best],
                "test_accuracy": statistics.mean(accuracies),
                "test_accuracy_std": statistics.stdev(accuracies),
                "test_accuracies": accuracies,
            }
    result = {
        "corpus": corpus.name,
        **run_stamp(run, runtime),
        "rows_trained": pretrained.info["rows_trained"],
        "rows_without_label": len(unlabelled),
        "draws": options.draws,
        "bilm": pretrained.hash,
        "labels_per_class": found,
    }
    path = out.results / "label_efficiency.json"
    write_json(path, result)
    shares = {name: [found[str(n)][name] for n in sizes] for name in methods}
    lines = [
        [name, *(f"{f['test_accuracy']:.4f} ± {f['test_accuracy_std']:.4f}" for f in figures)]
        for name, figures in shares.items()
    ]
    print(f"\n{table(lines, [f'test accuracy, {options.draws} draws', *(f'{n} labels a class' for n in sizes)])}")
    print(f"\nWrote {shown(path)}.")


if __name__ == "__main__":
    run_script(main)
