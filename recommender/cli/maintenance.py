"""Commands that look after a running shop: `coldstart skew`, `forget`, `cache …`, and `demo`."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import writing
from recommender.cli.checks import warn_of_repo
from recommender.cli.command import Command, Group
from recommender.cli.evaluate import show_evaluation
from recommender.cli.events import EVENTS
from recommender.cli.options import (
    BUNDLE,
    DATA,
    REPO,
    BundleOption,
    DataOption,
    ItemOption,
    RepoOption,
    UserOption,
    one_entity,
)

if TYPE_CHECKING:
    import pandas as pd

cache_app = typer.Typer(
    name="cache", cls=Group, no_args_is_help=True, help="Inspect, clear and check this machine's vector cache."
)

CachePath = Annotated[
    Path | None, typer.Option("--path", metavar="FILE", help="The cache file. Default: this machine's.")
]


def skew(
    training: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Parquet file with the result of get_historical_features. Default: what the bundle was trained on.",
        ),
    ] = None,
    service: Annotated[str, typer.Option(help="The feature service that serving reads.")] = "coldstart_serving",
    limit: Annotated[
        int, typer.Option(min=1, help="Compare at most this many users and this many items, spread evenly.")
    ] = 1_000,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
) -> None:
    """Compare features read in training with the online store.

    For each feature, shows how many values differ and why. The exit status is 1 if a value differs for another reason
    than a newer row in the online store.

    Examples:
        coldstart skew
        coldstart skew --training history.parquet --limit 200
    """
    from coldstart_udfs.feast.operations.skew import measure_skew
    from coldstart_udfs.feast.operations.stores import open_store
    from recommender.pipeline.skew import bundle_skew

    store = open_store(repo)
    warn_of_repo(repo, None if training else bundle, store)
    with progress() as report:
        if training:
            found = measure_skew(store, _read_training(training), service=service, limit=limit, report=report)
        else:
            found = bundle_skew(store, bundle, service=service, limit=limit, report=report)
    for one in (one for one in found if one.different):
        largest = f", by {one.largest:.2g} at most" if one.largest else ""
        told = f"{one.feature}: {one.different:,} of {one.compared:,} differ{largest}"
        console.print(told, style="bold", markup=False, soft_wrap=True)
        for reason, count in one.reasons.most_common():
            console.print(f"  {count:,} × {reason}", markup=False, soft_wrap=True)
        console.print(f"  the first: {'; '.join(one.examples)}", markup=False, soft_wrap=True)
    agree = sum(not one.different for one in found)
    rows = max((one.compared for one in found), default=0)
    sample = f" (at most {limit:,} of each kind are compared: --limit)" if rows >= limit else ""
    console.print(f"{agree} of {len(found)} features agree, over up to {rows:,} users or items{sample}", soft_wrap=True)
    if any(one.faulty for one in found):
        raise typer.Exit(1)


def forget(
    user_id: UserOption = None,
    item_id: ItemOption = None,
    repo: RepoOption = REPO,
    data: DataOption = DATA,
    cache: Annotated[
        Path | None, typer.Option("--cache", metavar="FILE", help="The cache file. Default: this machine's.")
    ] = None,
    tables: Annotated[
        bool, typer.Option("--tables/--no-tables", help="Erase from the tables in --data too.")
    ] = True,
    events: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Erase from this event log of the service too, before all else. Default for an item: the log that "
            "`coldstart put` writes.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed; remove nothing.")] = False,
) -> None:
    """Erase a user or an item from every store.

    Removes text, vectors and profile from the cache, the online store, the tables and the Parquet sources.

    Examples:
        coldstart forget --user-id 17850 --dry-run
        coldstart forget --item-id 22430 --no-tables
    """
    entity, name = one_entity(user_id, item_id)
    from coldstart_udfs.feast.operations.forget import Removed
    from coldstart_udfs.feast.operations.forget import forget as run
    from coldstart_udfs.link import is_linked
    from recommender.pipeline.forget import bundles_with
    from recommender.pipeline.linking import BROUGHT_BACK, erase_from_targets

    if events is None and entity == "item" and find_spec("sqlalchemy") is not None:
        from recommender.serve.events.schema import exists

        events = EVENTS if exists(EVENTS) else None
    logged, remains = _from_log(events, entity, name, dry_run) if events else ([], [])
    with console.status("through Feast …"):
        done = run(
            repo, entity, name, data=data if tables else None, cache=cache,
            recommenders=partial(bundles_with, data / "bundle") if tables else None, dry_run=dry_run,
        )  # fmt: skip
    if entity == "user":
        linked = erase_from_targets(data, name, dry_run=dry_run)
        logged, remains = [*logged, *linked.removed], [*linked.remains, *remains]
        if is_linked(repo):
            remains.append(BROUGHT_BACK)
    if not done.total and not logged:
        console.print(f"nothing is left of {entity} {name}", markup=False)
        return
    table = Table("place", "what", "found" if dry_run else "removed")
    table.columns[2].justify = "right"
    table.columns[0].overflow = "fold"
    for row in [*(Removed(*one) for one in logged), *done.removed]:
        table.add_row(row.place.replace(f"{Path.cwd()}/", ""), row.what, f"{row.count:,}")
    console.print(table)
    for note in [*remains, *done.notes]:
        console.print(f"- {note}", markup=False, soft_wrap=True)


def _from_log(url: str, entity: str, name: str, dry_run: bool) -> tuple[list[tuple[str, str, int]], list[str]]:
    """What an event log had of a user or an item, as places, kinds and counts; and what remains."""
    from contextlib import closing

    from recommender.serve.events.log import EventLog

    with closing(EventLog.open(url, create=False)) as log:
        erased = (log.erase_user if entity == "user" else log.erase_item)(name, dry_run=dry_run)
    found = [("event log", kind, count) for kind, count in erased.removed.items() if count]
    if entity == "item" and found:
        return found, [*erased.remains, "running services list the item until they are restarted"]
    return found, list(erased.remains)


def demo(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", show_default=False,
            help="A folder of examples with a demo.txt, such as chinese_shop; without it, Online Retail.",
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Then serve the shop on this machine, and open its page in a browser.")
    ] = False,
) -> None:
    """Run every step on an example, from raw files to answers.

    Needs a clone of the repository. The demo of NAME works in a copy of its folder, data/NAME, which belongs to the
    demo: it is made anew when the example or the code has changed. Otherwise finished steps are skipped.

    Examples:
        coldstart demo --serve
        coldstart demo chinese_shop
    """  # fmt: skip
    from recommender.cli.demo import run, serve_page
    from recommender.cli.example import run_example

    shop = run(console, show_evaluation) if name is None else run_example(console, name)
    trained = (shop / "data" / "bundle").is_dir()
    if serve and not trained:
        raise ColdStartError(
            f"nothing to serve: {shop} has no data/bundle. If a shop in it has one, run `coldstart serve` in its folder"
        )
    if serve:
        serve_page(console, shop)
    elif trained:
        chosen = "" if name is None else f" {name}"
        console.print(f"Try it in a browser: `coldstart demo{chosen} --serve` (extra `serve`)", markup=False)


@cache_app.command("stats", cls=Command)
def cache_stats(path: CachePath = None) -> None:
    """Show how many vectors the cache holds, and its size.

    Examples:
        coldstart cache stats
        coldstart cache stats --path vectors.sqlite
    """
    from coldstart_udfs.encoder.cache.upkeep import stats

    held = stats(_cache_path(path))
    console.print(f"{held.path}: {held.bytes / 1e6:,.1f} MB of at most {held.limit / 1e6:,.0f} MB")
    for fingerprint, vectors in held.vectors.items():
        console.print(f"{vectors:>12,}  {fingerprint}")


@cache_app.command("clear", cls=Command)
def cache_clear(
    fingerprint: Annotated[
        str | None,
        typer.Option(help="Remove only the vectors of this encoder; `coldstart cache stats` lists fingerprints."),
    ] = None,
    path: CachePath = None,
) -> None:
    """Remove all vectors, or those of one encoder.

    Examples:
        coldstart cache clear
        coldstart cache clear --fingerprint FINGERPRINT
    """
    from coldstart_udfs.encoder.cache.upkeep import clear

    path = _cache_path(path)
    with writing(path, command="coldstart cache clear"):
        removed = clear(path, fingerprint)
    console.print("the damaged file is removed" if removed is None else f"{removed:,} vectors removed")


@cache_app.command("verify", cls=Command)
def cache_verify(path: CachePath = None) -> None:
    """Check every vector in the cache. Nothing is changed.

    A damaged vector is encoded again when it is next needed.

    Examples:
        coldstart cache verify
        coldstart cache verify --path vectors.sqlite
    """
    from coldstart_udfs.encoder.cache.upkeep import verify

    right, wrong = verify(_cache_path(path))
    damaged = f", {wrong:,} are damaged and are encoded again when they are next needed" if wrong else ""
    console.print(f"{right:,} vectors are right{damaged}")


def _cache_path(path: Path | None) -> Path:
    from coldstart_udfs.encoder.cache.store import default_path

    return path or default_path()


def _read_training(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ColdStartError(
            f"{path} cannot be read as Parquet: {error}; give the file of a get_historical_features result"
        ) from None
