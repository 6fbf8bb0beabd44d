"""The state of a fitted recommender: what a bundle holds, and arrays derived from it. It never changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Generic, TypeVar, overload

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from recommender.data.entities import Entities
from recommender.model.closed_form import MOST_ITEMS, LatentMoments, regressed
from recommender.model.demand import KnownDemand
from recommender.model.feature_matrix import FeatureMatrix
from recommender.model.freshness import Births, decay
from recommender.model.known import KnownEntities
from recommender.model.lightfm import Factors, FeatureSpace
from recommender.model.likeness import Likeness
from recommender.model.parameters import Parameters
from recommender.model.predicted import AttributePopularity, PredictedProfiles
from recommender.model.rows import Growing, SparseRows
from recommender.model.trends import Trends

T = TypeVar("T")


class Derived(Generic[T]):
    """An attribute of `Fitted` that is computed when it is first needed, once, whichever thread needs it first.

    Args:
        compute: gives the value, for a `Fitted`.
        sources: the fields, and the parameters, that it is computed from. A version of `Fitted` in which none of
            them is different takes the value over.
    """

    def __init__(self, compute: Callable[[Fitted], T], sources: frozenset[str]) -> None:
        self.compute, self.sources, self.__doc__ = compute, sources, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, fitted: None, owner: type) -> Derived[T]: ...
    @overload
    def __get__(self, fitted: Fitted, owner: type) -> T: ...
    def __get__(self, fitted: Fitted | None, owner: type) -> Derived[T] | T:
        if fitted is None:
            return self
        fitted = fitted._origin_or_self
        values = vars(fitted)
        with fitted._lock:
            if self.name not in values:
                values[self.name] = self.compute(fitted)
        found: T = values[self.name]
        return found


def derived(*sources: str) -> Callable[[Callable[[Any], T]], Derived[T]]:
    """Mark a method of `Fitted` as a `Derived` attribute."""
    return lambda compute: Derived(compute, frozenset(sources))


@dataclass(frozen=True)
class ItemSide:
    """m items as the arithmetic needs them.

    Attributes:
        features: (m, w), their rows of the feature matrix.
        latent: (m, c), LightFM's vectors.
        bias: (m,), LightFM's.
        mapped: (m, c + 5), what their features predict (see `Maps`).
        rows: (m,) their rows in the recommender, -1 for others.
        cold: (m,) true without history in training.
        entities: what is known of them; None if they are known items, of whom `Fitted.items` says it.
    """

    features: FeatureMatrix
    latent: Vectors
    bias: NDArray[np.float32]
    mapped: Vectors
    rows: NDArray[np.int64]
    cold: NDArray[np.bool_]
    entities: Entities | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def cold_rows(self) -> NDArray[np.int64]:
        """The places of those that are cold."""
        return np.flatnonzero(self.cold)

    def take(self, rows: NDArray[np.int64]) -> ItemSide:
        """These items, in this order."""
        return ItemSide(
            self.features.take(rows), self.latent[rows], self.bias[rows], self.mapped[rows], self.rows[rows],
            self.cold[rows], self.entities and self.entities.take(rows),
        )  # fmt: skip


@dataclass(frozen=True)
class Maps:
    """Ridge regressions, on the feature matrix of the warm items, of what else was learned of them.

    Attributes:
        weights: (w, c + 5) float32.
        centre: (c + 5,) float32, the means over the warm items: of LightFM's c numbers and bias, then of the expected
            demand and of the logarithms of the users within the last 7, 30 and 90 days.
    """

    weights: Vectors
    centre: NDArray[np.float32]

    @classmethod
    def fit(cls, features: FeatureMatrix, targets: Vectors, ridge: float) -> Maps:
        """Learn from the warm items; see `recommender.model.closed_form.regressed`."""
        centre = targets.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(regressed(features, targets - centre, ridge), centre)

    def of(self, features: FeatureMatrix) -> Vectors:
        """(m, c + 5) float32, what the features of m items predict."""
        return np.asarray(features.dot(np.ascontiguousarray(self.weights.T)) + self.centre)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was learned from interactions, and what is known of users and items.

    Fitting, updating and changing a parameter give a new `Fitted`, which shares the arrays that are the same. Any
    number of threads may read one.

    Attributes:
        parameters: of fit and score.
        users: all known users; their profiles are of the interactions in `history`.
        items: all known items, likewise.
        history: (users, items), the weights of what users did.
        seen: (users, items), what is not recommended again.
        user_space: the features of users in LightFM.
        item_space: the features of items in LightFM, and the columns of the feature matrix.
        factors: LightFM's result.
        item_metric: A, (w, w) float32.
        item_item: B, (items at the fit, items at the fit) float32.
        maps: from the features of items to what LightFM and time say of them.
        trends: of the items at the fit.
        births: when all known items came.
        predicted_profiles: the map from words and attributes of users to profiles.
        attribute_popularity: how popular items are among users with an attribute.
    """

    parameters: Parameters
    users: KnownEntities
    items: KnownEntities
    history: SparseRows
    seen: SparseRows
    user_space: FeatureSpace
    item_space: FeatureSpace
    factors: Factors
    item_metric: Vectors
    item_item: sp.csr_matrix
    maps: Maps
    trends: Trends
    births: Births
    predicted_profiles: PredictedProfiles
    attribute_popularity: AttributePopularity
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    def changed(self, *, stale: Collection[str] | None = None, **changes: Any) -> Fitted:
        """A version with other fields.

        Args:
            stale: the sources of derived values that are different; None is the changed fields, and the parameters
                whose value is another.
            changes: fields, by name.
        """
        other = replace(self, **changes)
        if stale is None:
            old, new = self.parameters, other.parameters
            stale = set(changes) | {one.name for one in fields(old) if getattr(old, one.name) != getattr(new, one.name)}
        # Versions share `_likeness`, even if it is filled later.
        values = vars(self._origin_or_self) | {"_likeness": self._likeness}
        kept = {name: values[name] for name, one in _DERIVED.items() if name in values and not one.sources & set(stale)}
        vars(other).update(kept)
        return other

    def with_parameters(self, **changes: Any) -> Fitted:
        """A version with other weights of parts. Parameters of the fit (metric_ridge …) are not read again."""
        return self.changed(parameters=replace(self.parameters, **changes))

    def as_of(self, moment: np.datetime64) -> Fitted:
        """A version that measures the ages of items at another moment; both have the same derived values."""
        other = replace(self, births=replace(self.births, now=moment))
        vars(other)["_origin"] = self._origin_or_self
        return other

    @property
    def _origin_or_self(self) -> Fitted:
        found: Fitted = vars(self).get("_origin", self)
        return found

    def history_of(self, ids: Sequence[str]) -> sp.csr_matrix:
        """(n, items), the weights of what users did; empty rows for users who are not known."""
        return self.history.take(self.users.rows(ids))

    def seen_by(self, ids: Sequence[str]) -> sp.csr_matrix:
        """(n, items), what users have interacted with; empty rows for users who are not known."""
        return self.seen.take(self.users.rows(ids))

    def side_of(self, items: Entities) -> ItemSide:
        """Items, known or not, as the arithmetic needs them."""
        identities, features = self.item_space.matrix(items), self.item_space.vocabulary.feature_matrix(items)
        return ItemSide(
            features, np.asarray(identities @ self.factors.items), np.asarray(identities @ self.factors.biases),
            self.maps.of(features), self.items.rows(items.ids), ~self.item_space.knows(items.ids), items,
        )  # fmt: skip

    def entities_of(self, side: ItemSide) -> Entities:
        """What is known of some items."""
        return self.items.take(side.rows) if side.entities is None else side.entities

    @derived("items")
    def rows_with(self) -> dict[str, list[int]]:
        """The rows of the items with each attribute."""
        found: dict[str, list[int]] = {}
        for row, labels in enumerate(self.items.attributes()):
            for label in dict.fromkeys(labels):
                found.setdefault(label, []).append(row)
        return found

    @derived("history", "items")
    def counts(self) -> NDArray[np.int64]:
        """(items,), how many users each item has."""
        return np.bincount(self.history.whole.indices, minlength=len(self.items))

    @derived("items", "item_space", "factors", "maps")
    def _growing(self) -> tuple[ItemSide, Growing, Growing, Growing]:
        """All items, and the three arrays of them that are large, as new items are added to them."""
        side = replace(self.side_of(self.items.whole), entities=None)
        return side, Growing(side.features.dense), Growing(side.latent), Growing(side.mapped)

    @property
    def all_items(self) -> ItemSide:
        """All known items."""
        return self._growing[0]

    @derived("items", "item_space", "factors")
    def warm_rows(self) -> NDArray[np.int64]:
        """The rows of the items with history in training: what scores are standardised over."""
        return np.flatnonzero(~self.all_items.cold)

    @derived("items", "item_space", "factors")
    def warm_items(self) -> ItemSide:
        """The items with history in training."""
        return self.all_items.take(self.warm_rows)

    @derived("items", "item_space", "factors")
    def mean_features(self) -> Vectors:
        """(w,), the mean of the warm items' rows of the feature matrix."""
        features = self.warm_items.features
        return np.hstack([features.dense.mean(axis=0), np.asarray(features.sparse.mean(axis=0)).ravel()])

    def without_common(self, embeddings: Vectors) -> Vectors:
        """(n, d): embeddings without the direction that the texts of the warm items have in common.

        It says nothing of a user; with some encoders it is most of a vector.
        """
        mean = self.mean_features[: embeddings.shape[1]]
        return np.asarray(embeddings - np.outer(embeddings @ mean, mean / max(float(mean @ mean), 1e-12)), np.float32)

    @derived("items", "item_space", "factors")
    def feature_length(self) -> float:
        """The root of the mean square length of the warm items' rows of the feature matrix."""
        features = self.warm_items.features
        squares = np.einsum("ij,ij->", features.dense, features.dense) + (features.sparse.data**2).sum()
        return float(np.sqrt(squares / max(len(features), 1)))

    @derived("items", "item_space", "factors")
    def latent_moments(self) -> LatentMoments:
        """Of the warm items' LightFM vectors and biases."""
        return LatentMoments.of(np.hstack([self.warm_items.latent, self.warm_items.bias[:, None]]))

    @derived("items", "item_space", "factors", "maps")
    def mapped_moments(self) -> LatentMoments:
        """Of the vectors and biases that the warm items' features predict."""
        return LatentMoments.of(self.warm_items.mapped[:, : self.warm_items.latent.shape[1] + 1])

    @derived("predicted_profiles", "item_metric")
    def predicted_directions(self) -> Vectors:
        """(d + g, w), the weights of the predicted profiles through A."""
        weights = self.predicted_profiles.weights
        return np.asarray(weights @ self.item_metric[: weights.shape[1]])

    @derived("items", "item_space", "factors", "attribute_popularity")
    def mean_lifts(self) -> NDArray[np.float32]:
        """(g,), the mean of each row of `attribute_popularity` over the warm items."""
        return np.asarray(self.attribute_popularity.lifts[:, self.warm_rows].mean(axis=1))

    @derived(
        "history", "items", "item_space", "factors", "maps", "trends", "item_metric", "predicted_profiles",
        "attribute_popularity",
    )
    def shared_parts(self) -> dict[tuple[str, ...], NDArray[Any]]:
        """(1, items) each, read only: parts of scores that are the same for many users; `scoring` fills it."""
        return {}

    @derived("history", "items", "item_space", "factors", "maps")
    def demand(self) -> NDArray[np.float32]:
        """(items,), the expected demand of all items."""
        return self.demand_of(self.all_items)

    def demand_of(self, side: ItemSide) -> NDArray[np.float32]:
        """(m,), log(1 + buyers) of items; for those without buyers what their features predict."""
        counts = np.where(side.rows >= 0, self.counts[side.rows], 0)
        predicted = side.mapped[:, side.latent.shape[1] + 1]
        return np.where(counts > 0, np.log1p(counts), predicted).astype(np.float32)

    @derived("history", "items", "item_space", "factors", "maps")
    def known_demand(self) -> KnownDemand:
        """What the expected demand of items without buyers is compared with."""
        side, buyers = self.warm_items, self.counts[self.warm_rows]
        return KnownDemand.of(side.features, side.mapped[:, side.latent.shape[1] + 1], buyers)

    def trend_of(self, side: ItemSide, window: int) -> NDArray[np.float32]:
        """(m,), log(1 + users) within a window of `recommender.model.trends.WINDOWS`; predicted for cold items."""
        known = self.trends.popularity[window]
        rows = np.where(side.cold | (side.rows >= len(known)), 0, side.rows)
        return np.where(side.cold, side.mapped[:, side.latent.shape[1] + 2 + window], known[rows]).astype(np.float32)

    def newness_of(self, side: ItemSide) -> NDArray[np.float32]:
        """(m,), see `Trends`; 0 for cold items."""
        return np.where(side.cold, 0, self.trends.newness[np.where(side.cold, 0, side.rows)]).astype(np.float32)

    def freshness_of(self, side: ItemSide) -> NDArray[np.float32]:
        """(m,), see `recommender.model.freshness`; 0 for items of which nobody knows when they came."""
        weight, half_life = self.parameters.freshness, self.parameters.freshness_half_life
        return np.float32(weight) * decay(self.births.days(side.rows), half_life)

    @derived("item_item")
    def in_item_item(self) -> NDArray[np.bool_]:
        """(items at the fit,), whether B knows an item."""
        return np.asarray(np.diff(sp.csc_matrix(self.item_item).indptr) > 0)

    def in_partners(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(k,), whether B knows the items in some rows; false for -1."""
        inside = (rows >= 0) & (rows < len(self.in_item_item))
        return np.asarray(inside & self.in_item_item[np.where(inside, rows, 0)])

    @derived("item_item", "items", "item_space", "factors", "item_metric")
    def _likeness(self) -> list[Likeness]:
        return []

    @property
    def likeness(self) -> Likeness | None:
        """What makes small requests fast; None before `prepare`, and in catalogues of more than 4,096 items."""
        return next(iter(self._likeness), None)

    def prepare(self) -> None:
        """Compute `likeness`: a second, and 8 bytes for each pair of items, for who answers many small requests.

        Versions that share what it is computed from share it, those too that were made meanwhile.
        """
        if not self._likeness and len(self.items) <= MOST_ITEMS:
            sources = self.all_items.features, self.mean_features, self.item_metric, self.item_item
            self._likeness.append(Likeness.of(*sources))

    def prepare_as(self, before: Fitted, rows: NDArray[np.int64]) -> None:
        """Take over `likeness`, if there is one, from the version before the items in some rows were described."""
        if before.likeness is not None and not self._likeness and len(self.items) <= MOST_ITEMS:
            sources = (before.mean_features, self.mean_features), self.item_metric, self.item_item
            self._likeness.append(before.likeness.redescribed(self.all_items.features, *sources, rows))

    @derived("items", "item_space", "item_metric")
    def _directions(self) -> Growing:
        d = self.all_items.features.dense.shape[1]
        return Growing(np.asarray(self.all_items.features.sparse @ self.item_metric[d:]))

    @property
    def text_directions(self) -> Vectors:
        """(items, w), what one event with an item adds to P_u'ᵀ A, beside the profile in the embedding space."""
        return self._directions.rows

    @derived("item_item", "items", "item_space", "item_metric")
    def neighbour_directions(self) -> Vectors:
        """(items at the fit, w), B·X·A: what an event with an item adds by way of the items that B expects."""
        features = self.all_items.features.take(np.arange(self.item_item.shape[0]))
        return np.asarray(features.summed(self.item_item) @ self.item_metric)

    def widened(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        """B, or rows of it, with empty rows and columns for later items; only the row pointers are copied."""
        n = len(self.items)
        ends = np.concatenate([matrix.indptr, np.full(n - matrix.shape[0], matrix.indptr[-1], matrix.indptr.dtype)])
        return sp.csr_matrix((matrix.data, matrix.indices, ends), shape=(n, n))


_DERIVED = {name: one for name, one in vars(Fitted).items() if isinstance(one, Derived)}
