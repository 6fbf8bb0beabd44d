"""Write the event log as tables of the data contract."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from coldstart_udfs.files import staged
from coldstart_udfs.locks import whole, writing
from coldstart_udfs.quoting import quote_text
from recommender.data.exported import EVENTS, EXPLORATIONS, Held, held_by
from recommender.serve.events.log import EventLog
from recommender.serve.policy.explorations import Explorations

_EVENTS = pa.schema({
    "user_id": pa.string(), "item_id": pa.string(), "event_timestamp": pa.timestamp("us", "UTC"),
    "event_type": pa.string(), "weight": pa.float64(), "query": pa.string(), "event_id": pa.int64(),
    "position": pa.int32(), "rating": pa.float64(), "recommendation_id": pa.string(),
})  # fmt: skip
_PUT = pa.schema({
    "id": pa.int64(), "entity": pa.string(), "entity_id": pa.string(), "description": pa.string(),
    "attributes": pa.list_(pa.string()), "event_timestamp": pa.timestamp("us", "UTC"),
})  # fmt: skip
_EXPLORED = pa.schema({
    "recommendation_id": pa.string(), "user_id": pa.string(), "event_timestamp": pa.timestamp("us", "UTC"),
    "position": pa.int32(), "item_id": pa.string(), "items": pa.list_(pa.string()),
    "probabilities": pa.list_(pa.float64()), "contexts": pa.list_(pa.list_(pa.float32())), "policy": pa.string(),
    "reward": pa.float64(),
})  # fmt: skip
# Ids, and explored places, that are read at once.
_PIECE, _PLACES = 50_000, 5_000


@dataclass(frozen=True)
class Exported:
    """What was written: the number of events, days and descriptions, and the last entry of the log among them.

    `unreadable` is the number of entries that this version cannot read, and left out; `explorations` that of explored
    places.
    """

    events: int
    days: int
    descriptions: int
    held: Held
    unreadable: int
    explorations: int


def export(
    log: EventLog, folder: Path, report: Callable[[str, int, int], None] = lambda *_: None, *, until: int | None = None
) -> Exported:
    """Write all events, descriptions and explored places of a log; see `recommender.data.exported` for the files.

    An earlier export in the folder is replaced. Users who were erased from the log are not in it any more.

    Args:
        log: the log.
        folder: of the export.
        report: called with ("events", id, last id).
        until: the id of the last event or description to write; None is the last of the log.

    Raises:
        EventLogError: the log cannot be read; the earlier export stays.
        InUseError: another process writes the folder.
    """
    with writing(whole(folder), command="coldstart events export"), staged(folder) as scratch:
        with duckdb.connect(str(scratch / "log.duckdb")) as con:
            con.execute("SET TimeZone = 'UTC'")
            _copy_explorations(log, con)
            watermark, unreadable = _copy(log, con, report, log.last if until is None else until)
            held = Held(log.identity, watermark)
            days = _write(con, scratch, held)
            counts = [con.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
                      for table in ("events", "put", "explored")]  # fmt: skip
        (scratch / "log.duckdb").unlink()
        for name in (EXPLORATIONS, EVENTS):
            # A folder cannot be replaced by one with files: the earlier one is moved away first.
            if (folder / name).exists():
                os.replace(folder / name, scratch / ".earlier")
            os.replace(scratch / name, folder / name)
            shutil.rmtree(scratch / ".earlier", ignore_errors=True)
    return Exported(counts[0], days, counts[1], held, unreadable, counts[2])


def erase_from_export(folder: Path, user_id: str) -> int:
    """Write the files of an export again that have a user, without them.

    Args:
        folder: of the export; it need not exist.
        user_id: the user.

    Returns:
        The number of rows that went.

    Raises:
        InUseError: another process writes the folder; nothing was removed.
    """
    files = [*sorted(folder.glob(f"{EVENTS}/*/events.parquet")), folder / "users.parquet",
             *sorted(folder.glob(f"{EXPLORATIONS}/*/explorations.parquet"))]  # fmt: skip
    removed = 0
    with writing(whole(folder), command="erasure of a user"), duckdb.connect() as con:
        for path in (path for path in files if path.exists()):
            table, held = f"read_parquet({quote_text(str(path))}, hive_partitioning = false)", held_by(con, path)
            rows = con.execute(f"SELECT count(*) FROM {table} WHERE user_id = $1", [user_id]).fetchall()[0][0]
            if rows:
                metadata = f", {held.metadata()}" if held else ""
                with staged(path.parent) as scratch:
                    con.execute(
                        f"COPY (FROM {table} WHERE user_id IS DISTINCT FROM {quote_text(user_id)}) TO "
                        f"{quote_text(str(scratch / path.name))} (FORMAT parquet, COMPRESSION zstd{metadata})"
                    )
                removed += rows
    return removed


def _copy(
    log: EventLog, con: duckdb.DuckDBPyConnection, report: Callable[[str, int, int], None], until: int
) -> tuple[int, int]:
    """Copy the log into tables; the last entry, and the number of entries that cannot be read."""
    con.register("rows", _EVENTS.empty_table())
    con.execute("CREATE TABLE events AS FROM rows")
    con.register("rows", _PUT.empty_table())
    con.execute("CREATE TABLE put AS FROM rows")
    watermark = unreadable = 0
    while True:
        changes = log.after(watermark, limit=min(until - watermark, _PIECE))
        if changes.erasures:
            _erase(con, log, {digest for _, digest in changes.erasures})
        events = [
            (event.user_id, event.item_id, event.event_timestamp, kind, weight, event.query, number, event.position,
             event.rating, event.recommendation_id)
            for number, event in changes.events for kind, weight in event.rows
        ]  # fmt: skip
        put = [
            (number, one.side, one.entity_id, one.description, one.attributes, one.event_timestamp)
            for number, one in changes.descriptions
        ]
        for table, schema, rows in (("events", _EVENTS, events), ("put", _PUT, put)):
            if rows:
                con.register("rows", _table(schema, rows))
                con.execute(f"INSERT INTO {table} FROM rows")
        watermark, unreadable = changes.watermark, unreadable + len(changes.unreadable)
        report("events", watermark, until)
        if watermark >= until:
            con.unregister("rows")
            return watermark, unreadable


def _copy_explorations(log: EventLog, con: duckdb.DuckDBPyConnection) -> None:
    """Copy what was explored into a table, but for users who are erased meanwhile."""
    before = log.last
    con.register("rows", _EXPLORED.empty_table())
    con.execute("CREATE TABLE explored AS FROM rows")
    drawn = Explorations(log).decisions()
    while some := list(islice(drawn, _PLACES)):
        rows = [
            (one.recommendation_id, one.user_id, one.at, one.position, one.item_id, one.items, one.probabilities,
             list(one.contexts), one.policy, reward)
            for one, reward in some
        ]  # fmt: skip
        con.register("rows", _table(_EXPLORED, rows))
        con.execute("INSERT INTO explored FROM rows")
    con.unregister("rows")
    users = [name for (name,) in con.execute("SELECT DISTINCT user_id FROM explored").fetchall()]
    con.execute("DELETE FROM explored WHERE user_id IN $1", [log.erased(users, after=before)])


def _erase(con: duckdb.DuckDBPyConnection, log: EventLog, digests: set[bytes]) -> None:
    """Leave out who was erased while the log was being read."""
    users = con.execute("SELECT user_id FROM events UNION SELECT entity_id FROM put WHERE entity = 'user'").fetchall()
    gone = [name for (name,) in users if log.digest_of(name) in digests]
    con.execute("DELETE FROM events WHERE user_id IN $1", [gone])
    con.execute("DELETE FROM put WHERE entity = 'user' AND entity_id IN $1", [gone])


def _table(schema: pa.Schema, rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(zip(*rows, strict=True), schema, strict=True)
    return pa.table([pa.array(values, field.type) for values, field in columns], schema=schema)


def _write(con: duckdb.DuckDBPyConnection, scratch: Path, held: Held) -> int:
    """Write the files into a folder; the number of days."""
    options = f"(FORMAT parquet, COMPRESSION zstd, {held.metadata()})"
    _write_days(con, "explored", scratch / EXPLORATIONS, "explorations.parquet", "recommendation_id, position", options)
    days = _write_days(con, "events", scratch / EVENTS, "events.parquet", "event_id", options)
    for side in ("user", "item"):
        con.execute(f"""
            COPY (
                SELECT entity_id AS {side}_id, arg_max(description, id) AS description,
                    arg_max(attributes, id) FILTER (attributes IS NOT NULL) AS attributes,
                    max(event_timestamp) AS event_timestamp
                FROM put WHERE entity = '{side}' GROUP BY 1 ORDER BY 1
            ) TO {quote_text(str(scratch / f'{side}s.parquet'))} {options}
        """)
    return days


def _write_days(
    con: duckdb.DuckDBPyConnection, table: str, folder: Path, name: str, order: str, options: str
) -> int:
    """Write a table as a file for each day; the number of days."""
    days: list[tuple[date]] = con.execute(f"SELECT DISTINCT event_timestamp::DATE FROM {table} ORDER BY 1").fetchall()
    folder.mkdir()
    for (day,) in days:
        (folder / f"day={day}").mkdir()
        con.execute(f"COPY (FROM {table} WHERE event_timestamp::DATE = '{day}' ORDER BY event_timestamp, {order}) TO "
                    f"{quote_text(str(folder / f'day={day}' / name))} {options}")  # fmt: skip
    return len(days)
