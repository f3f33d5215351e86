"""The original ELMo's files: compared with a forward pass in NumPy, and with outputs of the original program."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import SAMPLE, run_script
from original_files import OPTIONS, SENTENCES, datasets, write

from bilm import ELMo
from bilm.checkpoints.model_format import import_original, load_bilm, save_bilm
from bilm.checkpoints.original_elmo import read_original
from bilm.runtime.errors import UserError


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    return write(tmp_path / "original", OPTIONS, datasets(OPTIONS, np.random.default_rng(0)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class NumpyELMo:
    """The forward pass in fp64, one word and one step at a time, from the published format."""

    def __init__(self, options: dict, weights: dict[str, np.ndarray]):
        self.options = options
        self.weights = {name: values.astype(np.float64) for name, values in weights.items()}
        self.states: dict = {}

    def characters(self, word: str | None, mark: int = 0) -> list[int]:
        """Return ids from 0 to 260, the original's before it adds one; `mark` 256 and 257 begin and end a sentence."""
        longest = self.options["char_cnn"]["max_characters_per_token"]
        inside = [mark] if word is None else list(word.encode())[: longest - 2]
        codes = [258, *inside, 259]
        return codes + [260] * (longest - len(codes))

    def token(self, word: str | None, mark: int = 0) -> np.ndarray:
        cnn, w = self.options["char_cnn"], self.weights
        x = w["char_embed"][self.characters(word, mark)]
        features = []
        for i, (span, _) in enumerate(cnn["filters"]):
            kernel = w[f"CNN/W_cnn_{i}"][0]
            windows = [np.einsum("wd,wdn->n", x[t : t + span], kernel) for t in range(len(x) - span + 1)]
            best = np.max(windows, axis=0) + w[f"CNN/b_cnn_{i}"]
            features.append(np.maximum(best, 0) if cnn["activation"] == "relu" else np.tanh(best))
        y = np.concatenate(features)
        for i in range(cnn["n_highway"] or 0):
            carry = sigmoid(y @ w[f"CNN_high_{i}/W_carry"] + w[f"CNN_high_{i}/b_carry"])
            transform = np.maximum(y @ w[f"CNN_high_{i}/W_transform"] + w[f"CNN_high_{i}/b_transform"], 0)
            y = carry * transform + (1 - carry) * y
        if "CNN_proj/W_proj" in w:
            y = y @ w["CNN_proj/W_proj"] + w["CNN_proj/b_proj"]
        return y

    def direction(self, number: int, x: list[np.ndarray], row: int | None) -> list[list[np.ndarray]]:
        """Return the outputs of each layer; with a `row`, its state is carried from one call to the next."""
        lstm = self.options["lstm"]
        layers = []
        for layer in range(lstm["n_layers"]):
            name = f"RNN_{number}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            kernel, bias = self.weights[f"{name}/W_0"], self.weights[f"{name}/B"]
            zero = np.zeros(lstm["projection_dim"]), np.zeros(lstm["dim"])
            h, c = self.states.get((number, layer, row), zero) if row is not None else zero
            outputs = []
            for vector in x:
                i, j, f, o = np.split(np.concatenate([vector, h]) @ kernel + bias, 4)
                c = clipped(sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j), lstm["cell_clip"])
                h = sigmoid(o) * np.tanh(c)
                if f"{name}/W_P_0" in self.weights:
                    h = clipped(h @ self.weights[f"{name}/W_P_0"], lstm["proj_clip"])
                outputs.append(h)
            self.states[number, layer, row] = h, c
            skip = layer > 0 and lstm["use_skip_connections"]
            x = [y + v if skip else y for y, v in zip(outputs, x, strict=True)]
            layers.append(x)
        return layers

    def embed(self, sentence: list[str], row: int | None = None) -> np.ndarray:
        x = [self.token(None, 256), *map(self.token, sentence), self.token(None, 257)]
        forward, backward = self.direction(0, x, row), self.direction(1, x[::-1], row)
        layers = [np.concatenate([x, x], axis=1)]
        layers += [np.concatenate([f, b[::-1]], axis=1) for f, b in zip(forward, backward, strict=True)]
        return np.array(layers)[:, 1:-1]


