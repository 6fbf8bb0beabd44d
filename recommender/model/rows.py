"""Arrays of rows that are updated without being copied: a new version shares what it did not change."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Row = TypeVar("Row")
# The columns and the values of a sparse row.
Entries: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32]]

# Row numbers that share a table of replaced rows.
_BLOCK = 128


def added_up(history: sp.csr_matrix, rows: NDArray[Any]) -> NDArray[Any]:
    """(n, w), history·rows; one user is faster to add up than scipy is to begin."""
    return (history.data @ rows[history.indices])[None] if history.shape[0] == 1 else np.asarray(history @ rows)


class _Patched(Generic[Row]):
    """Rows of a base array, some of them replaced, and rows behind them; a version shares the rows of the one before.

    Replaced rows stand in a table of tables, one for each block of row numbers: an update copies the table of blocks,
    and the tables of the blocks that it touches.
    """

    def __init__(self, length: int, patches: dict[int, dict[int, Row]] | None = None) -> None:
        self._length = length
        self._patches = patches or {}

    def __len__(self) -> int:
        return self._length

    def _patched(self, rows: NDArray[np.int64], values: Iterable[Row]) -> dict[int, dict[int, Row]]:
        """The patches, and these."""
        patches = dict(self._patches)
        copied: set[int] = set()
        for row, value in zip(rows.tolist(), values, strict=True):
            block = row // _BLOCK
            if block not in copied:
                copied.add(block)
                patches[block] = dict(patches.get(block, {}))
            patches[block][row] = value
        return patches

    def _replaced(self, rows: NDArray[np.int64]) -> list[tuple[int, Row]]:
        """The places in `rows` whose row is replaced, and what it is now."""
        patches = self._patches
        if not patches:
            return []
        named = ((place, patches.get(row // _BLOCK, {}).get(row)) for place, row in enumerate(rows.tolist()))
        return [(place, value) for place, value in named if value is not None]


class DenseRows(_Patched[NDArray[Any]]):
    """(n, …) numbers."""

    def __init__(
        self, base: NDArray[Any], length: int | None = None, patches: dict[int, dict[int, NDArray[Any]]] | None = None
    ) -> None:
        super().__init__(len(base) if length is None else length, patches)
        self._base = base

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, …)."""
        return len(self), *self._base.shape[1:]

    @cached_property
    def whole(self) -> NDArray[Any]:
        """All rows; read only."""
        return self.take(np.arange(len(self))) if self._patches else self._base

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """These rows, in this order, copied."""
        replaced = self._replaced(rows)
        if not replaced:
            return np.asarray(self._base[rows])
        found = np.asarray(self._base[np.where(rows < len(self._base), rows, 0)])
        found[[place for place, _ in replaced]] = [value for _, value in replaced]
        return found

    def replaced(self, rows: NDArray[np.int64], values: NDArray[Any]) -> DenseRows:
        """A version with other values in some rows, each named once."""
        return DenseRows(self._base, len(self), self._patched(rows, values))

    def extended(self, values: NDArray[Any]) -> DenseRows:
        """A version with these rows added at the end."""
        length = len(self) + len(values)
        return DenseRows(self._base, length, self._patched(np.arange(len(self), length), values))


