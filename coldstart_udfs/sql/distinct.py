"""Functions of texts applied to Arrow columns: each distinct text is computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from coldstart_udfs.arrow_lists import Column, is_constant


def distinct(text: Column, apply: Callable[[list[str]], list[Any]], kind: pa.DataType) -> pa.Array:
    """Apply a function to each distinct text and return the results by row; NULL stays NULL."""
    if not len(text):
        return pa.array([], kind)
    encoded = text.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    results = pa.array(apply(encoded.dictionary.to_pylist()), kind)
    # take() of an index that is NULL gives NULL.
    return results.take(encoded.indices)


def by_setting(
    text: Column, settings: tuple[Column, ...], apply: Callable[..., list[Any]], kind: pa.DataType
) -> pa.Array:
    """As `distinct`, with further arguments: lists or texts, in most calls the same for all rows."""
    if all(map(is_constant, settings)):
        constant = [one[0].as_py() if len(one) else None for one in settings]
        return distinct(text, lambda texts: apply(texts, *constant), kind)
    # One tuple for equal lists, or a long list of brands would be in memory once for each row.
    seen: dict[Any, Any] = {}
    same: list[list[Any]] = []
    for column in settings:
        keys = (tuple(value) if isinstance(value, list) else value for value in (each.as_py() for each in column))
        same.append([seen.setdefault(key, key) for key in keys])
    given = list(zip(*same, strict=True))
    rows_of: dict[Any, list[int]] = {}
    for row, key in enumerate(given):
        rows_of.setdefault(key, []).append(row)
    result: list[Any] = [None] * len(text)
    for key, rows in rows_of.items():
        found = distinct(text.take(pa.array(rows)), lambda texts, key=key: apply(texts, *key), kind)  # type: ignore[misc]
        for row, one in zip(rows, found.to_pylist(), strict=True):
            result[row] = one
    return pa.array(result, kind)
