"""`coldstart adapt …`: let parameters of the service follow what its users do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from coldstart_udfs.console import console
from recommender.cli.command import Command, Group
from recommender.cli.events import EVENTS, EventsOption

if TYPE_CHECKING:
    from recommender.serve.policy.adapted import Adaptation
    from recommender.serve.policy.adapting import Move

adapt_app = typer.Typer(
    name="adapt", cls=Group, no_args_is_help=True, help="Let parameters of the service follow what its users do."
)

JOURNAL = Path("data/adapting.jsonl")
ParameterArgument = Annotated[
    str,
    typer.Argument(
        metavar="PARAMETER[:TIER]",
        help="alpha, gamma (factors of the trained values) or exploration; of warm, cold or unknown users alone.",
    ),
]
JournalOption = Annotated[Path, typer.Option("--journal", metavar="FILE", help="What was changed, and why.")]


@adapt_app.command(cls=Command)
def begin(
    parameter: ParameterArgument,
    low: Annotated[float, typer.Option(help="The least value.")],
    high: Annotated[float, typer.Option(help="The greatest value.")],
    value: Annotated[float, typer.Option(help="The first value.")] = 1.0,
    step: Annotated[float, typer.Option(help="What a move multiplies or divides by.")] = 1.5,
    metric: Annotated[
        str, typer.Option(metavar="EVENT[:MEASURE]", help="What counts: an event type, and users, events or weight.")
    ] = "purchase:users",
    days: Annotated[float, typer.Option(help="Days after a user's first answer in which events count.")] = 7.0,
    users: Annotated[int, typer.Option(help="Users of a round at most.")] = 100_000,
    events: EventsOption = EVENTS,
    journal: JournalOption = JOURNAL,
) -> None:
    """Let a parameter adapt.

    From now on some users get less of it and some more. `coldstart adapt step` moves the value when one side is better
    with certainty.

    Examples:
        coldstart adapt begin gamma --low 0.5 --high 2
        coldstart adapt begin exploration:cold --low 0.02 --high 0.2 --value 0.1
    """
    from typing import cast

    from coldstart_client.models import Tier
    from recommender.serve.policy.adapting import Adaptive, Parameter

    name, _, tier = parameter.partition(":")
    event, _, measure = metric.partition(":")
    adaptive = Adaptive(
        cast(Parameter, name), low, high, cast(Tier | None, tier or None), step, event=event,
        measure=measure or "users", days=days, users=users,
    )  # fmt: skip
    with _adaptation(events, journal) as adaptation:
        move = adaptation.begin(adaptive, value)
    console.print(_sentence(move), markup=False, soft_wrap=True)
    console.print("next: coldstart adapt step, again and again", markup=False, soft_wrap=True)


@adapt_app.command(cls=Command)
def step(events: EventsOption = EVENTS, journal: JournalOption = JOURNAL) -> None:
    """Move what should move. It may run on a schedule, as often as you like.

    Examples:
        coldstart adapt step
        coldstart adapt step --events postgresql+psycopg://db/events
    """
    with _adaptation(events, journal) as adaptation:
        moves = adaptation.step()
    for move in moves:
        console.print(_sentence(move), markup=False, soft_wrap=True)
    if not moves:
        console.print("nothing moves: no side is better with certainty", markup=False, soft_wrap=True)


@adapt_app.command(cls=Command)
def undo(parameter: ParameterArgument, events: EventsOption = EVENTS, journal: JournalOption = JOURNAL) -> None:
    """Go back to the value before the last move, and go on adapting from there.

    Examples:
        coldstart adapt undo gamma
        coldstart adapt undo gamma:cold
    """
    with _adaptation(events, journal) as adaptation:
        move = adaptation.undo(parameter)
    console.print(_sentence(move), markup=False, soft_wrap=True)


@adapt_app.command(cls=Command)
def end(parameter: ParameterArgument, events: EventsOption = EVENTS, journal: JournalOption = JOURNAL) -> None:
    """Let a parameter adapt no more. The service goes back to its own value.

    Examples:
        coldstart adapt end gamma
        coldstart adapt end gamma:cold
    """
    with _adaptation(events, journal) as adaptation:
        move = adaptation.end(parameter)
    console.print(_sentence(move), markup=False, soft_wrap=True)


@adapt_app.command(name="list", cls=Command)
def list_moves(journal: JournalOption = JOURNAL, events: EventsOption = EVENTS) -> None:
    """List what was changed and why, oldest first.

    Examples:
        coldstart adapt list
        coldstart adapt list --journal data/adapting.jsonl
    """
    table = Table("at", "parameter", "round", "", "before", "after", "why")
    with _adaptation(events, journal) as adaptation:
        for move in adaptation.moves():
            table.add_row(
                move.at[:16], move.adaptive.name, str(move.round), move.kind, f"{move.before:g}",
                f"{move.after:g}", escape(move.why),
            )  # fmt: skip
    console.print(table)


def _sentence(move: Move) -> str:
    name = move.adaptive.name
    if move.kind == "ended":
        return f"{name} adapts no more; it was {move.after:g}, and is what the service has by itself again"
    arms = ", ".join(f"{value:g}" for value in sorted(move.adaptive.arms(move.after).values()))
    return f"{name} {move.before:g} → {move.after:g} ({move.kind}: {move.why}); round {move.round} shows {arms}"


@contextmanager
def _adaptation(url: str, journal: Path) -> Iterator[Adaptation]:
    from recommender.serve.events.log import EventLog
    from recommender.serve.policy.adapted import Adaptation

    log = EventLog.open(url, create=False)
    try:
        yield Adaptation(log, journal)
    finally:
        log.close()
