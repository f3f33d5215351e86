"""Write report.pdf from results/*.json.

    python -m studies.report

Every number in it is read from there, by studies/report.typ. The words there are about this project's own results:
where yours differ, it is for you to see whether they still hold.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bilm.config import ENSEMBLE, MODES
from bilm.runtime.errors import UserError
from bilm.runtime.files import atomic_write, read_json
from bilm.runtime.optional import require
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import ROOT, display_path
from bilm.runtime.process import run_script

TEMPLATE = Path(__file__).with_name("report.typ")
# What writes each file that is needed, in the order in which they can be run.
SOURCES = {
    "bilstm_training": "python ELMO.py --preset best",
    **{f"classifier_{mode}_training": "python classification.py --preset best" for mode in MODES},
    "lambda_study": "python -m studies.lambda_study",
    "label_efficiency": "python -m studies.label_efficiency",
    "summary": "python -m studies.baselines, then python evaluate.py --split all --duplicates",
    "mistakes": "python evaluate.py",
    "benchmark": "python -m benchmarks",
    # Put together from several runs; they say how.
    "softmax_curve": "git checkout results/softmax_curve.json",
    "make_best": "git checkout results/make_best.json",
    "best_seed_1": "git checkout results/best_seed_1.json",
}


@dataclass(frozen=True)
class ReportOptions:
    """Where to."""

    pdf: str = setting("report.pdf", "file to write")


def main() -> None:
    (options,) = parse_options(__doc__, ReportOptions)
    pdf = Path(options.pdf)
    if not pdf.name or pdf.is_dir():
        raise UserError(f"--pdf: {options.pdf!r} is no name of a file.")
    sources = {name: ROOT / "results" / f"{name}.json" for name in SOURCES}
    for name, path in sources.items():
        if not path.is_file():
            raise UserError(f"{display_path(path)} is not there. Make it first: {SOURCES[name]}")
    # Imported once it is known that there is something to write.
    pass  # REMOVED

    found = {name: read_json(path) for name, path in sources.items()}
    pages = build_report(found, TEMPLATE, pdf)
    print(f"Wrote {display_path(pdf)}, {pages} pages.")


# Of each kind of baseline the one whose confusion matrix is shown: the best on validation.
KINDS = {"tfidf_svm": "TF-IDF, SVM", "tfidf_logistic": "TF-IDF, logistic", "fasttext": "fastText"}
KINDS |= {"random": "random, learned", "svd": "SVD", "word2vec": "Word2Vec"}


def build_report(found: Mapping[str, Any], template: Path, pdf: Path) -> int:
    """Write `pdf` from the contents of the results' files, by name; returns the number of pages.

    Raises UserError when they lack what the template asks for, or when the package typst is missing.
    """
    typst = require("typst", "The report")
    _require_one_model(found)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source, content in found.items():
            (folder / f"{source}.json").write_text(json.dumps(content), encoding="utf-8")
        try:
            draw_figures(found, folder)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"the results do not hold what the report shows: {error!r}. Make them anew.") from error
        page = folder / template.name
        page.write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
        try:
            content = typst.compile(str(page), root=name, ignore_system_fonts=True)
        except typst.TypstError as error:
            raise UserError(f"{template.name}: {error}") from error
    with atomic_write(pdf) as temporary:
        temporary.write_bytes(content)
    return len(re.findall(rb"/Type\s*/Page\b", content))


def _require_one_model(found: Mapping[str, Any]) -> None:
    """Raises UserError where figures are of different language models or classifiers."""
    try:
        summary = found["summary"]
        stand_on = {name: found[name]["bilm"] for name in ("lambda_study", "label_efficiency")}
        stand_on |= {name: content["settings"]["bilm"] for name, content in found.items() if name.startswith("class")}
        others = [name for name, bilm in stand_on.items() if bilm != summary["bilm"]]
        best = found["mistakes"]
        if best["hash"] != summary["classifiers"][best["classifier"]]["hash"]:
            others.append("mistakes")
    except (KeyError, TypeError) as error:
        raise UserError(f"the results do not hold what the report shows: {error!r}. Make them anew.") from error
    if others:
        raise UserError(f"{others[0]}.json is not of the models of summary.json. Make it anew.")


def draw_figures(found: Mapping[str, Any], folder: Path) -> None:
    """All that the template shows, as SVG in `folder`."""
    # Imported here: matplotlib takes a second, and --help needs none of it.
    from bilm.evaluation.figures import draw_confusion_matrix, save
    from studies import figures as study_figures

    summary = found["summary"]
    classifiers, baselines = summary["classifiers"], summary["baselines"]
    finetuned = classifiers["finetune"]["accuracy_mean"]
    runs = {mode: found[f"classifier_{mode}_training"] for mode in MODES}
    levels = [
        ("ELMo, finetune", classifiers["finetune"]["test"]["accuracy"], study_figures.RED),
        ("ELMo, trainable", classifiers["trainable"]["test"]["accuracy"], study_figures.BLUE),
        ("TF-IDF, linear SVM", baselines["tfidf_svm"]["test"]["accuracy"], study_figures.GREY),
        ("random, learned", baselines["random"]["test"]["accuracy"], study_figures.PURPLE),
    ]
    figures = {
        "label_efficiency": study_figures.label_efficiency(found["label_efficiency"], finetuned),
        "lambdas": study_figures.lambdas(found["lambda_study"]),
        "windows": study_figures.windows(summary, levels),
        "learning_curves": study_figures.learning_curves(found["bilstm_training"], runs),
    }
    classes = [c["class"] for c in summary["ensemble"]["test"]["per_class"]]
    for split in ("test", "train"):
        entries = {**{mode: classifiers[mode] for mode in MODES}, ENSEMBLE: summary["ensemble"]}
        matrices = {
            f"{name}: {entry[split]['accuracy']:.4f}": entry[split]["confusion_matrix"]
            for name, entry in entries.items()
        }
        figures[f"confusion_{split}"] = study_figures.confusion_matrices(matrices, classes)
    shown = {}
    for kind, title in KINDS.items():
        if names := [name for name in baselines if name == kind or name.startswith(f"{kind}_")]:
            best = baselines[max(names, key=lambda name: baselines[name]["validation_accuracy"])]
            window = f", window {best['window']}" if "window" in best else ""
            shown[f"{title}{window}: {best['test']['accuracy']:.4f}"] = best["test"]["confusion_matrix"]
    figures["confusion_baselines"] = study_figures.confusion_matrices(shown, classes)
    for name, figure in figures.items():
        save(figure, folder / f"{name}.svg")
    forward = summary["language_model"]["test"]["forward"]
    words = forward["confusion_words"]
    path = folder / "confusion_language_model.svg"
    draw_confusion_matrix(path, forward["confusion_matrix"], words, [*words, "other"], "")


if __name__ == "__main__":
    run_script(main)
