"""Write ten public data sets of labelled texts as tables, for studies/own_texts.py.

    python examples/public_texts.py CLONES TEXTS    -> TEXTS/cr/train.csv and test.csv, and so on

CLONES is a folder with clones of four repositories on GitHub: harvardnlp/sent-conv-torch, cardiffnlp/tweeteval,
PolyAI-LDN/task-specific-datasets and jacoxu/StackOverflow. Where a data set has test rows of its own, these are used,
and validation rows are trained on; otherwise rows are drawn at random, the same on every machine. The columns are text
and label.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

SPLITS = ("train", "test")
TRUTH = {"0": "negative", "1": "positive"}
# Rows to train on, of sets that have many more: what someone with a few thousand texts has.
AT_MOST = {"subj": 5000, "mpqa": 6000, "stackoverflow": 5000}


def labelled_lines(path: Path, names: Mapping[str, str]) -> pd.DataFrame:
    """Read lines that begin with the number of a class."""
    lines = [line.partition(" ") for line in decoded(path).splitlines() if line.strip()]
    return pd.DataFrame([(text, names[number]) for number, _, text in lines], columns=["text", "label"])


def line_by_line(texts: Path, labels: Path, names: Mapping[str, str]) -> pd.DataFrame:
    """Read a file of texts and one of the numbers of their classes."""
    numbers = decoded(labels).split()
    lines = decoded(texts).split("\n")[: len(numbers)]
    return pd.DataFrame({"text": lines, "label": [names.get(number, number) for number in numbers]})


def decoded(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def drawn(rows: pd.DataFrame, test: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows to train on, and `test` others."""
    shuffled = rows.sample(frac=1, random_state=0)
    return shuffled[test:], shuffled[:test]


def data_sets(clones: Path) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Yield the name of each data set, and its rows for training and test."""
    sentences, tweets = clones / "sent-conv-torch" / "data", clones / "tweeteval" / "datasets"
    yield "cr", *drawn(labelled_lines(sentences / "custrev.all", TRUTH), 755)
    yield "subj", *drawn(labelled_lines(sentences / "subj.all", {"0": "subjective", "1": "objective"}), 2000)
    yield "mpqa", *drawn(labelled_lines(sentences / "mpqa.all", TRUTH), 2000)
    train, validation, test = (labelled_lines(sentences / f"stsa.binary.{s}", TRUTH) for s in ("train", "dev", "test"))
    yield "sst2", pd.concat([train, validation]), test
    banking = clones / "task-specific-datasets" / "banking_data"
    train, test = (pd.read_csv(banking / f"{split}.csv").set_axis(["text", "label"], axis=1) for split in SPLITS)
    yield "banking77", train, test
    for name in ("emotion", "irony", "hate", "offensive"):
        folder = tweets / name
        names = dict(line.split("\t")[:2] for line in decoded(folder / "mapping.txt").splitlines() if line.strip())
        train, validation, test = (
            line_by_line(folder / f"{split}_text.txt", folder / f"{split}_labels.txt", names)
            for split in ("train", "val", "test")
        )
        yield f"tweet_{name}", pd.concat([train, validation]), test
    titles = clones / "StackOverflow" / "rawText"
    rows = line_by_line(titles / "title_StackOverflow.txt", titles / "label_StackOverflow.txt", {})
    yield "stackoverflow", *drawn(rows.assign(label="c" + rows["label"]), 4000)


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    clones, texts = map(Path, sys.argv[1:])
    for name, *parts in data_sets(clones):
        train, test = (rows[rows["text"].str.strip() != ""] for rows in parts)
        if len(train) > AT_MOST.get(name, len(train)):
            train = train.sample(AT_MOST[name], random_state=0)
        (texts / name).mkdir(parents=True, exist_ok=True)
        for split, rows in zip(SPLITS, (train, test), strict=True):
            rows.to_csv(texts / name / f"{split}.csv", index=False)
        print(f"Wrote {texts / name}: {len(train):,} rows to train on, {len(test):,} to test with.")


if __name__ == "__main__":
    main()
