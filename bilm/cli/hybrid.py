"""Train the hybrid classifier and write its files: for classification.py and `python -m bilm fit`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilm.cli.run import Run
from bilm.config import HYBRID
from bilm.runtime.paths import display_path

if TYPE_CHECKING:
    import numpy as np

    from bilm.checkpoints.model_format import Pretrained
    from bilm.modules.encoder import Encoder
    from bilm.modules.hybrid import HybridClassifier
    from bilm.modules.token_clusters import TokenClusters
    from bilm.text.encoded_corpus import EncodedCorpus
    from bilm.training.hybrid import Choice, HybridTrainer


@dataclass(frozen=True)
class HybridResult:
    """The file, what validation found, the rows to train on and to validate on in each split, int64, and the metadata
    in the file."""

    path: Path
    choice: "Choice"
    splits: list[tuple["np.ndarray", "np.ndarray"]]
    info: dict[str, Any]


def hybrid_path(run: Run) -> Path:
    """The file of the classifier."""
    return run.folders.models / f"classifier_{HYBRID}.pt"


def hybrid_settings(run: Run, **inputs: str) -> dict[str, Any]:
    """All settings that the classifier depends on; epochs and learning rates, for instance, are those of other modes.

    inputs: the identities of the texts and of the language model.
    """
    return run.settings(**inputs, mode=HYBRID)


def is_labelled(encoded: "EncodedCorpus") -> "np.ndarray":
    """Which rows have a label: bool (N,). They come before the others."""
    from bilm.text.custom_dataset import NO_LABEL

    return encoded.labels != NO_LABEL


def find_splits(encoded: "EncodedCorpus", class_names: Sequence[str]) -> list[tuple["np.ndarray", "np.ndarray"]]:
    """See validation_splits; of the labelled rows. Raises UserError if a class has a single distinct text."""
    from bilm.text.split import split_validation, validation_splits

    labelled = is_labelled(encoded)
    labels, keys = encoded.labels[labelled], encoded.keys[labelled]
    return validation_splits(labels, keys, *split_validation(labels, keys, class_names))


def train_hybrid(
    run: Run, pretrained: "Pretrained", encoded: "EncodedCorpus", class_names: Sequence[str], info: dict[str, Any]
) -> HybridResult:
    """Train on rows that were encoded with an open-ended vocabulary; write the file and the figures.

    Rows without a label come after the labelled ones, and are learned from as training.hybrid_features says.

    info: see Run.training_info. Raises UserError if the rows cannot be learned from, or a file cannot be written.
    """
    import numpy as np

    started, encoder, labelled = time.monotonic(), pretrained.model, is_labelled(encoded)
    splits = find_splits(encoded, class_names)
    # After cross-validation on all rows; where some are set aside, these stay so.
    training_rows = splits[0][0] if len(splits) == 1 else np.flatnonzero(labelled)
    # Of folds, each row is validated on in turn: the clusters, learned without labels, are then of all rows.
    clustered = np.concatenate([training_rows, np.flatnonzero(~labelled)])
    token_clusters = find_clusters(run, encoder, encoded, clustered)
    trainer = prepare_trainer(run, encoder, encoded, len(class_names), np.arange(len(encoded)), token_clusters)
    choice = trainer.choose(splits)
    classifier = trainer.fit(training_rows, choice, encoder, pooled_layers(encoder), token_clusters)
    info = {
        **info,
        **({} if labelled.all() else {"rows_unlabelled": int((~labelled).sum())}),
        "rows_trained": len(training_rows),
        **figures_of(choice, encoded, class_names),
        "validation_splits": len(splits),
        "temperature": float(classifier.temperature),
        "combination": {"before": {}, "after": {}},
        "seconds": round(time.monotonic() - started, 1),
    }
    result = HybridResult(hybrid_path(run), choice, splits, info)
    save(run, pretrained, classifier, class_names, result)
    return result


def figures_of(choice: "Choice", encoded: "EncodedCorpus", class_names: Sequence[str]) -> dict[str, Any]:
    """What validation found, under the names in the classifier's file."""
    from bilm.text.split import split_validation

    labelled = is_labelled(encoded)
    _, validation_rows = split_validation(encoded.labels[labelled], encoded.keys[labelled], class_names)
    is_right = choice.logits[validation_rows].argmax(1) == encoded.labels[validation_rows]
    return {
        "validation_accuracy": choice.accuracy,
        # Of the rows that the other modes are validated on, for the choice between them.
        "accuracy_on_validation_rows": float(is_right.mean()),
        "features": list(choice.features),
        "strength": choice.C,
        "validation_accuracies": {
            f"{'+'.join(features)} {C}": value for (features, C), value in choice.accuracies.items()
        },
    }


