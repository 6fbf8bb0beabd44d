"""`coldstart bundle …`: what a trained recommender says about itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from coldstart_udfs.console import console
from recommender.cli.options import BUNDLE

bundle_app = typer.Typer(no_args_is_help=True, help="Trained recommenders on disk.")


@bundle_app.callback()
def _group() -> None:
    """A group of its own, though it has one command as yet."""


@bundle_app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="Folder of the trained recommender.")] = BUNDLE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as it is.")] = False,
) -> None:
    """What a bundle is made of and from; its arrays are compared with the manifest's sha256."""
    from recommender.model.bundle import BundleError, verified
    from recommender.model.parameters import Parameters

    manifest, file = verified(path)
    if as_json:
        typer.echo(json.dumps(manifest, indent=2, ensure_ascii=False))
        return
    try:
        chosen = Parameters.of_json(manifest["parameters"])
    except (TypeError, AttributeError):
        raise BundleError(f"{path}: its parameters were altered; train again with `coldstart train`") from None
    table = Table("bundle", escape(str(path)))
    for name, value in _flat({name: value for name, value in manifest.items() if name != "parameters"}):
        table.add_row(escape(name), escape(value))
    console.print(table)
    parameters = Table("parameter")
    parameters.add_column("value", justify="right")
    parameters.add_column("where from")
    for field in fields(chosen):
        if field.name != "source":
            value = getattr(chosen, field.name)
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            parameters.add_row(field.name, shown, escape(chosen.source.get(field.name, "default")))
    console.print(parameters)
    console.print(f"arrays verified: {file.name} is the one that was written", markup=False, soft_wrap=True)


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names with dots, and values as text; empty groups are left out."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            counted = isinstance(value, int) and not isinstance(value, bool)
            yield f"{before}{name}", f"{value:,}" if counted else str(value)
