"""The `coldstart` command."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from coldstart_udfs.cli import cache_app, console, embed, encoder_app, progress
from coldstart_udfs.coverage_cli import coverage
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.cli import forget, put
from coldstart_udfs.profile import ENRICHMENT_FILE, Enrichment
from coldstart_udfs.shell import sql

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Features and recommendations for users and items of which nothing is known but a few words.",
)  # fmt: skip
app.command()(sql)
app.command()(embed)
app.command()(coverage)
app.command()(put)
app.command()(forget)
app.add_typer(encoder_app, name="encoder")
app.add_typer(cache_app, name="cache")

DataOption = Annotated[Path, typer.Option("--data", help="Folder with items, users and interactions.")]
RepoOption = Annotated[Path, typer.Option("--repo", help="The Feast repository.")]
BundleOption = Annotated[Path, typer.Option("--bundle", help="Folder of the trained recommender.")]
CountOption = Annotated[int, typer.Option("-k", min=1, help="How many rows to show.")]
DATA, REPO, BUNDLE = Path("data"), Path("feature_repo"), Path("data/bundle")


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
    from recommender.data import ingest as run

    counts = run(source, data)
    console.print(", ".join(f"{rows:,} {table}" for table, rows in counts.items()), f"→ {data}")


@app.command()
def profiles(data: DataOption = DATA, repo: RepoOption = REPO) -> None:
    """Embed descriptions and sum behaviour profiles, in DuckDB, with the SQL files of the Feast repository."""
    from recommender.profiles import build_profiles

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
) -> None:
    """Fit the recommender on features read through Feast, choose α, β and γ, save a bundle."""
    from recommender.training import train as run

    with progress() as report:
        model = run(data, repo, bundle, cutoff=cutoff and cutoff.replace(tzinfo=UTC), report=report)
    chosen = model.parameters
    for name in ("alpha", "beta", "gamma", "gamma_cold"):
        console.print(f"{name:<11}{getattr(chosen, name):<6g} {chosen.source[name]}")
    console.print(f"bundle → {bundle}, alpha and beta → {repo / 'enrichment.json'}; next: feast -c {repo} apply")


@app.command()
def evaluate(
    data: DataOption = DATA,
    repo: Annotated[Path, typer.Option("--repo", help="Its enrichment.json names the encoder.")] = REPO,
    group: Annotated[
        str | None, typer.Option(help="Regular expression: items whose ids share its match are held out together.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table here too.")] = None,
) -> None:
    """Compare with popularity, TF-IDF and plain LightFM on cold items, cold users and warm pairs."""
    from recommender.evaluation import evaluate as run

    with progress() as report:
        result = run(data, repo, group=group, seed=seed, report=report)
    if json_file:
        from coldstart_udfs.files import write_text

        write_text(json_file, json.dumps(result, indent=2) + "\n")
    show_evaluation(result)


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
    from coldstart_udfs.feast.skew import measure_skew
    from coldstart_udfs.feast.stores import open_store
    from recommender.skew import bundle_skew

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


@app.command()
def recommend(
    description: Annotated[str | None, typer.Option(help="What the user says.")] = None,
    user_id: Annotated[str | None, typer.Option(help="A user who may be known; default: nobody is.")] = None,
    k: CountOption = 10,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
) -> None:
    """The best items for a user, known or described in words; features come through Feast's online store."""
    if not description and not user_id:
        raise ColdStartError("say who it is for: --description TEXT, --user-id ID, or both")
    from recommender.model import HybridRecommender
    from recommender.serving import NEW, online_user, open_store

    model = HybridRecommender.load(bundle)
    with console.status("features through Feast …"):
        user = online_user(open_store(repo), model, user_id or NEW, description)
    ranking = model.recommend(user, k)
    _show_ranking(ranking, f"for user {user_id or NEW} ({ranking.rung.iloc[0]})" + _quoted(description), "user_id")


@app.command()
def audience(
    description: Annotated[str | None, typer.Option(help="The item's text.")] = None,
    item_id: Annotated[str | None, typer.Option(help="An item that may be known; default: nobody bought it.")] = None,
    k: CountOption = 10,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
) -> None:
    """The existing users to whom an item, known or described in words, would matter most."""
    if not description and not item_id:
        raise ColdStartError("say what it is: --description TEXT, --item-id ID, or both")
    from recommender.model import HybridRecommender
    from recommender.serving import NEW, online_item, open_store

    model = HybridRecommender.load(bundle)
    with console.status("features through Feast …"):
        item = online_item(open_store(repo), model, item_id or NEW, description)
    ranking = model.audience(item, k)
    _show_ranking(ranking, f"for item {item_id or NEW} ({ranking.rung.iloc[0]})" + _quoted(description), "item_id")


@app.command()
def demo() -> None:
    """Run the whole path on Online Retail, command by command; from a clone of the repository."""
    from recommender.demo import run

    run(console, show_evaluation)


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and exit status 2."""
    try:
        app()
    except ColdStartError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        sys.exit(2)


def show_evaluation(result: dict[str, Any]) -> None:
    """Print the comparison table of `coldstart evaluate`."""
    for split in result["splits"]:
        about = f"{split['users']:,} users, {split['candidates']:,} candidates"
        console.print(f"\n[bold]{split['split']}[/] ({'; '.join(filter(None, [about, split['note']]))})")
        table = Table()
        table.add_column("method", min_width=20)
        for name in result["metrics"]:
            table.add_column(name, justify="right")
        best = {name: max(row[name] for row in split["rows"]) for name in result["metrics"]}
        for row in split["rows"]:
            values = [f"[bold]{row[n]:.3f}[/]" if row[n] == best[n] else f"{row[n]:.3f}" for n in result["metrics"]]
            table.add_row(row["method"], *values)
        console.print(table)


def _show_ranking(ranking: pd.DataFrame, title: str, asked: str) -> None:
    console.print(title, style="bold", markup=False)
    table = Table()
    numbers = ("score", "text", "behaviour", "popularity")
    columns = [name for name in ranking.columns if name not in (asked, "rung")]
    for name in columns:
        table.add_column(name, justify="right" if name in (*numbers, "rank") else "left")
    for row in ranking[columns].itertuples(index=False):
        cells = zip(columns, row, strict=True)
        table.add_row(*(f"{value:+.2f}" if name in numbers else str(value) for name, value in cells))
    console.print(table)


def _quoted(description: str | None) -> str:
    return f': "{description}"' if description else ""


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
