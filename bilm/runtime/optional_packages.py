"""Packages that only some commands need: imported where they are used, with a message of one line when missing."""

import importlib
import sys
from typing import Any

from bilm.runtime.errors import UserError

# The first version of Python that each package has no release for; the same as in requirements.txt and pyproject.toml.
NO_RELEASE_FROM = {"gensim": (3, 14), "floret": (3, 13)}


def require(module: str, needed_by: str) -> Any:
    """Import `module`, such as "pyarrow.parquet", of the package named by its first part.

    needed_by: the task that needs the package, the subject of the message. Raises UserError with the command that
    installs the package, or with the reason why the installed package cannot be imported.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError) or error.name not in (package, module):
            # The package is installed, but built for another NumPy, or lacks a dependency.
            reason = " ".join(str(error).split())
            raise UserError(f"{needed_by} needs the package {package}, whose import fails: {reason}") from error
    advice, version = f"python -m pip install {package}", NO_RELEASE_FROM.get(package)
    if version is not None and sys.version_info >= version:
        advice = f"it has no release for Python {version[0]}.{version[1]} and later; use an earlier Python."
    raise UserError(f"{needed_by} needs the package {package}: {advice}")
