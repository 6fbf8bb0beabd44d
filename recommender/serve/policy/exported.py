"""Read decisions and what they earned from an export of the event log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.quoting import quote_text
from recommender.data.exported import EVENTS
from recommender.serve.policy.decisions import Decision
from recommender.serve.policy.rewards import Explored, earned

EXPLORATIONS = "explorations"
_COLUMNS = ("recommendation_id", "user_id", "event_timestamp", "position", "item_id", "items", "probabilities",
            "contexts", "policy")  # fmt: skip


def from_export(folder: Path, rewards: Mapping[str, float], window: timedelta) -> Explored:
    """Read the decisions of an export, oldest first, with what they earned; see `earned`.

    Args:
        folder: of `coldstart events export`.
        rewards: of event types.
        window: how long after a decision an event counts.

    Raises:
        ColdStartError: there is no export with decisions, or its files have other columns.
    """
    files = {name: sorted((folder / name).glob("day=*/*.parquet")) for name in (EXPLORATIONS, EVENTS)}
    if not files[EXPLORATIONS]:
        raise ColdStartError(
            f"{folder}/{EXPLORATIONS} has no decisions; run `coldstart events export {folder}` for a service that "
            "explores (`coldstart serve --explore 0.1`)"
        )
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        for name, found in files.items():
            paths = ", ".join(quote_text(str(path)) for path in found)
            if found:
                con.execute(f"CREATE VIEW {name} AS FROM read_parquet([{paths}], hive_partitioning = false)")
        columns = {row[0] for row in con.execute(f"DESCRIBE {EXPLORATIONS}").fetchall()}
        if missing := [name for name in _COLUMNS if name not in columns]:
            raise ColdStartError(f"{folder}/{EXPLORATIONS} lacks the columns {', '.join(missing)}; export it again")
        rows = con.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM {EXPLORATIONS} ORDER BY event_timestamp, recommendation_id, position"
        ).fetchall()
        newest, cited = None, []
        if files[EVENTS]:
            ((newest,),) = con.execute(f"SELECT max(event_timestamp) FROM {EVENTS}").fetchall()
            cited = con.execute(
                f"SELECT recommendation_id, item_id, event_timestamp, event_type FROM {EVENTS} "
                f"SEMI JOIN {EXPLORATIONS} USING (recommendation_id, item_id)"
            ).fetchall()
    return earned([_decision(row) for row in rows], cited, rewards, window, newest)


def _decision(row: Sequence[Any]) -> Decision:
    name, user, at, position, item, items, probabilities, contexts, policy = row
    try:
        known = np.array(contexts, dtype=np.float32).reshape(len(items), -1)
    except ValueError:
        raise ColdStartError(
            f"the decision of {name!r}, position {position}, has contexts of different lengths, or not one for each of "
            f"its {len(items)} candidates; export it again"
        ) from None
    return Decision(name, user, at, position, item, tuple(items), np.array(probabilities, np.float64), known, policy)
