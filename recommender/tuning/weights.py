"""Choose the weights of the parts on held-out rankings, with cold items and cold users among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.model.closed_form import item_item_weights, item_metric
from recommender.model.fitted import Fitted
from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.model.scoring import Block, Scores, rescaled
from recommender.tuning.held_out_rankings import HeldOutRankings, Mask, all_scores, known_before, ndcg_per_user

_RIDGES = (2.0, 4.0, 8.0, 30.0)
_ITEM_ITEM_RIDGES = (30.0, 100.0, 300.0)
_SMOOTHINGS = (0.0, 0.5, 1.0, 3.0)
_GAMMAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_HALF_TRUSTS = (1.0, 10.0, np.inf)
_WARM_TEXT_WEIGHTS = (0.0, 0.125, 0.25, 0.5, 1.0)
_ITEM_ITEM_WEIGHTS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_ALPHAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_PREDICTED = (0.0, 4.0, 16.0)
_COLD_GAMMAS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0)
_GROUPS = (0.0, 0.5, 1.0)
_OFFSETS = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
STAND_IN = "fitted on held-out interactions; the text of a held-out purchase replaced the users' words"
FITTED = "fitted on held-out interactions"
DEFAULT = "default: the data cannot tell"
KEPT = "the default, kept after trials on held-out interactions"
# The fewest rankings that a choice is made on.
FEWEST = 10
# The best of several hundred equal choices lies about 3 standard errors above them.
_SURE = 3.0

_Choice = TypeVar("_Choice")


def tune(
    parameters: Parameters, train: Interactions, held_out: Interactions, users: Entities, items: Entities, *,
    seen: Interactions | None = None, progress: Callable[[int, int], None] = lambda epoch, epochs: None,
) -> Fitted:
    """Fit on `train`, then choose parameters by NDCG@20 of held-out rankings.

    - For items without history: `metric_ridge`, `item_item_smoothing` and `gamma`. For items with history:
      `item_item_ridge`, `item_item_weight` and `warm_text_weight`. For both: `lightfm_half_trust`.
    - `alpha`, on users with words. Where no user has a description, the text of each user's first held-out
      interaction replaces it, and is not wanted.
    - For users without history: `gamma_cold`, `gamma_attributes`, `predicted_profile_weight` and
      `attribute_popularity`. They depart from popularity as far as held-out users support it.
    - `cold_offset`, with all items in one list.

    Args:
        parameters: the defaults, and all that is not chosen here.
        train: what is learned from, weighted.
        held_out: what is wanted; later than `train`, or set aside.
        users: features with profiles of `train` alone.
        items: likewise.
        seen: what is not ranked; None is `train`.
        progress: called after each epoch of the fit, with the finished epochs and all.

    Returns:
        What was learned from `train`, with one seed of LightFM. Its parameters are those chosen for the next fit;
        `source` says how each was chosen, and a parameter without enough held-out rankings keeps its value.
    """
    # The mean over several seeds is for the last fit: here it costs more time than it tells.
    fitted = fit(replace(parameters, lightfm_seeds=1), train, users, items, seen=seen, progress=progress)
    cold = fitted.all_items.cold
    source = dict.fromkeys(_CHOSEN, DEFAULT)
    rankings = HeldOutRankings.of(known_before(fitted.history.whole, held_out), fitted, parameters.seed)
    if len(rankings.users):
        fitted = _for_known_users(fitted, rankings, cold, source)
        fitted = _offset(fitted, rankings, source)
    described, own = rankings.with_words(held_out, items, same_visit=False)
    if len(described.users):
        trials = {}
        for alpha in {fitted.parameters.alpha, *_ALPHAS}:
            total = all_scores(fitted.with_parameters(alpha=alpha), described.users)
            trials[alpha] = [ndcg_per_user(total, described, side) for side in (cold, ~cold)]
        fitted = fitted.with_parameters(alpha=_preferred(trials, fitted.parameters.alpha))
        source["alpha"] = FITTED if own else STAND_IN
    new = held_out.select(~np.isin(held_out.users, train.users) & ~cold[held_out.items])
    fitted = _for_new_users(fitted, HeldOutRankings.of(new, fitted, parameters.seed), new, cold, source)
    for name in _CHOSEN:
        if source[name] != DEFAULT and getattr(fitted.parameters, name) == getattr(parameters, name):
            source[name] = KEPT
    return fitted.with_parameters(source=source, lightfm_seeds=parameters.lightfm_seeds)


def choose_cold_offset(fitted: Fitted, held_out: Interactions, among: Mask, default: float) -> Fitted:
    """Choose `cold_offset` anew, by NDCG@20 of held-out rankings of some items.

    Args:
        fitted: learned without `held_out`.
        held_out: what is wanted, by users with history or without.
        among: (items,), the items that are ranked.
        default: the offset unless another value is better.

    Returns:
        The same state with this `cold_offset`.
    """
    rankings = HeldOutRankings.of(held_out, fitted, fitted.parameters.seed)
    rankings = replace(rankings, wanted=rankings.wanted & among, known=rankings.known | ~among)
    source = fitted.parameters.source | {"cold_offset": DEFAULT}
    fitted = _offset(fitted.with_parameters(cold_offset=default), rankings, source)
    if source["cold_offset"] == FITTED and fitted.parameters.cold_offset == default:
        source["cold_offset"] = KEPT
    return fitted.with_parameters(source=source)


_CHOSEN = (
    "metric_ridge", "item_item_ridge", "item_item_smoothing", "gamma", "lightfm_half_trust", "item_item_weight",
    "warm_text_weight", "alpha", "gamma_cold", "gamma_attributes", "predicted_profile_weight", "attribute_popularity",
    "cold_offset",
)  # fmt: skip


class _Parts:
    """The parts of the scores of some users with history, so that weights can be tried without computing them again."""

    def __init__(self, fitted: Fitted, rankings: HeldOutRankings) -> None:
        self.fitted, self.block = fitted, Block.of(fitted, rankings.users)
        items = fitted.all_items
        _, expected, lightfm, popularity = self.block.raw(items)
        self.lightfm = self.block.of_lightfm.standard(lightfm).astype(np.float32)
        self.popularity = self.block.of_popularity.standard(popularity).astype(np.float32)
        self.expected = _scaled(expected, ~items.cold) * (fitted.partner_columns(items.rows) >= 0)
        self.n = np.diff(self.block.users.history.indptr)[:, None]

    def base(self, half_trust: float) -> Scores:
        trust = self.n / (self.n + half_trust) if np.isfinite(half_trust) else 0.0
        return np.asarray(trust * self.lightfm + (1 - trust) * self.popularity, dtype=np.float32)

    def text(self, metric: NDArray[np.float32], smoothing: float) -> Scores:
        """The scores of P_u'ᵀ A x, under another item metric."""
        side, items = self.block.users, self.fitted.all_items
        past = side.past + side.text
        change = smoothing - self.fitted.parameters.item_item_smoothing
        if change:
            past = past + np.float32(change) * items.features.summed(side.expected)
        return _scaled(items.features.dot(np.asarray(past @ metric, np.float32)).T, ~items.cold)


