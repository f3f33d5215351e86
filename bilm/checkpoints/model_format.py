"""The language model's file, bilstm.pt, and the classifiers' files, classifier*.pt, each for one language model.

Trained weights are saved in half precision, which halves the files; imported weights keep their precision.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bilm.checkpoints import serialization
from bilm.checkpoints.original_elmo import read_original
from bilm.config import HYBRID, BiLMConfig, ClassifierConfig, FitConfig, bilm_config, saved_config
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.hybrid import HybridClassifier, HybridConfig
from bilm.modules.language_model import BiLM
from bilm.runtime.errors import UserError
from bilm.runtime.files import file_hash, reject_malformed
from bilm.runtime.provenance import first_difference
from bilm.text.tokenizer import Tokenizer, read_config
from bilm.text.vocabulary import Vocabulary

# Settings of the other modes, which earlier files of hybrid classifiers contain: they have no effect on these.
_WITHOUT_EFFECT_ON_HYBRID = {"encoder_learning_rate"}.union(
    field.name for group in (ClassifierConfig, FitConfig) for field in fields(group)
)


@dataclass(frozen=True)
class Pretrained:
    """A language model from a file.

    model: in eval mode; info: its training data, settings and perplexity; hash: identifies the weights.
    """

    model: BiLM
    vocabulary: Vocabulary
    info: dict[str, Any]
    hash: str


def identity(model: BiLM, vocabulary: Vocabulary) -> str:
    """Return the SHA-256 of weights, configuration and words, by which a classifier refers to its language model.

    It is computed from the weights in full precision and saved in the file, so that classifiers still refer to it when
    the names of the weights change later, and so that it is the same for runs whose weights have the same bits.
    """
    content = {"weights": model.state_dict(), "config": saved_config(model.config), "words": vocabulary.words}
    return serialization.content_hash(content)


def in_half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert matrices to fp16; leave vectors and scalars, among them the lambdas and gamma, unchanged.

    A matrix with a value outside the range of fp16, which would become infinite, is left unchanged, too.
    """
    largest = torch.finfo(torch.float16).max
    return {name: w.half() if w.dim() > 1 and not (w.abs() > largest).any() else w for name, w in weights.items()}


def save_bilm(path: Path, model: BiLM, vocabulary: Vocabulary, info: dict[str, Any]) -> None:
    """Write a language model to `path`. Raises UserError when writing fails."""
    weights = model.state_dict()
    serialization.save(
        path,
        "bilm",
        {
            "config": saved_config(model.config),
            "tokenizer": asdict(vocabulary.tokenizer.config),
            "words": vocabulary.words,
            "weights": weights if "imported" in info else in_half_precision(weights),
            "id": identity(model, vocabulary),
            "info": info,
        },
    )


def load_bilm(path: Path) -> Pretrained:
    """Return the language model in `path`. Raises UserError when the file is missing, damaged or of another kind."""
    if not path.exists():
        raise UserError(
            f"there is no {path}. Train it first (python ELMO.py, with the same options for data and output), or name "
            "another file.",
            "bilm",
        )
    saved = serialization.load(path, "bilm")
    with reject_malformed(path):
        config = bilm_config(saved["config"])
        info = _require_types(saved["info"], rows_trained=int, validation_perplexity=float | None, settings=dict)
        tokenizer = Tokenizer(read_config(saved["tokenizer"], info))
        vocabulary = Vocabulary(saved["words"], tokenizer, config.reads_characters)
        model = _build_bilm(config, len(vocabulary), saved["weights"])
        return Pretrained(model.eval(), vocabulary, info, saved["id"])


def import_original(options: Path, weights: Path) -> Pretrained:
    """Return the original ELMo from its two published files. Raises UserError as `read_original` does."""
    model, vocabulary = read_original(options, weights)
    info = {
        "corpus": "of the original ELMo",
        "rows_trained": 0,
        "validation_perplexity": None,
        "settings": {"corpus": None},
        "imported": {"options": file_hash(options), "weights": file_hash(weights)},
    }
    return Pretrained(model, vocabulary, info, identity(model, vocabulary))


