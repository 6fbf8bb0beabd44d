"""Read raw files into the tables of the data contract, and the tables into `Interactions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from coldstart_udfs.files import staged
from coldstart_udfs.quoting import quote_name, quote_text
from coldstart_udfs.settings import EVENT_WEIGHTS
from recommender.data.contract import (
    ATTRIBUTES,
    EVENT_TYPE,
    IMPRESSION,
    ITEM_ID,
    QUERY,
    RETURNED,
    TABLES,
    TAKE_BACK,
    TIMESTAMP,
    USER_ID,
    WEIGHT,
    ContractError,
    check,
    count,
    normalise,
    type_numbers,
)
from recommender.data.event_types import EventType, read_event_types, rename, unknown_types
from recommender.data.interactions import Interactions
from recommender.data.moments import fill_in_time, time_note
from recommender.data.take_back import take_back

_SUFFIXES = (".parquet", ".csv")
# Long descriptions are valid; DuckDB's default limit for a CSV line is 2 MB.
_MAX_CSV_LINE = 64 * 1024 * 1024
_NEVER = np.datetime64("NaT", "us")


@dataclass(frozen=True)
class Loaded:
    """What `load` understood of the raw tables.

    Attributes:
        event_types: the types of interactions, the most frequent first; `event_types.told` puts them into words.
        notes: sentences for the user.
    """

    event_types: Sequence[EventType]
    notes: Sequence[str]


def read_interactions(
    con: duckdb.DuckDBPyConnection, weights: Mapping[str, float] = EVENT_WEIGHTS
) -> Interactions:
    """Return the interactions of a connection filled by `load`, oldest first.

    Impressions are included only if `weights` gives them a weight: a user has not seen an item that was only listed.
    Searches without an item are not included. They are part of the user's description: `sql/searches.sql` adds them in
    the feature store, and `recommender.data.searches.read_searches` reads them for an evaluation.
    """
    user_ids = [row[0] for row in con.execute(f"SELECT {USER_ID} FROM users ORDER BY 1").fetchall()]
    item_ids = [row[0] for row in con.execute(f"SELECT {ITEM_ID} FROM items ORDER BY 1").fetchall()]
    left_out = TAKE_BACK if weights.get(IMPRESSION) else (*TAKE_BACK, IMPRESSION)
    positive = f"{ITEM_ID} IS NOT NULL AND {EVENT_TYPE} NOT IN {left_out}"
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
    if not len(columns["users"]):
        raise ContractError(
            "no event speaks for an item: there are only " + ", ".join(
                name for (name,) in con.execute(f"SELECT DISTINCT {EVENT_TYPE} FROM interactions ORDER BY 1").fetchall()
            ) + "; add views, carts or purchases, or give a type a weight in event_weights"
        )  # fmt: skip
    return Interactions(
        user_ids, item_ids, columns["users"].astype(np.int64), columns["items"].astype(np.int64),
        columns["timestamps"].astype("datetime64[us]"), columns["weights"].astype(np.float32), event_types,
        columns["events"].astype(np.int64), columns["returned"].astype(np.int64).astype("datetime64[us]"),
    )  # fmt: skip


def ingest(
    source: Path, out: Path, weights: Mapping[str, float] = EVENT_WEIGHTS,
    tell: Callable[[str], None] = lambda note: None,
) -> dict[str, int]:
    """Validate and normalise raw files, and write items, users and interactions as Parquet.

    Args:
        source: a folder. Every Parquet and CSV file in it becomes a table with the name of the file. If the folder
            contains `ingest.sql`, that script creates the tables items, users and interactions from them. Otherwise
            the folder must contain these three files.
        out: the output folder of items.parquet, users.parquet and interactions.parquet.
        weights: `event_weights` of the settings; its types are known.
        tell: called with each note of `load`.

    Returns:
        The number of rows by table, and the number of interactions by type if there are several types or a type got
        another name.

    Raises:
        ContractError: the data break the contract; one line for each breach names the file, the column, the number of
            rows and the first three. Nothing is written.
    """
    if not source.is_dir():
        raise ContractError(f"{source} is not a folder; pass the folder of the Parquet or CSV files")
    with duckdb.connect() as con:
        loaded = load(con, source, weights)
        counts = {table.name: count(con, f"SELECT count(*) FROM {table.name}") for table in TABLES}
        if len(loaded.event_types) > 1 or any(one.name != one.raw for one in loaded.event_types):
            counts |= {f"of them {one.raw or '(none)'}" + (f" → {one.name}" if one.name != one.raw else ""): one.count
                       for one in loaded.event_types}  # fmt: skip
        # The output has a column for searches only if there are searches.
        derived = [RETURNED] if count(con, f"SELECT count({QUERY}) FROM interactions") else [RETURNED, QUERY]
        with staged(out) as scratch:
            for table in TABLES:
                order, left_out = table.key, [ATTRIBUTES]
                if table.key is None:
                    order, left_out = f"{TIMESTAMP}, {USER_ID}, {ITEM_ID}, {EVENT_TYPE}", [ATTRIBUTES, *derived]
                    order += "" if QUERY in derived else f", {QUERY}"
                con.execute(
                    f"COPY (SELECT * EXCLUDE ({', '.join(left_out)}) FROM {table.name} ORDER BY {order}) "
                    f"TO {quote_text(str(scratch / f'{table.name}.parquet'))} (FORMAT parquet, COMPRESSION zstd)"
                )
        for note in loaded.notes:
            tell(note)
        return counts


def load(
    con: duckdb.DuckDBPyConnection, source: Path, weights: Mapping[str, float] = EVENT_WEIGHTS
) -> Loaded:
    """Load the tables of the data contract into a connection, validated and normalised.

    items and users have a column `attributes`, a list of "column=value" for every column outside the contract.
    Interactions have event_type (the contract's type, or one that `weights` names; by default 'interaction'), weight
    (by default 1), query (by default NULL) and `returned`, the time at which the event was taken back, see
    `recommender.data.take_back.take_back`.

    Args:
        con: an open connection; the function sets its time zone to UTC.
        source: a folder as for `ingest`.
        weights: `event_weights` of the settings; its types are known.

    Raises:
        ContractError: the data break the contract; one line for each breach.
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
            f"{source}: no table {', '.join(missing)}; the folder contains {found or 'no Parquet or CSV file'}. "
            "Add items, users and interactions as .parquet or .csv, or an ingest.sql that creates them"
        )
    types = read_event_types(con, weights)
    rename(con, types)
    notes = fill_in_time(con, origins["interactions"])
    check(con, origins, unknown_types(types, weights, origins["interactions"]))
    normalise(con)
    take_back(con)
    return Loaded(types, [*notes, *time_note(con)])


def _read_files(con: duckdb.DuckDBPyConnection, source: Path) -> dict[str, str]:
    if not source.is_dir():
        raise ContractError(
            f"{source} is not a folder; run `coldstart ingest RAW --data {source}` with the folder of your raw files, "
            "or pass the folder that an earlier run wrote"
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
            f"read_parquet({file})"
            if path.suffix == ".parquet"
            else f"read_csv({file}, header = true, all_varchar = true, max_line_size = {_MAX_CSV_LINE})"
        )
        try:
            con.execute(f"CREATE TABLE {quote_name(path.stem)} AS FROM {reader}")
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise ContractError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from None
        if path.suffix == ".csv":
            type_numbers(con, path.stem)
    return origins
