"""Commands of trained recommenders: `coldstart bundles …`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from coldstart_udfs.console import console
from recommender.cli.command import Command, Group
from recommender.cli.options import BUNDLE, BundleOption
from recommender.cli.parameters import told, weights_table

bundles_app = typer.Typer(
    name="bundles", cls=Group, no_args_is_help=True, help="Inspect trained recommenders, and choose which one serves."
)


@bundles_app.command(name="list", cls=Command)
def list_bundles(bundle: BundleOption = BUNDLE) -> None:
    """Show the bundle that serves, and those that are kept beside it.

    Examples:
        coldstart bundles list
        coldstart bundles list --bundle data/bundle
    """
    from recommender.pipeline.bundles import kept

    table = Table("id", "trained until", "events", "NDCG@20 in training", "", "last step", "why")
    for one in kept(bundle):
        held = one.manifest.get("events") or {}
        quality = one.manifest.get("metrics", {}).get("validation", {}).get("ndcg@20")
        table.add_row(
            one.id, str(one.manifest.get("trained_until", ""))[:10], str(held.get("watermark", "")),
            "" if quality is None else f"{quality:.4f}", "serves" if one.serves else "",
            f"{one.last.step} {one.last.at[:16]}" if one.last else "", escape(one.last.why) if one.last else "",
        )  # fmt: skip
    console.print(table)


@bundles_app.command(cls=Command)
def promote(
    name: Annotated[str, typer.Argument(metavar="ID", help="The bundle to serve; `coldstart bundles list` shows ids.")],
    bundle: BundleOption = BUNDLE,
) -> None:
    """Serve another bundle. Running workers notice it by themselves.

    Examples:
        coldstart bundles promote 3f2a9c01d4e5b678
        coldstart bundles promote 3f2a9c01d4e5b678 --bundle data/bundle
    """
    from recommender.pipeline.bundles import promote as run

    entry = run(bundle, name)
    console.print(f"{entry.bundle} serves now, {entry.before or 'nothing'} before", markup=False, soft_wrap=True)


@bundles_app.command(cls=Command)
def rollback(bundle: BundleOption = BUNDLE) -> None:
    """Serve the bundle that served before. A second rollback goes one further back.

    Examples:
        coldstart bundles rollback
        coldstart bundles rollback --bundle data/bundle
    """
    from recommender.pipeline.bundles import rollback as run

    entry = run(bundle)
    console.print(f"{entry.bundle} serves again, {entry.before} before", markup=False, soft_wrap=True)


@bundles_app.command(cls=Command)
def inspect(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="The trained recommender.")] = BUNDLE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Show what a bundle holds, what the parts of a score weigh, and verify its arrays.

    The arrays are compared with the sha256 in the manifest, and everything in them is checked as when it is loaded.

    Examples:
        coldstart bundles inspect
        coldstart bundles inspect data/bundle --json
    """
    from recommender.model.bundle import read_bundle, verified

    manifest, file = verified(path)
    chosen = read_bundle(path).parameters
    if as_json:
        typer.echo(json.dumps(manifest, indent=2, ensure_ascii=False))
        return
    table = Table("bundle", escape(str(path)))
    for name, value in _flat({name: value for name, value in manifest.items() if name != "parameters"}):
        table.add_row(escape(name), escape(value))
    console.print(table)
    parameters = Table("parameter")
    parameters.add_column("value", justify="right")
    parameters.add_column("where from")
    for name, value, how in told(chosen):
        parameters.add_row(name, value, escape(how))
    console.print(parameters)
    console.print(weights_table(chosen.weights))
    console.print(f"arrays verified: {file.name} is the one that was written", markup=False, soft_wrap=True)


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names joined by dots, with values as text; empty groups are left out."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            counted = isinstance(value, int) and not isinstance(value, bool)
            yield f"{before}{name}", f"{value:,}" if counted else str(value)