def clipped(x: np.ndarray, limit: float | None) -> np.ndarray:
    return np.clip(x, -limit, limit) if limit else x


VARIANTS = {
    "as published": ({}, {}),
    "no clipping": ({"cell_clip": None, "proj_clip": 0}, {}),
    "no skip connections, tanh, one highway layer": (
        {"use_skip_connections": False},
        {"activation": "tanh", "n_highway": 1},
    ),
    "three layers, no highway layer": ({"n_layers": 3}, {"n_highway": None}),
    "no projection": ({"dim": 7, "projection_dim": 7}, {"filters": [[1, 3], [3, 4]]}),
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_layer_is_that_of_numpy(tmp_path, variant):
    options = {"lstm": OPTIONS["lstm"] | variant[0], "char_cnn": OPTIONS["char_cnn"] | variant[1]}
    weights = datasets(options, np.random.default_rng(1))
    reference = NumpyELMo(options, weights)
    elmo = ELMo.load(*write(tmp_path / "x", options, weights))
    assert (elmo.num_layers, elmo.output_dim) == (
        options["lstm"]["n_layers"] + 1,
        2 * options["lstm"]["projection_dim"],
    )
    for result, sentence in zip(elmo.embed(SENTENCES), SENTENCES, strict=True):
        assert result.shape == (elmo.num_layers, len(sentence), elmo.output_dim)
        np.testing.assert_allclose(result, reference.embed(sentence), rtol=0, atol=1e-5)


@pytest.mark.parametrize("clip", ["cell_clip", "proj_clip"])
def test_each_clip_bites(clip):
    """Otherwise the test above could not detect missing clipping."""
    weights = datasets(OPTIONS, np.random.default_rng(1))
    free = OPTIONS | {"lstm": OPTIONS["lstm"] | {clip: None}}
    both, one = (NumpyELMo(options, weights).embed(SENTENCES[0]) for options in (OPTIONS, free))
    assert np.abs(both - one)[1:].max() > 0.1


def test_state_is_carried_row_by_row_when_asked(files):
    """A smaller batch leaves the states of the other rows unchanged."""
    weights = datasets(OPTIONS, np.random.default_rng(0))
    reference = NumpyELMo(OPTIONS, weights)
    elmo = ELMo.load(*files, stateful=True)
    for batch in (SENTENCES, SENTENCES[:2][::-1], SENTENCES[1:2], SENTENCES):
        for row, result in enumerate(elmo.embed(batch)):
            np.testing.assert_allclose(result, reference.embed(batch[row], row), rtol=0, atol=1e-5)
    once, repeated = (elmo.embed(SENTENCES[:1])[0] for _ in range(2))
    assert np.abs(once - repeated)[1:].max() > 1e-3
    elmo.forget()
    fresh = NumpyELMo(OPTIONS, weights).embed(SENTENCES[0])
    np.testing.assert_allclose(elmo.embed(SENTENCES[:1])[0], fresh, rtol=0, atol=1e-5)


def test_without_state_a_sentence_has_the_same_vectors_in_any_company(files):
    elmo = ELMo.load(*files)
    together = elmo.embed(SENTENCES)
    for sentence, result in zip(SENTENCES, together, strict=True):
        np.testing.assert_allclose(elmo.embed([sentence])[0], result, rtol=0, atol=1e-6)


def test_a_round_trip_through_our_own_format_changes_nothing(files, tmp_path):
    pretrained = import_original(*files)
    save_bilm(tmp_path / "own.pt", pretrained.model, pretrained.vocabulary, pretrained.info)
    repeated = load_bilm(tmp_path / "own.pt")
    assert repeated.hash == pretrained.hash and repeated.model.config == pretrained.model.config
    for one, other in zip(
        ELMo(pretrained).embed(SENTENCES), ELMo.load(tmp_path / "own.pt").embed(SENTENCES), strict=True
    ):
        assert np.array_equal(one, other)
    carrying, usual = ELMo(repeated, stateful=True), ELMo(repeated)
    for elmo in (carrying, usual):
        once, twice = (elmo.embed(SENTENCES[:1])[0] for _ in range(2))
        assert np.array_equal(once, twice) == (elmo is usual)


def test_what_is_clipped_and_activated_belongs_to_the_name_of_the_weights(tmp_path):
    """A classifier for one must be refused with the other."""
    weights, names = datasets(OPTIONS, np.random.default_rng(0)), set()
    for i, change in enumerate(({}, {"cell_clip": 0.2}, {"use_skip_connections": False})):
        names.add(
            import_original(*write(tmp_path / str(i), OPTIONS | {"lstm": OPTIONS["lstm"] | change}, weights)).hash
        )
    assert len(names) == 3


def test_words_spelled_like_marks_are_words(files):
    weights = datasets(OPTIONS, np.random.default_rng(0))
    sentence = ["<pad>", "<s>", "</s>", "<unk>"]
    result = ELMo.load(*files).embed([sentence])[0]
    np.testing.assert_allclose(result, NumpyELMo(OPTIONS, weights).embed(sentence), rtol=0, atol=1e-5)


def test_case_is_kept(files):
    elmo = ELMo.load(*files)
    upper, lower, text = elmo.embed([["Rain"], ["rain"], "Rain"])
    assert np.abs(upper - lower).max() > 1e-3
    np.testing.assert_allclose(upper, text, rtol=0, atol=1e-6)


# --- mismatched files -------------------------------------------------------------------------------------------------


def without(*path: str):
    def change(options: dict, weights: dict) -> None:
        for key in path[:-1]:
            options = options[key]
        del options[path[-1]]

    return change


def having(value: object, *path: str):
    def change(options: dict, weights: dict) -> None:
        for key in path[:-1]:
            options = options[key]
        options[path[-1]] = value

    return change


def dataset(name: str, value: object = None):
    def change(options: dict, weights: dict) -> None:
        if value is None:
            del weights[name]
        else:
            weights[name] = value

    return change


CELL = "RNN_1/RNN/MultiRNNCell/Cell1/LSTMCell"
MISFITS = {
    "no char_cnn": (without("char_cnn"), "options.json lacks 'char_cnn'"),
    "no dim": (without("lstm", "dim"), "options.json lacks 'dim'"),
    "a width of text": (having("many", "lstm", "projection_dim"), "'many' is not a valid count"),
    "filters of one number": (having([[1], [2]], "char_cnn", "filters"), "options.json is not the options.json"),
    "no filters": (having([], "char_cnn", "filters"), "do not fit"),
    "a filter wider than a word": (having([[13, 2]], "char_cnn", "filters"), "do not fit into words of 12"),
    "the activation": (having("gelu", "char_cnn", "activation"), "'gelu' is neither relu nor tanh"),
    "no alphabet": (without("char_cnn", "n_characters"), "lacks 'n_characters'"),
    "a clip below zero": (having(-3, "lstm", "cell_clip"), "-3.0 is not a limit to clip to"),
    "a clip of no number": (having(float("nan"), "lstm", "proj_clip"), "nan is not a limit to clip to"),
    "a clip of 400 digits": (having(10**400, "lstm", "cell_clip"), "is not the options.json"),
    "dropout of everything": (having(1.0, "dropout"), "dropout 1.0"),
    "words without end": (having(10**12, "char_cnn", "max_characters_per_token"), "is not a valid count"),
    "endless highways": (having(float("inf"), "char_cnn", "n_highway"), "inf is not a valid count"),
    "a text for a switch": (having("false", "lstm", "use_skip_connections"), "use_skip_connections 'false'"),
    "options of training": (having(261, "char_cnn", "n_characters"), "n_characters is 261"),
    "a list": (lambda options, weights: options.clear(), "lacks"),
    "cells narrower than outputs": (having(5, "lstm", "dim"), "5 units cannot be projected to 6"),
    "a missing dataset": (dataset("CNN_high_1/b_carry"), "no dataset CNN_high_1/b_carry"),
    "another width": (having(8, "lstm", "projection_dim"), r"W_proj is float32 \(14, 6\).* requires float \(14, 8\)"),
    "fewer layers": (having(1, "lstm", "n_layers"), "has a dataset RNN_0/RNN/MultiRNNCell/Cell1"),
    "more layers": (having(3, "lstm", "n_layers"), "no dataset RNN_0/RNN/MultiRNNCell/Cell2"),
    "integers": (dataset(f"{CELL}/B", np.zeros(36, dtype=int)), f"{CELL}/B is int64"),
    "no number": (dataset(f"{CELL}/B", np.full(36, np.nan)), f"{CELL}/B contains an infinite value or NaN"),
}


@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS)
def test_files_that_do_not_fit_each_other(tmp_path, change, message):
    options, weights = json.loads(json.dumps(OPTIONS)), datasets(OPTIONS, np.random.default_rng(0))
    change(options, weights)
    paths = write(tmp_path / "x", options, weights)
    with pytest.raises(UserError, match=message):
        read_original(*paths)


