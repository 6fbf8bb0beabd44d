"""Write the event log as tables of the data contract."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from coldstart_udfs.files import staged
from coldstart_udfs.locks import whole, writing
from coldstart_udfs.quoting import quote_text
from recommender.data.exported import EVENTS, Held, held_by
from recommender.serve.events.log import EventLog

_EVENTS = pa.schema({
    "user_id": pa.string(), "item_id": pa.string(), "event_timestamp": pa.timestamp("us", "UTC"),
    "event_type": pa.string(), "weight": pa.float64(), "query": pa.string(), "event_id": pa.int64(),
    "position": pa.int32(), "rating": pa.float64(), "recommendation_id": pa.string(),
})  # fmt: skip
_PUT = pa.schema({
    "id": pa.int64(), "entity": pa.string(), "entity_id": pa.string(), "description": pa.string(),
    "attributes": pa.list_(pa.string()), "event_timestamp": pa.timestamp("us", "UTC"),
})  # fmt: skip
# Ids that are read at once.
_PIECE = 50_000


@dataclass(frozen=True)
class Exported:
    """What was written: the number of events, days and descriptions, and the last entry of the log among them.

    `unreadable` is the number of entries that this version cannot read, and left out.
    """

    events: int
    days: int
    descriptions: int
    held: Held
    unreadable: int


def export(
    log: EventLog, folder: Path, report: Callable[[str, int, int], None] = lambda *_: None, *, until: int | None = None
) -> Exported:
    """Write all events and descriptions of a log; see `recommender.data.exported` for the files.

    An earlier export in the folder is replaced. Users who were erased from the log are not in it any more.

    Args:
        log: the log.
        folder: of the export.
        report: called with ("events", id, last id).
        until: the id of the last entry to write; None is the last of the log.

    Raises:
        EventLogError: the log cannot be read; the earlier export stays.
        InUseError: another process writes the folder.
    """
    with writing(whole(folder), command="coldstart events export"), staged(folder) as scratch:
        with duckdb.connect(str(scratch / "log.duckdb")) as con:
            con.execute("SET TimeZone = 'UTC'")
            watermark, unreadable = _copy(log, con, report, log.last if until is None else until)
            held = Held(log.identity, watermark)
            days = _write(con, scratch, held)
            counts = [con.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in ("events", "put")]
        (scratch / "log.duckdb").unlink()
        # A folder cannot be replaced by one with files: the earlier one is moved away first.
        if (folder / EVENTS).exists():
            os.replace(folder / EVENTS, scratch / ".earlier")
        os.replace(scratch / EVENTS, folder / EVENTS)
        shutil.rmtree(scratch / ".earlier", ignore_errors=True)
    return Exported(counts[0], days, counts[1], held, unreadable)


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
    files = [*sorted(folder.glob(f"{EVENTS}/*/events.parquet")), folder / "users.parquet"]
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
    days: list[tuple[date]] = con.execute("SELECT DISTINCT event_timestamp::DATE FROM events ORDER BY 1").fetchall()
    (scratch / EVENTS).mkdir()
    for (day,) in days:
        folder = scratch / EVENTS / f"day={day}"
        folder.mkdir()
        con.execute(f"COPY (FROM events WHERE event_timestamp::DATE = '{day}' ORDER BY event_timestamp, event_id) TO "
                    f"{quote_text(str(folder / 'events.parquet'))} {options}")  # fmt: skip
    for side in ("user", "item"):
        con.execute(f"""
            COPY (
                SELECT entity_id AS {side}_id, arg_max(description, id) AS description,
                    arg_max(attributes, id) FILTER (attributes IS NOT NULL) AS attributes,
                    max(event_timestamp) AS event_timestamp
                FROM put WHERE entity = '{side}' GROUP BY 1 ORDER BY 1
            ) TO {quote_text(str(scratch / f'{side}s.parquet'))} {options}
        """)
    return len(days)