def _for_known_users(fitted: Fitted, rankings: HeldOutRankings, cold: Mask, source: dict[str, str]) -> Fitted:
    """λ_B, then λ, smoothing and γ on items without history, then δ and the weight of text on items with history."""
    settings = fitted.parameters
    wants_cold, wants_warm = rankings.wanted[:, cold].any(), rankings.wanted[:, ~cold].any()
    if wants_warm:
        history = fitted.history.whole
        found = {
            ridge: item_item_weights(history, ridge) for ridge in {settings.item_item_ridge, *_ITEM_ITEM_RIDGES}
        }
        histories = fitted.history_of(rankings.users.ids)
        values = {
            ridge: [ndcg_per_user(np.asarray((histories @ B).toarray()), rankings, ~cold)]
            for ridge, B in found.items()
        }
        best = _preferred(values, settings.item_item_ridge)
        fitted = fitted.changed(item_item=found[best], parameters=replace(settings, item_item_ridge=best))
        source["item_item_ridge"] = FITTED
    parts = _Parts(fitted, rankings)
    half_trust, gamma = settings.lightfm_half_trust, settings.gamma
    text = parts.text(fitted.item_metric, settings.item_item_smoothing)
    if wants_cold:
        fitted, text = _text_of_new_items(fitted, parts, rankings, cold)
        half_trust, gamma = fitted.parameters.lightfm_half_trust, fitted.parameters.gamma
        source |= dict.fromkeys(("metric_ridge", "item_item_smoothing", "gamma", "lightfm_half_trust"), FITTED)
    if wants_warm:
        default = (half_trust, settings.warm_text_weight, settings.item_item_weight)
        trials = {}
        for half in {half_trust, *_HALF_TRUSTS}:
            base = parts.base(half)
            of_cold = [ndcg_per_user(base + np.float32(gamma) * text, rankings, cold)]
            for of_text, weight in {default[1:], *product(_WARM_TEXT_WEIGHTS, _ITEM_ITEM_WEIGHTS)}:
                warm = np.float32(of_text) * text + np.float32(weight) * parts.expected
                scores = base + np.float32(gamma) * warm
                trials[half, of_text, weight] = [*of_cold, ndcg_per_user(scores, rankings, ~cold)]
        half_trust, of_text, weight = _preferred(trials, default)
        fitted = fitted.with_parameters(
            lightfm_half_trust=half_trust, warm_text_weight=of_text, item_item_weight=weight
        )
        source |= dict.fromkeys(("warm_text_weight", "item_item_weight", "lightfm_half_trust"), FITTED)
    return rescaled(fitted)


