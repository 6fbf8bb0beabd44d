"""The sampler and the reserved places, by cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.serve.policy.contexts import PROJECTED, Contexts
from recommender.serve.policy.sampler import UNIFORM, Evidence, Posterior
from recommender.serve.policy.slots import check_share, number_of_slots, positions_of
from tests.support.made_up_shop import shared

WIDTH = 4
NAMES = [f"i{number}" for number in range(5)]


def contexts(n: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, WIDTH))
    found[:, 0] = 1
    return found


def learned(n: int, weights: list[float], seed: int = 0) -> Evidence:
    """Of n places whose rewards are these weights times the context, as 0 and 1."""
    x = contexts(n, seed)
    rewards = (np.random.default_rng(seed + 1).random(n) < x @ weights).astype(float)
    evidence = Evidence.nothing(WIDTH)
    evidence.add(x, rewards, [f"of {number}" for number in range(n)])
    return evidence


def test_the_weights_of_a_linear_reward_are_found() -> None:
    weights = [0.3, 0.0, 0.08, -0.05]
    found = learned(20_000, weights).posterior("flat")
    assert found.mean == pytest.approx(0.3, abs=0.02)
    np.testing.assert_allclose(found.weights, weights, atol=0.02)
    np.testing.assert_allclose(found.drawn.mean(axis=0), found.weights, atol=0.001)


def test_the_order_and_the_pieces_in_which_places_are_counted_make_no_difference() -> None:
    x, rewards, rng = contexts(100), np.arange(100) % 3 / 2, np.random.default_rng(3)
    items = [NAMES[number % 5] for number in range(100)]
    whole, pieces = Evidence.nothing(WIDTH), Evidence.nothing(WIDTH)
    whole.add(x, rewards, items)
    for some in np.split(rng.permutation(100), [7, 50, 51]):
        pieces.add(x[some], rewards[some], [items[number] for number in some])
    a, b = whole.posterior(), pieces.posterior()
    np.testing.assert_allclose(a.weights, b.weights)
    np.testing.assert_allclose(a.probabilities(contexts(5), NAMES), b.probabilities(contexts(5), NAMES), atol=0.002)


def test_a_posterior_stays_as_it_is_while_more_is_counted() -> None:
    evidence = Evidence.nothing(WIDTH)
    evidence.add(contexts(10), np.zeros(10), ["i0"] * 10)
    before = evidence.posterior()
    evidence.add(contexts(90), np.ones(90), ["i0"] * 90)
    assert (before.items["i0"].n, before.items["i0"].reward, before.verdicts) == (10, 0.0, {"i0": "open"})
    assert evidence.posterior().verdicts == {"i0": "above"}


def test_probabilities_are_shares_of_wins_mixed_with_a_uniform_share() -> None:
    posterior = learned(2_000, [0.3, 0.0, 0.1, 0.0]).posterior()
    asked = contexts(5, seed=9)
    found = posterior.probabilities(asked, NAMES)
    assert found.sum() == pytest.approx(1)
    assert found.min() >= UNIFORM / 5
    assert found.argmax() == posterior.expected(asked, NAMES).argmax()
    np.testing.assert_array_equal(found, posterior.probabilities(asked, NAMES))
    alone = posterior.probabilities(asked[:1], NAMES[:1])
    np.testing.assert_array_equal(alone, [1.0])


def test_what_was_shown_more_often_is_drawn_by_what_is_known_of_it() -> None:
    """Two items alike in context: one never shown, one shown in vain, one bought each third time."""
    evidence, x = Evidence.nothing(WIDTH), np.tile([1.0, 0, 0, 0], (300, 1))
    items = ["vain" if number % 2 else "wanted" for number in range(300)]
    evidence.add(x, (np.arange(300) % 6 == 0).astype(float), items)
    never, vain, wanted = evidence.posterior().probabilities(x[:3], ["never", "vain", "wanted"])
    assert vain < never < wanted


def test_words_are_the_prior_until_something_else_is_known() -> None:
    asked = np.zeros((3, WIDTH))
    asked[:, 0], asked[:, 1] = 1, (-1, 0, 3)
    nothing = Evidence.nothing(WIDTH)
    by_words = nothing.posterior("text").expected(asked, NAMES[:3])
    flat = nothing.posterior("flat").expected(asked, NAMES[:3])
    np.testing.assert_allclose(by_words, [0.01, 0.02, 0.05])
    assert nothing.posterior("text").probabilities(asked, NAMES[:3]).argmax() == 2
    np.testing.assert_allclose(flat, flat[0])
    # Shown often, demand turns out to mean the contrary.
    contrary = learned(20_000, [0.3, -0.08, 0.0, 0.0]).posterior("text")
    assert contrary.expected(asked, NAMES[:3])[0] > contrary.expected(asked, NAMES[:3])[2]


@pytest.mark.parametrize(
    ("shown", "purchases", "verdict"),
    [(5, 0, "open"), (2_000, 0, "below"), (30, 4, "above"), (400, 6, "above"), (1_000, 4.9, "below")],
)
def test_an_item_is_decided_by_its_own_places(shown: int, purchases: float, verdict: str) -> None:
    others = learned(20_000, [0.02, 0.0, 0.0, 0.0])
    rewards = np.zeros(shown)
    rewards[:5] = purchases / 5
    others.add(np.tile([1.0, 0, 0, 0], (shown, 1)), rewards, ["this"] * shown)
    assert others.posterior().verdicts["this"] == verdict


def test_an_item_of_average_reward_leaves_in_the_end() -> None:
    evidence = Evidence.nothing(WIDTH)
    rewards = np.tile([0.02], 30_000)  # views, say
    evidence.add(np.tile([1.0, 0, 0, 0], (30_000, 1)), rewards, [f"i{number % 140}" for number in range(30_000)])
    posterior = evidence.posterior()
    assert set(posterior.verdicts.values()) == {"open"}
    evidence.add(np.tile([1.0, 0, 0, 0], (300, 1)), rewards[:300], ["i0"] * 300)
    assert evidence.posterior().verdicts["i0"] in ("average", "above")


def test_places_are_reserved_below_pins_and_below_the_best_item() -> None:
    rng = np.random.default_rng(0)
    seen = {tuple(positions_of(2, 6, 2, rng).tolist()) for _ in range(200)}
    assert seen == {(3, 4), (3, 5), (4, 5)}
    assert positions_of(9, 4, 1, rng).tolist() == [2, 3]
    assert positions_of(1, 1, 0, rng).tolist() == [0]  # there is no other
    assert positions_of(1, 3, 3, rng).tolist() == []
    assert positions_of(1, 0, 0, rng).tolist() == []


@pytest.mark.parametrize(("places", "share"), [(10, 0.1), (3, 0.1), (30, 0.1), (7, 0.45), (0, 0.5), (5, 0.0)])
def test_the_number_of_places_is_the_share_in_the_mean(places: int, share: float) -> None:
    rng = np.random.default_rng(1)
    found = [number_of_slots(places, share, rng) for _ in range(4_000)]
    assert np.mean(found) == pytest.approx(places * share, abs=0.04)
    assert max(found) - min(found) <= 1


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ColdStartError, match=r"give a number from 0 \(none\) to 0.5 \(half\)"):
        check_share(share)


def test_contexts_are_the_same_for_the_same_bundle_and_standardised() -> None:
    fitted = shared().fitted
    one, other = Contexts.of(fitted), Contexts.of(fitted)
    np.testing.assert_array_equal(one.directions, other.directions)
    warm = one.projected(fitted.warm_items.features.dense)
    assert warm.shape[1] == PROJECTED
    np.testing.assert_allclose(warm.std(axis=0)[:3], 1, atol=0.2)  # the vectors of this shop have three numbers
    assert not warm[:, 3:].any()
    assert not one.projected(np.zeros((1, 3), np.float32)).any()


def test_a_posterior_of_nothing_expects_a_mean_reward() -> None:
    nothing: Posterior = Evidence.nothing(WIDTH).posterior("flat")
    assert (nothing.mean, nothing.decided) == (0.02, set())
