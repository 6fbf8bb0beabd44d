"""The data contract: requirements on the tables items, users, interactions and facts, and their normalised form.

This module defines the names of the contract's columns. In validated tables, ids are unique, non-empty strings;
interactions refer to known ids; timestamps are UTC; weights are positive; event types are in lower case; no fact is
there twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.quoting import quote_name
from recommender.data.attributes import Attribute, as_plain_text, attributes_of, type_attributes
from recommender.data.timestamps import Moments, implausible, read_moments

ITEM_ID = "item_id"
USER_ID = "user_id"
DESCRIPTION = "description"
TIMESTAMP = "event_timestamp"
EVENT_TYPE = "event_type"
WEIGHT = "weight"
QUERY = "query"
SHARE = "share"
SUBJECT, PREDICATE, OBJECT = "subject", "predicate", "object"
ATTRIBUTES = "attributes"
RETURNED = "returned"

INTERACTION, RETURN, SEARCH, IMPRESSION = "interaction", "return", "search", "impression"
CART_REMOVAL, WISHLIST_REMOVAL = "cart_removal", "wishlist_removal"
# Events that take back earlier ones, and are no evidence themselves.
TAKE_BACK = (RETURN, CART_REMOVAL, WISHLIST_REMOVAL)
# Events that can lead to a purchase. Every other type can be returned.
FAINT = (IMPRESSION, "view", "wishlist", "cart", "checkout", SEARCH)

# What a column called "attributes" has at the end of its name in a normalised table.
GIVEN = " (given)"
# The normalised text of a search, NULL if it is blank; and the normalised type of an event.
_QUERY = f"nullif(trim(regexp_replace(lower({QUERY}::VARCHAR), '\\s+', ' ', 'g')), '')"
_TYPE = f"coalesce(nullif(lower(trim({EVENT_TYPE}::VARCHAR)), ''), '{INTERACTION}')"


class ContractError(ColdStartError):
    """A table breaks the data contract."""


@dataclass(frozen=True)
class Table:
    """One table of the contract; the values of the column `key` are unique."""

    name: str
    key: str | None
    required: tuple[str, ...]
    optional: tuple[str, ...]


TABLES = (
    Table("items", ITEM_ID, (ITEM_ID, DESCRIPTION), (TIMESTAMP,)),
    Table("users", USER_ID, (USER_ID, DESCRIPTION), (TIMESTAMP, SHARE)),
    Table("interactions", None, (USER_ID, ITEM_ID), (TIMESTAMP, EVENT_TYPE, WEIGHT, QUERY)),
)
# Optional, see `recommender.data.facts`.
FACTS = Table("facts", None, (SUBJECT, PREDICATE, OBJECT), ())


@dataclass
class Prepared:
    """A table whose columns are understood but not yet normalised.

    Attributes:
        table: the table.
        origin: its file or script.
        columns: the types of all columns, by name.
        moments: how the timestamps are read; None without such a column.
        kinds: of text columns that contain numbers or lists, see `type_attributes`.
        doubts: sentences about values that are plausible only in part.
    """

    table: Table
    origin: str
    columns: dict[str, str]
    moments: Moments | None = None
    kinds: dict[str, tuple[str, str]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    @property
    def extra(self) -> list[str]:
        """The columns that the contract does not name."""
        own = (*self.table.required, *self.table.optional)
        return [name for name in self.columns if name not in own]


def name_columns(con: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Write the contract's columns in lower case: DuckDB takes ITEM_ID and item_id for one name."""
    named = {name.lower(): name for name in (*table.required, *table.optional)}
    for name, _ in _columns(con, table.name):
        own = named.get(name.lower())
        if own and own != name:
            con.execute(f"ALTER TABLE {table.name} RENAME {quote_name(name)} TO coldstart_renamed")
            con.execute(f"ALTER TABLE {table.name} RENAME coldstart_renamed TO {own}")


