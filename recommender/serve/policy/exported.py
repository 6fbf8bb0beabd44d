"""Read decisions and what they earned from an export of the event log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
        table = con.sql(
            f"SELECT {', '.join(_COLUMNS)} FROM {EXPLORATIONS} ORDER BY event_timestamp, recommendation_id, position"
        ).to_arrow_table()
        newest, cited = None, []
        if files[EVENTS]:
            ((newest,),) = con.execute(f"SELECT max(event_timestamp) FROM {EVENTS}").fetchall()
            cited = con.execute(
                f"SELECT recommendation_id, item_id, event_timestamp, event_type FROM {EVENTS} "
                f"SEMI JOIN {EXPLORATIONS} USING (recommendation_id, item_id)"
            ).fetchall()
    return earned(_decisions(table), cited, rewards, window, newest)


def _decisions(table: pa.Table) -> list[Decision]:
    plain = {name: table[name].to_pylist() for name in _COLUMNS if name not in ("probabilities", "contexts")}
    # Numbers stay arrays: as Python's own they would take ten times the memory.
    contexts = table["contexts"].combine_chunks()
    numbers = [_pieces(table["probabilities"].combine_chunks()), _pieces(contexts.flatten(), contexts)]
    return [
        Decision(name, user, at, position, item, tuple(items), np.asarray(p, np.float64),
                 _matrix(name, values, len(items)), policy)
        for name, user, at, position, item, items, policy, p, values in zip(*plain.values(), *numbers, strict=True)
    ]  # fmt: skip


def _pieces(lists: pa.ListArray, of: pa.ListArray | None = None) -> list[NDArray[np.floating[Any]]]:
    """The numbers of each list; of the lists in each list of `of`, one after the other."""
    ends = np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))
    if of is not None:
        counts = np.cumsum(of.value_lengths().to_numpy(zero_copy_only=False))
        ends = np.concatenate([[0], ends])[counts]
    return np.split(lists.flatten().to_numpy(zero_copy_only=False), ends[:-1]) if len(ends) else []


def _matrix(name: str, values: NDArray[np.floating[Any]], rows: int) -> NDArray[np.float32]:
    if not rows or len(values) % rows:
        raise ColdStartError(
            f"the contexts of {name!r} have {len(values)} numbers for {rows} candidates, which are to have the same "
            "number each; export it again"
        )
    return np.asarray(values, np.float32).reshape(rows, -1)
