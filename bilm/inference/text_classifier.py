"""A trained classifier as a library: texts in, classes and probabilities out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bilm.checkpoints.bundled import bundled_bilm
from bilm.checkpoints.pretrained import Pretrained, TrainedClassifier, find_classifiers, load_bilm, load_classifier
from bilm.evaluation.scoring import class_probabilities
from bilm.inference.input_checks import check_text, check_texts
from bilm.runtime.errors import UserError
from bilm.text.batching import iterate_batches

BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Explanation:
    """probabilities: of the classes; words: of the text as the model reads it; weights: of each word, fp32 (n,).

    A word's weight is by how much the logarithm of the odds of the class in question falls when the word is left out.
    """

    probabilities: np.ndarray
    words: list[str]
    weights: np.ndarray


class TextClassifier:
    """The language model of a bilstm.pt and a classifier on it."""

    def __init__(self, pretrained: Pretrained, trained: TrainedClassifier, device: str | torch.device = "cpu"):
        self.device = torch.device(device)
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
    ) -> "TextClassifier":
        """bilm: file of a language model; without one, the models/bilstm.pt of this repository.
        classifier: its file; without one, that on `bilm`, in the same folder, that is best on validation.

        Raises UserError when a file is missing, damaged, or of another language model.
        """
        file = bundled_bilm() if bilm is None else Path(bilm)
        pretrained = load_bilm(file)
        path = Path(classifier) if classifier else best_classifier(file.parent, pretrained)
        return cls(pretrained, load_classifier(path, pretrained), device)

    def predict_proba(self, texts: Iterable[str | Iterable[str]]) -> np.ndarray:
        """Probabilities of `classes`: fp32 (N, C). A text may be given as a list of its words (see ELMo.embed).

        Raises TypeError as `input_checks.check_texts`.
        """
        return self._probabilities(list(map(self.vocabulary.tokenizer.words_of, check_texts(texts))))

    def predict(self, texts: Iterable[str | Iterable[str]]) -> list[str]:
        """The likeliest class of each text. Raises TypeError as `predict_proba`."""
        return [self.classes[i] for i in self.predict_proba(texts).argmax(1)]

    def words(self, text: str) -> list[str]:
        """What is read of a text."""
        return self.vocabulary.tokenizer(text)

    def explain(self, text: str | Iterable[str], of: str | None = None) -> Explanation:
        """What each word contributes to class `of`, the likeliest one if it is not named, by leaving it out.

        Raises ValueError when there is no such class, TypeError when `text` is no text and no list of words.
        """
        words = self.vocabulary.tokenizer.words_of(check_text(text))
        without = [[*words[:i], *words[i + 1 :]] for i in range(len(words))]
        probabilities = self._probabilities([words, *without])
        chosen = int(probabilities[0].argmax()) if of is None else self.classes.index(of)
        odds = np.log(probabilities[:, chosen]) - np.log1p(-np.minimum(probabilities[:, chosen], 1 - 1e-7))
        return Explanation(probabilities[0], words, odds[0] - odds[1:])

    def _probabilities(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        encoded = self.vocabulary.encode_words(texts)
        batches = iterate_batches(encoded, np.arange(len(encoded)), BATCH_TOKENS)
        where = (len(encoded), self.device, torch.no_grad)
        return class_probabilities({"": self._model}, batches, *where)[""]


def best_classifier(folder: Path, pretrained: Pretrained) -> Path:
    """The classifier in `folder` on this language model that is best on validation. Raises UserError without one."""
    found = find_classifiers(folder, pretrained)
    for error in found.damaged.values():
        raise error
    if found.best is None:
        raise UserError(f"no classifier in {folder} was trained on its bilstm.pt. Train one: python classification.py")
    return found.paths[found.best]
