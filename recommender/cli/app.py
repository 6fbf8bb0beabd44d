"""The `coldstart` command."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.cli.ask import audience, explain, recommend
from recommender.cli.bundle import bundle_app
from recommender.cli.coverage import coverage
from recommender.cli.embedding import cache_app, embed, encoder_app
from recommender.cli.entity import forget, put
from recommender.cli.evaluate import evaluate, show_evaluation
from recommender.cli.options import BUNDLE, DATA, REPO, BundleOption, DataOption, RepoOption
from recommender.cli.sql import Bundles, sql
from recommender.sql.catalogue import FUNCTIONS, register

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Features and recommendations for users and items of which nothing is known but a few words.",
)  # fmt: skip
app.command(context_settings={"obj": Bundles(FUNCTIONS, register)})(sql)
app.command()(embed)
app.command()(coverage)
app.command()(put)
app.command()(forget)
app.add_typer(bundle_app, name="bundle")
app.add_typer(encoder_app, name="encoder")
app.add_typer(cache_app, name="cache")


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")]) -> None:
    """Start a shop: DIRECTORY/feature_repo, ready for `coldstart ingest`, `coldstart profiles`, `feast apply`."""
    target = directory / "feature_repo"
    if target.exists():
        raise ColdStartError(f"{target} exists already; choose another folder")
    left_out = shutil.ignore_patterns("data", "feast_monitoring", "__pycache__", ".unfinished-*", ENRICHMENT_FILE)
    shutil.copytree(_template(), target, ignore=left_out)
    Enrichment.of_repo(target).write(target / ENRICHMENT_FILE)
    console.print(
        f"Wrote {target}. Next, in {directory}: put items, users and interactions (.parquet or .csv) into raw/,\n"
        "  coldstart ingest raw && coldstart profiles && feast -c feature_repo apply"
    )


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="Folder with the raw files, and ingest.sql if they need one.")],
    data: DataOption = DATA,
) -> None:
    """Bring raw files into the shape of the data contract, checked: items, users, interactions."""
    from recommender.data.tables import ingest as run

    counts = run(source, data)
    console.print(", ".join(f"{rows:,} {table}" for table, rows in counts.items()), f"→ {data}")


@app.command()
def weigh(data: DataOption = DATA, repo: RepoOption = REPO) -> None:
    """Fit what events of each type weigh and how they age, on the latest interactions, for enrichment.json."""
    from recommender.pipeline.weighing import weigh as run

    with progress() as report:
        found = run(data, repo, report=report)
    table = Table("name")
    for name in ("before", "after", "tried", "its gain in NDCG@20", "± standard error"):
        table.add_column(name, justify="right")
    for one in found.choices:
        values = [f"{value:g}" for value in (one.before, one.after, one.tried)]
        table.add_row(one.name, *values, f"{one.gain:+.4f}", f"{one.error:.4f}")
    console.print(table)
    console.print(
        f"{found.rankings:,} rankings judged, of the latest {' and '.join(found.wanted)}: NDCG@20 {found.before:.4f} "
        f"before, {found.after:.4f} after\n"
        f"event_weights, half_life_days → {repo / ENRICHMENT_FILE}; next: coldstart profiles",
        markup=False, soft_wrap=True,
    )  # fmt: skip


@app.command()
def profiles(data: DataOption = DATA, repo: RepoOption = REPO) -> None:
    """Embed descriptions and sum behaviour profiles, in DuckDB, with the SQL files of the Feast repository."""
    from recommender.pipeline.profiles import build_profiles

    with progress() as report:
        counts = build_profiles(data, repo, report=report)
    console.print(", ".join(f"{rows:,} {table}" for table, rows in counts.items()), f"→ {repo / 'data'}")


@app.command()
def train(
    data: DataOption = DATA,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
    cutoff: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="UTC; default: near the end.")
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Choose LightFM's settings too, by N trials; a larger N goes on."),
    ] = None,
) -> None:
    """Fit the recommender on features read through Feast, choose its parameters, save a bundle."""
    from recommender.pipeline.training import train as run

    with progress() as report:
        model = run(
            data, repo, bundle, cutoff=cutoff and cutoff.replace(tzinfo=UTC), search=search, report=report
        )
    chosen = model.parameters
    for name, how in chosen.source.items():
        value = f"{getattr(chosen, name):<8g} " if hasattr(chosen, name) else ""
        console.print(f"{name:<21}{value}{how}", markup=False, soft_wrap=True)
    console.print(f"bundle → {bundle}, alpha → {repo / ENRICHMENT_FILE}; next: feast -c {repo} apply")


@app.command()
def skew(
    training: Annotated[
        Path | None,
        typer.Option(help="Parquet of what get_historical_features gave; default: what the bundle was trained on."),
    ] = None,
    service: Annotated[str, typer.Option(help="The feature service that serving reads.")] = "coldstart_serving",
    limit: Annotated[int, typer.Option(min=1, help="At most this many users, and items, spread evenly.")] = 1_000,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
) -> None:
    """What training read, beside what the online store gives now: per feature, how many differ and why.

    Exit status 1 if something differs for another reason than that the online row is newer.
    """
    from coldstart_udfs.feast.operations.skew import measure_skew
    from coldstart_udfs.feast.operations.stores import open_store
    from recommender.pipeline.skew import bundle_skew

    store = open_store(repo)
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


app.command()(evaluate)
app.command()(recommend)
app.command()(audience)
app.command()(explain)


@app.command()
def demo() -> None:
    """Run the whole path on Online Retail, command by command; from a clone of the repository."""
    from recommender.cli.demo import run

    run(console, show_evaluation)


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and exit status 2."""
    try:
        app()
    except ColdStartError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        sys.exit(2)


def _read_training(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ColdStartError(f"{path} cannot be read as parquet: {error}") from None


def _template() -> Path:
    """The Feast repository: beside the packages in a clone, inside the wheel otherwise."""
    import coldstart_udfs

    package = Path(coldstart_udfs.__file__).parent
    installed = package / "feature_repo_template"
    return installed if installed.is_dir() else package.parent / "feature_repo"
