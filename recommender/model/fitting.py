"""Learn a `Fitted` from interactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.model.closed_form import MAP_RIDGE, item_item_weights, item_metric
from recommender.model.fitted import Fitted, Maps
from recommender.model.freshness import Births, Moments
from recommender.model.known import KnownEntities
from recommender.model.lightfm import FeatureSpace, fit_lightfm
from recommender.model.pair_order import OnStep, PairOrder
from recommender.model.parameters import Parameters
from recommender.model.predicted import AttributePopularity, PredictedProfiles
from recommender.model.requests import same_encoder
from recommender.model.rows import SparseRows
from recommender.model.trends import Trends


def fit(
    parameters: Parameters, interactions: Interactions, users: Entities, items: Entities, *,
    seen: Interactions | None = None, came: Moments | None = None,
    progress: Callable[[int, int], None] = lambda epoch, epochs: None,
    on_epoch: OnStep | None = None, held_out: Interactions | None = None,
) -> Fitted:
    """Learn a state with these parameters; other arguments and errors as for `HybridRecommender.fit`.

    Args:
        parameters: of the fit.
        interactions: see `HybridRecommender.fit`.
        users: likewise.
        items: likewise.
        seen: likewise.
        came: likewise.
        progress: likewise.
        on_epoch: likewise; with `held_out` it is told `held_out_auc` too, of pairs of users and items with history.
        held_out: what is wanted, of the same users and items.
    """
    if not len(interactions):
        raise ColdStartError(
            "there are no interactions to learn from; give some from before the moment of the fit and, if all were "
            "dropped, look at event_weights in enrichment.json"
        )
    same_ids(interactions, users, items)
    same_encoder(users.fingerprint, items.fingerprint)
    history = as_matrix(interactions)
    warm_users, warm_items = np.flatnonzero(np.diff(history.indptr)), np.unique(history.indices).astype(np.int64)
    learned_users, learned_items = users.take(warm_users), items.take(warm_items)
    user_space = FeatureSpace.fit(learned_users, 1.0)
    item_space = FeatureSpace.fit(learned_items, parameters.item_identity_weight)
    taken, user_features, hybrid = (
        history[warm_users][:, warm_items], user_space.matrix(learned_users), item_space.matrix(learned_items)
    )
    watch = None
    if on_epoch is not None:
        pairs = {"auc": taken.nonzero()}
        if held_out is not None:
            pairs["held_out_auc"] = _among(held_out, warm_users, warm_items)
        orders = {
            name: PairOrder.of(rows, columns, taken, user_features, hybrid) for name, (rows, columns) in pairs.items()
        }
        watch = _told(on_epoch, orders)
    factors = fit_lightfm(taken, user_features, hybrid, parameters, progress, watch)
    popularity, trends = AttributePopularity.fit(history, users), Trends.fit(interactions)
    features = item_space.vocabulary.feature_matrix(learned_items)
    buyers = np.log1p(np.bincount(history.indices, minlength=len(items))[warm_items])
    targets = np.column_stack(
        [hybrid @ factors.items, hybrid @ factors.biases, buyers, trends.popularity[:, warm_items].T]
    )
    return Fitted(
        parameters=parameters,
        users=KnownEntities(users),
        items=KnownEntities(items),
        history=SparseRows(history),
        seen=SparseRows(history if seen is None else as_matrix(seen)),
        user_space=user_space,
        item_space=item_space,
        factors=factors,
        item_metric=item_metric(features, parameters.metric_ridge),
        item_item=item_item_weights(history, parameters.item_item_ridge),
        maps=Maps.fit(features, targets.astype(np.float32), MAP_RIDGE),
        trends=trends,
        births=Births.of(interactions, came),
        predicted_profiles=PredictedProfiles.fit(learned_users, popularity.labels),
        attribute_popularity=popularity,
    )


def _told(on_epoch: OnStep, orders: dict[str, PairOrder]) -> Callable[[int, Sequence[Any]], None]:
    """What tells `on_epoch` how the fits order pairs, by name; names without pairs are left out."""
    known = {name: order for name, order in orders.items() if order.users.shape[0]}
    return lambda epoch, fits: on_epoch(epoch, {name: order.share(fits) for name, order in known.items()})


def _among(
    interactions: Interactions, users: NDArray[np.int64], items: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of interactions among some users and items; interactions of others are left out."""
    places = []
    for rows, kept, total in ((interactions.users, users, interactions.user_ids),
                              (interactions.items, items, interactions.item_ids)):  # fmt: skip
        place = np.full(len(total), -1)
        place[kept] = np.arange(len(kept))
        places.append(place[rows])
    inside = (places[0] >= 0) & (places[1] >= 0)
    return places[0][inside], places[1][inside]


def with_history(fitted: Fitted, interactions: Interactions, users: Entities) -> Fitted:
    """What was learned, with other histories of the same users: with other weights, for example."""
    return fitted.changed(history=SparseRows(as_matrix(interactions)), users=KnownEntities(users))


def same_ids(interactions: Interactions, users: Entities, items: Entities) -> None:
    """Raise a ColdStartError unless users and items are those of the interactions, in the same order."""
    for side, ids, entities in (("users", interactions.user_ids, users), ("items", interactions.item_ids, items)):
        if list(ids) != list(entities.ids):
            raise ColdStartError(
                f"features of {len(entities)} {side} do not match the {len(ids)} {side} of the interactions; "
                "they must have the same ids in the same order"
            )


def as_matrix(interactions: Interactions) -> sp.csr_matrix:
    """(users, items) float32, the weights of each pair added up."""
    pairs = interactions.pairs()
    shape = (len(pairs.user_ids), len(pairs.item_ids))
    return sp.csr_matrix((pairs.weights, (pairs.users, pairs.items)), shape=shape, dtype=np.float32)