class SparseRows(_Patched[Entries]):
    """(n, m) numbers, most of them zero.

    Args:
        base: (n, m) at the beginning.
        shape: (n, m) now.
        patches: rows that are not those of `base`, as columns and values.
    """

    def __init__(
        self, base: sp.csr_matrix, shape: tuple[int, int] | None = None,
        patches: dict[int, dict[int, Entries]] | None = None,
    ) -> None:
        self.shape = shape or (int(base.shape[0]), int(base.shape[1]))
        super().__init__(self.shape[0], patches)
        self._base = base

    @cached_property
    def whole(self) -> sp.csr_matrix:
        """All rows; read only."""
        return self.take(np.arange(len(self))) if self._patches or self.shape != self._base.shape else self._base

    def take(self, rows: NDArray[np.int64]) -> sp.csr_matrix:
        """(k, m), these rows, in this order; -1 gives an empty row."""
        if len(rows) == 1:
            alone, weights = self._row(int(rows[0]))
            return sp.csr_matrix((weights, alone, np.array([0, len(alone)], np.int32)), shape=(1, self.shape[1]))
        replaced = self._replaced(rows)
        inside = (rows >= 0) & (rows < self._base.shape[0])
        inside[[place for place, _ in replaced]] = False
        if inside.all():
            found = self._base[rows]
            return sp.csr_matrix((found.data, found.indices, found.indptr), shape=(len(rows), self.shape[1]))
        pieces = [self._base[rows[inside]].tocoo()]
        places = [np.flatnonzero(inside)[pieces[0].row], *(np.full(len(one[0]), place) for place, one in replaced)]
        columns = [pieces[0].col, *(one[0] for _, one in replaced)]
        values = [pieces[0].data, *(one[1] for _, one in replaced)]
        pairs = np.concatenate(places), np.concatenate(columns)
        return sp.csr_matrix((np.concatenate(values), pairs), shape=(len(rows), self.shape[1]), dtype=np.float32)

    def _row(self, row: int) -> Entries:
        if (entries := self._patches.get(row // _BLOCK, {}).get(row)) is not None:
            return entries
        ends = self._base.indptr
        inside = slice(ends[row], ends[row + 1]) if 0 <= row < self._base.shape[0] else slice(0)
        return self._base.indices[inside], self._base.data[inside]

    def added(self, rows: NDArray[np.int64], values: sp.csr_matrix, shape: tuple[int, int]) -> SparseRows:
        """A version with numbers added to some rows.

        Args:
            rows: (k,), each named once.
            values: (k, m).
            shape: (n, m) of the version, at least that of this one.
        """
        before = self.take(np.where(rows < len(self), rows, -1))
        sums = sp.csr_matrix((before.data, before.indices, before.indptr), shape=values.shape) + values
        return SparseRows(self._base, shape, self._patched(rows, _entries(sums)))

    def replaced(self, rows: NDArray[np.int64], values: sp.csr_matrix) -> SparseRows:
        """A version with other numbers in some rows, each named once; `values` is (k, m)."""
        return SparseRows(self._base, self.shape, self._patched(rows, _entries(values)))


def _entries(matrix: sp.csr_matrix) -> Iterator[Entries]:
    """Each row's columns and values."""
    return ((matrix.indices[start:stop], matrix.data[start:stop]) for start, stop in pairwise(matrix.indptr.tolist()))


class Growing:
    """(n, …) contiguous rows that are only ever added to.

    Versions share one buffer with room at its end: the version that ends where the buffer is filled writes behind
    its own rows, an older one copies first. So n additions cost O(n) in all, and no version sees rows of a later one.
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        self._buffer, self._length = _Buffer(rows), len(rows)

    @property
    def rows(self) -> NDArray[Any]:
        """All rows; read only."""
        return self._buffer.array[: self._length]

    def grown(self, rows: NDArray[Any]) -> Growing:
        """A version with these rows added at the end."""
        other = object.__new__(Growing)
        other._length = self._length + len(rows)
        with self._buffer.lock:
            at_the_end = self._buffer.filled == self._length
            if at_the_end and other._length <= len(self._buffer.array):
                other._buffer, self._buffer.filled = self._buffer, other._length
            else:
                room = np.empty((other._length + other._length // 4 + 64, *self.rows.shape[1:]), self.rows.dtype)
                room[: self._length] = self.rows
                other._buffer = _Buffer(room, other._length)
            other._buffer.array[self._length : other._length] = rows
        return other


class _Buffer:
    def __init__(self, array: NDArray[Any], filled: int | None = None) -> None:
        self.array, self.filled, self.lock = array, len(array) if filled is None else filled, threading.Lock()