def _text_of_new_items(
    fitted: Fitted, parts: _Parts, rankings: HeldOutRankings, cold: Mask
) -> tuple[Fitted, Scores]:
    settings = fitted.parameters
    default = (settings.metric_ridge, settings.item_item_smoothing, settings.lightfm_half_trust, settings.gamma)
    features = fitted.warm_items.features
    metrics = {ridge: item_metric(features, ridge) for ridge in {settings.metric_ridge, *_RIDGES}}
    bases = {half: parts.base(half) for half in {settings.lightfm_half_trust, *_HALF_TRUSTS}}
    trials = {}
    for ridge, smoothing in product(metrics, {settings.item_item_smoothing, *_SMOOTHINGS}):
        text = parts.text(metrics[ridge], smoothing)
        for half, gamma in product(bases, {settings.gamma, *_GAMMAS}):
            scores = bases[half] + np.float32(gamma) * text
            trials[ridge, smoothing, half, gamma] = [ndcg_per_user(scores, rankings, cold)]
    ridge, smoothing, half, gamma = _preferred(trials, default)
    chosen = replace(
        settings, metric_ridge=ridge, item_item_smoothing=smoothing, lightfm_half_trust=half, gamma=gamma
    )
    return fitted.changed(item_metric=metrics[ridge], parameters=chosen), parts.text(metrics[ridge], smoothing)


def _preferred(trials: dict[_Choice, list[NDArray[np.float64]]], default: _Choice) -> _Choice:
    """The choice of the highest sum of means, if it beats the default by more than `_SURE` standard errors; else that.

    The best of many choices looks better than it is; what data cannot tell apart keeps its default.
    """
    best = max(trials, key=lambda choice: sum(_mean(part) for part in trials[choice]))
    gains = [mine - old for mine, old in zip(trials[best], trials[default], strict=True) if len(mine)]
    if sum(map(len, gains)) < FEWEST:
        return default
    error = np.sqrt(sum(float(gain.var()) / len(gain) for gain in gains))
    return best if sum(float(gain.mean()) for gain in gains) > _SURE * error else default


def _offset(fitted: Fitted, rankings: HeldOutRankings, source: dict[str, str]) -> Fitted:
    cold = fitted.all_items.cold
    if not rankings.wanted[:, cold].any() or not rankings.wanted[:, ~cold].any():
        return fitted
    default = fitted.parameters.cold_offset
    total = all_scores(fitted, rankings.users) - np.float32(default) * cold
    everything = np.ones(len(cold), dtype=bool)
    offsets = [default, *_OFFSETS]
    values = [ndcg_per_user(total + np.float32(offset) * cold, rankings, everything) for offset in offsets]
    if len(values[0]) < FEWEST:
        return fitted
    source["cold_offset"] = FITTED
    return fitted.with_parameters(cold_offset=offsets[int(np.argmax([_mean(value) for value in values]))])


