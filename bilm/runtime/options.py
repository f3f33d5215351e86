"""Dataclasses -> command line: every setting becomes an option with its help text, default and limits."""

import argparse
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

from bilm.runtime.process import command_line

T = TypeVar("T")
# Whatever is larger is a mistake: as a number of bytes, rows or threads it would end in an error of its own.
_LARGEST = 10**9
Presets = Mapping[str, Mapping[str, Any]]


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field that carries its help text and its limits to the command line.

    limits: `choices`; `names` of the values, for an option that takes several; `positional`, for values without a
    flag; or for a number `at_least` (default 0) and `below` (default for integers 10**9).
    """
    return dataclasses.field(default=default, metadata={"help": help, **limits})


def parse_options(
    kind: type[T],
    description: str,
    *,
    presets: Presets | None = None,
    arguments: Sequence[str] | None = None,
    program: str | None = None,
) -> T:
    """Command line -> an instance of the dataclass `kind`, whose fields are groups of settings: dataclasses as well.

    The default of a field of `kind` has the default values of its group. A field made by `setting` becomes the option
    `--field-name`; other fields keep their values. presets: by name, values that `--preset NAME` puts in place of the
    defaults; an option on the command line has precedence. arguments, program: of sys.argv unless they are given.
    """
    parser = argparse.ArgumentParser(
        program or command_line(), description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    groups = {group.name: group.default for group in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if presets:
        text = "settings by name; other options have precedence (default: the defaults below)"
        parser.add_argument("--preset", choices=sorted(presets), help=text)
        finder = argparse.ArgumentParser(add_help=False)
        finder.add_argument("--preset", choices=sorted(presets))
        chosen = presets.get(finder.parse_known_args(arguments)[0].preset, {})
        groups = {name: _replaced(group, chosen) for name, group in groups.items()}
    for group in groups.values():
        section = parser.add_argument_group((type(group).__doc__ or "").strip().splitlines()[0])
        types = get_type_hints(type(group))
        for item in _settings(group):
            _add_option(section, item, getattr(group, item.name), types[item.name])
    values = vars(parser.parse_args(arguments))
    for item in (item for group in groups.values() for item in _settings(group)):
        if isinstance(values[item.name], list):
            values[item.name] = tuple(values[item.name])
        choices = item.metadata.get("choices")
        assert choices is None or values[item.name] in choices, f"a preset has {item.name} {values[item.name]!r}"
        if problem := _problem(values[item.name], item.metadata):
            parser.error(f"argument --{item.name.replace('_', '-')}: {problem}")
    return kind(**{name: _replaced(group, values) for name, group in groups.items()})


def _add_option(section: Any, item: dataclasses.Field, default: Any, annotation: Any) -> None:
    """Add one setting to a group of argparse."""
    limits, text, flag = item.metadata, item.metadata["help"].replace("%", "%%"), f"--{item.name.replace('_', '-')}"
    if isinstance(default, bool):
        action = argparse.BooleanOptionalAction if default else "store_true"
        section.add_argument(flag, action=action, default=default, help=text)
    elif limits.get("positional"):
        section.add_argument(item.name, nargs="*", default=default, metavar=item.name.upper(), help=text)
    elif names := limits.get("names"):
        section.add_argument(flag, nargs=len(names), default=default, metavar=names, help=text)
    else:
        kind = type(default) if default is not None else _declared_type(annotation)
        section.add_argument(
            flag,
            type=kind,
            default=default,
            choices=limits.get("choices"),
            metavar=None if limits.get("choices") else kind.__name__.upper(),
            help=text if default is None else f"{text} (default: {default})",
        )


def _replaced(group: Any, values: Mapping[str, Any]) -> Any:
    names = [item.name for item in _settings(group) if item.name in values]
    return dataclasses.replace(group, **{name: values[name] for name in names})


def _settings(group: Any) -> Iterator[dataclasses.Field]:
    """The fields that are options: those with a help text."""
    return (item for item in dataclasses.fields(group) if "help" in item.metadata)


def _problem(value: Any, limits: Mapping[str, Any]) -> str:
    """What is wrong with a value; empty where nothing is."""
    if value == "":
        return "the value is empty"  # of a variable of the shell that is not set
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    at_least, below = limits.get("at_least", 0), limits.get("below", _LARGEST if isinstance(value, int) else math.inf)
    if at_least <= value < below:  # not so for NaN
        return ""
    shown = "this number" if isinstance(value, int) and abs(value) > 10**99 else value
    return f"{shown} is not at least {at_least}" + (f" and below {below:,}" if below < math.inf else "")


def _declared_type(annotation: Any) -> type:
    """int of `int | None`."""
    return next(t for t in getattr(annotation, "__args__", (annotation,)) if t is not type(None))
