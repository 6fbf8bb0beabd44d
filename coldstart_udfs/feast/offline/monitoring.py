"""The statistics of `feast monitor`, also for folders, relative paths, embedded columns and mapped names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

import duckdb
from feast.infra.offline_stores import duckdb as stock
from feast.infra.offline_stores.offline_utils import get_timestamp_filter_sql

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.offline.parquet_source import open_source
from coldstart_udfs.feast.offline.session import first_line, open_connection
from coldstart_udfs.quoting import quote_name

if TYPE_CHECKING:
    from feast import RepoConfig
    from feast.infra.offline_stores.file_source import FileSource


def metrics(
    config: RepoConfig,
    source: FileSource,
    features: Sequence[tuple[str, str]],
    timestamp: str,
    start: datetime | None,
    end: datetime | None,
    histogram_bins: int,
    top_n: int,
) -> list[dict[str, Any]]:
    """Feast's statistics of columns, numeric ones first; `features` are names with "numeric" or "categorical".

    Vectors, which Feast takes for numbers, are left out.
    """
    during = get_timestamp_filter_sql(start, end, timestamp, tz=UTC, cast_style="timestamp", date_time_separator=" ")
    results: list[dict[str, Any]] = []
    with _columns(config, source, [*(name for name, _ in features), timestamp]) as (con, rows):
        types = {name: kind for name, kind, *_ in con.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()}
        features = [(name, kind) for name, kind in features if not types[name].endswith("]")]
        numeric = [name for name, kind in features if kind == "numeric"]
        if numeric:
            results += stock._duckdb_numeric_stats(con, rows, numeric, during, histogram_bins)
        results += [
            stock._duckdb_categorical_stats(con, rows, name, during, top_n)
            for name, kind in features
            if kind == "categorical"
        ]
    return results


def last_timestamp(config: RepoConfig, source: FileSource, timestamp: str) -> datetime | None:
    """The last event timestamp, in UTC if it has no time zone; None without rows."""
    with _columns(config, source, [timestamp]) as (con, rows):
        ((last,),) = con.execute(f"SELECT max({quote_name(timestamp)}) FROM {rows}").fetchall()
    if isinstance(last, date) and not isinstance(last, datetime):
        last = datetime.combine(last, time.min)
    return last.replace(tzinfo=last.tzinfo or UTC) if isinstance(last, datetime) else None


@contextmanager
def _columns(
    config: RepoConfig, source: FileSource, names: Sequence[str]
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """A connection and a subquery with these columns, named as in the files or as features."""
    opened = open_source(config, source)
    # Monitoring names features as in the view, but timestamps and logs as in the files.
    known = {**opened.named, **opened.columns}
    columns = {name: opened.column(name, known, "which is to be monitored") for name in dict.fromkeys(names)}
    rows = ", ".join(f"{column.sql} AS {quote_name(name)}" for name, column in columns.items())
    try:
        calls = any(column.calls for column in columns.values())
        with open_connection(config, functions=calls, fingerprint=calls) as con:
            for statement in opened.setup:
                con.execute(statement)
            yield con, f"(SELECT {rows} FROM {opened.scan})"
    except duckdb.Error as error:
        raise ColdStartError(f"{opened.label} cannot be monitored: {first_line(error)}") from error
