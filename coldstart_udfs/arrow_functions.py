"""The catalogue of SQL functions: what each is called, takes, gives and means, and the code behind it.

A function has two halves. A Python function over Arrow arrays, private and without defaults, belongs to
the database instance. A TEMP macro of the public name gives it named and default arguments, casts, and
carries the settings of the connection. `connection.register` makes both from this table, and nothing
else knows a function's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart_udfs.encoder import Encoder, shared_encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors, enrich, evidence_weight, has_text, similarity, sum_profiles

Column: TypeAlias = pa.ChunkedArray
_FLOATS = pa.list_(pa.float32())


@dataclass(frozen=True)
class PythonFunction:
    """The private half: a vectorised Python function.

    Attributes:
        name: as registered; not for users.
        parameters: SQL types.
        returns: SQL type.
        call: takes one `pa.ChunkedArray` per parameter, gives one `pa.Array` of the same length.
    """

    name: str
    parameters: tuple[str, ...]
    returns: str
    call: Callable[..., pa.Array]


@dataclass(frozen=True)
class SqlFunction:
    """The public half: a macro.

    Attributes:
        name: what users write.
        parameters: as in CREATE MACRO, defaults included.
        body: SQL; `{model}`, `{backend}`, `{cache}`, `{alpha}`, `{beta}` and `{scale}` stand for what the
            connection was given.
        returns: SQL type.
        description: for people, also the macro's comment in the database.
        example: a statement that runs.
    """

    name: str
    parameters: tuple[str, ...]
    body: str
    returns: str
    description: str
    example: str


def _embed(text: Column, model: Column, backend: Column, cache: Column) -> pa.Array:
    vectors, present = _embeddings(text, model, backend, cache)
    return embeddings_to_arrow(vectors, present)


def _try_embed(text: Column, model: Column, backend: Column, cache: Column) -> pa.Array:
    errors: list[str | None] = [None] * len(text)
    try:
        embedding = _embed(text, model, backend, cache)
    except Exception:  # whatever the encoder raises: the rows are tried one by one
        single = []
        for row in range(len(text)):
            try:
                single.append(_embed(*(column.slice(row, 1) for column in (text, model, backend, cache))))
            except Exception as error:
                single.append(pa.nulls(1, _FLOATS))
                errors[row] = f"{type(error).__name__}: {error}"
        embedding = pa.concat_arrays(single)
    return pa.StructArray.from_arrays([embedding, pa.array(errors, pa.string())], ["embedding", "error"])


def _similarity(a: Column, b: Column) -> pa.Array:
    left, right = _Lists(a), _Lists(b)
    usable = left.present & right.present
    different = np.flatnonzero(usable & (left.lengths != right.lengths))
    if len(different):
        row = different[0]
        raise ColdStartError(
            f"similarity() of vectors of {left.lengths[row]} and {right.lengths[row]} numbers; "
            "they must come from the same encoder"
        )
    result = np.full(len(a), np.nan)
    for rows, vectors in left.by_width(usable):
        result[rows] = similarity(vectors, right.take(rows))
    return pa.array(result, mask=~np.isfinite(result))


def _profile(vectors: Column, weights: Column) -> pa.Array:
    groups, factors = _Lists(vectors), _Lists(weights)
    members = _Lists(pa.chunked_array([groups.values]))
    factor = np.ones(len(groups.values), dtype=np.float32)
    usable = members.present
    given = np.flatnonzero(groups.present & factors.present)
    wrong = given[groups.lengths[given] != factors.lengths[given]]
    if len(wrong):
        raise ColdStartError(
            f"profile() of {groups.lengths[wrong[0]]} vectors and {factors.lengths[wrong[0]]} weights; "
            "give one weight for each vector"
        )
    if len(given):
        known = ~factors.values.is_null().to_numpy(zero_copy_only=False)
        values = factors.values.fill_null(0).to_numpy(zero_copy_only=False)
        target = _ranges(groups.starts[given], groups.lengths[given])
        origin = _ranges(factors.starts[given], factors.lengths[given])
        factor[target] = values[origin]
        usable[target] &= known[origin]
    # Members of each group that count, then the width that they share.
    member_rows = _ranges(groups.starts, np.where(groups.present, groups.lengths, 0))
    owner = np.repeat(np.arange(len(vectors)), np.where(groups.present, groups.lengths, 0))
    keep = usable[member_rows]
    member_rows, owner = member_rows[keep], owner[keep]
    counts = np.bincount(owner, minlength=len(vectors))
    present = counts > 0
    widths = np.zeros(len(vectors), dtype=np.int64)
    widths[owner] = members.lengths[member_rows]
    mixed = np.flatnonzero(members.lengths[member_rows] != widths[owner])
    if len(mixed):
        raise ColdStartError(
            f"profile() of vectors of {members.lengths[member_rows[mixed[0]]]} and {widths[owner[mixed[0]]]} "
            "numbers in one list; they must come from the same encoder"
        )
    parts: list[Vectors] = []
    order: list[NDArray[np.int64]] = []
    for width in np.unique(widths[present]):
        rows = np.flatnonzero(present & (widths == width))
        chosen = member_rows[widths[owner] == width]
        offsets = np.concatenate([[0], np.cumsum(counts[rows])])
        parts.append(sum_profiles(members.take(chosen), factor[chosen], offsets))
        order.append(rows)
    return _scatter(len(vectors), parts, order)


def _weight(n: Column, weight: Column, scale: Column) -> pa.Array:
    if not len(n):
        return pa.array([], pa.float64())
    evidence = n.fill_null(0).to_numpy()
    # The macro gives both settings as literals: one value for every row.
    return pa.array(evidence_weight(evidence, weight[0].as_py(), scale[0].as_py()))


def _enrich(
    profile: Column, text: Column, weight: Column, model: Column, backend: Column, cache: Column
) -> pa.Array:
    embeddings, _ = _embeddings(text, model, backend, cache)
    stored = _Lists(profile)
    profiles = np.zeros_like(embeddings)
    for rows, vectors in stored.by_width(stored.present):
        if vectors.shape[1] != embeddings.shape[1]:
            raise ColdStartError(
                f"enrich(): the profile is {vectors.shape[1]} wide, the encoder's embeddings "
                f"{embeddings.shape[1]}; use the encoder that the profile was made with (model := …)"
            )
        profiles[rows] = vectors
    weights = weight.fill_null(0).to_numpy()
    return embeddings_to_arrow(enrich(profiles, embeddings, weights), np.ones(len(text), dtype=bool))


PYTHON_FUNCTIONS = (
    PythonFunction("_coldstart_embed", ("VARCHAR",) * 4, "FLOAT[]", _embed),
    PythonFunction(
        "_coldstart_try_embed", ("VARCHAR",) * 4, "STRUCT(embedding FLOAT[], error VARCHAR)", _try_embed
    ),
    PythonFunction("_coldstart_similarity", ("FLOAT[]", "FLOAT[]"), "DOUBLE", _similarity),
    PythonFunction("_coldstart_profile", ("FLOAT[][]", "FLOAT[]"), "FLOAT[]", _profile),
    PythonFunction("_coldstart_weight", ("DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE", _weight),
    PythonFunction(
        "_coldstart_enrich", ("FLOAT[]", "VARCHAR", "DOUBLE", *("VARCHAR",) * 3), "FLOAT[]", _enrich
    ),
)  # fmt: skip

_ENCODER = "coalesce(CAST(model AS VARCHAR), {model}), {backend}, {cache}"

FUNCTIONS = (
    SqlFunction(
        "embed", ("text", "model := NULL"),
        f"_coldstart_embed(CAST(text AS VARCHAR), {_ENCODER})",
        "FLOAT[]",
        "The unit-length embedding of a text. NULL or blank text gives NULL.",
        "SELECT embed('a red lamp')",
    ),
    SqlFunction(
        "try_embed", ("text", "model := NULL"),
        f"_coldstart_try_embed(CAST(text AS VARCHAR), {_ENCODER})",
        "STRUCT(embedding FLOAT[], error VARCHAR)",
        "As embed(), but a row that fails gives its error as text and costs no other row.",
        "SELECT (try_embed('a red lamp')).error",
    ),
    SqlFunction(
        "similarity", ("a", "b"),
        "_coldstart_similarity(CAST(a AS FLOAT[]), CAST(b AS FLOAT[]))",
        "DOUBLE",
        "Cosine of two vectors. NULL for NULL or a zero vector; vectors of different length are an error.",
        "SELECT similarity(embed('a red lamp'), embed('a crimson light'))",
    ),
    SqlFunction(
        "profile", ("vectors", "weights := NULL"),
        "_coldstart_profile(CAST(vectors AS FLOAT[][]), CAST(weights AS FLOAT[]))",
        "FLOAT[]",
        "The sum of weight × vector. NULL vectors and weights are skipped; nothing left gives NULL.",
        "SELECT profile([[1, 0], [0, 1]], [2, 3])",
    ),
    SqlFunction(
        "alpha", ("n",),
        "_coldstart_weight(CAST(n AS DOUBLE), {alpha}, {scale})",
        "DOUBLE",
        "What a user's description weighs beside n interactions, from enrichment.json. NULL counts as 0.",
        "SELECT alpha(3)",
    ),
    SqlFunction(
        "beta", ("n",),
        "_coldstart_weight(CAST(n AS DOUBLE), {beta}, {scale})",
        "DOUBLE",
        "What an item's description weighs beside n interactions, from enrichment.json. NULL counts as 0.",
        "SELECT beta(3)",
    ),
    SqlFunction(
        "enrich", ("profile", "text", "n := 0", "alpha := NULL", "model := NULL"),
        "_coldstart_enrich(CAST(profile AS FLOAT[]), CAST(text AS VARCHAR), "
        "coalesce(CAST(alpha AS DOUBLE), _coldstart_weight(CAST(n AS DOUBLE), {alpha}, {scale})), " + _ENCODER + ")",
        "FLOAT[]",
        "The enriched profile P' = P + alpha·M(text), alpha being alpha(n) unless given (items: alpha := beta(n)). "
        "A NULL profile is zero, NULL or blank text adds nothing; never NULL.",
        "SELECT enrich(NULL, 'a red lamp', alpha := 2)",
    ),
)  # fmt: skip


def _embeddings(
    text: Column, model: Column, backend: Column, cache: Column
) -> tuple[Vectors, NDArray[np.bool_]]:
    """One vector a row, zero where there is no text, and where there is one."""
    texts = text.to_pylist()
    present = np.fromiter(map(has_text, texts), dtype=bool, count=len(texts))
    named = zip(model.to_pylist(), backend.to_pylist(), cache.to_pylist(), strict=True)
    encoders = list(dict.fromkeys(named))
    if not encoders:
        return np.zeros((0, 0), np.float32), present
    if len(encoders) > 1:
        raise ColdStartError(
            f"one call uses the models {sorted(str(name) for name, _, _ in encoders)}; their vectors cannot be mixed: "
            "query them one at a time"
        )
    encoder = encoder_for(*encoders[0])
    vectors = np.zeros((len(texts), encoder.dimensions), dtype=np.float32)
    if present.any():
        vectors[present] = encoder.encode([texts[row] for row in np.flatnonzero(present)])
    return vectors, present


def encoder_for(model: str, backend: str, cache: str) -> Encoder:
    """The encoder that a macro's literals stand for: '' is the default, '1' and '0' the machine's cache or none."""
    return shared_encoder(model or None, {"1": True, "0": False}.get(cache, cache), backend or None)


def embeddings_to_arrow(vectors: Vectors, present: NDArray[np.bool_]) -> pa.Array:
    """A list column with the rows of `vectors` where `present`, NULL elsewhere."""
    lengths = np.where(present, vectors.shape[1], 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = pa.array(np.ascontiguousarray(vectors[present]).reshape(-1), pa.float32())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~present))


def _scatter(rows: int, parts: list[Vectors], order: list[NDArray[np.int64]]) -> pa.Array:
    """Put groups of equally long vectors back into row order; rows that none covers are NULL."""
    if len(parts) == 1:
        vectors = np.zeros((rows, parts[0].shape[1]), dtype=np.float32)
        present = np.zeros(rows, dtype=bool)
        vectors[order[0]], present[order[0]] = parts[0], True
        return embeddings_to_arrow(vectors, present)
    result: list[Vectors | None] = [None] * rows
    for vectors, where in zip(parts, order, strict=True):
        for row, vector in zip(where, vectors, strict=True):
            result[row] = vector
    return pa.array(result, _FLOATS)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The concatenation of start .. start + length for each pair."""
    total = int(lengths.sum())
    shift = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths) if total else 0
    return np.arange(total, dtype=np.int64) + shift


class _Lists:
    """A LIST column as flat values, and where each row's part of them lies."""

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
        """The vectors of rows that are equally long: (len(rows), width)."""
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
        """The usable rows and their vectors, equally long ones together."""
        for width in np.unique(self.lengths[usable]):
            rows = np.flatnonzero(usable & (self.lengths == width))
            yield rows, self.take(rows)

    def _numbers(self) -> NDArray[Any]:
        if self.values.null_count:
            raise ColdStartError("a vector holds a NULL among its numbers; filter such rows out")
        return np.asarray(self.values.to_numpy(zero_copy_only=False), dtype=np.float32)
