"""The job of `coldstart weigh`: fit event weights and the half-life on the latest interactions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import whole, writing
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.data.contract import RETURN
from recommender.data.dataset import files_in, read_dataset, settings_of
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.measure.latest import LATEST, latest
from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.tuning.event_weights import HALF_LIFE, Choice, EventTrials, as_of
from recommender.tuning.rankings import FEWEST
from recommender.tuning.validation import held_out
from recommender.tuning.weights import FITTED, KEPT

# Shares of the largest weight. A type with a share of 1 would count as relevant in the next run, so none has it.
_SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 0.8)
_RETURNS = (0.0, 0.5, 1.0)
_HALF_LIVES = (math.inf, 180.0, 60.0, 30.0)


@dataclass(frozen=True)
class Weighing:
    """The fitted weights, and the held-out rankings.

    Attributes:
        choices: one for each weight that was tried, then one for the half-life.
        wanted: the relevant event types; their weight is the unit of all weights.
        rankings: number of held-out rankings that judge; those of the other half of the users have chosen.
        before: NDCG@20 of these rankings with the previous weights.
        after: their NDCG@20 with the new weights.
        by_chance: whether the held-out interactions were drawn by chance, because the data have no time.
    """

    choices: Sequence[Choice]
    wanted: Sequence[str]
    rankings: int
    before: float
    after: float
    by_chance: bool = False


def weigh(data: Path, repo: Path, *, report: Report = no_report) -> Weighing:
    """Fit event weights and half-life, and write them into the repository's `enrichment.json`.

    The latest interactions are held out, and the recommender is fitted once on the earlier ones with the weights in the
    file. Then other weights are tried for one type after the other, then other half-lives. They are compared by the
    ranking of the users' new interactions of the types with the largest weight (by default purchases). These types
    are the unit and keep their weight. One half of the users chooses, and a chosen value is kept only if the other half
    is better with it (see `recommender.tuning.event_weights.EventTrials.choose`). The text of searches is not read.
    Where the data have no time, interactions drawn by chance are held out, and the half-life is not fitted.

    Args:
        data: the folder of the tables of the data contract.
        repo: the Feast repository; it need not be applied.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: the data break the contract, the repository does not exist, or there are too few held-out
            rankings; nothing is written.
        InUseError: another process changes the repository.
    """
    with writing(whole(repo / "data"), command="coldstart weigh"):
        return _weigh(data, repo, report)


def _weigh(data: Path, repo: Path, report: Report) -> Weighing:
    settings = settings_of(repo)
    tables = read_dataset(
        *files_in(data), model=settings.model, backend=settings.backend, weights=settings.event_weights, report=report
    )
    interactions, weights = tables.interactions, EventWeights.of_settings(settings)
    wanted, others = _types(interactions, weights)
    timed = latest(interactions.timestamps, LATEST) is not None
    held = held_out(interactions, tables.items, "temporal", tables.items.ids, 0)
    if not timed and not others:
        raise ColdStartError(
            f"all {len(interactions):,} interactions have the type {wanted[0]!r}, or another of its weight, and no "
            "time: there is nothing to weigh, and nothing was written"
        )
    if held.all():
        held = np.zeros_like(held)  # of so little nothing can be held out
    learned = interactions.select(~held)
    # Returned interactions are not relevant, as when parameters are chosen.
    of_these = np.isin(interactions.events, [interactions.event_types.index(name) for name in wanted])
    asked = interactions.select(held & of_these & np.isnat(interactions.returned))

    candidates = {name: _around(weights.of(name), weights.of(wanted[0])) for name in others}
    if (learned.returned <= learned.timestamps.max()).any():  # a later return is not known yet
        candidates[RETURN] = [value for value in _RETURNS if value != weights.of(RETURN)]
    if timed:
        candidates[HALF_LIFE] = [days for days in _HALF_LIVES if days != weights.half_life_days]
    total, done = sum(map(len, candidates.values())), count(1)

    counted, users, items = as_of(learned, weights, tables.users, tables.items)
    parameters = Parameters(alpha=settings.alpha, evidence_scale=settings.evidence_scale, lightfm_seeds=1)
    fitted = fit(
        parameters, counted, users, items, seen=learned,
        progress=lambda epoch, epochs: report("LightFM", epoch, epochs),
    )  # fmt: skip
    trials = EventTrials(
        fitted, learned, asked, tables.users, tables.items, weights,
        progress=lambda: report("trials of weights and half-lives", next(done), total),
    )  # fmt: skip
    before, (choosing, judging) = trials.values, trials.rankings
    if min(choosing, judging) < FEWEST:
        raise ColdStartError(
            f"{'the latest ' if timed else ''}{int(held.sum()):,} of {len(interactions):,} interactions are held out"
            f"{'' if timed else ', drawn by chance because the data have no time'}, and they give "
            f"{choosing} and {judging} rankings of {', '.join(wanted)} in the two halves of the users; at least "
            f"{FEWEST} are needed in each, and nothing was written. "
            f"Set event_weights and half_life_days by hand in {repo / ENRICHMENT_FILE}"
        )
    for name, values in candidates.items():
        trials.choose(name, values)
    _written(settings, trials).write(repo / ENRICHMENT_FILE)
    return Weighing(trials.choices, wanted, len(before), float(before.mean()), float(trials.values.mean()), not timed)


def _types(interactions: Interactions, weights: EventWeights) -> tuple[list[str], list[str]]:
    """Return the types with the largest weight, and the others; only those that occur, the most frequent first."""
    counts = np.bincount(interactions.events, minlength=len(interactions.event_types))
    names = [interactions.event_types[row] for row in np.argsort(-counts, kind="stable") if counts[row]]
    largest = max(map(weights.of, names))
    wanted = [name for name in names if weights.of(name) == largest]
    return wanted, [name for name in names if name not in wanted]


def _around(weight: float, unit: float) -> list[float]:
    """Return other weights than this one: 0 first, which the others must improve on, then the nearest first."""
    values = (round(share * unit, 6) for share in _SHARES)
    return sorted((value for value in values if value != weight), key=lambda value: (value > 0, abs(value - weight)))


def _written(settings: Enrichment, trials: EventTrials) -> Enrichment:
    """Return the settings with the chosen values and their sources."""
    weights, default, source = trials.weights, EventWeights(), dict(settings.source)
    of_types = [choice for choice in trials.choices if choice.name != HALF_LIFE]
    changed = {choice.name: choice.after for choice in of_types if choice.after != choice.before}
    if changed:
        source["event_weights"] = FITTED
    elif of_types and all(choice.after == default.by_type.get(choice.name) for choice in of_types):
        source["event_weights"] = KEPT
    # A value set by hand, or by an earlier fit, keeps its source if no other value is better.
    if weights.half_life_days != settings.half_life_days:
        source[HALF_LIFE] = FITTED
    elif any(one.name == HALF_LIFE for one in trials.choices) and weights.half_life_days == default.half_life_days:
        source[HALF_LIFE] = KEPT
    return replace(
        settings, event_weights=settings.event_weights | changed, half_life_days=weights.half_life_days, source=source
    )
