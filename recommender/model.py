"""The hybrid recommender: R' = R + γ·P_u'ᵀ A P_i'.

R is LightFM's score on hybrid features, P' are the enriched profiles, and A = (XᵀX + λI)⁻¹ with X the
embeddings of the items that have history: P_uᵀ A x is then the ridge regression of a user's history on item
vectors (with A = I it would be the plain dot product). Both scores are standardised per user over the items
with history, so that a pair's score depends on nothing else that is asked, and γ compares like with like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.profile import Vectors, enrich, evidence_weight
from recommender.data import ITEM_ID, USER_ID, Interactions
from recommender.features import Entities, FeatureSpace

Scores: TypeAlias = NDArray[np.floating[Any]]

WARM, COLD, UNKNOWN = "warm", "cold", "unknown"
_USER_BLOCK = 512


class UnknownIdError(ColdStartError):
    """An id that the recommender was not trained with."""


@dataclass(frozen=True)
class Parameters:
    """What is chosen before fitting or on validation data, and kept in the bundle.

    Attributes:
        components: LightFM's latent dimensions.
        epochs: LightFM's passes over the interactions.
        learning_rate: LightFM's.
        seed: of LightFM and of the codebook; one thread and one seed give identical fits.
        ridge: λ of A = (XᵀX + λI)⁻¹.
        item_identity: weight of an item's identity feature, see `FeatureSpace`.
        alpha: α, what a user's description weighs.
        beta: β, what an item's description weighs.
        evidence_scale: a of α(n) = α·a/(a+n).
        gamma: γ, what the profile score weighs beside LightFM's.
        gamma_cold: γ for a user without history, where popularity stands in for LightFM's score.
        source: for alpha, beta, gamma and gamma_cold, how each was chosen.
    """

    components: int = 64
    epochs: int = 15
    learning_rate: float = 0.05
    seed: int = 0
    ridge: float = 1.0
    item_identity: float = 0.3
    alpha: float = 1.0
    beta: float = 1.0
    evidence_scale: float = math.inf
    gamma: float = 0.5
    gamma_cold: float = 0.5
    source: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Factors:
    """LightFM's result: one embedding and one bias for each feature of each side."""

    user_embeddings: Vectors
    user_biases: NDArray[np.float32]
    item_embeddings: Vectors
    item_biases: NDArray[np.float32]


@dataclass(frozen=True)
class _Parts:
    """A block of scores and what they are made of; text is the remainder, so the three add up exactly."""

    total: Scores
    behaviour: Scores
    popularity: Scores


