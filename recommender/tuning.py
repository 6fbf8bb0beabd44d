"""Choose α, β and γ on interactions that the recommender has not seen, cold items and users among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.profile import evidence_weight
from recommender.data import Interactions
from recommender.features import Entities
from recommender.metrics import K, ndcg
from recommender.model import HybridRecommender, Parameters, Scores, _moments

_ALPHAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_BETAS = (0.25, 0.5, 1.0, 2.0, 4.0)
_GAMMAS = (0.0, 0.0625, 0.125, 0.1875, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
_MOST_USERS = 1_000
STAND_IN = "fitted on held-out interactions; the text of a held-out purchase stood for the users' words"
FITTED = "fitted on held-out interactions"
DEFAULT = "default: the data cannot tell"


def tune(
    parameters: Parameters, train: Interactions, held_out: Interactions, users: Entities, items: Entities, *,
    progress: Callable[[int, int], None] = lambda epoch, epochs: None,
) -> Parameters:
    """Fit on `train`, then choose β and γ, then α, then γ for cold users, by NDCG@20 on `held_out`.

    β and γ count on two rankings alike: of warm items, and of cold ones (whichever `held_out` has). α and the
    cold users' γ (the largest that the data cannot tell from the best) are chosen for users who have something
    to say; where nobody wrote a description, the text of each one's first held-out interaction stands for it,
    and is not asked for. What `held_out` says nothing about keeps its value.

    Args:
        parameters: the defaults, and all that is not chosen here.
        train: what is learned from.
        held_out: what is asked for; later, or set aside.
        users: features with profiles of `train` alone.
        items: likewise.
        progress: told of each epoch of the fit.

    Returns:
        The parameters with what was chosen, and in `source` how.
    """
    model = HybridRecommender(parameters).fit(train, users, items, progress=progress)
    known_before = np.isin(held_out.users, train.users)
    cold_items = np.ones(len(items), dtype=bool)
    cold_items[train.items] = False
    source = dict.fromkeys(("alpha", "beta", "gamma", "gamma_cold", "evidence_scale"), DEFAULT)

    asked = _Question.of(held_out.select(known_before), train, users, items, parameters.seed)
    if len(asked.users):
        R = model.lightfm_scores(asked.users, items)
        behaviour, text = model.profile_scores(asked.users, items)

        def by_beta_and_gamma(pair: tuple[float, float]) -> float:
            S = _standard(behaviour + _item_weights(pair[0], parameters, items) * text, cold_items)
            return _quality(R + pair[1] * S, asked.wanted, asked.known, cold_items)

        beta, gamma = max(((b, g) for b in _BETAS for g in _GAMMAS), key=by_beta_and_gamma)
        parameters = replace(parameters, beta=beta, gamma=gamma)
        source |= {"beta": FITTED, "gamma": FITTED}

    asked, origin = asked.with_words(held_out, items, same_visit=False)
    if len(asked.users) and parameters.gamma:
        R = model.lightfm_scores(asked.users, items)

        def by_alpha(alpha: float) -> float:
            S = _profile_scores(model.with_parameters(alpha=alpha, beta=parameters.beta), asked, items, cold_items)
            return _quality(R + parameters.gamma * S, asked.wanted, asked.known, cold_items)

        parameters = replace(parameters, alpha=max(_ALPHAS, key=by_alpha))
        source["alpha"] = origin

    new = held_out.select(~known_before & ~cold_items[held_out.items])
    asked, origin = _Question.of(new, train, users, items, parameters.seed).with_words(new, items, same_visit=True)
    if len(asked.users):
        R = model.lightfm_scores(asked.users, items)
        S = _profile_scores(model.with_parameters(beta=parameters.beta), asked, items, cold_items)
        scores = {gamma: R + gamma * S for gamma in _GAMMAS}
        parameters = replace(parameters, gamma_cold=_strongest(scores, asked.wanted, asked.known, ~cold_items))
        source["gamma_cold"] = origin
    return replace(parameters, source=source)


@dataclass(frozen=True)
class _Question:
    """Users who are asked (at most _MOST_USERS, drawn at random), what they wanted and what they had already."""

    users: Entities
    rows: NDArray[np.int64]
    wanted: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @classmethod
    def of(
        cls, held_out: Interactions, train: Interactions, users: Entities, items: Entities, seed: int
    ) -> _Question:
        rows = np.random.default_rng(seed).permutation(np.unique(held_out.users))[:_MOST_USERS]
        wanted, known = _mask(held_out, rows, len(items)), _mask(train, rows, len(items))
        return cls(users.take(rows), rows, wanted & ~known, known)

    def with_words(self, held_out: Interactions, items: Entities, *, same_visit: bool) -> tuple[_Question, str]:
        """The users who have words, their own or else a purchase's, and something left that they wanted.

        What was bought in one visit with the purchase that stands for words is much closer to it than to what
        a user would say of himself; with `same_visit` false it is not asked for.
        """
        users, wanted, known, origin = self.users, self.wanted, self.known, FITTED
        if not any(users.descriptions):
            origin = STAND_IN
            first = dict(zip(*first_interactions(held_out), strict=True))
            chosen = np.array([first[row] for row in self.rows.tolist()], dtype=np.int64)
            everyone = np.arange(len(chosen))
            spent = np.zeros_like(wanted)
            spent[everyone, chosen] = True
            if not same_visit:
                begun = np.zeros(len(held_out.user_ids), dtype=held_out.timestamps.dtype)
                latest_first = np.argsort(held_out.timestamps, kind="stable")[::-1]
                begun[held_out.users[latest_first]] = held_out.timestamps[latest_first]  # the earliest stays
                spent |= _mask(held_out.select(held_out.timestamps == begun[held_out.users]), self.rows, len(items))
            wanted, known = wanted & ~spent, known | spent
            users = replace(users, embeddings=items.embeddings[chosen])
        speaking = np.flatnonzero(np.abs(users.embeddings).any(axis=1) & wanted.any(axis=1))
        return _Question(users.take(speaking), self.rows[speaking], wanted[speaking], known[speaking]), origin


def first_interactions(interactions: Interactions) -> tuple[list[int], list[int]]:
    """The users who did something, and the item that each of them began with."""
    order = np.lexsort((interactions.items, interactions.timestamps, interactions.users))
    users, first = np.unique(interactions.users[order], return_index=True)
    return users.tolist(), interactions.items[order][first].tolist()


def _profile_scores(
    model: HybridRecommender, asked: _Question, items: Entities, cold_items: NDArray[np.bool_]
) -> Scores:
    behaviour, text = model.profile_scores(asked.users, items)
    return _standard(behaviour + _item_weights(model.parameters.beta, model.parameters, items) * text, cold_items)


def _item_weights(beta: float, parameters: Parameters, items: Entities) -> Scores:
    return evidence_weight(items.evidence, beta, parameters.evidence_scale).astype(np.float32)


def _standard(S: Scores, cold_items: NDArray[np.bool_]) -> Scores:
    centre, scale = _moments(S[:, ~cold_items])
    return (S - centre) / scale


def _quality(
    scores: Scores, wanted: NDArray[np.bool_], known: NDArray[np.bool_], cold: NDArray[np.bool_]
) -> float:
    """The mean NDCG@20 of ranking warm items and of ranking cold ones, over the users who want such."""
    parts = [_per_user(scores, wanted, known, side) for side in (cold, ~cold)]
    return float(np.mean([part.mean() for part in parts if len(part)])) if any(map(len, parts)) else 0.0


def _strongest(
    scores: dict[float, Scores], wanted: NDArray[np.bool_], known: NDArray[np.bool_], side: NDArray[np.bool_]
) -> float:
    """Of the weights whose NDCG@20 is within one standard error of the best, the largest.

    Data that cannot tell weights apart do not speak against hearing the words. The rule is that of Breiman et
    al., Classification and Regression Trees (1984), section 3.4.3, where it picks the simplest tree.
    """
    values = {weight: _per_user(block, wanted, known, side) for weight, block in scores.items()}
    best = max(values.values(), key=lambda value: float(value.mean()))
    floor = best.mean() - best.std() / np.sqrt(len(best))
    return max(weight for weight, value in values.items() if value.mean() >= floor)


def _per_user(
    scores: Scores, wanted: NDArray[np.bool_], known: NDArray[np.bool_], side: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """NDCG@20 among the items of one side, of each user who wants one of them."""
    asked = wanted[:, side].any(axis=1)
    if not asked.any():
        return np.zeros(0)
    scores = np.where(known, -np.inf, scores)[np.ix_(asked, side)]
    wanted = wanted[np.ix_(asked, side)]
    k = min(K, scores.shape[1])
    top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    return ndcg(np.take_along_axis(wanted, np.take_along_axis(top, order, axis=1), axis=1), wanted.sum(axis=1))


def _mask(interactions: Interactions, users: NDArray[np.int64], n_items: int) -> NDArray[np.bool_]:
    """(users, n_items), true where they interacted."""
    place = np.full(len(interactions.user_ids), -1)
    place[users] = np.arange(len(users))
    rows = place[interactions.users]
    mask = np.zeros((len(users), n_items), dtype=bool)
    mask[rows[rows >= 0], interactions.items[rows >= 0]] = True
    return mask
