"""The published format of the original ELMo: options.json and an HDF5 file of weights -> a BiLM.

What differs from ours, and is settled here, so that nothing after it needs to know:
    weights       inputs times outputs, of both inputs of an LSTM one above the other; PyTorch has outputs times inputs
    gates         input, new cell, forget, output, and 1 is added to the forget gate; ours: input, forget, new cell,
                  output, and the 1 is in the bias
    characters    no row for padding (character 0), whose vector is 0
    softmax       was not published
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bilm.config import BiLMConfig, CharCNNConfig, ProjectedLSTMConfig, TokenizerConfig
from bilm.modules.language_model import BiLM
from bilm.runtime.errors import UserError
from bilm.runtime.files import HDF5, file_type, open_bytes
from bilm.runtime.optional import require
from bilm.text.text_rules import decoded_lines
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import NUM_CHARACTERS, SPECIALS, Vocabulary


def read_original(options: Path, weights: Path) -> tuple[BiLM, Vocabulary]:
    """The encoder, in eval mode, and a vocabulary without words: every word is read from its characters.

    Raises UserError when a file is not what it should be, or the two do not fit each other.
    """
    config = _read_options(options)
    state = _read_weights(weights, options, config)
    with torch.device("meta"):
        model = BiLM(config, len(SPECIALS))
    model.to_empty(device="cpu").load_state_dict(state)
    return model.eval(), Vocabulary(SPECIALS, Tokenizer(TokenizerConfig(lowercase=False)), open_ended=True)


def _read_options(path: Path) -> BiLMConfig:
    try:
        with open_bytes(path) as file:
            options = json.loads("".join(decoded_lines(file, path)))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}).") from error
    try:
        characters, lstm = options["char_cnn"], options["lstm"]
        width, cell = _count(lstm["projection_dim"]), _count(lstm["dim"])
        filters = tuple((_count(span), _count(count)) for span, count in characters["filters"])
        alphabet, dropout, skip = characters["n_characters"], options.get("dropout", 0.0), lstm["use_skip_connections"]
        if not isinstance(skip, bool) or not 0 <= dropout < 1:
            raise ValueError(f"use_skip_connections {skip!r} or dropout {dropout!r}")
        config = BiLMConfig(
            token_layer="char",
            width=width,
            layers=_count(lstm.get("n_layers", 1)),
            dropout=float(dropout),
            softmax="none",
            characters=CharCNNConfig(
                dim=_count(characters["embedding"]["dim"]),
                filters=filters,
                highways=_count(characters.get("n_highway") or 0, at_least=0),
                projection=sum(count for _, count in filters) != width,
                activation=characters["activation"],
                max_characters=_count(characters["max_characters_per_token"]),
            ),
            recurrence=ProjectedLSTMConfig(cell, _limit(lstm.get("cell_clip")), _limit(lstm.get("proj_clip")), skip),
        )
    except KeyError as error:
        raise UserError(f"{path} lacks {error}; it should be the options.json of an ELMo with char_cnn.") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is not the options.json of an ELMo: {error}.") from error
    if alphabet != NUM_CHARACTERS:
        raise UserError(
            f"{path}: n_characters is {alphabet}; only {NUM_CHARACTERS} can be (the bytes and six marks; files made "
            "for training say 261 and leave out padding: change that)."
        )
    if cell < width:
        raise UserError(f"{path}: LSTMs of {cell} units cannot be projected to {width}.")
    return config


def _count(value: Any, at_least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value < 2**31:
        raise ValueError(f"{value!r:.40} is no number of anything")
    return value


def _limit(value: Any) -> float | None:
    """What cells and projections are clipped to; 0 and null mean not at all."""
    return float(value) if value else None


def _read_weights(path: Path, options: Path, config: BiLMConfig) -> dict[str, Tensor]:
    h5py = require("h5py", f"Reading {path}")
    with open_bytes(path, decompress=False) as content:
        head = content.read(64)
    if not head.startswith(HDF5) and (found := file_type(head)):
        raise UserError(f"{path} is {found}. The weights of an ELMo are one HDF5 file.")
    datasets: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[name] = item

    try:
        with h5py.File(path, "r") as file:
            file.visititems(note)
            return _Reader(path, options, datasets).state(config)
    # What HDF5 finds wrong, h5py raises as any of these.
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read as HDF5: {error}.") from error


class _Reader:
    """Takes datasets of the shapes that the options ask for, and says what does not fit."""

    def __init__(self, path: Path, options: Path, datasets: Mapping[str, Any]):
        self.path = path
        self.options = options
        self.datasets = dict(datasets)

    def take(self, name: str, *shape: int) -> Tensor:
        """Each dataset once: what remains was not asked for."""
        if name not in self.datasets:
            raise UserError(f"{self.path} has no dataset {name}, which {self.options} asks for.")
        dataset = self.datasets.pop(name)
        if dataset.shape != shape or dataset.dtype.kind != "f":
            raise UserError(
                f"{self.path}: {name} is {dataset.dtype} {dataset.shape}; {self.options} asks for float {shape}."
            )
        values = torch.from_numpy(np.asarray(dataset, dtype=np.float32))
        if not values.isfinite().all():
            raise UserError(f"{self.path}: {name} holds a value that is infinite or no number.")
        return values

    def state(self, config: BiLMConfig) -> dict[str, Tensor]:
        """The state dict of a BiLM."""
        state = {f"tokens.characters.{name}": value for name, value in self._characters(config)}
        for direction, stack in enumerate(("forward_lstm", "backward_lstm")):
            for layer in range(config.layers):
                for name, value in self._lstm(config, f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"):
                    state[f"{stack}.lstms.{layer}.{name}"] = value
        if left := [name for name in self.datasets if name.startswith(("CNN", "RNN", "char"))]:
            raise UserError(f"{self.path} has a dataset {left[0]}, of which {self.options} knows nothing.")
        return state

    def _characters(self, config: BiLMConfig) -> list[tuple[str, Tensor]]:
        cnn = config.characters
        total = sum(count for _, count in cnn.filters)
        known = self.take("char_embed", NUM_CHARACTERS - 1, cnn.dim)
        found = [("embedding.weight", torch.cat([torch.zeros(1, cnn.dim), known]))]
        for i, (span, count) in enumerate(cnn.filters):
            kernel = self.take(f"CNN/W_cnn_{i}", 1, span, cnn.dim, count)
            found.append((f"convolutions.{i}.weight", kernel[0].permute(2, 1, 0)))
            found.append((f"convolutions.{i}.bias", self.take(f"CNN/b_cnn_{i}", count)))
        for i in range(cnn.highways):
            for ours, theirs in (("gate", "carry"), ("transform", "transform")):
                weight = self.take(f"CNN_high_{i}/W_{theirs}", total, total)
                found.append((f"highways.{i}.{ours}.weight", weight.t()))
                found.append((f"highways.{i}.{ours}.bias", self.take(f"CNN_high_{i}/b_{theirs}", total)))
        if cnn.projection:
            found.append(("projection.weight", self.take("CNN_proj/W_proj", total, config.width).t()))
            found.append(("projection.bias", self.take("CNN_proj/b_proj", config.width)))
        return found

    def _lstm(self, config: BiLMConfig, name: str) -> list[tuple[str, Tensor]]:
        assert config.recurrence is not None
        width, cell = config.width, config.recurrence.cell
        weight = _gates(self.take(f"{name}/W_0", 2 * width, 4 * cell).t())
        bias = _gates(self.take(f"{name}/B", 4 * cell))
        bias[cell : 2 * cell] += 1.0
        found = [("weight_ih", weight[:, :width]), ("weight_hh", weight[:, width:]), ("bias", bias)]
        if cell != width:
            found.append(("weight_hr", self.take(f"{name}/W_P_0", cell, width).t()))
        return found


def _gates(x: Tensor) -> Tensor:
    """Rows of input, new cell, forget, output -> input, forget, new cell, output."""
    i, g, f, o = x.chunk(4)
    return torch.cat([i, f, g, o])
