"""Commands of the records of runs: `coldstart runs …`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from coldstart_udfs.console import console
from coldstart_udfs.errors import ColdStartError
from recommender.cli.command import Command, Group
from recommender.tracking import RUNS

if TYPE_CHECKING:
    from recommender.tracking.records import RunRecord

RunsOption = Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="The records of runs.")]

runs_app = typer.Typer(
    name="runs", cls=Group, no_args_is_help=True, help="List, show and compare the records of earlier runs."
)


@runs_app.command(name="list", cls=Command)
def list_runs(folder: RunsOption = RUNS) -> None:
    """List the records of runs, the newest first.

    The last 200 runs are kept. A run that was killed stays "running".

    Examples:
        coldstart runs list
        coldstart runs list --runs shop/data/runs
    """
    from recommender.tracking.records import runs

    table = Table("run", "command", "status")
    table.add_column("took", justify="right")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for run in reversed(runs(folder)):
        name, value = next(iter(run.figures.items()), ("", None))
        table.add_row(run.id, run.command, run.status, _took(run), escape(name), _text(value))
    if not table.rows:
        console.print(f"{folder} has no records of runs", markup=False)
        return
    console.print(table)


@runs_app.command(cls=Command)
def show(
    name: Annotated[
        str | None, typer.Argument(metavar="RUN", help="The id, or a part of it, such as the end. Default: the latest.")
    ] = None,
    folder: RunsOption = RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Show a run: parameters, metrics by step, figures and files.

    Examples:
        coldstart runs show
        coldstart runs show 3f2a --json
    """
    (run,) = _chosen(folder, [name] if name else [], 1)
    if as_json:
        typer.echo(json.dumps(asdict(run), indent=2, ensure_ascii=False))
        return
    console.print(f"{run.id}: {run.status}, began {run.began}, took {_took(run) or 'unknown'}", style="bold")
    _print("parameter", [(name, value) for name, value in run.parameters.items()])
    _print("figure", list(run.figures.items()))
    if run.metrics:
        table = Table("metric")
        for heading in ("steps", "first", "last", "least", "most"):
            table.add_column(heading, justify="right")
        for metric, points in run.metrics.items():
            values = [value for _, value in points]
            known = [value for value in values if value is not None]
            ends = (values[0], values[-1], min(known, default=None), max(known, default=None))
            table.add_row(escape(metric), f"{len(points):,}", *map(_text, ends))
        console.print(table)
    for one in run.artifacts:
        place = folder / run.id / one.name if one.copied else f"not kept, {one.bytes:,} bytes"
        console.print(f"{one.name}: {place}", markup=False, soft_wrap=True)


@runs_app.command(cls=Command)
def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN...", help="Two or more ids, or parts of them. Default: the two latest runs."),
    ] = None,
    folder: RunsOption = RUNS,
) -> None:
    """Compare runs: the parameters that differ, figures, and the last value of each metric.

    Of two runs, the difference is the second minus the first.

    Examples:
        coldstart runs compare
        coldstart runs compare 3f2a 91bc
    """
    chosen = _chosen(folder, names or [], 2)
    parameters = {name: None for run in chosen for name in run.parameters}
    differ = [name for name in parameters if len({json.dumps(run.parameters.get(name)) for run in chosen}) > 1]
    _side_by_side("parameter", chosen, [(name, [run.parameters.get(name) for run in chosen]) for name in differ])
    console.print(f"{len(parameters) - len(differ)} parameters are the same", markup=False)
    figures = {name: None for run in chosen for name in run.figures}
    metrics = {name: None for run in chosen for name in run.metrics}
    _side_by_side("figure", chosen, [(name, [run.figures.get(name) for run in chosen]) for name in figures])
    last = [(name, [run.metrics[name][-1][1] if name in run.metrics else None for run in chosen]) for name in metrics]
    _side_by_side("metric, last step", chosen, last)


def _chosen(folder: Path, names: Sequence[str], least: int) -> list[RunRecord]:
    """The named runs; without names the latest ones, oldest first."""
    from recommender.tracking.records import run_named, runs

    if names:
        found = [run_named(folder, name) for name in names]
        if len({run.id for run in found}) < least:
            given = ", ".join(dict.fromkeys(run.id for run in found))
            raise ColdStartError(f"the only run named is {given}; give at least {least} different ones, or none")
        return found
    known = runs(folder)
    if len(known) < least:
        raise ColdStartError(
            f"{folder} has {len(known)} records of runs, and {least} are needed; `coldstart train` and "
            "`coldstart evaluate` write them, and --runs names another folder"
        )
    return known[-least:]


def _side_by_side(heading: str, chosen: Sequence[RunRecord], rows: Sequence[tuple[str, Sequence[Any]]]) -> None:
    if not rows:
        return
    table = Table(heading)
    for run in chosen:
        table.add_column(run.id, justify="right", overflow="fold")
    numbers = heading != "parameter" and len(chosen) == 2
    if numbers:
        table.add_column("difference", justify="right")
    for name, values in rows:
        apart = [_apart(*values)] if numbers else []
        table.add_row(escape(name), *map(_text, values), *apart)
    console.print(table)


def _apart(first: float | None, second: float | None) -> str:
    if first is None or second is None:
        return ""
    return ("+" if second > first else "") + _text(float(second - first))


def _print(heading: str, rows: Sequence[tuple[str, Any]]) -> None:
    if rows:
        table = Table(heading)
        table.add_column("value", justify="right", overflow="fold")
        for name, value in rows:
            table.add_row(escape(name), _text(value))
        console.print(table)


def _text(value: Any) -> str:
    """A value as a cell: numbers with four digits behind the point, and without it if they are whole."""
    if value is None:
        return ""
    if isinstance(value, float):
        if value.is_integer():
            return f"{value:,.0f}"
        return f"{value:,.4f}" if abs(value) >= 1e-3 else f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return escape(str(value))


def _took(run: RunRecord) -> str:
    if run.ended is None:
        return ""
    seconds = int((datetime.fromisoformat(run.ended) - datetime.fromisoformat(run.began)).total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
