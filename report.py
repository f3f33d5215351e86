"""Write report.pdf from results/*.json.

    python report.py

Every number in it is read from there, by report/report.typ. The words there are about this project's own results:
where yours differ, it is for you to see whether they still hold.
"""

from dataclasses import dataclass
from pathlib import Path

from bilm.config import MODES, setting
from bilm.errors import UserError
from bilm.folders import ROOT, read_json, shown
from bilm.options import parse_options
from utils import run_script

TEMPLATE = ROOT / "report" / "report.typ"
# What writes each file that is needed, in the order in which they can be run.
SOURCES = {
    "bilstm_training": "python ELMO.py --preset best",
    **{f"classifier_{mode}_training": "python classification.py --preset best" for mode in MODES},
    "lambda_study": "python lambda_study.py",
    "label_efficiency": "python label_efficiency.py",
    "summary": "python baselines.py, then python evaluate.py --split all --duplicates",
    "mistakes": "python evaluate.py",
    "benchmark": "python benchmark.py",
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
            raise UserError(f"{shown(path)} is not there. Make it first: {SOURCES[name]}")
    # Imported once it is known that there is something to write.
    from bilm.report import build_report

    found = {name: read_json(path) for name, path in sources.items()}
    pages = build_report(found, TEMPLATE, pdf)
    print(f"Wrote {shown(pdf)}, {pages} pages.")


if __name__ == "__main__":
    run_script(main)
