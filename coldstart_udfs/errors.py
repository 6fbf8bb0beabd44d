"""The one base of every error that this project raises on purpose."""

from __future__ import annotations


class ColdStartError(ValueError):
    """Something that the caller gave cannot be used.

    The first line says what was given, what was possible and what to do next, because a caller
    behind SQL or behind Feast often sees that line alone. The command line prints the message
    without a traceback and exits with status 2.
    """


class FingerprintError(ColdStartError):
    """Vectors of two different encoders were about to be mixed."""

    def __init__(self, *, found: str, found_in: str, expected: str, expected_by: str, remedy: str) -> None:
        """Name both fingerprints, where each comes from, and the command that mends it."""
        super().__init__(
            f"{found_in} holds embeddings of encoder {found!r}, but {expected_by} uses encoder {expected!r}; "
            f"vectors of two encoders cannot be compared. {remedy}"
        )
