"""`coldstart evaluate`: the recommender beside other methods, on the user's own data."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import writing
from coldstart_udfs.made_from import files_hash
from coldstart_udfs.settings import EVENT_WEIGHTS
from recommender.cli.failures import INTERRUPTED
from recommender.cli.options import (
    DATA,
    REPO,
    DateOrderOption,
    EncodingOption,
    ModelOption,
    PriorOption,
    TrackOption,
    parse_date,
    settings_of_shop,
)
from recommender.cli.tracking import tell_evaluation
from recommender.tracking import tracked

# Headings of the columns on a terminal.
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


class Without(StrEnum):
    """What the recommender does not see, to learn what it is worth."""

    facts = "facts"


def evaluate(
    items: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The items: Parquet, CSV, JSON lines or Excel.")
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The users. Default: the users in the interactions."),
    ] = None,
    interactions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The interactions.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The folder with these three, in place of the files. Default: data."),
    ] = None,
    split: Annotated[
        Kind,
        typer.Option(
            metavar="KIND",
            help="What is held out: item_cold (new items), user_cold (new users), both_cold (both), warm (some "
            "interactions of known users and items), temporal (all interactions after a date) or k_shot (all but a "
            "few interactions of new users).",
        ),
    ] = Kind.item_cold,
    seeds: Annotated[int, typer.Option(min=1, help="The number of repetitions, each with another seed.")] = 5,
    shots: Annotated[
        str,
        typer.Option(metavar="INTEGERS", help="With --split k_shot: how many interactions of a new user are known."),
    ] = "1,3,5",
    group_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="A column of the items. Items with the same value are held out together."),
    ] = None,
    cutoff: Annotated[
        datetime | None,
        typer.Option(
            metavar="YYYY-MM-DD", parser=parse_date,
            help="With --split temporal: learn from interactions before this date (UTC; YYYY-MM-DDTHH:MM:SS works too)."
        ),
    ] = None,
    tuning: Annotated[
        float,
        typer.Option(
            metavar="FACTOR", min=0.0,
            help="Processor seconds for choosing the settings of each other method, as a multiple of those that the "
            "recommender takes to choose and to fit. 0: their defaults.",
        ),
    ] = 3.0,
    without: Annotated[
        Without | None,
        typer.Option(metavar="PART", help="Leave out a part of what is known of items: facts (their columns)."),
    ] = None,
    encoding: EncodingOption = None,
    date_order: DateOrderOption = None,
    model: ModelOption = None,
    repo: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A Feast repository. Its enrichment.json gives event weights, evidence scale and, unless --model is "
            "given, the encoder. Default: feature_repo, if it has one.",
        ),
    ] = None,
    prior: PriorOption = "none",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the table to this file too, as JSON.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a report with figures to this file.")
    ] = None,
    track: TrackOption = None,
) -> None:
    """Compare the recommender with other methods on your data.

    Searches of a user before the first held-out interaction count as words of that user. With --json, an interrupted
    evaluation continues when the same command runs again. `coldstart runs` shows the record of the run, in data/runs.

    Examples:
        coldstart evaluate --split temporal --cutoff 2011-09-01
        coldstart evaluate --data data --seeds 1 --html report.html
    """
    from recommender.data.dataset import read_dataset, settings_of
    from recommender.evaluation.comparison import evaluate as run
    from recommender.tuning.prior import Prior

    chosen, chosen_prior = _shots(shots), Prior.named(prior)
    repo = repo or (REPO if settings_of_shop() else None)
    settings = settings_of(repo) if repo else None
    for path in (json_file, html_file):
        if path and path.is_dir():
            raise ColdStartError(f"{path} is a folder; name a file in it")
    if html_file:
        from recommender.evaluation.report import require_matplotlib

        require_matplotlib()  # an evaluation takes hours; fail before it
    unfinished = json_file.with_name(f"{json_file.name}.unfinished") if json_file else None
    with (
        writing(*(path for path in (json_file, html_file) if path), command="coldstart evaluate"),
        tracked("evaluate", track) as tracker,
    ):
        try:
            with progress() as report:
                encoder = (model, None) if model or not settings else (settings.model, settings.backend)
                weights = settings.event_weights if settings else EVENT_WEIGHTS
                how: dict[str, Any] = {
                    "group_column": group_column, "weights": weights, "encoding": encoding, "date_order": date_order
                }
                files = _files(items, users, interactions, data)
                left_out = _left_out(files[0], without)
                tables = read_dataset(
                    *files, model=encoder[0], backend=encoder[1], left_out=left_out, report=report, **how
                )
                tracker.parameters({
                    "split": split.value, "seeds": seeds, "shots": chosen, "group_column": group_column,
                    "cutoff": cutoff, "tuning": tuning, "prior": prior, "without": without and without.value,
                    "data": files[0].parent, "repo": repo,
                    **{f"event_weights.{name}": weight for name, weight in weights.items()},
                    "data_sha256": files_hash(path for path in files if path),
                })
                found = run(
                    tables, split.value, seeds=seeds, cutoff=cutoff, shots=chosen, tuning=tuning,
                    prior=chosen_prior, unfinished=unfinished, report=report, settings=settings,
                )  # fmt: skip
        except KeyboardInterrupt:
            kept = f"finished parts are in {unfinished}, and the same command continues from there"
            nothing = "nothing was kept: give --json FILE to be able to continue"
            console.print(f"stopped; {kept if unfinished else nothing}")
            raise typer.Exit(INTERRUPTED) from None
        if json_file:
            from coldstart_udfs.files import write_text

            write_text(json_file, json.dumps(found.result, indent=2, allow_nan=False) + "\n")
        if html_file:
            from recommender.evaluation.report import write_report

            write_report(found, html_file)
        tell_evaluation(tracker, found)
        for path, name in ((html_file, "report.html"), (json_file, "result.json")):
            if path:
                tracker.artifact(path, name)
        if unfinished:
            shutil.rmtree(unfinished, ignore_errors=True)
    show_evaluation(found.result)


def show_evaluation(result: dict[str, Any]) -> None:
    """Print the comparison, one table for each kind of candidates."""
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


def _files(
    items: Path | None, users: Path | None, interactions: Path | None, data: Path | None
) -> tuple[Path, Path | None, Path]:
    from recommender.data.dataset import files_in

    given = [name for name, path in (("--items", items), ("--users", users), ("--interactions", interactions)) if path]
    if given and data:
        raise ColdStartError(f"--data stands for all three files, {given[0]} for one of them; give either")
    if items and interactions:
        return items, users, interactions
    if given:
        raise ColdStartError(f"{' and '.join(given)} alone is not enough; give --items and --interactions, or --data")
    return files_in(data or DATA)


def _left_out(items: Path, without: Without | None) -> list[str]:
    """The columns of items that are not used as attributes."""
    if without is None:
        return []
    from recommender.data.facts import fact_columns

    found = fact_columns(items)
    if not found:
        raise ColdStartError(f"{items} has no columns of facts to leave out; `coldstart facts` adds them")
    return found


def _shots(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ColdStartError(f"--shots is {text!r}; give numbers with commas between, such as 1,3,5") from None


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
