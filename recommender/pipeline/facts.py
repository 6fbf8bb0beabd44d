"""Facts as columns of items: run `sql/facts.sql` of the Feast repository, and write the table items again."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged
from coldstart_udfs.locks import whole, writing
from coldstart_udfs.quoting import quote_name, quote_text
from coldstart_udfs.settings import Enrichment
from recommender.data.contract import ATTRIBUTES, FACTS, ITEM_ID
from recommender.data.facts import COLUMNS_ENTRY, fact_columns, name_beside
from recommender.data.tables import load
from recommender.pipeline.template import template

SCRIPT = "facts.sql"
# Between the values of a path of levels.
_LEVEL = " / "


@dataclass(frozen=True)
class FactColumn:
    """A column of items that was made from facts.

    Attributes:
        name: the predicates on the way from the item, joined by ">".
        items: number of items with a value.
        values: number of different values.
        weight: mean weight of the values, over items.
        examples: the values of most items, at most three.
    """

    name: str
    items: int
    values: int
    weight: float
    examples: tuple[str, ...]


def add_facts(
    data: Path, repo: Path, *, levels: Sequence[str] = (), hops: int = 2, most: int = 500, most_of_an_item: int = 20,
    dry_run: bool = False,
) -> list[FactColumn]:
    """Turn facts into columns of the table items, in place of those of an earlier run.

    Args:
        data: the folder of items, users, interactions and, unless levels are given, facts; items.parquet is replaced.
        repo: the Feast repository, whose `sql/facts.sql` is run; without one there, that of `coldstart init`.
        levels: columns of items from the general to the special, such as department, category and type. Each path of
            their values becomes a fact.
        hops: 1 or 2, the facts on the way from an item to a value.
        most: how many values are kept, those with the largest weights.
        most_of_an_item: likewise, of one item.
        dry_run: write nothing.

    Returns:
        The columns, those that most items have first. A list of texts each; a name that items already have is
        followed by " (facts)".

    Raises:
        ColdStartError: there are no facts, a column of levels is missing, or the script fails.
        InUseError: another process writes the folder.
    """
    script = repo / "sql" / SCRIPT
    if not script.is_file():
        script = template() / "sql" / SCRIPT
    items = data / "items.parquet"
    with writing(*([] if dry_run else [whole(data)]), command="coldstart facts"), duckdb.connect() as con:
        if not items.is_file():
            raise ColdStartError(f"{items} does not exist; run `coldstart ingest RAW --data {data}` first")
        earlier = fact_columns(items)
        found = load(con, data, Enrichment.of_repo(repo).event_weights)
        _forget_columns(con, earlier)
        given = con.execute(f"DESCRIBE FROM read_parquet({quote_text(str(items))})").fetchall()
        kept = [name for name, *_ in given if name not in earlier]
        if FACTS.name not in found.tables:
            if not levels:
                raise ColdStartError(
                    f"{data} has no table facts; add facts.csv with subject, predicate and object to the raw files and "
                    "run `coldstart ingest`, or name columns of items from the general to the special with --level"
                )
            con.execute("CREATE TABLE facts (subject VARCHAR, predicate VARCHAR, object VARCHAR)")
        _add_levels(con, levels, kept, items)
        for name, value in (("hops", hops), ("most", most), ("most_of_an_item", most_of_an_item)):
            con.execute(f"SET VARIABLE {name} = {int(value)}")
        _run(con, script)
        con.execute("CREATE TABLE renamed AS SELECT item_id, name, value, weight FROM item_facts")
        own = {name.lower() for name in kept}
        names = [name for (name,) in con.execute("SELECT DISTINCT name FROM renamed ORDER BY 1").fetchall()]
        columns = {name: name_beside(name) if name.lower() in own else name for name in names}
        _check_names(columns.values(), own)
        told = [_told(con, name, column) for name, column in columns.items()]
        if not dry_run:
            _write(con, items, kept, columns)
    return sorted(told, key=lambda column: (-column.items, column.name))


def _check_names(columns: Iterable[str], own: Collection[str]) -> None:
    """Raise an error if two columns have names that differ only in upper and lower case."""
    known = {name: name for name in own}
    for column in columns:
        if (other := known.setdefault(column.lower(), column)) != column:
            raise ColdStartError(
                f"facts give the columns {other!r} and {column!r}, which are one name in a table: upper and lower case "
                "do not count there; write the predicate in one way, then `coldstart ingest` and `coldstart facts`"
            )


def _forget_columns(con: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> None:
    """Take the labels of earlier columns out of the attributes of items."""
    for name in columns:
        own = f"lambda label: NOT starts_with(label, {quote_text(f'{name}=')})"
        con.execute(f"UPDATE items SET {ATTRIBUTES} = list_filter({ATTRIBUTES}, {own})")


def _add_levels(con: duckdb.DuckDBPyConnection, levels: Sequence[str], kept: Sequence[str], items: Path) -> None:
    absent = [name for name in levels if name not in kept]
    if absent or len(set(levels)) < len(levels):
        what = f"has no column {', '.join(map(repr, absent))}" if absent else f"is asked for {list(levels)}, one twice"
        raise ColdStartError(f"{items} {what}; the columns are {list(kept)}")
    if not levels:
        return
    texts = [f"nullif(trim({quote_name(name)}::VARCHAR), '')" for name in levels]
    for depth in range(1, len(levels)):
        # A level that lacks one above it is no path.
        path = f" || {quote_text(_LEVEL)} || ".join(texts[: depth + 1])
        con.execute(
            f"INSERT INTO facts SELECT DISTINCT {ITEM_ID}, $1, {path} FROM items WHERE {path} IS NOT NULL",
            [">".join(levels[: depth + 1])],
        )


def _run(con: duckdb.DuckDBPyConnection, script: Path) -> None:
    try:
        con.execute(script.read_text(encoding="utf-8"))
        con.execute("SELECT item_id, name, value, weight FROM item_facts LIMIT 0")
    except duckdb.Error as error:
        raise ColdStartError(f"{script} failed: {error}") from None


def _told(con: duckdb.DuckDBPyConnection, name: str, column: str) -> FactColumn:
    row: Any = con.execute(
        "SELECT count(DISTINCT item_id), count(DISTINCT value), avg(weight) FROM renamed WHERE name = $1", [name]
    ).fetchall()[0]
    examples = con.execute(
        "SELECT value FROM renamed WHERE name = $1 GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 3", [name]
    ).fetchall()
    return FactColumn(column, row[0], row[1], row[2], tuple(value for (value,) in examples))


def _write(con: duckdb.DuckDBPyConnection, items: Path, kept: Sequence[str], columns: dict[str, str]) -> None:
    own = ", ".join(f"items.{quote_name(name)}" for name in kept)
    lists = "".join(
        f", list(value ORDER BY weight DESC, value) FILTER (name = {quote_text(name)}) AS {quote_name(column)}"
        for name, column in columns.items()
    )
    added = "".join(f", found.{quote_name(column)}" for column in columns.values())
    about = quote_text(json.dumps(list(columns.values()), ensure_ascii=False))
    with staged(items.parent) as scratch:
        con.execute(
            f"COPY (SELECT {own}{added} FROM read_parquet({quote_text(str(items))}) AS items "
            f"LEFT JOIN (SELECT {ITEM_ID}{lists} FROM renamed GROUP BY {ITEM_ID}) AS found USING ({ITEM_ID}) "
            f"ORDER BY items.{ITEM_ID}) TO {quote_text(str(scratch / items.name))} "
            f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{COLUMNS_ENTRY}: {about}}})"
        )
