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
from recommender.measure.latest import LATEST, cold_share_of, latest
from recommender.model.freshness import Moments
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.tuning.divisions import Division, by_chance, draws
from recommender.tuning.event_weights import HALF_LIFE, EventTrials, as_of
from recommender.tuning.freshness import choose_freshness
from recommender.tuning.prior import Prior
from recommender.tuning.weights import tune

# Tried beside histories that do not fade, where nobody has said how they do; in days.
_HALF_LIVES = (180.0, 60.0)


def fit_tuned(
    train: Interactions, users: Entities, items: Entities, *, kind: str, groups: Sequence[str] | None = None,
    seed: int = 0, parameters: Parameters | None = None, weights: EventWeights | None = None,
    searchers: Searchers | None = None, unseen: NDArray[np.bool_] | None = None, prior: Prior | None = None,
    came: Moments | None = None, progress: Report = no_report,
) -> HybridRecommender:
    """Choose all parameters on parts of `train` that are set aside, then fit on all of it.

    Args:
        train: what may be learned from, not weighted.
        users: features of `train.user_ids`; their profiles are made anew.
        items: features of `train.item_ids`, likewise.
        kind: the split that the recommender will be asked under (`recommender.measure.splits.SPLITS`): "temporal" also
            sets the latest interactions aside; the others differ in nothing.
        groups: of each item; those of one group are set aside together.
        seed: of the set-aside parts and the fit.
        parameters: what is not chosen.
        weights: of events, whose half-life stays as it is. None: the defaults, and other half-lives are tried.
        searchers: `users` without their searches, and these. While parameters are chosen, of each user those count
            that come before what is set aside of them: what they looked for later would speak too well for their words.
            None: they said what `users` has, at any time.
        unseen: see `by_chance`.
        prior: what small shops have in common; None: the data alone decide.
        came: (items,) datetime64, when each item became known: freshness is chosen, see `choose_freshness`. None: age
            does not count.
        progress: told (stage, done, total).
    """
    settings = replace(parameters or Parameters(), seed=seed)
    given, weights = weights is not None, weights or EventWeights()
    groups = groups or items.ids
    parts = [by_chance(train, groups, seed, draw, unseen) for draw in range(draws(train))]
    if kind == "temporal" and (rows := latest(train.timestamps, LATEST)) is not None:
        parts.append(rows)
    divisions = []
    for number, held in enumerate(parts):
        if held.all():
            held = np.zeros_like(held)  # of so little nothing can be set aside
        # What was taken back later is not what anybody wanted.
        learned, wanted = train.select(~held), train.select(held & np.isnat(train.returned))
        spoken = searchers.before(known_until(learned, train.select(held))).described() if searchers else users
        counted, known_users, known_items = as_of(learned, weights, spoken, items)
        in_time = kind == "temporal" and number == len(parts) - 1 and len(parts) > draws(train)
        divisions.append(Division(counted, wanted, known_users, known_items, learned, in_time))
    tuned = tune(
        settings, divisions, cold_share=cold_share_of(train),
        prior=prior.at(len(np.unique(train.users))) if prior else None,
        progress=lambda epoch, epochs: progress("validation", epoch, epochs),
    )  # fmt: skip
    chosen = tuned.parameters
    if came is not None:
        chosen = choose_freshness(tuned.fitted, divisions[-1], came).settled(chosen)
    if not given:
        trials = EventTrials(tuned.fitted, learned, wanted, spoken, items, weights)
        trials.choose(HALF_LIFE, _HALF_LIVES)
        weights = trials.weights
    counted, known_users, known_items = as_of(train, weights, users, items)
    return HybridRecommender(chosen).fit(
        counted, known_users, known_items, seen=train, came=came,
        progress=lambda epoch, epochs: progress("fit", epoch, epochs),
    )  # fmt: skip


def held_out(
    train: Interactions, items: Entities, kind: str, groups: Sequence[str], seed: int
) -> NDArray[np.bool_]:
    """Which interactions are set aside for a single choice: the latest ones, or some by chance.

    Where no interactions are the latest, those of "temporal" are drawn by chance as for the others.
    """
    if kind == "temporal" and (rows := latest(train.timestamps, LATEST)) is not None:
        return rows
    return by_chance(train, groups, seed)
