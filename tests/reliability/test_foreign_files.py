"""Model files that were damaged, or made by somebody else: they load as they were, or are refused in one line."""

import builtins
import functools
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from bilm.checkpoints import serialization
from bilm.checkpoints.model_format import load_bilm, load_classifier, save_bilm, save_classifier
from bilm.config import BiLMConfig, ClassifierConfig, TokenizerConfig
from bilm.modules.classifier import Classifier, EncoderClassifier
from bilm.modules.language_model import BiLM
from bilm.runtime.errors import UserError
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import SPECIALS, Vocabulary

INFO = {"settings": {"corpus": "x"}, "rows_trained": 3, "seed": 0, "combination": {"before": {}, "after": {}}}
INFO |= {"validation_perplexity": 9.5, "validation_accuracy": 0.5}


@pytest.fixture
def files(tmp_path) -> dict[str, tuple[Path, Callable[[Path], str]]]:
    """The smallest bilstm.pt and classifier.pt, and how each is read: path -> hash of everything that was read."""
    vocabulary = Vocabulary([*SPECIALS, "a", "é"], Tokenizer(TokenizerConfig()))
    bilm = BiLM(BiLMConfig(width=2, layers=1, softmax="full"), len(vocabulary))
    save_bilm(tmp_path / "bilstm.pt", bilm, vocabulary, INFO)
    pretrained = load_bilm(tmp_path / "bilstm.pt")
    classifier = Classifier(ClassifierConfig(hidden=2), "trainable", pretrained.model, 4, seed=0)
    model = EncoderClassifier(pretrained.model, classifier, finetuned=True)
    save_classifier(tmp_path / "classifier.pt", model, pretrained, ["w", "s", "b", "t"], INFO)

    def read_bilm(path):
        result = load_bilm(path)
        config = [asdict(result.model.config), asdict(result.vocabulary.tokenizer.config)]
        return serialization.content_hash(
            [result.model.state_dict(), result.vocabulary.words, config, result.info, result.hash]
        )

    def read_classifier(path):
        result = load_classifier(path, pretrained)
        classifier = result.model.classifier
        return serialization.content_hash(
            [result.model.state_dict(), result.class_names, result.info, asdict(classifier.config), classifier.mode]
        )

    return {"bilstm": (tmp_path / "bilstm.pt", read_bilm), "classifier": (tmp_path / "classifier.pt", read_classifier)}


@pytest.mark.parametrize("name", ["bilstm", "classifier"])
@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_damage_is_refused_or_harmless(files, record, name, step):
    """Each `step`th byte with one bit turned, with all bits turned, and as a blank; and each `step`th truncation."""
    path, read = files[name]
    complete, expected, chance = path.read_bytes(), read(path), random.Random(0)
    counts = {"flips_refused": 0, "flips_harmless": 0, "truncations_refused": 0}

    def holds(content: bytes) -> bool:
        path.write_bytes(content)
        try:
            result = read(path)
        except UserError as error:
            assert "\n" not in str(error) and str(path) in str(error), error
            return False
        assert result == expected, "a file that reads differently was taken for sound"
        return True

    for position in range(0, len(complete), step):
        for changed in {complete[position] ^ (1 << chance.randrange(8)), complete[position] ^ 0xFF, 0x20} - {
            complete[position]
        }:
            damaged = complete[:position] + bytes([changed]) + complete[position + 1 :]
            counts["flips_harmless" if holds(damaged) else "flips_refused"] += 1
    for length in range(0, len(complete), step):
        assert not holds(complete[:length]), f"cut to {length} of {len(complete)} bytes"
        counts["truncations_refused"] += 1
    assert counts["flips_refused"] > counts["flips_harmless"]
    record(f"{name}.pt", {"bytes": len(complete), **counts})


