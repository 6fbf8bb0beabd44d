"""How LightFM learns from epoch to epoch: how many pairs of a taken and another item it has in the right order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

# Called with the number of an epoch, or of a trial, and what was measured after it, by name.
OnStep: TypeAlias = Callable[[int, Mapping[str, float]], None]

# Pairs that are drawn: the standard error of their share is below one hundredth.
_PAIRS = 4_000


@dataclass(frozen=True)
class PairOrder:
    """n times a user, an item that they took and one that they did not; drawn once, so that epochs can be compared.

    The share of them in the right order estimates the AUC of the users' rankings, each user counting as often as they
    took something (Rendle, Freudenthaler, Gantner and Schmidt-Thieme 2009, arXiv:1205.2618, section 4.1.1).

    Attributes:
        users: (n, user features).
        taken: (n, item features), what the user took.
        others: (n, item features), what they did not.
    """

    users: sp.csr_matrix
    taken: sp.csr_matrix
    others: sp.csr_matrix

    @classmethod
    def of(
        cls, users: NDArray[np.integer[Any]], items: NDArray[np.integer[Any]], taken: sp.csr_matrix,
        user_features: sp.csr_matrix, item_features: sp.csr_matrix,
    ) -> PairOrder:
        """Draw pairs for some interactions.

        Args:
            users: (interactions,), rows of `user_features`.
            items: (interactions,), rows of `item_features`: what these users took.
            taken: (users, items), not 0 where a user took an item; the other item of a pair is none of these.
            user_features: (users, f).
            item_features: (items, g).
        """
        if not len(users):
            return cls(user_features[:0], item_features[:0], item_features[:0])
        rng = np.random.default_rng(0)
        drawn = rng.integers(len(users), size=_PAIRS)
        users, items = users[drawn], items[drawn]
        others = rng.integers(item_features.shape[0], size=len(drawn))
        free = np.asarray(taken[users, others]).ravel() == 0
        return cls(user_features[users[free]], item_features[items[free]], item_features[others[free]])

    def share(self, models: Sequence[Any]) -> float:
        """The share of the pairs that the mean of some fits of LightFM has in the right order: .5 is chance.

        Pairs with equal scores count half. NaN if there are no pairs.
        """
        apart = np.zeros(self.users.shape[0])
        more = self.taken - self.others
        for model in models:
            apart += ((self.users @ model.user_embeddings) * (more @ model.item_embeddings)).sum(axis=1)
            apart += more @ model.item_biases
        return float(np.mean((apart > 0) + 0.5 * (apart == 0))) if len(apart) else float("nan")
