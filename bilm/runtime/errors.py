"""What the scripts turn into a single line for the user, instead of a traceback."""


class UserError(Exception):
    """A mistake in the input, the command or the files at hand: says what, where, and what to do about it.

    Ends a script with exit status 2.
    """


class Interrupted(Exception):
    """A run was told to stop (Ctrl-C, SIGTERM), and has saved where it stands; `str()` says where that is.

    Ends a script with exit status 128 + signal_number, as the shell has it.
    """

    def __init__(self, signal_number: int, where: str):
        super().__init__(where)
        self.signal_number = signal_number
