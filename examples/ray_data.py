"""Classify the texts of CSV or Parquet files, or compute their vectors, with Ray Data: on one machine or on many.

    python examples/ray_data.py classes data/docstrings/test.csv --column text --output classes --actors 3
    python examples/ray_data.py vectors data/docstrings/test.csv --column text --output vectors --actors 3

OUTPUT is a new folder of Parquet files with all columns of the input and those that `Classify` or `Embed` adds, whose
names must be new. Rows are written in any order; the column `row`, new as well, numbers them, with gaps, as they are in
the input:

    pandas.read_parquet(OUTPUT).sort_values("row")

Each actor is a process that loads the models once. A file is divided among them if it has several times BATCH rows.
Without a cluster Ray starts one on this machine; RAY_ADDRESS names another, whose machines need the files and this
package: python -m pip install -e ".[ray]"
"""

import argparse
import os

import pyarrow as pa
import ray
from pyarrow import csv
from ray.data.expressions import monotonically_increasing_id

BATCH = 1024  # rows of a call: the vectors of as many texts are in memory at a time, 4 KB each


def texts_of(batch: pa.Table, column: str) -> list[str]:
    """The texts of a batch; a missing one, null in Parquet, is an empty one."""
    return ["" if text is None else text for text in batch[column].to_pylist()]


class Classify:
    """Adds the column `predicted`, and a column `probability_CLASS` for each class."""

    def __init__(self, column: str, bilm: str | None):
        from bilm import TextClassifier  # here: only the actors need torch

        self.column = column
        self.classifier = TextClassifier.load(bilm)

    def __call__(self, batch: pa.Table) -> pa.Table:
        probabilities = self.classifier.predict_proba(texts_of(batch, self.column))
        classes = self.classifier.classes
        batch = batch.append_column("predicted", pa.array([classes[i] for i in probabilities.argmax(1)]))
        for name, of_class in zip(classes, probabilities.T, strict=True):
            batch = batch.append_column(f"probability_{name}", pa.array(of_class))
        return batch


class Embed:
    """Adds the column `vector`: the sentence vector of each text, a list of fp32."""

    def __init__(self, column: str, bilm: str | None):
        from bilm import ELMo

        self.column = column
        self.elmo = ELMo.load(bilm)

    def __call__(self, batch: pa.Table) -> pa.Table:
        vectors = self.elmo.sentence_vectors(texts_of(batch, self.column))
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return batch.append_column("vector", lists)


def read(files: list[str], column: str) -> ray.data.Dataset:
    if files[0].endswith(".parquet"):
        return ray.data.read_parquet(files)
    texts = csv.ConvertOptions(column_types={column: pa.string()})  # "2026" is a text, too
    return ray.data.read_csv(files, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("classes", "vectors"))
    parser.add_argument("files", nargs="+", metavar="FILE", help=".csv with a header, or .parquet")
    parser.add_argument("--column", required=True, help="with the texts")
    parser.add_argument("--output", required=True, help="a folder that does not exist")
    parser.add_argument("--bilm", help="language model, beside its classifiers (default: that of this repository)")
    parser.add_argument("--actors", type=int, default=1, help="on all machines together")
    parser.add_argument("--cpus", type=int, default=1, help="of each actor")
    options = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(ignore_reinit_error=True)
    if options.actors * options.cpus >= (cpus := ray.cluster_resources()["CPU"]):
        parser.error(f"of the {cpus:.0f} CPUs, one has to be left to reading and writing: fewer --actors or --cpus")
    ray.data.DataContext.get_current().execution_options.preserve_order = True  # of the rows to be numbered
    rows = read(options.files, options.column).with_column("row", monotonically_increasing_id())
    rows = rows.map_batches(
        Classify if options.what == "classes" else Embed,
        fn_constructor_kwargs={"column": options.column, "bilm": options.bilm and os.path.abspath(options.bilm)},
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        num_cpus=options.cpus,  # Ray sets OMP_NUM_THREADS to it, so that actors do not compete for cores
        batch_size=BATCH,
        batch_format="pyarrow",
    )
    rows.write_parquet(options.output, mode=ray.data.SaveMode.ERROR)


if __name__ == "__main__":
    main()