def save(
    run: Run,
    pretrained: "Pretrained",
    classifier: "HybridClassifier",
    class_names: Sequence[str],
    result: HybridResult,
) -> None:
    """Write the classifier and the figures of its training, and print what was found."""
    from bilm.checkpoints.model_format import save_classifier
    from bilm.modules.classifier import EncoderClassifier
    from bilm.runtime.files import write_json

    model = EncoderClassifier(pretrained.model, classifier, finetuned=False)
    save_classifier(result.path, model.cpu(), pretrained, list(class_names), result.info)
    figures = run.folders.results / f"classifier_{HYBRID}_training.json"
    write_json(figures, result.info)
    choice, num_splits = result.choice, len(result.splits)
    run.print(
        f"classifier ({HYBRID}): reads {', '.join(choice.features)}; C = {choice.C}; validation accuracy "
        f"{choice.accuracy:.4f} ({'one split' if num_splits == 1 else f'{num_splits} folds'}); "
        f"{result.info['seconds']:,.0f} s.\n  Wrote {display_path(result.path)} and {display_path(figures)}."
    )


def pooled_layers(encoder: "Encoder") -> range:
    """The numbers of the layers whose vectors are pooled: all but e0."""
    return range(1, encoder.num_layers)


def find_clusters(run: Run, encoder: "Encoder", encoded: "EncodedCorpus", rows: "np.ndarray") -> "TokenClusters":
    """Learn the clusters of the tokens of `rows`, int64. Raises UserError if there are none."""
    from bilm.training.token_clusters import learn_clusters

    return learn_clusters(
        encoder.to(run.device).eval(), encoded.texts, rows, run.device, run.autocast, run.options.seed
    )


def prepare_trainer(
    run: Run,
    encoder: "Encoder",
    encoded: "EncodedCorpus",
    num_classes: int,
    rows: "np.ndarray",
    token_clusters: "TokenClusters",
) -> "HybridTrainer":
    """Compute what `encoder` reads in `rows`, int64, labelled or not."""
    from bilm.runtime.terminal import progress
    from bilm.text.batching import evaluation_batch_tokens, iterate_batches, plan_batches
    from bilm.training.hybrid import HybridTrainer, read_layers
    from bilm.training.hybrid_features import UnlabelledTexts

    texts, labels = encoded.texts, encoded.labels
    batch_tokens = evaluation_batch_tokens(run.device)
    batches = iterate_batches(texts, rows, batch_tokens)
    total = len(plan_batches(texts.lengths[rows], batch_tokens))
    # A trial on some of the rows has no bar.
    bar = progress(batches, total=total, unit="batch", label="vectors of the texts", disable=len(rows) < len(texts))
    compute = (run.device, run.autocast)
    clusters, vectors = read_layers(encoder, pooled_layers(encoder), token_clusters, bar, len(texts), *compute)
    labelled = is_labelled(encoded)[rows]
    rows, unlabelled = rows[labelled], rows[~labelled]
    return HybridTrainer(
        texts.words(rows),
        [clusters[i] for i in rows],
        vectors[rows],
        labels[rows],
        num_classes,
        run.options.seed,
        UnlabelledTexts(texts.words(unlabelled), vectors[unlabelled]) if len(unlabelled) else None,
    )
