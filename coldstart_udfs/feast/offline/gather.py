"""Reorder rows batch by batch, as they arrive, so that they are in memory only once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Places = NDArray[np.int64]

# Number of rows copied at once; 8,192 vectors of 384 floats are 13 MB.
_AT_ONCE = 8_192


def gather(wanted: pa.ChunkedArray, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> list[pa.Array]:
    """The row of the batches for each wanted id.

    Args:
        wanted: BIGINT ids, NULL for an empty row; ids may repeat.
        batches: rows with their id in the first column; every wanted id occurs once.
        schema: schema of the batches.

    Returns:
        The other columns, as long as `wanted`.
    """
    ids = wanted.fill_null(-1).to_numpy()
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    columns = [_column(kind, len(ids)) for kind in schema.types[1:]]
    for batch in batches:
        found = batch.column(0).to_numpy(zero_copy_only=False)
        first, last = np.searchsorted(ordered, found, "left"), np.searchsorted(ordered, found, "right")
        count = last - first
        source = np.repeat(np.arange(len(found)), count)
        # The start of each row's positions in `order`, and the offset from it.
        begin = np.repeat(first - np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64), count)
        target = order[begin + np.arange(len(source))]
        for column, values in zip(columns, batch.columns[1:], strict=True):
            column.add(values, source, target)
    return [column.finish() for column in columns]


def _column(kind: pa.DataType, length: int) -> _Any | _Vectors:
    vectors = pa.types.is_list(kind) and (pa.types.is_float32(kind.value_type) or pa.types.is_float64(kind.value_type))
    return _Vectors(kind, length) if vectors else _Any(kind, length)


class _Any:
    """Values of any type, reordered at the end."""

    def __init__(self, kind: pa.DataType, length: int) -> None:
        self._kind, self._length = kind, length
        self._parts: list[pa.Array] = []
        self._targets: list[Places] = []

    def add(self, values: pa.Array, source: Places, target: Places) -> None:
        self._parts.append(values.take(pa.array(source)))
        self._targets.append(target)

    def finish(self) -> pa.Array:
        if not self._parts:
            return pa.nulls(self._length, self._kind)
        targets = np.concatenate(self._targets)
        places = np.full(self._length, -1, dtype=np.int64)
        places[targets] = np.arange(len(targets))
        return pa.concat_arrays(self._parts).take(pa.array(places, mask=places < 0))


class _Vectors:
    """Vectors as rows of a matrix while all have the same length; otherwise they are handled as any values."""

    def __init__(self, kind: pa.DataType, length: int) -> None:
        self._kind, self._length = kind, length
        self._known = np.zeros(length, dtype=bool)
        self._matrix: NDArray[np.floating] | None = None
        self._rest: _Any | None = None

    def add(self, values: pa.Array, source: Places, target: Places) -> None:
        valid = values.is_valid().to_numpy(zero_copy_only=False)
        flat = values.flatten()
        widths = np.diff(values.offsets)[valid]
        width = int(widths[0]) if len(widths) else 0
        if self._rest is None and len(widths) == 0:
            return  # all NULL, as the matrix's rows are by default
        expected = width if self._matrix is None else self._matrix.shape[1]
        if self._rest is not None or not width or flat.null_count or (widths != expected).any():
            self._give_up().add(values, source, target)
            return
        rows = flat.to_numpy().reshape(-1, width)
        if self._matrix is None:
            self._matrix = np.empty((self._length, width), dtype=rows.dtype)
        if not valid.all():
            kept = valid[source]
            source, target = (np.cumsum(valid) - 1)[source[kept]], target[kept]
        for start in range(0, len(target), _AT_ONCE):  # one row may be wanted at every position
            part = slice(start, start + _AT_ONCE)
            self._matrix[target[part]] = rows[source[part]]
        self._known[target] = True

    def _give_up(self) -> _Any:
        if self._rest is None:
            self._rest = _Any(self._kind, self._length)
            if self._matrix is not None:
                target = np.flatnonzero(self._known)
                self._rest.add(self._listed(), target, target)
                self._matrix = None
        return self._rest

    def _listed(self) -> pa.Array:
        assert self._matrix is not None  # noqa: S101 - for the type checker # nosec B101
        missing = ~self._known
        self._matrix[missing] = 0
        offsets = np.arange(self._length + 1, dtype=np.int64) * self._matrix.shape[1]
        return pa.ListArray.from_arrays(
            pa.array(offsets, type=pa.int32()), pa.array(self._matrix.reshape(-1)), type=self._kind,
            mask=pa.array(missing) if missing.any() else None,
        )  # fmt: skip

    def finish(self) -> pa.Array:
        if self._rest is not None:
            return self._rest.finish()
        return pa.nulls(self._length, self._kind) if self._matrix is None else self._listed()
