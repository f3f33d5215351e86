"""Exceptions that a command turns into one line for the user, instead of a traceback."""


class UserError(Exception):
    """A mistake in the input, the command or the files: the message says what is wrong, where, and what to do.

    parameters: names of the settings or arguments by which the user can mend it; a command adds its options for them.
    Ends a command with exit status 2.
    """

    def __init__(self, message: str, *parameters: str):
        super().__init__(message)
        self.parameters = parameters


class Interrupted(Exception):
    """A run was told to stop (Ctrl-C, SIGTERM) and has saved its state; `str()` gives the position in the run.

    Ends a command with exit status 128 + signal_number, the convention of shells.
    """

    def __init__(self, signal_number: int, where: str):
        super().__init__(where)
        self.signal_number = signal_number
