from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
import scipy.sparse as sp

from recommender.evaluation import baselines
from recommender.evaluation.baselines import METHODS, OURS, fit_ours, missing, scorer_of
from recommender.evaluation.comparison import measure
from recommender.measure.splits import Split, make_splits, pair_matrix
from tests.support.world import world

# implicit and RecTools' environment need not be there; those that are, are tested.
HERE = [name for name in METHODS if name not in missing()]


@pytest.fixture(scope="module")
def item_cold() -> Split:
    return make_splits(*world(), "item_cold")[0]


@pytest.fixture(scope="module")
def temporal() -> Split:
    return make_splits(*world(), "temporal", cutoff=datetime(2024, 8, 1))[0]


def scores(split: Split, method: str) -> np.ndarray:
    scorer = scorer_of(fit_ours(split, 0)) if method == OURS else METHODS[method](split, 0)
    return np.asarray(scorer(np.arange(len(split.users))))


@pytest.mark.parametrize("method", [*HERE, OURS])
def test_no_method_looks_at_what_it_is_asked_for(method, temporal) -> None:
    """Another test part, and other texts of what only it has, must leave what a method says of all else as it was."""
    empty = sp.csr_matrix(temporal.wanted.shape, dtype=np.float32)
    other = replace(temporal, test=temporal.test.select(temporal.test.users < 5), wanted=empty, excluded=empty)
    before, after = scores(temporal, method), scores(other, method)
    assert before.shape == (80, 100)
    assert np.isfinite(before).all()
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("method", HERE)
def test_texts_of_new_items_change_nothing_of_what_is_said_of_old_ones(method, item_cold) -> None:
    cold = np.flatnonzero(item_cold.cold)
    texts = list(item_cold.items.descriptions)
    embeddings = item_cold.items.embeddings.copy()
    for row in cold:
        texts[row] = "words that nobody had before"
    embeddings[cold] = embeddings[cold[::-1]]
    other = replace(item_cold, items=replace(item_cold.items, descriptions=texts, embeddings=embeddings))
    before, after = scores(item_cold, method), scores(other, method)
    np.testing.assert_allclose(before[:, item_cold.warm], after[:, item_cold.warm], rtol=1e-5, atol=1e-6)


READING = ["TF-IDF cosine", "encoder cosine", "LightFM tokens", "LightFM ids+tokens", "ridge map"]


@pytest.mark.parametrize("method", READING)
def test_methods_that_read_find_new_items(method, item_cold) -> None:
    found = measure(item_cold, METHODS[method](item_cold, 0))["cold"].means()
    assert found["auc"] > 0.65


@pytest.mark.parametrize("method", ["popularity", "LightFM ids", "EASE"])
def test_methods_that_do_not_read_know_nothing_of_new_items(method, item_cold) -> None:
    assert measure(item_cold, METHODS[method](item_cold, 0))["cold"].means()["auc"] == 0.5


def test_popularity_counts_users_and_random_is_the_same_in_every_block(item_cold) -> None:
    counts = np.zeros(100)
    for item in {(u, i) for u, i in zip(item_cold.train.users, item_cold.train.items, strict=True)}:
        counts[item[1]] += 1
    assert METHODS["popularity"](item_cold, 0)(np.array([3])).tolist() == [counts.tolist()]
    drawn = METHODS["random"](item_cold, 0)
    np.testing.assert_array_equal(drawn(np.array([3, 4]))[1:], drawn(np.array([4])))


def test_a_user_without_interactions_or_words_gets_the_items_biases() -> None:
    (held,) = make_splits(*world(), "user_cold")
    silent = [row for row in held.asked if not held.users.descriptions[row]]
    assert len(silent) > 1
    for method in ("LightFM ids", "LightFM tokens", "LightFM ids+tokens"):
        block = METHODS[method](held, 0)(np.array(silent))
        assert np.ptp(block, axis=0).max() == 0
        assert np.ptp(block[0]) > 0


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_ease_is_steck_s_by_items_and_by_users(shape) -> None:
    X = sp.random(*shape, 0.3, format="csr", random_state=1, dtype=np.float64)
    X.data[:] = 1
    X = X[:, :-1] if shape[1] == 12 else X
    X = sp.hstack([X, sp.csr_matrix((shape[0], 1))], format="csr")  # an item that nobody has
    P = np.linalg.inv((X.T @ X).toarray() + 3 * np.eye(X.shape[1]))
    B = -P / np.diag(P)
    np.fill_diagonal(B, 0)
    found = baselines._ease(X, 3.0)(np.arange(shape[0]))
    np.testing.assert_allclose(found, X @ B, atol=1e-5)


def test_ease_finds_what_goes_together() -> None:
    (held,) = make_splits(*world(), "warm")
    assert measure(held, METHODS["EASE"](held, 0))["warm"].means()["auc"] > 0.75


def test_what_cannot_run_says_what_it_needs(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "implicit", None)  # as if it were not installed
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    left_out = missing()
    assert set(left_out) == {"implicit ALS", "RecTools LightFM"}
    assert "extra `bench`" in left_out["implicit ALS"]
    assert f"python -m venv {tmp_path}/rectools" in left_out["RecTools LightFM"]


def test_methods_without_any_text_give_scores_all_the_same(item_cold) -> None:
    silent = replace(
        item_cold,
        users=replace(item_cold.users, descriptions=[""] * 80, embeddings=np.zeros((80, 8), np.float32)),
        items=replace(item_cold.items, descriptions=[""] * 100, embeddings=np.zeros((100, 8), np.float32)),
    )
    for method in HERE:
        assert np.isfinite(METHODS[method](silent, 0)(np.array([0, 1]))).all()


def test_pairs_are_ones(item_cold) -> None:
    assert set(pair_matrix(item_cold.train).data) == {1.0}
