"""Held-out rankings: users, the items to rank, and which of them were taken; and how well a recommender ranks them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.measure.metrics import ndcg
from recommender.model.fitted import Fitted
from recommender.model.scoring import Block
from recommender.model.user_side import Scores

_MOST_USERS = 1_000
# Scores that one ranking of all users may hold; of a large catalogue fewer users are drawn.
_MOST_SCORES = 16_000_000

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOutRankings:
    """Rankings of n users, drawn at random from those with held-out interactions.

    Attributes:
        users: n users.
        rows: (n,), theirs in the recommender.
        wanted: (n, items), what they took.
        known: (n, items), what is not ranked.
    """

    users: Entities
    rows: NDArray[np.int64]
    wanted: Mask
    known: Mask

    @classmethod
    def of(cls, held_out: Interactions, fitted: Fitted, seed: int) -> HeldOutRankings:
        """The rankings of what was held out, less what the recommender has seen; of very many users, some."""
        most = min(_MOST_USERS, max(_MOST_SCORES // len(fitted.items), 100))
        return cls.of_users(held_out, fitted, np.random.default_rng(seed).permutation(np.unique(held_out.users))[:most])

    @classmethod
    def of_users(cls, held_out: Interactions, fitted: Fitted, rows: NDArray[np.int64]) -> HeldOutRankings:
        """The rankings of some users, by their rows in the recommender."""
        n = len(fitted.items)
        wanted, known = _mask(held_out, rows, n), np.asarray(fitted.seen.take(rows).toarray() > 0)
        return cls(fitted.users.take(rows), rows, wanted & ~known, known)

    def take(self, rows: NDArray[np.int64]) -> HeldOutRankings:
        """These users, in this order."""
        return HeldOutRankings(self.users.take(rows), self.rows[rows], self.wanted[rows], self.known[rows])

    def with_words(self, held_out: Interactions, items: Entities, *, same_visit: bool) -> tuple[HeldOutRankings, bool]:
        """The rankings of users with words and with a wanted item left; and whether the words are the users' own.

        Where no user has words, the text of each user's first held-out interaction replaces them. Other purchases of
        the same visit are much closer to this text than to what a user would say; with `same_visit` false they are not
        wanted.
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
        return HeldOutRankings(users.take(speaking), self.rows[speaking], wanted[speaking], known[speaking]), own


def quality(fitted: Fitted, held_out: Interactions) -> NDArray[np.float64]:
    """NDCG@20 of users with history, of the wanted items without history, then of those with; one value each.

    Args:
        fitted: learned from what was not held out. Which users and items are ranked depends on what it has seen alone:
            with other histories (`recommender.model.fitting.with_history`) the same rankings are measured.
        held_out: what is wanted.
    """
    rankings = HeldOutRankings.of(known_before(fitted.seen.whole, held_out), fitted, fitted.parameters.seed)
    if not len(rankings.users):
        return np.zeros(0)
    total, cold = all_scores(fitted, rankings.users), fitted.all_items.cold
    return np.concatenate([ndcg_per_user(total, rankings, side) for side in (cold, ~cold)])


def known_before(done: sp.csr_matrix, held_out: Interactions) -> Interactions:
    """The held-out interactions of users with earlier ones; `done` is (users, items)."""
    return held_out.select(np.diff(done.indptr)[held_out.users] > 0)


def all_scores(fitted: Fitted, users: Entities) -> Scores:
    """(users, items): R' of every known item."""
    return Block.of(fitted, users).total(fitted.all_items)


def ndcg_per_user(scores: Scores, rankings: HeldOutRankings, side: Mask) -> NDArray[np.float64]:
    """NDCG@20 among the items of one side, of each user that wants one of them."""
    able = rankings.wanted[:, side].any(axis=1)
    if not able.any():
        return np.zeros(0)
    block = np.ix_(able, side)
    return ndcg(scores[block], rankings.wanted[block], ~rankings.known[block])


def _first_interactions(interactions: Interactions) -> tuple[list[int], list[int]]:
    """The users with interactions, and the item of the first one of each."""
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
