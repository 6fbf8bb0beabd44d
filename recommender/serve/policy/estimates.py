"""What another policy would have earned, estimated from decisions that were drawn with known probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_QUANTILE = 0.975
# Below this many units' worth of weight an estimate is shown with a warning, and above this share of one decision.
FEWEST_UNITS, HEAVIEST_SHARE = 100, 0.05
FEWEST_REWARDED = 10
_FOLDS, _RIDGE = 5, 1.0

Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Logged:
    """n decisions and what they earned. The candidates of all decisions stand one after another, N in all.

    Attributes:
        starts: (n,), the place of the first candidate of each decision; ascending, from 0.
        drawn: (n,), the place of the candidate that was drawn.
        propensities: (n,), the probability that it had; positive.
        rewards: (n,), what it earned.
        units: (n,), the user of each decision, or another unit within which decisions depend on each other.
        contexts: (N, p), what is known of each candidate.
    """

    starts: Rows
    drawn: Rows
    propensities: Numbers
    rewards: Numbers
    units: Rows
    contexts: Numbers

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def decisions(self) -> Rows:
        """(N,), the decision of each candidate."""
        sizes = np.diff(np.append(self.starts, len(self.contexts)))
        return np.repeat(np.arange(len(self)), sizes)


@dataclass(frozen=True)
class Estimate:
    """A mean reward per decision, and its 95 % interval; without bounds (infinite) where the log says too little."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimates:
    """What a policy would have earned per decision.

    Attributes:
        ips: inverse propensity scores: no bias, large variance.
        snips: the same, self-normalised: a small bias, less variance.
        dr: doubly robust: the reward that a model predicts, corrected where it was wrong.
        gain: `dr` less what the logged policy earned, decision by decision.
        effective_units: how many units of equal weight say as much, (Σ w)² / Σ w² (Kish 1965), w being sums of a unit.
        max_weight: the largest weight of a decision: how much likelier the policy is to draw what was drawn.
        warnings: why the estimates should not be trusted, in words.
    """

    ips: Estimate
    snips: Estimate
    dr: Estimate
    gain: Estimate
    effective_units: float
    max_weight: float
    warnings: tuple[str, ...]


def estimate(log: Logged, policy: Numbers, predicted: Numbers) -> Estimates:
    """Estimate the reward per decision of a policy from the log of another one.

    With w = policy / propensity of what was drawn, r its reward, q the predicted rewards:

        IPS    mean(w·r)                         Horvitz & Thompson 1952, doi:10.1080/01621459.1952.10483446
        SNIPS  mean(w·r) / mean(w)               Swaminathan & Joachims 2015, The self-normalized estimator
        DR     mean(Σ_a policy(a)·q(a) + w·(r − q))   Dudík, Langford & Li 2011, arXiv 1103.4601
                                                      Dudík, Erhan, Langford & Li 2014, arXiv 1503.02834

    The variance counts units, not decisions: residuals of a unit (for SNIPS those of the delta method) are summed
    before they are squared. Bounds are those of Student's t. Its degrees of freedom are Satterthwaite's (1946), with
    the fourth moment of the sums taken from the data: a rare reward or a heavy weight makes them few, and the interval
    wide.

    Args:
        log: the decisions; drawn with positive probability from all candidates.
        policy: (N,), the probability that the policy gives each candidate; they add up to 1 in each decision. It must
            not have been chosen by the rewards of the same units.
        predicted: (N,), predicted rewards, likewise; see `cross_fitted`.
    """
    weights = policy[log.drawn] / log.propensities
    _, units = np.unique(log.units, return_inverse=True)
    model = np.add.reduceat(policy * predicted, log.starts)
    robust = model + weights * (log.rewards - predicted[log.drawn])
    ips, mean_weight = weights * log.rewards, float(weights.mean())
    snips = float(ips.mean()) / mean_weight if mean_weight > 0 else np.nan
    of_units = np.bincount(units, weights)
    squares = float((of_units**2).sum())
    return Estimates(
        ips=_mean(ips, units),
        snips=_around(snips, weights * (log.rewards - snips) / mean_weight, units) if mean_weight > 0 else _NOTHING,
        dr=_mean(robust, units),
        gain=_mean(robust - log.rewards, units),
        effective_units=float(of_units.sum() ** 2 / squares) if squares else 0.0,
        max_weight=float(weights.max()),
        warnings=tuple(_warnings(weights, log.rewards, units)),
    )


