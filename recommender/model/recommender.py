"""The hybrid recommender: R' = R + γ·P_u'ᵀ A P_i'.

R is LightFM's score on hybrid features. P' are the enriched profiles in joint columns: the embedding space, to which
the recommender appends words, attributes and identities of its own. Under the metric A = (XᵀX + λI)⁻¹, X the columns
of the items that have history, P_u'ᵀ A x is the ridge regression of a user's history on items; its identity columns
are B of `recommender.model.closed_form`. See docs/design.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors
from recommender.data.contract import USER_ID
from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.model.closed_form import behaviour, ridge_metric
from recommender.model.lightfm import Factors, FeatureSpace, fit_lightfm
from recommender.model.parameters import Parameters
from recommender.model.predicted import GroupPopularity, TasteMap
from recommender.model.ranking import Rules
from recommender.model.requests import item_side, resolve, same_encoder
from recommender.model.scoring import Block, ItemSide, Scores

# Scores of one block of users and all items, at most: 16 MB of float32, a few times over.
_BLOCK = 4_000_000
# How many users tell what deviation is usual.
_SAMPLE = 500


class HybridRecommender:
    """Recommend items to users, and users for items, warm, cold or unknown.

    Args:
        parameters: None is the defaults.

    >>> HybridRecommender().users
    Traceback (most recent call last):
    coldstart_udfs.errors.ColdStartError: this HybridRecommender is not fitted; call fit() or load() first
    """

    # What fit() makes and a bundle holds.
    history: sp.csr_matrix
    seen: sp.csr_matrix
    user_space: FeatureSpace
    item_space: FeatureSpace
    factors: Factors
    metric: Vectors
    behaviour: sp.csr_matrix
    taste: TasteMap
    groups: GroupPopularity
    scales: NDArray[np.float32] | None = None

    def __init__(self, parameters: Parameters | None = None) -> None:
        self.parameters = parameters or Parameters()
        self._users: Entities | None = None
        self._items: Entities | None = None

    # -- fitting ------------------------------------------------------------------------------------

    def fit(
        self, interactions: Interactions, users: Entities, items: Entities, *, seen: Interactions | None = None,
        progress: Callable[[int, int], None] = lambda epoch, epochs: None,
    ) -> HybridRecommender:
        """Train on interactions, with features and profiles of the same moment.

        Args:
            interactions: what is learned from, weighted as it shall count (see `Interactions.weighted`).
            users: features of `interactions.user_ids`, in that order.
            items: features of `interactions.item_ids`, in that order.
            seen: what is not recommended again; None is `interactions`.
            progress: told of each finished epoch of LightFM.

        Raises:
            ColdStartError: no interactions, or features of other ids.
            FingerprintError: users and items come from different encoders.
        """
        if not len(interactions):
            raise ColdStartError(
                "there are no interactions to learn from; give some from before the moment of the fit and, if all were "
                "dropped, look at event_weights in enrichment.json"
            )
        for side, ids, entities in (("users", interactions.user_ids, users), ("items", interactions.item_ids, items)):
            if list(ids) != list(entities.ids):
                raise ColdStartError(
                    f"features of {len(entities)} {side} do not match the {len(ids)} {side} of the interactions; "
                    "they must have the same ids in the same order"
                )
        same_encoder(users, items)
        self._users, self._items = users, items
        self.history = _matrix(interactions)
        self.seen = self.history if seen is None else _matrix(seen)
        warm_users = np.flatnonzero(np.diff(self.history.indptr))
        warm_items = np.unique(self.history.indices).astype(np.int64)
        settings = self.parameters
        self.user_space = FeatureSpace.fit(users.take(warm_users), 1.0)
        self.item_space = FeatureSpace.fit(items.take(warm_items), settings.item_identity)
        self.factors = fit_lightfm(
            self.history[warm_users][:, warm_items], self.user_space.matrix(users.take(warm_users)),
            self.item_space.matrix(items.take(warm_items)), settings, progress,
        )  # fmt: skip
        self.metric = ridge_metric(self.item_space.vocabulary.columns(items.take(warm_items)), settings.ridge)
        self.behaviour = behaviour(self.history, settings.behaviour_ridge)
        self.groups = GroupPopularity.fit(self.history, users)
        self.taste = TasteMap.fit(users.take(warm_users), self.groups.labels)
        self.rescale()
        return self

    def rescale(self) -> None:
        """Measure what deviations of scores are usual, after a change of parameters, metric or B.

        Of histories alone: a scale that moved with α would change what α was chosen for.
        """
        self._forget()
        silent = self.with_parameters(alpha=0.0)
        silent.scales = None
        warm = np.flatnonzero(np.diff(self.history.indptr))
        self.scales = Block.of(silent, self.users.take(warm[:: max(len(warm) // _SAMPLE, 1)])).usual()

    def partial_fit(
        self, interactions: Interactions, users: Entities, items: Entities, *, seen: Interactions | None = None
    ) -> HybridRecommender:
        """Take in interactions since the fit, of users and items that may be new, without training again.

        Histories, profiles and popularity follow, O(d) for each interaction; what was learned (LightFM, A, B) stays
        as it is until the next fit.

        Args:
            interactions: the new ones, weighted as in `fit`.
            users: features of `interactions.user_ids`, in that order; of those that are known nothing is read.
            items: likewise.
            seen: what is not recommended again, of the same users and items; None is `interactions`.

        Raises:
            ColdStartError: features of other ids.
            FingerprintError: of another encoder.
        """
        from recommender.model.updating import take_in

        take_in(self, interactions, users, items, interactions if seen is None else seen)
        self._forget()
        return self

    def with_parameters(self, **changes: Any) -> HybridRecommender:
        """The same fit with other weights of parts; what needs a new fit (ridge, components …) is not read again."""
        other = HybridRecommender(replace(self.parameters, **changes))
        other.__dict__.update({key: value for key, value in self.__dict__.items() if key != "parameters"})
        if "smoothing" in changes:
            other.__dict__.pop("item_tastes", None)
        return other

    def with_history(self, interactions: Interactions, users: Entities) -> HybridRecommender:
        """What was learned, asked with other histories of the same users: weighted in another way, say."""
        other = self.with_parameters()
        other.history, other._users = _matrix(interactions), users
        other._forget()
        other.rescale()
        return other

    # -- what is known ------------------------------------------------------------------------------

    @property
    def users(self) -> Entities:
        """The users that the recommender knows, with their profiles as of training."""
        if self._users is None:
            raise ColdStartError("this HybridRecommender is not fitted; call fit() or load() first")
        return self._users

    @property
    def items(self) -> Entities:
        """The items that the recommender knows, with their profiles as of training."""
        if self._items is None:
            return self.users  # which raises
        return self._items

    @property
    def fingerprint(self) -> str:
        """Of the encoder whose vectors the recommender was trained with."""
        return self.users.fingerprint

    @cached_property
    def user_rows(self) -> dict[str, int]:
        """The row of each known user."""
        return {name: row for row, name in enumerate(self.users.ids)}

    @cached_property
    def item_rows(self) -> dict[str, int]:
        """The row of each known item."""
        return {name: row for row, name in enumerate(self.items.ids)}

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(items,), how many users each item has."""
        return np.bincount(self.history.indices, minlength=len(self.items))

    @cached_property
    def behaves(self) -> NDArray[np.bool_]:
        """(items,), whether B knows an item."""
        return np.asarray(np.diff(sp.csc_matrix(self.behaviour).indptr) > 0)

    @cached_property
    def partners(self) -> Vectors:
        """(b, b + 1), B among the items that it knows, and a column of zeros for the others."""
        known = np.flatnonzero(self.behaves)
        found = np.zeros((len(known), len(known) + 1), dtype=np.float32)
        found[:, :-1] = self.behaviour[known][:, known].toarray()
        return found

    @cached_property
    def partner_rows(self) -> NDArray[np.int64]:
        """(items,), the column of each in `partners`, -1 for those that B does not know."""
        return np.where(self.behaves, np.cumsum(self.behaves) - 1, -1)

    @cached_property
    def item_tastes(self) -> Vectors:
        """(items, w), what one event with an item adds to P_u'ᵀ A, beside the profile in the embedding space."""
        columns = self.all_items.columns
        added = self.parameters.smoothing * columns.summed(self.behaviour)
        d = columns.dense.shape[1]
        added[:, d:] += columns.sparse.toarray()
        return np.asarray(added @ self.metric)

    @cached_property
    def latent_moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(c + 1,) and (c + 1, c + 1): means and covariances of the warm items' LightFM vectors and biases."""
        vectors = np.hstack([self.warm_items.latent, self.warm_items.bias[:, None]]).astype(np.float64)
        return vectors.mean(axis=0), np.atleast_2d(np.cov(vectors.T, bias=True))

    @cached_property
    def all_items(self) -> ItemSide:
        """All known items."""
        return ItemSide.of(self, self.items)

    @cached_property
    def warm_items(self) -> ItemSide:
        """Those with history in training: what scores are standardised over."""
        return self.all_items.take(np.flatnonzero(~self.all_items.cold))

    @cached_property
    def mean_column(self) -> Vectors:
        """(w,), the mean of the warm items' joint columns."""
        columns = self.warm_items.columns
        return np.hstack([columns.dense.mean(axis=0), np.asarray(columns.sparse.mean(axis=0)).ravel()])

    @cached_property
    def _demand(self) -> tuple[Vectors, float]:
        rows = np.flatnonzero(self.item_space.knows(self.items.ids))
        logs = np.log1p(self.counts[rows])
        centre = float(logs.mean())
        weights = sp.csr_matrix((logs - centre).astype(np.float32)[None])
        columns = self.item_space.vocabulary.columns(self.items.take(rows))
        return (columns.summed(weights) @ self.metric).ravel(), centre

    @property
    def demand_weights(self) -> Vectors:
        """(w,), the ridge regression of log(1 + buyers) on joint columns."""
        return self._demand[0]

    @property
    def demand_centre(self) -> float:
        """The mean of log(1 + buyers)."""
        return self._demand[1]

    def history_of(self, ids: Sequence[str]) -> sp.csr_matrix:
        """(n, items), the weights of what users did; empty rows for strangers."""
        return self._rows_of(self.history, ids)

    def seen_by(self, ids: Sequence[str]) -> sp.csr_matrix:
        """(n, items), what users have interacted with; empty rows for strangers."""
        return self._rows_of(self.seen, ids)

    def _rows_of(self, matrix: sp.csr_matrix, ids: Sequence[str]) -> sp.csr_matrix:
        rows = np.array([self.user_rows.get(name, -1) for name in ids], dtype=np.int64)
        if (rows >= 0).all():
            return matrix[rows]
        known = np.flatnonzero(rows >= 0)
        choose = sp.csr_matrix(
            (np.ones(len(known), np.float32), (known, rows[known])), shape=(len(rows), len(self.users))
        )
        return sp.csr_matrix(choose @ matrix)

    def _forget(self) -> None:
        """Derived values are made again when they are next needed."""
        for name in [name for name, value in vars(type(self)).items() if isinstance(value, cached_property)]:
            self.__dict__.pop(name, None)

    # -- on disk ------------------------------------------------------------------------------------

    def save(self, path: str | Path, *, about: dict[str, Any] | None = None) -> None:
        """Write a bundle: a folder with arrays and a JSON manifest, no pickle; whole or not at all.

        Args:
            path: the folder; an older bundle in it is replaced.
            about: what else the manifest shall say, such as the metrics.
        """
        from recommender.model.bundle import write_bundle

        write_bundle(self, Path(path), about or {})

    @classmethod
    def load(cls, path: str | Path) -> HybridRecommender:
        """Read a bundle.

        Raises:
            BundleError: no bundle, of another format, truncated or altered.
        """
        from recommender.model.bundle import read_bundle

        return read_bundle(Path(path))

    # -- asking -------------------------------------------------------------------------------------

    def score(
        self, users: str | Sequence[str] | Entities | None, items: str | Sequence[str] | Entities, *,
        profiles: ArrayLike | None = None, unknown: str = "raise",
    ) -> Scores:
        """R' of every user with every item.

        Args:
            users: one id, several, or `Entities` (who need not have been seen in training; who was, comes with his
                profile). None asks for the
                expected demand: how each item ranks among those with history by its buyers, which for an item that
                nobody has bought are predicted from its words.
            items: as users.
            profiles: (users, d), P_u to use instead of the known ones, such as what the online store has now.
            unknown: what happens to an id that training did not see: "raise", or "popularity", as if
                nothing at all were known of it.

        Returns:
            (users, items) float32, in deviations above a user's average item with history (see
            `recommender.model.scoring`); for None (1, items), a percentile from 0 to 100.

        Raises:
            UnknownIdError: an unknown id, with `unknown="raise"`.
            FingerprintError: `Entities` of another encoder.
        """
        side = item_side(self, items, unknown)
        if users is None and profiles is not None:
            raise ColdStartError("expected demand is of no user: name the users of these profiles, or give none")
        if users is None:
            known = np.sort(self.warm_items.demand)
            below = np.searchsorted(known, side.demand, "left") + np.searchsorted(known, side.demand, "right")
            return np.asarray(below * 50 / len(known), dtype=np.float32)[None]
        asked = resolve(self, users, USER_ID, unknown, profiles)
        return np.concatenate([block.total(self, side) for _, block in self.blocks(asked)])

    def recommend(
        self, users: str | Sequence[str] | Entities, k: int = 10, *, profiles: ArrayLike | None = None,
        unknown: str = "raise", exclude_seen: bool = True, among: Collection[str] | None = None,
        without: Collection[str] = (), attribute: str | None = None, boost: Mapping[str, float] | None = None,
        pin: Sequence[str] = (), diversity: float = 0.0, explain: bool = False,
    ) -> pd.DataFrame:
        """The k best items for each user.

        Args:
            users: as for `score`.
            k: how many at most.
            profiles: as for `score`.
            unknown: as for `score`.
            exclude_seen: leave out what a user has interacted with.
            among: ids of the items that may be recommended; None is all.
            without: ids that may not, such as what is out of stock.
            attribute: "column=value" that an item must have, such as a category.
            boost: by item id or "column=value", what is added to scores.
            pin: ids that come first, in this order, whatever their score (unless seen, or filtered out).
            diversity: 0 to 1, how much likeness to what stands above costs (maximal marginal relevance).
            explain: add a column `because`, a sentence for people.

        Returns:
            user_id, rank (from 1), item_id, description, score, popularity, lightfm, history, words, rung. The four
            parts add up to the score, boosts apart: popularity holds LightFM's item bias too, lightfm the rest of
            it, history what the user did, words what he said. The rung says what was known of the user: warm (he has
            history), cold (words or attributes) or unknown.

        Raises:
            UnknownIdError: an unknown id of a user, with `unknown="raise"`, or of an item in a rule.
            ColdStartError: a rule out of range.
        """
        from recommender.model.tables import recommend

        asked = resolve(self, users, USER_ID, unknown, profiles)
        rules = Rules.of(self, k, among, without, attribute, boost, pin, diversity)
        return recommend(self, asked, rules, exclude_seen, explain)

    def audience(
        self, items: str | Sequence[str] | Entities, k: int = 10, *, unknown: str = "raise", exclude_seen: bool = True
    ) -> pd.DataFrame:
        """The k users to whom each item would matter most: `recommend` the other way round.

        Returns:
            item_id, rank, user_id, bought_alike (the description nearest to the item's among what the user
            has interacted with), score and its parts as in `recommend`, rung (of the item).
        """
        from recommender.model.tables import audience

        return audience(self, item_side(self, items, unknown), k, exclude_seen)

    def explain(
        self, user: str | Entities, item: str | Entities, *, profiles: ArrayLike | None = None,
        unknown: str = "raise", encoder: Any = None,
    ) -> pd.DataFrame:
        """What one score is made of.

        Args:
            user: an id, or one row of `Entities`.
            item: likewise.
            profiles: as for `score`, (1, d).
            unknown: as for `score`.
            encoder: the `Encoder`; with it the user's description is split by its words, each left out in turn.

        Returns:
            term, kind, value, the largest values first; the values add up to the score. See docs/design.md for kinds.
        """
        from recommender.model.explain import terms

        asked = resolve(self, user, USER_ID, unknown, profiles)
        side = item_side(self, item, unknown)
        if len(asked) != 1 or len(side) != 1:
            raise ColdStartError(f"explain takes one user and one item; {len(asked)} and {len(side)} were given")
        return terms(self, Block.of(self, asked), side, encoder)

    def blocks(self, users: Entities) -> Iterator[tuple[int, Block]]:
        """Users in blocks whose scores with all items are small enough to hold: where each begins, and the block."""
        size = max(_BLOCK // max(len(self.items), self.metric.shape[0]), 1)
        for start in range(0, max(len(users), 1), size):  # of nobody, one empty block
            yield start, Block.of(self, users.take(np.arange(start, min(start + size, len(users)))))


def _matrix(interactions: Interactions) -> sp.csr_matrix:
    pairs = interactions.pairs()
    shape = (len(pairs.user_ids), len(pairs.item_ids))
    return sp.csr_matrix((pairs.weights, (pairs.users, pairs.items)), shape=shape, dtype=np.float32)