def _for_new_users(
    fitted: Fitted, rankings: HeldOutRankings, held_out: Interactions, cold: Mask, source: dict[str, str]
) -> Fitted:
    """Start from popularity; take text and attributes as far as they are better by more than one standard error."""
    if not len(rankings.users):
        return fitted
    if any(rankings.users.attributes):
        trials = [fitted.with_parameters(attribute_popularity=weight, gamma_cold=0.0) for weight in _GROUPS]
        values = [ndcg_per_user(all_scores(trial, rankings.users), rankings, ~cold) for trial in trials]
        fitted = fitted.with_parameters(attribute_popularity=_GROUPS[_improving(values)])
        source["attribute_popularity"] = FITTED
    described, own = rankings.with_words(held_out, fitted.items.whole, same_visit=True)
    origin = FITTED if own else STAND_IN
    silent = rankings.take(np.flatnonzero(~rankings.users.embeddings.any(axis=1)))
    has_map = len(fitted.predicted_profiles.weights) > 0
    # The text of a purchase is not a user's: it says nothing of the map, and so comes last.
    if len(described.users) and own and has_map:
        fitted = _weighed(fitted, described, cold, source, origin, _PREDICTED)
    weight = fitted.parameters.predicted_profile_weight
    if has_map and any(silent.users.attributes):
        weights = (weight,) if weight else _PREDICTED[1:]
        fitted = _weighed(fitted, silent, cold, source, FITTED, weights, name="gamma_attributes")
    if len(described.users) and not (own and has_map):
        weights = (fitted.parameters.predicted_profile_weight,)
        fitted = _weighed(fitted, described, cold, source, origin, weights)
    return fitted


def _weighed(
    fitted: Fitted, rankings: HeldOutRankings, cold: Mask, source: dict[str, str], origin: str,
    weights: Sequence[float], *, name: str = "gamma_cold",
) -> Fitted:  # fmt: skip
    """γ of users without history, and the weight of predicted profiles, against popularity alone."""
    settings, default = fitted.parameters, getattr(fitted.parameters, name)
    options = [(settings.predicted_profile_weight, 0.0), *product(weights, _COLD_GAMMAS[1:])]
    trials = [
        fitted.with_parameters(**{name: gamma}, predicted_profile_weight=weight) for weight, gamma in options
    ]
    values = [ndcg_per_user(all_scores(trial, rankings.users), rankings, ~cold) for trial in trials]
    weight, gamma = options[_improving(values)]
    unsure = not gamma or (origin == STAND_IN and gamma < default)
    if name == "gamma_cold" and unsure and (weights[0], default) in options:
        # The data cannot tell, or the text of a purchase tells less than a user's own words: the default stays unless
        # it does harm.
        kept = values[options.index((weights[0], default))]
        if len(values[0]) < FEWEST or kept.mean() >= values[0].mean():
            source[name] = KEPT if gamma else source[name]
            return fitted
    if name == "gamma_attributes" and not gamma and not settings.predicted_profile_weight:
        return fitted
    source[name] = origin
    if len(weights) > 1:
        source["predicted_profile_weight"] = origin
    return fitted.with_parameters(**{name: gamma}, predicted_profile_weight=weight)


def _improving(values: Sequence[NDArray[np.float64]]) -> int:
    """The best of some per-user values, if it is better than the first by more than one standard error; else 0."""
    if len(values[0]) < FEWEST:
        return 0
    best = max(range(len(values)), key=lambda place: float(values[place].mean()))
    gains = values[best] - values[0]
    return best if gains.mean() > gains.std() / np.sqrt(len(gains)) else 0


def _scaled(scores: Scores, warm: Mask) -> Scores:
    """Centred per user over items with history, in the deviations that are usual among these users."""
    inside = scores[:, warm]
    usual = max(float(np.sqrt(inside.var(axis=1).mean())), 1e-9)
    return np.asarray((scores - inside.mean(axis=1, keepdims=True)) / usual, dtype=np.float32)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


