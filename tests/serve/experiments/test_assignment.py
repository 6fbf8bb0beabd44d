"""Users and arms: decided by hashes alone, in the planned shares, without users in two experiments of a layer."""

from __future__ import annotations

from collections import Counter

import pytest

from coldstart_client.experiments import Arm, ExperimentRequest
from recommender.serve.experiments.assignment import BUCKETS, Running, bucket_of, chosen, free_buckets

USERS = [f"user {number}" for number in range(20_000)]


def running(
    name: str = "one", *shares: float, layer: str = "default", buckets: range = range(BUCKETS), seed: str = "seed"
) -> Running:
    arms = [Arm(name=f"arm{place}", share=share) for place, share in enumerate(shares or (1.0, 1.0))]
    return Running(ExperimentRequest(name=name, arms=arms, layer=layer), seed, frozenset(buckets))


def arms(one: Running, users: list[str] = USERS) -> dict[str, str]:
    return {user: arm.name for user in users if (arm := one.arm_of(user)) is not None}


def test_arms_get_their_shares_of_users() -> None:
    counts = Counter(arms(running("one", 1, 3)).values())
    assert counts["arm0"] / len(USERS) == pytest.approx(0.25, abs=0.015)
    assert counts["arm1"] / len(USERS) == pytest.approx(0.75, abs=0.015)


def test_the_arm_of_a_user_is_always_the_same() -> None:
    assert arms(running()) == arms(running("another"))
    # Known values: another hash would give running experiments other users.
    assert [bucket_of("default", user) for user in ("ann", "bob", "ü")] == [375, 623, 863]


def test_another_seed_mixes_the_users_again() -> None:
    first, second = arms(running()), arms(running(seed="other"))
    both = Counter((first[user], second[user]) for user in USERS)
    assert all(count / len(USERS) == pytest.approx(0.25, abs=0.015) for count in both.values())
    assert len(both) == 4


def test_experiments_of_one_layer_share_no_user() -> None:
    first = arms(running(buckets=range(500)))
    second = arms(running("two", buckets=range(500, BUCKETS)))
    assert not first.keys() & second.keys()
    assert len(first) + len(second) == len(USERS)


def test_layers_are_independent() -> None:
    inside = arms(running(buckets=range(500)))
    other = arms(running("two", layer="page", seed="two", buckets=range(500)))
    assert len(inside.keys() & other.keys()) / len(USERS) == pytest.approx(0.25, abs=0.015)
    both = Counter((inside[user], other[user]) for user in inside.keys() & other.keys())
    assert all(count / sum(both.values()) == pytest.approx(0.25, abs=0.03) for count in both.values())


def test_buckets_that_others_have_are_not_given_away() -> None:
    assert free_buckets(0.002, {0, 2}) == [1, 3]
    assert free_buckets(1.0, {7}) is None
    assert len(free_buckets(0.0001, ()) or ()) == 1


@pytest.mark.parametrize("part", [0.0, 0.15, 0.999_999_999_999])
def test_every_part_belongs_to_an_arm(part: float) -> None:
    assert chosen(part, [0.1] * 10) == int(part * 10)
