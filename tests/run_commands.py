"""Run commands of this project one after the other in one process, which starts Python and torch once.

    python tests/run_commands.py '[["ELMO.py", "--data", "data/sample"], ["evaluate.py"]]'

Prints "$ ELMO.py ..." before each. Ends with the status of the first that fails.
"""

import gc
import json
import os
import runpy
import shlex
import sys


def run_all(commands: list[list[str]]) -> None:
    sys.path.insert(0, os.getcwd())
    for command in commands:
        print(f"$ {shlex.join(command)}".encode("ascii", "replace").decode(), flush=True)
        gc.freeze()  # a command collects its own garbage at its end, not that of all before it
        sys.argv = command[1:] if command[0] == "-m" else command
        try:
            if command[0] == "-m":
                runpy.run_module(command[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    run_all(json.loads(sys.argv[1]))
