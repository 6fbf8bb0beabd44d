"""Bulk embedding: parquet file in, parquet file with embeddings out, in bounded memory, resumable."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from coldstart_udfs.arrow_lists import embeddings_to_arrow
from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.encoder.model_files import read_json
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from coldstart_udfs.locks import writing
from coldstart_udfs.profile import has_text
from coldstart_udfs.tabular import as_parquet

EMBEDDING, FINGERPRINT = "embedding", "embedding_fingerprint"

# Rows of a part: the most work that a kill loses, and the size of a row group of the result.
_PART = 16_384
# Rows between two reports of progress.
_STEP = 2_048

@dataclass(frozen=True)
class Embedded:
    """The result of a bulk run.

    Attributes:
        rows: number of rows, in the input and in the output.
        without_text: rows whose text is NULL or blank; their embedding is NULL.
        truncated: rows whose text is longer than the encoder reads.
        fingerprint: fingerprint of the encoder.
    """

    rows: int
    without_text: int
    truncated: int
    fingerprint: str


def embed_table(table: pa.Table, text: str, encoder: Encoder) -> pa.Table:
    """Add `embedding` (list of float32; NULL without text) and `embedding_fingerprint` to a table.

    Args:
        table: a table with a column of strings.
        text: the name of that column.
        encoder: the encoder; its fingerprint is also written to the schema's metadata.

    Returns:
        The table with both columns appended.

    Raises:
        ColdStartError: the column does not exist or does not hold strings, or the table already has one of the two.
    """
    check_schema(table.schema, text, "the table")
    return _with_embeddings(table, text, encoder)[0]


def embed_file(
    source: Path, out: Path, *, text: str, encoder: Encoder, encoding: str | None = None, report: Report = no_report
) -> Embedded:
    """Embed a column of a file into a parquet file.

    Finished parts are kept in `OUT.unfinished`. After a stop the same call continues from there; a part is taken up
    only if its rows, the column and the encoder are the same. `out` is written, or replaced, when all rows are done.

    Args:
        source: a parquet file, or another of `coldstart_udfs.tabular.read_file`.
        out: the parquet file to write, with the columns of the input and those of `embed_table`.
        text: the column with the texts.
        encoder: the encoder.
        encoding: of CSV and JSON files, see `read_file`.
        report: called with the rows embedded so far; rows that an earlier run embedded are left out of both counts.

    Raises:
        ColdStartError: `source` cannot be read, `out` is `source`, or the column cannot be used.
        InUseError: another process writes `out`.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise ColdStartError(f"{out} is the input; choose another --out")
    with writing(out, command="coldstart embed"), as_parquet(source, encoding=encoding) as rows:
        return _embed_file(source, rows, out, text, encoder, report)


