"""The errors that m3e raises for reasons a user can mend.

Every one carries a single line that says what is wrong and what to do. The
command line prints that line and exits with :attr:`M3EError.exit_code`.
"""

from __future__ import annotations


class M3EError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is the command line's."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class DataError(M3EError):
    """Records that cannot be used: the message names the file, and the row or column."""


class ModelError(M3EError):
    """A model that cannot be loaded, written or trusted."""


class SettingsError(M3EError):
    """Options that contradict each other or lie outside their range."""


class StoreError(M3EError):
    """A vector store that is not there, holds something else, or does not answer."""


class OutputExistsError(M3EError):
    """The output folder holds something that is not ours to replace."""


class HubUnreachableError(ModelError):
    """A model or data hub did not answer."""


class TrainingDivergedError(M3EError):
    """The loss or the weights stopped being finite numbers."""


class MissingExtraError(M3EError):
    """An optional dependency is not installed.

    Args:
        package: the import that failed.
        extra: the extra of ``m3e`` that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; it comes with: pip install 'm3e[{extra}]'")


class IncompleteError(M3EError):
    """The work is done, but a named part was missing or failed (exit code 3)."""

    exit_code = 3


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class where it has none: what a one-line message quotes."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
