"""The `coldstart` command: every command in its panel of `--help`, and errors on one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

from coldstart_udfs.errors import ColdStartError
from recommender.cli.command import Command, Group
from recommender.cli.coverage import coverage
from recommender.cli.embedding import embed, encoder_app
from recommender.cli.evaluate import evaluate
from recommender.cli.maintenance import cache_app, demo, forget, skew
from recommender.cli.recommendations import audience, bundle_app, explain, recommend, train
from recommender.cli.shop import ingest, init, profiles, put, weigh
from recommender.cli.sql import sql

# Panels of `coldstart --help`, with their commands and groups of commands.
_PANELS: dict[str, tuple[Callable[..., None] | typer.Typer, ...]] = {
    "SQL and embedding": (sql, embed, coverage, encoder_app),
    "Shop": (init, ingest, weigh, profiles, put),
    "Recommender": (train, evaluate, recommend, audience, explain, bundle_app),
    "Maintenance": (skew, forget, demo, cache_app),
}

app = typer.Typer(
    cls=Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Features and recommendations from text, for users and items without history.",
)  # fmt: skip
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, rich_help_panel=_panel)
        else:
            app.command(cls=Command, rich_help_panel=_panel)(_command)


def main() -> None:
    """Run the command line. An error that the user can correct is one line on stderr, with exit status 2."""
    try:
        status: Any = app(standalone_mode=False)
    except ColdStartError as error:
        _fail(str(error))
    except typer.TyperException as error:
        # A wrong command or option. The message is empty where `coldstart` alone has printed its help.
        context = getattr(error, "ctx", None)
        asked = context.command_path if context else "coldstart"
        message = error.format_message().replace("Value error, ", "").rstrip(".?")
        if message:
            _fail(f"{message}; `{asked} --help` lists what is possible")
        sys.exit(2)
    sys.exit(status)


def _fail(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", markup=False)
    sys.exit(2)
