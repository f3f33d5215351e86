"""Packages that only some commands need: imported where they are used, and asked for in one line when missing."""

import importlib
import sys
from typing import Any

from bilm.runtime.errors import UserError

# The first Python that the package has no release for; as in requirements.txt and pyproject.toml.
NO_RELEASE_FROM = {"gensim": (3, 14), "floret": (3, 13)}


def require(module: str, needed_by: str) -> Any:
    """Import `module`, such as "pyarrow.parquet"; its package has the name of its first part.

    needed_by: what cannot be done without it, the subject of the message. Raises UserError with the command that
    installs the package, or with what is wrong with the one installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError) or error.name not in (package, module):
            # Installed, but built for another NumPy, or without a package of its own.
            reason = " ".join(str(error).split())
            raise UserError(f"{needed_by} needs the package {package}, whose import fails: {reason}") from error
    advice = f"python -m pip install {package}"
    if package in NO_RELEASE_FROM and sys.version_info >= NO_RELEASE_FROM[package]:
        major, minor = NO_RELEASE_FROM[package]
        advice = f"it has no release for Python {major}.{minor} and later; use an earlier Python."
    raise UserError(f"{needed_by} needs the package {package}: {advice}")
