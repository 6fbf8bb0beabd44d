"""The data contract: requirements on the tables items, users and interactions, and their normalised form.

This module defines the names of the contract's columns. In validated tables, ids are unique, non-empty strings;
interactions refer to known ids; timestamps are UTC; weights are positive; event types are in lower case.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.quoting import quote_name, quote_text

ITEM_ID = "item_id"
USER_ID = "user_id"
DESCRIPTION = "description"
TIMESTAMP = "event_timestamp"
EVENT_TYPE = "event_type"
WEIGHT = "weight"
QUERY = "query"
ATTRIBUTES = "attributes"
RETURNED = "returned"

INTERACTION, RETURN, SEARCH, IMPRESSION = "interaction", "return", "search", "impression"
CART_REMOVAL, WISHLIST_REMOVAL = "cart_removal", "wishlist_removal"
# Events that take back earlier ones, and are no evidence themselves.
TAKE_BACK = (RETURN, CART_REMOVAL, WISHLIST_REMOVAL)
# Events that can lead to a purchase. Every other type can be returned.
FAINT = (IMPRESSION, "view", "wishlist", "cart", "checkout", SEARCH)

_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
            "UBIGINT", "FLOAT", "DOUBLE", "DECIMAL")  # fmt: skip
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
    Table("users", USER_ID, (USER_ID, DESCRIPTION), (TIMESTAMP,)),
    Table("interactions", None, (USER_ID, ITEM_ID), (TIMESTAMP, EVENT_TYPE, WEIGHT, QUERY)),
)


def type_numbers(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Convert the text columns of a CSV table that contain only numbers to DOUBLE, except columns of the contract."""
    own = {name for spec in TABLES for name in (*spec.required, *spec.optional)} - {WEIGHT}
    for name, _ in _columns(con, table):
        if name in own:
            continue
        column = quote_name(name)
        wrong = count(con, f"SELECT count(*) FROM {quote_name(table)} WHERE {column} IS NOT NULL "
                           f"AND TRY_CAST({column} AS DOUBLE) IS NULL")  # fmt: skip
        if not wrong:
            con.execute(f"ALTER TABLE {quote_name(table)} ALTER {column} TYPE DOUBLE")


def check(con: duckdb.DuckDBPyConnection, origins: dict[str, str], found: Sequence[str] = ()) -> None:
    """Validate the three tables of a connection.

    Args:
        con: a connection that has the tables.
        origins: the file or script of each table, by the table's name.
        found: breaches that are known already.

    Raises:
        ContractError: one line for each breach.
    """
    breaches = [breach for table in TABLES for breach in _breaches(con, table, origins[table.name])]
    breaches += found
    # A missing id column is reported above; the ids cannot be compared then.
    columns = {table.name: {name for name, _ in _columns(con, table.name)} for table in TABLES}
    for name, target in ((USER_ID, "users"), (ITEM_ID, "items")):
        if name in columns["interactions"] and name in columns[target]:
            named = f"trim({name}::VARCHAR) <> '' AND {name}::VARCHAR"
            unknown = f"{named} NOT IN (SELECT {name}::VARCHAR FROM {target} WHERE {name} IS NOT NULL)"
            what = f"an id that is not in the table {target}"
            breaches += _wrong(con, "interactions", origins["interactions"], name, unknown, what)
    if breaches:
        raise ContractError("\n".join(breaches))


