"""Choose α, β and γ on interactions that the recommender has not seen, cold items and users among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.profile import evidence_weight
from recommender.data import Interactions
from recommender.features import Entities
from recommender.model import HybridRecommender, Parameters, Scores, _moments

_ALPHAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_BETAS = (0.25, 0.5, 1.0, 2.0, 4.0)
_GAMMAS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
_MOST_USERS = 1_000
_K = 20
STAND_IN = "fitted on held-out interactions; the text of a held-out purchase stood for the users' words"
FITTED = "fitted on held-out interactions"
DEFAULT = "default: the data cannot tell"


def tune(
    parameters: Parameters, train: Interactions, held_out: Interactions, users: Entities, items: Entities, *,
    progress: Callable[[int, int], None] = lambda epoch, epochs: None,
) -> Parameters:
    """Fit on `train`, then choose β and γ, then α, then γ for cold users, by NDCG@20 on `held_out`.

    β and γ count on two rankings alike: of warm items, and of cold ones (whichever `held_out` has). α and the
    cold users' γ are chosen for users who have something to say; where nobody wrote a description, the text of
    each one's first held-out interaction stands for it, and is not asked for. What `held_out` says nothing
    about keeps its value.

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
    source = {name: DEFAULT for name in ("alpha", "beta", "gamma", "gamma_cold", "evidence_scale")}

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

    asked, origin = asked.with_words(held_out, items)
    if len(asked.users) and parameters.gamma:
        R = model.lightfm_scores(asked.users, items)

        def by_alpha(alpha: float) -> float:
            S = _profile_scores(model.with_parameters(alpha=alpha, beta=parameters.beta), asked, items, cold_items)
            return _quality(R + parameters.gamma * S, asked.wanted, asked.known, cold_items)

        parameters = replace(parameters, alpha=max(_ALPHAS, key=by_alpha))
        source["alpha"] = origin

    new = held_out.select(~known_before & ~cold_items[held_out.items])
    asked, origin = _Question.of(new, train, users, items, parameters.seed).with_words(new, items)
    if len(asked.users):
        R = model.lightfm_scores(asked.users, items)
        S = _profile_scores(model.with_parameters(beta=parameters.beta), asked, items, cold_items)
        gamma_cold = max(_GAMMAS, key=lambda g: _quality(R + g * S, asked.wanted, asked.known, cold_items))
        parameters = replace(parameters, gamma_cold=gamma_cold)
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

    def with_words(self, held_out: Interactions, items: Entities) -> tuple[_Question, str]:
        """The users who have words, their own or else a purchase's, and something left that they wanted."""
        users, wanted, known, origin = self.users, self.wanted.copy(), self.known.copy(), FITTED
        if not any(users.descriptions):
            origin = STAND_IN
            first = dict(zip(*first_interactions(held_out), strict=True))
            chosen = np.array([first[row] for row in self.rows.tolist()], dtype=np.int64)
            everyone = np.arange(len(chosen))
            wanted[everyone, chosen], known[everyone, chosen] = False, True
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
    parts = []
    for side in (cold, ~cold):
        asked = wanted[:, side].any(axis=1)
        if asked.any():
            ranked = np.where(known, -np.inf, scores)[np.ix_(asked, side)]
            parts.append(_ndcg(ranked, wanted[np.ix_(asked, side)]))
    return float(np.mean(parts)) if parts else 0.0


def _ndcg(scores: Scores, wanted: NDArray[np.bool_]) -> float:
    k = min(_K, scores.shape[1])
    top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    hits = np.take_along_axis(wanted, np.take_along_axis(top, order, axis=1), axis=1)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(wanted.sum(axis=1), k) - 1]
    return float((hits @ discount / ideal).mean())


def _mask(interactions: Interactions, users: NDArray[np.int64], n_items: int) -> NDArray[np.bool_]:
    """(users, n_items), true where they interacted."""
    place = np.full(len(interactions.user_ids), -1)
    place[users] = np.arange(len(users))
    rows = place[interactions.users]
    mask = np.zeros((len(users), n_items), dtype=bool)
    mask[rows[rows >= 0], interactions.items[rows >= 0]] = True
    return mask
