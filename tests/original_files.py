"""Files of the original ELMo's format, small and with random weights; see bilm/checkpoints/original_elmo.py."""

import json
from pathlib import Path

import h5py
import numpy as np

OPTIONS = {
    "lstm": {
        "use_skip_connections": True,
        "projection_dim": 6,
        "dim": 9,
        "n_layers": 2,
        "cell_clip": 0.4,
        "proj_clip": 0.5,
    },
    "char_cnn": {
        "embedding": {"dim": 5},
        "filters": [[1, 3], [2, 4], [5, 7]],
        "n_highway": 2,
        "n_characters": 262,
        "max_characters_per_token": 12,
        "activation": "relu",
    },
}
SENTENCES = [
    ["Stocks", "fell", "in", "New", "York", ",", "said", "Müller", "of", "the", "überaltenheimer-verein", "."],
    ["Rain", "."],
    ["", "x" * 8, "x" * 9, "x" * 10, "x" * 11, "x" * 40, "日本語", "a"],
]


def datasets(options: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random weights in the published layout, large enough for both clips to bite."""
    lstm, cnn = options["lstm"], options["char_cnn"]
    width, cell, total = lstm["projection_dim"], lstm["dim"], sum(n for _, n in cnn["filters"])
    shapes = {"char_embed": (261, cnn["embedding"]["dim"])}
    for i, (span, count) in enumerate(cnn["filters"]):
        shapes |= {f"CNN/W_cnn_{i}": (1, span, cnn["embedding"]["dim"], count), f"CNN/b_cnn_{i}": (count,)}
    for i in range(cnn["n_highway"] or 0):
        for name in ("carry", "transform"):
            shapes |= {f"CNN_high_{i}/W_{name}": (total, total), f"CNN_high_{i}/b_{name}": (total,)}
    if total != width:
        shapes |= {"CNN_proj/W_proj": (total, width), "CNN_proj/b_proj": (width,)}
    for direction in range(2):
        for layer in range(lstm["n_layers"]):
            name = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            shapes |= {f"{name}/W_0": (2 * width, 4 * cell), f"{name}/B": (4 * cell,)}
            if cell != width:
                shapes[f"{name}/W_P_0"] = (cell, width)
    return {name: rng.normal(0, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}


def write(folder: Path, options: dict, weights: dict[str, np.ndarray]) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    paths = folder / "options.json", folder / "weights.hdf5"
    paths[0].write_text(json.dumps(options))
    with h5py.File(paths[1], "w") as file:
        for name, values in weights.items():
            file[name] = values
    return paths
