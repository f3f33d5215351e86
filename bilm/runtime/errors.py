"""Exceptions that a command turns into one line for the user, instead of a traceback."""


class UserError(Exception):
    """A mistake in the input, the command or the files; the message says what is wrong, where, and what to do.

    parameters: names of the settings or arguments that can correct it; a command adds its options for them. Ends a
    command with exit status 2.
    """

    def __init__(self, message: str, *parameters: str):
        super().__init__(message)
        self.parameters = parameters


class OtherRankError(UserError):
    """A UserError of another process of a run under torchrun: rank 0 tells the user of it."""


class Interrupted(Exception):
    """A signal (Ctrl-C, SIGTERM) stopped a run, whose state has been saved; `str()` gives the position in the run.

    Ends a command with exit status 128 + signal_number, the convention of shells.
    """

    def __init__(self, signal_number: int, position: str):
        super().__init__(position)
        self.signal_number = signal_number
