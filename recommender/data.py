"""The data contract: the tables items, users and interactions, checked at the door.

This module owns the names of the contract's columns. Everything behind it may rely on: ids are strings,
unique and present; interactions name known ids; timestamps are UTC; weights are positive.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged

ITEM_ID = "item_id"
USER_ID = "user_id"
DESCRIPTION = "description"
TIMESTAMP = "event_timestamp"
EVENT_TYPE = "event_type"
WEIGHT = "weight"
ATTRIBUTES = "attributes"

_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
            "UBIGINT", "FLOAT", "DOUBLE", "DECIMAL")  # fmt: skip
_SUFFIXES = (".parquet", ".csv")
# A description of a megabyte is legal; DuckDB's own limit for a CSV line is 2 MB.
_MAX_CSV_LINE = 64 * 1024 * 1024


class ContractError(ColdStartError):
    """A table does not keep the data contract."""


@dataclass(frozen=True)
class _Table:
    name: str
    key: str | None
    required: tuple[str, ...]
    optional: tuple[str, ...]


TABLES = (
    _Table("items", ITEM_ID, (ITEM_ID, DESCRIPTION), (TIMESTAMP,)),
    _Table("users", USER_ID, (USER_ID, DESCRIPTION), (TIMESTAMP,)),
    _Table("interactions", None, (USER_ID, ITEM_ID, TIMESTAMP), (EVENT_TYPE, WEIGHT)),
)


@dataclass(frozen=True)
class Interactions:
    """Who did something with what, when: checked once, passed everywhere.

    Attributes:
        user_ids: all known users, those without interactions included.
        item_ids: all known items, likewise.
        users: (n,) int64, rows of `user_ids`.
        items: (n,) int64, rows of `item_ids`.
        timestamps: (n,) datetime64[us], UTC.
        weights: (n,) float32, positive.

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

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("users", "items", "timestamps", "weights")}
        if len(set(lengths.values())) > 1:
            raise ContractError(f"the arrays of interactions differ in length: {lengths}")
        for name, ids in ((USER_ID, self.user_ids), (ITEM_ID, self.item_ids)):
            if len(set(ids)) != len(ids):
                raise ContractError(f"{len(ids) - len(set(ids))} of {len(ids)} {name}s stand there twice")
        for name, rows, ids in (("users", self.users, self.user_ids), ("items", self.items, self.item_ids)):
            if len(rows) and not (rows.min() >= 0 and rows.max() < len(ids)):
                raise ContractError(f"{name} holds rows {rows.min()} to {rows.max()}; there are {len(ids)} {name}")
        if not (np.isfinite(self.weights) & (self.weights > 0)).all():
            raise ContractError(f"weights must be positive and finite; the smallest is {self.weights.min()}")

    def __len__(self) -> int:
        return len(self.users)

    def select(self, mask: NDArray[np.bool_]) -> Interactions:
        """The interactions where `mask` holds; the known ids stay the same."""
        return replace(
            self, users=self.users[mask], items=self.items[mask], timestamps=self.timestamps[mask],
            weights=self.weights[mask],
        )  # fmt: skip

    def pairs(self) -> Interactions:
        """One interaction per user and item: weights added up, the earliest timestamp, ordered by user and item."""
        keys = self.users * len(self.item_ids) + self.items
        order = np.lexsort((self.timestamps, keys))
        unique, first = np.unique(keys[order], return_index=True)
        weights = np.add.reduceat(self.weights[order], first) if len(first) else self.weights
        return replace(
            self, users=unique // max(len(self.item_ids), 1), items=unique % max(len(self.item_ids), 1),
            timestamps=self.timestamps[order][first], weights=weights.astype(np.float32),
        )  # fmt: skip


def read_interactions(con: duckdb.DuckDBPyConnection) -> Interactions:
    """The interactions of a connection that `load` has filled, oldest first."""
    user_ids = [row[0] for row in con.execute(f"SELECT {USER_ID} FROM users ORDER BY 1").fetchall()]
    item_ids = [row[0] for row in con.execute(f"SELECT {ITEM_ID} FROM items ORDER BY 1").fetchall()]
    query = f"""
        SELECT u.row AS users, i.row AS items, epoch_us({TIMESTAMP}) AS timestamps, {WEIGHT} AS weights
        FROM interactions
        JOIN (SELECT {USER_ID}, row_number() OVER (ORDER BY {USER_ID}) - 1 AS row FROM users) AS u USING ({USER_ID})
        JOIN (SELECT {ITEM_ID}, row_number() OVER (ORDER BY {ITEM_ID}) - 1 AS row FROM items) AS i USING ({ITEM_ID})
        ORDER BY {TIMESTAMP}, users, items
    """
    columns: dict[str, Any] = dict(con.execute(query).fetchnumpy())
    return Interactions(
        user_ids, item_ids, columns["users"].astype(np.int64), columns["items"].astype(np.int64),
        columns["timestamps"].astype("datetime64[us]"), columns["weights"].astype(np.float32),
    )  # fmt: skip