class Runs:
    """Unpickled, it calls `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CODE = {
    "mkdir": lambda target: Runs(os.mkdir, target),
    "system": lambda target: Runs(os.system, f"mkdir {target}"),
    "eval": lambda target: Runs(builtins.eval, f"__import__('os').mkdir({target!r})"),
    "exec": lambda target: Runs(builtins.exec, f"import os; os.mkdir({target!r})"),
    "getattr": lambda target: Runs(builtins.getattr, Path(target), "mkdir"),
    "partial": lambda target: Runs(functools.partial(os.mkdir, target)),
    "load": lambda target: Runs(torch.load, target),
    "module": lambda target: torch.nn.Linear(1, 1),
    "array": lambda target: np.array([object()], dtype=object),
}


def as_torch(value, path):
    torch.save(value, path)


def as_old_torch(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def as_pickle(value, path):
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("write", [as_torch, as_old_torch, as_pickle])
@pytest.mark.parametrize("name", CODE)
def test_what_would_run_code_does_not(files, tmp_path, name, write):
    target = tmp_path / "ran"
    for path, read in files.values():
        content = {"words": [*SPECIALS], "weights": CODE[name](str(target))}
        write({"kind": path.stem.replace("bilstm", "bilm"), "format_version": 1, "content": content}, path)
        with pytest.raises(UserError, match=r"refused|damaged"):
            read(path)
        assert not target.exists()


def doubled(times: int) -> list:
    """Lists of one and the same list, twice: a line in the file, 2^times nodes to whoever walks through it."""
    inner: list = []
    for _ in range(times):
        inner = [inner, inner]
    return inner


def looped() -> list:
    endless: list = []
    endless.append(endless)
    return endless


STRANGE = {
    "a view of much": lambda: torch.zeros(1).expand(10**7),
    "a view of a terabyte": lambda: torch.zeros(1).expand(10**12),
    "many views": lambda: [torch.zeros(100_000).expand(10, -1)] * 100,
    "a list of lists of lists": lambda: doubled(60),
    "a list in itself": looped,
    "memory for the asking": lambda: Runs(bytearray, 10**12),
    "sparse": lambda: torch.zeros(3).to_sparse(),
    "no data": lambda: torch.zeros(3, device="meta"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_little_in_the_file_and_much_in_memory_is_refused(files, name):
    """Before it is taken, or even hashed."""
    for stem, (path, read) in files.items():
        kind = stem.replace("bilstm", "bilm")
        torch.save(
            {"kind": kind, "format_version": 1, "sha256": "0" * 64, "content": {"weights": STRANGE[name]()}}, path
        )
        with pytest.raises(UserError, match="is refused"):
            read(path)


def test_a_tensor_that_is_shared_is_no_trap(tmp_path):
    """Tied weights stand in the file once."""
    weight = torch.randn(100, 100)
    serialization.save(tmp_path / "x.pt", "bilm", {"input": weight, "output": weight, "rows": weight[:50]})
    assert torch.equal(serialization.load(tmp_path / "x.pt", "bilm")["output"], weight)


def test_an_archive_that_unpacks_to_more_than_itself_is_refused(files):
    path, read = files["bilstm"]
    with zipfile.ZipFile(path) as archive:
        members = [(member.filename, archive.read(member)) for member in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*members, ("archive/data/99", bytes(1 << 24))]:
            archive.writestr(name, content)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UserError, match="refused"):
        read(path)


@pytest.mark.parametrize("version", [0, 1, None, "2", torch.ones(2)])
def test_another_version_is_refused_by_name(files, version):
    for path, read in files.values():
        file = torch.load(path, weights_only=True)
        torch.save({**file, "format_version": version}, path)
        with pytest.raises(UserError, match="format version"):
            read(path)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("bilstm", lambda c: c.pop("words"), "words"),
        ("bilstm", lambda c: c["config"].update(attention=True), "attention"),
        ("bilstm", lambda c: c["config"].update(width=3), "size mismatch for tokens.word.weight"),
        ("bilstm", lambda c: c["config"].update(width=10**9), "overflow"),
        ("bilstm", lambda c: c["config"].update(width="wide"), "str"),
        ("bilstm", lambda c: c["config"].update(softmax="none"), "Unexpected key"),
        ("bilstm", lambda c: c["config"].update(softmax="hard"), "unknown softmax 'hard'"),
        ("bilstm", lambda c: c["config"].update(token_layer="letter"), "unknown token layer 'letter'"),
        ("bilstm", lambda c: c["config"]["characters"].update(max_characters=1), "1 characters"),
        ("bilstm", lambda c: c["config"]["characters"].update(activation="gelu"), "gelu"),
        ("bilstm", lambda c: c["config"].update(recurrence={"cell": 9}), "missing"),
        ("bilstm", lambda c: c.update(words=["a"]), "vocabulary"),
        ("bilstm", lambda c: c["info"].clear(), "rows_trained"),
        ("bilstm", lambda c: c["info"].update(validation_perplexity="good"), "good"),
        ("classifier", lambda c: c["info"].pop("combination"), "combination"),
        ("bilstm", lambda c: c.update(weights=[]), "dict"),
        ("bilstm", lambda c: c["weights"].pop("tokens.word.weight"), "Missing key"),
        ("classifier", lambda c: c.pop("mode"), "mode"),
        ("classifier", lambda c: c.update(bilm=7), "int"),
        ("classifier", lambda c: c["config"].update(hidden=7), "size mismatch"),
        ("classifier", lambda c: c.update(class_names=["one"]), "size mismatch"),
        ("classifier", lambda c: c["encoder"].update(weights={}), "Missing key"),
    ],
)
def test_a_sound_file_of_another_program_is_refused_with_the_reason(files, name, change, reason):
    path, read = files[name]
    kind = name.replace("bilstm", "bilm")
    content = serialization.load(path, kind)
    change(content)
    serialization.save(path, kind, content)
    with pytest.raises(UserError, match=reason) as error:
        read(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_weights_of_another_precision_become_the_models_own(files):
    """Copied into the model, not put in its place."""
    path, _ = files["bilstm"]
    content = serialization.load(path, "bilm")
    content["weights"] = {name: weight.double() for name, weight in content["weights"].items()}
    serialization.save(path, "bilm", content)
    assert {p.dtype for p in load_bilm(path).model.parameters()} == {torch.float32}