def test_files_that_are_no_such_files(files, tmp_path):
    options, weights = files
    with pytest.raises(UserError, match="No such file"):
        read_original(options, tmp_path / "none.hdf5")
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        read_original(tmp_path / "none.json", weights)
    with pytest.raises(UserError, match="cannot be read as HDF5"):
        read_original(options, options)
    torn = tmp_path / "torn.json"
    torn.write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        read_original(torn, weights)
    weights.write_bytes(weights.read_bytes()[:-2000])
    with pytest.raises(UserError, match="cannot be read as HDF5"):
        read_original(options, weights)


# --- commands --------------------------------------------------------------------------------------------------------


def test_the_scripts_run_on_it(files, tmp_path):
    own = tmp_path / "original.pt"
    done = run_script("ELMO.py", "--import-original", *files, "--output", own)
    assert done.code == 0 and "Read 3 layers of width 12" in done.out, done.err
    on_it = ["--data", SAMPLE, "--output", tmp_path / "out", "--bilm", own, "--device", "cpu"]
    for mode in ("function", "finetune"):
        done = run_script("classification.py", *on_it, "--epochs", "1", "--mode", mode)
        assert done.code == 0 and "language model imported" in done.out, done.err
    done = run_script("evaluate.py", *on_it, "--split", "all", "--robustness")
    assert done.code == 0 and "imported without its softmax" in done.out and "classifier function" in done.out, done.err
    assert "20% of words" in done.out and "unknown words" not in done.out
    summary = json.loads((tmp_path / "out/results/sample/summary.json").read_text())
    assert summary["language_model"] == {} and set(summary["classifiers"]) == {"function", "finetune"}