def prepare(
    con: duckdb.DuckDBPyConnection, table: Table, origin: str, date_order: str | None = None,
    as_text: str | None = None,
) -> Prepared:
    """Decide by all values how the timestamps and attributes of a table are read.

    Raises:
        ContractError: ids are fractions, or too large to be exact.
    """
    for name, sql_type in _columns(con, table.name):
        if name in (USER_ID, ITEM_ID, *FACTS.required[: table is FACTS]) and sql_type in ("FLOAT", "DOUBLE"):
            _whole_ids(con, table, origin, name, sql_type)
        if name == DESCRIPTION and sql_type in ("JSON", "VARCHAR[]"):
            as_plain_text(con, table.name, name)
    prepared = Prepared(table, origin, dict(_columns(con, table.name)))
    if table.key:
        prepared.kinds = type_attributes(con, table.name, [name for name in prepared.extra if name != as_text])
        prepared.columns = dict(_columns(con, table.name))
    if TIMESTAMP in prepared.columns:
        prepared.moments = read_moments(con, table.name, TIMESTAMP, prepared.columns[TIMESTAMP], date_order)
    return prepared


def _whole_ids(con: duckdb.DuckDBPyConnection, table: Table, origin: str, name: str, sql_type: str) -> None:
    """Turn ids that a tool stored as floats, because some are missing, back into whole numbers."""
    con.execute(f"UPDATE {table.name} SET {name} = NULL WHERE isnan({name})")
    exact = f"isfinite({name}) AND {name} = floor({name}) AND abs({name}) < {2**24 if sql_type == 'FLOAT' else 2**53}"
    wrong = count(con, f"SELECT count(*) FROM {table.name} WHERE {name} IS NOT NULL AND NOT ({exact})")
    if wrong:
        raise ContractError(
            f"{origin}: column {name!r} has the type {sql_type}, and {wrong:,} of its ids are not exact as such; store "
            "ids as text"
        )
    con.execute(f"ALTER TABLE {table.name} ALTER {name} TYPE BIGINT")


def check(con: duckdb.DuckDBPyConnection, tables: dict[str, Prepared], found: Sequence[str] = ()) -> None:
    """Validate the tables of a connection.

    Args:
        con: a connection that has the tables.
        tables: the prepared tables, by name.
        found: breaches that are known already.

    Raises:
        ContractError: one line for each breach.
    """
    breaches = [breach for prepared in tables.values() for breach in _breaches(con, prepared)]
    breaches += found
    # A missing id column is reported above; the ids cannot be compared then.
    interactions = tables["interactions"]
    for name, target in ((USER_ID, "users"), (ITEM_ID, "items")):
        if name in interactions.columns and name in tables[target].columns:
            named = f"trim({name}::VARCHAR) <> '' AND {name}::VARCHAR"
            unknown = f"{named} NOT IN (SELECT {name}::VARCHAR FROM {target} WHERE {name} IS NOT NULL)"
            breaches += _wrong(con, interactions, name, unknown, f"an id that is not in the table {target}")
    if breaches:
        raise ContractError("\n".join(breaches))


def _breaches(con: duckdb.DuckDBPyConnection, prepared: Prepared) -> Iterator[str]:
    table, origin, columns = prepared.table, prepared.origin, prepared.columns
    absent = [name for name in table.required if name not in columns]
    if absent:
        yield f"{origin}: column {', '.join(map(repr, absent))} is missing; the columns are {sorted(columns)}"
        return
    if not count(con, f"SELECT count(*) FROM {table.name}"):
        yield f"{origin}: column {table.required[0]!r}: the table has no rows"
        return
    for name in table.required:
        if columns[name] == "BLOB":
            yield f"{origin}: column {name!r} is binary and not UTF-8; decode it in ingest.sql"
            return
        if columns[name].endswith(("]", ")")) and not columns[name].startswith(("DECIMAL", "ENUM")):
            yield f"{origin}: column {name!r} has the type {columns[name]}, not text; choose a part of it in ingest.sql"
            return
    unions = [name for name, sql_type in columns.items() if sql_type.startswith("UNION")]
    if unions:
        yield f"{origin}: column {', '.join(map(repr, unions))} is a UNION, which Parquet cannot hold; cast it"
        return
    if table is FACTS:
        for name in table.required:
            blank = f"{name} IS NULL OR trim({name}::VARCHAR) = ''"
            yield from _wrong(con, prepared, name, blank, f"no {name}")
        return
    searched = f"({_TYPE} = '{SEARCH}')" if EVENT_TYPE in columns and table.key is None else "false"
    for name in (USER_ID, ITEM_ID):
        if name in table.required:
            blank = f"({name} IS NULL OR trim({name}::VARCHAR) = '')"
            if name == ITEM_ID:
                blank += f" AND NOT {searched}"
            what = "no id" if table.key or name == USER_ID else f"no id; only a {SEARCH} may have none"
            yield from _wrong(con, prepared, name, blank, what)
    if table.key:
        repeated = (
            f"{table.key}::VARCHAR IN (SELECT {table.key}::VARCHAR FROM {table.name} GROUP BY 1 HAVING count(*) > 1)"
        )
        yield from _wrong(con, prepared, table.key, repeated, "an id that is not unique")
    if SHARE in columns and SHARE in table.optional:
        neither = f"nullif(trim({SHARE}::VARCHAR), '') IS NOT NULL AND TRY_CAST({SHARE}::VARCHAR AS BOOLEAN) IS NULL"
        yield from _wrong(con, prepared, SHARE, neither, "a consent that is neither true nor false")
    if prepared.moments:
        yield from _timestamp_breaches(con, prepared, prepared.moments)
    if table.key is None and WEIGHT in columns:
        number = f"TRY_CAST({WEIGHT} AS FLOAT)"
        given = f"nullif(trim({WEIGHT}::VARCHAR), '') IS NOT NULL"
        wrong = f"{given} AND NOT coalesce(isfinite({number}) AND {number} > 0, false)"
        yield from _wrong(con, prepared, WEIGHT, wrong, "a weight that is not a positive number below 3.4e38")
    if table.key is None:
        empty = f"{searched} AND {_QUERY} IS NULL" if QUERY in columns else searched
        what = f"the type '{SEARCH}' and no text in the column '{QUERY}'"
        yield from _wrong(con, prepared, EVENT_TYPE, empty, what)


