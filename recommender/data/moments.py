"""Interactions without time: no column of timestamps, or one timestamp for all."""

from __future__ import annotations

import duckdb

from recommender.data.contract import TIMESTAMP

# Later than the first moment that the documentation materialises, and the same in every run.
_MOMENT = "TIMESTAMPTZ '2020-01-01 00:00:00+00'"


def fill_in_time(con: duckdb.DuckDBPyConnection, origin: str) -> list[str]:
    """Give interactions without the column event_timestamp one moment, no earlier than the users' and items' own.

    Args:
        con: a connection with the three tables as they were read, in the time zone UTC.
        origin: the file or script of the interactions.

    Returns:
        One sentence about it, or none if the column exists.
    """
    if TIMESTAMP in _columns(con, "interactions"):
        return []
    given = [
        f"(SELECT max(moment) FROM (SELECT TRY_CAST({TIMESTAMP}::VARCHAR AS TIMESTAMPTZ) AS moment FROM {table}) "
        "WHERE isfinite(moment))"
        for table in ("users", "items") if TIMESTAMP in _columns(con, table)
    ]  # fmt: skip
    con.execute(f"ALTER TABLE interactions ADD COLUMN {TIMESTAMP} TIMESTAMPTZ")
    con.execute(f"UPDATE interactions SET {TIMESTAMP} = greatest({', '.join([_MOMENT, *given])})")
    return [f"{origin}: there is no column '{TIMESTAMP}'; all interactions count as of one moment"]


def time_note(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Return one sentence if all normalised interactions have one timestamp, otherwise none."""
    rows, low, high = con.execute(
        f"SELECT count(*), min({TIMESTAMP})::TIMESTAMP, max({TIMESTAMP})::TIMESTAMP FROM interactions"
    ).fetchall()[0]
    if low != high or rows < 2:
        return []
    return [
        f"all {rows:,} interactions have the timestamp {low:%Y-%m-%d %H:%M:%S}: the data have no time. `coldstart "
        "train` and `weigh` choose on interactions drawn by chance, and nothing ages"
    ]


def _columns(con: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    return {row[0] for row in con.execute(f"DESCRIBE {table}").fetchall()}