def _require_types(info: dict[str, Any], **types: type | UnionType) -> dict[str, Any]:
    """Return `info`. Raises KeyError when one of these keys is missing, TypeError when its value has another type."""
    for key, kind in types.items():
        if not isinstance(info[key], kind):
            raise TypeError(f"{key} is {info[key]!r}")
    return info


class _NoNormalDraws(TorchFunctionMode):
    """Within this context `nn.init.normal_` leaves its tensor unchanged."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **(kwargs or {}))


def _build_bilm(config: BiLMConfig, vocabulary_size: int, weights: dict[str, Any]) -> BiLM:
    """Build a BiLM with the given weights, without drawing initial values first.

    The model is built on the device "meta", so that shapes are compared before memory is allocated. Drawing from a
    normal distribution there makes torch import its compiler, which takes a second.
    """
    with torch.device("meta"), _NoNormalDraws():
        model = BiLM(config, vocabulary_size)
    # assign=True keeps the tensors of the file instead of copying them.
    model.load_state_dict(weights, assign=True)
    return model.float()


def vocabulary_for(vocabulary: Vocabulary, classifiers: Iterable["TrainedClassifier"]) -> Vocabulary:
    """The vocabulary to encode texts with: open-ended if one of the classifiers reads all words of a text."""
    reads_words = any(isinstance(trained.model.classifier, HybridClassifier) for trained in classifiers)
    return vocabulary.opened() if reads_words else vocabulary


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier from a file.

    model: encoder and classifier in eval mode; vocabulary: that of the encoder; info: its training data, settings and
    accuracy; hash: identifies its weights; bilm_hash: the language model that it was trained on.
    """

    model: EncoderClassifier
    vocabulary: Vocabulary
    class_names: list[str]
    info: dict[str, Any]
    hash: str
    bilm_hash: str


def save_classifier(
    path: Path, model: EncoderClassifier, pretrained: Pretrained, class_names: list[str], info: dict[str, Any]
) -> None:
    """Write a classifier to `path`, with the hash of its language model. Raises UserError when writing fails.

    A fine-tuned encoder is saved with it, vocabulary included, so that the file can be used without bilstm.pt. The
    softmax is left out: the classifier does not use it.
    """
    classifier, finetuned, encoder = model.classifier, None, None
    if model.finetuned:
        finetuned = {name: w for name, w in model.encoder.state_dict().items() if not name.startswith("softmax.")}
        encoder = {
            "config": saved_config(replace(pretrained.model.config, softmax="none")),
            "tokenizer": asdict(pretrained.vocabulary.tokenizer.config),
            "words": pretrained.vocabulary.words,
            "weights": in_half_precision(finetuned),
        }
    serialization.save(
        path,
        "classifier",
        {
            "config": asdict(classifier.config),
            "mode": classifier.mode,
            "class_names": class_names,
            "bilm": pretrained.hash,
            "weights": in_half_precision(classifier.state_dict()),
            "encoder": encoder,
            "id": serialization.content_hash([classifier.state_dict(), finetuned]),
            "info": info,
        },
    )


class LanguageModelMismatch(UserError):
    """A classifier was trained on another language model than the present one."""


def require_language_model(path: Path, saved: dict[str, Any], pretrained: Pretrained) -> None:
    """Raise LanguageModelMismatch if the classifier in `path` was trained on another one than `pretrained`."""
    if saved["bilm"] != pretrained.hash:
        raise LanguageModelMismatch(
            f"{path} was trained on another language model ({saved['bilm'][:12]}) than the one in use "
            f"({pretrained.hash[:12]}). Train a classifier on this one: python classification.py",
            *("mode", "bilm", "output"),
        )


def load_classifier(path: Path, pretrained: Pretrained) -> TrainedClassifier:
    """Return the classifier in `path`, with `pretrained` or its fine-tuned copy as the encoder.

    Raises LanguageModelMismatch when it was trained on another language model, UserError when the file cannot be read.
    """
    saved = _read_classifier(path)
    with reject_malformed(path):
        require_language_model(path, saved, pretrained)
        if saved["encoder"] is None:
            return _build_trained(saved, pretrained.model, pretrained.vocabulary)
        config = replace(pretrained.model.config, softmax="none")
        encoder = _build_bilm(config, len(pretrained.vocabulary), saved["encoder"]["weights"])
        return _build_trained(saved, encoder, pretrained.vocabulary)


