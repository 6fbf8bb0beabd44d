"""The Python halves of the SQL functions: Arrow columns in, an Arrow array out, with NULLs handled here.

DuckDB calls a function with 2,048 rows at a time, equal ones included; each distinct text is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart_udfs.arrow_lists import FLOATS, Column, Lists, embeddings_to_arrow, ranges, scatter
from coldstart_udfs.encoder.cache.store import default_path
from coldstart_udfs.encoder.cache.upkeep import stats
from coldstart_udfs.encoder.encoder import Encoder, shared_encoder, shared_encoders
from coldstart_udfs.encoder.model_files import Prompt
from coldstart_udfs.encoder.progress import reporting_to
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors, enrich, evidence_weight, finite_rows, has_text, similarity, sum_profiles
from coldstart_udfs.sql.distinct import by_setting, distinct
from coldstart_udfs.sql.registration import GIVEN, Registration, find_registration
from coldstart_udfs.text.cleaning import clean_text
from coldstart_udfs.text.conversation import CHARACTERS, CUSTOMER, conversation, turns_of
from coldstart_udfs.text.entities import entities
from coldstart_udfs.text.redaction import redact
from coldstart_udfs.text.tags import Tagger
from coldstart_udfs.text.words import tokens


@dataclass(frozen=True)
class PythonFunction:
    """The private half of a SQL function: a vectorised Python function.

    Attributes:
        name: the private name in SQL.
        parameters: SQL types.
        returns: SQL type.
        call: takes one `pa.ChunkedArray` per parameter and returns a `pa.Array` of the same length.
        deterministic: whether equal arguments give equal results, so that DuckDB may fold a call with literals.
    """

    name: str
    parameters: tuple[str, ...]
    returns: str
    call: Callable[..., pa.Array]
    deterministic: bool = True


def _embed(text: Column, model: Column, backend: Column, cache: Column, connection: Column) -> pa.Array:
    vectors, present = _embeddings(text, model, backend, cache, connection)
    return embeddings_to_arrow(vectors, present)


def _embed_query(text: Column, model: Column, backend: Column, cache: Column, connection: Column) -> pa.Array:
    vectors, present = _embeddings(text, model, backend, cache, connection, prompt="query")
    return embeddings_to_arrow(vectors, present)


def _try_embed(text: Column, model: Column, backend: Column, cache: Column, connection: Column) -> pa.Array:
    errors: list[str | None] = [None] * len(text)
    try:
        embedding = _embed(text, model, backend, cache, connection)
    except Exception:  # any error of the encoder: try the rows one by one
        single = []
        for row in range(len(text)):
            try:
                single.append(_embed(*(column.slice(row, 1) for column in (text, model, backend, cache, connection))))
            except Exception as error:
                single.append(pa.nulls(1, FLOATS))
                errors[row] = f"{type(error).__name__}: {error}"
        embedding = pa.concat_arrays(single)
    return pa.StructArray.from_arrays([embedding, pa.array(errors, pa.string())], ["embedding", "error"])


def _similarity(a: Column, b: Column) -> pa.Array:
    left, right = Lists(a), Lists(b)
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
    groups, factors = Lists(vectors), Lists(weights)
    members = Lists(pa.chunked_array([groups.values]))
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
        target = ranges(groups.starts[given], groups.lengths[given])
        origin = ranges(factors.starts[given], factors.lengths[given])
        factor[target] = values[origin]
        usable[target] &= known[origin]
    # The members of each group that count, then their common width.
    member_rows = ranges(groups.starts, np.where(groups.present, groups.lengths, 0))
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
        taken = members.take(chosen)
        _check_finite(taken, "vectors given to profile()")
        _check_finite(factor[chosen, None], "weights given to profile()", "replace them by NULL")
        with np.errstate(over="ignore"):
            sums = sum_profiles(taken, factor[chosen], offsets)
        _check_finite(sums, "sums of profile()", "they exceed FLOAT: scale the weights down")
        parts.append(sums)
        order.append(rows)
    return scatter(len(vectors), parts, order)


def _check_finite(
    values: Vectors, what: str, remedy: str = "replace them by NULL, or filter them out: WHERE isfinite(list_sum(v))"
) -> None:
    bad = len(values) - np.count_nonzero(finite_rows(values))
    if bad:
        raise ColdStartError(f"{bad:,} of {len(values):,} {what} of one chunk hold NaN or infinity; {remedy}")


def _weight(n: Column, weight: Column, scale: Column) -> pa.Array:
    if not len(n):
        return pa.array([], pa.float64())
    evidence = n.fill_null(0).to_numpy()
    # Both settings are literals in the macro: one value for all rows.
    return pa.array(evidence_weight(evidence, weight[0].as_py(), scale[0].as_py()))


def _enrich(
    profile: Column, text: Column, weight: Column, model: Column, backend: Column, cache: Column, connection: Column,
) -> pa.Array:
    embeddings, _ = _embeddings(text, model, backend, cache, connection)
    stored = Lists(profile)
    profiles = np.zeros_like(embeddings)
    for rows, vectors in stored.by_width(stored.present):
        if vectors.shape[1] != embeddings.shape[1]:
            raise ColdStartError(
                f"enrich(): the profile is {vectors.shape[1]} wide, the encoder's embeddings "
                f"{embeddings.shape[1]}; use the encoder that the profile was made with (model := …)"
            )
        _check_finite(vectors, "profiles given to enrich()")
        profiles[rows] = vectors
    weights = weight.fill_null(0).to_numpy()
    return embeddings_to_arrow(enrich(profiles, embeddings, weights), np.ones(len(text), dtype=bool))


def _embed_info(model: Column, backend: Column, cache: Column, connection: Column) -> pa.Array:
    fields = pa.struct([("model", pa.string()), ("fingerprint", pa.string()), ("backend", pa.string()),
                        ("dimensions", pa.int32()), ("token_limit", pa.int32()), ("device", pa.string())])  # fmt: skip
    if not len(model):
        return pa.array([], fields)
    with encoder_for(model, backend, cache, connection) as encoder:
        info = {
            "model": encoder.name, "fingerprint": encoder.fingerprint, "backend": encoder.backend,
            "dimensions": encoder.dimensions, "token_limit": encoder.max_tokens, "device": encoder.device,
        }  # fmt: skip
    return pa.array([info] * len(model), fields)


def _embed_truncated(text: Column, model: Column, backend: Column, cache: Column, connection: Column) -> pa.Array:
    def cut(texts: list[str]) -> list[bool]:
        with encoder_for(model, backend, cache, connection) as encoder:
            return encoder.truncated(texts).tolist()  # type: ignore[no-any-return]

    return distinct(text, cut, pa.bool_())


def _embed_cache_stats(cache: Column, connection: Column) -> pa.Array:
    fields = pa.struct([(name, pa.int64()) for name in ("hits", "misses", "encoded", "entries", "bytes")])
    if not len(cache):
        return pa.array([], fields)
    registration = find_registration(connection[0].as_py())
    given = [registration.encoder] if registration and registration.encoder else []
    done = [encoder.stats for encoder in {*shared_encoders(), *given}]
    path = {"1": default_path(), "0": None}.get(cache[0].as_py(), cache[0].as_py())
    held = stats(Path(path)) if path else None
    found = {
        **{name: sum(getattr(one, name) for one in done) for name in ("hits", "misses", "encoded")},
        "entries": sum(held.vectors.values()) if held else 0, "bytes": held.bytes if held else 0,
    }  # fmt: skip
    return pa.array([found] * len(cache), fields)


def _clean_text(text: Column) -> pa.Array:
    # NULL where nothing is left: an empty string is no text.
    return distinct(text, lambda texts: [clean_text(one) or None for one in texts], pa.string())


def _redact(text: Column) -> pa.Array:
    return distinct(text, lambda texts: list(map(redact, texts)), pa.string())


def _conversation(turns: Column, roles: Column, characters: Column) -> pa.Array:
    def said(documents: list[str], own: list[str | None] | None, most: int | None) -> list[str | None]:
        wanted = CUSTOMER if own is None else [role for role in own if role is not None]
        most = CHARACTERS if most is None else most
        try:
            return [conversation(turns_of(one), roles=wanted, characters=most) for one in documents]
        except ColdStartError as error:
            raise ColdStartError(f"conversation(): {error}") from None

    return by_setting(turns, (roles, characters), said, pa.string())


def _tokens(text: Column, language: Column) -> pa.Array:
    def words(texts: list[str], code: str | None) -> list[list[str]]:
        return [tokens(one, code) for one in texts]

    return by_setting(text, (language,), words, pa.list_(pa.string()))


def _entities(text: Column, brands: Column, language: Column) -> pa.Array:
    fields = pa.struct(
        [("kind", pa.string()), ("value", pa.string()), ("start", pa.int32()), ("stop", pa.int32())]
    )

    def find(texts: list[str], names: list[str | None] | None, code: str | None) -> list[list[dict[str, Any]]]:
        given = [name for name in names or [] if has_text(name) and name]
        # As in SQL, positions start at 1 and include the last character.
        return [
            [{"kind": one.kind, "value": one.value, "start": one.start + 1, "stop": one.stop}
             for one in entities(text, given, code)]
            for text in texts
        ]  # fmt: skip

    return by_setting(text, (brands, language), find, pa.list_(fields))


def _tags(
    text: Column, labels: Column, language: Column, private: Column, model: Column, backend: Column, cache: Column,
    connection: Column,
) -> pa.Array:
    fields = pa.struct([("label", pa.string()), ("group", pa.string()), ("score", pa.float64())])

    def find(texts: list[str], own: list[str | None] | None, code: str | None) -> list[list[dict[str, Any]]]:
        wanted = None if own is None else tuple(label for label in own if has_text(label) and label)
        if wanted and private[0].as_py() == "1":
            wanted = tuple(map(redact, wanted))
        result: list[list[dict[str, Any]]] = [[] for _ in texts]
        rows = [row for row, text in enumerate(texts) if has_text(text)]
        with encoder_for(model, backend, cache, connection) as encoder:
            tagger = tagger_for(find_registration(connection[0].as_py()), encoder, wanted)
            for row, tags in zip(rows, tagger.tag([texts[row] for row in rows], code), strict=True):
                result[row] = [vars(tag) for tag in tags]
        return result

    return by_setting(text, (labels, language), find, pa.list_(fields))


def tagger_for(registration: Registration | None, encoder: Encoder, labels: tuple[str, ...] | None) -> Tagger:
    """The connection's tagger for these labels, which are encoded once."""
    if registration is None:
        return Tagger(encoder, labels)
    taggers = registration.held.setdefault("taggers", lru_cache(maxsize=16)(Tagger))
    return taggers(encoder, labels)  # type: ignore[no-any-return]


