"""`coldstart coverage`: how well the texts of a table suit the encoder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import writing
from recommender.cli.options import EncodingOption, ModelOption, encoder_of_shop

if TYPE_CHECKING:
    from coldstart_udfs.text.coverage import Counts, Coverage
    from recommender.pipeline.descriptions import Asked

_SHOWN_LENGTH = 70
# A language of fewer texts is more often a false alarm.
_SHOWN_SHARE = 0.01


def coverage(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A Parquet, CSV, JSON lines or Excel file.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the texts.")] = "description",
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Count by the 20 most frequent values of this column too.")
    ] = None,
    ask: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="List N items to describe next, from their `item_id`.")
    ] = None,
    interactions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who has which item, for --ask; default: the file beside FILE."),
    ] = None,
    encoding: EncodingOption = None,
    model: ModelOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result to this file too, as JSON.")
    ] = None,
) -> None:
    """Measure how well the texts of a table suit the encoder.

    Counts texts that are missing, repeated, short, longer than the encoder reads, or in another language. Says which
    languages the texts are in, and which encoder knows those that this one does not know. With --ask, ranks the items
    to describe next: by reach, the users expected to want an item, times uncertainty, the share of what they think of
    it that neither texts nor interactions tell.

    Examples:
        coldstart coverage data/items.parquet --by category
        coldstart coverage items.csv --text title --ask 20 --json coverage.json
    """
    from coldstart_udfs.encoder.encoder import Encoder
    from coldstart_udfs.text.coverage import coverage as run

    if json_file and json_file.is_dir():
        raise ColdStartError(f"{json_file} is a folder; name a file, such as {json_file / 'coverage.json'}")
    if json_file and json_file.exists() and source.exists() and json_file.samefile(source):
        raise ColdStartError(f"{json_file} is the input; choose another file for --json")
    model, backend = encoder_of_shop(model)
    encoder = Encoder(model, backend=backend)
    with writing(*([json_file] if json_file else []), command="coldstart coverage"):
        with progress(remaining=True) as report:
            found = run(source, text=text, by=by, encoder=encoder, encoding=encoding, report=report)
            asked = None
            if ask:
                from recommender.pipeline.descriptions import to_describe

                events = interactions or _beside(source)
                asked = to_describe(source, events, ask, text=text, encoder=encoder, encoding=encoding, report=report)
        if json_file:
            from coldstart_udfs.files import write_text

            told = found.as_dict() | ({} if asked is None else {"ask": [asdict(one) for one in asked]})
            write_text(json_file, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    show_coverage(found)
    if asked is not None:
        _show_asked(asked)


def _beside(source: Path) -> Path | None:
    """The file of interactions in the same folder; None if there is none."""
    from recommender.data.raw_files import tables_of

    return tables_of(source.parent).get("interactions") if source.parent.is_dir() else None


def _show_asked(asked: list[Asked]) -> None:
    """Print the items to describe next, and what each rank is made of."""
    if not asked:
        console.print("describe next: nothing; no text is missing, short, repeated, cut, foreign or unlike the others")
        return
    table = Table("describe next", "text", "why", "users", "reach", "uncertainty", "gain")
    for column in table.columns[3:]:
        column.justify = "right"
    for one in asked:
        users = "–" if one.users is None else f"{one.users:,}"
        numbers = (users, f"{one.reach:,.1f}", f"{one.uncertainty:.2f}", f"{one.gain:,.2f}")
        table.add_row(_printable(one.item_id), _printable(one.text) if one.text else Text("–"), one.why, *numbers)
    console.print(table)
    if asked[0].users is None:
        console.print("without interactions every item has the reach 1; give --interactions", markup=False)


def show_coverage(found: Coverage) -> None:
    """Print the shares of each problem, overall and by category, and examples."""
    from coldstart_udfs.text.coverage import MIN_WORDS

    languages = ", ".join(found.languages) or "unknown"
    reads = f"reads {found.max_tokens} tokens" if found.max_tokens else "does not say how much it reads"
    console.print(
        f"{found.path}: {found.total.rows:,} rows, texts in {found.text!r}\n"
        f"encoder {found.encoder}: {reads}, language: {languages}",
        markup=False,
    )
    titles = {
        "without_text": "no text", "repeated": "repeated", "short": f"under {MIN_WORDS} words", "truncated": "cut",
        "other_language": "other language",
    }  # fmt: skip
    table = Table()
    table.add_column(Text(found.by or ""))
    for title in ("rows", *titles.values()):
        table.add_column(title, justify="right")
    table.add_row("all", *_cells(found.total, titles), end_section=True)
    for name, counts in found.categories.items():
        table.add_row(_printable("–" if name is None else name), *_cells(counts, titles))
    if found.others:
        table.add_section()
        table.add_row("others", *_cells(found.others, titles))
    console.print(table)
    if found.others:
        largest = len(found.categories)
        console.print(
            f"the {largest} largest of {largest + found.other_categories:,} values of {found.by!r}; "
            f"the other {found.other_categories:,} together are \"others\"",
            markup=False,
        )
    if shares := {code: share for code, share in found.language_shares.items() if share >= _SHOWN_SHARE}:
        told = ", ".join(f"{code} {_per_cent(share)}" for code, share in shares.items())
        console.print(f"languages of the texts: {told}", markup=False)
    if found.advice:
        console.print(found.advice, markup=False, soft_wrap=True)
    if not found.languages:
        console.print("other language: unknown, since the model's card names no language that can be detected")
    if not any(found.examples.values()):
        return
    table = Table("for example", "row", "rows", "text")
    table.columns[1].justify = table.columns[2].justify = "right"
    for problem, examples in found.examples.items():
        for number, one in enumerate(examples):
            shown = Text("–") if one.text is None else _printable(one.text)
            table.add_row("" if number else titles[problem], f"{one.row:,}", f"{one.rows:,}", shown)
        if examples:
            table.add_section()
    console.print(table)


def _cells(counts: Counts, problems: dict[str, str]) -> list[str]:
    return [f"{counts.rows:,}", *(_per_cent(counts.share(problem)) for problem in problems)]


def _per_cent(share: float | None) -> str:
    if share is None:
        return "unknown"
    # Rounding must not turn a few into none, or nearly all into all.
    if 0 < share < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def _printable(text: str) -> Text:
    """A text on one line, cut, and without control characters that a terminal would execute."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return Text(line if len(line) <= _SHOWN_LENGTH else line[: _SHOWN_LENGTH - 1] + "…")
