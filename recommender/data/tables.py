"""Read raw files into the tables of the data contract, and the tables into `Interactions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from coldstart_udfs.files import staged
from coldstart_udfs.locks import whole, writing
from coldstart_udfs.quoting import quote_name, quote_text
from coldstart_udfs.settings import EVENT_WEIGHTS
from coldstart_udfs.tabular import kind_of
from recommender.data.attributes import Attribute
from recommender.data.contract import (
    ATTRIBUTES,
    DESCRIPTION,
    EVENT_TYPE,
    FACTS,
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
    Prepared,
    check,
    count,
    given_name,
    name_columns,
    normalise,
    prepare,
)
from recommender.data.event_types import EventType, read_event_types, rename, told, unknown_types
from recommender.data.exported import Held, add_export, held_by
from recommender.data.interactions import Interactions
from recommender.data.raw_files import read_contract_files, read_table, run_script
from recommender.data.take_back import take_back
from recommender.data.timestamps import Moments, moment_without_time, time_note
from recommender.data.understood import Understood, understand

_NEVER = np.datetime64("NaT", "us")


@dataclass(frozen=True)
class Loaded:
    """What `load` understood of the raw tables.

    Attributes:
        tables: the tables as they were given, by name.
        attributes: the attributes of items and of users.
        event_types: the types of interactions, the most frequent first; `event_types.told` puts them into words.
        notes: sentences for the user.
        held: the entries of an event log that the interactions hold.
    """

    tables: Mapping[str, Prepared]
    attributes: Mapping[str, list[Attribute]]
    event_types: Sequence[EventType]
    notes: Sequence[str]
    held: Held | None = None


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
    source: Path, out: Path, weights: Mapping[str, float] = EVENT_WEIGHTS, *, encoding: str | None = None,
    date_order: str | None = None, dry_run: bool = False, model: str | None = None, events: Path | None = None,
) -> Understood:
    """Validate and normalise raw files, and write items, users, interactions and, if given, facts as Parquet.

    Args:
        source: a folder. Without an `ingest.sql` in it, the files items, users, interactions and, if there is one,
            facts are read, each with one of the endings of `coldstart_udfs.tabular.read_file` (facts also as RDF). With
            one, every such file is a table with the name of the file, and the script creates the tables from them.
        out: the output folder of items.parquet, users.parquet, interactions.parquet and facts.parquet.
        weights: `event_weights` of the settings; its types are known.
        encoding: of CSV and JSON files, see `read_file`.
        date_order: "dmy", "mdy" or "ymd" for dates such as 03/04/24, see `read_moments`.
        dry_run: check only; nothing is written.
        model: the encoder of the settings, whose languages those of the descriptions are compared with.
        events: the folder of an export of the service's event log, which is added to the tables.

    Returns:
        What was understood of each table and column.

    Raises:
        ContractError: the data break the contract; one line for each breach names the file, the column, the number of
            rows and the first three. Nothing is written.
        InUseError: another process writes `out`.
    """
    if not source.is_dir():
        raise ContractError(f"{source} is not a folder; pass the folder of the raw files")
    with writing(*([] if dry_run else [whole(out)]), command="coldstart ingest"), duckdb.connect() as con:
        loaded = load(con, source, weights, encoding=encoding, date_order=date_order, events=events)
        if not dry_run:
            _write(con, out, loaded.held, facts=FACTS.name in loaded.tables)
        event_types = told(loaded.event_types, weights)
        return understand(con, loaded.tables, loaded.attributes, event_types, loaded.notes, model)


def _write(con: duckdb.DuckDBPyConnection, out: Path, held: Held | None, *, facts: bool) -> None:
    # The output has a column for searches only if there are searches.
    derived = [RETURNED] if count(con, f"SELECT count({QUERY}) FROM interactions") else [RETURNED, QUERY]
    with staged(out) as scratch:
        for table in (*TABLES, FACTS) if facts else TABLES:
            order, left_out = table.key, [ATTRIBUTES]
            if table is FACTS:
                order = ", ".join(FACTS.required)
            elif table.key is None:
                order, left_out = f"{TIMESTAMP}, {USER_ID}, {ITEM_ID}, {EVENT_TYPE}", [ATTRIBUTES, *derived]
                order += "" if QUERY in derived else f", {QUERY}"
            columns = con.table(table.name).columns
            shown = ", ".join(
                f"{quote_name(name)} AS {quote_name(given_name(name))}"
                for name in columns if name not in left_out
            )  # fmt: skip
            about = f", {held.metadata()}" if held and table.name == "interactions" else ""
            con.execute(
                f"COPY (SELECT {shown} FROM {table.name} ORDER BY {order}) "
                f"TO {quote_text(str(scratch / f'{table.name}.parquet'))} (FORMAT parquet, COMPRESSION zstd{about})"
            )
    if not facts:
        (out / f"{FACTS.name}.parquet").unlink(missing_ok=True)


def load(
    con: duckdb.DuckDBPyConnection, source: Path, weights: Mapping[str, float] = EVENT_WEIGHTS, *,
    encoding: str | None = None, date_order: str | None = None, events: Path | None = None,
) -> Loaded:
    """Load the tables of the data contract into a connection, validated and normalised.

    items and users have a column `attributes`, a list of "column=value" for every column outside the contract.
    Interactions have event_type (the contract's type, or one that `weights` names; by default 'interaction'), weight
    (by default 1), query (by default NULL) and `returned`, the time at which the event was taken back, see
    `recommender.data.take_back.take_back`.

    Args:
        con: an open connection without tables; the function sets its time zone to UTC.
        source: a folder as for `ingest`.
        weights: `event_weights` of the settings; its types are known.
        encoding: as for `ingest`.
        date_order: as for `ingest`.
        events: as for `ingest`.

    Raises:
        ContractError: the data break the contract; one line for each breach.
    """
    if not source.is_dir():
        raise ContractError(
            f"{source} is not a folder; run `coldstart ingest RAW --data {source}` with the folder of your raw files, "
            "or pass the folder that an earlier run wrote"
        )
    con.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false")
    script = source / "ingest.sql"
    if script.is_file():
        origins = run_script(con, source, script, encoding)
    else:
        origins = read_contract_files(con, source, encoding)
    missing = [table.name for table in TABLES if table.name not in origins]
    if missing:
        found = sorted(path.name for path in source.iterdir() if kind_of(path))
        raise ContractError(
            f"{source}: no table {', '.join(missing)}; the folder contains {found or 'no file that can be read'}. "
            "Add items, users and interactions as .parquet, .csv, .jsonl or .xlsx, or an ingest.sql that creates them"
        )
    held = held_by(con, Path(origins["interactions"]))
    if held and events:
        raise ContractError(
            f"{origins['interactions']} holds events of an event log already; ingest the raw files, or leave out the "
            f"export {events}"
        )
    return _understand(con, origins, weights, date_order, events=events, held=held)


def load_files(
    con: duckdb.DuckDBPyConnection, files: Mapping[str, Path | None], weights: Mapping[str, float] = EVENT_WEIGHTS, *,
    encoding: str | None = None, date_order: str | None = None, as_text: str | None = None,
) -> Loaded:
    """Load the tables of the data contract from three files, see `load`.

    Args:
        con: an open connection without tables; the function sets its time zone to UTC.
        files: the file of items, users and interactions; None for users: those of the interactions, without features.
        weights: as for `load`.
        encoding: as for `ingest`.
        date_order: as for `ingest`.
        as_text: a column of items whose texts stay as they are, whatever they are.

    Raises:
        ContractError: the data break the contract; one line for each breach.
    """
    con.execute("SET TimeZone = 'UTC'")
    for name, path in files.items():
        if path is not None:
            read_table(con, path, name, encoding)
    origins = {name: str(path or files["interactions"]) for name, path in files.items()}
    if files["users"] is None:
        given = {name.lower() for name in con.table("interactions").columns}
        if USER_ID not in given:
            raise ContractError(
                f"{origins['interactions']}: column {USER_ID!r} is missing; the columns are {sorted(given)}"
            )
        con.execute(
            f"CREATE TABLE users AS SELECT DISTINCT {USER_ID}, NULL::VARCHAR AS {DESCRIPTION} FROM interactions "
            f"WHERE trim({USER_ID}::VARCHAR) <> ''"
        )
    return _understand(con, origins, weights, date_order, as_text)


def _understand(
    con: duckdb.DuckDBPyConnection, origins: Mapping[str, str], weights: Mapping[str, float],
    date_order: str | None, as_text: str | None = None, *, events: Path | None = None, held: Held | None = None,
) -> Loaded:
    given = [table for table in (*TABLES, FACTS) if table.name in origins]
    for table in given:
        name_columns(con, table)
    tables: dict[str, Prepared] = {}
    notes: list[str] = []
    for table in given:
        without_time = table.key is None and table is not FACTS and TIMESTAMP not in con.table(table.name).columns
        if without_time:
            moment = moment_without_time(con, {name: one.moments for name, one in tables.items()})
            con.execute(f"ALTER TABLE {table.name} ADD COLUMN {TIMESTAMP} TIMESTAMPTZ")
            con.execute(f"UPDATE {table.name} SET {TIMESTAMP} = {moment}")
            origin = origins[table.name]
            notes.append(f"{origin}: there is no column {TIMESTAMP!r}; all interactions count as of one moment")
        tables[table.name] = prepare(con, table, origins[table.name], date_order, as_text)
        if without_time:
            tables[table.name].moments = Moments(TIMESTAMP, "none given, one moment for all")
    types = read_event_types(con, weights)
    rename(con, types)
    check(con, tables, unknown_types(types, weights, origins["interactions"]))
    attributes = normalise(con, tables)
    if events is not None:
        held, said = add_export(con, events)
        notes += said
    take_back(con)
    doubts = [doubt for prepared in tables.values() for doubt in prepared.doubts]
    return Loaded(tables, attributes, types, [*notes, *time_note(con, TIMESTAMP), *doubts], held)