def ingest(source: Path, out: Path) -> dict[str, int]:
    """Bring raw files into the contract's shape and write items, users and interactions as parquet.

    Args:
        source: a folder. Every parquet and CSV file in it is a table named like the file. If it holds
            `ingest.sql`, that script makes the tables items, users and interactions from them;
            otherwise these three must be there as files.
        out: the folder that receives items.parquet, users.parquet and interactions.parquet.

    Returns:
        The number of rows by table.

    Raises:
        ContractError: what is wrong, in which file and column, in how many rows, and the first three.
            Nothing is written then.
    """
    with duckdb.connect() as con:
        load(con, source)
        with staged(out) as scratch:
            for table in TABLES:
                order = f"{TIMESTAMP}, {USER_ID}, {ITEM_ID}" if table.key is None else table.key
                con.execute(
                    f"COPY (SELECT * EXCLUDE ({ATTRIBUTES}) FROM {table.name} ORDER BY {order}) "
                    f"TO '{_escape(str(scratch / table.name))}.parquet' (FORMAT parquet, COMPRESSION zstd)"
                )
        return {table.name: _count(con, f"SELECT count(*) FROM {table.name}") for table in TABLES}


def load(con: duckdb.DuckDBPyConnection, source: Path) -> None:
    """Put the contract's tables into a connection, validated and normalised.

    items and users get a column `attributes`, a list of "column=value" made of every other column;
    interactions get event_type ('interaction') and weight (1) where they have none.

    Args:
        con: an open connection; its time zone is set to UTC.
        source: a folder as for `ingest`.

    Raises:
        ContractError: the contract is broken.
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
    for table in TABLES:
        _validate(con, table, origins[table.name])
    _validate_references(con, origins["interactions"])
    for table in TABLES:
        _normalise(con, table)


def _read_files(con: duckdb.DuckDBPyConnection, source: Path) -> dict[str, str]:
    if not source.is_dir():
        raise ContractError(f"{source} is no folder; give the folder that holds the parquet or CSV files")
    origins: dict[str, str] = {}
    for path in sorted(source.iterdir()):
        if path.suffix not in _SUFFIXES:
            continue
        if path.stem in origins:
            raise ContractError(f"{origins[path.stem]} and {path} are both table {path.stem!r}; keep one")
        origins[path.stem] = str(path)
        file = _escape(str(path))
        reader = (
            f"read_parquet('{file}')"
            if path.suffix == ".parquet"
            else f"read_csv('{file}', header = true, all_varchar = true, max_line_size = {_MAX_CSV_LINE})"
        )
        try:
            con.execute(f"CREATE TABLE {_name(path.stem)} AS FROM {reader}")
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise ContractError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from None
        if path.suffix == ".csv":
            _type_numbers(con, path.stem)
    return origins


def _type_numbers(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """CSV columns come as text; make those DOUBLE that hold nothing but numbers and are no contract column."""
    own = {name for spec in TABLES for name in (*spec.required, *spec.optional)} - {WEIGHT}
    for name, _ in _columns(con, table):
        if name in own:
            continue
        column = _name(name)
        wrong = _count(con, f"SELECT count(*) FROM {_name(table)} WHERE {column} IS NOT NULL "
                            f"AND TRY_CAST({column} AS DOUBLE) IS NULL")  # fmt: skip
        if not wrong:
            con.execute(f"ALTER TABLE {_name(table)} ALTER {column} TYPE DOUBLE")


def _validate(con: duckdb.DuckDBPyConnection, table: _Table, origin: str) -> None:
    columns = dict(_columns(con, table.name))
    absent = [name for name in table.required if name not in columns]
    if absent:
        raise ContractError(
            f"{origin}: column {', '.join(map(repr, absent))} is missing; the columns are {sorted(columns)}"
        )
    if not _count(con, f"SELECT count(*) FROM {table.name}"):
        raise ContractError(f"{origin}: column {table.required[0]!r}: the table has no rows")
    for name in (USER_ID, ITEM_ID):
        if name in table.required:
            _reject(con, table.name, origin, name, f"{name} IS NULL OR trim({name}::VARCHAR) = ''", "no id")
    if table.key:
        repeated = (
            f"{table.key}::VARCHAR IN (SELECT {table.key}::VARCHAR FROM {table.name} GROUP BY 1 HAVING count(*) > 1)"
        )
        _reject(con, table.name, origin, table.key, repeated, "an id that another row has too")
    if TIMESTAMP in columns:
        if columns[TIMESTAMP] != "VARCHAR" and not columns[TIMESTAMP].startswith(("TIMESTAMP", "DATE")):
            raise ContractError(
                f"{origin}: column '{TIMESTAMP}' is {columns[TIMESTAMP]}; give timestamps or ISO 8601 text"
            )
        unparsed = f"{TIMESTAMP} IS NOT NULL AND coalesce(NOT isfinite(TRY_CAST({TIMESTAMP} AS TIMESTAMPTZ)), true)"
        _reject(con, table.name, origin, TIMESTAMP, unparsed, "a timestamp that does not parse (ISO 8601 does)")
        if TIMESTAMP in table.required:
            _reject(con, table.name, origin, TIMESTAMP, f"{TIMESTAMP} IS NULL", "no timestamp")
    if table.name == "interactions" and WEIGHT in columns:
        wrong = f"NOT coalesce(isfinite(TRY_CAST({WEIGHT} AS DOUBLE)) AND TRY_CAST({WEIGHT} AS DOUBLE) > 0, false)"
        _reject(con, table.name, origin, WEIGHT, wrong, "a weight that is not a positive number")


def _validate_references(con: duckdb.DuckDBPyConnection, origin: str) -> None:
    for name, target in ((USER_ID, "users"), (ITEM_ID, "items")):
        unknown = f"{name}::VARCHAR NOT IN (SELECT {name}::VARCHAR FROM {target})"
        _reject(con, "interactions", origin, name, unknown, f"an id that the table {target} does not have")


def _reject(
    con: duckdb.DuckDBPyConnection, table: str, origin: str, column: str, condition: str, what: str
) -> None:
    count = _count(con, f"SELECT count(*) FROM {table} WHERE {condition}")
    if not count:
        return
    kept = [name for spec in TABLES if spec.name == table for name in (*spec.required, *spec.optional)]
    names = [name for name, _ in _columns(con, table) if name in kept]
    shown = ", ".join(f"left({name}::VARCHAR, 40)" for name in names)
    rows = con.execute(
        f"SELECT {shown} FROM {table} WHERE {condition} ORDER BY {column}::VARCHAR, rowid LIMIT 3"
    ).fetchall()
    examples = "; ".join(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows)
    plural = "row has" if count == 1 else "rows have"
    raise ContractError(f"{origin}: column {column!r}: {count:,} {plural} {what}. The first: {examples}")


def _normalise(con: duckdb.DuckDBPyConnection, table: _Table) -> None:
    columns = _columns(con, table.name)
    present = {name for name, _ in columns}
    own = (*table.required, *table.optional)
    extra = [(name, sql_type) for name, sql_type in columns if name not in own and name != ATTRIBUTES]
    fields = [f"{name}::VARCHAR AS {name}" for name in table.required if name != TIMESTAMP]
    if table.key is None:
        fields.append(f"{TIMESTAMP}::TIMESTAMPTZ AS {TIMESTAMP}")
        event_type = f"{EVENT_TYPE}::VARCHAR" if EVENT_TYPE in present else "'interaction'"
        weight = f"{WEIGHT}::FLOAT" if WEIGHT in present else "1::FLOAT"
        fields += [f"{event_type} AS {EVENT_TYPE}", f"{weight} AS {WEIGHT}"]
        fields.append(f"NULL AS {ATTRIBUTES}")
        source = table.name
    else:
        # Who has no timestamp was there when first seen, or before all else.
        seen = f"min({TIMESTAMP}::TIMESTAMPTZ) AS seen"
        first = f"(SELECT {table.key}::VARCHAR AS id, {seen} FROM interactions GROUP BY 1)"
        given = f"{TIMESTAMP}::TIMESTAMPTZ" if TIMESTAMP in present else "NULL::TIMESTAMPTZ"
        fields.append(
            f"coalesce({given}, seen, (SELECT min({TIMESTAMP}::TIMESTAMPTZ) FROM interactions)) AS {TIMESTAMP}"
        )
        fields += [_name(name) for name, _ in extra]
        fields.append(f"{_attributes(extra)} AS {ATTRIBUTES}")
        source = f"{table.name} LEFT JOIN {first} AS first_seen ON {table.key}::VARCHAR = id"
    # Beside, then renamed: a table cannot be replaced by a query over itself on every DuckDB version.
    con.execute(f"CREATE TABLE normalised AS SELECT {', '.join(fields)} FROM {source}")
    con.execute(f"DROP TABLE {table.name}; ALTER TABLE normalised RENAME TO {table.name}")


def _attributes(extra: list[tuple[str, str]]) -> str:
    """SQL for ["country=France", "price=2^1"]: numbers fall into bands between powers of two.

    The bands know nothing of the data, so that they neither leak nor shift as data grow.
    """
    parts = []
    for name, sql_type in extra:
        column, label = _name(name), _escape(name)
        if sql_type.startswith(_NUMERIC):
            parts.append(
                f"CASE WHEN {column} > 0 THEN '{label}=2^' || floor(log2({column}))::INTEGER "
                f"WHEN {column} <= 0 THEN '{label}<=0' END"
            )
        elif sql_type in ("VARCHAR", "BOOLEAN") or sql_type.startswith("ENUM"):
            parts.append(f"'{label}=' || nullif(trim({column}::VARCHAR), '')")
    return f"list_filter([{', '.join(parts)}]::VARCHAR[], lambda x: x IS NOT NULL)"


def _columns(con: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in con.execute(f"DESCRIBE {_name(table)}").fetchall()]


def _count(con: duckdb.DuckDBPyConnection, query: str) -> int:
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _escape(text: str) -> str:
    return text.replace("'", "''")
