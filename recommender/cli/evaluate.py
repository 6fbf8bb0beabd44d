"""`coldstart evaluate`: the recommender beside what could be installed instead, on the user's own data."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from recommender.cli.options import ModelOption

if TYPE_CHECKING:
    from recommender.data.dataset import Dataset

_DATA = Path("data")
# How the columns of the result are called on a terminal.
_HEADINGS = {"ndcg@20": "NDCG@20", "recall@20": "recall@20", "precision@10": "prec@10", "auc": "AUC",
             "coverage": "coverage", "cold_share": "cold in 20"}  # fmt: skip


class Kind(StrEnum):
    """What is held out."""

    item_cold = "item_cold"
    user_cold = "user_cold"
    both_cold = "both_cold"
    warm = "warm"
    temporal = "temporal"
    k_shot = "k_shot"


def evaluate(
    items: Annotated[Path | None, typer.Option(help="A parquet or CSV file.")] = None,
    users: Annotated[Path | None, typer.Option(help="Likewise; default: who stands in the interactions.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="A parquet or CSV file.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Instead of the three: the folder that they lie in.", show_default=str(_DATA))
    ] = None,
    split: Annotated[Kind, typer.Option(help="What is held out.")] = Kind.item_cold,
    seeds: Annotated[int, typer.Option(min=1, help="How many times, each with another seed.")] = 5,
    shots: Annotated[str, typer.Option(help="k_shot: how many interactions of a new user are given.")] = "1,3,5",
    group_column: Annotated[
        str | None, typer.Option(help="Column of items: those with one value are held out together.")
    ] = None,
    cutoff: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="temporal: learn from what was before; UTC."),
    ] = None,
    model: ModelOption = None,
    repo: Annotated[
        Path | None,
        typer.Option(help="A Feast repository, for its enrichment.json: events, evidence, encoder (without --model)."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table here too.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a report for people.")] = None,
) -> None:
    """Compare with what could be installed instead, on new items, new users, both, or what came later.

    What a user searched for before the first thing that is held out of him counts among his words.

    With --json a stopped evaluation goes on where it was when the same command is run again.
    """
    from recommender.data.dataset import settings_of
    from recommender.evaluation.comparison import evaluate as run

    chosen = _shots(shots)
    settings = settings_of(repo) if repo else None
    for path in (json_file, html_file):
        if path and path.is_dir():
            raise ColdStartError(f"{path} is a folder; name a file in it")
    if html_file:
        from recommender.evaluation.report import require_matplotlib

        require_matplotlib()  # before the hours, not after them
    unfinished = json_file.with_name(f"{json_file.name}.unfinished") if json_file else None
    try:
        with progress() as report:
            encoder = (model, None) if model or not settings else (settings.model, settings.backend)
            tables = _read(items, users, interactions, data, encoder, group_column, report)
            found = run(
                tables, split.value, seeds=seeds, cutoff=cutoff, shots=chosen, unfinished=unfinished, report=report,
                settings=settings,
            )  # fmt: skip
    except KeyboardInterrupt:
        kept = f"what is finished is in {unfinished}, and the same command goes on from there"
        console.print(f"stopped; {kept if unfinished else 'with --json the next stop would lose nothing finished'}")
        raise typer.Exit(130) from None
    if json_file:
        from coldstart_udfs.files import write_text

        write_text(json_file, json.dumps(found.result, indent=2, allow_nan=False) + "\n")
    if html_file:
        from recommender.evaluation.report import write_report

        write_report(found, html_file)
    if unfinished:
        shutil.rmtree(unfinished, ignore_errors=True)
    show_evaluation(found.result)


def show_evaluation(result: dict[str, Any]) -> None:
    """Print the comparison, a table for each kind of candidates."""
    from recommender.evaluation.baselines import OURS

    console.print(f"{result['dataset']}, {result['split']}, {_plural(result['seeds'], 'seed')}", style="bold")
    for key in dict.fromkeys((row.get("shots"), row["candidates"]) for row in result["rows"]):
        rows = [row for row in result["rows"] if (row.get("shots"), row["candidates"]) == key]
        shots = f", {_plural(key[0], 'interaction')} of each user given" if key[0] else ""
        console.print(f"\n[bold]candidates: {key[1]}[/]{shots}, {rows[0]['users']:,.0f} users asked")
        table = Table("method")
        for name in (*_HEADINGS.values(), "± seeds", "ours − it, 95 %", "fit s", "score s"):
            table.add_column(name, justify="right")
        best = {name: max(row[name] for row in rows) for name in ("ndcg@20", "recall@20", "precision@10", "auc")}
        for row in rows:
            cells = [_bold(f"{row[name]:.3f}", row[name] == best.get(name)) for name in _HEADINGS]
            spread, low, high = row["ndcg@20_std"], row["ci_low"], row["ci_high"]
            interval = "" if row["method"] == OURS else f"{low:+.3f} … {high:+.3f}"
            cells += [f"{spread:.3f}" if spread is not None else "", interval]
            table.add_row(row["method"], *cells, f"{row['fit_s']:,.1f}", f"{row['score_s']:,.1f}")
        console.print(table)
    for note in result["notes"]:
        console.print(note, markup=False, soft_wrap=True)


def _bold(cell: str, best: bool) -> str:
    return f"[bold]{cell}[/]" if best else cell


def _read(
    items: Path | None, users: Path | None, interactions: Path | None, data: Path | None,
    encoder: tuple[str | None, str | None], group_column: str | None, report: Any,
) -> Dataset:
    from recommender.data.dataset import files_in, read_dataset

    given = [name for name, path in (("--items", items), ("--users", users), ("--interactions", interactions)) if path]
    if given and data:
        raise ColdStartError(f"--data stands for all three files, {given[0]} for one; give the one or the other")
    if items and interactions:
        files = items, users, interactions
    elif given:
        raise ColdStartError(f"{' and '.join(given)} alone will not do; give --items and --interactions, or --data")
    else:
        files = files_in(data or _DATA)
    model, backend = encoder
    return read_dataset(*files, model=model, backend=backend, group_column=group_column, report=report)


def _shots(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ColdStartError(f"--shots is {text!r}; give numbers with commas between, such as 1,3,5") from None


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
