"""Choose what weighs how much, on interactions that the recommender has not seen, cold items and users among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.model.closed_form import behaviour, ridge_metric
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.model.scoring import Block, Scores
from recommender.tuning.held_out import Mask, Question, all_scores, known_before, ndcg_per_user

_RIDGES = (2.0, 4.0, 8.0, 30.0)
_BEHAVIOUR_RIDGES = (30.0, 100.0, 300.0)
_SMOOTHINGS = (0.0, 0.5, 1.0, 3.0)
_GAMMAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_FEWS = (1.0, 10.0, np.inf)
_WARM_WORDS = (0.0, 0.125, 0.25, 0.5, 1.0)
_BEHAVIOURS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_ALPHAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_TASTES = (0.0, 4.0, 16.0)
_COLD_GAMMAS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0)
_GROUPS = (0.0, 0.5, 1.0)
_OFFSETS = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
STAND_IN = "fitted on held-out interactions; the text of a held-out purchase stood for the users' words"
FITTED = "fitted on held-out interactions"
DEFAULT = "default: the data cannot tell"
KEPT = "the default, kept after trials on held-out interactions"
# Of fewer rankings no error can be told: one user has no deviation.
FEWEST = 10
# The best of a hundred choices that are all alike lies 2.5 standard errors above them, of four hundred 3.
_SURE = 3.0

_Choice = TypeVar("_Choice")


def tune(
    parameters: Parameters, train: Interactions, held_out: Interactions, users: Entities, items: Entities, *,
    seen: Interactions | None = None, progress: Callable[[int, int], None] = lambda epoch, epochs: None,
) -> HybridRecommender:
    """Fit on `train`, then choose by NDCG@20 on `held_out`; what it says nothing about keeps its value.

    - For items without history: λ, smoothing and γ. For those with: δ and what their words weigh; for both how far
      LightFM is trusted.
    - α for users who have something to say; where nobody wrote a description, the text of each one's first held-out
      interaction stands for it, and is not asked for.
    - For users without history γ_cold, taste and the popularity among those with their attributes. They depart from
      popularity only as far as held-out users speak for it.
    - What is added to items without history, when all items are ranked together.

    Args:
        parameters: the defaults, and all that is not chosen here.
        train: what is learned from, weighted.
        held_out: what is asked for; later, or set aside.
        users: features with profiles of `train` alone.
        items: likewise.
        seen: what is not asked for again; None is `train`.
        progress: told of each epoch of the fit.

    Returns:
        The recommender of `train`, with one seed of LightFM; its parameters are what was chosen for the next fit, and
        say in `source` how.
    """
    # An average of several seeds is for the last fit: here it would cost more time than it tells.
    model = HybridRecommender(replace(parameters, lightfm_seeds=1)).fit(
        train, users, items, seen=seen, progress=progress
    )
    cold = model.all_items.cold
    source = dict.fromkeys(_CHOSEN, DEFAULT)
    asked = Question.of(known_before(model.history, held_out), model, parameters.seed)
    if len(asked.users):
        model = _for_known_users(model, asked, cold, source)
        model = _offset(model, asked, source)
    spoken, own = asked.with_words(held_out, items, same_visit=False)
    if len(spoken.users):
        trials = {}
        for alpha in {model.parameters.alpha, *_ALPHAS}:
            total = all_scores(model.with_parameters(alpha=alpha), spoken.users)
            trials[alpha] = [ndcg_per_user(total, spoken, side) for side in (cold, ~cold)]
        model = model.with_parameters(alpha=_preferred(trials, model.parameters.alpha))
        source["alpha"] = FITTED if own else STAND_IN
    new = held_out.select(~np.isin(held_out.users, train.users) & ~cold[held_out.items])
    model = _for_new_users(model, Question.of(new, model, parameters.seed), new, cold, source)
    for name in _CHOSEN:
        if source[name] != DEFAULT and getattr(model.parameters, name) == getattr(parameters, name):
            source[name] = KEPT
    return model.with_parameters(source=source, lightfm_seeds=parameters.lightfm_seeds)


def choose_cold_offset(
    model: HybridRecommender, held_out: Interactions, among: Mask, default: float
) -> HybridRecommender:
    """Choose anew what is added to items without history, by NDCG@20 on `held_out` when some items are ranked together.

    Args:
        model: fitted without `held_out`.
        held_out: what is asked for, of users with history or without.
        among: (items,), the items that are ranked.
        default: what is added unless another value is better.

    Returns:
        The same recommender with this `cold_offset`.
    """
    asked = Question.of(held_out, model, model.parameters.seed)
    asked = replace(asked, wanted=asked.wanted & among, known=asked.known | ~among)
    source = model.parameters.source | {"cold_offset": DEFAULT}
    model = _offset(model.with_parameters(cold_offset=default), asked, source)
    if source["cold_offset"] == FITTED and model.parameters.cold_offset == default:
        source["cold_offset"] = KEPT
    return model.with_parameters(source=source)


_CHOSEN = (
    "ridge", "behaviour_ridge", "smoothing", "gamma", "few", "behaviour", "warm_words", "alpha", "gamma_cold",
    "gamma_attributes", "taste", "attribute_popularity", "cold_offset",
)  # fmt: skip


class _Parts:
    """The parts of the scores of some users with history, so that weights can be tried without making them again."""

    def __init__(self, model: HybridRecommender, asked: Question) -> None:
        self.model, self.block = model, Block.of(model, asked.users)
        _, expected, lightfm, popularity = self.block.raw(model, model.all_items)
        self.lightfm = self.block.lightfm.standard(lightfm).astype(np.float32)
        self.popularity = self.block.popularity.standard(popularity).astype(np.float32)
        self.expected = _scaled(expected, ~model.all_items.cold) * model.behaves
        self.n = np.diff(self.block.users.history.indptr)[:, None]

    def base(self, few: float) -> Scores:
        trust = self.n / (self.n + few) if np.isfinite(few) else 0.0
        return np.asarray(trust * self.lightfm + (1 - trust) * self.popularity, dtype=np.float32)

    def words(self, metric: NDArray[np.float32], smoothing: float) -> Scores:
        """The scores of the words, under another metric."""
        side = self.block.users
        past = side.past + side.words
        change = smoothing - self.model.parameters.smoothing
        if change:
            past = past + np.float32(change) * self.model.all_items.columns.summed(side.expected)
        items = self.model.all_items
        return _scaled(items.columns.dot(np.asarray(past @ metric, np.float32)).T, ~items.cold)


def _for_known_users(
    model: HybridRecommender, asked: Question, cold: Mask, source: dict[str, str]
) -> HybridRecommender:
    """λ_B, then λ, smoothing and γ on items without history, then δ and the weight of words on those with."""
    settings = model.parameters
    wants_cold, wants_warm = asked.wanted[:, cold].any(), asked.wanted[:, ~cold].any()
    if wants_warm:
        found = {ridge: behaviour(model.history, ridge) for ridge in {settings.behaviour_ridge, *_BEHAVIOUR_RIDGES}}
        histories = model.history_of(asked.users.ids)
        values = {
            ridge: [ndcg_per_user(np.asarray((histories @ B).toarray()), asked, ~cold)] for ridge, B in found.items()
        }
        best = _preferred(values, settings.behaviour_ridge)
        model = _replaced(model, behaviour=found[best]).with_parameters(behaviour_ridge=best)
        source["behaviour_ridge"] = FITTED
    parts = _Parts(model, asked)
    few, gamma, words = settings.few, settings.gamma, parts.words(model.metric, settings.smoothing)
    if wants_cold:
        model, words = _words_of_new_items(model, parts, asked, cold)
        few, gamma = model.parameters.few, model.parameters.gamma
        source |= dict.fromkeys(("ridge", "smoothing", "gamma", "few"), FITTED)
    if wants_warm:
        default = (few, settings.warm_words, settings.behaviour)
        trials = {}
        for trust in {few, *_FEWS}:
            base = parts.base(trust)
            of_cold = [ndcg_per_user(base + np.float32(gamma) * words, asked, cold)]
            for of_words, weight in {default[1:], *product(_WARM_WORDS, _BEHAVIOURS)}:
                scores = base + np.float32(gamma) * (np.float32(of_words) * words + np.float32(weight) * parts.expected)
                trials[trust, of_words, weight] = [*of_cold, ndcg_per_user(scores, asked, ~cold)]
        few, of_words, weight = _preferred(trials, default)
        model = model.with_parameters(few=few, warm_words=of_words, behaviour=weight)
        source |= dict.fromkeys(("warm_words", "behaviour", "few"), FITTED)
    model = model.with_parameters()
    model.rescale()
    return model


def _words_of_new_items(
    model: HybridRecommender, parts: _Parts, asked: Question, cold: Mask
) -> tuple[HybridRecommender, Scores]:
    settings = model.parameters
    default = (settings.ridge, settings.smoothing, settings.few, settings.gamma)
    metrics = {ridge: ridge_metric(model.warm_items.columns, ridge) for ridge in {settings.ridge, *_RIDGES}}
    bases = {few: parts.base(few) for few in {settings.few, *_FEWS}}
    trials = {}
    for ridge, smoothing in product(metrics, {settings.smoothing, *_SMOOTHINGS}):
        words = parts.words(metrics[ridge], smoothing)
        for few, gamma in product(bases, {settings.gamma, *_GAMMAS}):
            trials[ridge, smoothing, few, gamma] = [ndcg_per_user(bases[few] + np.float32(gamma) * words, asked, cold)]
    ridge, smoothing, few, gamma = _preferred(trials, default)
    words = parts.words(metrics[ridge], smoothing)
    model = _replaced(model, metric=metrics[ridge])
    return model.with_parameters(ridge=ridge, smoothing=smoothing, few=few, gamma=gamma), words


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


def _offset(model: HybridRecommender, asked: Question, source: dict[str, str]) -> HybridRecommender:
    cold = model.all_items.cold
    if not asked.wanted[:, cold].any() or not asked.wanted[:, ~cold].any():
        return model
    default = model.parameters.cold_offset
    total = all_scores(model, asked.users) - np.float32(default) * cold
    everything = np.ones(len(cold), dtype=bool)
    offsets = [default, *_OFFSETS]
    values = [ndcg_per_user(total + np.float32(offset) * cold, asked, everything) for offset in offsets]
    if len(values[0]) < FEWEST:
        return model
    source["cold_offset"] = FITTED
    return model.with_parameters(cold_offset=offsets[int(np.argmax([_mean(value) for value in values]))])


def _for_new_users(
    model: HybridRecommender, asked: Question, held_out: Interactions, cold: Mask, source: dict[str, str]
) -> HybridRecommender:
    """Popularity first; words, taste and attributes as far as they improve on it by more than one standard error."""
    if not len(asked.users):
        return model
    if any(asked.users.attributes):
        trials = [model.with_parameters(attribute_popularity=weight, gamma_cold=0.0) for weight in _GROUPS]
        values = [ndcg_per_user(all_scores(trial, asked.users), asked, ~cold) for trial in trials]
        place = _improving(values)
        model = model.with_parameters(attribute_popularity=_GROUPS[place])
        source["attribute_popularity"] = FITTED
    spoken, own = asked.with_words(held_out, model.items, same_visit=True)
    origin = FITTED if own else STAND_IN
    silent = asked.take(np.flatnonzero(~asked.users.embeddings.any(axis=1)))
    mapped = len(model.taste.weights) > 0
    # A purchase's words are no user's: they say nothing of the map, and so come last.
    mappable = own and mapped
    if len(spoken.users) and mappable:
        model = _weighed(model, spoken, cold, source, origin, _TASTES)
    if mapped and any(silent.users.attributes):
        tastes = (model.parameters.taste,) if model.parameters.taste else _TASTES[1:]
        model = _weighed(model, silent, cold, source, FITTED, tastes, name="gamma_attributes")
    if len(spoken.users) and not mappable:
        model = _weighed(model, spoken, cold, source, origin, (model.parameters.taste,))
    return model


def _weighed(
    model: HybridRecommender, asked: Question, cold: Mask, source: dict[str, str], origin: str,
    tastes: Sequence[float], *, name: str = "gamma_cold",
) -> HybridRecommender:  # fmt: skip
    """γ of users without history, and taste, against popularity alone."""
    settings, default = model.parameters, getattr(model.parameters, name)
    options = [(settings.taste, 0.0), *product(tastes, _COLD_GAMMAS[1:])]
    values = [
        ndcg_per_user(all_scores(model.with_parameters(**{name: gamma}, taste=taste), asked.users), asked, ~cold)
        for taste, gamma in options
    ]
    taste, gamma = options[_improving(values)]
    unsure = not gamma or (origin == STAND_IN and gamma < default)
    if name == "gamma_cold" and unsure and (tastes[0], default) in options:
        # The data cannot tell, or a purchase's words told less than a user's own will: words are heard as the default
        # has it, unless that does harm.
        kept = values[options.index((tastes[0], default))]
        if len(values[0]) < FEWEST or kept.mean() >= values[0].mean():
            source[name] = KEPT if gamma else source[name]
            return model
    if name == "gamma_attributes" and not gamma and not settings.taste:
        return model
    source[name] = origin
    if len(tastes) > 1:
        source["taste"] = origin
    return model.with_parameters(**{name: gamma}, taste=taste)


def _improving(values: Sequence[NDArray[np.float64]]) -> int:
    """The best of some per-user values, if it is better than the first by more than one standard error; else 0."""
    if len(values[0]) < FEWEST:
        return 0
    best = max(range(len(values)), key=lambda place: float(values[place].mean()))
    gains = values[best] - values[0]
    return best if gains.mean() > gains.std() / np.sqrt(len(gains)) else 0


def _replaced(model: HybridRecommender, **arrays: Any) -> HybridRecommender:
    """The same recommender with another metric, or another B."""
    other = model.with_parameters()
    for name, value in arrays.items():
        setattr(other, name, value)
    other._forget()
    return other


def _scaled(scores: Scores, warm: Mask) -> Scores:
    """Centred per user over items with history, in the deviations that are usual among these users."""
    inside = scores[:, warm]
    usual = max(float(np.sqrt(inside.var(axis=1).mean())), 1e-9)
    return np.asarray((scores - inside.mean(axis=1, keepdims=True)) / usual, dtype=np.float32)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


