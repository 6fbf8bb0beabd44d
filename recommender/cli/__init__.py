"""The `coldstart` command."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line. The commands are imported here, so that importing this package costs nothing."""
    from recommender.cli.app import main as run

    run()
