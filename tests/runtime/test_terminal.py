import pytest

from bilm.runtime.terminal import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (40, "40 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5340, "89 min"),
        (5400, "1 h 30 min"),
        (7170, "2 h 0 min"),
    ],
)
def test_durations_have_about_two_digits(seconds, text):
    assert duration(seconds) == text
