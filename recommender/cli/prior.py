"""`coldstart prior …`: what small shops have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import writing
from recommender.cli.command import Command, Group
from recommender.cli.options import ModelOption

prior_app = typer.Typer(
    name="prior", cls=Group, no_args_is_help=True, help="What small shops have in common, for shops with few users."
)


# Without it, Typer would run the only command without its name.
@prior_app.callback()
def _group() -> None: ...


@prior_app.command(cls=Command)
def learn(
    shops: Annotated[
        list[Path],
        typer.Argument(
            metavar="SHOP",
            help="At least three folders: each with the tables items, users and interactions, or with these in its "
            "folder data, beside a feature_repo.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The prior, as JSON.")] = Path("prior.json"),
    sizes: Annotated[
        str, typer.Option(metavar="INTEGERS", help="How many users the small shops have.")
    ] = "5,20,100",
    draws: Annotated[int, typer.Option(min=1, help="How often each small shop is drawn.")] = 3,
    model: ModelOption = None,
) -> None:
    """Learn a prior from shops: which weights of a score help where users are few.

    Draws small shops from each one, trains in them, and asks for what the users of the large shop took. A weight is
    changed if that helps in most shops. The file holds weights and hashes of the tables; nothing of users or items.
    `coldstart train --prior FILE` takes it.

    Examples:
        coldstart prior learn shops/books shops/lamps shops/tea --out prior.json
        coldstart prior learn shops/* --sizes 20,50 --draws 5
    """
    from recommender.pipeline.priors import learn as run

    with writing(out, command="coldstart prior learn"), progress() as report:
        prior = run(shops, _sizes(sizes), draws=draws, model=model, report=report)
        prior.write(out)
    table = Table("users", "weights that differ from the defaults", "share of a shop's own weights")
    for level in prior.levels:
        table.add_row(f"{level.users:g}", ", ".join(level.changes()) or "none", f"{level.own:.0%}")
    console.print(table)
    console.print(
        f"prior of {len(prior.shops)} shops → {out}; next: coldstart train --prior {out}", markup=False, soft_wrap=True
    )


def _sizes(text: str) -> list[int]:
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 2:
        raise ColdStartError(f"--sizes is {text!r}; give numbers from 2 with commas between, such as 5,20,100")
    return sizes
