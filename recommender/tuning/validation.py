"""Fit with parameters chosen within the training data, where there is a table of interactions and no feature store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from recommender.data.entities import Entities
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.data.searches import Searchers, known_until
from recommender.measure.latest import LATEST, latest
from recommender.measure.splits import SHOTS, stable_share
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.tuning.event_weights import HALF_LIFE, EventTrials, as_of
from recommender.tuning.weights import choose_cold_offset, tune

_COLD_ITEMS, _COLD_USERS, _PAIRS = 0.2, 0.1, 0.1
# What is set aside for these splits meets new items as often as the question will.
_MANY_NEW_ITEMS = ("item_cold", "both_cold", "temporal")
# Tried beside histories that do not fade, where nobody has said how they do; in days.
_HALF_LIVES = (180.0, 60.0)



def fit_tuned(
    train: Interactions, users: Entities, items: Entities, *, kind: str, groups: Sequence[str] | None = None,
    seed: int = 0, parameters: Parameters | None = None, weights: EventWeights | None = None,
    searchers: Searchers | None = None, progress: Report = no_report,
) -> HybridRecommender:
    """Choose all parameters on a part of `train` that is set aside, then fit on all of it.

    Args:
        train: what may be learned from, not weighted.
        users: features of `train.user_ids`; their profiles are made anew.
        items: features of `train.item_ids`, likewise.
        kind: the split that the recommender will be asked under (`recommender.measure.splits.SPLITS`): "temporal" sets
            the latest interactions aside, "k_shot" leaves new users a few; the others differ in nothing.
        groups: of each item; those of one group are set aside together.
        seed: of the set-aside part and the fit.
        parameters: what is not chosen.
        weights: of events, whose half-life stays as it is. None: the defaults, and other half-lives are tried.
        searchers: `users` without their searches, and these. While parameters are chosen, of each user those count
            that come before what is set aside of him: what he looked for later would speak too well for his words.
            None: they said what `users` has, at any time.
        progress: told (stage, done, total).
    """
    settings = replace(parameters or Parameters(), seed=seed)
    given, weights = weights is not None, weights or EventWeights()
    held = held_out(train, items, kind, groups or items.ids, seed)
    if held.all():
        held = np.zeros_like(held)  # of so little nothing can be set aside
    # What was taken back later is not what anybody wanted.
    learned, asked = train.select(~held), train.select(held & np.isnat(train.returned))

    spoken = searchers.before(known_until(learned, train.select(held))).described() if searchers else users
    counted, known_users, known_items = as_of(learned, weights, spoken, items)
    fitted = tune(
        settings, counted, asked, known_users, known_items, seen=learned,
        progress=lambda epoch, epochs: progress("validation", epoch, epochs),
    )  # fmt: skip
    if kind not in _MANY_NEW_ITEMS:
        # A fifth of the items was made cold here: where fewer are met, that would raise them too far.
        fitted = choose_cold_offset(fitted, asked, ~made_cold(groups or items.ids, seed), settings.cold_offset)
    if not given:
        trials = EventTrials(fitted, learned, asked, spoken, items, weights)
        trials.choose(HALF_LIFE, _HALF_LIVES)
        weights = trials.weights
    counted, known_users, known_items = as_of(train, weights, users, items)
    return HybridRecommender(fitted.parameters).fit(
        counted, known_users, known_items, seen=train, progress=lambda epoch, epochs: progress("fit", epoch, epochs)
    )


def held_out(
    train: Interactions, items: Entities, kind: str, groups: Sequence[str], seed: int
) -> NDArray[np.bool_]:
    """Which interactions are set aside: of items and users made cold, and some pairs; or the latest ones.

    Where no interactions are the latest, those of "temporal" are drawn by chance as for the others.
    """
    if kind == "temporal" and (rows := latest(train.timestamps, LATEST)) is not None:
        return rows
    return by_chance(train, groups, seed, shots=kind == "k_shot")


def by_chance(train: Interactions, groups: Sequence[str], seed: int, *, shots: bool = False) -> NDArray[np.bool_]:
    """Draw interactions: all of some items, all of some users, and some pairs of the others.

    Args:
        train: all interactions.
        groups: the group of each item; items of one group are drawn together.
        seed: seed of the hash that decides.
        shots: whether the users that are drawn keep their first few interactions.
    """
    cold = made_cold(groups, seed)
    shares = np.array([stable_share(name, f"validation users {seed}") for name in train.user_ids])
    gone = (shares < _COLD_USERS)[train.users]
    if shots:
        # As they will be asked: with their first few.
        order = np.lexsort((train.items, train.timestamps, train.users))
        starts = np.searchsorted(train.users[order], np.arange(len(train.user_ids)))
        place = np.empty(len(train), dtype=np.int64)
        place[order] = np.arange(len(train)) - starts[train.users[order]]
        given = np.array(SHOTS)[(shares * 1e6).astype(np.int64) % len(SHOTS)]
        gone &= place >= given[train.users]
    names = zip(train.users.tolist(), train.items.tolist(), strict=True)
    some = np.array([stable_share(f"{user} {item}", f"validation pairs {seed}") < _PAIRS for user, item in names])
    return np.asarray(cold[train.items] | gone | some)


def made_cold(groups: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Which items are set aside as new ones; those of one group together."""
    return np.array([stable_share(name, f"validation items {seed}") < _COLD_ITEMS for name in groups])