def _breaches(con: duckdb.DuckDBPyConnection, table: Table, origin: str) -> Iterator[str]:
    columns = dict(_columns(con, table.name))
    absent = [name for name in table.required if name not in columns]
    if absent:
        yield f"{origin}: column {', '.join(map(repr, absent))} is missing; the columns are {sorted(columns)}"
        return
    if not count(con, f"SELECT count(*) FROM {table.name}"):
        yield f"{origin}: column {table.required[0]!r}: the table has no rows"
        return
    searched = f"({_TYPE} = '{SEARCH}')" if EVENT_TYPE in columns and table.key is None else "false"
    for name in (USER_ID, ITEM_ID):
        if name in table.required:
            blank = f"({name} IS NULL OR trim({name}::VARCHAR) = '')"
            if name == ITEM_ID:
                blank += f" AND NOT {searched}"
            what = "no id" if table.key or name == USER_ID else f"no id; only a {SEARCH} may have none"
            yield from _wrong(con, table.name, origin, name, blank, what)
    if table.key:
        repeated = (
            f"{table.key}::VARCHAR IN (SELECT {table.key}::VARCHAR FROM {table.name} GROUP BY 1 HAVING count(*) > 1)"
        )
        yield from _wrong(con, table.name, origin, table.key, repeated, "an id that is not unique")
    if TIMESTAMP in columns:
        yield from _timestamp_breaches(con, table, origin, columns[TIMESTAMP])
    if table.key is None and WEIGHT in columns:
        wrong = f"NOT coalesce(isfinite(TRY_CAST({WEIGHT} AS DOUBLE)) AND TRY_CAST({WEIGHT} AS DOUBLE) > 0, false)"
        yield from _wrong(con, table.name, origin, WEIGHT, wrong, "a weight that is not a positive number")
    if table.key is None:
        empty = f"{searched} AND {_QUERY} IS NULL" if QUERY in columns else searched
        what = f"the type '{SEARCH}' and no text in the column '{QUERY}'"
        yield from _wrong(con, table.name, origin, EVENT_TYPE, empty, what)


def _timestamp_breaches(
    con: duckdb.DuckDBPyConnection, table: Table, origin: str, sql_type: str
) -> Iterator[str]:
    if sql_type != "VARCHAR" and not sql_type.startswith(("TIMESTAMP", "DATE")):
        yield f"{origin}: column '{TIMESTAMP}' has the type {sql_type}; it must contain timestamps or ISO 8601 text"
        return
    unparsed = f"{TIMESTAMP} IS NOT NULL AND coalesce(NOT isfinite(TRY_CAST({TIMESTAMP} AS TIMESTAMPTZ)), true)"
    what = "a timestamp that cannot be parsed; use ISO 8601"
    yield from _wrong(con, table.name, origin, TIMESTAMP, unparsed, what)
    if table.key is None:
        what = "no timestamp; leave the column out if the data have no time"
        yield from _wrong(con, table.name, origin, TIMESTAMP, f"{TIMESTAMP} IS NULL", what)


def _wrong(
    con: duckdb.DuckDBPyConnection, table: str, origin: str, column: str, condition: str, what: str
) -> Iterator[str]:
    """Yield a sentence about the rows for which the condition holds, if there are any."""
    wrong = count(con, f"SELECT count(*) FROM {table} WHERE {condition}")
    if not wrong:
        return
    kept = [name for spec in TABLES if spec.name == table for name in (*spec.required, *spec.optional)]
    names = [name for name, _ in _columns(con, table) if name in kept]
    shown = ", ".join(f"left({name}::VARCHAR, 40)" for name in names)
    rows = con.execute(
        f"SELECT {shown} FROM {table} WHERE {condition} ORDER BY {column}::VARCHAR, rowid LIMIT 3"
    ).fetchall()
    examples = "; ".join(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows)
    plural = "row has" if wrong == 1 else "rows have"
    yield f"{origin}: column {column!r}: {wrong:,} {plural} {what}. The first: {examples}"


def normalise(con: duckdb.DuckDBPyConnection) -> None:
    """Normalise validated tables, see `recommender.data.tables.load`."""
    for table in TABLES:
        _normalise(con, table)


