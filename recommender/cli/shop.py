"""Commands that make a shop: `coldstart init`, `ingest`, `weigh`, `profiles` and `put`."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged, write_text
from coldstart_udfs.locks import writing
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.cli.events import EVENTS, EventsOption
from recommender.cli.options import (
    BUNDLE,
    DATA,
    REPO,
    BundleOption,
    DataOption,
    DateOrderOption,
    EncodingOption,
    Engine,
    EngineOption,
    ItemOption,
    RepoOption,
    UserOption,
    WorkersOption,
    one_entity,
    ray_workers,
)

if TYPE_CHECKING:
    from recommender.serve.events.log import EventLog


def init(
    directory: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to create the shop in.")],
    language: Annotated[
        str,
        typer.Option(
            metavar="CODE",
            help="The language of the texts, such as de or zh. Any other than en takes the encoder multilingual, "
            "which knows 93 languages and needs the extra of this name.",
        ),
    ] = "en",
) -> None:
    """Create a shop: a folder with a Feast repository.

    Writes FOLDER/feature_repo with feature definitions, SQL files and default settings.

    Examples:
        coldstart init my_shop
        coldstart init shops/books --language zh
    """
    from coldstart_udfs.encoder.multilingual import model_for
    from recommender.pipeline.template import template

    model = model_for(language)
    target = directory / "feature_repo"
    if target.exists():
        raise ColdStartError(f"{target} exists already; choose another folder")
    left_out = shutil.ignore_patterns(
        "data", "feast_monitoring", "__pycache__", ".unfinished-*", ".*.lock", ENRICHMENT_FILE
    )
    with writing(target, command="coldstart init"), staged(directory) as scratch:
        shutil.copytree(template(), scratch / target.name, ignore=left_out)
        settings = Enrichment.of_repo(scratch / target.name)
        replace(settings, model=model).write(scratch / target.name / ENRICHMENT_FILE)
    console.print(
        f"Wrote {target}. Next, in {directory}: make a folder raw/ with items, users and interactions (.csv, "
        ".parquet, .jsonl or .xlsx), then run\n"
        "  coldstart ingest raw && coldstart profiles && feast -c feature_repo apply\n"
        "  feast -c feature_repo materialize 2010-01-01T00:00:00 $(date -u +%FT%T)\n"
        "  coldstart train && feast -c feature_repo apply"
    )


def ingest(
    source: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="The raw files, and ingest.sql if they need one."),
    ],
    data: DataOption = DATA,
    repo: RepoOption = REPO,
    encoding: EncodingOption = None,
    date_order: DateOrderOption = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Add what `coldstart events export` has written to this folder."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and report only; write nothing.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report to this file too, as JSON.")
    ] = None,
) -> None:
    """Check raw files and write items, users and interactions.

    Reads Parquet, CSV (.csv, .tsv, .csv.gz), JSON lines and Excel files. A table facts is optional, and may be RDF. An
    ingest.sql in the folder can make the tables from other files. The report has one line for each column: what it is
    taken for. Input that breaks the data contract is rejected: the error names the file, the column, the number of rows
    and the first three, and nothing is written. Event types that the enrichment.json of the repository gives a weight
    are known. A note says so if its encoder does not know the language of more than a tenth of the descriptions.

    Examples:
        coldstart ingest raw --dry-run --encoding latin-1
        coldstart ingest raw --export data/exported
    """
    from recommender.data.tables import ingest as run

    if json_file and json_file.is_dir():
        raise ColdStartError(f"{json_file} is a folder; name a file, such as {json_file / 'ingest.json'}")
    settings = Enrichment.of_repo(repo)
    understood = run(
        source, data, settings.event_weights, encoding=encoding, date_order=date_order, dry_run=dry_run,
        model=settings.model, events=export,
    )  # fmt: skip
    if json_file:
        write_text(json_file, json.dumps(understood.as_dict(), indent=2, ensure_ascii=False) + "\n")
    for line in understood.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    counts = ", ".join(f"{rows:,} {table}" for table, rows in understood.rows.items())
    console.print(f"{counts} → {'nothing written (--dry-run)' if dry_run else data}", markup=False)


def weigh(data: DataOption = DATA, repo: RepoOption = REPO) -> None:
    """Fit the weights of event types and how fast events age.

    Weights and half-life are chosen on the latest interactions and written to enrichment.json. Where all interactions
    have one timestamp, the weights are chosen on interactions drawn by chance.

    Examples:
        coldstart weigh
        coldstart weigh --data data --repo feature_repo
    """
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
    which = "held-out (drawn by chance, since the data have no time)" if found.by_chance else "the latest"
    console.print(
        f"{found.rankings:,} rankings judged, of {which} {' and '.join(found.wanted)}: NDCG@20 {found.before:.4f} "
        f"before, {found.after:.4f} after\n"
        f"event_weights, half_life_days → {repo / ENRICHMENT_FILE}; next: coldstart profiles",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def profiles(
    data: DataOption = DATA, repo: RepoOption = REPO, engine: EngineOption = Engine.local, workers: WorkersOption = None
) -> None:
    """Embed descriptions and build the profiles of users and items.

    Runs the SQL files of the Feast repository in DuckDB and writes the repository's Parquet sources. With --engine ray,
    Ray actors encode the descriptions into this machine's vector cache; the rest runs on this machine.

    Examples:
        coldstart profiles
        coldstart profiles --data ../data --repo . --engine ray --workers 63
    """
    from recommender.pipeline.profiles import build_profiles

    with progress() as report:
        counts = build_profiles(data, repo, ray_workers=ray_workers(engine, workers), report=report)
    console.print(", ".join(f"{rows:,} {table}" for table, rows in counts.items()), f"→ {repo / 'data'}")


def put(
    description: Annotated[str, typer.Option(help="The new description of the user or the item.")],
    user_id: UserOption = None,
    item_id: ItemOption = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="An attribute; repeat the option to give all of them, since they replace the stored ones. A number "
            "falls into its band: price=3.5 is stored as price=2^1. Default: the stored attributes stay.",
        ),
    ] = None,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
    events: EventsOption = EVENTS,
) -> None:
    """Store a new description of a user or an item.

    The description is embedded and written to the online and the offline store. It can be retrieved at once. With a
    trained bundle, that of an item is written to the event log too: a running service and `coldstart recommend` list
    the item from then on.

    Examples:
        coldstart put --user-id 17850 --description "I collect enamel jugs"
        coldstart put --item-id 22430 --description "Enamel jug" --attribute price=5
    """
    entity, name = one_entity(user_id, item_id)
    from coldstart_udfs.feast.operations.put import PUT
    from coldstart_udfs.feast.operations.put import put as run

    # Others that put are waited for; training and new profiles take no notice of a put.
    with writing(repo / "data" / PUT, command="coldstart put", wait=60), console.status("through Feast …"):
        log = _log_of(bundle, events) if entity == "item" else None
        done = run(repo, entity, name, description, attribute)
        if log is not None:
            with closing(log):
                log.put("item", name, description, attribute)
    known = f"profile known, {done.evidence[0]:,} interactions" if done.evidence[0] else "cold, no interactions yet"
    console.print(f"{entity} {name}: {known}; norm of the enriched profile {done.norm[0]:.3f}", markup=False)
    if done.truncated[0]:
        console.print("the text is longer than the encoder reads: its end does not count")
    online = "retrievable now" if done.retrievable[0] else "NOT retrievable: a row with a later timestamp is there"
    console.print(f"online: {online}; history: from {done.event_timestamp:%Y-%m-%d %H:%M:%S.%f} UTC on")
    console.print(f"encoder {done.fingerprint}, {done.seconds:.2f} s")
    if log is not None:
        from recommender.serve.events.schema import shown

        told = f"event log {shown(events)}: running services list the item, mostly within 2 s"
        console.print(told, markup=False, soft_wrap=True)
    if not done.retrievable[0]:
        raise typer.Exit(1)


def _log_of(bundle: Path, events: str) -> EventLog | None:
    """The event log of a bundle, made if it is not there; None without a bundle, or without the extra `serve`."""
    if find_spec("sqlalchemy") is None or not (bundle / "manifest.json").is_file():
        return None
    from recommender.serve.events.opening import open_log

    return open_log(events, bundle)
