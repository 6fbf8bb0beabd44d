"""Learn what the parts of a score weigh, on held-out rankings with warm and cold items, known and new users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recommender.measure.latest import COLD_SHARE
from recommender.model.fitted import Fitted
from recommender.model.fitting import fit
from recommender.model.pair_order import OnStep
from recommender.model.parameters import Parameters
from recommender.model.weights import ALWAYS, LEAST, MOST, OF_WARM_ITEMS, PARTS, Weights
from recommender.tuning.climbing import Ranked
from recommender.tuning.divisions import SHARE_OF_PAIRS, Division
from recommender.tuning.held_out_rankings import HeldOutRankings, Mask, all_scores, known_before, ndcg_per_user
from recommender.tuning.learning import draw_lists
from recommender.tuning.prior import Level
from recommender.tuning.rankings import FEWEST, Rankings, weights_of
from recommender.tuning.recipes import RecipeSelection
from recommender.tuning.ridge import choose_ridge, with_ridge

FITTED = "learned on held-out interactions"
STAND_IN = "learned on held-out interactions; the text of a held-out purchase replaced the users' words"
DEFAULT = "default: the data cannot tell"
KEPT = "the default, kept after trials on held-out interactions"
_ALPHAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
# Of the weights of cold items, and in deviations of the scores of warm ones.
_SCALES = (0.5, 0.7, 1.0, 1.4, 2.0)
_OFFSETS = tuple(np.arange(-3.0, 3.25, 0.25).tolist())
# How much more crowded with items that nobody ever took a shop may be than its divisions, before they are placed lower.
_CROWDED = 4.0
# How much of the loss of a list asks for all wanted items; of cold items any is good.
_EACH = {"warm": 0.5, "cold": 0.0}
# All users of a draw share its few cold items: their lists tell less than their number says.
_PULLS = {"warm": 3.0, "cold": 5.0}
# The least weight of a description where there is none to learn from, beside the default weights.
_WORDS = 1.5
# What lists of interactions drawn by chance count beside those in time, for warm items.
_BY_CHANCE = 0.2


@dataclass(frozen=True)
class Tuned:
    """The result of `tune`.

    Attributes:
        parameters: for the next fit.
        fitted: what was learned in the last division, with these parameters and one seed of LightFM.
        learned: the weights that the data alone tell, before a prior and before items without history are placed.
    """

    parameters: Parameters
    fitted: Fitted
    learned: Weights


def tune(
    parameters: Parameters, divisions: Sequence[Division], *, cold_share: float = COLD_SHARE,
    prior: Level | None = None, progress: Callable[[int, int], None] = lambda epoch, epochs: None,
    on_epoch: OnStep | None = None,
) -> Tuned:
    """Fit on what each division learns from, then learn the weights and choose α by what it wants.

    - `metric_ridge`, by NDCG@20 of cold items (`recommender.tuning.ridge`).
    - The weights of parts, for warm and cold items, users with much evidence and without (`Weights`): a softmax over
      lists (`recommender.tuning.learning`). How far the defaults pull, and whether coordinate ascent on NDCG@20 follows
      (`recommender.tuning.climbing`), is judged on draws that were left out (`recommender.tuning.recipes`). Of warm
      items, lists in time count more than lists by chance.
    - `words`, the least weight of a description: none where users have descriptions; otherwise 1.5, times the change of
      what popularity weighs.
    - The scale of the weights of cold items, and `cold_offset`, with all items in one list. In a shop with very many
      items that nobody ever took, each of them is less likely to be wanted than a new item of a division: the offset is
      lower by the logarithm of how many times as many they are, beyond four times.
    - `alpha`, on users with words. Where no user has a description, the text of each user's first held-out interaction
      replaces it, and is not wanted.

    With a prior, the weights of parts and `cold_offset` are then those of the prior, mixed with the learned ones
    (`recommender.tuning.prior.Level.mixed`).

    Items that nobody has, neither in what is learned nor in what is wanted, are no candidates.

    Args:
        parameters: the defaults, and all that is not chosen here.
        divisions: of the training data, at least one.
        cold_share: the share of cold items among the wanted ones when all items are ranked. A division in time shows
            it itself.
        prior: what shops of this size have in common; None: the data alone decide.
        progress: called with the finished epochs of all fits and their number.
        on_epoch: called after each epoch of the fit of the last division, see `recommender.model.fitting.fit`; from a
            thread of its own.

    Returns:
        `source` of the parameters says how each was chosen; what has fewer than ten held-out rankings keeps its value.
    """
    fits = _fits(parameters, divisions, progress, on_epoch)
    source = {"metric_ridge": DEFAULT, "alpha": DEFAULT, "weights": DEFAULT, "cold_offset": DEFAULT}
    sets = [
        Rankings.of(fitted, division, np.random.default_rng([parameters.seed, place]))
        for place, (fitted, division) in enumerate(zip(fits, divisions, strict=True))
    ]
    ridge = choose_ridge(fits, sets)
    if ridge is not None:
        source["metric_ridge"] = FITTED
    if ridge not in (None, parameters.metric_ridge):
        changed = [with_ridge(fitted, one, ridge) for fitted, one in zip(fits, sets, strict=True)]
        fits, sets = [fitted for fitted, _ in changed], [one for _, one in changed]
    weights = parameters.weights
    for side in ("warm", "cold"):
        weights, told = _learned(weights, sets, side, parameters.seed)
        source["weights"] = FITTED if told else source["weights"]
    weights = learned = replace(weights, words=_words(parameters.weights, weights, sets))
    weights, told = _placed(weights, sets, cold_share, parameters.seed)
    source["cold_offset"] = FITTED if told else DEFAULT
    if prior is not None:
        weights = prior.mixed(learned)
        weights = replace(weights, words=_words(parameters.weights, weights, sets, prior.own))
        source |= dict.fromkeys(("weights", "cold_offset"), prior.told)
    fitted = fits[-1].with_parameters(weights=weights)
    alpha, source["alpha"] = _alpha(fitted, divisions[-1], parameters)
    fitted = fitted.with_parameters(alpha=alpha, lightfm_seeds=parameters.lightfm_seeds)
    for name in ("alpha", "metric_ridge"):
        if source[name] != DEFAULT and getattr(fitted.parameters, name) == getattr(parameters, name):
            source[name] = KEPT
    fitted = fitted.with_parameters(source=source)
    return Tuned(fitted.parameters, fitted, learned)


def _fits(
    parameters: Parameters, divisions: Sequence[Division], progress: Callable[[int, int], None],
    on_epoch: OnStep | None,
) -> list[Fitted]:
    """One fit for each division, two at a time; LightFM lets other threads go on."""
    # The mean over several seeds is for the last fit: here it costs more time than it tells.
    settings = replace(parameters, lightfm_seeds=1)
    done = [0] * len(divisions)

    def one(place: int) -> Fitted:
        def told(epoch: int, epochs: int) -> None:
            done[place] = epoch
            progress(sum(done), epochs * len(divisions))

        division = divisions[place]
        last = place == len(divisions) - 1
        return fit(
            settings, division.learned, division.users, division.items, seen=division.seen, progress=told,
            on_epoch=on_epoch if last else None, held_out=division.wanted,
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(len(divisions))))


def _learned(weights: Weights, sets: Sequence[Rankings], side: str, seed: int) -> tuple[Weights, bool]:
    in_time = side == "warm" and any(one.in_time for one in sets)
    rankings = []
    for one in sets:
        found = one.side(side, _BY_CHANCE if in_time and not one.in_time else 1.0)
        # A division in time is the only one: its halves are judged by each other.
        rankings += found.halves() if in_time and one.in_time else [found]
    rng = np.random.default_rng(seed)
    lists = [draw_lists(list(one.parts), one.wanted, one.open_, one.evidence, one.importance, rng) for one in rankings]
    if sum(map(len, lists)) < FEWEST:
        return weights, False
    useless = [side == "cold" and part in OF_WARM_ITEMS for part in PARTS]
    least = np.array([LEAST if part in ALWAYS else 0.0 for part in PARTS])
    idle = np.array([
        bool(use) or not any(one.parts[..., k].any() for one in lists) for k, use in enumerate(useless)
    ])  # fmt: skip
    lists = [replace(one, parts=one.parts * ~idle) for one in lists]
    prior = np.where(idle, least, weights_of(weights, side))
    selection = RecipeSelection(rankings, lists, prior, least, MOST, _EACH[side], _PULLS[side])
    learned = np.where(idle, least, np.clip(selection.learned(selection.choose()), least, MOST))
    pairs = {
        part: (round(float(learned[0, k]), 4), round(float(learned[1, k]), 4))
        for k, part in enumerate(PARTS) if learned[:, k].max() > 1e-3
    }  # fmt: skip
    return replace(weights, warm=pairs) if side == "warm" else replace(weights, cold=pairs), True


def _words(before: Weights, learned: Weights, sets: Sequence[Rankings], own: float = 1.0) -> float:
    """The least weight of a description: what it is beside popularity; none where users' own can be learned from.

    Of the shops that a prior is learned from, hardly any have users with descriptions: as far as the shop's own weights
    do not count, nothing tells what a description should weigh.
    """
    untold = 1.0 - own if any(any(one.users.descriptions) for one in sets) else 1.0
    if not untold:
        return 0.0
    of_items = [part for part in PARTS if part.startswith("popularity")]
    now, then = (sum(weights.warm.get(part, (0.0, 0.0))[0] for part in of_items) for weights in (learned, before))
    return round(min(untold * _WORDS * (now / then if now and then else 1.0), MOST), 4)


def _placed(
    weights: Weights, sets: Sequence[Rankings], cold_share: float, seed: int
) -> tuple[Weights, bool]:
    """The scale of the weights of cold items, and the offset, by NDCG@20 of users with history among all items."""
    used = [one for one in sets if one.in_time]
    found = _of_all_items(used, weights, None, seed)
    if sum(len(few) for few, *_ in found) < FEWEST:
        used = [one for one in sets if not one.in_time]
        found = _of_all_items(used, weights, cold_share, seed)
    if sum(len(few) for few, *_ in found) < FEWEST:
        return weights, False
    spread = float(np.sqrt(np.mean([old[:, ~cold].var(axis=1).mean() for _, old, _, cold in found])))

    def quality(scale: float, offset: float) -> float:
        values = [
            few.quality(np.where(cold, np.float32(scale) * new + np.float32(offset * spread), old))
            for few, old, new, cold in found
        ]
        return float(np.concatenate(values).mean())

    trials = {(scale, offset): quality(scale, offset) for scale in _SCALES for offset in _OFFSETS}
    # Its neighbours count too: the best of many values looks better than it is.
    scale, offset = max(trials, key=lambda at: _smoothed(trials, at))
    cold = {part: (min(new * scale, MOST), min(known * scale, MOST)) for part, (new, known) in weights.cold.items()}
    # The weights are those of a softmax: what is as likely among r times as many is log(r) lower.
    crowd = np.log(max(float(np.mean([one.crowding for one in used])) / _CROWDED, 1.0))
    return replace(weights, cold=cold, cold_offset=round(float(offset * spread - crowd), 4)), True


def _of_all_items(
    sets: Sequence[Rankings], weights: Weights, cold_share: float | None, seed: int
) -> list[tuple[Ranked, NDArray[np.float32], NDArray[np.float32], Mask]]:
    """Users with history who want an item, and their scores of warm and of cold items; sets with both kinds wanted."""
    found = []
    for place, one in enumerate(sets):
        ranked, cold = one.ranked, one.cold
        if cold_share is not None:
            ranked, cold = _thinned(ranked, cold, cold_share, np.random.default_rng([seed, place, 1]))
        rows = np.flatnonzero(ranked.wanted.any(axis=1) & (ranked.evidence > 0))
        few = ranked.take(rows, np.arange(len(cold)))
        if few.wanted[:, cold].any() and few.wanted[:, ~cold].any():
            old, new = (few.scores(weights_of(weights, side)) for side in ("warm", "cold"))
            found.append((few, old, new, cold))
    return found


def _smoothed(trials: dict[tuple[float, float], float], at: tuple[float, float]) -> float:
    scale, offset = _SCALES.index(at[0]), _OFFSETS.index(at[1])
    near = [
        trials[_SCALES[s], _OFFSETS[o]]
        for s in (scale - 1, scale, scale + 1) for o in (offset - 1, offset, offset + 1)
        if 0 <= s < len(_SCALES) and 0 <= o < len(_OFFSETS)
    ]  # fmt: skip
    return trials[at] + float(np.mean(near))


def _thinned(
    ranked: Ranked, cold: Mask, share: float, rng: np.random.Generator
) -> tuple[Ranked, Mask]:
    """The list "overall" of `recommender.measure.splits.Split`, of a division by chance.

    As many of the pairs of a cold item are wanted as of a warm one; the others are no candidates. Then items of the
    kind that is wanted too often leave, until cold items have their share of what is wanted.
    """
    gone = ranked.wanted & cold & (rng.random(ranked.wanted.shape) >= SHARE_OF_PAIRS)
    wanted, open_ = ranked.wanted & ~gone, ranked.open_ & ~gone
    of_cold, of_warm = int(wanted[:, cold].sum()), int(wanted[:, ~cold].sum())
    keep_cold = share / (1 - share) * of_warm / max(of_cold, 1)
    keep_warm = (1 - share) / share * of_cold / max(of_warm, 1)
    columns = np.flatnonzero(rng.random(len(cold)) < np.where(cold, keep_cold, keep_warm))
    thin = replace(ranked, wanted=wanted, open_=open_)
    return thin.take(np.arange(len(wanted)), columns), cold[columns]


def _alpha(fitted: Fitted, division: Division, parameters: Parameters) -> tuple[float, str]:
    rankings = HeldOutRankings.of(known_before(fitted.history.whole, division.wanted), fitted, parameters.seed)
    described, own = rankings.with_words(division.wanted, division.items, same_visit=False)
    if len(described.users) < FEWEST:
        return parameters.alpha, DEFAULT
    cold, trials = fitted.all_items.cold, {}
    for alpha in {parameters.alpha, *_ALPHAS}:
        total = all_scores(fitted.with_parameters(alpha=alpha), described.users)
        trials[alpha] = [ndcg_per_user(total, described, side) for side in (cold, ~cold)]
    best = max(trials, key=lambda alpha: sum(_mean(part) for part in trials[alpha]))
    gains = [mine - old for mine, old in zip(trials[best], trials[parameters.alpha], strict=True) if len(mine)]
    if sum(map(len, gains)) < FEWEST:
        return parameters.alpha, DEFAULT
    error = np.sqrt(sum(float(gain.var()) / len(gain) for gain in gains))
    # The best of ten choices lies about two standard errors above them.
    sure = sum(float(gain.mean()) for gain in gains) > 2 * error
    return best if sure else parameters.alpha, FITTED if own else STAND_IN


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
