"""`coldstart experiment …`: make, start, stop and read experiments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from coldstart_udfs.console import console
from coldstart_udfs.errors import ColdStartError
from recommender.cli.command import Command, Group
from recommender.cli.events import EVENTS, EventsOption
from recommender.cli.options import BUNDLE, BundleOption

if TYPE_CHECKING:
    from coldstart_client.experiments import Experiment, Report
    from recommender.serve.experiments.registry import Registry

experiment_app = typer.Typer(
    name="experiment", cls=Group, no_args_is_help=True, help="Compare versions of the recommender on users."
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The experiment.")]


@experiment_app.command(cls=Command)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dots, hyphens and underscores.")],
    arm: Annotated[
        list[str],
        typer.Option(
            "--arm", metavar="NAME[:KEY=VALUE,…]", help="An arm, the one to compare with first; at least two. Keys: "
            "share, bundle, alpha, gamma (factors), text (true or false), exploration."
        ),
    ],
    kind: Annotated[str, typer.Option(metavar="ab|interleaving", help="What users see: one arm, or both in one list.")]
    = "ab",
    layer: Annotated[str, typer.Option(help="Experiments of one layer share no user.")] = "default",
    share: Annotated[float, typer.Option(help="The share of the layer's users.")] = 1.0,
    metric: Annotated[
        str,
        typer.Option(
            metavar="EVENT[:MEASURE[:PER]]", help="What is compared: an event type, users, events or weight, and an "
            "event type to divide by."
        ),
    ] = "purchase:users",
    guard: Annotated[
        list[str],
        typer.Option("--guard", metavar="EVENT[:MEASURE[:PER]]", help="As --metric: what must not fall; with + before "
                     "it, what must not rise."),
    ] = [],  # noqa: B006 - Typer copies it
    days: Annotated[float, typer.Option(help="Days after a user's first exposure in which events count.")] = 7.0,
    users: Annotated[int, typer.Option(help="About how many users are planned.")] = 10_000,
    method: Annotated[str, typer.Option(metavar="asymptotic|betting", help="Of the intervals.")] = "asymptotic",
    seed: Annotated[str | None, typer.Option(help="Of the assignment. Default: a random one.")] = None,
    events: EventsOption = EVENTS,
    bundle: BundleOption = BUNDLE,
) -> None:
    """Keep an experiment as a draft.

    The same command again changes nothing.

    Examples:
        coldstart experiment create text --arm now --arm more:gamma=1.5
        coldstart experiment create new --arm a --arm b:bundle=3f2a9c01d4e5b678
    """  # fmt: skip
    given: dict[str, Any] = {
        "name": name, "kind": kind, "arms": [_arm(one) for one in arm], "layer": layer, "share": share,
        "metric": _metric(metric), "guards": [_guard(one) for one in guard], "window_days": days,
        "planned_users": users, "method": method, "seed": seed,
    }  # fmt: skip
    with _registry(events, bundle) as (registry, _):
        made = registry.create(_spec(given))
    console.print(f"{made.name} is a draft; next: coldstart experiment start {made.name}", markup=False, soft_wrap=True)


@experiment_app.command(cls=Command)
def start(name: NameArgument, events: EventsOption = EVENTS, bundle: BundleOption = BUNDLE) -> None:
    """Assign users to the arms. Running services notice it within about a second.

    Examples:
        coldstart experiment start more-text
        coldstart experiment start more-text --events postgresql+psycopg://db/events
    """
    with _registry(events, bundle) as (registry, _):
        registry.start(name)
    console.print(f"{name} runs; next: coldstart experiment report {name}", markup=False, soft_wrap=True)


@experiment_app.command(cls=Command)
def stop(name: NameArgument, events: EventsOption = EVENTS) -> None:
    """Assign nobody any more.

    An experiment that was stopped is not started again. Users whose window has not ended by now are not analysed.

    Examples:
        coldstart experiment stop more-text
        coldstart experiment stop more-text --events postgresql+psycopg://db/events
    """
    with _registry(events, None) as (registry, _):
        registry.stop(name)
    console.print(f"{name} is stopped; its report stays", markup=False, soft_wrap=True)


@experiment_app.command("list", cls=Command)
def list_experiments(events: EventsOption = EVENTS) -> None:
    """List the experiments, the newest first.

    Examples:
        coldstart experiment list
        coldstart experiment list --events postgresql+psycopg://db/events
    """
    table = Table("experiment", "state", "layer", "share", "arms", "since", "until")
    table.columns[0].overflow = "fold"
    with _registry(events, None) as (registry, _):
        for one in registry.all():
            arms = ", ".join(arm.name for arm in one.spec.arms)
            table.add_row(one.name, one.state, one.spec.layer, f"{one.spec.share:.0%}", arms, *_dates(one))
    console.print(table)


@experiment_app.command(cls=Command)
def report(
    name: NameArgument,
    events: EventsOption = EVENTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as a page too.")] = None,
    fixed: Annotated[
        bool, typer.Option("--fixed", help="Add the test with one look, by CUPED; valid at the planned end alone.")
    ] = False,
) -> None:
    """Show what came of an experiment, and what to do.

    The intervals hold however often they are looked at.

    Examples:
        coldstart experiment report more-text --html report.html
        coldstart experiment report more-text --json
    """
    from recommender.serve.experiments.report import report_of

    with _registry(events, None) as (registry, log):
        found = report_of(log, registry.get(name), fixed)
    if html is not None:
        from recommender.serve.experiments.page import write_page

        write_page(found, html)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    _show(found)
    if html is not None:
        console.print(f"page → {html}", markup=False, soft_wrap=True)


@experiment_app.command(cls=Command)
def size(
    rate: Annotated[float, typer.Option(help="The share of users who do it now, such as 0.02.")],
    effect: Annotated[float, typer.Option(help="The relative difference to find, such as 0.05.")],
    power: Annotated[float, typer.Option(min=0.01, max=0.999, help="The probability to find it.")] = 0.8,
) -> None:
    """Say how many users two arms need together.

    Examples:
        coldstart experiment size --rate 0.02 --effect 0.1
        coldstart experiment size --rate 0.2 --effect 0.05 --power 0.9
    """
    from recommender.serve.experiments.fixed import ALWAYS_VALID, users_needed

    needed = users_needed(rate, effect, power=power)
    always = round(needed * ALWAYS_VALID, -2)
    console.print(
        f"{needed:,} users with one look at the end; about {always:,.0f} if you look at any time",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _show(found: Report) -> None:
    from recommender.serve.experiments.deciding import amount, change

    console.print(found.decision, markup=False, soft_wrap=True)
    metric = found.experiment.spec.metric
    share = metric.is_share or found.preference is not None
    title = metric.title if found.preference is None else f"preferred by {metric.event}"
    table = Table("arm")
    for column in ("users", "analysed", title, "difference", "interval"):
        table.add_column(column, justify="right")
    against = {one.arm: one for one in found.metric}
    for arm in found.arms:
        one = against.get(arm.name)
        rest = ("", "") if one is None else (
            change(one.difference, share), f"{change(one.low, share)} to {change(one.high, share)}"
        )  # fmt: skip
        table.add_row(arm.name, f"{arm.users:,}", f"{arm.complete:,}", amount(arm.value, share), *rest)
    console.print(table)
    for guard in found.guards:
        console.print(f"guard, {guard.metric}, {guard.arm}: {guard.verdict}", markup=False, soft_wrap=True)
    for look in found.fixed_horizon or ():
        console.print(
            f"one look, {look.arm}: {change(look.difference, share)} ({change(look.low, share)} to "
            f"{change(look.high, share)}), p = {look.p:.3g}, CUPED leaves {look.variance_left:.0%} of the variance",
            markup=False, soft_wrap=True,
        )  # fmt: skip


def _dates(one: Experiment) -> tuple[str, str]:
    return tuple("" if moment is None else f"{moment:%Y-%m-%d %H:%M}" for moment in (one.started, one.stopped))  # type: ignore[return-value]


@contextmanager
def _registry(url: str, bundle: Path | None) -> Iterator[tuple[Registry, Any]]:
    from recommender.serve.events.log import EventLog
    from recommender.serve.experiments.registry import Registry

    log = EventLog.open(url, create=bundle is not None)
    try:
        yield Registry(log, bundle), log
    finally:
        log.close()


def _spec(given: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from coldstart_client.experiments import ExperimentRequest

    try:
        return ExperimentRequest.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise ColdStartError(f"{at}{': ' if at else ''}{first['msg'].removeprefix('Value error, ')}") from None


def _arm(text: str) -> dict[str, Any]:
    """An arm as it is typed.

    >>> _arm("more:gamma=1.5,text=false")
    {'name': 'more', 'gamma': 1.5, 'text': False}
    """
    name, _, rest = text.partition(":")
    found: dict[str, Any] = {"name": name}
    for pair in filter(None, rest.split(",")):
        key, equal, value = pair.partition("=")
        if not equal:
            raise ColdStartError(f"--arm {text}: {pair!r} is no KEY=VALUE, such as gamma=1.5")
        found[key] = value if key == "bundle" else _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _metric(text: str) -> dict[str, Any]:
    event, measure, per = (*text.split(":", 2), "", "")[:3]
    return {"event": event, "measure": measure or "users", "per": per or None}


def _guard(text: str) -> dict[str, Any]:
    return _metric(text.removeprefix("+")) | {"harm": "up" if text.startswith("+") else "down"}
