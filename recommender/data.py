"""Reading the data: raw files to the contract's tables, and these to what the recommender learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.files import staged
from recommender.contract import (
    ATTRIBUTES,
    DESCRIPTION,
    EVENT_TYPE,
    INTERACTION,
    ITEM_ID,
    QUERY,
    RETURN,
    RETURNED,
    TABLES,
    TIMESTAMP,
    USER_ID,
    WEIGHT,
    ContractError,
    check,
    count,
    normalise,
    quote_name,
    quote_text,
    type_numbers,
)
from recommender.events import EventWeights

__all__ = [
    "ATTRIBUTES", "DESCRIPTION", "EVENT_TYPE", "ITEM_ID", "QUERY", "TABLES", "TIMESTAMP", "USER_ID", "WEIGHT",
    "ContractError", "Interactions", "ingest", "load", "read_interactions",
]  # fmt: skip

_SUFFIXES = (".parquet", ".csv")
# A description of a megabyte is legal; DuckDB's own limit for a CSV line is 2 MB.
_MAX_CSV_LINE = 64 * 1024 * 1024
_NEVER = np.datetime64("NaT", "us")


@dataclass(frozen=True)
class Interactions:
    """Who did something with what, when: checked once, passed everywhere.

    Every row speaks for the item until it is taken back. Returns are no rows: they stand in `returned` of what they
    took back. So the rows are all that a user has seen, and `weighted` leaves what counts.

    Attributes:
        user_ids: all known users, those without interactions included.
        item_ids: all known items, likewise.
        users: (n,) int64, rows of `user_ids`.
        items: (n,) int64, rows of `item_ids`.
        timestamps: (n,) datetime64[us], UTC.
        weights: (n,) float32, positive.
        event_types: the names of types of events.
        events: (n,) int64, rows of `event_types`; 'interaction' for all unless given.
        returned: (n,) datetime64[us], UTC, when the event was taken back; NaT (never) for all unless given.

    Raises:
        ContractError: arrays of different length, a row number out of range, a weight that is not
            positive, an id that stands twice.
    """

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    timestamps: NDArray[np.datetime64]
    weights: NDArray[np.float32]
    event_types: Sequence[str] = (INTERACTION,)
    events: NDArray[np.int64] = None  # type: ignore[assignment]
    returned: NDArray[np.datetime64] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.events is None:
            object.__setattr__(self, "events", np.zeros(len(self.users), np.int64))
        if self.returned is None:
            object.__setattr__(self, "returned", np.full(len(self.users), _NEVER))
        lengths = {name: len(getattr(self, name)) for name in _COLUMNS}
        if len(set(lengths.values())) > 1:
            raise ContractError(f"the arrays of interactions differ in length: {lengths}")
        for name, ids in ((USER_ID, self.user_ids), (ITEM_ID, self.item_ids), (EVENT_TYPE, self.event_types)):
            if len(set(ids)) != len(ids):
                raise ContractError(f"{len(ids) - len(set(ids))} of {len(ids)} {name}s stand there twice")
        known = (("users", self.user_ids), ("items", self.item_ids), ("events", self.event_types))
        for name, ids in known:
            rows = getattr(self, name)
            if len(rows) and not (rows.min() >= 0 and rows.max() < len(ids)):
                raise ContractError(f"{name} holds rows {rows.min()} to {rows.max()}; there are {len(ids)} {name}")
        if not (np.isfinite(self.weights) & (self.weights > 0)).all():
            raise ContractError(f"weights must be positive and finite; the smallest is {self.weights.min()}")

    def __len__(self) -> int:
        return len(self.users)

    def select(self, mask: NDArray[np.bool_]) -> Interactions:
        """The interactions where `mask` holds; the known ids stay the same."""
        return replace(self, **{name: getattr(self, name)[mask] for name in _COLUMNS})

    def pairs(self) -> Interactions:
        """One interaction per user and item: weights added up, the earliest timestamp, ordered by user and item.

        Types of events and returns are not looked at: call `weighted` first to have them count.
        """
        keys = self.users * len(self.item_ids) + self.items
        order = np.lexsort((self.timestamps, keys))
        unique, first = np.unique(keys[order], return_index=True)
        weights = np.add.reduceat(self.weights[order], first) if len(first) else self.weights
        return Interactions(
            self.user_ids, self.item_ids, unique // max(len(self.item_ids), 1), unique % max(len(self.item_ids), 1),
            self.timestamps[order][first], weights.astype(np.float32),
        )  # fmt: skip

    def weighted(self, weights: EventWeights, now: datetime | np.datetime64) -> Interactions:
        """What counts at a moment, and how much: weights times that of the event's type, times recency.

        What was taken back before `now` keeps what the weight of a return leaves of it; a later return is not known
        yet. Rows with nothing left drop out. The types are used up: all rows of the result are of one.

        Args:
            weights: of types of events, and the half-life.
            now: UTC; the ages of events are counted from here.

        Raises:
            ContractError: an interaction is of `now` or later, so that it cannot be known.
        """
        moment = _moment(now)
        if len(self) and self.timestamps.max() >= moment:
            late = int((self.timestamps >= moment).sum())
            raise ContractError(
                f"{late:,} of {len(self):,} interactions are not known at {moment}; select those before it"
            )
        factors = np.array([weights.of(name) for name in self.event_types], np.float32)[self.events]
        back = self.returned < moment
        if back.any():
            factors[back] *= np.float32(1 - weights.of(RETURN))
        kept = factors > 0
        if not np.isinf(weights.half_life_days):
            days = (moment - self.timestamps) / np.timedelta64(1, "D")
            # An event however old stays one.
            factors *= np.maximum(np.exp2(-days / weights.half_life_days), 1e-30).astype(np.float32)
        result = replace(
            self, weights=np.where(kept, self.weights * factors, 1).astype(np.float32), event_types=(INTERACTION,),
            events=np.zeros(len(self), np.int64), returned=np.full(len(self), _NEVER),
        )  # fmt: skip
        return result if kept.all() else result.select(kept)


_COLUMNS = ("users", "items", "timestamps", "weights", "events", "returned")


def _moment(now: datetime | np.datetime64) -> np.datetime64:
    if isinstance(now, datetime):
        return np.datetime64(now.astimezone(UTC).replace(tzinfo=None), "us")
    return np.datetime64(now)


def read_interactions(con: duckdb.DuckDBPyConnection) -> Interactions:
    """The interactions of a connection that `load` has filled, oldest first.

    Searches that led to no item are not among them. They are words of the user: in the store by `sql/searches.sql`, in
    an evaluation by `recommender.searches.read_searches`.
    """
    user_ids = [row[0] for row in con.execute(f"SELECT {USER_ID} FROM users ORDER BY 1").fetchall()]
    item_ids = [row[0] for row in con.execute(f"SELECT {ITEM_ID} FROM items ORDER BY 1").fetchall()]
    positive = f"{ITEM_ID} IS NOT NULL AND {EVENT_TYPE} <> '{RETURN}'"
    types = con.execute(f"SELECT DISTINCT {EVENT_TYPE} FROM interactions WHERE {positive} ORDER BY 1").fetchall()
    event_types = [row[0] for row in types]
    query = f"""
        SELECT u.row AS users, i.row AS items, epoch_us({TIMESTAMP}) AS timestamps, {WEIGHT} AS weights,
            list_position($1, {EVENT_TYPE}) - 1 AS events, coalesce(epoch_us({RETURNED}), $2) AS returned
        FROM interactions
        JOIN (SELECT {USER_ID}, row_number() OVER (ORDER BY {USER_ID}) - 1 AS row FROM users) AS u USING ({USER_ID})
        JOIN (SELECT {ITEM_ID}, row_number() OVER (ORDER BY {ITEM_ID}) - 1 AS row FROM items) AS i USING ({ITEM_ID})
        WHERE {positive}
        ORDER BY {TIMESTAMP}, users, items, events
    """
    columns: dict[str, Any] = dict(con.execute(query, [event_types, int(_NEVER.astype(np.int64))]).fetchnumpy())
    return Interactions(
        user_ids, item_ids, columns["users"].astype(np.int64), columns["items"].astype(np.int64),
        columns["timestamps"].astype("datetime64[us]"), columns["weights"].astype(np.float32), event_types,
        columns["events"].astype(np.int64), columns["returned"].astype(np.int64).astype("datetime64[us]"),
    )  # fmt: skip


def ingest(source: Path, out: Path) -> dict[str, int]:
    """Bring raw files into the contract's shape and write items, users and interactions as parquet.

    Args:
        source: a folder. Every parquet and CSV file in it is a table named like the file. If it holds
            `ingest.sql`, that script makes the tables items, users and interactions from them;
            otherwise these three must be there as files.
        out: the folder that receives items.parquet, users.parquet and interactions.parquet.

    Returns:
        The number of rows by table, and of the interactions by type if there are several.

    Raises:
        ContractError: what is wrong, in which file and column, in how many rows, and the first three; one line for
            each breach. Nothing is written then.
    """
    if not source.is_dir():
        raise ContractError(f"{source} is no folder; give the folder that holds the parquet or CSV files")
    with duckdb.connect() as con:
        load(con, source)
        counts = {table.name: count(con, f"SELECT count(*) FROM {table.name}") for table in TABLES}
        types = con.execute(
            f"SELECT {EVENT_TYPE}, count(*) FROM interactions GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        if len(types) > 1:
            counts |= {f"of them {name}": times for name, times in types}
        # As they were given: a table without searches gets no column of them.
        derived = [RETURNED] if count(con, f"SELECT count({QUERY}) FROM interactions") else [RETURNED, QUERY]
        with staged(out) as scratch:
            for table in TABLES:
                order, left_out = table.key, [ATTRIBUTES]
                if table.key is None:
                    order, left_out = f"{TIMESTAMP}, {USER_ID}, {ITEM_ID}, {EVENT_TYPE}", [ATTRIBUTES, *derived]
                    order += "" if QUERY in derived else f", {QUERY}"
                con.execute(
                    f"COPY (SELECT * EXCLUDE ({', '.join(left_out)}) FROM {table.name} ORDER BY {order}) "
                    f"TO '{quote_text(str(scratch / table.name))}.parquet' (FORMAT parquet, COMPRESSION zstd)"
                )
        return counts


def load(con: duckdb.DuckDBPyConnection, source: Path) -> None:
    """Put the contract's tables into a connection, validated and normalised.

    items and users get a column `attributes`, a list of "column=value" made of every other column. Interactions get
    event_type (in lower case; 'interaction' where there is none), weight (1), query (NULL) and `returned`, which says
    when the event was taken back. A return takes back the whole of the last purchase of its user and item before it
    that is not taken back yet, and once none is left the views, carts and searches before it. Whatever is no view,
    cart, search or return is a purchase here. A return of what was never bought takes back nothing.

    Args:
        con: an open connection; its time zone is set to UTC.
        source: a folder as for `ingest`.

    Raises:
        ContractError: the contract is broken, one line for each breach.
    """
    con.execute("SET TimeZone = 'UTC'")
    origins = _read_files(con, source)
    script = source / "ingest.sql"
    if script.is_file():
        try:
            con.execute(script.read_text(encoding="utf-8"))
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise ContractError(f"{script} failed: {error}") from None
        origins = {table.name: f"{script} (table {table.name})" for table in TABLES}
    tables = {name for (name,) in con.execute("SELECT table_name FROM information_schema.tables").fetchall()}
    missing = [table.name for table in TABLES if table.name not in tables]
    if missing:
        found = sorted(path.name for path in source.iterdir() if path.suffix in _SUFFIXES)
        raise ContractError(
            f"{source}: no table {', '.join(missing)}; the folder holds {found or 'no parquet or CSV file'}. "
            "Give items, users and interactions as .parquet or .csv, or an ingest.sql that makes them"
        )
    check(con, origins)
    normalise(con)


def _read_files(con: duckdb.DuckDBPyConnection, source: Path) -> dict[str, str]:
    if not source.is_dir():
        raise ContractError(
            f"{source} is no folder; run `coldstart ingest RAW --data {source}` with the folder of your raw files, or "
            "give the folder that an earlier run wrote"
        )
    origins: dict[str, str] = {}
    for path in sorted(source.iterdir()):
        if path.suffix not in _SUFFIXES:
            continue
        if path.stem in origins:
            raise ContractError(f"{origins[path.stem]} and {path} are both table {path.stem!r}; keep one")
        origins[path.stem] = str(path)
        file = quote_text(str(path))
        reader = (
            f"read_parquet('{file}')"
            if path.suffix == ".parquet"
            else f"read_csv('{file}', header = true, all_varchar = true, max_line_size = {_MAX_CSV_LINE})"
        )
        try:
            con.execute(f"CREATE TABLE {quote_name(path.stem)} AS FROM {reader}")
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise ContractError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from None
        if path.suffix == ".csv":
            type_numbers(con, path.stem)
    return origins
