"""Made-up explored places: what was drawn, what it earned, and their export."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from recommender.serve.policy.decisions import Decision
from recommender.serve.policy.rewards import Explored

DAY = datetime(2026, 3, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
ITEMS = ("lamp", "pot", "rug")


def decision(
    number: int, drawn: str = "lamp", p: Sequence[float] = (0.5, 0.3, 0.2), user: str | None = None, **rest: Any
) -> Decision:
    """The score of the recommender is the context's first column, falling; the second says lamp."""
    given = {
        "recommendation_id": f"r{number}", "user_id": f"u{number}" if user is None else user,
        "at": DAY + timedelta(hours=number), "position": 3, "item_id": drawn, "items": ITEMS,
        "probabilities": np.array(p), "contexts": np.array([[3, 1], [2, 0], [1, 0]], np.float32),
        "policy": "thompson/1",
    }  # fmt: skip
    return Decision(**given | rest)


def drawn(count: int, seed: int = 0) -> Explored:
    """Decisions by their probabilities; lamps are bought in 40 % of the cases, rugs in 20 %, pots never."""
    rng = np.random.default_rng(seed)
    decisions = [decision(number, ITEMS[rng.choice(3, p=(0.5, 0.3, 0.2))]) for number in range(count)]
    chances = {"lamp": 0.4, "pot": 0.0, "rug": 0.2}
    return Explored(decisions, [float(rng.random() < chances[one.item_id]) for one in decisions])


def write_export(folder: Path, explored: Explored, event_type: str = "purchase") -> None:
    """An export as `coldstart events export` writes it, each reward an event a day after the decision."""
    events = [
        {"recommendation_id": one.recommendation_id, "item_id": one.item_id, "event_type": event_type,
         "event_timestamp": one.at + timedelta(days=1)}
        for one, reward in zip(explored.decisions, explored.rewards, strict=True) if reward
    ]  # fmt: skip
    # An event of somebody else, which says that the log goes on.
    events.append(
        {"recommendation_id": None, "item_id": "rug", "event_type": "view", "event_timestamp": DAY + 50 * WEEK}
    )
    rows = [
        vars(one) | {"event_timestamp": one.at, "items": list(one.items), "probabilities": one.probabilities.tolist(),
                     "contexts": [list(map(float, context)) for context in one.contexts]}
        for one in explored.decisions
    ]  # fmt: skip
    types = pa.schema({
        "recommendation_id": pa.string(), "user_id": pa.string(), "event_timestamp": pa.timestamp("us", "UTC"),
        "position": pa.int32(), "item_id": pa.string(), "items": pa.list_(pa.string()),
        "probabilities": pa.list_(pa.float64()), "contexts": pa.list_(pa.list_(pa.float32())), "policy": pa.string(),
    })  # fmt: skip
    with duckdb.connect() as con:
        for name, table in (
            ("explorations", pa.Table.from_pylist([{name: row[name] for name in types.names} for row in rows], types)),
            ("interactions", pa.Table.from_pylist(events)),
        ):
            for day in ("2026-03-01", "2026-03-02"):  # which day is which does not matter to a reader
                place = folder / name / f"day={day}"
                place.mkdir(parents=True)
                half = table.slice(0, len(table) // 2) if day < "2026-03-02" else table.slice(len(table) // 2)
                con.register("half", half)
                con.execute(f"COPY half TO '{place / 'rows.parquet'}' (FORMAT parquet)")
