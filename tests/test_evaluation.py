from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recommender.data import Interactions
from recommender.evaluation import (
    METHODS,
    Split,
    compare,
    groups_of,
    measure,
    split_cold_items,
    split_cold_users,
    split_warm_pairs,
    stable_share,
)
from recommender.features import Entities
from recommender.metrics import rank_metrics
from recommender.model import Parameters


@pytest.fixture(scope="module")
def data() -> tuple[Interactions, Entities, Entities]:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(100, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    taste = rng.normal(size=(80, 8))
    chosen = (taste @ vectors.T).argsort(axis=1)[:, -15:]
    users = np.repeat(np.arange(80), 15)
    texts = [" ".join(f"w{d}" for d in np.flatnonzero(v > 0.3)) or "plain" for v in vectors]
    return (
        Interactions(
            [f"u{n}" for n in range(80)], [f"{n // 2:03}{'ab'[n % 2]}" for n in range(100)], users, chosen.ravel(),
            np.datetime64("2024-01-01", "us") + np.arange(1200).astype("timedelta64[m]"), np.ones(1200, np.float32),
        ),
        Entities([f"u{n}" for n in range(80)], [""] * 80, [[]] * 80, np.zeros((80, 8), np.float32),
                 np.zeros((80, 8), np.float32), np.zeros(80), "stub"),
        Entities([f"{n // 2:03}{'ab'[n % 2]}" for n in range(100)], texts, [[]] * 100, vectors,
                 np.zeros((100, 8), np.float32), np.zeros(100), "stub"),
    )  # fmt: skip


SPLITS = (split_cold_items, split_cold_users, split_warm_pairs)


@pytest.mark.parametrize("split", SPLITS)
def test_profiles_of_a_split_know_nothing_that_it_holds_out(split, data) -> None:
    """Plant an interaction in the held-out part and look for it: nothing that a method is given may move."""
    interactions, users, items = data
    held = split(interactions, users, items)
    user, item = int(held.test.users[0]), int(held.test.items[0])
    planted = replace(held.test, weights=np.where(
        (held.test.users == user) & (held.test.items == item), 1e6, held.test.weights).astype(np.float32))  # fmt: skip
    joined = Interactions(
        interactions.user_ids, interactions.item_ids,
        *(np.concatenate([getattr(held.train, name), getattr(planted, name)])
          for name in ("users", "items", "timestamps", "weights")),
    )  # fmt: skip
    again = split(joined, users, items)
    for name in ("profiles", "evidence"):
        np.testing.assert_array_equal(getattr(again.users, name), getattr(held.users, name))
        np.testing.assert_array_equal(getattr(again.items, name), getattr(held.items, name))
    assert np.abs(held.users.profiles).max() < 100


@pytest.mark.parametrize("split", SPLITS)
def test_training_pairs_are_never_candidates(split, data) -> None:
    held = split(*data)
    train = set(zip(held.train.users.tolist(), held.train.items.tolist(), strict=True))
    test = set(zip(held.test.users.tolist(), held.test.items.tolist(), strict=True))
    assert not train & test
    assert all(held.excluded[user, item] for user, item in train)


def test_cold_items_are_cold_and_variants_stay_together(data) -> None:
    held = split_cold_items(*data, group="^[0-9]{3}")
    cold = {data[2].ids[row] for row in held.candidates}
    assert 0.1 < len(cold) / 100 < 0.3
    assert not cold & {data[2].ids[row] for row in held.train.items}
    assert {name[:3] for name in cold}.isdisjoint({data[2].ids[row][:3] for row in held.train.items})
    assert not held.items.profiles[held.candidates].any()


def test_the_purchase_that_stands_for_words_is_not_asked_for(data) -> None:
    held = split_cold_users(*data)
    assert held.note
    row = held.asked[0]
    (stood,) = np.flatnonzero(held.excluded[row].toarray()[0])
    np.testing.assert_array_equal(held.users.embeddings[row], data[2].embeddings[stood])
    assert not held.users.evidence[row]


def test_a_split_depends_on_ids_alone() -> None:
    assert stable_share("85123A", "items 0") == stable_share("85123A", "items 0")
    shares = np.array([stable_share(str(n), "x") for n in range(2000)])
    assert abs((shares < 0.2).mean() - 0.2) < 0.03
    assert groups_of(["1a", "1b"], "^[0-9]") == ["1", "1"]


def test_metrics_by_hand() -> None:
    scores, wanted = np.array([4.0, 3.0, 2.0, 1.0]), np.array([False, True, False, True])
    auc, recall, ndcg = rank_metrics(scores, wanted, np.zeros(4, bool))
    assert (auc, recall) == (0.25, 1.0)
    assert ndcg == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / (1 + 1 / np.log2(3)))
    assert rank_metrics(scores, wanted, np.array([True, False, True, False])) == (1.0, 1.0, 1.0)


def test_the_truth_scores_one_and_its_opposite_nothing(data) -> None:
    held: Split = split_warm_pairs(*data)
    truth = np.zeros((80, 100))
    truth[held.test.users, held.test.items] = 1
    best = measure(held, lambda rows: truth[rows][:, held.candidates]).means()
    worst = measure(held, lambda rows: -truth[rows][:, held.candidates]).means()
    assert best == {"auc": 1, "recall@20": 1, "ndcg@20": 1}
    assert worst["auc"] == 0


def test_every_method_is_compared_and_text_beats_popularity_on_cold_items(data) -> None:
    held = split_cold_items(*data)
    results = compare(held, Parameters(components=8, epochs=5))
    assert tuple(results) == METHODS
    means = {method: metrics.means() for method, metrics in results.items()}
    assert means["popularity"]["auc"] == 0.5
    assert means["coldstart"]["auc"] > 0.75
