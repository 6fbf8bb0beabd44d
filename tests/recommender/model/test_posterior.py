"""The ridge posterior against its closed form, and what the prior learns."""

from __future__ import annotations

import numpy as np
import pytest

from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.model.fitted import Fitted
from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.model.posterior import ProfilePosterior, ProfilePrior, Shares
from recommender.serve.interview.asking import Interview, Topics

GROUPS, EACH, USERS = 4, 5, 120


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    """Users who each buy three items of one of four groups."""
    rng = np.random.default_rng(0)
    items = [f"{group}{number}" for group in range(GROUPS) for number in range(EACH)]
    users = np.repeat(np.arange(USERS), 3)
    bought = np.concatenate([row % GROUPS * EACH + rng.choice(EACH, 3, replace=False) for row in range(USERS)])
    times = np.full(len(users), "2024-01-01", "datetime64[us]")
    ids, weights = [f"u{row}" for row in range(USERS)], np.ones(len(users), np.float32)
    found = Interactions(ids, items, users, bought, times, weights)
    vectors = rng.normal(size=(len(items), 8)) / 10 + np.eye(GROUPS, 8)[np.arange(len(items)) // EACH]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    nobody = Entities.nothing(found.user_ids, 8, "test")
    known = Entities(items, items, [[f"group={name[0]}"] for name in items], vectors, np.zeros_like(vectors),
                     np.zeros(len(items)), "test")  # fmt: skip
    return fit(Parameters(components=4, epochs=2, lightfm_seeds=1), found, *with_history(found, nobody, known))


@pytest.fixture(scope="module")
def topics(fitted: Fitted) -> Topics:
    return Topics.of(ProfilePrior.of(fitted), fitted)


def things() -> Shares:
    rng = np.random.default_rng(1)
    return Shares(rng.normal(size=(6, 3)).astype(np.float32), np.full(6, 0.3), rng.uniform(0.1, 1, 6))


def test_rank_one_updates_are_ridge_regression() -> None:
    given = things()
    rows, values = np.array([0, 3, 3, 5]), np.array([1.0, 0.0, 1.0, 1.0])
    posterior = ProfilePosterior.before(given)
    for row, value in zip(rows.tolist(), values.tolist(), strict=True):
        posterior = posterior.after(row, value)
    vectors, noise = given.vectors[rows].astype(np.float64), given.noise[rows]
    precision = np.eye(3) + (vectors / noise[:, None]).T @ vectors
    mean = np.linalg.solve(precision, vectors.T @ ((values - 0.3) / noise))
    np.testing.assert_allclose(posterior.covariance, np.linalg.inv(precision))
    np.testing.assert_allclose(posterior.mean, mean)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_reduction_is_what_an_answer_removes_whatever_it_is(value: float) -> None:
    given = things()
    gram = (given.vectors.T @ given.vectors).astype(np.float64)
    before = ProfilePosterior.before(given).after(2, 1.0)
    rows = np.arange(6)
    removed = [before.uncertainty(gram) - before.after(row, value).uncertainty(gram) for row in rows.tolist()]
    np.testing.assert_allclose(before.reductions(rows, gram), removed)


def test_a_yes_raises_the_items_of_its_group_and_a_no_lowers_them(topics: Topics) -> None:
    first, other = np.arange(1, EACH), np.arange(EACH, GROUPS * EACH)
    before = Interview.begin(topics)
    for reply, sign in (("yes", 1), ("no", -1)):
        moved = sign * (before.after([(0, reply)]).wants.expected() - before.wants.expected())
        assert moved[first].min() > moved[other].max()


def test_who_does_not_know_an_item_is_not_asked_about_its_like(topics: Topics) -> None:
    rows = np.arange(topics.items)
    before = Interview.begin(topics)
    after = before.after([(0, "unknown"), (1, "unknown")])
    ratios = after.answerable(rows) / before.answerable(rows)
    assert ratios[:EACH].max() < ratios[EACH:].min()
    assert after.learned == 0
    assert int(np.argmax(after.gains(rows))) >= EACH


def test_an_attribute_speaks_for_its_items(fitted: Fitted, topics: Topics) -> None:
    assert sorted(topics.prior.attributes) == [f"group={group}" for group in range(GROUPS)]
    row = topics.items + list(topics.prior.attributes).index("group=2")
    np.testing.assert_allclose(topics.things.expected[row], 1 / GROUPS, atol=1e-6)
    expected = Interview.begin(topics).after([(row, "yes")]).wants.expected()[: topics.items]
    assert set(np.argsort(-expected)[:EACH] // EACH) == {2}


def test_an_item_without_buyers_has_a_place_among_the_others(fitted: Fitted, topics: Topics) -> None:
    known = fitted.items.take(np.array([7]))
    nothing = np.zeros_like(known.embeddings)
    new = Entities(["new"], ["new"], known.attributes, known.embeddings, nothing, np.zeros(1), "test")
    found = topics.prior.of_items(fitted, fitted.side_of(new)).vectors[0]
    cosines = topics.things.vectors[: topics.items] @ found
    assert set(np.argsort(-cosines)[:EACH] // EACH) == {1}
