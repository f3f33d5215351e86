"""The files that travel: bilstm.pt, which stands alone, and classifier*.pt, which names the bilstm.pt it stands on.

Weights that were trained here are kept in half precision, which halves the files. What is imported stays as it was.
"""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bilm.checkpoints import serialization
from bilm.checkpoints.original_elmo import read_original
from bilm.config import MODES, BiLMConfig, ClassifierConfig, bilm_config
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.language_model import BiLM
from bilm.modules.softmax import AdaptiveSoftmax
from bilm.runtime.errors import UserError
from bilm.runtime.files import atomic_write, file_hash, reject_malformed
from bilm.runtime.provenance import first_difference
from bilm.text.tokenizer import Tokenizer, read_config
from bilm.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Pretrained:
    """model: in eval mode; info: what it was trained on and how it did (see ELMO.py); hash: names the weights."""

    model: BiLM
    vocabulary: Vocabulary
    info: dict[str, Any]
    hash: str


def identity(model: BiLM, vocabulary: Vocabulary) -> str:
    """SHA-256 over weights, shape and words: what a classifier names the language model by that it was trained on.

    Computed when the file is written, of the weights as they were trained, before they are halved, and kept in it:
    later names for the same weights orphan no classifier, and runs that end alike to the last bit have the same one.
    """
    content = {"weights": model.state_dict(), "config": asdict(model.config), "words": vocabulary.words}
    return serialization.content_hash(content)


def in_half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices in fp16; vectors and numbers, among them the lambdas and gamma, as they are.

    So is a matrix with a value that fp16 does not hold: it would become infinite.
    """
    largest = torch.finfo(torch.float16).max
    return {name: w.half() if w.dim() > 1 and not (w.abs() > largest).any() else w for name, w in weights.items()}


def save_bilm(path: Path, model: BiLM, vocabulary: Vocabulary, info: dict[str, Any]) -> None:
    weights = model.state_dict()
    serialization.save(
        path,
        "bilm",
        {
            "config": asdict(model.config),
            "tokenizer": asdict(vocabulary.tokenizer.config),
            "words": vocabulary.words,
            "weights": weights if "imported" in info else in_half_precision(weights),
            "id": identity(model, vocabulary),
            "info": info,
        },
    )


def load_bilm(path: Path) -> Pretrained:
    """Raises UserError when `path` is missing, damaged or another kind of file."""
    if not path.exists():
        raise UserError(
            f"there is no {path}. Train it first (python ELMO.py, with the same options for data and output), or "
            "name another file.",
            "bilm",
        )
    saved = serialization.load(path, "bilm")
    with reject_malformed(path):
        config = bilm_config(saved["config"])
        info = _checked(saved["info"], rows_trained=int, validation_perplexity=float | None, settings=dict)
        tokenizer = Tokenizer(read_config(saved["tokenizer"], info))
        vocabulary = Vocabulary(saved["words"], tokenizer, config.reads_characters)
        model = _bilm(config, len(vocabulary), saved["weights"])
        return Pretrained(model.eval(), vocabulary, info, saved["id"])


def import_original(options: Path, weights: Path) -> Pretrained:
    """The original ELMo from the two files of its published format. Raises UserError as `read_original`."""
    model, vocabulary = read_original(options, weights)
    info = {
        "corpus": "of the original ELMo",
        "rows_trained": 0,
        "validation_perplexity": None,
        "settings": {"corpus": None},
        "imported": {"options": file_hash(options), "weights": file_hash(weights)},
    }
    return Pretrained(model, vocabulary, info, identity(model, vocabulary))


def _checked(info: dict[str, Any], **types: type | UnionType) -> dict[str, Any]:
    """`info`, which must hold these keys. Raises TypeError or KeyError."""
    for key, kind in types.items():
        if not isinstance(info[key], kind):
            raise TypeError(f"{key} is {info[key]!r}")
    return info


class _NoNormalDraws(TorchFunctionMode):
    """Within this context `nn.init.normal_` leaves its tensor unchanged."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **(kwargs or {}))


def _bilm(config: BiLMConfig, vocabulary_size: int, weights: dict[str, Any]) -> BiLM:
    """Build a BiLM with the given weights, without drawing initial values first.

    The model is built on the device "meta", so that shapes are compared before memory is allocated. Drawing from a
    normal distribution there makes torch import its compiler, which takes a second.
    """
    with torch.device("meta"), _NoNormalDraws():
        model = BiLM(config, vocabulary_size)
    # assign=True keeps the tensors of the file instead of copying them.
    model.load_state_dict(weights, assign=True)
    return model.float()


@dataclass(frozen=True)
class TrainedClassifier:
    """model: encoder and classifier in eval mode; info: as classification.py wrote it; hash: names its weights."""

    model: EncoderClassifier
    class_names: list[str]
    info: dict[str, Any]
    hash: str


def save_classifier(
    path: Path, model: EncoderClassifier, bilm_hash: str, class_names: list[str], info: dict[str, Any]
) -> None:
    """The classifier's weights; of the encoder only its name, unless it was tuned along.

    Then all of it but the softmax, which it does not use.
    """
    classifier = model.classifier
    finetuned = {name: w for name, w in model.encoder.state_dict().items() if not name.startswith("softmax.")}
    serialization.save(
        path,
        "classifier",
        {
            "config": asdict(classifier.config),
            "mode": classifier.mode,
            "class_names": class_names,
            "bilm": bilm_hash,
            "weights": in_half_precision(classifier.state_dict()),
            "tuned_encoder": in_half_precision(finetuned) if model.finetuned else None,
            "id": serialization.content_hash([classifier.state_dict(), finetuned if model.finetuned else None]),
            "info": info,
        },
    )


