"""The memory layer of the vector cache."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from coldstart_udfs.profile import Vectors


class MemoryLayer:
    """The most recently stored vectors in one matrix of bounded size; the oldest slot is reused."""

    def __init__(self, dimensions: int, limit: int = 128 * 2**20) -> None:
        """Allocate nothing yet; `limit` is in bytes of vectors."""
        self._capacity = max(1, limit // (4 * dimensions))
        self._matrix = np.empty((0, dimensions), dtype=np.float32)
        self._slots: dict[Hashable, int] = {}
        self._keys: list[Hashable] = []
        self._next = 0
        self._lock = threading.Lock()

    def fill(self, keys: Sequence[Hashable], rows: Sequence[int], out: Vectors) -> list[int]:
        """Write the vectors of `rows` that are stored into `out`; returns the rows that are not stored."""
        where = np.asarray(rows, dtype=np.int64)
        with self._lock:
            asked = keys if rows == range(len(keys)) else [keys[row] for row in rows]
            slots = np.array(list(map(self._slots.get, asked, repeat(-1))), dtype=np.int64)
            known = slots >= 0
            if asked is keys and len(keys) == len(out) and known.all():
                np.take(self._matrix, slots, axis=0, out=out, mode="clip")  # "clip" writes without a temporary buffer
                return []
            out[where[known]] = self._matrix[slots[known]]
        unknown: list[int] = where[~known].tolist()
        return unknown

    def put(self, vectors: Mapping[Any, Vectors]) -> None:
        """Store vectors by key, unless there are more of them than slots."""
        if len(vectors) > self._capacity:
            return
        with self._lock:
            for key, vector in vectors.items():
                if key in self._slots:
                    continue
                slot = self._next
                if slot == len(self._keys):
                    self._keys.append(key)
                    if slot == len(self._matrix):
                        more = min(max(1024, 2 * slot), self._capacity) - slot
                        self._matrix = np.vstack([self._matrix, np.empty((more, self._matrix.shape[1]), np.float32)])
                else:
                    del self._slots[self._keys[slot]]
                    self._keys[slot] = key
                self._slots[key] = slot
                self._matrix[slot] = vector
                self._next = (slot + 1) % self._capacity
