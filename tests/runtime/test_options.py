from dataclasses import dataclass

import pytest

from bilm.config import CLASSIFICATION, PRETRAINING, BiLMConfig, ClassifierConfig, FitConfig
from bilm.runtime.options import parse_options, setting


@dataclass(frozen=True)
class Shape:
    """Of it."""

    width: int = setting(256, "wide")
    depth: int = setting(2, "deep")


PRESETS = {"small": {"width": 8, "depth": 1}, "usual": {}}


def test_a_preset_changes_defaults_and_options_win():
    for argv, expected in (
        ([], (256, 2)),
        (["--preset", "usual"], (256, 2)),
        (["--preset", "small"], (8, 1)),
        (["--depth", "5", "--preset=small"], (8, 5)),
    ):
        (shape,) = parse_options("", Shape, presets=PRESETS, arguments=argv)
        assert (shape.width, shape.depth) == expected, argv


def test_an_unknown_preset_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse_options("", Shape, presets=PRESETS, arguments=["--preset", "huge"])
    assert "invalid choice: 'huge'" in capsys.readouterr().err


def test_presets_name_settings_that_there_are():
    """A preset with a setting that no option has would be ignored without a word."""
    from classification import ClassificationOptions
    from ELMO import EmbeddingOptions

    for presets, groups in (
        (PRETRAINING, (BiLMConfig, FitConfig, EmbeddingOptions)),
        (CLASSIFICATION, (ClassifierConfig, FitConfig, ClassificationOptions)),
    ):
        for name in presets:
            parse_options("", *groups, presets=presets, arguments=["--preset", name])
        fields = [item for group in groups for item in group.__dataclass_fields__.values()]
        known = {item.name for item in fields if "help" in item.metadata}
        assert {name for preset in presets.values() for name in preset} <= known
    assert set(PRETRAINING) == set(CLASSIFICATION) == {"fast", "base", "best"}
