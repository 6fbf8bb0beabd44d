"""Rankings as tables: items for users, users for items, with the parts of each score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from recommender.data.contract import ITEM_ID, USER_ID
from recommender.data.entities import Entities
from recommender.model.demand import check_level
from recommender.model.explain import sentences
from recommender.model.fitted import Fitted, ItemSide
from recommender.model.ranking import Rules, best, excluded, left_out
from recommender.model.scoring import Block, blocks
from recommender.model.user_side import Scores

WARM, COLD, UNKNOWN = "warm", "cold", "unknown"
# What is added to the score of a pair when users are ranked for an item. Chosen on held-out items of four data sets,
# and on later ones of two. See docs/explanation/helpdesk.md.
_MUCH, _ALIKE = 3.0, 1.0


def recommend(fitted: Fitted, users: Entities, rules: Rules, exclude_seen: bool, explain: bool) -> pd.DataFrame:
    """See `HybridRecommender.recommend`."""
    frames, places = [], []
    items = fitted.all_items
    for start, block in blocks(fitted, users):
        total = block.total(items)
        seen = fitted.seen_by(users.ids[start : start + len(total)]) if exclude_seen else None
        out = left_out(fitted, block.users.entities, seen)
        rows, columns, scores = best(total, rules, out, items.features)
        frame = _frame(block, items, rows, columns, total[rows, columns]).assign(score=scores)
        frame.insert(0, USER_ID, _objects(block.users.entities.ids)[rows])
        frame.insert(2, ITEM_ID, _objects(fitted.items.ids(columns)))
        frame.insert(3, "description", _objects(fitted.items.descriptions(columns)))
        frame["tier"] = tiers(block.users.entities, ~block.users.cold)[rows]
        frames.append(frame)
        places += (start + rows).tolist()
    ranking = pd.concat(frames, ignore_index=True)
    if explain:
        ranking["because"] = sentences(fitted, users, places, ranking[ITEM_ID], rules.linked)
    return ranking


def audience(fitted: Fitted, side: ItemSide, k: int, exclude_seen: bool) -> pd.DataFrame:
    """See `HybridRecommender.audience`."""
    warm = np.flatnonzero(np.diff(fitted.history.whole.indptr))
    total, products, parts_of, starts = [], [], [], []
    for start, block in blocks(fitted, fitted.users.take(warm)):
        total.append(block.total(side))
        products.append(side.features.dot(block.users.direction).T)
        parts_of.append(block)
        starts.append(start)
    n = np.concatenate([block.users.n for block in parts_of])
    active = activity(fitted.trends.activity_of(warm, n), np.concatenate(products)).T
    scores = np.concatenate(total).T + active
    seen = None
    if exclude_seen:
        known = np.flatnonzero(side.rows >= 0)
        choose = sp.csr_matrix(
            (np.ones(len(known), np.float32), (known, side.rows[known])), shape=(len(side), len(fitted.items))
        )
        seen = sp.csr_matrix(choose @ fitted.seen.take(warm).T)
    entities = fitted.entities_of(side)
    if exclusions := fitted.parameters.exclusions:
        turned = [(item, user) for user, item in exclusions]
        kept = excluded(turned, entities.attributes, _rows_with(fitted.users.take(warm).attributes), len(warm))
        seen = seen if kept is None else kept if seen is None else sp.csr_matrix(seen + kept)
    rows, columns, values = best(scores, Rules(k), seen, None)
    parts = [
        _frame(block, side, columns[at] - start, rows[at], values[at] - active[rows[at], columns[at]]).assign(order=at)
        for start, block in zip(starts, parts_of, strict=True)
        for at in [np.flatnonzero((columns >= start) & (columns < start + len(block.users.n)))]
    ]
    frame = pd.concat(parts).sort_values("order", ignore_index=True).drop(columns="order")
    frame["rank"] = _ranks(rows)
    frame["score"] = np.asarray(values, dtype=np.float64)
    frame["activity"] = active[rows, columns].astype(np.float64)
    frame.insert(0, ITEM_ID, _objects(entities.ids)[rows])
    frame.insert(2, USER_ID, _objects(fitted.users.ids(warm[columns])))
    pairs = zip(warm[columns], rows, strict=True)
    frame.insert(3, "bought_alike", [_most_alike(fitted, user, entities.embeddings[item]) for user, item in pairs])
    frame["tier"] = tiers(entities, ~side.cold)[rows]
    return frame


def activity(much: NDArray[np.float32], products: Scores) -> Scores:
    """What ranks the users of one item beside the scores of the pairs.

    A score compares the items of one user: it is in deviations of that user, so it does not say how much a user does at
    all. If p(item | user) is proportional to exp(score), then by Bayes' rule p(user | item) is proportional to
    exp(score)·p(user), and the logarithm of what a user does is to be added. The profile product P_u'ᵀ A x_i is added
    as it is, because it is the ridge regression of what users have done, and so in the same unit for all of them:

        activity = 3·much_u + bent((p_ui - mean_i) / deviation_i), bent(z) = sign(z)·log(1 + |z|)

    Args:
        much: (users,), how much each does lately, as a logarithm (`Trends.activity`).
        products: (users, m), P_u'ᵀ A x_i; mean and deviation are over these users.

    Returns:
        (users, m).
    """
    centred = products - products.mean(axis=0)
    z = centred / np.maximum(products.std(axis=0), 1e-6)
    return np.asarray(_MUCH * much[:, None] + _ALIKE * np.sign(z) * np.log1p(np.abs(z)), dtype=np.float32)


def expected_demand(fitted: Fitted, side: ItemSide, level: float) -> pd.DataFrame:
    """See `HybridRecommender.expected_demand`."""
    check_level(level)  # also where no interval is needed
    counts = np.where(side.rows >= 0, fitted.counts[side.rows], 0)
    predicted = np.flatnonzero(counts == 0)
    numbers = np.repeat(counts[:, None].astype(np.float64), 3, axis=1)
    if len(predicted):
        numbers[predicted] = fitted.known_demand.intervals(fitted.demand_of(side)[predicted], level)
    entities = fitted.entities_of(side)
    return pd.DataFrame({
        ITEM_ID: _objects(entities.ids), "percentile": demand_percentiles(fitted, side), "buyers": numbers[:, 1],
        "low": numbers[:, 0].astype(np.int64), "high": numbers[:, 2].astype(np.int64),
        "tier": tiers(entities, counts > 0),
    })  # fmt: skip


def demand_percentiles(fitted: Fitted, side: ItemSide) -> NDArray[np.float32]:
    """(m,): the place of each item's expected demand among the items with history, from 0 to 100."""
    known, demand = np.sort(fitted.demand[fitted.warm_rows]), fitted.demand_of(side)
    below = np.searchsorted(known, demand, "left") + np.searchsorted(known, demand, "right")
    return np.asarray(below * 50 / len(known), dtype=np.float32)


