"""Writing pushed rows, logged features and saved datasets: to a scratch file, then renamed."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from filelock import FileLock

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.offline.parquet_source import embeddings, files_of_folder, is_parquet, location
from coldstart_udfs.feast.offline.session import first_line
from coldstart_udfs.files import staged

if TYPE_CHECKING:
    from feast import RepoConfig
    from feast.feature_logging import LoggingConfig
    from feast.infra.offline_stores.file_source import FileSource


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock of a parquet file against other writers, also of other processes; readers need no lock."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        yield


def append(config: RepoConfig, source: FileSource, rows: pa.Table) -> None:
    """Add rows to a feature view's source: to a file under a lock, to a folder as a file of its own.

    Columns made by a `coldstart.embed` tag are left out, and types are cast to those of the source. Columns may be
    named as features, as Feast names them before it calls a store, even if the source's files have other names.

    Raises:
        ColdStartError: the columns are not those of the source, values do not fit its types, or a vector holds NaN or
            infinity.
    """
    virtual = {name for one in embeddings(source) for name in (one.vector, one.fingerprint)}
    kept = [name for name in rows.column_names if name not in virtual and not name.startswith("__index_level_")]
    in_files = {feature: column for column, feature in (source.field_mapping or {}).items()}
    rows = rows.select(kept).rename_columns([in_files.get(name, name) for name in kept])
    where = location(config, source.path)
    if "://" in where:
        _append_to_bucket(source, where, rows)
        return
    place = Path(where)
    is_file = place.is_file() or (place.suffix == ".parquet" and not place.is_dir())
    if is_file:
        with locked(place):
            _rewrite(place, source, rows)
        return
    first = min(files_of_folder(place), default=None)
    schema = rows.schema if first is None else pq.read_schema(first)
    fitted = _fit(rows, schema, source)
    _write_beside(place / f"pushed-{uuid.uuid4().hex}.parquet", fitted.schema, fitted.to_batches())


def _append_to_bucket(source: FileSource, url: str, rows: pa.Table) -> None:
    from feast.infra.offline_stores.file_source import FileSource as Files

    if url.endswith(".parquet"):
        raise ColdStartError(
            f"source {source.name}: rows cannot be added to the single file {url}, which cannot be locked; make its "
            "path the folder, and each push becomes a file in it"
        )
    filesystem, path = Files.create_filesystem_and_path(
        url, source.s3_endpoint_override, resolved_credentials=source.resolve_credentials()
    )
    schema = ds.dataset(path, filesystem=filesystem, format="parquet").schema
    # Objects are written atomically.
    name = f"{path.rstrip('/')}/pushed-{uuid.uuid4().hex}.parquet"
    pq.write_table(_fit(rows, schema, source), name, filesystem=filesystem)


def _rewrite(place: Path, source: FileSource, rows: pa.Table) -> None:
    if not place.exists():
        _write_beside(place, rows.schema, rows.to_batches())
        return
    with pq.ParquetFile(place) as old:
        schema = old.schema_arrow
        fitted = _fit(rows, schema, source)
        # One row group at a time, to bound memory. New rows come last, where they count before equal timestamps.
        groups = (old.read_row_group(number).cast(schema) for number in range(old.num_row_groups))
        _write_beside(place, schema, (table for part in (groups, [fitted]) for table in part))


def _fit(rows: pa.Table, schema: pa.Schema, source: FileSource) -> pa.Table:
    if rows.column_names != schema.names:
        raise ColdStartError(
            f"source {source.name} ({source.path}) has the columns {schema.names}, in this order; the rows to write "
            f"have {rows.column_names}. Missing: {sorted(set(schema.names) - set(rows.column_names)) or 'none'}; "
            f"unknown: {sorted(set(rows.column_names) - set(schema.names)) or 'none'}"
        )
    columns = []
    for field in schema:
        try:
            columns.append(rows[field.name].cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ColdStartError(
                f"source {source.name} ({source.path}): column {field.name} is {field.type}, and the rows to write "
                f"have {rows[field.name].type}: {first_line(error)}"
            ) from None
        bad = _not_finite(columns[-1])
        if bad:
            raise ColdStartError(
                f"source {source.name} ({source.path}): {bad:,} of {len(rows):,} vectors of column {field.name} hold "
                "NaN or infinity; write NULL for a vector that is missing. Nothing was written"
            )
    return pa.table(columns, schema=schema)


def _not_finite(column: pa.ChunkedArray) -> int:
    """How many rows of a column of float lists hold NaN, infinity, or NULL, which pandas makes of NaN."""
    kind = column.type
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(test(kind) for test in lists) or not pa.types.is_floating(kind.value_type):
        return 0
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], kind)
    finite = pc.is_finite(pc.list_flatten(array).cast(pa.float64()).fill_null(math.nan))
    return len(pc.list_parent_indices(array).filter(pc.invert(finite)).unique())


def _write_beside(place: Path, schema: pa.Schema, tables: Iterable[pa.Table | pa.RecordBatch]) -> None:
    with staged(place.parent) as scratch, pq.ParquetWriter(scratch / place.name, schema) as writer:
        for table in tables:
            writer.write(table)


def write_logs(config: RepoConfig, data: pa.Table | Path, logging_config: LoggingConfig) -> None:
    """Add logged features to the folder of a FileLoggingDestination, with its partitions."""
    destination = logging_config.destination
    folder = location(config, destination.path)
    logs = data if isinstance(data, pa.Table) else ds.dataset(data, format="parquet")
    options = {
        "format": "parquet", "basename_template": f"{uuid.uuid4().hex}-{{i}}.parquet",
        "existing_data_behavior": "overwrite_or_ignore", "partitioning": destination.partition_by,
        "partitioning_flavor": "hive" if destination.partition_by else None,
    }  # fmt: skip
    if "://" in folder:
        filesystem, path = _filesystem(folder, destination.s3_endpoint_override)
        ds.write_dataset(logs, path, filesystem=filesystem, **options)
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder))
    try:
        ds.write_dataset(logs, scratch, **options)
        for file in sorted(scratch.rglob("*.parquet")):
            target = Path(folder) / file.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_result(
    config: RepoConfig,
    target: FileSource,
    read: Callable[[], pa.RecordBatchReader],
    *,
    allow_overwrite: bool,
) -> None:
    """Write a stream to the path of a saved dataset: a file if its name ends in .parquet, else a folder.

    Raises:
        SavedDatasetLocationAlreadyExists: the path exists and `allow_overwrite` is False.
    """
    from feast.errors import SavedDatasetLocationAlreadyExists

    if not is_parquet(target):
        _write_as_feast(config, target, read, allow_overwrite)
        return
    where = location(config, target.path)
    if "://" in where:
        filesystem, path = _filesystem(where, target.s3_endpoint_override)
        there = filesystem is not None and filesystem.get_file_info(path).type != pafs.FileType.NotFound
        if there and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=target.path)
        _write_stream(read(), path if path.endswith(".parquet") else f"{path}/part-0.parquet", filesystem)
        return
    place = Path(where)
    if place.exists() and not allow_overwrite:
        raise SavedDatasetLocationAlreadyExists(location=target.path)
    with staged(place.parent) as scratch:
        new = scratch / place.name
        if place.suffix != ".parquet":
            new.mkdir()
        _write_stream(read(), str(new if place.suffix == ".parquet" else new / "part-0.parquet"))
        if place.is_dir():
            # A folder cannot be renamed onto a folder with files, so the old one is renamed first.
            os.replace(place, scratch.with_name(f"{scratch.name}-old"))
            os.replace(new, place)
            shutil.rmtree(scratch.with_name(f"{scratch.name}-old"))


def export(config: RepoConfig, stream: pa.RecordBatchReader) -> list[str]:
    """Write a stream under the repository's staging location; returns the paths of the files."""
    store = config.offline_store
    if store.staging_location is None:
        raise ColdStartError("to_remote_storage() needs offline_store.staging_location in feature_store.yaml; set it")
    target = f"{location(config, store.staging_location).rstrip('/')}/{uuid.uuid4().hex}/part-0.parquet"
    filesystem, path = _filesystem(target, store.staging_location_endpoint_override or "")
    if "://" not in target:
        Path(target).parent.mkdir(parents=True)
    _write_stream(stream, path, filesystem)
    return [target]


def _write_stream(stream: pa.RecordBatchReader, path: str, filesystem: pafs.FileSystem | None = None) -> None:
    with stream, pq.ParquetWriter(path, stream.schema, filesystem=filesystem) as writer:
        for batch in stream:
            writer.write_batch(batch)


def _filesystem(url: str, endpoint: str) -> tuple[pafs.FileSystem | None, str]:
    from feast.infra.offline_stores.file_source import FileSource

    filesystem, path = FileSource.create_filesystem_and_path(url, endpoint)
    return filesystem, path


def _write_as_feast(
    config: RepoConfig, target: FileSource, read: Callable[[], pa.RecordBatchReader], allow_overwrite: bool
) -> None:
    """Write with Feast's writer for Delta and others, which takes a whole table."""
    import ibis  # type: ignore[import-untyped]
    from feast.infra.offline_stores.duckdb import _write_data_source

    _write_data_source(ibis.memtable(read().read_all()), target, str(config.repo_path), "overwrite", allow_overwrite)
