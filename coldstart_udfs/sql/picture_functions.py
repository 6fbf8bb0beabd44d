"""The Python halves of the SQL functions of pictures; see `arrow_functions`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from coldstart_udfs.arrow_lists import Column, Lists, embeddings_to_arrow
from coldstart_udfs.encoder.images.encoder import ImageEncoder, shared_image_encoder
from coldstart_udfs.encoder.images.mapping import MANIFEST, PictureMap
from coldstart_udfs.encoder.progress import reporting_to
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors, has_text
from coldstart_udfs.sql.arrow_functions import PythonFunction, encoder_for, tagger_for
from coldstart_udfs.sql.distinct import by_setting
from coldstart_udfs.sql.registration import find_registration
from coldstart_udfs.text.redaction import redact


def _embed_image(path: Column, content: Column, model: Column, cache: Column, connection: Column) -> pa.Array:
    vectors, errors, present = _vectors(path, content, model, cache, connection)
    failed = [error for error in errors if error]
    if failed:
        more = f" ({len(failed) - 1} more fail)" if len(failed) > 1 else ""
        raise ColdStartError(f"embed_image(): {failed[0]}{more}; try_embed_image() gives the errors by row")
    return embeddings_to_arrow(vectors, present)


def _try_embed_image(path: Column, content: Column, model: Column, cache: Column, connection: Column) -> pa.Array:
    vectors, errors, present = _vectors(path, content, model, cache, connection)
    usable = present & np.array([error is None for error in errors], dtype=bool)
    return pa.StructArray.from_arrays(
        [embeddings_to_arrow(vectors, usable), pa.array(errors, pa.string())], ["embedding", "error"]
    )


def _vectors(
    path: Column, content: Column, model: Column, cache: Column, connection: Column
) -> tuple[Vectors, list[str | None], Any]:
    """A vector, an error or None, and whether there is a picture, for each row."""
    given: list[Any] = [
        blob if blob is not None else name if has_text(name) else None
        for name, blob in zip(path.to_pylist(), content.to_pylist(), strict=True)
    ]
    present = np.array([one is not None for one in given], dtype=bool)
    errors: list[str | None] = [None] * len(given)
    if not present.any():
        return np.zeros((len(given), 0), np.float32), errors, present
    models = set(model.to_pylist())
    if len(models) > 1:
        raise ColdStartError(
            f"one call uses the models {sorted(map(str, models))}; their vectors cannot be mixed: query them one at a "
            "time"
        )
    encoder = _encoder(models.pop(), cache[0].as_py())
    rows = np.flatnonzero(present)
    vectors = np.zeros((len(given), encoder.dimensions), dtype=np.float32)
    registration = find_registration(connection[0].as_py())
    with reporting_to(registration.progress if registration else ()):
        vectors[rows], found = encoder.try_encode([given[row] for row in rows])
    for row, error in zip(rows.tolist(), found, strict=True):
        errors[row] = error
    return vectors, errors, present


def _encoder(model: str | None, cache: str) -> ImageEncoder:
    return shared_image_encoder(model, {"1": True, "0": False}.get(cache, cache))


def _image_to_text(
    vector: Column, folder: Column, model: Column, backend: Column, cache: Column, connection: Column
) -> pa.Array:
    lists = Lists(vector)
    if not lists.present.any():
        return pa.nulls(len(vector), pa.list_(pa.float32()))
    folders = set(folder.to_pylist())
    if len(folders) > 1:
        raise ColdStartError(f"one call uses the maps {sorted(map(str, folders))}; query them one at a time")
    with encoder_for(model, backend, cache, connection) as encoder:
        place = folders.pop()
        if place is None:
            registration = find_registration(connection[0].as_py())
            held = {} if registration is None else registration.held
            key = "map of classes"
            if key not in held or held[key].text_fingerprint != encoder.fingerprint:
                held[key] = PictureMap.of_classes(_encoder(None, cache[0].as_py()), encoder)
            fitted = held[key]
        else:
            fitted = _map(place, encoder.fingerprint)
    out = np.zeros((len(vector), fitted.weights.shape[1]), dtype=np.float32)
    for rows, vectors in lists.by_width(lists.present):
        out[rows] = fitted.predict(vectors)
    return embeddings_to_arrow(out, np.asarray(out.any(axis=1)))


def _map(folder: str, fingerprint: str) -> PictureMap:
    manifest = Path(folder) / MANIFEST
    return _loaded(folder, fingerprint, manifest.stat().st_mtime_ns if manifest.is_file() else 0)


@lru_cache(maxsize=4)
def _loaded(folder: str, fingerprint: str, changed: int) -> PictureMap:
    return PictureMap.load(folder, text_fingerprint=fingerprint)


def _tags_of_vector(
    vector: Column, labels: Column, private: Column, model: Column, backend: Column, cache: Column, connection: Column
) -> pa.Array:
    fields = pa.struct([("label", pa.string()), ("group", pa.string()), ("score", pa.float64())])
    lists = Lists(vector)

    def find(rows: list[str], own: list[str | None] | None) -> list[list[dict[str, Any]]]:
        if not rows:
            return []
        wanted = None if own is None else tuple(label for label in own if has_text(label) and label)
        if wanted and private[0].as_py() == "1":
            wanted = tuple(map(redact, wanted))
        chosen = np.array(rows, dtype=np.int64)
        with encoder_for(model, backend, cache, connection) as encoder:
            wrong = chosen[lists.lengths[chosen] != encoder.dimensions]
            if len(wrong):
                raise ColdStartError(
                    f"tags() of a vector of {lists.lengths[wrong[0]]} numbers, and those of texts have "
                    f"{encoder.dimensions}; image_to_text() makes such a vector of a picture's"
                )
            tagger = tagger_for(find_registration(connection[0].as_py()), encoder, wanted)
            return [[vars(tag) for tag in tags] for tags in tagger.tag_vectors(lists.take(chosen))]

    # Rows are told apart by their number: vectors are rarely equal.
    numbers = pa.array([str(row) if there else None for row, there in enumerate(lists.present)], pa.string())
    return by_setting(
        pa.chunked_array([numbers]), (labels,),
        lambda rows, own: find([row for row in rows if row is not None], own), pa.list_(fields),
    )  # fmt: skip


PICTURE_FUNCTIONS = (
    PythonFunction("_coldstart_embed_image", ("VARCHAR", "BLOB", *("VARCHAR",) * 3), "FLOAT[]", _embed_image),
    PythonFunction(
        "_coldstart_try_embed_image", ("VARCHAR", "BLOB", *("VARCHAR",) * 3),
        "STRUCT(embedding FLOAT[], error VARCHAR)", _try_embed_image,
    ),
    PythonFunction("_coldstart_image_to_text", ("FLOAT[]", *("VARCHAR",) * 5), "FLOAT[]", _image_to_text),
    PythonFunction(
        "_coldstart_tags_of_vector", ("FLOAT[]", "VARCHAR[]", *("VARCHAR",) * 5),
        'STRUCT(label VARCHAR, "group" VARCHAR, score DOUBLE)[]', _tags_of_vector,
    ),
)  # fmt: skip
