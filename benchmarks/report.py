"""The parts' figures put together: results/benchmark.json, and the same as text."""

from collections.abc import Iterator
from typing import Any

from benchmarks.measure import four_digits
from bilm.evaluation.tables import table


def with_shares(pretraining: dict[str, Any], gemm: float) -> dict[str, Any]:
    """`pretraining` with the share of `gemm` (10^9 operations per second) that its matrices reach.

    gemm_share is that of training as a whole, lstm_gemm_share that of the LSTMs where they are alone.
    """
    operations = pretraining["operations_per_token"]
    shares = {
        name: four_digits(pretraining[rate]["median"] * needed / (gemm * 1e9))
        for name, rate, needed in (
            ("gemm_share", "tokens_per_second", sum(operations.values())),
            ("lstm_gemm_share", "lstm_tokens_per_second", operations["lstm"]),
            ("lstm_gemm_share_without_dropout", "lstm_tokens_per_second_without_dropout", operations["lstm"]),
        )
    }
    return {**pretraining, **shares}


def as_text(found: dict[str, Any]) -> str:
    """A row for each figure of a benchmark.json, and a table of how things grow."""
    sections = ("machine", "pretraining", "classifier", "inference", "token_layers", "startup", "memory")
    rows = [row for name in sections for row in _rows(name, found[name])]
    growth = [[_number(_median(value)) for value in size.values()] for size in found["growth"]]
    names = [name.replace("_per_million_tokens", "/M") for name in found["growth"][0]]
    where = f"{found['hardware']}, {found['precision']}, torch {found['torch']}; corpus {found['corpus']}"
    return "\n\n".join([where, table(rows, ["", "median", "min", "max", "repeats"]), table(growth, names)])


def _rows(name: str, value: Any) -> Iterator[list[str]]:
    if isinstance(value, dict) and "repeats" in value:
        yield [name, *(_number(value[key]) for key in ("median", "min", "max")), str(value["repeats"])]
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _rows(f"{name}.{key}", inner)
    elif isinstance(value, int | float):
        yield [name, _number(value), "", "", ""]


def _median(value: Any) -> Any:
    return value["median"] if isinstance(value, dict) else value


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if isinstance(value, int) or value >= 1000 else f"{value:,.4g}"
