"""What `coldstart facts` leaves in the folder of the tables: columns of items, and rules between labels."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import duckdb

from coldstart_udfs.errors import ColdStartWarning
from coldstart_udfs.quoting import quote_text
from recommender.data.contract import ATTRIBUTES, FACTS, ContractError, name_columns
from recommender.data.raw_files import read_table, tables_of

EXCLUDES, IMPLIES = "excludes", "implies"
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

    A label that implies an excluded one is excluded too, so that a rule holds for items that `coldstart facts` has not
    seen, such as those of `coldstart put`.

    Args:
        data: the folder of the tables.

    Returns:
        Pairs of a label of users and a label of items, such as ("age=child", "audience=adult"); none without facts.
        Where the items have a column audience of their own, and another one of facts, there is a pair for each.

    Raises:
        ContractError: the file of the facts cannot be read.
    """
    added = tuple(f"{name}=" for name in fact_columns(data / "items.parquet"))
    return tuple(sorted({
        (user, label)
        for user, labels in _excluded(data).items() for found in labels.values() for label in found
        if label in labels or not label.partition("=")[0].endswith(_BESIDE) or label.startswith(added)
    }))  # fmt: skip


def warn_of_idle(con: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Warn of exclusions that keep nothing from anybody, because no user, or no item, has their label.

    Args:
        con: a connection with the validated tables users and items.
        data: the folder of the tables.
    """
    excluded = _excluded(data)
    if not excluded:
        return
    users, items = (
        {label for (label,) in con.execute(f"SELECT DISTINCT unnest({ATTRIBUTES}) FROM {table}").fetchall()}
        for table in ("users", "items")
    )
    idle = dict[str, None]()
    for user, labels in excluded.items():
        if user not in users:
            idle[f"no user has {user!r}"] = None
        idle |= {f"no item has {label!r}": None for label, found in labels.items() if items.isdisjoint(found)}
    if idle:
        warnings.warn(
            f"rules with the predicate {EXCLUDES} keep nothing: {'; '.join(idle)}. A label is column=value as in the "
            "tables, of a number its band, such as age=2^3; after `coldstart ingest` run `coldstart facts` again",
            ColdStartWarning, stacklevel=2,
        )  # fmt: skip


def _excluded(data: Path) -> dict[str, dict[str, set[str]]]:
    """By label of users, the labels of items that rules exclude; and for each all labels that lead to it."""
    file = tables_of(data).get(FACTS.name) if data.is_dir() else None
    if file is None or (data / "ingest.sql").is_file():
        return {}
    with duckdb.connect() as con:
        read_table(con, file, FACTS.name, None)
        name_columns(con, FACTS)
        subject, predicate, item = (f"trim({name}::VARCHAR)" for name in FACTS.required)
        rows: list[tuple[str, str, str]] = con.execute(
            f"SELECT DISTINCT {subject}, {predicate}, {item} FROM {FACTS.name} WHERE {predicate} IN ($1, $2) "
            "ORDER BY ALL",
            [EXCLUDES, IMPLIES],
        ).fetchall()
    implied_by: dict[str, set[str]] = {}
    for label, rule, implied in rows:
        if rule == IMPLIES:
            implied_by.setdefault(implied, set()).add(label)
    found: dict[str, dict[str, set[str]]] = {}
    for user, rule, label in rows:
        if rule == EXCLUDES:
            waiting, seen = [label], set[str]()
            while waiting:
                one = waiting.pop()
                if one not in seen:
                    seen |= {one, _beside(one)}
                    waiting += implied_by.get(one, ())
            found.setdefault(user, {})[label] = seen
    return found


def _beside(label: str) -> str:
    name, _, value = label.partition("=")
    return f"{name_beside(name)}={value}"
