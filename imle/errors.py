"""The failures that a caller may want to tell apart, each with the exit code of the command line.

0 done; 2 usage; 3 data; 4 cannot resume; 5 folder in use; 6 the numbers diverged; 7 disk; 75 interrupted, resumable.
"""

EXIT_DISK = 7
EXIT_INTERRUPTED = 75


class Failure(Exception):
    """A failure that a person can mend; its message says what was expected and what was received."""

    exit_code: int


class SettingsError(Failure, ValueError):
    """A setting is unknown or out of range."""

    exit_code = 2


class DataError(Failure, ValueError):
    """The input cannot be used: wrong shape, not finite, empty, unreadable, missing."""

    exit_code = 3


class ResumeError(Failure, RuntimeError):
    """What is on disk cannot be continued: settings or data changed, or every checkpoint is damaged."""

    exit_code = 4


class BusyError(Failure, RuntimeError):
    """Another process holds the folder."""

    exit_code = 5


class DivergedError(Failure, RuntimeError):
    """The loss is no longer finite; the last good checkpoint is kept."""

    exit_code = 6


class Interrupted(Failure, RuntimeError):
    """The run was asked to stop, committed a checkpoint, and can be resumed."""

    exit_code = EXIT_INTERRUPTED
