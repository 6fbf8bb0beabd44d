"""What `coldstart facts` leaves in the folder of the tables: columns of items, and rules between labels."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb

from coldstart_udfs.quoting import quote_text
from recommender.data.contract import FACTS, ContractError, name_columns
from recommender.data.raw_files import read_table, tables_of

EXCLUDES = "excludes"
# The entry of the metadata of items.parquet that names the columns of facts.
COLUMNS_ENTRY = "coldstart_facts"


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
    return f"{name} (facts)"


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
    added = set(fact_columns(data / "items.parquet"))
    found = set(rows)
    for user, label in rows:
        name, _, value = label.partition("=")
        if name_beside(name) in added:
            found.add((user, f"{name_beside(name)}={value}"))
    return tuple(sorted(found))
