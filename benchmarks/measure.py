"""A clock that waits for the GPU, figures with their spread, and a table of them."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from bilm.evaluation.tables import table


def now() -> float:
    """Seconds since a fixed moment, read when the GPU has finished all work that was queued."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(function: Callable[[], Any], repeats: int) -> list[float]:
    """Call `function` `repeats` times; return the seconds of each call."""
    moments = [now()]
    for _ in range(repeats):
        function()
        moments.append(now())
    return [after - before for before, after in pairwise(moments)]


def four_digits(value: float) -> float:
    """Round to four significant digits: 1234.567 -> 1235.0."""
    return float(f"{value:.4g}")


def figure(values: Sequence[float]) -> dict[str, float]:
    """Return {"median", "min", "max", "repeats"} of `values`, rounded to four significant digits."""
    low, middle, high = map(four_digits, (min(values), median(values), max(values)))
    return {"median": middle, "min": low, "max": high, "repeats": len(values)}


def rate_figure(amount: float, seconds: Iterable[float]) -> dict[str, float]:
    """Return the figure of `amount` per second."""
    return figure([amount / s for s in seconds])


def as_text(result: dict[str, Any]) -> str:
    """Format the result of all parts: one row for each figure, and the table of growth."""
    sections = ("machine", "pretraining", "classifier", "inference", "token_layers", "startup", "memory")
    rows = [row for name in sections for row in _rows(name, result[name])]
    growth = [[_number(x["median"] if isinstance(x, dict) else x) for x in size.values()] for size in result["growth"]]
    names = [name.replace("_per_million_tokens", "/M") for name in result["growth"][0]]
    title = f"{result['hardware']}, {result['precision']}, torch {result['torch']}; corpus {result['corpus']}"
    return "\n\n".join([title, table(rows, ["", "median", "min", "max", "repeats"]), table(growth, names)])


def _rows(name: str, value: Any) -> Iterator[list[str]]:
    if isinstance(value, dict) and "repeats" in value:
        yield [name, *(_number(value[key]) for key in ("median", "min", "max")), str(value["repeats"])]
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _rows(f"{name}.{key}", inner)
    elif isinstance(value, int | float):
        yield [name, _number(value), "", "", ""]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if isinstance(value, int) or value >= 1000 else f"{value:,.4g}"