PYTHON_FUNCTIONS = (
    PythonFunction("_coldstart_embed", ("VARCHAR",) * 5, "FLOAT[]", _embed),
    PythonFunction("_coldstart_embed_query", ("VARCHAR",) * 5, "FLOAT[]", _embed_query),
    PythonFunction(
        "_coldstart_try_embed", ("VARCHAR",) * 5, "STRUCT(embedding FLOAT[], error VARCHAR)", _try_embed
    ),
    PythonFunction(
        "_coldstart_embed_info", ("VARCHAR",) * 4,
        "STRUCT(model VARCHAR, fingerprint VARCHAR, backend VARCHAR, dimensions INTEGER, token_limit INTEGER, "
        "device VARCHAR)", _embed_info,
    ),
    PythonFunction("_coldstart_embed_truncated", ("VARCHAR",) * 5, "BOOLEAN", _embed_truncated),
    PythonFunction(
        "_coldstart_embed_cache_stats", ("VARCHAR",) * 2,
        "STRUCT(hits BIGINT, misses BIGINT, encoded BIGINT, entries BIGINT, bytes BIGINT)", _embed_cache_stats,
        deterministic=False,
    ),
    PythonFunction("_coldstart_similarity", ("FLOAT[]", "FLOAT[]"), "DOUBLE", _similarity),
    PythonFunction("_coldstart_clean_text", ("VARCHAR",), "VARCHAR", _clean_text),
    PythonFunction("_coldstart_redact", ("VARCHAR",), "VARCHAR", _redact),
    PythonFunction("_coldstart_conversation", ("VARCHAR", "VARCHAR[]", "BIGINT"), "VARCHAR", _conversation),
    PythonFunction("_coldstart_tokens", ("VARCHAR",) * 2, "VARCHAR[]", _tokens),
    PythonFunction(
        "_coldstart_entities", ("VARCHAR", "VARCHAR[]", "VARCHAR"),
        'STRUCT(kind VARCHAR, "value" VARCHAR, start INTEGER, stop INTEGER)[]', _entities,
    ),
    PythonFunction(
        "_coldstart_tags", ("VARCHAR", "VARCHAR[]", *("VARCHAR",) * 6),
        'STRUCT(label VARCHAR, "group" VARCHAR, score DOUBLE)[]', _tags,
    ),
    PythonFunction("_coldstart_profile", ("FLOAT[][]", "FLOAT[]"), "FLOAT[]", _profile),
    PythonFunction("_coldstart_weight", ("DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE", _weight),
    PythonFunction(
        "_coldstart_enrich", ("FLOAT[]", "VARCHAR", "DOUBLE", *("VARCHAR",) * 4), "FLOAT[]", _enrich
    ),
)  # fmt: skip


def _embeddings(
    text: Column, model: Column, backend: Column, cache: Column, connection: Column, prompt: Prompt = "document",
) -> tuple[Vectors, NDArray[np.bool_]]:
    """A vector for each row, zero without text; and whether each row has text."""
    texts = text.to_pylist()
    present = np.fromiter(map(has_text, texts), dtype=bool, count=len(texts))
    if not texts:
        return np.zeros((0, 0), np.float32), present
    with encoder_for(model, backend, cache, connection) as encoder:
        if present.all():
            return encoder.encode(texts, prompt=prompt), present
        vectors = np.zeros((len(texts), encoder.dimensions), dtype=np.float32)
        if present.any():
            vectors[present] = encoder.encode([texts[row] for row in np.flatnonzero(present)], prompt=prompt)
        return vectors, present


@contextmanager
def encoder_for(model: Column, backend: Column, cache: Column, connection: Column) -> Iterator[Encoder]:
    """The encoder of one call, which reports to the connection inside the block.

    Args:
        model: a name or folder, '' for the embedded model, `GIVEN` for the encoder that `register` was given. A query
            may name another model, but one for all rows.
        backend: '' for "auto".
        cache: '1' for the machine's cache, '0' for none, or a path.
        connection: the key of the registration.

    Raises:
        ColdStartError: rows name different models, or the connection with the given encoder was closed.
    """
    distinct = [column.unique().to_pylist() for column in (model, backend, cache, connection)]
    if any(len(values) > 1 for values in distinct):
        raise ColdStartError(
            f"one call uses the models {sorted(map(str, distinct[0]))}; their vectors cannot be mixed: "
            "query them one at a time"
        )
    (one_model,), (one_backend,), (one_cache,), (key,) = distinct
    registration = find_registration(key)
    with reporting_to(registration.progress if registration else ()):
        if one_model != GIVEN:
            cache_setting = {"1": True, "0": False}.get(one_cache, one_cache)
            yield shared_encoder(one_model or None, cache_setting, one_backend or None)
        elif registration and registration.encoder:
            yield registration.encoder
        else:
            raise ColdStartError(
                "the encoder of this query was released with its connection; keep the connection until all results "
                "are read"
            )