class HybridRecommender:
    """Recommend items to users, and users for items, warm, cold or unknown.

    >>> HybridRecommender().recommend(["u1"])
    Traceback (most recent call last):
    ...
    coldstart_udfs.errors.ColdStartError: this HybridRecommender is not fitted; call fit() or load() first
    """

    def __init__(self, parameters: Parameters | None = None) -> None:
        self.parameters = parameters or Parameters()
        self._users: Entities | None = None

    # -- fitting ------------------------------------------------------------------------------------

    def fit(
        self, interactions: Interactions, users: Entities, items: Entities, *,
        progress: Callable[[int, int], None] = lambda epoch, epochs: None,
    ) -> HybridRecommender:
        """Train on interactions, with features and profiles of the same moment.

        Args:
            interactions: what is learned from.
            users: features of `interactions.user_ids`, in that order.
            items: features of `interactions.item_ids`, in that order.
            progress: told of each finished epoch.

        Raises:
            ColdStartError: no interactions, or features of other ids.
            FingerprintError: users and items come from different encoders.
        """
        if not len(interactions):
            raise ColdStartError("there are no interactions to learn from")
        for side, ids, entities in (("users", interactions.user_ids, users), ("items", interactions.item_ids, items)):
            if list(ids) != list(entities.ids):
                raise ColdStartError(
                    f"features of {len(entities)} {side} do not match the {len(ids)} {side} of the interactions; "
                    "they must have the same ids in the same order"
                )
        _same_encoder(users, items)
        self._users, self._items = users, items
        pairs = interactions.pairs()
        ones = np.ones(len(pairs), dtype=np.float32)
        self._seen = sp.csr_matrix((ones, (pairs.users, pairs.items)), shape=(len(users), len(items)))
        counts = np.asarray(self._seen.sum(axis=0)).ravel()
        warm_users = np.flatnonzero(np.diff(self._seen.indptr))
        warm_items = np.flatnonzero(counts)
        settings = self.parameters
        self._user_space = FeatureSpace.fit(users.take(warm_users), 1.0, settings.seed)
        self._item_space = FeatureSpace.fit(items.take(warm_items), settings.item_identity, settings.seed)
        self._factors = _fit_lightfm(
            self._seen, self._user_space.matrix(users), self._item_space.matrix(items), settings, progress
        )
        X = items.embeddings[warm_items].astype(np.float64)
        gram = X.T @ X + settings.ridge * np.eye(X.shape[1])
        self._metric = np.asarray(np.linalg.inv(gram), dtype=np.float32)
        self._counts = counts.astype(np.float32)
        self._prepare()
        return self

    def with_parameters(self, **changes: Any) -> HybridRecommender:
        """The same fit with other α, β, γ or evidence scale; the others need a new fit."""
        other = HybridRecommender(replace(self.parameters, **changes))
        other.__dict__.update({key: value for key, value in self.__dict__.items() if key != "parameters"})
        other._prepare()
        return other

    def _prepare(self) -> None:
        """What every score needs of the items with history."""
        self._warm_users = set(self._user_space.ids)
        self._warm_items = set(self._item_space.ids)
        rows = np.flatnonzero(self._counts)
        logs = np.log1p(self._counts[rows])
        # In standard deviations, as all else; 0, the average, for an item that nobody has bought yet.
        self._popularity = np.zeros(len(self._counts), dtype=np.float32)
        self._popularity[rows] = (logs - logs.mean()) / (logs.std() or 1.0)
        self._warm = _Side.of_items(self, self.items.take(rows))

    @property
    def users(self) -> Entities:
        """The users that the recommender knows, with their profiles as of training."""
        if self._users is None:
            raise ColdStartError("this HybridRecommender is not fitted; call fit() or load() first")
        return self._users

    @property
    def items(self) -> Entities:
        """The items that the recommender knows, with their profiles as of training."""
        self.users  # noqa: B018 - the check
        return self._items

    @property
    def fingerprint(self) -> str:
        """Of the encoder whose vectors the recommender was trained with."""
        return self.users.fingerprint

    def save(self, path: str | Path, *, about: dict[str, Any] | None = None) -> None:
        """Write a bundle: a folder with arrays and a JSON manifest, no pickle; whole or not at all.

        Args:
            path: the folder; an older bundle in it is replaced.
            about: what else the manifest shall say, such as the metrics.
        """
        from recommender.bundle import write_bundle

        write_bundle(self, Path(path), about or {})

    @classmethod
    def load(cls, path: str | Path) -> HybridRecommender:
        """Read a bundle.

        Raises:
            BundleError: no bundle, of another format, truncated or altered.
        """
        from recommender.bundle import read_bundle

        return read_bundle(Path(path))

    # -- asking -------------------------------------------------------------------------------------

    def score(
        self, users: str | Sequence[str] | Entities, items: str | Sequence[str] | Entities, *, unknown: str = "raise"
    ) -> Scores:
        """R' of every user with every item.

        Args:
            users: one id, several, or `Entities` (who need not have been seen in training).
            items: likewise.
            unknown: what happens to an id that training did not see: "raise", or "popularity", as if
                nothing at all were known of it.

        Returns:
            (users, items) float32, in standard deviations above a user's average item with history.

        Raises:
            UnknownIdError: an unknown id, with `unknown="raise"`.
            FingerprintError: `Entities` of another encoder.
        """
        asked_users = self._resolve(users, self.users, USER_ID, unknown)
        asked_items = _Side.of_items(self, self._resolve(items, self.items, ITEM_ID, unknown))
        blocks = [self._parts(block, asked_items).total for _, block in _user_blocks(asked_users)]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(asked_items.entities)), np.float32)

    def recommend(
        self, users: str | Sequence[str] | Entities, k: int = 10, *, unknown: str = "raise", exclude_seen: bool = True
    ) -> pd.DataFrame:
        """The k best items for each user.

        Args:
            users: as for `score`.
            k: how many at most.
            unknown: as for `score`.
            exclude_seen: leave out what a user has interacted with.

        Returns:
            user_id, rank (from 1), item_id, description, score, text, behaviour, popularity, rung. The
            three parts add up to the score: text would vanish if nobody and nothing had a description or
            attributes, popularity is the same for every user, behaviour is the rest. The rung says what
            was known of the user: warm, cold or unknown.
        """
        asked = self._resolve(users, self.users, USER_ID, unknown)
        candidates = _Side.of_items(self, self.items)
        rows = {name: row for row, name in enumerate(self.users.ids)}
        frames = []
        for start, block in _user_blocks(asked):
            parts = self._parts(block, candidates)
            for offset in range(len(block)):
                name = asked.ids[start + offset]
                order = np.argsort(-parts.total[offset], kind="stable")
                if exclude_seen and name in rows:
                    seen = self._seen.indices[self._seen.indptr[rows[name]] : self._seen.indptr[rows[name] + 1]]
                    order = order[~np.isin(order, seen)]
                best = order[:k]
                frames.append(
                    _ranking(
                        {USER_ID: name}, {ITEM_ID: [self.items.ids[i] for i in best],
                                          "description": [self.items.descriptions[i] for i in best]},
                        parts, (np.full(len(best), offset), best), self._rung(block, offset, self._warm_users),
                    )
                )  # fmt: skip
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def audience(
        self, items: str | Sequence[str] | Entities, k: int = 10, *, unknown: str = "raise", exclude_seen: bool = True
    ) -> pd.DataFrame:
        """The k users to whom each item would matter most: `recommend` the other way round.

        Returns:
            item_id, rank, user_id, bought_alike (the description nearest to the item's among what the user
            has interacted with), score, text, behaviour, popularity, rung (of the item).
        """
        asked = self._resolve(items, self.items, ITEM_ID, unknown)
        candidates = _Side.of_items(self, asked)
        warm = np.flatnonzero(np.diff(self._seen.indptr))
        blocks = [self._parts(block, candidates) for _, block in _user_blocks(self.users.take(warm))]
        parts = _Parts(*(np.concatenate([getattr(block, name) for block in blocks])
                         for name in ("total", "behaviour", "popularity")))  # fmt: skip
        rows = {name: row for row, name in enumerate(self.items.ids)}
        frames = []
        for column, name in enumerate(asked.ids):
            order = np.argsort(-parts.total[:, column], kind="stable")
            if exclude_seen and name in rows:
                buyers = self._seen[:, [rows[name]]].tocoo().row
                order = order[~np.isin(warm[order], buyers)]
            best = order[:k]
            frames.append(
                _ranking(
                    {ITEM_ID: name}, {USER_ID: [self.users.ids[warm[u]] for u in best],
                                      "bought_alike": [self._alike(warm[u], asked.embeddings[column]) for u in best]},
                    parts, (best, np.full(len(best), column)), self._rung(asked, column, self._warm_items),
                )
            )  # fmt: skip
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def profile_scores(self, users: Entities, items: Entities) -> tuple[Scores, Scores]:
        """P_u'ᵀ A P_i and P_u'ᵀ A M(d_i): the profile score is the first plus β(n) times the second."""
        enriched = self._enriched_users(users) @ self._metric
        return enriched @ items.profiles.T, enriched @ items.embeddings.T

    def lightfm_scores(self, users: Entities, items: Entities) -> Scores:
        """R, standardised per user over the items with history."""
        side = _Side.of_items(self, items)
        return np.concatenate([self._standard_lightfm(block, side)[0] for _, block in _user_blocks(users)])

    # -- the arithmetic -----------------------------------------------------------------------------

    def _parts(self, users: Entities, items: _Side) -> _Parts:
        R, R_behaviour, R_popularity = self._standard_lightfm(users, items)
        enriched = self._enriched_users(users) @ self._metric
        bare = users.profiles @ self._metric
        S_warm = enriched @ self._warm.enriched.T
        centre, scale = _moments(S_warm)
        cold = self._cold(users)[:, None]
        gamma = np.where(cold, self.parameters.gamma_cold, self.parameters.gamma).astype(np.float32)
        S = (enriched @ items.enriched.T - centre) / scale
        bare_centre = (bare @ self._warm.entities.profiles.T).mean(axis=1, keepdims=True)
        S_behaviour = (bare @ items.entities.profiles.T - bare_centre) / scale
        return _Parts(R + gamma * S, R_behaviour + gamma * S_behaviour, R_popularity)

    def _standard_lightfm(self, users: Entities, items: _Side) -> tuple[Scores, Scores, Scores]:
        """R, and its behaviour and popularity parts, each centred and scaled alike.

        A user without history has no R of his own, and LightFM's item biases rank worse for him than how
        often items were bought: for him R is the popularity, log(1 + buyers). A new item counts as average.
        """
        features = self._user_space.matrix(users)
        identity = self._user_space.identity(users)
        u = features @ self._factors.user_embeddings
        u_identity = _pad(identity, features) @ self._factors.user_embeddings
        R_warm = u @ self._warm.latent.T + self._warm.bias
        centre, scale = _moments(R_warm)
        R = (u @ items.latent.T + items.bias - centre) / scale
        behaviour = u_identity @ items.identity.T
        behaviour = (behaviour - (u_identity @ self._warm.identity.T).mean(axis=1, keepdims=True)) / scale
        popularity = (items.bias - self._warm.bias.mean()) / scale
        cold = self._cold(users)
        if cold.any():
            R[cold], behaviour[cold], popularity[cold] = items.popularity, 0.0, items.popularity
        return R, behaviour, popularity

    def _cold(self, users: Entities) -> NDArray[np.bool_]:
        return np.array([name not in self._warm_users for name in users.ids], dtype=bool)

    def _enriched_users(self, users: Entities) -> Vectors:
        weights = evidence_weight(users.evidence, self.parameters.alpha, self.parameters.evidence_scale)
        return enrich(users.profiles, users.embeddings, weights)

    def _resolve(self, asked: str | Sequence[str] | Entities, known: Entities, name: str, unknown: str) -> Entities:
        if isinstance(asked, Entities):
            _same_encoder(known, asked)
            return asked
        if unknown not in ("raise", "popularity"):
            raise ColdStartError(f"unknown is {unknown!r}; possible are 'raise' and 'popularity'")
        ids = [asked] if isinstance(asked, str) else list(asked)
        rows = {key: row for row, key in enumerate(known.ids)}
        strange = [key for key in ids if key not in rows]
        if strange and unknown == "raise":
            raise UnknownIdError(
                f"{len(strange)} of {len(ids)} {name}s are not among the {len(known)} that the recommender knows: "
                f"{strange[:3]}. Pass their features as Entities, or unknown='popularity'"
            )
        width, empty = known.embeddings.shape[1], len(strange)
        nothing = Entities(
            strange, [""] * empty, [[]] * empty, np.zeros((empty, width), np.float32),
            np.zeros((empty, width), np.float32), np.zeros(empty), known.fingerprint,
        )  # fmt: skip
        found = known.take(np.array([rows[key] for key in ids if key in rows], dtype=np.int64))
        return _concatenate(found, nothing, ids) if strange else found

    def _rung(self, entities: Entities, row: int, warm: set[str]) -> str:
        if entities.ids[row] in warm:
            return WARM
        known = entities.descriptions[row] or entities.attributes[row] or entities.evidence[row]
        return COLD if known or np.abs(entities.embeddings[row]).any() else UNKNOWN

    def _alike(self, user: int, embedding: Vectors) -> str:
        seen = self._seen.indices[self._seen.indptr[user] : self._seen.indptr[user + 1]]
        return str(self.items.descriptions[seen[np.argmax(self.items.embeddings[seen] @ embedding)]])