def _embed_file(source: Path, rows: Path, out: Path, text: str, encoder: Encoder, report: Report) -> Embedded:
    file = open_parquet(rows)
    check_schema(file.schema_arrow, text, str(source))
    if out.is_dir():
        raise ColdStartError(f"{out} is a folder; name a file, such as {out / 'embeddings.parquet'}")
    total = file.metadata.num_rows
    status = source.stat()
    job = {
        "source": str(source.resolve()), "size": status.st_size, "changed": status.st_mtime_ns,
        "text": text, "part": _PART, "fingerprint": encoder.fingerprint,
    }  # fmt: skip
    work = out.with_name(out.name + ".unfinished")
    if work.is_dir() and any(work.iterdir()):
        if not (work / "job.json").is_file():
            raise ColdStartError(f"{work} does not contain unfinished parts of `coldstart embed`; move it away")
        if read_json(work / "job.json") != job:
            shutil.rmtree(work)  # parts of another input or encoder
    work.mkdir(parents=True, exist_ok=True)
    write_text(work / "job.json", json.dumps(job, indent=2) + "\n")

    def tell(rows: int) -> None:
        report(f"{encoder.backend}, rows", done + rows - resumed, total - resumed)

    done = resumed = 0
    parts = []
    for number, table in enumerate(_parts(file)):
        path = work / f"{number:06}-{_key(table, job)}.arrow"
        parts.append(path)
        if path.exists():
            resumed += len(table)
        else:
            _write_part(path, table, text, encoder, tell)
        done += len(table)
        tell(0)
    return _assemble(parts, file.schema_arrow, encoder, work, out)


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file.

    Raises:
        ColdStartError: it does not exist or is not parquet.
    """
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise ColdStartError(f"{path} does not exist") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ColdStartError(
            f"{path} cannot be read as parquet ({error}); DuckDB makes one of any table: COPY … TO 'x.parquet'"
        ) from None


def check_schema(schema: pa.Schema, text: str, where: str) -> None:
    """Check that the column of texts exists and that the columns to add do not.

    Raises:
        ColdStartError: the first does not exist or is not text, or one of the others exists.
    """
    if text not in schema.names:
        raise ColdStartError(f"{where} has no column {text!r}; it has {schema.names}")
    kind = schema.field(text).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)):
        raise ColdStartError(f"{where}: column {text!r} is {kind}, not text")
    taken = [name for name in (EMBEDDING, FINGERPRINT) if name in schema.names]
    if taken:
        raise ColdStartError(f"{where} has {taken} already; leave those columns out of the input")


def _with_embeddings(table: pa.Table, text: str, encoder: Encoder) -> tuple[pa.Table, int, int]:
    texts = table[text].to_pylist()
    present = np.fromiter(map(has_text, texts), dtype=bool, count=len(texts))
    given = [value for value, there in zip(texts, present, strict=True) if there]
    vectors = np.zeros((len(texts), encoder.dimensions), dtype=np.float32)
    if given:
        vectors[present] = encoder.encode(given)
    result = table.append_column(EMBEDDING, embeddings_to_arrow(vectors, present))
    result = result.append_column(FINGERPRINT, pa.array([encoder.fingerprint] * len(table), pa.string()))
    metadata = {**(table.schema.metadata or {}), **_metadata(encoder)}
    return result.replace_schema_metadata(metadata), len(texts) - len(given), int(encoder.truncated(given).sum())


def _metadata(encoder: Encoder) -> dict[bytes, bytes]:
    opened_with = json.dumps({"model": encoder.files.model, "backend": encoder.backend})
    return {FINGERPRINT.encode(): encoder.fingerprint.encode(), b"embedding_encoder": opened_with.encode()}


def _parts(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """The file in tables of `_PART` rows, whatever its row groups."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in file.iter_batches(batch_size=_PART):
        waiting.append(batch)
        rows += len(batch)
        while rows >= _PART:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, _PART)
            waiting = table.slice(_PART).to_batches()
            rows -= _PART
    if rows:
        yield pa.Table.from_batches(waiting)


def _key(table: pa.Table, job: dict[str, Any]) -> str:
    """What a part depends on, hashed: its rows, the column and the encoder."""
    digest = hashlib.blake2b(json.dumps([job["text"], job["fingerprint"]]).encode(), digest_size=12)
    with pa.PythonFile(_Hashed(digest), mode="w") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return digest.hexdigest()


class _Hashed(io.RawIOBase):
    """A file that keeps nothing of what is written to it but a digest."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)


def _write_part(path: Path, table: pa.Table, text: str, encoder: Encoder, tell: Callable[[int], None]) -> None:
    beside = path.with_suffix(".tmp")
    pieces, without_text, truncated = [], 0, 0
    for start in range(0, len(table), _STEP):
        piece, absent, cut = _with_embeddings(table.slice(start, _STEP), text, encoder)
        pieces.append(piece)
        without_text, truncated = without_text + absent, truncated + cut
        tell(min(start + _STEP, len(table)))
    whole = pa.concat_tables(pieces)
    counts = {b"without_text": str(without_text).encode(), b"truncated": str(truncated).encode()}
    with pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, whole.schema, metadata=counts) as writer:
        writer.write_table(whole)
    os.replace(beside, path)


def _assemble(parts: list[Path], schema: pa.Schema, encoder: Encoder, work: Path, out: Path) -> Embedded:
    rows = without_text = truncated = 0
    schema = schema.append(pa.field(EMBEDDING, pa.list_(pa.float32()))).append(pa.field(FINGERPRINT, pa.string()))
    schema = schema.with_metadata({**(schema.metadata or {}), **_metadata(encoder)})
    beside = work / "whole.parquet"
    others = [name for name in schema.names if name != EMBEDDING]
    # Numbers of vectors neither repeat nor compress, and statistics of them are of no use.
    zstd = dict.fromkeys(others, "zstd")
    options: dict[str, Any] = {"use_dictionary": others, "write_statistics": others, "compression": zstd}
    with pq.ParquetWriter(beside, schema, **options) as writer:
        for path in parts:
            with pa.memory_map(str(path)) as source:
                reader = pa.ipc.open_file(source)
                table = reader.read_all()
                writer.write_table(table, row_group_size=_PART)
                counts = reader.metadata
                rows += len(table)
                without_text += int(counts[b"without_text"])
                truncated += int(counts[b"truncated"])
    os.replace(beside, out)
    shutil.rmtree(work)
    return Embedded(rows, without_text, truncated, encoder.fingerprint)
