"""The Python functions of the recommender's SQL functions: Arrow columns in, an Arrow array out.

A chunk has at most 2,048 rows; the column `bundle` contains a key from `hold`. An unknown id never raises an error,
because one row must not make the others fail.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from coldstart_udfs.arrow_lists import Column
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.profile import has_text
from coldstart_udfs.sql.arrow_functions import PythonFunction, encoder_for
from recommender.data.contract import ITEM_ID, USER_ID
from recommender.data.entities import Entities, describe
from recommender.model.demand import check_level
from recommender.sql.bundles import BLOCK, NOBODY, Served, served

_EXPLANATION = pa.list_(pa.struct([("term", pa.string()), ("kind", pa.string()), ("value", pa.float64())]))

_DEMAND = pa.list_(
    pa.struct([
        ("percentile", pa.float64()), ("buyers", pa.float64()), ("low", pa.int64()), ("high", pa.int64()),
        ("tier", pa.string()),
    ])
)  # fmt: skip


def _score(user: Column, item: Column, bundle: Column) -> pa.Array:
    items = item.to_pylist()
    present = np.array([name is not None for name in items], dtype=bool)
    result = np.zeros(len(items))
    if present.any():
        users = user.to_pylist()
        rows = np.flatnonzero(present)
        result[rows] = served(bundle[0].as_py()).scores([users[row] for row in rows], [items[row] for row in rows])
    return pa.array(result, pa.float64(), mask=~present)


def _explain(user: Column, item: Column, bundle: Column) -> pa.Array:
    pairs = list(zip(user.to_pylist(), item.to_pylist(), strict=True))
    answers: dict[tuple[str | None, str | None], list[dict[str, Any]] | None] = {}
    for name, thing in dict.fromkeys(pairs):
        if name is None or thing is None:
            answers[name, thing] = None
            continue
        one = served(bundle[0].as_py())
        model = one.model
        user, item = _known(model.users, one.users, name), _known(model.items, one.items, thing)
        frame = model.explain(user, item) if one.linked is None else one.linked.explain(user, item)
        rows = zip(frame["term"], frame["kind"], frame["value"], strict=True)
        answers[name, thing] = [{"term": term, "kind": kind, "value": value} for term, kind, value in rows]
    return pa.array([answers[pair] for pair in pairs], _EXPLANATION)


def _recommend(
    user: Column, description: Column, k: Column, bundle: Column, model: Column, backend: Column, cache: Column,
    connection: Column,
) -> pa.Array:
    if not len(user):
        return pa.array([], _ranking(ITEM_ID))
    one = served(bundle[0].as_py())

    def find(users: list[str] | Entities, count: int) -> Iterator[pd.DataFrame]:
        for block in _blocks(users, len(one.items)):
            if one.linked is not None:
                yield one.linked.recommend(block, count)
            else:
                yield one.model.recommend(block, count, unknown="popularity")

    asked = _Side(one, USER_ID, one.model.users, one.users, ITEM_ID)
    return _ranked(asked, find, user, description, k, (model, backend, cache, connection))


def _audience(
    item: Column, description: Column, k: Column, bundle: Column, model: Column, backend: Column, cache: Column,
    connection: Column,
) -> pa.Array:
    if not len(item):
        return pa.array([], _ranking(USER_ID))
    one = served(bundle[0].as_py())

    def find(items: list[str] | Entities, count: int) -> Iterator[pd.DataFrame]:
        for block in _blocks(items, len(one.users)):
            yield one.model.audience(block, count, unknown="popularity")

    asked = _Side(one, ITEM_ID, one.model.items, one.items, USER_ID)
    return _ranked(asked, find, item, description, k, (model, backend, cache, connection))


def _expected_demand(
    item: Column, description: Column, level: Column, bundle: Column, model: Column, backend: Column, cache: Column,
    connection: Column,
) -> pa.Array:
    if not len(item):
        return pa.array([], _DEMAND)
    one = served(bundle[0].as_py())
    side, encoder = _Side(one, ITEM_ID, one.model.items, one.items, ITEM_ID), (model, backend, cache, connection)
    asked, levels = _asked(side, item, description), level.to_pylist()
    answers: dict[tuple[_Asked, float], list[dict[str, Any]]] = {}
    for share in {share for share in levels if share is not None}:
        check_level(share)  # NaN equals no row's level
        wanted = dict.fromkeys(one for one, other in zip(asked, levels, strict=True) if other == share)
        for entities, meant in _questions(side, wanted, encoder):
            frame = one.model.expected_demand(entities, level=share, unknown="popularity")
            columns = _DEMAND.value_type.names
            for name, *values in zip(frame[ITEM_ID], *(frame[column] for column in columns), strict=True):
                answers[meant[name], share] = [dict(zip(columns, values, strict=True))]
    return pa.array([answers.get((one, share), []) for one, share in zip(asked, levels, strict=True)], _DEMAND)


class _Side(NamedTuple):
    """The side that a request names, users or items, and the side that is ranked."""

    served: Served
    name: str
    known: Entities
    rows: dict[str, int]
    found: str


# An id, None if the bundle does not know it, and the description in the request.
_Asked: TypeAlias = tuple[str | None, str | None]


def _ranked(
    side: _Side, find: Callable[[list[str] | Entities, int], Iterator[pd.DataFrame]], name: Column,
    description: Column, k: Column, encoder: Sequence[Column],
) -> pa.Array:  # fmt: skip
    """Return a ranking for each row, computed once for equal rows."""
    asked = _asked(side, name, description)
    counts = k.to_pylist()
    answers: dict[tuple[_Asked, int], list[dict[str, Any]]] = defaultdict(list)
    for count in {count for count in counts if count is not None}:
        if count < 0:
            raise ColdStartError(f"k is {count}; it is the largest number of rows and must be at least 0")
        wanted = [one for one, other in zip(asked, counts, strict=True) if other == count and count]
        for entities, meant in _questions(side, dict.fromkeys(wanted), encoder):
            for frame in find(entities, count):
                if frame.empty:  # and perhaps without columns
                    continue
                columns = [frame[column] for column in (side.name, "rank", side.found, "score", "tier")]
                for one, rank, found, score, tier in zip(*columns, strict=True):
                    row = {"rank": rank, side.found: found, "score": score, "tier": tier}
                    answers[meant[one], count].append(row)
    rows = [answers.get((one, count), []) for one, count in zip(asked, counts, strict=True)]
    return pa.array(rows, _ranking(side.found))


def _asked(side: _Side, name: Column, description: Column) -> list[_Asked]:
    return [
        (one if one in side.rows else None, text if has_text(text) else None)
        for one, text in zip(name.to_pylist(), description.to_pylist(), strict=True)
    ]


def _questions(
    side: _Side, asked: Iterable[_Asked], encoder: Sequence[Column]
) -> Iterator[tuple[list[str] | Entities, dict[str, _Asked]]]:
    """Yield the requests to the model, each with the row values behind its ids."""
    bare: dict[str, _Asked] = {one or NOBODY: (one, text) for one, text in asked if text is None}
    if bare:
        yield list(bare), bare
    # An id occurs once in `Entities`, but a chunk can contain it with several descriptions: the second one goes into a
    # second set. An unknown id is replaced by a unique one.
    sets: list[dict[str, _Asked]] = []
    for number, (one, text) in enumerate(asked):
        if text is not None:
            key = f"{NOBODY}{number}" if one is None else one
            place = next((other for other in sets if key not in other), None)
            if place is None:
                sets.append(place := {})
            place[key] = (one, text)
    for meant in sets:
        # Users of a linked shop have rows after those of the bundle, which has no features of them.
        n = len(side.known)
        inside = [key for key in meant if side.rows.get(key, n) < n]
        for names in (inside, [key for key in meant if side.rows.get(key, n) >= n]):
            if names:
                with encoder_for(*encoder) as reader:
                    _same_encoder(side.served, reader)
                    described = describe(reader, names, [meant[key][1] for key in names])
                if names is inside:
                    rows = np.array([side.rows[key] for key in names], np.int64)
                    described = replace(
                        side.known.take(rows), descriptions=described.descriptions, embeddings=described.embeddings
                    )
                yield described, meant


def _same_encoder(one: Served, encoder: Encoder) -> None:
    if encoder.fingerprint != one.model.fingerprint:
        raise FingerprintError(
            found=encoder.fingerprint, found_in="a description, read with the encoder of this connection,",
            expected=one.model.fingerprint, expected_by=f"the bundle {one.path}",
            remedy="Use the bundle's encoder on the connection: coldstart_udfs.register(con, model=…, backend=…), "
            "or --model and --backend.",
        )  # fmt: skip


def _known(known: Entities, rows: dict[str, int], name: str) -> str | Entities:
    """Return an id that the bundle knows, or an entity without features."""
    if name in rows:
        return name
    nothing = np.zeros((1, known.embeddings.shape[1]), np.float32)
    return Entities([name], [""], [[]], nothing, nothing, np.zeros(1), known.fingerprint)


def _blocks(asked: list[str] | Entities, others: int) -> Iterator[list[str] | Entities]:
    size = max(1, BLOCK // max(1, others))
    for start in range(0, len(asked), size):
        stop = min(start + size, len(asked))
        yield asked[start:stop] if isinstance(asked, list) else asked.take(np.arange(start, stop))


def _ranking(found: str) -> pa.DataType:
    return pa.list_(
        pa.struct([("rank", pa.int64()), (found, pa.string()), ("score", pa.float64()), ("tier", pa.string())])
    )


def _sql_ranking(found: str) -> str:
    return f"STRUCT(rank BIGINT, {found} VARCHAR, score DOUBLE, tier VARCHAR)[]"


PYTHON_FUNCTIONS = (
    PythonFunction(
        "_coldstart_recommend", ("VARCHAR", "VARCHAR", "BIGINT", *("VARCHAR",) * 5), _sql_ranking(ITEM_ID), _recommend
    ),
    PythonFunction(
        "_coldstart_audience", ("VARCHAR", "VARCHAR", "BIGINT", *("VARCHAR",) * 5), _sql_ranking(USER_ID), _audience
    ),
    PythonFunction(
        "_coldstart_expected_demand", ("VARCHAR", "VARCHAR", "DOUBLE", *("VARCHAR",) * 5),
        "STRUCT(percentile DOUBLE, buyers DOUBLE, low BIGINT, high BIGINT, tier VARCHAR)[]", _expected_demand,
    ),
    PythonFunction("_coldstart_score", ("VARCHAR",) * 3, "DOUBLE", _score),
    PythonFunction(
        "_coldstart_explain", ("VARCHAR",) * 3, 'STRUCT(term VARCHAR, kind VARCHAR, "value" DOUBLE)[]', _explain
    ),
)
