"""Point-in-time joins as SQL: the row of a feature view that was known at each entity row.

There are two steps, so that wide columns are neither sorted nor grouped. An ASOF JOIN on keys and timestamps finds the
row of the files for each entity row; then these rows are fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from coldstart_udfs.feast.offline.gather import gather
from coldstart_udfs.feast.offline.parquet_source import Column, ParquetSource
from coldstart_udfs.quoting import quote_name, quote_text

ENTITIES = "entity_rows"
_MATCHED = "matched_rows"

# Number of rows of a view that are reordered at once; 8,192 vectors of 384 floats are 13 MB.
_AT_ONCE = 8_192


class Relation(NamedTuple):
    """Rows to select from: the expression for FROM, the id of a row, and columns by name."""

    scan: str
    row_id: str
    columns: Mapping[str, Column]


@dataclass(frozen=True)
class View:
    """The requested part of a feature view.

    Attributes:
        relation: its rows.
        keys: its join keys, each with the equal column of the entity rows; empty for a view without entities.
        timestamp: the column of the event timestamp.
        created: the column of the created timestamp; of rows with equal event timestamps, the one created last counts.
            Without this column it is the last row of the files.
        features: columns to fetch, in order.
        ttl: the greatest age of a row, inclusive; None for any age.
    """

    relation: Relation
    keys: Mapping[str, str]
    timestamp: str
    created: str | None
    features: Sequence[str]
    ttl: timedelta | None = None


def add_entity_rows(con: duckdb.DuckDBPyConnection, rows: pa.Table, event_timestamp: str) -> None:
    """Make the table of entity rows. Columns are numbered, because names may differ only in case."""
    arrays = [_plain(column) for column in rows.columns]
    numbered = pa.table(
        [*arrays, np.arange(rows.num_rows)], names=[*(f"e{number}" for number in range(len(arrays))), "row_number"]
    )
    instant = f"e{rows.column_names.index(event_timestamp)}"
    con.register("entity_arrow", numbered)
    # In microseconds, converted by DuckDB as the columns of sources are: `open_source`.
    selected = [
        f"{_utc(name)} AS {name}" if pa.types.is_timestamp(kind) and kind.tz and kind.unit == "ns" else name
        for name, kind in zip(numbered.column_names, numbered.schema.types, strict=True)
    ]
    selected.append(f"{_utc(instant)} AS instant")
    con.execute(f"CREATE TEMP TABLE {ENTITIES} AS SELECT {', '.join(selected)} FROM entity_arrow")
    con.unregister("entity_arrow")


def match(
    con: duckdb.DuckDBPyConnection, entity_columns: Sequence[str], views: Sequence[View], *, known_then: bool = False
) -> None:
    """Find the row of each view for each row of `add_entity_rows`.

    Args:
        con: the connection with the entity rows.
        entity_columns: names of their columns.
        views: the requested views.
        known_then: leave out rows that were created after the entity row's timestamp.
    """
    place = {name: f"e{number}" for number, name in enumerate(entity_columns)}
    versions, joins, matches = [], [], []
    for number, view in enumerate(views):
        versions.append(f"versions{number} AS ({_versions(view, place, known_then)})")
        same = [f"e.{place[entity]} = v{number}.k{key}" for key, entity in enumerate(view.keys.values())]
        condition = " AND ".join([*same, f"e.instant >= v{number}.since"])
        joins.append(f"ASOF LEFT JOIN versions{number} v{number} ON {condition}")
        fresh = f"epoch_us(e.instant) - epoch_us(v{number}.ts) <= {_microseconds(view.ttl)}" if view.ttl else "true"
        matches.append(f"CASE WHEN {fresh} THEN v{number}.id END AS id{number}")
    con.execute(
        f"CREATE TEMP TABLE {_MATCHED} AS {'WITH ' if versions else ''}{', '.join(versions)} "
        f"SELECT {', '.join(['e.*', *matches])} FROM {ENTITIES} e {' '.join(joins)}"
    )
    con.execute(f"DROP TABLE {ENTITIES}")
    # The result is sorted at the end; preserving order before would take memory.
    con.execute("SET preserve_insertion_order = false")


def _versions(view: View, place: Mapping[str, str], known_then: bool) -> str:
    """The rows of a view: keys, the instant `since` which they are known, timestamp, id; one for each key and since."""
    columns, row_id = view.relation.columns, view.relation.row_id
    keys = [f"k{number}" for number in range(len(view.keys))]
    # With `known_then`, a row is known from the later of both timestamps on.
    created = _utc(columns[view.created].stored) if view.created else "NULL::TIMESTAMPTZ"
    read = ", ".join([
        *(f"{columns[key].stored} AS {alias}" for key, alias in zip(view.keys, keys, strict=True)),
        f"{_utc(columns[view.timestamp].stored)} AS ts", f"{created} AS created", f"{row_id} AS id",
    ])  # fmt: skip
    bounds = f"(SELECT min(instant) AS first, max(instant) AS last FROM {ENTITIES}) b"
    conditions = ["ts <= b.last"]
    if view.ttl:
        conditions.append(f"epoch_us(b.first) - epoch_us(ts) <= {_microseconds(view.ttl)}")
    wanted = " AND ".join(
        f"s.{alias} = w.{place[entity]}" for alias, entity in zip(keys, view.keys.values(), strict=True)
    )
    seen = (
        f"SELECT s.* FROM (SELECT {read} FROM {view.relation.scan}) s, {bounds} "
        f"WHERE {' AND '.join(conditions)}"
    )
    if wanted:
        seen = f"SELECT * FROM ({seen}) s SEMI JOIN {ENTITIES} w ON {wanted}"
    by = "".join(f"{key}, " for key in keys)
    # Rows without a created timestamp come before those with one; of equal rows the last in the files counts.
    order = "{'created': coalesce(created, '-infinity'::TIMESTAMPTZ), 'id': id}"
    if not (known_then and view.created):
        return f"SELECT {by}ts AS since, ts, arg_max(id, {order}) AS id FROM ({seen}) GROUP BY {by}ts"
    best = (
        f"SELECT {by}greatest(ts, created) AS since, max({{'ts': ts, 'created': created, 'id': id}}) OVER "
        f"({f'PARTITION BY {by[:-2]} ' if by else ''}ORDER BY greatest(ts, created)) AS best "
        f"FROM ({seen}) WHERE created IS NOT NULL"
    )
    return (
        f"SELECT {by}since, any_value(best).ts AS ts, any_value(best).id AS id FROM ({best}) GROUP BY {by}since"
    )


def sorted_query(entity_columns: Sequence[str], views: Sequence[View]) -> str:
    """SQL for the entity columns and each view's features after `match`, in the order of the entity rows.

    DuckDB sorts, on disk if memory is not sufficient.
    """
    selected, joins = [f"m.e{number}" for number in range(len(entity_columns))], []
    for number, view in enumerate(views):
        columns = [view.relation.columns[name] for name in view.features]
        stored = "".join(f", {column.stored} AS c{place}" for place, column in enumerate(columns))
        joins.append(
            f"LEFT JOIN (SELECT {view.relation.row_id} AS id{stored} FROM {view.relation.scan}) f{number} "
            f"ON f{number}.id = m.id{number}"
        )
        selected += [column.made.format(f"f{number}.c{place}") for place, column in enumerate(columns)]
    return f"SELECT {', '.join(selected)} FROM {_MATCHED} m {' '.join(joins)} ORDER BY m.row_number"


def gathered(con: duckdb.DuckDBPyConnection, entity_columns: Sequence[str], views: Sequence[View]) -> pa.Table:
    """The result of `sorted_query` in half the time: each matched row is read once and copied to its positions."""
    names = [f"e{number}" for number in range(len(entity_columns))]
    ids = [f"id{number}" for number in range(len(views))]
    rows = con.sql(f"SELECT {', '.join([*names, *ids])} FROM {_MATCHED} ORDER BY row_number").to_arrow_table()
    columns = rows.columns[: len(names)]
    for view, wanted in zip(views, ids, strict=True):
        made = "".join(f", {view.relation.columns[name].sql}" for name in view.features)
        matched = con.sql(
            f"SELECT {view.relation.row_id}{made} FROM {view.relation.scan} "
            f"WHERE {view.relation.row_id} IN (SELECT {wanted} FROM {_MATCHED})"
        )
        with stream(matched, _AT_ONCE) as found:
            columns += gather(rows[wanted], found, found.schema)
    return pa.table(columns, names=[f"c{number}" for number in range(len(columns))])


def stream(relation: duckdb.DuckDBPyRelation, batch_size: int) -> pa.RecordBatchReader:
    """A relation's rows in batches; DuckDB 1.4 only has the older name of the method."""
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_record_batch
    return read(batch_size)


