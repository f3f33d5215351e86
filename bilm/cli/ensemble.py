"""Write a small file that names several classifiers, to be used as one.

    bilm ensemble --output models/best.json models/classifier.pt models/classifier_function.pt
    bilm ensemble --output models/best.json models/classifier.pt other/models/classifier.pt    two language models
    bilm predict --classifier models/best.json "Stocks fell ..."

Its answers are the means of the probabilities of the classifiers. The language model of each is the bilstm.pt beside
it, or else the models/bilstm.pt of this repository, as for a classifier of `bilm fit`; a fine-tuned classifier contains
its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bilm.runtime.errors import UserError
from bilm.runtime.options import parse_options, setting
from bilm.runtime.paths import display_path
from bilm.runtime.process import quoted


@dataclass(frozen=True)
class EnsembleOptions:
    """The members, and the file."""

    classifiers: tuple[str, ...] = setting((), "files of classifiers, two or more", positional=True)
    output: str = setting("ensemble.json", "file to write, .json")

    def __post_init__(self) -> None:
        if Path(self.output).suffix != ".json":
            raise UserError(f"the name of {self.output} should end in .json.", "output")


@dataclass(frozen=True)
class Options:
    """All options of this command, by group."""

    ensemble: EnsembleOptions = EnsembleOptions()


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(Options, __doc__, arguments=arguments, program="python -m bilm ensemble").ensemble
    if len(options.classifiers) < 2:
        raise UserError("name two or more files of classifiers.")
    # Imported after the options are parsed: torch takes seconds, and --help does not need it.
    from bilm.checkpoints.ensembles import write_ensemble

    path = Path(options.output)
    members = write_ensemble(path, [Path(name) for name in options.classifiers])
    models, name = len({trained.bilm_hash for trained in members}), display_path(path)
    print(
        f"Wrote {name}: {len(members)} classifiers on {models} language "
        f'model{"s" if models > 1 else ""}. Next: python -m bilm predict --classifier {quoted(name)} "a text"'
    )
