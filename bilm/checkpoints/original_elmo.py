"""Read the published files of the original ELMo: options.json and an HDF5 file of weights -> a BiLM.

Differences between the published format and the parameters of a BiLM:
    matrices      published as (inputs, outputs), the two inputs of an LSTM concatenated; in PyTorch (outputs, inputs),
                  a matrix for each input
    gates         published in the order input, new cell, forget, output, with 1 added to the forget gate at run time;
                  here input, forget, new cell, output, with the 1 in the bias
    characters    published without a row for padding (character 0), whose vector is 0
    softmax       not published
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bilm.config import BiLMConfig, CharCNNConfig, ProjectedLSTMConfig, TokenizerConfig
from bilm.modules.language_model import BiLM
from bilm.runtime.errors import UserError
from bilm.runtime.files import HDF5, file_type, open_bytes
from bilm.runtime.optional_packages import require
from bilm.text.text_rules import decoded_lines
from bilm.text.tokenizer import Tokenizer
from bilm.text.vocabulary import NUM_CHARACTERS, SPECIALS, Vocabulary


def read_original(options: Path, weights: Path) -> tuple[BiLM, Vocabulary]:
    """Return the encoder, in eval mode, and a vocabulary without words: every word is read from its characters.

    Raises UserError when a file is malformed, or when the two files do not match.
    """
    config = _read_options(options)
    state = _read_weights(weights, options, config)
    with torch.device("meta"):
        model = BiLM(config, len(SPECIALS))
    model.to_empty(device="cpu").load_state_dict(state)
    return model.eval(), Vocabulary(SPECIALS, Tokenizer(TokenizerConfig(lowercase=False)), open_ended=True)


def _read_options(path: Path) -> BiLMConfig:
    """Return the configuration in an options.json. Raises UserError."""
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
        raise UserError(f"{path} lacks {error}; the options.json of an ELMo with char_cnn is required.") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is not the options.json of an ELMo: {error}.") from error
    if alphabet != NUM_CHARACTERS:
        raise UserError(
            f"{path}: n_characters is {alphabet}; it must be {NUM_CHARACTERS} (256 bytes and six special characters). "
            "Files for training have 261, without padding: change it to 262."
        )
    if cell < width:
        raise UserError(f"{path}: LSTMs of {cell} units cannot be projected to {width}.")
    return config


def _count(value: Any, at_least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value < 2**31:
        raise ValueError(f"{value!r:.40} is not a valid count")
    return value


def _limit(value: Any) -> float | None:
    """Return the limit to which cells or projections are clipped; None (0 or null in the file) for no clipping."""
    return float(value) if value else None


def _read_weights(path: Path, options: Path, config: BiLMConfig) -> dict[str, Tensor]:
    """Return the state dict of a BiLM from the HDF5 file at `path`. Raises UserError."""
    h5py = require("h5py", f"Reading {path}")
    with open_bytes(path, decompress=False) as content:
        head = content.read(64)
    if not head.startswith(HDF5) and (description := file_type(head)):
        raise UserError(f"{path} is {description}. The weights of an ELMo are one HDF5 file.")
    datasets: dict[str, Any] = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[name] = item

    try:
        with h5py.File(path, "r") as file:
            file.visititems(collect)
            return _Reader(path, options, datasets).state_dict(config)
    # h5py raises any of these for a damaged file.
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read as HDF5: {error}.") from error


@dataclass
class _Reader:
    """Converts datasets to the parameters of a BiLM. Raises UserError for a dataset that does not match the options.

    path, options: the files, for messages; datasets: those not yet read, by name.
    """

    path: Path
    options: Path
    datasets: dict[str, Any]

    def read(self, name: str, *shape: int) -> Tensor:
        """Return a dataset, fp32 of this `shape`, and remove it from `datasets`."""
        if name not in self.datasets:
            raise UserError(f"{self.path} has no dataset {name}, which {self.options} requires.")
        dataset = self.datasets.pop(name)
        if dataset.shape != shape or dataset.dtype.kind != "f":
            raise UserError(
                f"{self.path}: {name} is {dataset.dtype} {dataset.shape}; {self.options} requires float {shape}."
            )
        values = torch.from_numpy(np.asarray(dataset, dtype=np.float32))
        if not values.isfinite().all():
            raise UserError(f"{self.path}: {name} contains an infinite value or NaN.")
        return values

    def state_dict(self, config: BiLMConfig) -> dict[str, Tensor]:
        """Return the state dict of a BiLM without softmax."""
        state = {f"tokens.characters.{name}": value for name, value in self._characters(config)}
        for direction, stack in enumerate(("forward_lstm", "backward_lstm")):
            for layer in range(config.layers):
                for name, value in self._lstm(config, f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"):
                    state[f"{stack}.lstms.{layer}.{name}"] = value
        if unused := [name for name in self.datasets if name.startswith(("CNN", "RNN", "char"))]:
            raise UserError(f"{self.path} has a dataset {unused[0]}, which does not belong to {self.options}.")
        return state

    def _characters(self, config: BiLMConfig) -> Iterator[tuple[str, Tensor]]:
        """Yield the parameters of the character CNN."""
        cnn = config.characters
        total = sum(count for _, count in cnn.filters)
        padding = torch.zeros(1, cnn.dim)
        yield "embedding.weight", torch.cat([padding, self.read("char_embed", NUM_CHARACTERS - 1, cnn.dim)])
        for i, (span, count) in enumerate(cnn.filters):
            kernel = self.read(f"CNN/W_cnn_{i}", 1, span, cnn.dim, count)
            yield f"convolutions.{i}.weight", kernel[0].permute(2, 1, 0)
            yield f"convolutions.{i}.bias", self.read(f"CNN/b_cnn_{i}", count)
        for i in range(cnn.highways):
            for name, published in (("gate", "carry"), ("transform", "transform")):
                yield f"highways.{i}.{name}.weight", self.read(f"CNN_high_{i}/W_{published}", total, total).t()
                yield f"highways.{i}.{name}.bias", self.read(f"CNN_high_{i}/b_{published}", total)
        if cnn.projection:
            yield "projection.weight", self.read("CNN_proj/W_proj", total, config.width).t()
            yield "projection.bias", self.read("CNN_proj/b_proj", config.width)

    def _lstm(self, config: BiLMConfig, cell_name: str) -> Iterator[tuple[str, Tensor]]:
        """Yield the parameters of one layer in one direction."""
        assert config.recurrence is not None
        width, cell = config.width, config.recurrence.cell
        weight = _reorder_gates(self.read(f"{cell_name}/W_0", 2 * width, 4 * cell).t())
        yield "weight_ih", weight[:, :width]
        yield "weight_hh", weight[:, width:]
        bias = _reorder_gates(self.read(f"{cell_name}/B", 4 * cell))
        bias[cell : 2 * cell] += 1.0
        yield "bias", bias
        if cell != width:
            yield "weight_hr", self.read(f"{cell_name}/W_P_0", cell, width).t()


def _reorder_gates(x: Tensor) -> Tensor:
    """Reorder rows of the gates: input, new cell, forget, output -> input, forget, new cell, output."""
    i, g, f, o = x.chunk(4)
    return torch.cat([i, f, g, o])