@dataclass(frozen=True, eq=False)
class RewardModel:
    """A line from contexts to rewards.

    Attributes:
        intercept: the reward where all columns are 0.
        slopes: (p,).
    """

    intercept: float
    slopes: Numbers

    @classmethod
    def fit(cls, contexts: Numbers, rewards: Numbers) -> RewardModel:
        """Fit a ridge regression. The columns are standardised, and the mean is not penalised.

        Args:
            contexts: (n, p), at least one row.
            rewards: (n,).
        """
        centre, scale, mean = contexts.mean(axis=0), contexts.std(axis=0), float(rewards.mean())
        scale[scale < 1e-9] = np.inf  # a column that does not vary says nothing
        X = (contexts - centre) / scale
        slopes = np.linalg.solve(X.T @ X + _RIDGE * np.eye(X.shape[1]), X.T @ (rewards - mean)) / scale
        return cls(mean - float(centre @ slopes), slopes)

    def predict(self, contexts: Numbers) -> Numbers:
        """(n,) rewards of (n, p) contexts."""
        return self.intercept + contexts @ self.slopes


def folds_of(log: Logged) -> Rows:
    """(n,), which of five folds each decision is in; those of a unit are in one."""
    _, units = np.unique(log.units, return_inverse=True)
    count = int(units.max(initial=-1)) + 1
    return np.asarray((np.random.default_rng(0).permutation(count) % _FOLDS)[units], dtype=np.int64)


def cross_fitted(log: Logged) -> Numbers:
    """Predict the reward of each candidate by a `RewardModel` of the decisions of other units; see `folds_of`.

    Args:
        log: the decisions.

    Returns:
        (N,) predicted rewards; 0 if there is one unit.
    """
    folds, drawn, found = folds_of(log), log.contexts[log.drawn], np.zeros(len(log.contexts))
    of_candidates = folds[log.decisions]
    for fold in range(_FOLDS):
        asked = of_candidates == fold
        if asked.any() and (folds != fold).any():
            model = RewardModel.fit(drawn[folds != fold], log.rewards[folds != fold])
            found[asked] = model.predict(log.contexts[asked])
    return found


def greedy(log: Logged, values: Numbers) -> Numbers:
    """The policy that draws the candidate of the highest value: (N,), 1 for the first of them, 0 for the others."""
    decisions = log.decisions
    order = np.lexsort((np.arange(len(values)), -values, decisions))
    found = np.zeros(len(values))
    found[order[log.starts]] = 1.0
    return found


def _mean(values: Numbers, units: Rows) -> Estimate:
    value = float(values.mean())
    return _around(value, values - value, units)


def _around(value: float, residuals: Numbers, units: Rows) -> Estimate:
    """An interval of a mean whose residuals are independent between units."""
    from scipy.stats import t

    sums = np.bincount(units, residuals)
    count, squares, fourth = len(sums), float((sums**2).sum()), float((sums**4).sum())
    if count < 2 or squares <= 0:
        return Estimate(value, -np.inf, np.inf)
    spread = fourth - squares**2 / count
    degrees = min(count - 1.0, 2 * squares**2 / spread) if spread > 0 else count - 1.0
    half = float(t.ppf(_QUANTILE, degrees)) * np.sqrt(count / (count - 1) * squares) / len(residuals)
    return Estimate(value, float(value - half), float(value + half))


_NOTHING = Estimate(np.nan, -np.inf, np.inf)


def _warnings(weights: Numbers, rewards: Numbers, units: Rows) -> list[str]:
    """What is wrong with weights and rewards, as sentences."""
    total, count = float(weights.sum()), int(units.max()) + 1
    if total <= 0:
        return ["the policy never draws what was drawn: the log says nothing of it"]
    found, of_units = [], np.bincount(units, weights)
    effective = total**2 / float((of_units**2).sum())
    if effective < FEWEST_UNITS:
        found.append(
            f"the estimates rest on the worth of {effective:,.0f} of {count:,} users: the policy differs from the "
            "logged one, or there are few users; explore longer, or ask for a policy that is nearer to the logged one"
        )
    heaviest = float(weights.max()) / total
    if heaviest > HEAVIEST_SHARE:
        found.append(f"one decision has {heaviest:.0%} of all weight (it counts {weights.max():,.1f} times)")
    mean = _mean(weights, units)
    half = 0.0 if np.ptp(weights) == 0 else mean.high - mean.value
    if abs(mean.value - 1) > 2 * half + 1e-6:
        found.append(
            f"weights have the mean {mean.value:.2f}, which should be 1: the logged probabilities may not be those "
            "that were drawn with"
        )
    rewarded = len(np.unique(units[(weights > 0) & (rewards != 0)]))
    if rewarded < FEWEST_REWARDED:
        found.append(f"only {rewarded:,} users were rewarded for what the policy would draw: the intervals are rough")
    return found
