"""`python -m bilm COMMAND ...`; after `pip install -e .` also `bilm COMMAND ...`."""

import importlib
import sys
from functools import partial

from bilm.runtime.process import run_script

COMMANDS = {
    "fit": "train a classifier on your own texts, and compare it with TF-IDF",
    "predict": "classify texts, explain the answers, serve a page in the browser",
    "evaluate": "metrics of a classifier on a file of texts and their classes",
    "ensemble": "write a file that names several classifiers, to be used as one",
    "vectors": "write the vectors of texts to a file",
    "neighbours": "find where else a word occurs in the same sense",
    "lm": "score a text, fill a blank, continue a text",
}


def main() -> None:
    """Run the command that the first argument names; each is a module of bilm.cli with a `main`."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        command = importlib.import_module(f"bilm.cli.{name}")
        run_script(partial(command.main, sys.argv[2:]), f"bilm {name}")
        return
    lines = [f"  {command:<12}{text}" for command, text in COMMANDS.items()]
    text = "\n".join(
        ["usage: python -m bilm COMMAND [options]", *lines, "python -m bilm COMMAND --help lists the options."]
    )
    if name in ("-h", "--help"):
        print(text)
        return
    print(text, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
