"""`coldstart facts`: a graph of facts becomes attributes of items."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from coldstart_udfs.console import console
from recommender.cli.options import DATA, REPO, DataOption, RepoOption


def facts(
    data: DataOption = DATA,
    repo: RepoOption = REPO,
    level: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A column of the items; repeat the option from the general to the special, such as department, "
            "category, type. The paths of their values become facts.",
        ),
    ] = None,
    hops: Annotated[
        int, typer.Option(min=1, max=2, help="The number of facts on the way from an item to a value.")
    ] = 2,
    most: Annotated[int, typer.Option(min=1, help="How many values are kept, the most informative first.")] = 500,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report only; write nothing.")] = False,
) -> None:
    """Turn facts about items into attributes of items.

    Reads the table facts and runs facts.sql of the repository: what is one or two facts away from an item, and what
    rules imply, becomes a column of the items, such as director or director>born. The columns replace those of an
    earlier run. Evaluate with and without them before you train: facts help only if users choose by them.

    Examples:
        coldstart facts
        coldstart facts --level department --level category --dry-run
    """
    from recommender.pipeline.facts import add_facts

    found = add_facts(data, repo, levels=level or [], hops=hops, most=most, dry_run=dry_run)
    table = Table("column", "items", "values", "mean weight", "most frequent")
    for one in found:
        shown = ", ".join(one.examples)
        table.add_row(escape(one.name), f"{one.items:,}", f"{one.values:,}", f"{one.weight:.2f}", escape(shown))
    if found:
        console.print(table)
    else:
        console.print("no value of a fact is shared by two items and by at most half of them; there is no new column")
    where = "nothing written (--dry-run)" if dry_run else f"{data / 'items.parquet'}; next: coldstart profiles"
    console.print(f"{len(found)} column{'' if len(found) == 1 else 's'} → {where}", markup=False, soft_wrap=True)