def _frame(
    block: Block, items: ItemSide, users: NDArray[np.int64], columns: NDArray[np.int64], scores: Scores
) -> pd.DataFrame:
    parts = block.parts(items, users, columns)
    scores = np.asarray(scores, dtype=np.float64)
    history = scores - sum(parts.values())
    return pd.DataFrame(
        {"rank": _ranks(users), "score": scores, "popularity": parts["popularity"], "lightfm": parts["lightfm"],
         "history": history, "text": parts["text"]}
    )  # fmt: skip


def tiers(entities: Entities, warm: NDArray[np.bool_]) -> NDArray[np.object_]:
    """(n,), what is known of users or items, of whom some have a history."""
    known = [bool(text or labels) for text, labels in zip(entities.descriptions, entities.attributes, strict=True)]
    described = np.array(known, dtype=bool) | entities.embeddings.any(axis=1)
    return np.where(warm, WARM, np.where(described, COLD, UNKNOWN)).astype(object)


def _most_alike(fitted: Fitted, user: int, embedding: Vectors) -> str:
    """The description, of the items in a user's history, that is nearest to an embedding."""
    rows = fitted.history.take(np.array([user])).indices
    return fitted.items.descriptions(rows)[int(np.argmax(fitted.items.embeddings.take(rows) @ embedding))]


def _ranks(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """1, 2, … within each run of equal rows."""
    first = np.concatenate([[True], rows[1:] != rows[:-1]]) if len(rows) else np.zeros(0, bool)
    starts = np.flatnonzero(first)
    return np.arange(len(rows)) - np.repeat(starts, np.diff([*starts, len(rows)])) + 1


def _rows_with(labels: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, names in enumerate(labels):
        for name in dict.fromkeys(names):
            found.setdefault(name, []).append(row)
    return found


def _objects(values: Sequence[str]) -> NDArray[np.object_]:
    found = np.empty(len(values), dtype=object)
    found[:] = list(values)
    return found
