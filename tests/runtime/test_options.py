import dataclasses
from dataclasses import dataclass

import pytest

from bilm.config import CLASSIFICATION, PRETRAINING
from bilm.runtime.options import parse_options, setting


@dataclass(frozen=True)
class Shape:
    """Of it."""

    width: int = setting(256, "wide")
    depth: int = setting(2, "deep")
    rate: float = setting(0.1, "fast")
    name: str | None = setting(None, "called")


@dataclass(frozen=True)
class Options:
    shape: Shape = Shape()


PRESETS = {"small": {"width": 8, "depth": 1}, "usual": {}}


def test_a_preset_changes_defaults_and_options_win():
    for argv, expected in (
        ([], (256, 2)),
        (["--preset", "usual"], (256, 2)),
        (["--preset", "small"], (8, 1)),
        (["--depth", "5", "--preset=small"], (8, 5)),
    ):
        shape = parse_options(Options, "", presets=PRESETS, arguments=argv).shape
        assert (shape.width, shape.depth) == expected, argv


def test_an_unknown_preset_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse_options(Options, "", presets=PRESETS, arguments=["--preset", "huge"])
    assert "invalid choice: 'huge'" in capsys.readouterr().err


def test_presets_name_settings_that_there_are():
    """A preset with a setting that no option has would be ignored without a word."""
    import classification
    import ELMO

    for presets, options in ((PRETRAINING, ELMO.Options), (CLASSIFICATION, classification.Options)):
        for name in presets:
            parse_options(options, "", presets=presets, arguments=["--preset", name])
        groups = [group.default for group in dataclasses.fields(options)]
        settings = {item.name for group in groups for item in dataclasses.fields(group) if "help" in item.metadata}
        assert {name for preset in presets.values() for name in preset} <= settings
    assert set(PRETRAINING) == set(CLASSIFICATION) == {"fast", "base", "best"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", ""], "argument --name: the value is empty"),
        (["--width", "-1"], "argument --width: -1 is not at least 0 and below 1,000,000,000"),
        (["--width", "9" * 400], "argument --width: this number is not at least 0"),
        (["--rate", "inf"], "argument --rate: "),
        (["--rate", "nan"], "argument --rate: nan is not at least 0"),
    ],
)
def test_values_that_cannot_be_meant(capsys, arguments, message):
    with pytest.raises(SystemExit):
        parse_options(Options, "", arguments=arguments)
    assert message in capsys.readouterr().err
    assert parse_options(Options, "", arguments=["--rate", "1e30", "--name", "0"]).shape.rate == 1e30