@dataclass(frozen=True)
class _Side:
    """Items as the arithmetic needs them."""

    entities: Entities
    enriched: Vectors
    latent: Vectors
    identity: Vectors
    bias: NDArray[np.float32]
    popularity: NDArray[np.float32]

    @classmethod
    def of_items(cls, model: HybridRecommender, items: Entities) -> _Side:
        space, factors, settings = model._item_space, model._factors, model.parameters
        features, identity = space.matrix(items), space.identity(items)
        weights = evidence_weight(items.evidence, settings.beta, settings.evidence_scale)
        known = dict(zip(model.items.ids, model._popularity, strict=True))
        popularity = np.array([known.get(name, 0.0) for name in items.ids], dtype=np.float32)
        return cls(
            items, enrich(items.profiles, items.embeddings, weights), features @ factors.item_embeddings,
            _pad(identity, features) @ factors.item_embeddings, features @ factors.item_biases, popularity,
        )  # fmt: skip


def _fit_lightfm(
    seen: sp.csr_matrix, user_features: sp.csr_matrix, item_features: sp.csr_matrix, settings: Parameters,
    progress: Callable[[int, int], None],
) -> Factors:
    from lightfm import LightFM

    model = LightFM(
        no_components=settings.components, loss="warp", learning_rate=settings.learning_rate,
        random_state=settings.seed,
    )  # fmt: skip
    for epoch in range(settings.epochs):
        model.fit_partial(
            seen.tocoo(), user_features=user_features, item_features=item_features, num_threads=1
        )  # fmt: skip
        progress(epoch + 1, settings.epochs)
    factors = Factors(model.user_embeddings, model.user_biases, model.item_embeddings, model.item_biases)
    if not all(np.isfinite(array).all() for array in asdict(factors).values()):
        raise ColdStartError(
            f"LightFM diverged at learning rate {settings.learning_rate}; try a smaller one"
        )
    return factors