def _normalise(con: duckdb.DuckDBPyConnection, table: Table) -> None:
    columns = _columns(con, table.name)
    present = {name for name, _ in columns}
    own = (*table.required, *table.optional)
    extra = [(name, sql_type) for name, sql_type in columns if name not in own and name != ATTRIBUTES]
    fields = [f"{name}::VARCHAR AS {name}" for name in table.required if name != ITEM_ID]
    if table.key is None:
        fields += [
            f"CASE WHEN trim({ITEM_ID}::VARCHAR) <> '' THEN {ITEM_ID}::VARCHAR END AS {ITEM_ID}",
            f"{TIMESTAMP}::TIMESTAMPTZ AS {TIMESTAMP}",
            f"{_TYPE if EVENT_TYPE in present else repr(INTERACTION)} AS {EVENT_TYPE}",
            f"{f'{WEIGHT}::FLOAT' if WEIGHT in present else '1::FLOAT'} AS {WEIGHT}",
            f"{_QUERY if QUERY in present else 'NULL::VARCHAR'} AS {QUERY}",
            f"NULL::TIMESTAMPTZ AS {RETURNED}",
            f"NULL AS {ATTRIBUTES}",
        ]
        source = table.name
    else:
        if table.key == ITEM_ID:
            fields.insert(0, f"{ITEM_ID}::VARCHAR AS {ITEM_ID}")
        # The default timestamp is that of the first interaction with the id, or the first interaction of all.
        seen = f"min({TIMESTAMP}::TIMESTAMPTZ) AS seen"
        first = f"(SELECT {table.key}::VARCHAR AS id, {seen} FROM interactions GROUP BY 1)"
        given = f"{TIMESTAMP}::TIMESTAMPTZ" if TIMESTAMP in present else "NULL::TIMESTAMPTZ"
        fields.append(
            f"coalesce({given}, seen, (SELECT min({TIMESTAMP}::TIMESTAMPTZ) FROM interactions)) AS {TIMESTAMP}"
        )
        fields += [quote_name(name) for name, _ in extra]
        fields.append(f"{_attributes(extra)} AS {ATTRIBUTES}")
        source = f"{table.name} LEFT JOIN {first} AS first_seen ON {table.key}::VARCHAR = id"
    # Not every DuckDB version can replace a table by a query over the same table.
    con.execute(f"CREATE TABLE normalised AS SELECT {', '.join(fields)} FROM {source}")
    con.execute(f"DROP TABLE {table.name}; ALTER TABLE normalised RENAME TO {table.name}")


def _attributes(extra: list[tuple[str, str]]) -> str:
    """SQL for ["country=France", "price=2^1", "tags=oak", "tags=outdoor"]: a list gives one label for each element.

    Numbers become bands between powers of two. The bands do not depend on the data, so they neither leak information
    nor change when data are added.
    """
    parts, lists = [], []
    for name, sql_type in extra:
        column, prefix = quote_name(name), quote_text(f"{name}=")
        if sql_type in ("VARCHAR[]", "BOOLEAN[]"):
            labelled = f"list_transform({column}::VARCHAR[], lambda x: {prefix} || nullif(trim(x), ''))"
            lists.append(f" || coalesce({labelled}, [])")
        elif sql_type.startswith(_NUMERIC) and not sql_type.endswith("]"):
            # As `coldstart_udfs.profile.band_label`.
            parts.append(
                f"CASE WHEN {column} > 0 THEN {prefix} || '2^' || floor(log2({column}))::INTEGER "
                f"WHEN {column} <= 0 THEN {quote_text(f'{name}<=0')} END"
            )
        elif sql_type in ("VARCHAR", "BOOLEAN") or sql_type.startswith("ENUM"):
            parts.append(f"{prefix} || nullif(trim({column}::VARCHAR), '')")
    return f"list_filter([{', '.join(parts)}]::VARCHAR[]{''.join(lists)}, lambda x: x IS NOT NULL)"


def numeric_attributes(con: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """Return the columns of a normalised table whose values become bands."""
    own = {name for spec in TABLES for name in (*spec.required, *spec.optional) if spec.name == table}
    return [
        name for name, sql_type in _columns(con, table)
        if sql_type.startswith(_NUMERIC) and not sql_type.endswith("]") and name not in own
    ]  # fmt: skip


def _columns(con: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in con.execute(f"DESCRIBE {quote_name(table)}").fetchall()]


def count(con: duckdb.DuckDBPyConnection, query: str) -> int:
    """Return the number that a query selects."""
    row: tuple[Any, ...] | None = con.execute(query).fetchone()
    return int(row[0]) if row else 0
