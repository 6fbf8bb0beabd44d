"""Made-up explored places whose true rewards are known, shared by `bench_replay.py` and tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from recommender.serve.policy.estimates import Logged, RewardModel, folds_of

Numbers = NDArray[np.float64]

CANDIDATES, COLUMNS = 8, 5
_REWARD = np.array([0.7, 0.3, -0.4, 0.0, 0.2])
_LOGGED = np.array([0.5, 0.0, 0.6, 0.4, 0.0])
_POPULATION = 10_000


@dataclass(frozen=True, eq=False)
class Places:
    """Explored places of some users.

    Attributes:
        units: (n,), the user of each place.
        contexts: (n, m, p), what is known of each candidate.
        expected: (n, m), the true probability that a candidate is rewarded.
    """

    units: NDArray[np.int64]
    contexts: Numbers
    expected: Numbers


@dataclass(frozen=True)
class World:
    """Users come back, like alike things at each visit, and differ in how much they buy.

    The true reward is no line of the contexts: no reward model is exact.

    Attributes:
        base: log odds of a reward.
        least: the share of draws that the logging policy makes uniformly.
        decided: how sharply it prefers what it takes for the best.
    """

    base: float = -3.0
    least: float = 0.2
    decided: float = 1.0

    def places(self, rng: np.random.Generator, users: int) -> Places:
        """Places of new users, 2.5 each on average."""
        units = np.repeat(np.arange(users), 1 + rng.poisson(1.5, users))
        taste, eagerness = rng.normal(size=(users, COLUMNS)), rng.normal(0, 0.8, users)
        contexts = rng.normal(size=(len(units), CANDIDATES, COLUMNS))
        contexts[:, :, 0] = np.einsum("nmp,np->nm", contexts, taste[units]) / np.sqrt(COLUMNS)
        odds = self.base + contexts @ _REWARD + eagerness[units][:, None]
        odds += 0.3 * np.sin(2 * contexts[..., 1]) * contexts[..., 2]
        return Places(units, contexts, 1 / (1 + np.exp(-odds)))

    def logging(self, contexts: Numbers) -> Numbers:
        """(n, m) probabilities of the policy that writes the log."""
        return mixed(contexts @ _LOGGED * self.decided, self.least)

    def log(self, rng: np.random.Generator, users: int) -> tuple[Logged, Numbers]:
        """A log of its policy, and the (N,) probabilities of all candidates."""
        places = self.places(rng, users)
        n, m, p = places.contexts.shape
        policy = self.logging(places.contexts)
        drawn = (policy.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=m - 1)
        rows = np.arange(n)
        return Logged(
            starts=rows * m, drawn=rows * m + drawn, propensities=policy[rows, drawn],
            rewards=(rng.random(n) < places.expected[rows, drawn]).astype(np.float64), units=places.units,
            contexts=places.contexts.reshape(n * m, p),
        ), policy.ravel()  # fmt: skip

    def truth(self, policy: Callable[[Numbers], Numbers], pieces: int = 1) -> float:
        """The true reward in a place of a policy, which makes (n, m) probabilities of (n, m, p) contexts.

        It is a mean over the places of 10,000 other users for each piece.
        """
        found = [
            (policy(one.contexts) * one.expected).sum(axis=1).mean() for one in map(self._population, range(pieces))
        ]
        return float(np.mean(found))

    @lru_cache(maxsize=1)  # noqa: B019  (of a few worlds in a benchmark)
    def _population(self, piece: int) -> Places:
        return self.places(np.random.default_rng([99, piece]), _POPULATION)


def uniform(contexts: Numbers) -> Numbers:
    """All candidates alike."""
    return np.full(contexts.shape[:2], 1 / contexts.shape[1])


def sharp(contexts: Numbers) -> Numbers:
    """A policy that knows more than the log's, and still draws."""
    return mixed(contexts @ _REWARD * 2, 0.0)


def learned(log: Logged) -> Callable[[Numbers], Numbers]:
    """What `greedy` stands for: the mean of the greedy policies of the folds, each fitted on the other folds."""
    folds, drawn = folds_of(log), log.contexts[log.drawn]
    models = [RewardModel.fit(drawn[folds != fold], log.rewards[folds != fold]) for fold in np.unique(folds)]
    sizes = [np.mean(folds == fold) for fold in np.unique(folds)]

    def policy(contexts: Numbers) -> Numbers:
        found = np.zeros(contexts.shape[:2])
        for model, size in zip(models, sizes, strict=True):
            found[np.arange(len(contexts)), (contexts @ model.slopes).argmax(axis=1)] += size
        return found

    return policy


def mixed(values: Numbers, least: float) -> Numbers:
    """Softmax of (n, m) values, mixed with a uniform draw."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray((1 - least) * powers / powers.sum(axis=1, keepdims=True) + least / values.shape[1])
