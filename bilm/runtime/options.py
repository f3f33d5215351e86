"""Dataclasses -> command line: every field becomes an option with its help, default and limits (bilm/config.py)."""

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from bilm.runtime.process import command_line


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field that carries its help text and its limits to the command line.

    limits: `choices`; `names` of the values, for an option that takes several; `positional`, for as many as are given
    without a flag; or for a number `at_least` (default 0,
    or None where any will do) and `below`.
    """
    return field(default=default, metadata={"help": help, **limits})


def threads_setting() -> Any:
    """The option of every command that computes."""
    text = "CPU threads to compute with (default: OMP_NUM_THREADS, else as many as cores are free)"
    return setting(None, text, at_least=1)


Presets = Mapping[str, Mapping[str, Any]]


def parse_options(
    description: str,
    *groups: Any,
    presets: Presets | None = None,
    arguments: Sequence[str] | None = None,
    program: str | None = None,
) -> list[Any]:
    """Command line -> one instance per group; a group is a dataclass, or an instance whose values are the defaults.

    Every `setting` becomes `--field-name`, with its help text and default; other fields stay as they are.
    `presets`: by name, defaults that `--preset NAME` puts in their place; an option that is given wins.
    """
    parser = argparse.ArgumentParser(
        program or command_line(), description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    instances = [group() if isinstance(group, type) else group for group in groups]
    if presets:
        text = "settings by name; options that are given besides win (default: the defaults below)"
        parser.add_argument("--preset", choices=sorted(presets), help=text)
        finder = argparse.ArgumentParser(add_help=False)
        finder.add_argument("--preset", choices=sorted(presets))
        chosen = presets.get(finder.parse_known_args(arguments)[0].preset, {})
        instances = [_with(instance, chosen) for instance in instances]
    for instance in instances:
        title = (type(instance).__doc__ or "").strip().splitlines()[0]
        section = parser.add_argument_group(title)
        for item in _settings(instance):
            default = getattr(instance, item.name)
            text = item.metadata["help"].replace("%", "%%")
            flag = f"--{item.name.replace('_', '-')}"
            if isinstance(default, bool):
                section.add_argument(
                    flag, action=argparse.BooleanOptionalAction if default else "store_true", default=default, help=text
                )
                continue
            if item.metadata.get("positional"):
                section.add_argument(item.name, nargs="*", default=default, metavar=item.name.upper(), help=text)
                continue
            if names := item.metadata.get("names"):
                section.add_argument(flag, nargs=len(names), default=default, metavar=names, help=text)
                continue
            kind = item.metadata.get("type") or (type(default) if default is not None else _declared_type(item.type))
            shown = "" if default is None else f" (default: {default})"
            section.add_argument(
                flag,
                type=kind,
                default=default,
                choices=item.metadata.get("choices"),
                metavar=None if item.metadata.get("choices") else kind.__name__.upper(),
                help=text + shown,
            )
    values = vars(parser.parse_args(arguments))
    for item in (item for instance in instances for item in _settings(instance)):
        if (item.metadata.get("names") or item.metadata.get("positional")) and values[item.name] is not None:
            values[item.name] = tuple(values[item.name])
        choices = item.metadata.get("choices")
        assert choices is None or values[item.name] in choices, f"a preset has {item.name} {values[item.name]!r}"
        if problem := _out_of_range(values[item.name], item.metadata):
            parser.error(f"argument --{item.name.replace('_', '-')}: {values[item.name]} {problem}")
    return [
        dataclasses.replace(instance, **{f.name: values[f.name] for f in _settings(instance)}) for instance in instances
    ]


def _with(instance: Any, values: Mapping[str, Any]) -> Any:
    return dataclasses.replace(instance, **{f.name: values[f.name] for f in _settings(instance) if f.name in values})


def _settings(instance: Any) -> list[dataclasses.Field]:
    """The fields that are options: those with a help text."""
    return [item for item in dataclasses.fields(instance) if "help" in item.metadata]


def _out_of_range(value: Any, limits: Mapping[str, Any]) -> str:
    """What is wrong with a number, or nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    at_least, below = limits.get("at_least", 0), limits.get("below", math.inf)
    if math.isfinite(value) and at_least <= value < below:
        return ""
    return f"is not at least {at_least}" + (f" and below {below}" if below < math.inf else "")


def _declared_type(annotation: Any) -> type:
    """int of `int | None`."""
    return next(t for t in getattr(annotation, "__args__", (annotation,)) if t is not type(None))