@pytest.mark.parametrize("script", ["classification.py", "evaluate.py"])
def test_what_stands_on_another_language_model_replaces_nothing(script, tmp_path):
    done = run_script(script, "--data", SAMPLE, "--bilm", tmp_path / "original.pt")
    assert done.code == 2 and "--bilm requires --output" in done.err
    done = run_script(script, "--data", SAMPLE, "--bilm", tmp_path / "none.pt", "--output", tmp_path / "out")
    assert done.code == 2 and "none.pt. Train it first" in done.err and not (tmp_path / "out").exists()


def test_a_folder_is_given_a_file_of_its_own(files, tmp_path):
    done = run_script("ELMO.py", "--import-original", *files, "--output", tmp_path / "models")
    assert done.code == 0 and [p.name for p in (tmp_path / "models").iterdir()] == ["original.pt"], done.err


def test_an_import_does_not_replace_a_trained_model_unasked(files, tmp_path, trained_bilm):
    trained = tmp_path / "trained.pt"
    shutil.copy(trained_bilm, trained)
    done = run_script("ELMO.py", "--import-original", *files, "--output", trained)
    assert done.code == 2 and "--restart" in done.err and trained.read_bytes() == trained_bilm.read_bytes()
    assert run_script("ELMO.py", "--import-original", *files, "--output", trained, "--restart").code == 0
    assert run_script("ELMO.py", "--import-original", *files, "--output", trained).code == 0, "the same import again"


