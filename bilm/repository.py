"""Where this repository is: its weights and its sample are not part of the installed package.

a run in the checkout, or `pip install -e .`   the folder that holds the package
`pip install .`                                the folder that it was installed from, which pip records (PEP 610)
"""

import json
from pathlib import Path

import bilm
from bilm.errors import UserError

DISTRIBUTION = "elmo-ag-news"


def checkout() -> Path | None:
    """The checkout that the package lies in; None for a package in site-packages."""
    folder = Path(bilm.__file__).resolve().parent.parent
    return folder if (folder / "ELMO.py").is_file() else None


def install_source() -> Path | None:
    """The folder that pip installed the package from, whether it still exists or not; None if it was no folder."""
    # Imported here: they take longer than the rest of a --help, and a run in the checkout needs neither.
    import importlib.metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        recorded = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        source = json.loads(recorded or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    url = urlsplit(source.get("url", ""))
    return Path(url2pathname(url.path)) if "dir_info" in source and url.scheme == "file" else None


def working_folder() -> Path:
    """Where models/, results/, runs/ and data/ are written: the checkout; for an installed package the current folder.

    Never site-packages.
    """
    return checkout() or Path.cwd()


def repository_folder() -> Path | None:
    """The folder of this repository; None where it is not known. It may have been removed since the installation."""
    return checkout() or install_source()


def bundled_bilm() -> Path:
    """models/bilstm.pt of this repository. Raises UserError, with where it was looked for, when it does not exist."""
    folder = repository_folder()
    file = folder / "models" / "bilstm.pt" if folder else None
    if file is not None and file.is_file():
        return file
    missing = f"there is no {file}" if file else f"{bilm.__file__} was not installed from a folder"
    raise UserError(
        f"the language model of this repository is missing: {missing}. Name a file, as in ELMo.load('bilstm.pt'), or "
        "install a clone of the repository in place: python -m pip install -e FOLDER"
    )
