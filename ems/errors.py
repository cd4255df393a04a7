"""Every error that a person can cause or mend, as one small tree.

    EmsError
    +-- BadInput          what was given is wrong: file, option, request        (exit 2)
    +-- Failed            it was tried and did not work                         (exit 1)
        +-- ConnectionLost    a device or server cannot be reached
        +-- BadAnswer         it was reached and answered something unusable
        +-- StoreError        a database file cannot be read or written

Bugs are none of these: they are ordinary Python exceptions and are not caught inside the cycle.
"""

from __future__ import annotations


class EmsError(Exception):
    """One clear error: what is wrong, where, and what was expected there.

    Parameters
    ----------
    error : str
        What is wrong, in one sentence.
    where : str
        The place: a file with line, a YAML path, a column and row, a URL.
    expected : str
        What would have been right there.
    """

    exit_code = 1

    def __init__(self, error: str, where: str = "", expected: str = "") -> None:
        super().__init__(error)
        self.error = error
        self.where = where
        self.expected = expected

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" (expected {self.expected})" if self.expected else ""
        return f"{place}{self.error}{hint}"

    def document(self) -> dict[str, str]:
        """The JSON form that every command prints with `--json`."""
        return {"error": self.error, "where": self.where, "expected": self.expected}


class BadInput(EmsError):
    """What was given is wrong; nothing was done."""

    exit_code = 2


class Failed(EmsError):
    """It was tried and did not work."""


class ConnectionLost(Failed):
    """A device or server cannot be reached, or went silent."""


class BadAnswer(Failed):
    """A device answered, but not to the question or not with a usable value."""


class StoreError(Failed):
    """A database file cannot be opened, read or written."""
