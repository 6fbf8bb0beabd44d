"""Change what is known without training: other descriptions, interactions that are taken back, users who are erased."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.model.fitted import Fitted
from recommender.model.freshness import Moments
from recommender.model.known import KnownEntities
from recommender.model.lightfm import FeatureSpace
from recommender.model.rows import SparseRows
from recommender.model.updating import updated

# What is left of a weight after rounding, as a share of it.
_ROUNDING = 1e-5


def described(
    fitted: Fitted, side: Literal["user", "item"], told: Entities, came: Moments | None = None
) -> Fitted:
    """The state with these descriptions, attributes and embeddings, of known users or items and of new ones.

    Profiles stay: those of users who had interacted with an item before hold its earlier embedding until the next fit.
    New items came at `came`, (n,) datetime64; other words do not make an item new.
    """
    known = fitted.users if side == "user" else fitted.items
    rows = known.rows(told.ids)
    old, new = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
    before, after = known.take(rows[old]), told.take(old)
    other = (before.embeddings != after.embeddings).any(axis=1)
    texts = zip(before.descriptions, before.attributes, after.descriptions, after.attributes, strict=True)
    other |= np.array([(text, *labels) != (said, *named) for text, labels, said, named in texts], dtype=bool)
    old = old[other]  # a shop may send its whole catalogue each night; what has not changed costs nothing
    if len(old):
        name = f"{side}s"
        state = fitted.changed(stale=(name,), **{name: known.redescribed(rows[old], told.take(old))})
        if side == "item":
            state.prepare_as(fitted, rows[old])
        fitted = state
    if len(new):
        entities = told.take(new)
        nobody = Entities.nothing([], told.embeddings.shape[1], told.fingerprint)
        users, items = (entities, nobody) if side == "user" else (nobody, entities)
        none = Interactions(
            users.ids, items.ids, *(np.zeros(0, np.int64),) * 2, np.zeros(0, "datetime64[us]"), np.zeros(0, np.float32)
        )
        fitted = updated(fitted, none, users, items, none)
        if side == "item" and came is not None:
            rows = fitted.items.rows(entities.ids)
            fitted = fitted.changed(births=fitted.births.born(rows, came[new]))
    return fitted


def taken_back(
    fitted: Fitted, users: NDArray[np.int64], items: NDArray[np.int64], weights: NDArray[np.float32],
    events: NDArray[np.int64],
) -> Fitted:
    """The state without some interactions; they stay seen.

    Histories, profiles of users, evidence and the number of buyers follow. Profiles of items are means over buyers,
    and stay until the next fit.

    Args:
        fitted: the state.
        users: (n,) rows of users.
        items: (n,) rows of items.
        weights: (n,) what is subtracted from the weight of each pair, down to 0 at most.
        events: (n,) by how many interactions the evidence of user and item falls, down to 0 at most.
    """
    rows, place = np.unique(users, return_inverse=True)
    before = fitted.history.take(rows).tocsr()
    shape = before.shape
    wanted = sp.csr_matrix((weights, (place, items)), shape=shape, dtype=np.float32)
    after = before - before.minimum(wanted)
    after.data[after.data <= _ROUNDING * np.asarray(before[after.nonzero()]).ravel()] = 0
    after.eliminate_zeros()
    removed = before - after
    left = np.diff(after.indptr) > 0
    columns, item_place = np.unique(items, return_inverse=True)
    vectors = fitted.items.embeddings.take(columns)
    counted = np.where(np.asarray(vectors.any(axis=1))[item_place], events, 0)
    profiles = fitted.users.profiles.take(rows) - removed[:, columns] @ vectors
    of_users = fitted.users.evidence.take(rows) - np.bincount(place, counted, len(rows))
    of_items = fitted.items.evidence.take(columns) - np.bincount(item_place, counted, len(columns))
    state = fitted.changed(
        history=fitted.history.replaced(rows, after),
        users=fitted.users.moved(rows, profiles * left[:, None], np.maximum(of_users, 0) * left),
        items=fitted.items.moved(columns, fitted.items.profiles.take(columns), np.maximum(of_items, 0)),
        stale=("history",),
    )
    if "counts" in vars(fitted):
        counts = fitted.counts.copy()
        np.subtract.at(counts, before.indices, 1)
        np.add.at(counts, after.indices, 1)
        vars(state)["counts"] = counts
    return state


def without_users(fitted: Fitted, ids: Collection[str]) -> Fitted:
    """The state without some users: their texts, vectors, history, identity and LightFM's numbers of it.

    What was learned from all users together stays until the next fit: LightFM's numbers of words, attributes and items,
    the item–item weights, popularity, trends and the profiles of items.
    """
    gone, users = set(ids), fitted.users.whole
    kept = np.array([row for row, name in enumerate(users.ids) if name not in gone], dtype=np.int64)
    space = fitted.user_space
    identities = [column for column, name in enumerate(space.ids) if name not in gone]
    columns = [*identities, *range(len(space.ids), space.width)]
    trends = fitted.trends
    return fitted.changed(
        users=KnownEntities(users.take(kept)),
        history=SparseRows(fitted.history.whole[kept]),
        seen=SparseRows(fitted.seen.whole[kept]),
        user_space=FeatureSpace([space.ids[column] for column in identities], space.vocabulary, space.identity_weight),
        factors=replace(fitted.factors, users=fitted.factors.users[columns]),
        trends=replace(trends, activity=trends.activity[kept[kept < len(trends.activity)]]),
        stale=("users", "history"),
    )