class OtherLanguageModel(UserError):
    """A classifier was trained on another bilstm.pt than the one at hand."""


def _require_language_model(path: Path, saved: dict[str, Any], pretrained: Pretrained) -> None:
    if saved["bilm"] != pretrained.hash:
        raise OtherLanguageModel(
            f"{path} was trained on another language model ({saved['bilm'][:12]}) than the bilstm.pt at hand "
            f"({pretrained.hash[:12]}). Train a classifier on this one: python classification.py",
            *("mode", "bilm", "output"),
        )


def load_classifier(path: Path, pretrained: Pretrained) -> TrainedClassifier:
    """The classifier in `path` on top of `pretrained`. Raises OtherLanguageModel when it was trained on another one."""
    saved = serialization.load(path, "classifier")
    with reject_malformed(path):
        _require_language_model(path, saved, pretrained)
        bilm, finetuned = pretrained.model, saved["tuned_encoder"] is not None
        if finetuned:
            config = replace(bilm.config, softmax="none")
            bilm = _bilm(config, bilm.vocabulary_size, saved["tuned_encoder"])
        shape, names = ClassifierConfig(**saved["config"]), saved["class_names"]
        classifier = Classifier(shape, saved["mode"], bilm, len(names), seed=0)
        classifier.load_state_dict(saved["weights"])
        model = EncoderClassifier(bilm, classifier, finetuned).eval()
        info = _checked(saved["info"], validation_accuracy=float, settings=dict, combination=dict, seed=int)
        return TrainedClassifier(model, names, info, saved["id"])


@dataclass(frozen=True)
class ClassifierFiles:
    """The classifiers in a folder that were trained on one language model.

    paths: of each mode's file; accuracies: on validation, of the same modes; mismatched: for each mode whose file was
    trained on another language model, the message that says so; damaged: files that cannot be read, with the reason.
    """

    paths: dict[str, Path]
    accuracies: dict[str, float]
    mismatched: dict[str, str]
    damaged: dict[Path, UserError]

    @property
    def best(self) -> str | None:
        """The mode with the highest validation accuracy: the one rule by which classifier.pt is chosen."""
        return max(self.accuracies, key=self.accuracies.__getitem__, default=None)


def find_classifiers(folder: Path, pretrained: Pretrained) -> ClassifierFiles:
    """A mode's classifier is classifier_MODE.pt; where there is none, classifier.pt, if it is of that mode."""
    found = ClassifierFiles({}, {}, {}, {})
    for path in [*(folder / f"classifier_{mode}.pt" for mode in MODES), folder / "classifier.pt"]:
        if not path.exists():
            continue
        try:
            saved = serialization.load(path, "classifier")
            with reject_malformed(path):
                mode, accuracy = str(saved["mode"]), float(saved["info"]["validation_accuracy"])
                if mode in found.paths or mode in found.mismatched:
                    continue
                _require_language_model(path, saved, pretrained)
                found.paths[mode], found.accuracies[mode] = path, accuracy
        except OtherLanguageModel as error:
            found.mismatched[mode] = str(error)
        except UserError as error:
            found.damaged[path] = error
    modes = [mode for mode in MODES if mode in found.paths]
    return replace(
        found,
        paths={mode: found.paths[mode] for mode in modes},
        accuracies={mode: found.accuracies[mode] for mode in modes},
    )


def keep_best_classifier(folder: Path, pretrained: Pretrained) -> str:
    """Make classifier.pt of `folder` the classifier that is best on validation; returns its mode.

    A classifier of another mode that classifier.pt alone held is kept under the name of that mode. Files that cannot be
    read are no candidates; evaluate.py names them. Raises ValueError when there is no candidate.
    """
    found, target = find_classifiers(folder, pretrained), folder / "classifier.pt"
    if found.best is None:
        raise ValueError(f"no classifier in {folder} was trained on this language model")
    source = found.paths[found.best]
    if source != target:
        for mode, path in found.paths.items():
            if path == target:
                target.rename(folder / f"classifier_{mode}.pt")
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
    return found.best


def finished_settings(path: Path, kind: str) -> dict[str, Any] | None:
    """The settings of the run that wrote `path`; None where there is no such file, or it cannot be read."""
    with contextlib.suppress(UserError), reject_malformed(path):
        return dict(serialization.load(path, kind)["info"]["settings"])
    return None


def was_trained_with(path: Path, kind: str, settings: dict[str, Any]) -> bool:
    """Whether `path` holds the outcome of a run with these settings; a file that cannot be read does not."""
    saved = finished_settings(path, kind)
    return saved is not None and first_difference(saved, settings) is None


@torch.no_grad()
def extend_vocabulary(start: Pretrained, vocabulary_size: int, dropout: float) -> BiLM:
    """A model of the shape of `start`, with this many words and this dropout. Raises UserError when it has no softmax.

    The first rows of what has a row for each word are those of `start`, and all else is.
    """
    old = start.model
    if old.softmax is None:
        raise UserError(
            "this language model was imported without its softmax; it cannot be trained further.", "start_from"
        )
    config = replace(old.config, dropout=dropout)
    if isinstance(old.softmax, AdaptiveSoftmax):
        config = replace(config, cutoffs=old.softmax.edges[:-1])
    model = BiLM(config, vocabulary_size)
    known = old.state_dict()
    for name, weight in model.state_dict().items():
        weight[: len(known[name])].copy_(known[name]) if weight.dim() else weight.copy_(known[name])
    return model
