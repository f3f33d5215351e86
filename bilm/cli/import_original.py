"""`ELMO.py --import-original`: the published files of the original ELMo become a language model of this project."""

from pathlib import Path
from typing import Any

from bilm.checkpoints.bundled import bundled_files, keep_bundled, remove_bundled_classifiers
from bilm.checkpoints.model_format import import_original, save_bilm, saved_info
from bilm.cli.earlier_runs import replacement_warning
from bilm.runtime.errors import UserError
from bilm.runtime.paths import ROOT, display_path
from bilm.runtime.process import allow_interrupts, quoted


def import_original_elmo(files: tuple[str, str], output: str | None, restart: bool) -> None:
    """Write the original ELMo in `files`, its options and its weights, to `output`, a .pt file or a folder.

    restart: whether another language model there is replaced. Raises UserError if it is not, or if a file cannot be
    read or written.
    """
    allow_interrupts()
    options, weights = map(Path, files)
    path = Path(output) if output else ROOT / "models"
    if path.suffix != ".pt":
        path = path / "original.pt"
    original = import_original(options, weights)

    def read() -> dict[str, Any] | None:
        earlier = None if path in bundled_files(path.parent) else saved_info(path, "bilm")
        return earlier and {"corpus": earlier["settings"].get("corpus"), **earlier.get("imported", {})}

    warning = replacement_warning(path, read, {"corpus": None, **original.info["imported"]})
    if warning and not restart:
        raise UserError(warning)
    replaces_bilstm = path.name == "bilstm.pt"
    if (replaces_bilstm or path in bundled_files(path.parent)) and (note := keep_bundled(path.parent)):
        print(note)
    save_bilm(path, original.model, original.vocabulary, original.info)
    if replaces_bilstm:
        remove_bundled_classifiers(path.parent)
    name = display_path(path)
    print(
        f"Read {original.model.num_layers} layers of width {original.model.output_dim} from {display_path(weights)}.\n"
        f"Wrote {name}. Next: python classification.py --bilm {quoted(name)} --output FOLDER"
    )
