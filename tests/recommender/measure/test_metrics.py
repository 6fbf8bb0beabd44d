from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recommender.measure.metrics import Metrics, ndcg, rank_metrics


def by_hand(scores: np.ndarray, wanted: np.ndarray, known: np.ndarray) -> tuple[float, float, float, float]:
    """One user's NDCG, recall, precision and AUC, each from its definition, and as the mean over orders of ties."""
    scores, wanted = scores[~known], wanted[~known]
    hits = [float(wanted[scores == scores[item]].mean()) for item in np.argsort(-scores)]
    gain = sum(hit / np.log2(place + 2) for place, hit in enumerate(hits[:20]))
    ideal = sum(1 / np.log2(place + 2) for place in range(min(20, wanted.sum())))
    pairs = [(a > b) + (a == b) / 2 for a in scores[wanted] for b in scores[~wanted]]
    return gain / ideal, sum(hits[:20]) / wanted.sum(), sum(hits[:10]) / 10, float(np.mean(pairs)) if pairs else 1.0


@pytest.mark.parametrize("levels", [2, 5, 1_000_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_metrics_are_those_of_the_definition_however_many_ties_there_are(levels, dtype) -> None:
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, size=(60, 45)).astype(dtype)
    wanted, known = rng.random((60, 45)) < 0.1, rng.random((60, 45)) < 0.3
    known[:3], wanted[:3] = True, False  # users with fewer candidates than the metrics look at
    known[:3, :5], wanted[:3, 0] = False, True
    wanted[np.arange(60), rng.integers(0, 45, 60)] |= ~wanted.any(axis=1)
    known &= ~wanted
    found = rank_metrics(scores, wanted, known)
    expected = np.array([by_hand(*row) for row in zip(scores, wanted, known, strict=True)]).T
    for name, values in zip(("ndcg", "recall", "precision", "auc"), expected, strict=True):
        np.testing.assert_allclose(getattr(found, name), values, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(ndcg(scores, wanted, ~known), expected[0], atol=1e-7)


def test_what_a_user_knows_is_no_hit_and_no_candidate() -> None:
    scores = np.array([[4.0, 3.0, 2.0, 1.0]])
    both = np.array([[True, False, True, False]])
    found = rank_metrics(scores, ~both, both)
    assert (found.auc[0], found.recall[0], found.ndcg[0], found.precision[0]) == (1, 1, 1, 0.2)
    assert rank_metrics(scores, np.array([[True, True, False, False]]), both).recall[0] == 1


def test_a_method_that_says_nothing_is_as_good_as_chance_and_shows_nothing() -> None:
    wanted, known = np.random.default_rng(0).random((300, 50)) < 0.1, np.zeros((300, 50), bool)
    wanted[:, 0] = True
    found = rank_metrics(np.zeros((300, 50)), wanted, known, np.arange(50) < 10).means()
    by_chance = [rank_metrics(np.random.default_rng(seed).random((300, 50)), wanted, known) for seed in range(1, 21)]
    for name in ("ndcg@20", "recall@20", "precision@10"):
        assert found[name] == pytest.approx(np.mean([each.means()[name] for each in by_chance]), rel=0.02), name
    assert (found["auc"], found["recall@20"]) == (pytest.approx(0.5), pytest.approx(20 / 50))
    assert (found["coverage"], found["cold_share"]) == (0, 0)


def test_coverage_and_cold_share_are_of_the_top_20() -> None:
    scores = np.tile(-np.arange(40.0), (2, 1))
    known = np.zeros((2, 40), bool)
    known[1, :5] = True  # so the second user's list reaches five items further
    found = rank_metrics(scores, np.arange(40)[None].repeat(2, 0) == 30, known, np.arange(40) < 10)
    assert found.shown.sum() == 25
    assert found.cold_share.tolist() == [10 / 20, 5 / 20]


def test_blocks_of_users_are_put_together() -> None:
    rng = np.random.default_rng(0)
    scores, wanted = rng.random((10, 60)), rng.random((10, 60)) < 0.2
    known = np.zeros((10, 60), bool)
    whole = rank_metrics(scores, wanted, known)
    parts = Metrics.of([rank_metrics(scores[rows], wanted[rows], known[rows]) for rows in (slice(4), slice(4, 10))])
    assert parts.means() == whole.means()
    assert parts.ndcg.tolist() == whole.ndcg.tolist()


def test_ndcg_of_nobody_is_empty_and_of_more_wanted_than_places_can_be_one() -> None:
    nobody = np.zeros((0, 0), bool)
    assert ndcg(np.zeros((0, 0)), nobody, nobody).tolist() == []
    everything = np.ones((1, 50), bool)
    assert ndcg(np.arange(50.0)[None], everything, everything).round(12).tolist() == [1.0]


def test_the_credit_of_items_adds_up_to_the_ndcg_of_users_and_belongs_to_relevant_items() -> None:
    rng = np.random.default_rng(0)
    scores, wanted, known = rng.random((30, 80)), rng.random((30, 80)) < 0.1, rng.random((30, 80)) < 0.2
    wanted[:, 0], known[:, 0], scores[:, 1], wanted[:, 1] = True, False, 0, False
    found = rank_metrics(scores, wanted, known)
    assert found.credit.sum() == pytest.approx(found.ndcg.sum())
    assert found.credit[1] == 0
    one = rank_metrics(np.array([[3.0, 2.0, 1.0]]), np.array([[False, True, True]]), np.zeros((1, 3), bool))
    ideal = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(one.credit, [0, 1 / np.log2(3) / ideal, 1 / np.log2(4) / ideal])


def test_sparse_and_dense_pairs_are_measured_alike() -> None:
    rng = np.random.default_rng(3)
    scores, wanted, known = rng.random((20, 50)), rng.random((20, 50)) < 0.2, rng.random((20, 50)) < 0.2
    wanted[:, 0], known[:, 0] = True, False
    before = scores.copy()
    dense = rank_metrics(scores, wanted, known)
    sparse = rank_metrics(scores, sp.csr_matrix(wanted), sp.csr_matrix(known))
    for name in ("ndcg", "auc", "credit", "shown"):
        np.testing.assert_array_equal(getattr(dense, name), getattr(sparse, name))
    np.testing.assert_array_equal(scores, before)
