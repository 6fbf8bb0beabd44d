"""What `coldstart facts` leaves in the folder of the tables: columns of items, and rules between labels."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import duckdb

from coldstart_udfs.errors import ColdStartWarning
from coldstart_udfs.quoting import quote_text
from recommender.data.contract import ATTRIBUTES, FACTS, ContractError, name_columns
from recommender.data.raw_files import read_table, tables_of

EXCLUDES = "excludes"
# The entry of the metadata of items.parquet that names the columns of facts.
COLUMNS_ENTRY = "coldstart_facts"
_BESIDE = " (facts)"


def fact_columns(items: Path) -> list[str]:
    """The columns that `coldstart facts` added to a file of items; none if it is no Parquet file.

    Raises:
        ContractError: the entry of the metadata that names them is damaged.
    """
    if items.suffix.lower() not in (".parquet", ".pq") or not items.is_file():
        return []
    with duckdb.connect() as con:
        entry = con.execute(
            f"SELECT decode(value) FROM parquet_kv_metadata({quote_text(str(items))}) WHERE decode(key) = $1",
            [COLUMNS_ENTRY],
        ).fetchall()
    try:
        names = json.loads(entry[0][0]) if entry else []
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ContractError(f"{items}: the metadata {COLUMNS_ENTRY!r} are damaged; run `coldstart ingest` again")
    return names


def name_beside(name: str) -> str:
    """The column of facts beside a column of the items that has this name already.

    >>> name_beside("audience")
    'audience (facts)'
    """
    return f"{name}{_BESIDE}"


def exclusions(data: Path) -> tuple[tuple[str, str], ...]:
    """The rules of a folder's facts that keep items from users, sorted.

    Args:
        data: the folder of the tables.

    Returns:
        Pairs of a label of users and a label of items, such as ("age=child", "audience=adult"); none without facts.
        Where the items have a column audience of their own, and another one of facts, there is a pair for each.

    Raises:
        ContractError: the file of the facts cannot be read.
    """
    file = tables_of(data).get(FACTS.name) if data.is_dir() else None
    if file is None or (data / "ingest.sql").is_file():
        return ()
    with duckdb.connect() as con:
        read_table(con, file, FACTS.name, None)
        name_columns(con, FACTS)
        subject, predicate, item = (f"trim({name}::VARCHAR)" for name in FACTS.required)
        rows = con.execute(
            f"SELECT DISTINCT {subject}, {item} FROM {FACTS.name} WHERE {predicate} = $1", [EXCLUDES]
        ).fetchall()
    added = tuple(f"{name}=" for name in fact_columns(data / "items.parquet"))
    beside = [(user, _beside(label)) for user, label in rows if _beside(label).startswith(added)]
    return tuple(sorted({*rows, *beside}))


def warn_of_idle(con: duckdb.DuckDBPyConnection, rules: Sequence[tuple[str, str]]) -> None:
    """Warn of exclusions that keep nothing from anybody, because no user, or no item, has their label.

    Args:
        con: a connection with the validated tables users and items.
        rules: see `exclusions`.
    """
    known = {
        table: {label for (label,) in con.execute(f"SELECT DISTINCT unnest({ATTRIBUTES}) FROM {table}").fetchall()}
        for table in ("users", "items")
    }
    idle = dict[str, None]()
    for user, item in rules:
        if user not in known["users"]:
            idle[f"no user has {user!r}"] = None
        if known["items"].isdisjoint({item, _beside(item), item.replace(_BESIDE, "", 1)}):
            idle[f"no item has {item!r}"] = None
    if idle:
        warnings.warn(
            f"rules with the predicate {EXCLUDES} keep nothing: {'; '.join(idle)}. A label is column=value as in the "
            "tables, of a number its band, such as age=2^3; after `coldstart ingest` run `coldstart facts` again",
            ColdStartWarning, stacklevel=2,
        )  # fmt: skip


def _beside(label: str) -> str:
    name, _, value = label.partition("=")
    return f"{name_beside(name)}={value}"
