"""Embedding a column of pictures of a file, alone or beside a column of texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coldstart_udfs.arrow_lists import embeddings_to_arrow
from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.bulk import EMBEDDING, FINGERPRINT, check_schema
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.encoder.images.encoder import ImageEncoder
from coldstart_udfs.encoder.images.mapping import MapQuality, PictureMap
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged
from coldstart_udfs.locks import writing
from coldstart_udfs.profile import Vectors, has_text
from coldstart_udfs.tabular import as_parquet

ERROR, MADE_FROM = "embedding_error", "embedding_from"
_STEP = 256  # pictures between two reports of progress
_TOLD = 3


@dataclass(frozen=True)
class EmbeddedPictures:
    """The result of `embed_pictures`.

    Attributes:
        rows: number of rows, in the input and in the output.
        made_from: number of rows whose vector is that of their "text", and of their "image".
        failed: pictures that cannot be used.
        examples: the errors of the first three, with their rows.
        fingerprint: of the encoder in whose space the vectors lie.
        quality: of the map, if one was fitted.
    """

    rows: int
    made_from: dict[str, int]
    failed: int
    examples: list[str]
    fingerprint: str
    quality: MapQuality | None


def embed_pictures(
    source: Path, out: Path, *, image: str, image_encoder: ImageEncoder, text: str | None = None,
    encoder: Encoder | None = None, folder: Path | None = None, group: str | None = None, encoding: str | None = None,
    report: Report = no_report,
) -> EmbeddedPictures:  # fmt: skip
    """Add `embedding`, `embedding_fingerprint`, `embedding_from` and `embedding_error` to the rows of a file.

    Without `folder` the vectors are those of the pictures, in their own space. With `folder` all vectors lie in the
    space of the texts: those of texts where there is one, else those of pictures by a `PictureMap`. The map is fitted
    on the rows that have both, and written to `folder`; without `text` it is read from there. A stopped run loses
    nothing, because the vectors of its pictures are in the vector cache. The file is in memory, with 5 kB a picture.

    Args:
        source: a parquet file, or another of `coldstart_udfs.tabular.read_file`.
        out: the parquet file to write.
        image: the column with paths or contents of pictures; NULL and blank is none.
        image_encoder: of the pictures.
        text: the column with texts.
        encoder: of the texts; needed with `folder`.
        folder: of the map.
        group: the column whose equal values are variants of one thing, see `PictureMap.fit`.
        encoding: of CSV and JSON files.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: a column does not exist or has another type, `text` is given without `folder`, or the map is
            refused; nothing was written.
        InUseError: another process writes `out`.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise ColdStartError(f"{out} is the input; choose another --out")
    if (text is not None and folder is None) or (group is not None and text is None):
        raise ColdStartError(
            "vectors of texts and of pictures lie in different spaces: give --map FOLDER with --text and --image, and "
            "--group only with these"
        )
    with writing(out, command="coldstart embed"), as_parquet(source, encoding=encoding) as rows:
        table = pq.read_table(rows)
        _check(table.schema, image, text, group, str(source))
        vectors, errors = _pictures(table[image].to_pylist(), image_encoder, report)
        shown = vectors.any(axis=1)
        made_from = np.where(shown, "image", "")
        fingerprint, quality, fitted = image_encoder.fingerprint, None, None
        if folder is not None and encoder is not None:
            fingerprint = encoder.fingerprint
            if text is None:
                fitted = PictureMap.load(
                    folder, image_fingerprint=image_encoder.fingerprint, text_fingerprint=fingerprint
                )
                vectors = fitted.predict(vectors)
            else:
                texts = table[text].to_pylist()
                groups = None if group is None else table[group].to_pylist()
                vectors, told, fitted = _with_texts(vectors, texts, groups, image_encoder, encoder, report)
                made_from, quality = np.where(told, "text", made_from), fitted.quality
        present = made_from != ""
        result = table.append_column(EMBEDDING, embeddings_to_arrow(vectors, present))
        for name, values in (
            (FINGERPRINT, [fingerprint] * len(table)), (MADE_FROM, [one or None for one in made_from.tolist()]),
            (ERROR, errors),
        ):  # fmt: skip
            result = result.append_column(name, pa.array(values, pa.string()))
        with staged(out.absolute().parent) as scratch:
            pq.write_table(result, scratch / out.name, compression="zstd")
            if fitted is not None and text is not None and folder is not None:
                fitted.save(folder)
    failed = [(row, error) for row, error in enumerate(errors) if error is not None]
    return EmbeddedPictures(
        len(table), {kind: int((made_from == kind).sum()) for kind in ("text", "image")}, len(failed),
        [f"row {row + 1}: {error}" for row, error in failed[:_TOLD]], fingerprint, quality,
    )  # fmt: skip


def _check(schema: pa.Schema, image: str, text: str | None, group: str | None, where: str) -> None:
    if text is not None:
        check_schema(schema, text, where)
    for name in (image, group):
        if name is not None and name not in schema.names:
            raise ColdStartError(f"{where} has no column {name!r}; it has {schema.names}")
    kind = schema.field(image).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
                                       pa.types.is_binary, pa.types.is_large_binary)):  # fmt: skip
        raise ColdStartError(f"{where}: column {image!r} is {kind}; it must hold paths of pictures, or their contents")
    taken = [name for name in (EMBEDDING, FINGERPRINT, MADE_FROM, ERROR) if name in schema.names]
    if taken:
        raise ColdStartError(f"{where} has {taken} already; leave those columns out of the input")


def _pictures(given: list[Any], encoder: ImageEncoder, report: Report) -> tuple[Vectors, list[str | None]]:
    """A vector for each row, zero without a usable picture; and the errors."""
    vectors = np.zeros((len(given), encoder.dimensions), dtype=np.float32)
    errors: list[str | None] = [None] * len(given)
    rows = [row for row, one in enumerate(given) if isinstance(one, bytes) or has_text(one)]
    for start in range(0, len(rows), _STEP):
        part = rows[start : start + _STEP]
        vectors[part], found = encoder.try_encode([given[row] for row in part])
        for row, error in zip(part, found, strict=True):
            errors[row] = error
        report("pictures", min(start + _STEP, len(rows)), len(rows))
    return vectors, errors


def _with_texts(
    pictures: Vectors, texts: list[Any], groups: list[Any] | None, image_encoder: ImageEncoder, encoder: Encoder,
    report: Report,
) -> tuple[Vectors, Any, PictureMap]:  # fmt: skip
    """Vectors in the space of texts, which rows have a text, and the map fitted on the rows that have both."""
    shown = pictures.any(axis=1)
    told = np.array([has_text(text) for text in texts], dtype=bool)
    both = np.flatnonzero(shown & told)
    report("map", 0, 1)
    fitted = PictureMap.fit(
        pictures[both], [texts[row] for row in both], image_encoder=image_encoder, encoder=encoder,
        groups=None if groups is None else [(row,) if groups[row] is None else groups[row] for row in both],
    )  # fmt: skip
    vectors = fitted.predict(pictures)
    rows = np.flatnonzero(told)
    if len(rows):
        vectors[rows] = encoder.encode([texts[row] for row in rows])
    report("map", 1, 1)
    return vectors, told, fitted