def range_query(
    source: ParquetSource,
    columns: Sequence[str],
    timestamp: str,
    start: datetime | None,
    end: datetime | None,
    *,
    latest_of: Sequence[str] | None = None,
    created: str | None = None,
) -> str:
    """SQL for the rows of a source between two instants, both included.

    Args:
        source: the source.
        columns: its columns to select, in order.
        timestamp: the column that is compared with the instants.
        start: the first instant; None for no bound. A naive one is in the machine's local time, as in Feast.
        end: the last instant, likewise.
        latest_of: join keys, for only the last row of each key; empty for the last row of all.
        created: the column that decides between equal timestamps.
    """
    stored = {name: source.columns[name].stored for name in {*columns, timestamp, *(latest_of or ())}}
    bounds = [
        f"{_utc(stored[timestamp])} {sign} {quote_text(instant.astimezone(UTC).isoformat())}::TIMESTAMPTZ"
        for sign, instant in ((">=", start), ("<=", end))
        if instant
    ]
    where = " AND ".join(bounds) or "true"
    if latest_of is not None:
        order = [f"'ts': {stored[timestamp]}", f"'id': {source.row_id}"]
        if created:
            order.insert(1, f"'created': coalesce({_utc(source.columns[created].stored)}, '-infinity'::TIMESTAMPTZ)")
        keys = ", ".join(stored[key] for key in latest_of)
        where = (
            f"{source.row_id} IN (SELECT arg_max({source.row_id}, {{{', '.join(order)}}}) FROM {source.scan} "
            f"WHERE {where}{f' GROUP BY {keys}' if keys else ''})"
        )
    made = ", ".join(f"{source.columns[name].sql} AS {quote_name(name)}" for name in columns)
    return f"SELECT {made} FROM {source.scan} WHERE {where}"


def _utc(expression: str) -> str:
    """An instant. The connection's time zone is UTC, so naive timestamps and dates are in UTC."""
    return f"CAST({expression} AS TIMESTAMPTZ)"


def _microseconds(ttl: timedelta) -> int:
    return ttl // timedelta(microseconds=1)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without a dictionary, which DuckDB would return as an ENUM."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
