"""Read campaigns: what each promoted, who was contacted, and who responded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.quoting import quote_name
from coldstart_udfs.tabular import kind_of
from recommender.data.contract import DESCRIPTION, ITEM_ID, USER_ID, ContractError, count
from recommender.data.raw_files import read_table, tables_of

CAMPAIGN_ID, STARTS, ENDS, RESPONDED = "campaign_id", "starts", "ends", "responded"
CAMPAIGNS, CAMPAIGN_ITEMS, CONTACTS = "campaigns", "campaign_items", "contacts"
TABLES = (CAMPAIGNS, CAMPAIGN_ITEMS, CONTACTS)
_REQUIRED = {
    CAMPAIGNS: (CAMPAIGN_ID, STARTS, ENDS),
    CAMPAIGN_ITEMS: (CAMPAIGN_ID, ITEM_ID),
    CONTACTS: (CAMPAIGN_ID, USER_ID, RESPONDED),
}
_SHOWN = 3
_LACKS = " (add it there, or delete the rows here)"

Moments = NDArray[np.datetime64]


@dataclass(frozen=True)
class Campaign:
    """One campaign.

    Attributes:
        campaign_id: its id.
        starts: when its users are contacted, UTC.
        ends: until when they can respond, UTC.
        texts: the distinct descriptions of what it promotes, and its own.
        users: the ids of those who are contacted; none before they are chosen.
        responded: (users,) when each of them responded first, NaT for nobody.
    """

    campaign_id: str
    starts: np.datetime64
    ends: np.datetime64
    texts: tuple[str, ...]
    users: tuple[str, ...]
    responded: Moments


def read_campaigns(con: duckdb.DuckDBPyConnection, folder: Path) -> list[Campaign]:
    """Return the campaigns of a folder, in the order in which they start.

    Args:
        con: a connection filled by `recommender.data.tables.load`; the tables are added to it.
        folder: contains the tables campaigns (campaign_id, starts, ends, description), contacts (campaign_id, user_id,
            responded) and campaign_items (campaign_id, item_id), in any format of the data contract. A campaign needs
            items or a description. `responded` is the time of the first response, NULL for none. A date in `ends` is a
            whole day.

    Raises:
        ContractError: a table is missing or breaks these rules; one line for each breach names the file, the column,
            the number of rows and the first three.
    """
    if not folder.is_dir():
        raise ContractError(
            f"{folder} is not a folder; pass the folder of the tables {CAMPAIGNS}, {CONTACTS} and {CAMPAIGN_ITEMS}"
        )
    files = tables_of(folder)
    missing = [name for name in (CAMPAIGNS, CONTACTS) if name not in files]
    if missing:
        found = sorted(path.name for path in folder.iterdir() if kind_of(path))
        raise ContractError(
            f"{folder}: no table {', '.join(missing)}; the folder contains {found or 'no file that can be read'}. Add "
            f"{CAMPAIGNS} ({', '.join(_REQUIRED[CAMPAIGNS])}) and {CONTACTS} ({', '.join(_REQUIRED[CONTACTS])})"
        )
    origins = {name: files[name] for name in _REQUIRED if name in files}
    for name, path in origins.items():
        read_table(con, path, name, None)
        _check_columns(con, name, path)
    if CAMPAIGN_ITEMS not in origins:
        con.execute(f"CREATE TABLE {CAMPAIGN_ITEMS} ({CAMPAIGN_ID} VARCHAR, {ITEM_ID} VARCHAR)")
    if DESCRIPTION not in con.table(CAMPAIGNS).columns:
        con.execute(f"ALTER TABLE {CAMPAIGNS} ADD COLUMN {DESCRIPTION} VARCHAR")
    for names in ((CAMPAIGNS,), (CAMPAIGN_ITEMS, CONTACTS)):  # the others are compared with the campaigns
        breaches = [line for name in names if name in origins for line in _breaches(con, name, origins[name])]
        if breaches:
            raise ContractError("\n".join(breaches))
    return _campaigns(con)


def _check_columns(con: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    lacking = [column for column in _REQUIRED[name] if column not in con.table(name).columns]
    if lacking:
        raise ContractError(
            f"{path}: column {lacking[0]!r} is missing; the columns are {sorted(con.table(name).columns)}, and "
            f"{', '.join(_REQUIRED[name])} are needed"
        )


def _breaches(con: duckdb.DuckDBPyConnection, name: str, path: Path) -> list[str]:
    """The breaches of one table, which is changed so that ids are VARCHAR and moments TIMESTAMP."""
    lines: list[str] = []

    def refuse(column: str, condition: str, what: str, source: str = name) -> None:
        rows = count(con, f"SELECT count(*) FROM {source} WHERE {condition}")
        if rows:
            values = f"SELECT DISTINCT {quote_name(column)}::VARCHAR FROM {source} WHERE {condition}"
            first = con.execute(f"{values} ORDER BY 1 LIMIT {_SHOWN}").fetchall()
            shown = ", ".join("NULL" if value is None else repr(value) for (value,) in first)
            lines.append(f"{path}: column {column!r}: {what} in {rows:,} {'row' if rows == 1 else 'rows'}: {shown}")

    ids = [column for column in _REQUIRED[name] if column in (CAMPAIGN_ID, USER_ID, ITEM_ID)]
    for column in ids:
        con.execute(f"ALTER TABLE {name} ALTER {column} TYPE VARCHAR")
        refuse(column, f"{column} IS NULL OR trim({column}) = ''", "no id")
    for column in _REQUIRED[name]:
        if column in (STARTS, ENDS, RESPONDED):
            unread = f"{column} IS NOT NULL AND TRY_CAST({column} AS TIMESTAMPTZ) IS NULL"
            refuse(column, unread, "no time such as 2026-03-31")
            if column != RESPONDED:
                refuse(column, f"{column} IS NULL", "no time")
    if lines:
        return lines
    if name == CAMPAIGNS:
        _times(con, name, STARTS, ENDS)
        refuse(ENDS, f"{ENDS} <= {STARTS}", "a time that is not after the start")
        refuse(CAMPAIGN_ID, "n > 1", "an id that occurs before", _counted(CAMPAIGNS, CAMPAIGN_ID))
        promoted = f"{CAMPAIGN_ID} IN (SELECT {CAMPAIGN_ID}::VARCHAR FROM {CAMPAIGN_ITEMS})"
        refuse(CAMPAIGN_ID, f"NOT {promoted} AND trim(coalesce({DESCRIPTION}::VARCHAR, '')) = ''",
               f"neither items in {CAMPAIGN_ITEMS} nor a description")  # fmt: skip
        return lines
    unknown = f"{CAMPAIGN_ID} NOT IN (SELECT {CAMPAIGN_ID} FROM {CAMPAIGNS})"
    refuse(CAMPAIGN_ID, unknown, f"an id that {CAMPAIGNS} lacks{_LACKS}")
    if name == CAMPAIGN_ITEMS:
        refuse(ITEM_ID, f"{ITEM_ID} NOT IN (SELECT {ITEM_ID} FROM items)", f"an id that the table items lacks{_LACKS}")
        return lines
    _times(con, name, RESPONDED)
    refuse(USER_ID, f"{USER_ID} NOT IN (SELECT {USER_ID} FROM users)", f"an id that the table users lacks{_LACKS}")
    refuse(USER_ID, "n > 1", "a user who occurs twice in a campaign", _counted(CONTACTS, f"{CAMPAIGN_ID}, {USER_ID}"))
    times = f"(SELECT {CAMPAIGN_ID}, {STARTS}, {ENDS} FROM {CAMPAIGNS})"
    refuse(RESPONDED, f"{RESPONDED} < {STARTS} OR {RESPONDED} >= {ENDS}", "a time outside the campaign",
           f"(FROM {CONTACTS} JOIN {times} USING ({CAMPAIGN_ID}))")  # fmt: skip
    return lines


def _times(con: duckdb.DuckDBPyConnection, table: str, *columns: str) -> None:
    """Make TIMESTAMPs of columns, in UTC; the date in `ends` becomes the moment after its day."""
    for column in columns:
        # A text is cast to TIMESTAMP without its offset.
        moment = f"{column}::TIMESTAMPTZ::TIMESTAMP"
        if column == ENDS:
            moment = (
                f"CASE WHEN {moment} = date_trunc('day', {moment}) THEN {moment} + INTERVAL 1 DAY ELSE {moment} END"
            )
        con.execute(f"ALTER TABLE {table} ALTER {column} TYPE TIMESTAMP USING {moment}")


def _counted(table: str, keys: str) -> str:
    return f"(SELECT *, row_number() OVER (PARTITION BY {keys}) AS n FROM {table})"


def _campaigns(con: duckdb.DuckDBPyConnection) -> list[Campaign]:
    texts: dict[str, list[str]] = {}
    contacts: dict[str, list[tuple[str, object]]] = {}
    for campaign, text in con.execute(f"""
        SELECT DISTINCT {CAMPAIGN_ID}, {DESCRIPTION} FROM {CAMPAIGN_ITEMS} JOIN items USING ({ITEM_ID})
        UNION SELECT {CAMPAIGN_ID}, {DESCRIPTION}::VARCHAR FROM {CAMPAIGNS} ORDER BY ALL
    """).fetchall():
        if text is not None and text.strip():
            texts.setdefault(campaign, []).append(text)
    query = f"SELECT {CAMPAIGN_ID}, {USER_ID}, {RESPONDED} FROM {CONTACTS} ORDER BY ALL"
    for campaign, user, responded in con.execute(query).fetchall():
        contacts.setdefault(campaign, []).append((user, responded))
    found = []
    rows = con.execute(
        f"SELECT {CAMPAIGN_ID}, {STARTS}, {ENDS} FROM {CAMPAIGNS} ORDER BY {STARTS}, {CAMPAIGN_ID}"
    ).fetchall()
    for campaign, starts, ends in rows:
        pairs = contacts.get(campaign, [])
        found.append(Campaign(
            campaign, np.datetime64(starts, "us"), np.datetime64(ends, "us"), tuple(texts.get(campaign, ())),
            tuple(user for user, _ in pairs), np.array([moment for _, moment in pairs], "datetime64[us]"),
        ))  # fmt: skip
    return found
