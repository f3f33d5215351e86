"""The folders of a run."""

import itertools

from bilm.runtime.paths import folders


def test_no_two_runs_share_a_folder():
    names = ("ag_news", "x", "x-limit-100", "limit-100", "full", "figures", "shipped", ".hidden", "no-limit")
    runs = list(itertools.product(names, (None, 100, 5)))
    for name in ("models", "results", "runs"):
        paths = [getattr(folders("out", *run), name) for run in runs]
        assert len(paths) == len(set(paths))


def test_folders_are_named_after_the_rows():
    result = folders("out", "my texts", 100)
    assert (result.models.name, result.runs.name) == ("my texts-limit-100", "my texts-limit-100")
    assert folders("out", "no-limit", None).models.name == "no-limit"