def test_an_import_does_not_replace_another_one_unasked(files, tmp_path):
    """Classifiers on the earlier one could not be used any more."""
    path = tmp_path / "original.pt"
    assert run_script("ELMO.py", "--import-original", *files, "--output", path).code == 0
    before = path.read_bytes()
    others = write(tmp_path / "others", OPTIONS, datasets(OPTIONS, np.random.default_rng(7)))
    done = run_script("ELMO.py", "--import-original", *others, "--output", path)
    assert done.code == 2 and "other settings (weights: " in done.err and path.read_bytes() == before, done.err
    assert run_script("ELMO.py", "--import-original", *others, "--output", path, "--restart").code == 0


@pytest.mark.parametrize("content", [b"", b"my notes", b"PK\x03\x04 cut off"])
def test_an_import_does_not_replace_a_file_that_cannot_be_read_unasked(files, tmp_path, content):
    path = tmp_path / "own.pt"
    path.write_bytes(content)
    done = run_script("ELMO.py", "--import-original", *files, "--output", path)
    assert done.code == 2 and "own.pt exists, but" in done.err and "--restart" in done.err, done.err
    assert done.err.count("\n") == 1 and path.read_bytes() == content
    assert run_script("ELMO.py", "--import-original", *files, "--output", path, "--restart").code == 0


def test_an_import_that_fails_leaves_what_was_there(files, tmp_path):
    own = tmp_path / "original.pt"
    own.write_text("mine")
    done = run_script("ELMO.py", "--import-original", files[0], tmp_path / "none.hdf5", "--output", own)
    assert done.code == 2 and done.err.count("\n") == 1 and "none.hdf5 cannot be read: No such file" in done.err
    assert own.read_text() == "mine" and sorted(p.name for p in tmp_path.iterdir()) == ["original", "original.pt"]


# --- outputs of the original program ---------------------------------------------------------------------------------

PUBLISHED = os.environ.get("ORIGINAL_ELMO_DIR", "")


@pytest.mark.original
@pytest.mark.skipif(not PUBLISHED, reason="ORIGINAL_ELMO_DIR is not set")
def test_vectors_are_those_of_the_original_program():
    """Ten batches of three sentences; the reference is the top layer of the first sentence: (directions, tokens, D)."""
    folder = Path(PUBLISHED)
    files = folder / "options.json", folder / "lm_weights.hdf5"
    lists = [[sentence.split() for sentence in row] for row in json.loads((folder / "sentences.json").read_text())]
    with h5py.File(folder / "lm_embeddings_0.hdf5", "r") as file:
        references = [np.concatenate(file[str(i)][...], axis=-1) for i in range(10)]
    carried, fresh = ELMo.load(*files, stateful=True), ELMo.load(*files)
    for i, expected in enumerate(references):
        result = carried.embed([row[i] for row in lists])[0][-1]
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(fresh.embed([lists[0][0]])[0][-1], references[0], rtol=0, atol=1e-5)
    assert np.abs(fresh.embed([lists[0][1]])[0][-1] - references[1]).max() > 1e-3
    with h5py.File(files[1], "r") as file:
        weights: dict[str, np.ndarray] = {}
        file.visititems(
            lambda name, item: weights.update({name: item[...]}) if isinstance(item, h5py.Dataset) else None
        )
    reference = NumpyELMo(json.loads(files[0].read_text()), weights)
    for sentence in (row[0] for row in lists):
        np.testing.assert_allclose(fresh.embed([sentence])[0], reference.embed(sentence), rtol=0, atol=1e-5)
