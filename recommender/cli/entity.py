"""Commands about one entity of a Feast repository: `coldstart put` and `coldstart forget`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coldstart_udfs.console import console
from coldstart_udfs.errors import ColdStartError
from recommender.cli.options import REPO, RepoOption

UserOption = Annotated[str | None, typer.Option("--user-id", help="The user.")]
ItemOption = Annotated[str | None, typer.Option("--item-id", help="Or the item.")]


def put(
    description: Annotated[str, typer.Option(help="What is said of the user or the item.")],
    user_id: UserOption = None,
    item_id: ItemOption = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            help="column=value; a number falls into its band (price=3.5 is put as price=2^1). All of them: they "
            "replace what is stored. Default: that stays."
        ),
    ] = None,
    repo: RepoOption = REPO,
) -> None:
    """Put new words about a user or an item into the online and the offline store, retrievable at once."""
    entity, name = _who(user_id, item_id)
    from coldstart_udfs.feast.operations.put import put as run

    with console.status("through Feast …"):
        done = run(repo, entity, name, description, attribute)
    known = f"profile known, {done.evidence[0]:,} interactions" if done.evidence[0] else "cold, no interactions yet"
    console.print(f"{entity} {name}: {known}; norm of the enriched profile {done.norm[0]:.3f}", markup=False)
    if done.truncated[0]:
        console.print("the text is longer than the encoder reads: its end does not count")
    online = "retrievable now" if done.retrievable[0] else "NOT retrievable: a row with a later timestamp is there"
    console.print(f"online: {online}; history: from {done.event_timestamp:%Y-%m-%d %H:%M:%S.%f} UTC on")
    console.print(f"encoder {done.fingerprint}, {done.seconds:.2f} s")
    if not done.retrievable[0]:
        raise typer.Exit(1)


def forget(
    user_id: UserOption = None,
    item_id: ItemOption = None,
    repo: RepoOption = REPO,
    data: Annotated[Path, typer.Option("--data", help="Folder with items, users and interactions.")] = Path("data"),
    cache: Annotated[Path | None, typer.Option("--cache", help="Another cache file than the machine's.")] = None,
    tables: Annotated[
        bool, typer.Option("--tables/--no-tables", help="Whether there are such tables, which --data names.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; remove nothing.")] = False,
) -> None:
    """Erase a user or an item: text, vectors and profile, from cache, online store, tables and sources."""
    entity, name = _who(user_id, item_id)
    from coldstart_udfs.feast.operations.forget import forget as run
    from recommender.pipeline.forget import bundles_with

    with console.status("through Feast …"):
        done = run(
            repo, entity, name, data=data if tables else None, cache=cache,
            recommenders=partial(bundles_with, data / "bundle") if tables else None, dry_run=dry_run,
        )  # fmt: skip
    if done.total:
        table = Table("place", "what", "found" if dry_run else "removed")
        table.columns[2].justify = "right"
        table.columns[0].overflow = "fold"
        for row in done.removed:
            table.add_row(row.place.replace(f"{Path.cwd()}/", ""), row.what, f"{row.count:,}")
        console.print(table)
    else:
        console.print(f"nothing is left of {entity} {name}", markup=False)
        return
    for note in done.notes:
        console.print(f"- {note}", markup=False, soft_wrap=True)


def _who(user_id: str | None, item_id: str | None) -> tuple[str, str]:
    given = {side: name for side, name in (("user", user_id), ("item", item_id)) if name is not None}
    if len(given) != 1:
        raise ColdStartError(f"give one of --user-id and --item-id; {'both were' if given else 'neither was'} given")
    return next(iter(given.items()))