def _ranking(
    asked: dict[str, str], found: dict[str, list[str]], parts: _Parts,
    where: tuple[NDArray[np.int64], NDArray[np.int64]], rung: str,
) -> pd.DataFrame:
    total, behaviour, popularity = (getattr(parts, name)[where] for name in ("total", "behaviour", "popularity"))
    ranks = {"rank": np.arange(1, len(total) + 1)}
    values = {"score": total, "text": total - behaviour - popularity, "behaviour": behaviour, "popularity": popularity}
    frame = pd.DataFrame({**ranks, **found, **values, "rung": rung})
    for position, (name, value) in enumerate(asked.items()):
        frame.insert(position, name, value)
    return frame


def _user_blocks(users: Entities) -> Iterator[tuple[int, Entities]]:
    for start in range(0, len(users), _USER_BLOCK):
        yield start, users.take(np.arange(start, min(start + _USER_BLOCK, len(users))))


def _moments(scores: Scores) -> tuple[Scores, Scores]:
    """Mean and standard deviation of each row; a row without spread is left as it is."""
    deviation = scores.std(axis=1, keepdims=True)
    return scores.mean(axis=1, keepdims=True), np.where(deviation > 1e-9, deviation, 1.0).astype(np.float32)


def _pad(identity: sp.csr_matrix, features: sp.csr_matrix) -> sp.csr_matrix:
    """Identity columns come first; fill up with empty ones to the width of all features."""
    return sp.csr_matrix((identity.data, identity.indices, identity.indptr), shape=features.shape)


def _concatenate(found: Entities, nothing: Entities, ids: Sequence[str]) -> Entities:
    both = Entities(
        [*found.ids, *nothing.ids], [*found.descriptions, *nothing.descriptions],
        [*found.attributes, *nothing.attributes], np.concatenate([found.embeddings, nothing.embeddings]),
        np.concatenate([found.profiles, nothing.profiles]), np.concatenate([found.evidence, nothing.evidence]),
        found.fingerprint,
    )  # fmt: skip
    rows = {name: row for row, name in enumerate(both.ids)}
    return both.take(np.array([rows[name] for name in ids], dtype=np.int64))


def _same_encoder(known: Entities, asked: Entities) -> None:
    if known.fingerprint != asked.fingerprint:
        raise FingerprintError(
            found=asked.fingerprint, found_in="what was asked", expected=known.fingerprint,
            expected_by="the recommender", remedy="Run `coldstart profiles` and `coldstart train` with one encoder.",
        )  # fmt: skip
