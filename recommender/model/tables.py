"""Rankings as tables: what for whom, whom for what, with the parts of each score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from recommender.data.contract import ITEM_ID, USER_ID
from recommender.data.entities import Entities
from recommender.model.ranking import Rules, best
from recommender.model.scoring import Block, ItemSide, Scores

if TYPE_CHECKING:
    from recommender.model.recommender import HybridRecommender

WARM, COLD, UNKNOWN = "warm", "cold", "unknown"


def recommend(
    model: HybridRecommender, asked: Entities, rules: Rules, exclude_seen: bool, explain: bool
) -> pd.DataFrame:
    """See `HybridRecommender.recommend`."""
    frames, places = [], []
    for start, block in model.blocks(asked):
        total = block.total(model, model.all_items)
        seen = model.seen_by(asked.ids[start : start + len(total)]) if exclude_seen else None
        rows, columns, scores = best(total, rules, seen, model.all_items.columns)
        frame = _frame(model, block, model.all_items, rows, columns, total[rows, columns]).assign(score=scores)
        frame.insert(0, USER_ID, _objects(block.users.entities.ids)[rows])
        frame.insert(2, ITEM_ID, _objects(model.items.ids)[columns])
        frame.insert(3, "description", _objects(model.items.descriptions)[columns])
        frame["rung"] = _rungs(block.users.entities, ~block.users.cold)[rows]
        frames.append(frame)
        places += (start + rows).tolist()
    ranking = pd.concat(frames, ignore_index=True)
    if explain:
        from recommender.model.explain import sentences

        ranking["because"] = sentences(model, asked, places, ranking[ITEM_ID])
    return ranking


def audience(model: HybridRecommender, side: ItemSide, k: int, exclude_seen: bool) -> pd.DataFrame:
    """See `HybridRecommender.audience`."""
    warm = np.flatnonzero(np.diff(model.history.indptr))
    total, blocks, starts = [], [], []
    for start, block in model.blocks(model.users.take(warm)):
        total.append(block.total(model, side))
        blocks.append(block)
        starts.append(start)
    scores = np.concatenate(total).T
    seen = None
    if exclude_seen:
        known = np.flatnonzero(side.rows >= 0)
        choose = sp.csr_matrix(
            (np.ones(len(known), np.float32), (known, side.rows[known])), shape=(len(side), len(model.items))
        )
        seen = sp.csr_matrix(choose @ model.seen[warm].T)
    rows, columns, values = best(scores, Rules(k), seen, None)
    parts = [
        _frame(model, block, side, columns[at] - start, rows[at], values[at]).assign(order=at)
        for start, block in zip(starts, blocks, strict=True)
        for at in [np.flatnonzero((columns >= start) & (columns < start + len(block.tastes)))]
    ]
    frame = pd.concat(parts).sort_values("order", ignore_index=True).drop(columns="order")
    frame["rank"] = _ranks(rows)
    frame.insert(0, ITEM_ID, _objects(side.entities.ids)[rows])
    frame.insert(2, USER_ID, _objects(model.users.ids)[warm[columns]])
    alike = [_alike(model, warm[user], side.entities.embeddings[item])
             for user, item in zip(columns, rows, strict=True)]  # fmt: skip
    frame.insert(3, "bought_alike", alike)
    frame["rung"] = _rungs(side.entities, ~side.cold)[rows]
    return frame


def _frame(
    model: HybridRecommender, block: Block, items: ItemSide, users: NDArray[np.int64], columns: NDArray[np.int64],
    scores: Scores,
) -> pd.DataFrame:
    parts = block.parts(model, items, users, columns)
    scores = np.asarray(scores, dtype=np.float64)
    history = scores - sum(parts.values())
    return pd.DataFrame(
        {"rank": _ranks(users), "score": scores, "popularity": parts["popularity"], "lightfm": parts["lightfm"],
         "history": history, "words": parts["words"]}
    )  # fmt: skip


def _rungs(entities: Entities, warm: NDArray[np.bool_]) -> NDArray[np.object_]:
    known = [bool(text or labels) for text, labels in zip(entities.descriptions, entities.attributes, strict=True)]
    told = np.array(known, dtype=bool) | entities.embeddings.any(axis=1)
    return np.where(warm, WARM, np.where(told, COLD, UNKNOWN)).astype(object)


def _alike(model: HybridRecommender, user: int, embedding: Vectors) -> str:
    done = model.history.indices[model.history.indptr[user] : model.history.indptr[user + 1]]
    return str(model.items.descriptions[done[np.argmax(model.items.embeddings[done] @ embedding)]])


def _ranks(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """1, 2, … within each run of equal rows."""
    first = np.concatenate([[True], rows[1:] != rows[:-1]]) if len(rows) else np.zeros(0, bool)
    starts = np.flatnonzero(first)
    return np.arange(len(rows)) - np.repeat(starts, np.diff([*starts, len(rows)])) + 1


def _objects(values: Sequence[str]) -> NDArray[np.object_]:
    found = np.empty(len(values), dtype=object)
    found[:] = list(values)
    return found
