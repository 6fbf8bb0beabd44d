"""`coldstart experiment replay`: what other policies would have earned in explored places."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from coldstart_udfs.console import console
from recommender.cli.events import EVENTS, EventsOption

if TYPE_CHECKING:
    from recommender.serve.policy.estimates import Estimate
    from recommender.serve.policy.replay import Replay


def replay(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="An export of the event log, in place of --events.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="logged, uniform, greedy, model, or a JSON file with the weight of items. Default: the first four.",
        ),
    ] = None,
    reward: Annotated[str, typer.Option("--reward", help="The event type that earns 1, once a place.")] = "purchase",
    window: Annotated[
        str, typer.Option("--window", metavar="TIME", help="For how long after an answer the event counts.")
    ] = "24h",
    events: EventsOption = EVENTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the estimates as JSON.")] = False,
) -> None:
    """Estimate what other policies would have earned in the explored places of lists.

    Only places that the service drew by chance (`coldstart serve --explore`) can be replayed. The estimates weigh what
    was seen there by the logged probabilities. All intervals are 95 %, and count users, not places.

    Examples:
        coldstart experiment replay
        coldstart experiment replay exported --policy mine.json --json
    """
    from contextlib import closing
    from datetime import timedelta

    from recommender.data.event_types import kind_of
    from recommender.serve.policy.exported import from_export
    from recommender.serve.policy.replay import POLICIES
    from recommender.serve.policy.replay import replay as run
    from recommender.serve.scheduled import period

    plain = reward.strip().lower()
    kind = kind_of(plain) or plain
    rewards, until = {kind: 1.0}, timedelta(seconds=period(window))
    if folder is None:
        from recommender.serve.events.log import EventLog
        from recommender.serve.policy.stored import from_log

        with closing(EventLog.open(events, create=False)) as log:
            explored = from_log(log, rewards, until)
    else:
        explored = from_export(folder, rewards, until)
    done = run(explored, policy or POLICIES)
    if as_json:
        typer.echo(json.dumps({"reward": kind, "window": window} | done.as_json(), indent=2, ensure_ascii=False))
        return
    _show(done, kind, window)


def _show(done: Replay, kind: str, window: str) -> None:
    table = Table(
        "policy", "IPS", "SNIPS", "doubly robust", "more than logged", "worth of users",
        title=f"{done.decisions:,} explored places of {done.units:,} users, {done.first:%Y-%m-%d} to "
        f"{done.last:%Y-%m-%d}; {kind}s in 1,000 places, within {window}",
    )  # fmt: skip
    for name, found in done.policies.items():
        gain = "" if name == "logged" else _shown(found.gain, "+")
        table.add_row(
            escape(name), _shown(found.ips), _shown(found.snips), _shown(found.dr), gain,
            f"{found.effective_units:,.0f}",
        )  # fmt: skip
    console.print(table)
    for name, found in done.policies.items():
        for warning in found.warnings:
            console.print(f"{name}: {warning}", markup=False, soft_wrap=True)
    if done.waiting:
        console.print(
            f"{done.waiting:,} places are left out: {window} after them are not over yet", markup=False, soft_wrap=True
        )


def _shown(found: Estimate, sign: str = "") -> str:
    """A reward in 1,000 places with its interval."""
    if math.isnan(found.value):
        return "unknown"
    value, low, high = (
        f"{each * 1000:{sign},.{0 if abs(each) >= 0.1 else 1}f}" for each in (found.value, found.low, found.high)
    )
    return f"{value} (no interval)" if math.isinf(found.low) else f"{value} ({low} to {high})"
