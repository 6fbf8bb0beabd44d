"""Arrays of rows that are updated without being copied: a new version shares what it did not change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Rows = TypeVar("Rows", NDArray[Any], sp.csr_matrix)

# Rows that are copied together: 128 vectors of 384 float32 are 200 kB.
_BLOCK = 128


class _Patched(Generic[Rows]):
    """An array of rows, and the blocks of it that later versions replaced.

    An update copies the blocks that it touches, and the table of replaced blocks, which has one entry per block.
    """

    def __init__(self, base: Rows, patches: dict[int, Rows] | None = None, length: int | None = None) -> None:
        self._base: Rows = base
        self._patches: dict[int, Rows] = patches or {}
        self._length = int(base.shape[0]) if length is None else length

    def __len__(self) -> int:
        return self._length

    @cached_property
    def whole(self) -> Rows:
        """All rows in one array; read only."""
        return self._base if not self._patches else self.take(np.arange(len(self)))

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """These rows, in this order, copied."""
        if not self._patches:
            return self._picked(self._base, rows)
        pieces, places = list[Rows](), list[NDArray[np.int64]]()
        for block, here in _by_block(rows):
            if block in self._patches:
                pieces.append(self._picked(self._patches[block], rows[here] - block * _BLOCK))
                places.append(here)
        patched = np.concatenate(places) if places else np.zeros(0, np.int64)
        rest = np.setdiff1d(np.arange(len(rows)), patched, assume_unique=True)
        if len(rest) or not pieces:
            pieces.append(self._fitted(self._picked(self._base, rows[rest])))
            places.append(rest)
        return self._picked(self._stacked(pieces), np.argsort(np.concatenate(places)))

    def _block(self, number: int) -> Rows:
        """One block; of a last block that is not full, what there is."""
        if number in self._patches:
            return self._patches[number]
        rows = np.arange(number * _BLOCK, min((number + 1) * _BLOCK, self._base.shape[0]))
        return self._fitted(self._picked(self._base, rows))

    def _fitted(self, piece: Rows) -> Rows:
        return piece

    @staticmethod
    def _picked(piece: Rows, rows: NDArray[np.int64]) -> Rows:
        found: Rows = piece[rows]
        return found

    @staticmethod
    def _stacked(pieces: list[Rows]) -> Rows:
        raise NotImplementedError


class DenseRows(_Patched[NDArray[Any]]):
    """(n, …) numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, …)."""
        return len(self), *self._base.shape[1:]

    def replaced(self, rows: NDArray[np.int64], values: NDArray[Any]) -> DenseRows:
        """A version with other values in some rows, each named once."""
        patches = dict(self._patches)
        for block, here in _by_block(rows):
            patches[block] = self._block(block).copy()
            patches[block][rows[here] - block * _BLOCK] = values[here]
        return DenseRows(self._base, patches, len(self))

    def extended(self, values: NDArray[Any]) -> DenseRows:
        """A version with these rows added at the end."""
        patches, start, stop = dict(self._patches), len(self), len(self) + len(values)
        for block, here in _by_block(np.arange(start, stop)):
            patches[block] = np.concatenate([self._block(block), values[here]])
        return DenseRows(self._base, patches, stop)

    @staticmethod
    def _stacked(pieces: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(pieces)


class SparseRows(_Patched[sp.csr_matrix]):
    """(n, m) numbers, most of them zero.

    Args:
        base: (n, m) at the beginning.
        patches: blocks that replace those of `base`.
        length: n now.
        width: m now.
    """

    def __init__(
        self, base: sp.csr_matrix, patches: dict[int, sp.csr_matrix] | None = None, length: int | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__(base, patches, length)
        self._width = int(base.shape[1]) if width is None else width

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self), self._width

    @cached_property
    def whole(self) -> sp.csr_matrix:
        """All rows in one matrix; read only."""
        return self._fitted(self._base) if not self._patches else self.take(np.arange(len(self)))

    def take(self, rows: NDArray[np.int64]) -> sp.csr_matrix:
        """These rows, in this order; -1 gives an empty row."""
        if (rows >= 0).all():
            return self._fitted(super().take(rows))
        known = np.flatnonzero(rows >= 0)
        shape = len(rows), len(known)
        place = sp.csr_matrix((np.ones(len(known), np.float32), (known, np.arange(len(known)))), shape)
        return sp.csr_matrix(place @ self.take(rows[known]))

    def added(self, rows: NDArray[np.int64], values: sp.csr_matrix, length: int, width: int) -> SparseRows:
        """A version of another shape with numbers added to some rows.

        Args:
            rows: (k,), each named once.
            values: (k, width).
            length: n of the version.
            width: m of the version.
        """
        other = SparseRows(self._base, dict(self._patches), length, width)
        for block, here in _by_block(rows):
            size = min(_BLOCK, length - block * _BLOCK)
            place = (rows[here] - block * _BLOCK, np.arange(len(here)))
            lifted = sp.csr_matrix((np.ones(len(here), np.float32), place), (size, len(here))) @ values[here]
            before = self._fitted(self._block(block), (size, width))
            other._patches[block] = sp.csr_matrix(before + lifted)
        if length > len(self) and len(self) % _BLOCK:  # the block that was last is longer now
            last = len(self) // _BLOCK
            size = min(_BLOCK, length - last * _BLOCK)
            other._patches[last] = self._fitted(other._block(last), (size, width))
        for block in range(-(-len(self) // _BLOCK), -(-length // _BLOCK)):
            if block not in other._patches:
                size = min(_BLOCK, length - block * _BLOCK)
                other._patches[block] = sp.csr_matrix((size, width), dtype=np.float32)
        return other

    def _fitted(self, piece: sp.csr_matrix, shape: tuple[int, int] | None = None) -> sp.csr_matrix:
        """The same numbers in a matrix that is as wide as this version, or of a larger shape; nothing is copied."""
        shape = shape or (piece.shape[0], self._width)
        if piece.shape == shape:
            return piece
        ends = np.full(shape[0] - piece.shape[0], piece.indptr[-1], piece.indptr.dtype)
        return sp.csr_matrix((piece.data, piece.indices, np.concatenate([piece.indptr, ends])), shape=shape)

    @staticmethod
    def _stacked(pieces: list[sp.csr_matrix]) -> sp.csr_matrix:
        width = max(piece.shape[1] for piece in pieces)
        for piece in pieces:
            piece.resize(piece.shape[0], width)
        return sp.vstack(pieces, format="csr")


class Growing:
    """(n, …) contiguous rows that are only ever added to.

    Versions share one buffer with room at its end: the version that ends where the buffer is filled writes behind
    its own rows, an older one copies first. So n additions cost O(n) in all, and nobody sees a row that came later.
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


def _by_block(rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The number of each block that rows lie in, and the places in `rows` of those that do."""
    numbers = rows // _BLOCK
    order = np.argsort(numbers, kind="stable")
    unique, starts = np.unique(numbers[order], return_index=True)
    return zip(unique.tolist(), np.split(order, starts[1:]), strict=False)  # split gives an empty piece of no rows
