"""The `coldstart` command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit. The commands are imported here, so that importing this package costs nothing."""
    from recommender.cli import failures

    def command() -> int | None:
        from recommender.cli.app import run

        return run()

    sys.exit(failures.run(command))
