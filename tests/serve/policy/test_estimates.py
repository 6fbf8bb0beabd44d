"""Off-policy estimates: by hand, on logs whose truth is known, and against Open Bandit Pipeline."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from benchmarks.replay_world import World, sharp, uniform
from recommender.serve.policy.estimates import Logged, RewardModel, cross_fitted, estimate, folds_of, greedy

ESTIMATORS = ("ips", "snips", "dr")


def log_of(
    rewards: list[float], propensities: list[float], *, drawn: list[int] | None = None, units: list[int] | None = None
) -> Logged:
    """Decisions among two candidates; the second has the context 1, the first 0."""
    n = len(rewards)
    return Logged(
        np.arange(n) * 2, np.arange(n) * 2 + np.array(drawn or [0] * n), np.array(propensities), np.array(rewards),
        np.array(units or range(n)), np.tile([[0.0], [1.0]], (n, 1)),
    )  # fmt: skip


def repeated(log: Logged, times: int) -> Logged:
    """Each decision several times, by the same unit."""
    n = len(log) * times
    return Logged(
        np.arange(n) * 2, np.arange(n) * 2 + np.tile(log.drawn % 2, times), np.tile(log.propensities, times),
        np.tile(log.rewards, times), np.tile(log.units, times), np.tile(log.contexts, (times, 1)),
    )  # fmt: skip


def test_the_values_are_those_of_the_formulas() -> None:
    log = log_of([1.0, 0.0, 2.0, 0.0], [0.5, 0.25, 0.8, 0.5], drawn=[0, 1, 0, 1])
    policy = np.array([0.5, 0.5, 0.5, 0.5, 0.2, 0.8, 1.0, 0.0])
    found = estimate(log, policy, np.full(8, 0.5))
    # The weights are 1, 2, 1/4 and 0.
    assert found.ips.value == pytest.approx((1 * 1 + 2 * 0 + 0.25 * 2 + 0) / 4)
    assert found.snips.value == pytest.approx(1.5 / 3.25)
    assert found.dr.value == pytest.approx(0.5 + (1 * 0.5 + 2 * -0.5 + 0.25 * 1.5) / 4)
    assert found.gain.value == pytest.approx(found.dr.value - 3 / 4)
    assert found.max_weight == 2
    assert found.effective_units == pytest.approx(3.25**2 / (1 + 4 + 1 / 16))


def test_of_the_logged_policy_the_interval_is_that_of_a_mean() -> None:
    log = log_of([1.0, 0.0] * 50, [0.5] * 100)
    found = estimate(log, np.full(200, 0.5), np.zeros(200))
    # A mean of 100 values with the deviation 1/2·√(100/99), and Student's t for 99 degrees of freedom.
    half = 1.98422 * 0.5 / np.sqrt(99)
    for one in (found.ips, found.snips, found.dr):
        assert (one.value, one.low, one.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-5)
    assert found.warnings == ()


def test_decisions_of_a_user_count_as_one_observation() -> None:
    log = log_of([1.0, 0.0, 0.0, 1.0] * 30, [0.5] * 120, drawn=[0, 1] * 60)
    policy = np.tile([0.3, 0.7], 120)
    once, often = estimate(log, policy, np.zeros(240)), estimate(repeated(log, 9), np.tile(policy, 9), np.zeros(2160))
    for name in (*ESTIMATORS, "gain"):
        one, many = getattr(once, name), getattr(often, name)
        assert (many.value, many.low, many.high) == pytest.approx((one.value, one.low, one.high))
    assert often.effective_units == pytest.approx(once.effective_units)


def test_rare_rewards_make_the_interval_wider() -> None:
    """With three rewards the quantile is that of about six degrees of freedom, not of a hundred."""
    rare = estimate(log_of([1.0] * 3 + [0.0] * 97, [0.5] * 100), np.full(200, 0.5), np.zeros(200)).ips
    deviation = np.sqrt(0.03 * 0.97 / 99)
    assert 2.3 < (rare.high - rare.value) / deviation < 2.6


def test_without_variance_there_is_no_interval() -> None:
    for rewards in ([1.0], [0.0] * 20):
        n = len(rewards)
        found = estimate(log_of(rewards, [0.5] * n), np.tile([1.0, 0.0], n), np.zeros(2 * n))
        assert (found.ips.low, found.ips.high) == (-np.inf, np.inf)


def test_warnings_say_what_is_wrong_with_weights() -> None:
    n = 400
    rewards, fair = [1.0, 0.0] * (n // 2), [0.5] * n
    same = np.full(2 * n, 0.5)
    assert estimate(log_of(rewards, fair), same, np.zeros(2 * n)).warnings == ()
    odd = estimate(log_of(rewards, [0.001] + [0.5] * (n - 1)), same, np.zeros(2 * n)).warnings
    assert "worth of 3 of 400 users" in odd[0]
    assert "one decision has 56% of all weight (it counts 500.0 times)" in odd[1]
    (wrong,) = estimate(log_of(rewards, [0.4] * n), same, np.zeros(2 * n)).warnings
    assert wrong.startswith("weights have the mean 1.25, which should be 1")
    never = estimate(log_of(rewards, fair), np.tile([0.0, 1.0], n), np.zeros(2 * n))
    assert never.warnings == ("the policy never draws what was drawn: the log says nothing of it",)
    assert np.isnan(never.snips.value)
    (few,) = estimate(log_of([1.0] * 4 + [0.0] * (n - 4), fair), same, np.zeros(2 * n)).warnings
    assert few.startswith("only 4 users were rewarded")


def test_a_reward_is_predicted_from_other_users_alone() -> None:
    """The first user's rewards are unlike all others', and leave no trace in their own predictions."""
    rng = np.random.default_rng(1)
    n = 300
    contexts = rng.normal(size=(n * 2, 3))
    truth = contexts @ np.array([1.0, -2.0, 0.0]) + 4
    units = np.arange(n) // 3
    drawn = np.arange(n) * 2 + rng.integers(2, size=n)
    rewards = truth[drawn]
    odd = np.where(units == 0, 1000.0, rewards)
    logs = [Logged(np.arange(n) * 2, drawn, np.full(n, 0.5), given, units, contexts) for given in (rewards, odd)]
    before, after = map(cross_fitted, logs)
    fold = np.repeat(folds_of(logs[0]), 2)
    assert before == pytest.approx(truth, abs=0.2)
    assert np.array_equal(before[fold == fold[0]], after[fold == fold[0]])
    assert not np.allclose(before[fold != fold[0]], after[fold != fold[0]], atol=1)
    for user in range(100):
        assert len(set(fold[np.repeat(units, 2) == user])) == 1


def test_greedy_does_not_profit_from_chance() -> None:
    """Rewards are noise: a policy that is chosen by the rewards it is judged by would seem better than their mean."""
    gains, chosen_by_itself = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, m = 200, 6
        contexts = rng.normal(size=(n * m, 20))
        drawn = np.arange(n) * m + rng.integers(m, size=n)
        log = Logged(np.arange(n) * m, drawn, np.full(n, 1 / m), rng.normal(size=n), np.arange(n), contexts)
        q = cross_fitted(log)
        gains.append(estimate(log, greedy(log, q), q).dr.value)
        own = RewardModel.fit(contexts[drawn], log.rewards).predict(contexts)
        chosen_by_itself.append(estimate(log, greedy(log, own), own).dr.value)
    error = np.std(gains) / np.sqrt(60)
    assert abs(np.mean(gains)) < 3 * error
    assert np.mean(chosen_by_itself) > 10 * error


def test_greedy_takes_the_first_of_the_best() -> None:
    log = Logged(
        np.array([0, 3]), np.array([0, 3]), np.array([0.5, 0.5]), np.zeros(2), np.arange(2), np.zeros((5, 1))
    )  # fmt: skip
    assert greedy(log, np.array([1.0, 2.0, 2.0, -1.0, -2.0])).tolist() == [0, 1, 0, 1, 0]


def test_intervals_cover_the_truth() -> None:
    """A small version of `make bench-replay`, whose 1,000 logs hold the band of 93 to 97 %."""
    world = World()
    policies = {"logged": world.logging, "uniform": uniform, "sharp": sharp}
    truths = {name: world.truth(policy, pieces=10) for name, policy in policies.items()}
    covered: dict[tuple[str, str], list[bool]] = {}
    narrow = []
    for seed in range(150):
        log, _ = world.log(np.random.default_rng(seed), 600)
        predicted = cross_fitted(log)
        n = len(log)
        contexts = log.contexts.reshape(n, -1, log.contexts.shape[1])
        for name, policy in policies.items():
            found = estimate(log, policy(contexts).ravel(), predicted)
            assert found.warnings == ()
            for estimator in ESTIMATORS:
                one = getattr(found, estimator)
                covered.setdefault((name, estimator), []).append(one.low <= truths[name] <= one.high)
            narrow.append((found.dr.high - found.dr.low) <= 1.02 * (found.ips.high - found.ips.low))
    assert {key: np.mean(found) for key, found in covered.items() if not 0.90 <= np.mean(found) <= 0.99} == {}
    assert np.mean(narrow) > 0.9  # what the model knows need not be weighed


@pytest.mark.slow
def test_values_are_those_of_open_bandit_pipeline() -> None:
    """obp 0.4.1 estimates the same from the same log and the same predictions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a package of 2021 with today's Python
        from obp.ope import DoublyRobust, InverseProbabilityWeighting, SelfNormalizedInverseProbabilityWeighting

    log, _ = World(least=0.1, decided=1.5).log(np.random.default_rng(5), 1_500)
    n, predicted = len(log), cross_fitted(log)
    policy = sharp(log.contexts.reshape(n, -1, log.contexts.shape[1]))
    given: dict[str, Any] = {
        "reward": log.rewards, "action": log.drawn - log.starts, "pscore": log.propensities,
        "action_dist": policy[:, :, None], "position": np.zeros(n, int),
    }  # fmt: skip
    found = estimate(log, policy.ravel(), predicted)
    assert found.ips.value == pytest.approx(InverseProbabilityWeighting().estimate_policy_value(**given), rel=1e-9)
    assert found.snips.value == pytest.approx(
        SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**given), rel=1e-9
    )
    given["estimated_rewards_by_reg_model"] = predicted.reshape(n, -1, 1)
    assert found.dr.value == pytest.approx(DoublyRobust().estimate_policy_value(**given), rel=1e-9)
