"""TextClassifier: texts -> classes and probabilities."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bilm.checkpoints.bundled import bundled_bilm
from bilm.checkpoints.classifier_files import find_classifiers
from bilm.checkpoints.ensembles import SUFFIX, read_ensemble
from bilm.checkpoints.model_format import (
    Pretrained,
    TrainedClassifier,
    load_bilm,
    load_classifier,
    load_complete_classifier,
    vocabulary_for,
)
from bilm.checkpoints.serialization import content_hash
from bilm.config import ENSEMBLE
from bilm.evaluation.scoring import class_probabilities
from bilm.inference.input_checks import check_text, check_texts
from bilm.runtime.device import autocast, find_device, find_precision
from bilm.runtime.errors import UserError
from bilm.text.batching import inference_batch_tokens, iterate_batches


@dataclass(frozen=True)
class Explanation:
    """The contribution of each word of a text to the log-odds of a class.

    probabilities: of all classes, fp32 (C,); words: as the model reads them; weights: by how much the log-odds of the
    class fall when the word is left out, fp32 (n,).
    """

    probabilities: np.ndarray
    words: list[str]
    weights: np.ndarray


class TextClassifier:
    """A classifier trained on the layers of a language model; or an ensemble of classifiers.

    classes: their names, in the order of the probabilities; device: where it computes; vocabulary: words and tokenizer
    of the language model; info: training data, settings and validation accuracy, as the classifier's file has them;
    hash: identifies the weights. Of an ensemble, `vocabulary` and most of `info` are those of its first classifier, and
    `hash` is computed from the hashes of all.
    """

    def __init__(
        self, members: Sequence[TrainedClassifier], device: str | torch.device = "cpu", precision: str = "fp32"
    ):
        """device, precision: see `load`."""
        self.device = find_device(device)
        self._autocast = partial(autocast, self.device, find_precision(precision, self.device))
        by_vocabulary: dict[int, list[TrainedClassifier]] = {}
        for trained in members:
            by_vocabulary.setdefault(id(trained.vocabulary), []).append(trained)
            trained.model.to(self.device).eval()
        self._groups = [
            (vocabulary_for(group[0].vocabulary, group), [trained.model for trained in group])
            for group in by_vocabulary.values()
        ]
        self.vocabulary = self._groups[0][0]
        first = members[0]
        self._settings = [trained.info.get("settings", {}) for trained in members]
        self._data = [trained.info.get("data", {}) for trained in members]
        self.classes, self.info, self.hash = list(first.class_names), first.info, first.hash
        if len(members) > 1:
            rows = max(trained.info["rows_trained"] for trained in members)
            settings = {"mode": ENSEMBLE}
            self.info = {**first.info, "rows_trained": rows, "settings": settings, "combination": {"after": {}}}
            self.hash = content_hash([trained.hash for trained in members])

    @classmethod
    def load(
        cls,
        bilm: str | Path | None = None,
        classifier: str | Path | None = None,
        *,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
    ) -> "TextClassifier":
        """Load a classifier and its language model, or an ensemble.

        bilm: file of the language model, by default the models/bilstm.pt of this repository. classifier: its file, by
        default the classifier in the folder of `bilm` with the best validation accuracy; or the .json of an ensemble.
        A fine-tuned classifier contains its language model, and an ensemble names those of its members: `bilm` is not
        read then. precision: see `ELMo.load`.

        Raises UserError when a file is missing or damaged, when the classifier belongs to another language model, or
        when the device cannot compute in bf16.
        """
        if classifier is not None and Path(classifier).suffix == SUFFIX:
            return cls(read_ensemble(Path(classifier)), device, precision)
        if classifier is not None and (complete := load_complete_classifier(Path(classifier))):
            return cls([complete], device, precision)
        file = bundled_bilm() if bilm is None else Path(bilm)
        pretrained = load_bilm(file)
        path = Path(classifier) if classifier else best_classifier(file.parent, pretrained)
        return cls([load_classifier(path, pretrained)], device, precision)

    def predict_proba(self, texts: Iterable[str | Iterable[str]]) -> np.ndarray:
        """Compute the probabilities of `classes`: fp32 (N, C). A text may be a list of words (see ELMo.embed).

        Raises TypeError as `input_checks.check_texts`.
        """
        return self._probabilities(list(check_texts(texts)))

    def predict(self, texts: Iterable[str | Iterable[str]]) -> list[str]:
        """Return the most probable class of each text. Raises TypeError as `predict_proba`."""
        return [self.classes[i] for i in self.predict_proba(texts).argmax(1)]

    @property
    def trained_on(self) -> set[tuple[str | None, int | None]]:
        """The identity of the training file, and the limit on its rows, of each classifier."""
        return {(settings.get("corpus"), settings.get("limit")) for settings in self._settings}

    @property
    def training_files(self) -> set[str]:
        """The SHA-256 of the training file of each classifier, whatever its columns were called."""
        return {data["sha256"] for data in self._data if "sha256" in data}

    def words(self, text: str) -> list[str]:
        """Tokenize a text: the words that the model reads of it. Raises TypeError as `input_checks.check_text`."""
        return self.vocabulary.tokenizer.words_of(check_text(text))

    def explain(self, text: str | Iterable[str], of: str | None = None) -> Explanation:
        """Compute how much each word contributes to class `of` (by default the most probable one), by leaving it out.

        Raises ValueError when there is no such class, TypeError as `input_checks.check_text`.
        """
        text = check_text(text)
        if of is not None and of not in self.classes:
            raise ValueError(f"there is no class {of!r}; the classes are {', '.join(map(repr, self.classes))}")
        words = self.vocabulary.tokenizer.words_of(text)
        probabilities = self._probabilities([words, *([*words[:i], *words[i + 1 :]] for i in range(len(words)))])
        # Of several language models, each has its own tokenizer, and the words are those of the first.
        answer = probabilities[0] if len(self._groups) == 1 else self._probabilities([text], [words])[0]
        chosen = int(answer.argmax()) if of is None else self.classes.index(of)
        # Where the classifier is certain, 1 - p is 0, while the sum of the other probabilities is not.
        smallest, others = np.finfo(np.float32).tiny, np.delete(probabilities, chosen, axis=1).sum(1, dtype=np.float64)
        odds = np.log(np.maximum(probabilities[:, chosen], smallest)) - np.log(np.maximum(others, smallest))
        return Explanation(answer, words, (odds[0] - odds[1:]).astype(np.float32))

    def _probabilities(self, texts: Sequence[Any], first: Sequence[Any] | None = None) -> np.ndarray:
        """The mean over all members, fp32 (N, C); a text is a string or a list of words.

        first: the same texts as words of the first language model, so that its tokenizer does not count them again.
        """
        found: list[np.ndarray] = []
        for i, (vocabulary, models) in enumerate(self._groups):
            own = texts if i or first is None else first
            encoded = vocabulary.encode_words(map(vocabulary.tokenizer.words_of, own))
            batches = iterate_batches(encoded, np.arange(len(encoded)), inference_batch_tokens(self.device))
            named = {str(i): model for i, model in enumerate(models)}
            by_name = class_probabilities(named, batches, len(encoded), self.device, self._autocast)
            found += [by_name[name] for name in named]
        return found[0] if len(found) == 1 else np.mean(found, axis=0)


def best_classifier(folder: Path, pretrained: Pretrained) -> Path:
    """Return the file of the classifier on `pretrained` in `folder` with the best validation accuracy.

    Raises UserError when there is none, or when a file is damaged.
    """
    classifiers = find_classifiers(folder, pretrained)
    for error in classifiers.damaged.values():
        raise error
    if classifiers.best is None:
        raise UserError(f"no classifier in {folder} was trained on its bilstm.pt. Train one: python classification.py")
    return classifiers.paths[classifiers.best]
