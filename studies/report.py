"""Write report.pdf from results/*.json.

    python -m studies.report

Every number in the report is read from there by the template studies/report.typ. The text of the template describes the
results of this project; check it if your results differ.
"""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bilm.config import ENSEMBLE, MODES
from bilm.runtime.errors import UserError
from bilm.runtime.files import atomic_write, read_json
from bilm.runtime.optional_packages import require
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import ROOT, display_path
from bilm.runtime.process import run_script

TEMPLATE = Path(__file__).with_name("report.typ")
# The command that writes each file, in an order in which they can be run.
SOURCES = {
    "bilstm_training": "python ELMO.py --preset best",
    **{f"classifier_{mode}_training": "python classification.py --preset best" for mode in MODES},
    "lambda_study": "python -m studies.lambda_study",
    "label_efficiency": "python -m studies.label_efficiency",
    "summary": "python -m studies.baselines, then python evaluate.py --split all --duplicates",
    "mistakes": "python evaluate.py",
    "benchmark_bf16": "python -m benchmarks --precision bf16",
    # Collected from several runs; the files say how.
    "softmax_curve": "git checkout results/softmax_curve.json",
    "make_best": "git checkout results/make_best.json",
    "best_seed_1": "git checkout results/best_seed_1.json",
    "large": "git checkout results/large.json",
}
# Titles of kinds of baselines in the report.
TITLES = {"tfidf_svm": "TF-IDF, SVM", "tfidf_logistic": "TF-IDF, logistic", "fasttext": "fastText"}
TITLES |= {"random": "random, trained", "svd": "SVD", "word2vec": "Word2Vec"}


@dataclass(frozen=True)
class ReportOptions:
    """The file."""

    pdf: str = setting("report.pdf", "file to write")


@dataclass(frozen=True)
class Options:
    """All options of this command, by group."""

    report: ReportOptions = ReportOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    pdf = Path(parse_options(Options, __doc__, arguments=arguments).report.pdf)
    if not pdf.name or pdf.is_dir():
        raise UserError(f"--pdf: {str(pdf)!r} is not the name of a file.")
    sources = {name: ROOT / "results" / f"{name}.json" for name in SOURCES}
    for name, path in sources.items():
        if not path.is_file():
            raise UserError(f"there is no {display_path(path)}. Make it first: {SOURCES[name]}")
    pages = build_report({name: read_json(path) for name, path in sources.items()}, TEMPLATE, pdf)
    print(f"Wrote {display_path(pdf)}, {pages} pages.")


def build_report(results: Mapping[str, Any], template: Path, pdf: Path) -> int:
    """Write `pdf` from the contents of the results files, by name; returns the number of pages.

    Figures are drawn by matplotlib, pages are set by typst, which reads the same JSON files. Raises UserError if the
    results lack something that the template shows, or if the package typst is missing.
    """
    typst = require("typst", "The report")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source, content in results.items():
            (folder / f"{source}.json").write_text(json.dumps(content), encoding="utf-8")
        try:
            _require_one_model(results)
            draw_figures(results, folder)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"the results lack something that the report shows: {error!r}. Make them again.") from error
        page = folder / template.name
        page.write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
        try:
            content = typst.compile(str(page), root=name, ignore_system_fonts=True)
        except typst.TypstError as error:
            raise UserError(f"{template.name}: {error}") from error
    with atomic_write(pdf) as temporary:
        temporary.write_bytes(content)
    return len(re.findall(rb"/Type\s*/Page\b", content))


def _require_one_model(results: Mapping[str, Any]) -> None:
    """Raises UserError if the results are of different language models or classifiers."""
    summary, mistakes = results["summary"], results["mistakes"]
    models = {name: results[name]["bilm"] for name in ("lambda_study", "label_efficiency")}
    models |= {name: content["settings"]["bilm"] for name, content in results.items() if name.startswith("classifier")}
    mismatched = [name for name, bilm in models.items() if bilm != summary["bilm"]]
    if mistakes["hash"] != summary["classifiers"][mistakes["classifier"]]["hash"]:
        mismatched.append("mistakes")
    if mismatched:
        raise UserError(f"{mismatched[0]}.json is not of the models of summary.json. Make it again.")


def draw_figures(results: Mapping[str, Any], folder: Path) -> None:
    """Write all figures of the template as SVG to `folder`."""
    # Imported here: matplotlib takes a second, and --help does not need it.
    from bilm.evaluation.figures import draw_confusion_matrix, save
    from studies import figures as draw

    summary = results["summary"]
    classifiers, baselines = summary["classifiers"], summary["baselines"]
    levels = [
        ("ELMo, finetune", classifiers["finetune"]["test"]["accuracy"], draw.RED),
        ("ELMo, trainable", classifiers["trainable"]["test"]["accuracy"], draw.BLUE),
        ("TF-IDF, linear SVM", baselines["tfidf_svm"]["test"]["accuracy"], draw.GREY),
        ("random, trained", baselines["random"]["test"]["accuracy"], draw.PURPLE),
    ]
    runs = {mode: results[f"classifier_{mode}_training"] for mode in MODES}
    figures = {
        "label_efficiency": draw.label_efficiency(
            results["label_efficiency"], classifiers["finetune"]["accuracy_mean"]
        ),
        "lambdas": draw.lambdas(results["lambda_study"]),
        "windows": draw.windows(summary, levels),
        "learning_curves": draw.learning_curves(results["bilstm_training"], runs),
    }
    classes = [c["class"] for c in summary["ensemble"]["test"]["per_class"]]
    entries = {**{mode: classifiers[mode] for mode in MODES}, ENSEMBLE: summary["ensemble"]}
    for split in ("test", "train"):
        by_title = {f"{name}: {entry[split]['accuracy']:.4f}": entry[split] for name, entry in entries.items()}
        matrices = {title: figures_of_split["confusion_matrix"] for title, figures_of_split in by_title.items()}
        figures[f"confusion_{split}"] = draw.confusion_matrices(matrices, classes)
    figures["confusion_baselines"] = draw.confusion_matrices(baseline_matrices(baselines), classes)
    for name, figure in figures.items():
        save(figure, folder / f"{name}.svg")
    forward = summary["language_model"]["test"]["forward"]
    words, path = forward["confusion_words"], folder / "confusion_language_model.svg"
    draw_confusion_matrix(path, forward["confusion_matrix"], words, [*words, "other"], "")


def baseline_matrices(baselines: Mapping[str, Any]) -> dict[str, list[list[int]]]:
    """The confusion matrix of the best baseline of each kind on validation, by title."""
    kinds: dict[str, list[str]] = {}
    for name in baselines:
        kinds.setdefault(re.sub(r"_\d+$", "", name), []).append(name)
    matrices = {}
    for kind, names in kinds.items():
        best = baselines[max(names, key=lambda name: baselines[name]["validation_accuracy"])]
        window = f", window {best['window']}" if "window" in best else ""
        matrices[f"{TITLES.get(kind, kind)}{window}: {best['test']['accuracy']:.4f}"] = best["test"]["confusion_matrix"]
    return matrices


if __name__ == "__main__":
    run_script(main)
