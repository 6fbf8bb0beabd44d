"""The hybrid recommender: R' = R + γ·P_u'ᵀ A P_i' + further parts.

R is LightFM's score on hybrid features. P' are the enriched profiles in the columns of the feature matrix: the
embedding space, then words and attributes. Under the item metric A = (XᵀX + λI)⁻¹, X being the feature matrix of the
items with history, P_u'ᵀ A x is the ridge regression of a user's history on items. The further parts are popularity,
overall and lately, item–item weights B, and what words and attributes of items and users predict. Each part is
standardised, bent and weighed (`recommender.model.scoring`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from coldstart_udfs.errors import ColdStartError
from recommender.data.contract import USER_ID
from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.model.bundle import read_bundle, write_bundle
from recommender.model.explain import terms
from recommender.model.fitted import Fitted
from recommender.model.fitting import fit
from recommender.model.freshness import Moments, utc
from recommender.model.pair_order import OnStep
from recommender.model.parameters import Parameters
from recommender.model.ranking import Rules
from recommender.model.requests import item_side, resolve
from recommender.model.scoring import Block, blocks
from recommender.model.tables import audience, demand_percentiles, expected_demand, recommend
from recommender.model.updating import updated
from recommender.model.user_side import Scores


class HybridRecommender:
    """Recommend items to users, and users for items, warm, cold or unknown.

    A recommender holds one immutable state, `fitted`. Each request reads that reference once; `fit` and `partial_fit`
    build another state and swap the reference. So any number of threads may ask while one updates, and every answer is
    that of one state.

    Args:
        parameters: None is the defaults.

    >>> HybridRecommender().users
    Traceback (most recent call last):
    coldstart_udfs.errors.ColdStartError: this HybridRecommender is not fitted; call fit() or load() first
    """

    def __init__(self, parameters: Parameters | None = None) -> None:
        self._parameters = parameters or Parameters()
        self._fitted: Fitted | None = None
        self._updating = threading.Lock()

    @classmethod
    def of(cls, fitted: Fitted) -> HybridRecommender:
        """A recommender in a given state."""
        model = cls(fitted.parameters)
        model._fitted = fitted
        return model

    @property
    def fitted(self) -> Fitted:
        """The state.

        Raises:
            ColdStartError: the recommender is not fitted.
        """
        if self._fitted is None:
            raise ColdStartError("this HybridRecommender is not fitted; call fit() or load() first")
        return self._fitted

    @property
    def parameters(self) -> Parameters:
        """Of fit and score."""
        return self._parameters if self._fitted is None else self._fitted.parameters

    @property
    def users(self) -> Entities:
        """The users that the recommender knows, with their profiles."""
        return self.fitted.users.whole

    @property
    def items(self) -> Entities:
        """The items that the recommender knows, with their profiles."""
        return self.fitted.items.whole

    @property
    def fingerprint(self) -> str:
        """Of the encoder whose vectors the recommender was trained with."""
        return self.fitted.items.fingerprint

    def fit(
        self, interactions: Interactions, users: Entities, items: Entities, *, seen: Interactions | None = None,
        came: Moments | None = None,
        progress: Callable[[int, int], None] = lambda epoch, epochs: None, on_epoch: OnStep | None = None,
    ) -> HybridRecommender:
        """Train on interactions, with features and profiles of the same moment.

        Args:
            interactions: what is learned from, with the weights that count (see `Interactions.weighted`).
            users: features of `interactions.user_ids`, in that order.
            items: features of `interactions.item_ids`, in that order.
            seen: what is not recommended again; None is `interactions`.
            came: (items,) datetime64, UTC, when each item became known; None is its first interaction. Ages are
                measured at the last interaction, see `as_of`.
            progress: called after each epoch of LightFM, with the finished epochs and all.
            on_epoch: called after each epoch with its number, from 1 on, and {"auc": share of 4,000 pairs of an item
                that a user took and one that they did not, which LightFM alone has in the right order}. The fit is
                the same with it.

        Raises:
            ColdStartError: no interactions, or features of other ids.
            FingerprintError: users and items come from different encoders.
        """
        with self._updating:
            self._fitted = fit(
                self.parameters, interactions, users, items, seen=seen, came=came, progress=progress,
                on_epoch=on_epoch,
            )
        return self

    def partial_fit(
        self, interactions: Interactions, users: Entities, items: Entities, *, seen: Interactions | None = None
    ) -> HybridRecommender:
        """Take in interactions since the fit, of users and items that may be new, without training again.

        Histories, profiles and popularity follow, and with them how much a user counts as a known one. LightFM, A, B,
        the maps, the trends and the weights stay as they are until the next fit, and a new item counts as one without
        history. The cost is O(d) per interaction and per new entity, plus a few arrays of one number per item. It does
        not grow with the number of users.

        Args:
            interactions: the new ones, weighted as in `fit`.
            users: features of `interactions.user_ids`, in that order; those of known users are not read.
            items: likewise.
            seen: what is not recommended again, of the same users and items; None is `interactions`.

        Raises:
            ColdStartError: features of other ids.
            FingerprintError: of another encoder.
        """
        with self._updating:
            self._fitted = updated(self.fitted, interactions, users, items, interactions if seen is None else seen)
        return self

    def with_parameters(self, **changes: Any) -> HybridRecommender:
        """The same fit with other parameters of the score, `alpha`, `evidence_scale` and `weights`.

        Parameters of the fit (metric_ridge …) are not read again.
        """
        return HybridRecommender.of(self.fitted.with_parameters(**changes))

    def as_of(self, moment: datetime) -> HybridRecommender:
        """The same recommender with the ages of items measured at another moment than the last interaction.

        Args:
            moment: with a time zone.

        Raises:
            ColdStartError: the moment has no time zone.
        """
        return HybridRecommender.of(self.fitted.as_of(utc(moment)))

    def came_after(self, moment: datetime) -> list[str]:
        """The ids of the items that came after a moment, which has a time zone."""
        fitted = self.fitted
        return fitted.items.ids(np.flatnonzero(fitted.births.moments > utc(moment)))

    def save(self, path: str | Path, *, about: dict[str, Any] | None = None) -> None:
        """Write a bundle: a folder with arrays and a JSON manifest, no pickle; whole or not at all.

        Args:
            path: the folder; an older bundle in it is replaced.
            about: additional entries of the manifest, such as metrics.
        """
        write_bundle(self.fitted, Path(path), about or {})

    @classmethod
    def load(cls, path: str | Path) -> HybridRecommender:
        """Read a bundle.

        Raises:
            BundleError: no bundle, or one that is of another format, cut or altered.
        """
        return cls.of(read_bundle(Path(path)))

    def score(
        self, users: str | Sequence[str] | Entities | None, items: str | Sequence[str] | Entities, *,
        profiles: ArrayLike | None = None, unknown: str = "raise",
    ) -> Scores:
        """R' of every user with every item.

        Args:
            users: one id, several, or `Entities`, of users seen in training or not; `Entities` of users with history
                need their profiles. None asks for the expected demand: the rank of each item by its buyers among the
                items with history; for an item without buyers these are predicted from its text and attributes.
            items: as users.
            profiles: (users, d), P_u to use instead of the known ones, such as the current ones of the online store.
            unknown: what happens to an id that is not known: "raise", or "popularity", which scores it as an entity
                without text and attributes.

        Returns:
            (users, items) float32, in deviations above a user's average item with history (see
            `recommender.model.scoring`); for None (1, items), a percentile from 0 to 100.

        Raises:
            UnknownIdError: an unknown id, with `unknown="raise"`.
            FingerprintError: `Entities` of another encoder.
        """
        fitted = self.fitted
        side = item_side(fitted, items, unknown)
        if users is None and profiles is not None:
            raise ColdStartError("expected demand is of no user: name the users of these profiles, or give none")
        if users is None:
            return demand_percentiles(fitted, side)[None]
        asked = resolve(fitted, users, USER_ID, unknown, profiles)
        return np.concatenate([block.total(side) for _, block in blocks(fitted, asked)])

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
            without: ids that may not be recommended, such as items out of stock.
            attribute: "column=value" that an item must have, such as a category.
            boost: by item id or "column=value", what is added to scores.
            pin: ids that come first, in this order, whatever their score (unless seen, or filtered out).
            diversity: 0 to 1, the cost of likeness to the items above (maximal marginal relevance).
            explain: add a column `because`, a sentence for people.

        Returns:
            user_id, rank (from 1), item_id, description, score, popularity, lightfm, history, text, tier. The four
            parts add up to the score, boosts apart: popularity is that of all time, of late and among users with the
            same attributes, the time since the first interaction, LightFM's item biases and the offset of items without
            history; lightfm is the rest of LightFM's score, of the item itself and as its features predict it; history
            is what the items of the user's history say, by their features and by the item–item weights; text is what
            the user's description says, and the profile that their words and attributes predict. The tier is what is
            known of the user: warm (history), cold (words or attributes) or unknown (nothing).

        Raises:
            UnknownIdError: an unknown id of a user, with `unknown="raise"`, or of an item in a rule.
            ColdStartError: a rule out of range.
        """
        fitted = self.fitted
        asked = resolve(fitted, users, USER_ID, unknown, profiles)
        rules = Rules.of(fitted, k, among, without, attribute, boost, pin, diversity)
        return recommend(fitted, asked, rules, exclude_seen, explain)

    def audience(
        self, items: str | Sequence[str] | Entities, k: int = 10, *, unknown: str = "raise", exclude_seen: bool = True
    ) -> pd.DataFrame:
        """The k users to whom each item would matter most: `recommend` the other way round.

        Returns:
            item_id, rank, user_id, bought_alike (the description, of the items in the user's history, that is nearest
            to the item's), score, its parts as in `recommend`, activity, tier (of the item). The score is that of the
            pair (see `score`), which compares the items of one user, plus activity, which makes users comparable: how
            much they do, and how much of that is like the item (`recommender.model.tables.activity`).
        """
        fitted = self.fitted
        return audience(fitted, item_side(fitted, items, unknown), k, exclude_seen)

    def expected_demand(
        self, items: str | Sequence[str] | Entities, *, level: float = 0.9, unknown: str = "raise"
    ) -> pd.DataFrame:
        """How many buyers each item has or, without buyers, may be expected to get.

        Without buyers it is the buyers of the items with history whose words and attributes predict the most similar
        demand: for an item that is bought at all, and is on sale as long as they were. How often the interval holds is
        measured in docs/explanation/ratings.md.

        Args:
            items: as for `score`.
            level: the share of new items whose buyers lie between low and high.
            unknown: as for `score`.

        Returns:
            item_id, percentile (0 to 100, among the items with history), buyers (a median where predicted), low, high,
            tier (of the item). An item with buyers has their number as buyers, low and high.

        Raises:
            UnknownIdError: an unknown id, with `unknown="raise"`.
            ColdStartError: a level that is not between 0 and 1.
        """
        fitted = self.fitted
        return expected_demand(fitted, item_side(fitted, items, unknown), level)

    def explain(
        self, user: str | Entities, item: str | Entities, *, profiles: ArrayLike | None = None,
        unknown: str = "raise", encoder: Any = None,
    ) -> pd.DataFrame:
        """The terms of one score.

        Args:
            user: an id, or one row of `Entities`.
            item: likewise.
            profiles: as for `score`, (1, d).
            unknown: as for `score`.
            encoder: the `Encoder`; with it the term of a word is what the score loses without the word.

        Returns:
            term, kind, value, the largest values first; the values add up to the score. The kinds are described in
            docs/explanation/scoring.md.
        """
        fitted = self.fitted
        asked = resolve(fitted, user, USER_ID, unknown, profiles)
        side = item_side(fitted, item, unknown)
        if len(asked) != 1 or len(side) != 1:
            raise ColdStartError(f"explain takes one user and one item; {len(asked)} and {len(side)} were given")
        return terms(Block.of(fitted, asked), side, encoder)
