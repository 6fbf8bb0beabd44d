"""Commands that use the service's event log: `coldstart events …` and `coldstart learn`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldstart_udfs.console import console, progress
from recommender.cli.command import Command, Group
from recommender.cli.options import BUNDLE, DATA, REPO, BundleOption, DataOption, RepoOption

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
    them to the tables. Descriptions that were put are in users.parquet and items.parquet, explored places in the folder
    explorations.

    Examples:
        coldstart events export data/exported
        coldstart events export out --events postgresql+psycopg://db/events
    """
    from contextlib import closing

    from recommender.serve.events.export import export as run
    from recommender.serve.events.log import EventLog

    with closing(EventLog.open(events, create=False)) as log, progress() as report:
        done = run(log, folder, report)
    if done.unreadable:
        console.print(f"{done.unreadable:,} entries left out: this version cannot read them", soft_wrap=True)
    console.print(
        f"{done.events:,} rows of {done.days:,} days, {done.descriptions:,} descriptions, {done.explorations:,} "
        f"explored places → {folder}; next: coldstart ingest RAW --export {folder}", markup=False, soft_wrap=True,
    )  # fmt: skip


def learn(
    raw: Annotated[Path, typer.Argument(metavar="FOLDER", help="The raw files, as for `coldstart ingest`.")],
    events: EventsOption = EVENTS,
    data: DataOption = DATA,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
    apply: Annotated[
        bool, typer.Option("--apply", help="Run feast apply and feast materialize after a promotion.")
    ] = False,
) -> None:
    """Train on files and events; serve the result unless it is worse.

    The newest fifth of the events that the serving bundle does not hold is held back, and both are compared on it. The
    candidate is promoted unless its NDCG@20 is worse. What was tried is not tried again, so the command may run on a
    schedule. The exit status is 1 if the candidate was refused.

    Examples:
        coldstart learn raw
        coldstart learn raw --apply --events postgresql+psycopg://db/events
    """
    from contextlib import closing

    from recommender.serve.events.log import EventLog
    from recommender.serve.learning import learn as run
    from recommender.serve.learning import refresh_store

    with closing(EventLog.open(events, create=False)) as log, progress() as report:
        done = run(log, raw, data, repo, bundle, data / "exported", report=report)
    if done is None:
        console.print("the event log has nothing that was not tried yet")
        return
    entry = done.entry
    console.print(f"{entry.bundle} {entry.step}: {entry.why}", markup=False, soft_wrap=True)
    if entry.step != "promoted":
        raise typer.Exit(1)
    if apply:
        refresh_store(repo)
        return
    console.print(
        f"next: feast -c {repo} apply, and feast -c {repo} materialize 2010-01-01T00:00:00 $(date -u +%FT%T)",
        markup=False, soft_wrap=True,
    )  # fmt: skip
