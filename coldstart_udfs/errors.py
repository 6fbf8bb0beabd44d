"""The base class of all errors that this project raises."""

from __future__ import annotations


class ColdStartError(ValueError):
    """An input cannot be used.

    The first line says what was given, what is possible and what to do next, because DuckDB and Feast often show
    only that line. The command line prints the message without a traceback and exits with status 2.
    """


class ColdStartWarning(UserWarning):
    """An input is used, but not as its author may expect: the message says what is done with it, and how often.

    `warnings.filterwarnings("ignore", category=ColdStartWarning)` silences them, `"error"` makes them errors.
    """


class FingerprintError(ColdStartError):
    """Vectors of two different encoders would be mixed."""

    def __init__(self, *, found: str, found_in: str, expected: str, expected_by: str, remedy: str) -> None:
        """Name both fingerprints, where each comes from, and what to do about it."""
        super().__init__(
            f"{found_in} holds embeddings of encoder {found!r}, but {expected_by} uses encoder {expected!r}; "
            f"vectors of two encoders cannot be compared. {remedy}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        """By its message, in which all is said: a process pool sends it back to who called."""
        return FingerprintError.__new__, (FingerprintError, str(self))
