"""Exports of the service's event log: files of the data contract that say which entries of the log they hold.

    FOLDER/interactions/day=2026-01-31/events.parquet    what users did, by day (UTC)
    FOLDER/users.parquet, FOLDER/items.parquet           descriptions that were put
    FOLDER/explorations/day=…/explorations.parquet       what was explored, by day; training does not read it

The metadata of every file, and of the table `interactions` that an export was added to, name the log and the id of the
last entry in it. So training on the table knows which entries its bundle holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from coldstart_udfs.quoting import quote_name, quote_text
from recommender.data.contract import (
    ATTRIBUTES,
    DESCRIPTION,
    EVENT_TYPE,
    ITEM_ID,
    QUERY,
    TIMESTAMP,
    USER_ID,
    WEIGHT,
    ContractError,
    count,
)
from recommender.data.sql_types import FRACTIONAL_NUMBERS, WHOLE_NUMBERS

EVENTS, EXPLORATIONS = "interactions", "explorations"
_LOG, _WATERMARK = "events_log", "events_watermark"
_NONE = f"[]::VARCHAR[] AS {ATTRIBUTES}"


@dataclass(frozen=True)
class Held:
    """The entries of an event log that a file or a bundle holds.

    Attributes:
        log: the identity of the log.
        watermark: the id of the last entry.
    """

    log: str
    watermark: int

    def metadata(self) -> str:
        """The same as an option of DuckDB's COPY to Parquet."""
        return f"KV_METADATA {{{_LOG}: {quote_text(self.log)}, {_WATERMARK}: {quote_text(str(self.watermark))}}}"


def held_by(con: duckdb.DuckDBPyConnection, path: Path) -> Held | None:
    """Return the entries of a log that a Parquet file holds; None if it says nothing of them."""
    if path.suffix.lower() not in (".parquet", ".pq") or not path.is_file():
        return None
    try:
        rows = con.execute(
            "SELECT decode(key), decode(value) FROM parquet_kv_metadata($1) WHERE decode(key) IN ($2, $3)",
            [str(path), _LOG, _WATERMARK],
        ).fetchall()
    except duckdb.Error:  # not Parquet, or metadata of others that are no text
        return None
    found = dict(rows)
    return Held(found[_LOG], int(found[_WATERMARK])) if len(found) == 2 else None


def held_by_tables(data: Path) -> Held | None:
    """Return the entries of a log that the tables of a folder hold; None if they hold none."""
    with duckdb.connect() as con:
        for path in sorted(data.glob(f"{EVENTS}.p*")):
            if held := held_by(con, path):
                return held
    return None


def add_export(con: duckdb.DuckDBPyConnection, folder: Path) -> tuple[Held, list[str]]:
    """Add an export to the normalised tables of a connection.

    Descriptions that are newer than those of the tables replace them, new users and items are added. Attributes go to
    the columns that they name. Events with items that have no row are left out, and counted.

    Returns:
        The entries of the log that the tables hold now, and sentences for the user.

    Raises:
        ContractError: the folder holds no whole export.
    """
    files = sorted((folder / EVENTS).glob("day=*/*.parquet"))
    sides = [("user", folder / "users.parquet"), ("item", folder / "items.parquet")]
    held = {held_by(con, path) for path in (*files, *(path for _, path in sides))}
    one = held.pop() if len(held) == 1 else None
    if one is None:
        raise ContractError(
            f"{folder} holds no whole export of an event log; run `coldstart events export {folder}` (again)"
        )
    for side, path in sides:
        _add_entities(con, side, path)
    notes = _add_events(con, files) if files else []
    return one, [f"{folder}: {note}" for note in notes]


