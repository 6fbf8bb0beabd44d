"""The `coldstart` command."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    from recommender.cli.app import main as run

    run()
