"""Returns and removals: which earlier events they take back."""

from __future__ import annotations

import duckdb

from recommender.data.contract import (
    CART_REMOVAL,
    EVENT_TYPE,
    FAINT,
    ITEM_ID,
    RETURN,
    RETURNED,
    TAKE_BACK,
    TIMESTAMP,
    USER_ID,
    WEIGHT,
    WISHLIST_REMOVAL,
)
from recommender.data.event_types import kind_of

_REMOVALS = {CART_REMOVAL: "cart", WISHLIST_REMOVAL: "wishlist"}


def take_back(con: duckdb.DuckDBPyConnection) -> None:
    """Set `returned` of normalised interactions to the time at which each event was taken back.

    - A return takes back the last purchase of its user and item that is not returned yet. If no purchase is left, it
      also takes back the views, carts and searches before it. Every type counts as a purchase that is neither in
      `FAINT` nor in `TAKE_BACK`, nor another name of a type in `FAINT`.
    - A removal from the cart, or from the wishlist, takes back the last such event of its user and item after their
      last purchase that is not taken back yet. It never takes back a purchase.

    Returns and removals without such an event have no effect.
    """
    found = {name for (name,) in con.execute(f"SELECT DISTINCT {EVENT_TYPE} FROM interactions").fetchall()}
    faint = sorted(name for name in found if (kind_of(name) or name) in FAINT)
    if RETURN in found:
        _update(con, f"""
            WITH numbered AS (
                SELECT rowid AS id, {USER_ID}, {ITEM_ID}, {TIMESTAMP} AS moment, 0 AS part,
                    CASE WHEN {EVENT_TYPE} = '{RETURN}' THEN -1 WHEN {EVENT_TYPE} IN $1 THEN 0 ELSE 1 END AS step,
                    row_number() OVER (
                        PARTITION BY {USER_ID}, {ITEM_ID}
                        ORDER BY {TIMESTAMP}, {EVENT_TYPE} = '{RETURN}', {WEIGHT}, {EVENT_TYPE}
                    ) AS number
                FROM interactions
                SEMI JOIN (SELECT {USER_ID}, {ITEM_ID} FROM interactions WHERE {EVENT_TYPE} = '{RETURN}') AS returns
                    USING ({USER_ID}, {ITEM_ID})
                WHERE {EVENT_TYPE} NOT IN {TAKE_BACK[1:]}
            ),
            {_PAIRED}
            UNION ALL
            SELECT id, min(CASE WHEN step = -1 AND depth = 0 THEN moment END) OVER (
                PARTITION BY {USER_ID}, {ITEM_ID} ORDER BY number ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
            )
            FROM deep QUALIFY step = 0
        """, [faint])  # fmt: skip
    for removal, kind in _REMOVALS.items():
        added = sorted(name for name in found if kind_of(name) == kind)
        if removal in found:
            _update(con, f"""
                WITH ordered AS (
                    SELECT rowid AS id, {USER_ID}, {ITEM_ID}, {TIMESTAMP} AS moment,
                        CASE WHEN {EVENT_TYPE} = '{removal}' THEN -1 WHEN {EVENT_TYPE} IN $1 THEN 1 ELSE 0 END AS step,
                        row_number() OVER (
                            PARTITION BY {USER_ID}, {ITEM_ID}
                            ORDER BY {TIMESTAMP}, step = 0, step = -1, {WEIGHT}, {EVENT_TYPE}
                        ) AS number
                    FROM interactions
                    SEMI JOIN (SELECT {USER_ID}, {ITEM_ID} FROM interactions WHERE {EVENT_TYPE} = '{removal}') AS these
                        USING ({USER_ID}, {ITEM_ID})
                    WHERE {EVENT_TYPE} = '{removal}' OR {EVENT_TYPE} IN $1
                        OR NOT ({EVENT_TYPE} IN $2 OR {EVENT_TYPE} IN {TAKE_BACK})
                ),
                -- A purchase (step 0) begins a new part: what was added before has led to it, and stays.
                numbered AS (
                    SELECT *, sum((step = 0)::INTEGER) OVER (PARTITION BY {USER_ID}, {ITEM_ID} ORDER BY number) AS part
                    FROM ordered
                ),
                {_PAIRED}
            """, [added, faint])  # fmt: skip


# A return or removal (step -1) ends the last event (step 1) that none has ended yet. The depth is the number of such
# events. An event that raises the depth to d is ended by the next step that lowers the depth from d.
_PAIRED = f"""
    summed AS (
        SELECT *, sum(step) OVER (PARTITION BY {USER_ID}, {ITEM_ID}, part ORDER BY number) AS total FROM numbered
    ),
    -- A return without a purchase has no effect: the depth does not fall below zero.
    deep AS (
        SELECT *, total - least(0, min(total) OVER (PARTITION BY {USER_ID}, {ITEM_ID}, part ORDER BY number)) AS depth
        FROM summed
    ),
    levels AS (
        SELECT *, greatest(depth, lag(depth, 1, 0) OVER (PARTITION BY {USER_ID}, {ITEM_ID}, part ORDER BY number))
            AS level
        FROM deep
    )
    SELECT id, lead(moment) OVER (PARTITION BY {USER_ID}, {ITEM_ID}, part, level ORDER BY number) AS moment
    FROM levels WHERE step <> 0 AND level > 0
    QUALIFY step = 1
"""


def _update(con: duckdb.DuckDBPyConnection, query: str, values: list[list[str]]) -> None:
    con.execute(f"CREATE TEMP TABLE taken AS {query}", values)
    con.execute(
        f"UPDATE interactions SET {RETURNED} = least({RETURNED}, taken.moment) FROM taken "
        "WHERE interactions.rowid = taken.id"
    )
    con.execute("DROP TABLE taken")
