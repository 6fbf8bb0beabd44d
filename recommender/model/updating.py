"""Take new interactions into histories, profiles and popularity, without training.

An update costs what is new: it keeps the rows that it changes beside the older ones, and copies a few arrays of one
number per item.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import updated_item_profiles
from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.model.feature_matrix import FeatureMatrix
from recommender.model.fitted import Fitted, ItemSide
from recommender.model.fitting import same_ids
from recommender.model.freshness import Moments, first_interactions
from recommender.model.known import KnownEntities
from recommender.model.requests import same_encoder


def updated(fitted: Fitted, interactions: Interactions, users: Entities, items: Entities, seen: Interactions) -> Fitted:
    """The state after new interactions; see `HybridRecommender.partial_fit`."""
    same_ids(interactions, users, items)
    for side, entities in (("users", users), ("items", items)):
        same_encoder(fitted.items.fingerprint, entities.fingerprint, f"the new {side}")
        if entities.embeddings.shape[1] != fitted.items.embeddings.shape[1]:
            raise ColdStartError(
                f"embeddings of the new {side} are {entities.embeddings.shape[1]} numbers wide; the recommender was "
                f"trained with {fitted.items.embeddings.shape[1]}"
            )
    if list(seen.user_ids) != list(users.ids) or list(seen.item_ids) != list(items.ids):
        raise ColdStartError("what is seen must be of the same users and items, in the same order, as the interactions")
    known_users, known_items = _grown(fitted.users, users), _grown(fitted.items, items)
    user_rows, item_rows = known_users.rows(users.ids), known_items.rows(items.ids)
    width = len(known_items)
    new = _matrix(interactions, interactions.weights, item_rows, width)
    met = _matrix(seen, np.ones(len(seen), np.float32), item_rows, width)
    shape = len(known_users), width
    state = fitted.changed(
        history=fitted.history.added(user_rows, new, shape),
        seen=fitted.seen.added(user_rows, met, shape),
        births=fitted.births.grown(_first(seen, item_rows >= len(fitted.items))),
        **_profiles(known_users, known_items, interactions, user_rows, item_rows, new[:, item_rows]),
        stale=("history",) if width == len(fitted.items) else ("history", "items"),
    )
    return _derived(fitted, state, user_rows, new)


def _first(seen: Interactions, new: NDArray[np.bool_]) -> Moments:
    """When the new ones of some items were first interacted with."""
    return first_interactions(seen)[new] if new.any() else np.zeros(0, "datetime64[us]")


def _grown(known: KnownEntities, given: Entities) -> KnownEntities:
    """The known entities, then those that are new, without history yet."""
    new = np.flatnonzero(known.rows(given.ids) < 0)
    return known.grown(given.take(new)) if len(new) else known


def _matrix(interactions: Interactions, weights: NDArray[np.float32], columns: NDArray[np.int64], width: int) -> Any:
    """(users of the interactions, width), the weights of each pair added up."""
    shape = (len(interactions.user_ids), width)
    return sp.csr_matrix((weights, (interactions.users, columns[interactions.items])), shape=shape, dtype=np.float32)


def _profiles(
    users: KnownEntities, items: KnownEntities, interactions: Interactions, user_rows: NDArray[np.int64],
    item_rows: NDArray[np.int64], new: sp.csr_matrix,
) -> dict[str, KnownEntities]:
    """Users and items with the profiles and evidence after `new`, which is (new users, new items)."""
    # Only a described item speaks for a profile, and counts as evidence: as in `entities.with_history`.
    vectors = items.embeddings.take(item_rows)
    counted = np.asarray(vectors.any(axis=1))[interactions.items]
    n_u = np.bincount(interactions.users[counted], minlength=len(user_rows))
    n_i = np.bincount(interactions.items[counted], minlength=len(item_rows))
    profiles = users.profiles.take(user_rows) + new @ vectors
    evidence = items.evidence.take(item_rows)
    pairs = new.tocoo()
    means = updated_item_profiles(
        items.profiles.take(item_rows), evidence, pairs.col, pairs.data, vectors, profiles[pairs.row]
    )
    return {
        "users": users.moved(user_rows, profiles, users.evidence.take(user_rows) + n_u),
        "items": items.moved(item_rows, means, evidence + n_i),
    }


def _derived(before: Fitted, state: Fitted, user_rows: NDArray[np.int64], new: sp.csr_matrix) -> Fitted:
    """Take over the derived values that the older state has computed, with what is new added to them."""
    had, has = vars(before), vars(state)
    added = np.arange(len(before.items), len(state.items))
    if len(added) and "_growing" in had:
        _add_items(before, state, added)
    if "counts" in had:
        old = before.history.take(np.where(user_rows < len(before.users), user_rows, -1))
        first = np.isin(_keys(new, new.shape[1]), _keys(old, new.shape[1]), invert=True)
        counts = np.concatenate([before.counts, np.zeros(len(added), np.int64)])
        np.add.at(counts, new.indices[first], 1)
        has["counts"] = counts
    return state


def _keys(matrix: sp.csr_matrix, width: int) -> NDArray[np.int64]:
    """A number for each pair that is not zero."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return np.asarray(rows * width + matrix.indices)


def _add_items(before: Fitted, state: Fitted, added: NDArray[np.int64]) -> None:
    values, (side, dense, latent, mapped) = vars(state), before._growing
    new = state.side_of(state.items.take(added))
    dense, latent, mapped = dense.grown(new.features.dense), latent.grown(new.latent), mapped.grown(new.mapped)
    features = FeatureMatrix(dense.rows, sp.vstack([side.features.sparse, new.features.sparse], format="csr"))
    grown = ItemSide(
        features, latent.rows, np.concatenate([side.bias, new.bias]), mapped.rows,
        np.concatenate([side.rows, added]), np.concatenate([side.cold, new.cold]),
    )  # fmt: skip
    values["_growing"] = grown, dense, latent, mapped
    # Items that come after training are cold: what is computed from the warm ones stays.
    for name in _OF_WARM_ITEMS:
        if name in vars(before):
            values[name] = vars(before)[name]
    if before.likeness:
        sources = features, state.mean_features, state.item_metric, state.item_item
        values["_likeness"] = [before.likeness.grown(*sources, new.features)]
    if "_directions" in vars(before):
        d = new.features.dense.shape[1]
        values["_directions"] = before._directions.grown(np.asarray(new.features.sparse @ state.item_metric[d:]))


_OF_WARM_ITEMS = (
    "warm_rows", "warm_items", "mean_features", "feature_length", "latent_moments", "mapped_moments",
    "neighbour_directions",
)  # fmt: skip
