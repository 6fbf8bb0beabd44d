"""Versions of arrays: each has its own rows, whatever others add or replace."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recommender.model.rows import DenseRows, Growing, SparseRows

SIZES = [1, 127, 128, 129, 300]


def dense(n: int, value: float = 0.0) -> np.ndarray:
    return np.arange(n * 3, dtype=np.float32).reshape(n, 3) + value


@pytest.mark.parametrize("n", SIZES)
def test_replaced_rows_are_the_new_versions_alone(n: int) -> None:
    first = DenseRows(dense(n))
    rows = np.unique([0, n // 2, n - 1])
    second = first.replaced(rows, dense(len(rows), 1000.0))
    wanted = dense(n)
    wanted[rows] = dense(len(rows), 1000.0)
    np.testing.assert_array_equal(second.whole, wanted)
    np.testing.assert_array_equal(first.whole, dense(n))


@pytest.mark.parametrize("n", SIZES)
def test_extended_rows_come_after_the_others(n: int) -> None:
    first = DenseRows(dense(n)).replaced(np.array([0]), dense(1, 7.0))
    second = first.extended(dense(200, 50.0))
    assert (len(first), len(second), second.shape) == (n, n + 200, (n + 200, 3))
    np.testing.assert_array_equal(second.whole[:n], first.whole)
    np.testing.assert_array_equal(second.whole[n:], dense(200, 50.0))


def test_rows_are_taken_in_the_order_that_is_asked_and_as_often() -> None:
    rows = DenseRows(dense(300)).replaced(np.array([5, 290]), dense(2, 1000.0)).extended(dense(3))
    asked = np.array([302, 5, 5, 0, 290, 130])
    np.testing.assert_array_equal(rows.take(asked), rows.whole[asked])
    assert rows.take(np.zeros(0, np.int64)).shape == (0, 3)


def sparse(n: int, width: int, seed: int) -> sp.csr_matrix:
    values = np.random.default_rng(seed).integers(0, 3, size=(n, width))
    return sp.csr_matrix(values, dtype=np.float32)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("more", [0, 1, 150])
def test_sparse_rows_are_added_to_and_the_matrix_grows(n: int, more: int) -> None:
    base, rows = sparse(n, 4, 0), np.unique([0, n - 1, n + more - 1])
    values = sparse(len(rows), 6, 1)
    first = SparseRows(base)
    second = first.added(rows, values, (n + more, 6))
    wanted = np.zeros((n + more, 6), np.float32)
    wanted[:n, :4] = base.toarray()
    wanted[rows] += values.toarray()
    assert second.shape == (n + more, 6)
    np.testing.assert_array_equal(second.whole.toarray(), wanted)
    np.testing.assert_array_equal(first.whole.toarray(), base.toarray())
    again = second.added(rows, values, (n + more, 6))
    wanted[rows] += values.toarray()
    np.testing.assert_array_equal(again.whole.toarray(), wanted)


def test_a_row_of_nobody_is_empty() -> None:
    rows = SparseRows(sparse(200, 4, 0)).added(np.array([3]), sparse(1, 4, 1), (200, 4))
    found = rows.take(np.array([3, -1, 150]))
    assert found.shape == (3, 4)
    np.testing.assert_array_equal(found.toarray()[[0, 2]], rows.whole.toarray()[[3, 150]])
    assert not found.toarray()[1].any()


def test_two_versions_that_grow_from_one_do_not_see_each_other() -> None:
    first = Growing(dense(3))
    second = first.grown(dense(2, 10.0))
    third, other = second.grown(dense(1, 20.0)), second.grown(dense(1, 30.0))
    np.testing.assert_array_equal(first.rows, dense(3))
    np.testing.assert_array_equal(second.rows, np.vstack([dense(3), dense(2, 10.0)]))
    np.testing.assert_array_equal(third.rows[5:], dense(1, 20.0))
    np.testing.assert_array_equal(other.rows[5:], dense(1, 30.0))


def test_what_is_added_shares_the_buffer() -> None:
    second = Growing(dense(3)).grown(dense(2))
    assert np.shares_memory(second.rows, second.grown(dense(2)).rows)