def _timestamp_breaches(con: duckdb.DuckDBPyConnection, prepared: Prepared, moments: Moments) -> Iterator[str]:
    if moments.problem:
        yield f"{prepared.origin}: column '{TIMESTAMP}' {moments.problem}"
        return
    given = f"nullif(trim({TIMESTAMP}::VARCHAR), '')"
    unparsed = f"{given} IS NOT NULL AND coalesce(NOT isfinite({moments.sql}), true)"
    what = "a timestamp that cannot be parsed" + (f" like the others ({moments.format})" if moments.format else "")
    wrong = list(_wrong(con, prepared, TIMESTAMP, unparsed, what))
    yield from wrong
    if prepared.table.key is None:
        what = "no timestamp; leave the column out if the data have no time"
        yield from _wrong(con, prepared, TIMESTAMP, f"{given} IS NULL", what)
    if not wrong:
        refused, doubtful = implausible(con, prepared.table.name, moments)
        yield from (f"{prepared.origin}: column '{TIMESTAMP}': {sentence}" for sentence in refused)
        prepared.doubts += [f"{prepared.origin}: column '{TIMESTAMP}': {sentence}" for sentence in doubtful]


def _wrong(
    con: duckdb.DuckDBPyConnection, prepared: Prepared, column: str, condition: str, what: str
) -> Iterator[str]:
    """Yield a sentence about the rows for which the condition holds, if there are any."""
    table = prepared.table
    wrong = count(con, f"SELECT count(*) FROM {table.name} WHERE {condition}")
    if not wrong:
        return
    names = [name for name in prepared.columns if name in (*table.required, *table.optional)]
    shown = ", ".join(f"left({name}::VARCHAR, 40)" for name in names)
    # A table may have a column called rowid.
    numbered = f"(SELECT *, row_number() OVER () AS coldstart_row FROM {table.name})"
    rows = con.execute(
        f"SELECT coldstart_row, {shown} FROM {numbered} WHERE {condition} "
        f"ORDER BY {column}::VARCHAR, coldstart_row LIMIT 3"
    ).fetchall()
    examples = "; ".join(
        f"row {row:,} {json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False)}" for row, *values in rows
    )
    plural = "row has" if wrong == 1 else "rows have"
    yield f"{prepared.origin}: column {column!r}: {wrong:,} {plural} {what}. The first: {examples}"


def normalise(con: duckdb.DuckDBPyConnection, tables: dict[str, Prepared]) -> dict[str, list[Attribute]]:
    """Normalise validated tables, see `recommender.data.tables.load`.

    Returns:
        The attributes of items and of users.
    """
    _normalise_interactions(con, tables["interactions"])
    if FACTS.name in tables:
        fields = ", ".join(f"trim({name}::VARCHAR) AS {name}" for name in FACTS.required)
        _replace(con, tables[FACTS.name], f"SELECT DISTINCT {fields} FROM {FACTS.name}")
    return {name: _normalise(con, tables[name]) for name in ("items", "users")}


