"""The study of own texts, on a few texts."""

import json

import pytest

from bilm.runtime import provenance
from bilm.runtime.errors import UserError
from studies import own_texts


def write(path, numbers):
    rows = [
        f"{noun} {i} of the {kind},{kind}"
        for i in numbers
        for noun, kind in (("a goal", "match"), ("an orbit", "probe"))
    ]
    path.write_text("\n".join(["text,kind", *rows]), encoding="utf-8")


def test_each_folder_has_figures_with_all_labels_with_few_and_with_unlabelled_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(own_texts, "ROOT", tmp_path)
    monkeypatch.setattr(own_texts, "FEW", 6)
    folder = tmp_path / "said"
    folder.mkdir()
    write(folder / "train.csv", range(20))
    write(folder / "test.csv", range(20, 40))
    own_texts.main([str(folder), "--seeds", "2"])
    results = json.loads((tmp_path / "results/own_texts.json").read_text(encoding="utf-8"))
    kinds = {"said": (40, 1, None), "said_6_labels": (12, 2, None), "said_6_labels_unlabelled": (12, 2, 28)}
    assert results["commit"] and results["data"].keys() == kinds.keys()
    for name, (rows, runs, unlabelled) in kinds.items():
        figures = results["data"][name]
        assert (figures["rows_trained"], figures["seeds"], len(figures["seconds"])) == (rows, runs, runs)
        assert figures.get("rows_unlabelled") == unlabelled
        assert figures["hybrid"]["accuracy"] == figures["tfidf_svm"]["f1_macro"] == 1.0
        assert (figures["hybrid"]["accuracy_std"] is None) == (runs == 1)
    few, more = results["data"]["said_6_labels"], results["data"]["said_6_labels_unlabelled"]
    assert few["tfidf_svm"] == more["tfidf_svm"], "it learns from the labelled rows alone"


def test_figures_of_other_folders_stay_if_they_are_of_the_same_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(own_texts, "ROOT", tmp_path)
    monkeypatch.setattr(own_texts, "fitted", lambda folder, *_: folder)
    monkeypatch.setattr(own_texts, "summarised", lambda runs: {"of": runs[0].name})
    stamp = {"commit": "abc", "command": "python -m studies.own_texts"}
    monkeypatch.setattr(provenance, "run_stamp", lambda *_: stamp)
    path = tmp_path / "results/texts.json"
    path.parent.mkdir()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file in ("train.csv", "test.csv"):
            write(tmp_path / name / file, range(3))
        own_texts.main([str(tmp_path / name), "--result", "texts", "--seeds", "1"])
    results = json.loads(path.read_text(encoding="utf-8"))
    assert results["data"]["one"]["of"] == "one" and results["data"]["two_25_labels"]["of"] == "two"
    # Another commit; and two of which nobody knows whether they are the same code.
    for earlier, now in (("another", "abc"), ("abc+", "abc+"), ("unknown", "unknown")):
        path.write_text(json.dumps({**results, "commit": earlier}), encoding="utf-8")
        stamp["commit"] = now
        own_texts.main([str(tmp_path / "two"), "--result", "texts", "--seeds", "1"])
        data = json.loads(path.read_text(encoding="utf-8"))["data"]
        assert set(data) == {"two", "two_25_labels", "two_25_labels_unlabelled"}


def test_what_was_measured_is_kept_if_the_next_data_set_fails(tmp_path, monkeypatch):
    def fitted(folder, *_):
        if folder.name == "two":
            raise UserError("the disk is full.")
        return folder

    monkeypatch.setattr(own_texts, "ROOT", tmp_path)
    monkeypatch.setattr(own_texts, "fitted", fitted)
    monkeypatch.setattr(own_texts, "summarised", lambda runs: {"of": runs[0].name})
    (tmp_path / "results").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file in ("train.csv", "test.csv"):
            write(tmp_path / name / file, range(3))
    with pytest.raises(UserError, match="full"):
        own_texts.main([*(str(tmp_path / name) for name in ("one", "two")), "--result", "texts"])
    assert "one" in json.loads((tmp_path / "results/texts.json").read_text(encoding="utf-8"))["data"]


def test_folders_that_cannot_be_compared_are_an_error(tmp_path, monkeypatch):
    for name in ("one/data", "two/data"):
        (tmp_path / name).mkdir(parents=True)
        for file in ("train.csv", "test.csv"):
            (tmp_path / name / file).write_text("text\nRain fell.\n")
    with pytest.raises(UserError, match="the same name"):
        own_texts.main([str(tmp_path / "one/data"), str(tmp_path / "two/data")])
    with pytest.raises(UserError, match="the column text and one other"):
        own_texts.main([str(tmp_path / "one/data")])
    monkeypatch.setattr(own_texts, "fitted", lambda *_: pytest.fail("a data set was learned before all were read"))
    write(tmp_path / "train.csv", range(3))
    with pytest.raises(UserError, match=r"there is no file .*test\.csv"):
        own_texts.main([str(tmp_path)])
    write(tmp_path / "test.csv", range(3))
    with pytest.raises(UserError, match="the column text and one other"):
        own_texts.main([str(tmp_path), str(tmp_path / "one/data")])
    for content in (b'text,topic\n"Rain,a\n', "text,topic\nCaf\u00e9,a\n".encode("latin-1")):
        (tmp_path / "train.csv").write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as a CSV file"):
            own_texts.main([str(tmp_path)])


def test_no_folder_is_an_error():
    with pytest.raises(UserError, match="one or more folders"):
        own_texts.main([])
