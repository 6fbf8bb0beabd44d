"""LIST columns of Arrow as matrices, and matrices as LIST columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors

Column: TypeAlias = pa.ChunkedArray
FLOATS = pa.list_(pa.float32())


def embeddings_to_arrow(vectors: Vectors, present: NDArray[np.bool_]) -> pa.Array:
    """A list column with the rows of `vectors` where `present`, NULL elsewhere."""
    lengths = np.where(present, vectors.shape[1], 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    given = vectors if present.all() else vectors[present]
    values = pa.array(np.ascontiguousarray(given).reshape(-1), pa.float32())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~present))


def scatter(rows: int, parts: list[Vectors], order: list[NDArray[np.int64]]) -> pa.Array:
    """Put groups of equally long vectors back into row order; rows that are in no group are NULL."""
    if len(parts) == 1:
        vectors = np.zeros((rows, parts[0].shape[1]), dtype=np.float32)
        present = np.zeros(rows, dtype=bool)
        vectors[order[0]], present[order[0]] = parts[0], True
        return embeddings_to_arrow(vectors, present)
    result: list[Vectors | None] = [None] * rows
    for vectors, where in zip(parts, order, strict=True):
        for row, vector in zip(where, vectors, strict=True):
            result[row] = vector
    return pa.array(result, FLOATS)


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The concatenation of start .. start + length for each pair."""
    total = int(lengths.sum())
    shift = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths) if total else 0
    return np.arange(total, dtype=np.int64) + shift


def is_constant(column: Column) -> bool:
    """Whether all rows have the same list or text, as with a literal argument; checked without Python objects."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if not len(array) or array.null_count == len(array):
        return True
    if not pa.types.is_list(array.type):
        return len(array.unique()) == 1
    offsets = array.offsets.to_numpy()
    length = offsets[1] - offsets[0]
    if array.null_count or (np.diff(offsets) != length).any():
        return False
    values = array.values.slice(offsets[0], offsets[-1] - offsets[0])
    return bool(values.slice(length).equals(values.slice(0, len(values) - length)))


class Lists:
    """A LIST column as flat values, with the start and length of each row."""

    def __init__(self, column: Column) -> None:
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if isinstance(array, pa.ChunkedArray):  # combine_chunks() of an empty column
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        self.present: NDArray[np.bool_] = ~array.is_null().to_numpy(zero_copy_only=False)
        offsets = array.offsets.to_numpy().astype(np.int64)
        self.starts = offsets[:-1]
        self.lengths: NDArray[np.int64] = np.where(self.present, np.diff(offsets), 0)
        self.values: pa.Array = array.values

    def take(self, rows: NDArray[np.int64]) -> Vectors:
        """(len(rows), width) the vectors of rows of equal length."""
        vectors: Vectors
        width = int(self.lengths[rows[0]]) if len(rows) else 0
        flat = self._numbers()
        starts = self.starts[rows]
        if len(rows) and (np.diff(starts) == width).all():
            vectors = flat[starts[0] : starts[0] + width * len(rows)].reshape(len(rows), width)
        else:
            vectors = flat[starts[:, None] + np.arange(width)]
        return vectors

    def by_width(self, usable: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
        """The usable rows and their vectors, grouped by length."""
        for width in np.unique(self.lengths[usable]):
            rows = np.flatnonzero(usable & (self.lengths == width))
            yield rows, self.take(rows)

    def _numbers(self) -> NDArray[Any]:
        if self.values.null_count:
            raise ColdStartError("a vector holds a NULL among its numbers; filter such rows out")
        return np.asarray(self.values.to_numpy(zero_copy_only=False), dtype=np.float32)