def _add_events(con: duckdb.DuckDBPyConnection, files: list[Path]) -> list[str]:
    names = f"[{', '.join(quote_text(str(path)) for path in files)}]"
    con.execute(f"CREATE TEMP TABLE exported AS FROM read_parquet({names}, hive_partitioning = false)")
    con.execute(
        f"INSERT INTO users BY NAME SELECT {USER_ID}, min({TIMESTAMP}) AS {TIMESTAMP}, {_NONE} FROM exported "
        f"WHERE {USER_ID} NOT IN (SELECT {USER_ID} FROM users) GROUP BY 1"
    )
    undescribed = f"{ITEM_ID} IS NOT NULL AND {ITEM_ID} NOT IN (SELECT {ITEM_ID} FROM items)"
    left_out, items = con.execute(
        f"SELECT count(*), count(DISTINCT {ITEM_ID}) FROM exported WHERE {undescribed}"
    ).fetchall()[0]
    query = f"nullif(trim(regexp_replace(lower({QUERY}), '\\s+', ' ', 'g')), '')"
    con.execute(f"""
        INSERT INTO interactions BY NAME
        SELECT {USER_ID}, {ITEM_ID}, {TIMESTAMP}, {EVENT_TYPE}, {WEIGHT}::FLOAT AS {WEIGHT}, {query} AS {QUERY}
        FROM exported WHERE NOT ({undescribed})
    """)
    con.execute("DROP TABLE exported")
    if not left_out:
        return []
    return [f"{left_out:,} events are left out until somebody describes their {items:,} items, which are not in the "
            "table items"]  # fmt: skip


def _add_entities(con: duckdb.DuckDBPyConnection, side: str, path: Path) -> None:
    table, key = f"{side}s", f"{side}_id"
    con.execute(f"CREATE TEMP TABLE put AS FROM read_parquet({quote_text(str(path))})")
    if count(con, "SELECT count(*) FROM put"):
        con.execute(f"INSERT INTO {table} BY NAME SELECT {key}, {TIMESTAMP} - INTERVAL 1 microsecond AS {TIMESTAMP}, "
                    f"{_NONE} FROM put WHERE {key} NOT IN (SELECT {key} FROM {table})")  # fmt: skip
        con.execute(f"DELETE FROM put USING {table} WHERE put.{key} = {table}.{key} AND "
                    f"put.{TIMESTAMP} <= {table}.{TIMESTAMP}")  # fmt: skip
        values = [f"{DESCRIPTION} = put.{DESCRIPTION}", f"{TIMESTAMP} = put.{TIMESTAMP}",
                  f"{ATTRIBUTES} = coalesce(put.{ATTRIBUTES}, {table}.{ATTRIBUTES})"]  # fmt: skip
        values += _attribute_columns(con, table, (key, DESCRIPTION, TIMESTAMP, ATTRIBUTES))
        con.execute(f"UPDATE {table} SET {', '.join(values)} FROM put WHERE {table}.{key} = put.{key}")
    con.execute("DROP TABLE put")


def _attribute_columns(con: duckdb.DuckDBPyConnection, table: str, own: tuple[str, ...]) -> list[str]:
    """Assignments of attributes to the columns that they name; a column that is not there is added."""
    types = {row[0]: row[1] for row in con.execute(f"DESCRIBE {table}").fetchall()}
    columns = con.execute(
        f"SELECT DISTINCT split_part(label, '=', 1) FROM (SELECT unnest({ATTRIBUTES}) AS label FROM put) ORDER BY 1"
    ).fetchall()
    found = []
    for (name,) in columns:
        if name.lower() in own or not name:
            continue
        known = next((column for column in types if column.lower() == name.lower()), None)
        if known is None:
            con.execute(f"ALTER TABLE {table} ADD COLUMN {quote_name(name)} VARCHAR")
        sql_type = types[known] if known else "VARCHAR"
        start = quote_text(f"{name}=")
        given = (f"list_transform(list_filter(put.{ATTRIBUTES}, lambda x: starts_with(x, {start})), "
                 f"lambda x: substr(x, {len(name) + 2}))")  # fmt: skip
        if sql_type == "VARCHAR[]":
            value = given
        elif sql_type in ("VARCHAR", "BOOLEAN") or sql_type.startswith((*WHOLE_NUMBERS, *FRACTIONAL_NUMBERS)):
            value = f"TRY_CAST({given}[1] AS {sql_type})"
        else:
            continue
        column = quote_name(known or name)
        found.append(f"{column} = CASE WHEN put.{ATTRIBUTES} IS NULL THEN {table}.{column} ELSE {value} END")
    return found
