"""The `coldstart` command: every command in its panel of `--help`, and errors on one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from coldstart_udfs.errors import ColdStartError
from recommender.cli.adapt import adapt_app
from recommender.cli.annotate import annotate
from recommender.cli.bundles import bundles_app
from recommender.cli.campaigns import campaign_app
from recommender.cli.command import Command, Group
from recommender.cli.coverage import coverage
from recommender.cli.embedding import embed, encoder_app
from recommender.cli.encoder_tuning import accept, tune
from recommender.cli.evaluate import evaluate
from recommender.cli.events import events_app, learn
from recommender.cli.experiments import experiment_app
from recommender.cli.facts import facts
from recommender.cli.failures import REFUSED, tell
from recommender.cli.label_tuning import tune_labels
from recommender.cli.link import link
from recommender.cli.maintenance import cache_app, demo, forget, skew
from recommender.cli.prior import prior_app
from recommender.cli.recommendations import audience, explain, recommend, train
from recommender.cli.replay import replay
from recommender.cli.runs import runs_app
from recommender.cli.serve import keys_app, serve
from recommender.cli.shop import ingest, init, profiles, put, weigh
from recommender.cli.sql import sql

# Panels of `coldstart --help`, with their commands and groups of commands.
_PANELS: dict[str, tuple[Callable[..., None] | typer.Typer, ...]] = {
    "SQL and embedding": (sql, embed, coverage, annotate, encoder_app),
    "Shop": (init, ingest, facts, weigh, profiles, put, link),
    "Recommender": (train, evaluate, recommend, audience, explain, campaign_app, bundles_app, prior_app,
                    runs_app),
    "Service": (serve, learn, events_app, experiment_app, adapt_app, keys_app),
    "Maintenance": (skew, forget, demo, cache_app),
}

app = typer.Typer(
    cls=Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Features and recommendations from text, for users and items without history.",
)  # fmt: skip
experiment_app.command(cls=Command)(replay)
for _tuning in (tune, tune_labels, accept):
    encoder_app.command(cls=Command)(_tuning)
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, rich_help_panel=_panel)
        else:
            app.command(cls=Command, rich_help_panel=_panel)(_command)


def run() -> int | None:
    """Run the command line; its exit status. An error that the user can correct is one line on stderr, and status 2."""
    try:
        status: Any = app(standalone_mode=False)
    except ColdStartError as error:
        tell(str(error))
        return REFUSED
    except typer.TyperException as error:
        # A wrong command or option. The message is empty where `coldstart` alone has printed its help.
        context = getattr(error, "ctx", None)
        asked = context.command_path if context else "coldstart"
        message = error.format_message().replace("Value error, ", "").rstrip(".?")
        if message:
            tell(f"{message}; `{asked} --help` lists what is possible")
        return REFUSED
    return status if isinstance(status, int) else None
