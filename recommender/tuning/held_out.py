"""Held-out interactions as questions to a recommender, and how well it answers them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.measure.metrics import K, ndcg
from recommender.model.recommender import HybridRecommender
from recommender.model.scoring import Block, Scores

_MOST_USERS = 1_000
# Scores that one ranking of all questions may hold; of a large catalogue fewer users are asked.
_MOST_SCORES = 16_000_000

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Question:
    """Users who are asked (drawn at random), what they wanted and what they had already.

    Attributes:
        users: n users.
        rows: (n,), theirs in the recommender.
        wanted: (n, items).
        known: (n, items), what is not ranked.
    """

    users: Entities
    rows: NDArray[np.int64]
    wanted: Mask
    known: Mask

    @classmethod
    def of(cls, held_out: Interactions, model: HybridRecommender, seed: int) -> Question:
        """Ask a fitted recommender for what was held out, less what it has seen; of very many users, some."""
        n = len(model.items)
        most = min(_MOST_USERS, max(_MOST_SCORES // n, 100))
        rows = np.random.default_rng(seed).permutation(np.unique(held_out.users))[:most]
        wanted, known = _mask(held_out, rows, n), np.asarray(model.seen[rows].toarray() > 0)
        return cls(model.users.take(rows), rows, wanted & ~known, known)

    def take(self, rows: NDArray[np.int64]) -> Question:
        """These users, in this order."""
        return Question(self.users.take(rows), self.rows[rows], self.wanted[rows], self.known[rows])

    def with_words(self, held_out: Interactions, items: Entities, *, same_visit: bool) -> tuple[Question, bool]:
        """The users who have words, and something left that they wanted; and whether the words are their own.

        Where nobody has any, the text of each one's first held-out interaction stands for them.

        What was bought in one visit with the purchase that stands for words is much closer to it than to what
        a user would say of himself; with `same_visit` false it is not asked for.
        """
        users, wanted, known = self.users, self.wanted, self.known
        own = any(users.descriptions)
        if not own:
            first = dict(zip(*_first_interactions(held_out), strict=True))
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
            words = [items.descriptions[row] for row in chosen]
            users = replace(users, embeddings=items.embeddings[chosen], descriptions=words)
        speaking = np.flatnonzero(users.embeddings.any(axis=1) & wanted.any(axis=1))
        return Question(users.take(speaking), self.rows[speaking], wanted[speaking], known[speaking]), own


def quality(model: HybridRecommender, held_out: Interactions) -> NDArray[np.float64]:
    """NDCG@20 of users with history: of the items without history that they wanted, then of those with; one value each.

    Args:
        model: fitted on what was before, or is not set aside. Who is asked, and for what, depends on what it has seen
            alone: under other histories (`HybridRecommender.with_history`) the same rankings are measured.
        held_out: what is asked for.
    """
    asked = Question.of(known_before(model.seen, held_out), model, model.parameters.seed)
    if not len(asked.users):
        return np.zeros(0)
    total, cold = all_scores(model, asked.users), model.all_items.cold
    return np.concatenate([ndcg_per_user(total, asked, side) for side in (cold, ~cold)])


def known_before(done: sp.csr_matrix, held_out: Interactions) -> Interactions:
    """What is asked of users who had done something; `done` is (users, items)."""
    return held_out.select(np.diff(done.indptr)[held_out.users] > 0)


def all_scores(model: HybridRecommender, users: Entities) -> Scores:
    """(users, items): R' of every item that the recommender knows."""
    return Block.of(model, users).total(model, model.all_items)


def ndcg_per_user(scores: Scores, asked: Question, side: Mask) -> NDArray[np.float64]:
    """NDCG@20 among the items of one side, of each user who wants one of them."""
    able = asked.wanted[:, side].any(axis=1)
    if not able.any():
        return np.zeros(0)
    block = np.ix_(able, side)
    scores, wanted = np.where(asked.known[block], -np.inf, scores[block]), asked.wanted[block]
    k = min(K, scores.shape[1])
    top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    return ndcg(np.take_along_axis(wanted, np.take_along_axis(top, order, axis=1), axis=1), wanted.sum(axis=1))


def _first_interactions(interactions: Interactions) -> tuple[list[int], list[int]]:
    """The users who did something, and the item that each of them began with."""
    order = np.lexsort((interactions.items, interactions.timestamps, interactions.users))
    users, first = np.unique(interactions.users[order], return_index=True)
    return users.tolist(), interactions.items[order][first].tolist()


def _mask(interactions: Interactions, users: NDArray[np.int64], n_items: int) -> Mask:
    """(users, n_items), true where they interacted."""
    place = np.full(len(interactions.user_ids), -1)
    place[users] = np.arange(len(users))
    inside = place[interactions.users] >= 0
    where = (place[interactions.users[inside]], interactions.items[inside])
    matrix = sp.csr_matrix((np.ones(inside.sum(), np.float32), where), shape=(len(users), n_items))
    return np.asarray(matrix.toarray() > 0)