def _normalise(con: duckdb.DuckDBPyConnection, prepared: Prepared) -> list[Attribute]:
    key = prepared.table.key
    given = con.table(prepared.table.name)
    columns = [pair for pair in zip(given.columns, given.types, strict=True) if pair[0] in prepared.extra]
    attributes, labels = attributes_of(columns, prepared.kinds)
    # A column with the name of the labels keeps another one until `ingest` writes it.
    extra = [f"{quote_name(name)} AS {quote_name(name + GIVEN if name.lower() == ATTRIBUTES else name)}"
             for name in prepared.extra]  # fmt: skip
    shared = SHARE in prepared.columns and SHARE in prepared.table.optional
    consent = [f"TRY_CAST({SHARE}::VARCHAR AS BOOLEAN) AS {SHARE}"] if shared else []
    fields = [
        f"{key}::VARCHAR AS {key}", f"{DESCRIPTION}::VARCHAR AS {DESCRIPTION}",
        f"{prepared.moments.sql if prepared.moments else 'NULL::TIMESTAMPTZ'} AS {TIMESTAMP}",
        *consent, *extra,
        f"{labels} AS {ATTRIBUTES}",
    ]  # fmt: skip
    # The default timestamp is that of the first interaction with the id, or the first interaction of all.
    _replace(con, prepared, f"""
        SELECT given.* REPLACE (
            coalesce(given.{TIMESTAMP}, first.{TIMESTAMP}, (SELECT min({TIMESTAMP}) FROM interactions)) AS {TIMESTAMP}
        )
        FROM (SELECT {", ".join(fields)} FROM {prepared.table.name}) AS given
        LEFT JOIN (SELECT {key}, min({TIMESTAMP}) AS {TIMESTAMP} FROM interactions GROUP BY ALL) AS first
            ON given.{key} = first.{key}
    """)
    return attributes


def _normalise_interactions(con: duckdb.DuckDBPyConnection, prepared: Prepared) -> None:
    present = prepared.columns
    moment = prepared.moments.sql if prepared.moments else "NULL::TIMESTAMPTZ"
    fields = [
        f"{USER_ID}::VARCHAR AS {USER_ID}",
        f"CASE WHEN trim({ITEM_ID}::VARCHAR) <> '' THEN {ITEM_ID}::VARCHAR END AS {ITEM_ID}",
        f"{moment} AS {TIMESTAMP}",
        f"{_TYPE if EVENT_TYPE in present else repr(INTERACTION)} AS {EVENT_TYPE}",
        f"{f'coalesce(TRY_CAST({WEIGHT} AS FLOAT), 1)' if WEIGHT in present else '1::FLOAT'} AS {WEIGHT}",
        f"{_QUERY if QUERY in present else 'NULL::VARCHAR'} AS {QUERY}",
        f"NULL::TIMESTAMPTZ AS {RETURNED}",
        f"NULL AS {ATTRIBUTES}",
    ]
    _replace(con, prepared, f"SELECT {', '.join(fields)} FROM {prepared.table.name}")


def _replace(con: duckdb.DuckDBPyConnection, prepared: Prepared, query: str) -> None:
    # Not every DuckDB version can replace a table by a query over the same table.
    con.execute(f"CREATE TABLE normalised AS {query}")
    con.execute(f"DROP TABLE {prepared.table.name}; ALTER TABLE normalised RENAME TO {prepared.table.name}")


def numeric_attributes(con: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """Return the attributes of a normalised table whose values become bands."""
    own = {name for spec in TABLES for name in (*spec.required, *spec.optional) if spec.name == table}
    given = con.table(table)
    columns = [
        (given_name(name), sql_type)
        for name, sql_type in zip(given.columns, given.types, strict=True) if name not in (*own, ATTRIBUTES)
    ]  # fmt: skip
    return [attribute.name for attribute in attributes_of(columns, {})[0] if attribute.kind == "number"]


def given_name(name: str) -> str:
    """The name that a column of a normalised table had in the table that was given."""
    return name.removesuffix(GIVEN) if name.lower() == ATTRIBUTES + GIVEN else name


def _columns(con: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in con.execute(f"DESCRIBE {quote_name(table)}").fetchall()]


def count(con: duckdb.DuckDBPyConnection, query: str) -> int:
    """Return the number that a query selects."""
    row: tuple[Any, ...] | None = con.execute(query).fetchone()
    return int(row[0]) if row else 0
