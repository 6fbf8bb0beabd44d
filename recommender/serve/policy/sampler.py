"""Which of some candidates to show: Thompson sampling on a linear model of the reward, one for all items.

Linear Thompson sampling is that of Agrawal and Goyal (ICML 2013, arXiv 1209.3352), with the posterior of a Bayesian
linear regression of known noise (Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3). Sums over what
was shown are all that it keeps, so the order of what was shown, and who adds it up, make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Prior = Literal["text", "flat"]
Verdict = Literal["open", "above", "below", "average"]

# The mean reward before anything was shown, and the number of places that this counts as.
_MEAN, _MEAN_COUNTS = 0.02, 50.0
# Deviations of the prior, in mean rewards: of the constant, of the other weights, of what is an item's own.
_OF_CONSTANT, _OF_WEIGHT, _OF_ITEM = 1.0, 0.5, 0.25
# What the prior "text" expects of an item with one more average demand, or one deviation more score, in mean rewards.
_OF_DEMAND, _OF_SCORE = 0.5, 0.5
# Draws from the posterior, by which the probability to win is estimated; and the share that all candidates divide.
_DRAWS, UNIFORM = 1_000, 0.1
_MOST_CANDIDATES = 64
# An item is decided when this share of its reward's distribution lies on one side of the mean,
_SURE = 0.95
# or when it has had so much reward, in purchases, or an item of average reward would have had this much.
_ENOUGH, _LONGEST = 5.0, 10.0


@dataclass(frozen=True)
class Shown:
    """Sums over the places in which an item was shown.

    Attributes:
        n: their number.
        reward: the sum of their rewards.
        contexts: (p,), the sum of their contexts.
    """

    n: int
    reward: float
    contexts: Floats


@dataclass
class Evidence:
    """Sums over all explored places whose reward is known.

    Attributes:
        gram: (p, p), of the outer products of contexts with themselves.
        moment: (p,), of contexts times rewards.
        items: sums of each item.
    """

    gram: Floats
    moment: Floats
    items: dict[str, Shown] = field(default_factory=dict)

    @classmethod
    def nothing(cls, width: int) -> Evidence:
        """Of contexts of p numbers."""
        return cls(np.zeros((width, width)), np.zeros(width))

    def add(self, contexts: NDArray[np.floating], rewards: Floats, items: Iterable[str]) -> None:
        """Count explored places.

        Args:
            contexts: (n, p), of the items that were shown. The first number of each is 1.
            rewards: (n,), from 0 to 1.
            items: their n ids.
        """
        exact = np.asarray(contexts, np.float64)
        self.gram = self.gram + exact.T @ exact
        self.moment = self.moment + exact.T @ rewards
        for item, context, reward in zip(items, exact, rewards.tolist(), strict=True):
            shown = self.items.get(item, Shown(0, 0.0, np.zeros(len(context))))
            self.items[item] = Shown(shown.n + 1, shown.reward + reward, shown.contexts + context)

    def posterior(self, prior: Prior = "text", draws: int = _DRAWS) -> Posterior:
        """What is believed of rewards now.

        Args:
            prior: "text" expects more reward of items whose words promise more: half a mean reward for one more
                average demand, and for one deviation more score (the second and third number of a context). "flat"
                expects the mean reward of every item.
            draws: see `Posterior.probabilities`.
        """
        n, total = float(self.gram[0, 0]), float(self.moment[0])
        mean = (_MEAN_COUNTS * _MEAN + total) / (_MEAN_COUNTS + n)
        # No reward between 0 and 1 with this mean varies more.
        noise = mean * (1 - mean)
        expected = np.zeros(len(self.moment))
        expected[0] = mean
        if prior == "text":
            expected[1], expected[2] = _OF_DEMAND * mean, _OF_SCORE * mean
        deviations = np.full(len(expected), _OF_WEIGHT * mean)
        deviations[0] = _OF_CONSTANT * mean
        precision = self.gram / noise + np.diag(deviations**-2)
        weights = np.linalg.solve(precision, self.moment / noise + expected / deviations**2)
        standard = np.random.default_rng(0).standard_normal((draws, len(expected)))
        # With LLᵀ the precision, L⁻ᵀz has its inverse as covariance.
        drawn = weights + np.linalg.solve(np.linalg.cholesky(precision).T, standard.T).T
        return Posterior(mean, noise, weights, drawn, dict(self.items))


@dataclass(frozen=True)
class Posterior:
    """What is believed of rewards at one moment; it does not change.

    Attributes:
        mean: the mean reward of an explored place.
        noise: the variance of a reward.
        weights: (p,), the expected weights.
        drawn: (draws, p), weights from the posterior.
        items: sums of each item that was shown.
    """

    mean: float
    noise: float
    weights: Floats
    drawn: Floats
    items: Mapping[str, Shown]

    def expected(self, contexts: NDArray[np.floating], items: Sequence[str]) -> Floats:
        """(m,), the expected rewards of items in their contexts, (m, p)."""
        return np.asarray(contexts @ self.weights + self._own(items)[0])

    def probabilities(self, contexts: NDArray[np.floating], items: Sequence[str]) -> Floats:
        """The probability of each candidate to be shown.

        It is the share of draws from the posterior in which the candidate has the greatest reward, by `draws` draws,
        mixed with a tenth that is the same for all: so the probability is known exactly, and none is 0.

        Args:
            contexts: (m, p), of at most 64 candidates.
            items: their m ids.

        Returns:
            (m,); they add up to 1. The same posterior gives the same probabilities.
        """
        own, deviations = self._own(items)
        rewards = self.drawn @ np.asarray(contexts, np.float64).T + own + self._standard[:, : len(items)] * deviations
        wins = np.bincount(rewards.argmax(axis=1), minlength=len(items)) / len(rewards)
        found = (1 - UNIFORM) * wins + UNIFORM / len(items)
        return np.asarray(found / found.sum())

    def _own(self, items: Sequence[str]) -> tuple[Floats, Floats]:
        """(m,) each: by how much the reward of an item is its own and not the model's, and how uncertain that is.

        The posterior of a random intercept for the expected weights (Robinson, Statistical Science 6 (1991), 15-32).
        """
        found = np.array([self._known.get(item, (0.0, self._of_unseen)) for item in items])
        return found[:, 0], found[:, 1]

    @property
    def _of_unseen(self) -> float:
        return _OF_ITEM * self.mean

    @cached_property
    def _known(self) -> dict[str, tuple[float, float]]:
        """`_own` of each item that was shown."""
        n = np.array([one.n for one in self.items.values()])
        contexts = np.array([one.contexts for one in self.items.values()]).reshape(len(n), len(self.weights))
        rest = np.array([one.reward for one in self.items.values()]) - contexts @ self.weights
        shrunk = 1 / (n + self.noise / self._of_unseen**2)
        own = zip((rest * shrunk).tolist(), np.sqrt(self.noise * shrunk).tolist(), strict=True)
        return dict(zip(self.items, own, strict=True))

    @cached_property
    def _standard(self) -> Floats:
        return np.random.default_rng(1).standard_normal((len(self.drawn), _MOST_CANDIDATES))

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """What is decided of the items that were shown; of an "open" item nothing is.

        The reward of an item has the distribution Beta(1 + r, 1/b - 1 + n - r), b being the mean reward, n how often
        it was shown, and r the sum of its rewards: as if it had been shown once more with reward. If 95 % of it lie
        above b, the item is "above", if they lie below it, "below". After 5 purchases it is "above" too: from there on
        the recommender knows it by its buyers. After 10/b places it is "average".
        """
        from scipy.stats import beta

        names = list(self.items)
        n = np.array([self.items[name].n for name in names], np.float64)
        reward = np.array([self.items[name].reward for name in names], np.float64)
        below = beta.cdf(self.mean, 1 + reward, 1 / self.mean - 1 + np.maximum(n - reward, 0))
        found: list[Verdict] = [
            "above" if share < 1 - _SURE or enough else "below" if share > _SURE else "average" if long else "open"
            for share, enough, long in zip(
                below.tolist(), (reward >= _ENOUGH).tolist(), (n * self.mean >= _LONGEST).tolist(), strict=True
            )
        ]
        return dict(zip(names, found, strict=True))

    @property
    def decided(self) -> set[str]:
        """Items that are not explored any more."""
        return {item for item, verdict in self.verdicts.items() if verdict != "open"}