def load_complete_classifier(path: Path) -> TrainedClassifier | None:
    """Return the classifier in `path` if its file contains its encoder; None if it needs its language model's file.

    Raises UserError when the file cannot be read.
    """
    saved = _read_classifier(path)
    with reject_malformed(path):
        if not is_complete(saved):
            return None
        content = saved["encoder"]
        config = bilm_config(content["config"])
        tokenizer = Tokenizer(read_config(content["tokenizer"], saved["info"]))
        vocabulary = Vocabulary(content["words"], tokenizer, config.reads_characters)
        return _build_trained(saved, _build_bilm(config, len(vocabulary), content["weights"]), vocabulary)


def is_complete(saved: dict[str, Any]) -> bool:
    """Whether the content of a classifier's file includes its encoder, so that it needs no other file."""
    encoder = saved.get("encoder")
    return isinstance(encoder, dict) and "words" in encoder


def _read_classifier(path: Path) -> dict[str, Any]:
    """Return the content of the file in present terms.

    See serialization.FORMAT_VERSION: fine-tuned encoders without their shape and vocabulary, and other names.
    """
    saved = serialization.load(path, "classifier")
    with reject_malformed(path):
        if "tuned_encoder" in saved:
            weights = saved.pop("tuned_encoder")
            saved["encoder"] = None if weights is None else {"weights": weights}
        renamed = {
            key: {name.replace("pieces", "characters"): value for name, value in saved[key].items()}
            for key in ("config", "weights")
        }
        return saved | renamed


def _build_trained(saved: dict[str, Any], encoder: BiLM, vocabulary: Vocabulary) -> TrainedClassifier:
    names = saved["class_names"]
    classifier = _build_classifier(saved["mode"], saved["config"], encoder, len(names))
    # Earlier format versions have no temperature or no clusters.
    absent = {name: w for name, w in classifier.state_dict().items() if "clusters" in name and not w.numel()}
    classifier.load_state_dict({"temperature": torch.ones(())} | absent | saved["weights"])
    model = EncoderClassifier(encoder, classifier, finetuned=saved["encoder"] is not None).eval()
    info = _require_types(saved["info"], validation_accuracy=float, settings=dict, combination=dict, seed=int)
    return TrainedClassifier(model, vocabulary, names, info, saved["id"], saved["bilm"])


def _build_classifier(
    mode: str, config: dict[str, Any], encoder: BiLM, num_classes: int
) -> Classifier | HybridClassifier:
    if mode == HYBRID:
        return HybridClassifier(
            HybridConfig(**{name: tuple(values) for name, values in config.items()}), encoder, num_classes
        )
    return Classifier(ClassifierConfig(**config), mode, encoder, num_classes, seed=0)


def finished_settings(path: Path, kind: str) -> dict[str, Any] | None:
    """Return the settings of the run that wrote `path`, but for those without effect; None when there is no file.

    Raises UserError when there is one that cannot be read.
    """
    info = saved_info(path, kind)
    if info is None:
        return None
    unused = _WITHOUT_EFFECT_ON_HYBRID if info["settings"].get("mode") == HYBRID else set()
    return {name: value for name, value in info["settings"].items() if name not in unused}


def saved_info(path: Path, kind: str) -> dict[str, Any] | None:
    """Return what `path` says of the training of its weights; None when there is no file.

    Raises UserError when there is one that cannot be read: it may be damaged, or of a newer version of this program.
    """
    if not path.exists():
        return None
    with reject_malformed(path):
        info = dict(serialization.load(path, kind)["info"])
        return info | {"settings": dict(info["settings"])}


def was_trained_with(path: Path, kind: str, settings: dict[str, Any]) -> bool:
    """Whether `path` was written by a run with these settings; False when it is missing or cannot be read."""
    with contextlib.suppress(UserError):
        saved = finished_settings(path, kind)
        return saved is not None and first_difference(saved, settings) is None
    return False
