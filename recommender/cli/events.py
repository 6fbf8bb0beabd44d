"""Commands of the service's event log: `coldstart events …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldstart_udfs.console import console, progress
from recommender.cli.command import Command, Group

EVENTS = "sqlite:///data/events.db"

events_app = typer.Typer(
    name="events", cls=Group, no_args_is_help=True, help="Use what the service has learned from its users."
)

EventsOption = Annotated[
    str, typer.Option("--events", metavar="URL", help="The event log: sqlite:///FILE or postgresql+psycopg://….")
]


@events_app.callback()
def _group() -> None:
    """Make Typer treat `events` as a group although it has one command."""


@events_app.command(cls=Command)
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to write.")],
    events: EventsOption = EVENTS,
) -> None:
    """Write the event log as Parquet files, one for each day.

    They have the columns of the table interactions, and those that only the log has. `coldstart ingest --export` adds
    them to the tables. Descriptions that were put are in users.parquet and items.parquet.

    Examples:
        coldstart events export data/exported
        coldstart events export data/exported --events postgresql+psycopg://shop@localhost/events
    """
    from contextlib import closing

    from recommender.serve.events.export import export as run
    from recommender.serve.events.log import EventLog

    with closing(EventLog.open(events)) as log, progress() as report:
        done = run(log, folder, report)
    console.print(
        f"{done.events:,} rows of {done.days:,} days, {done.descriptions:,} descriptions → {folder}; next: coldstart "
        f"ingest RAW --export {folder}", markup=False, soft_wrap=True,
    )  # fmt: skip
