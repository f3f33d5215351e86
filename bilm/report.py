"""results/*.json -> report.pdf: figures by matplotlib, pages by typst, which reads the same JSON files."""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bilm import study_figures
from bilm.checkpoint import written_whole
from bilm.config import ENSEMBLE, MODES
from bilm.errors import UserError
from bilm.figures import draw_confusion_matrix, save
from bilm.optional import require

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
    with written_whole(pdf) as temporary:
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
