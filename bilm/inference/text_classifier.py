"""TextClassifier: texts -> classes and probabilities."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bilm.checkpoints.bundled import bundled_bilm
from bilm.checkpoints.model_format import Pretrained, TrainedClassifier, find_classifiers, load_bilm, load_classifier
from bilm.evaluation.scoring import class_probabilities
from bilm.inference.input_checks import check_text, check_texts
from bilm.runtime.device import autocast, find_precision
from bilm.runtime.errors import UserError
from bilm.text.batching import iterate_batches

BATCH_TOKENS = 8192


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
    """A language model and a classifier trained on its layers."""

    def __init__(
        self,
        pretrained: Pretrained,
        trained: TrainedClassifier,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
    ):
        """device, precision: see `load`."""
        self.device = torch.device(device)
        self._autocast = partial(autocast, self.device, find_precision(precision, self.device))
        self.vocabulary = pretrained.vocabulary
        self.classes = list(trained.class_names)
        self.info = trained.info
        self.hash = trained.hash
        self._model = trained.model.to(self.device).eval()

    @classmethod
    def load(
        cls,
        bilm: str | Path | None = None,
        classifier: str | Path | None = None,
        *,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
    ) -> "TextClassifier":
        """Load a language model and a classifier.

        bilm: file of the language model, by default the models/bilstm.pt of this repository. classifier: its file, by
        default the classifier in the folder of `bilm` with the best validation accuracy. precision: see `ELMo.load`.

        Raises UserError when a file is missing or damaged, when the classifier belongs to another language model, or
        when the device cannot compute in bf16.
        """
        file = bundled_bilm() if bilm is None else Path(bilm)
        pretrained = load_bilm(file)
        path = Path(classifier) if classifier else best_classifier(file.parent, pretrained)
        return cls(pretrained, load_classifier(path, pretrained), device, precision)

    def predict_proba(self, texts: Iterable[str | Iterable[str]]) -> np.ndarray:
        """Compute the probabilities of `classes`: fp32 (N, C). A text may be a list of words (see ELMo.embed).

        Raises TypeError as `input_checks.check_texts`.
        """
        return self._probabilities(list(map(self.vocabulary.tokenizer.words_of, check_texts(texts))))

    def predict(self, texts: Iterable[str | Iterable[str]]) -> list[str]:
        """Return the most probable class of each text. Raises TypeError as `predict_proba`."""
        return [self.classes[i] for i in self.predict_proba(texts).argmax(1)]

    def words(self, text: str) -> list[str]:
        """Tokenize a text: the words that the model reads of it."""
        return self.vocabulary.tokenizer(text)

    def explain(self, text: str | Iterable[str], of: str | None = None) -> Explanation:
        """Compute how much each word contributes to class `of` (by default the most probable one), by leaving it out.

        Raises ValueError when there is no such class, TypeError as `input_checks.check_text`.
        """
        words = self.vocabulary.tokenizer.words_of(check_text(text))
        probabilities = self._probabilities([words, *([*words[:i], *words[i + 1 :]] for i in range(len(words)))])
        chosen = int(probabilities[0].argmax()) if of is None else self.classes.index(of)
        odds = np.log(probabilities[:, chosen]) - np.log1p(-np.minimum(probabilities[:, chosen], 1 - 1e-7))
        return Explanation(probabilities[0], words, odds[0] - odds[1:])

    def _probabilities(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        encoded = self.vocabulary.encode_words(texts)
        batches = iterate_batches(encoded, np.arange(len(encoded)), BATCH_TOKENS)
        return class_probabilities({"": self._model}, batches, len(encoded), self.device, self._autocast)[""]


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
