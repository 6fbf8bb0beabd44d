"""Retrievals that run when their result is read, as a whole or in batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.offline.parquet_source import ParquetSource
from coldstart_udfs.feast.offline.point_in_time import stream
from coldstart_udfs.feast.offline.session import first_line, open_connection
from coldstart_udfs.feast.offline.write import export, locked, write_result

if TYPE_CHECKING:
    import pandas as pd
    from feast import OnDemandFeatureView, RepoConfig
    from feast.saved_dataset import SavedDatasetStorage

# Number of rows in a call of an on-demand view; 16,384 vectors of 384 floats are 25 MB, and pandas copies them.
BATCH = 16_384

_ATTEMPTS = 3


@dataclass(frozen=True)
class Plan:
    """How to run a retrieval.

    Attributes:
        sources: the sources to read.
        names: names of the result's columns.
        functions: whether the SQL calls our functions.
        query: prepares a connection and returns the SQL of the result.
        whole: a faster way to compute the whole result, if there is one.
        nulls: columns of NULLs without a type, for which DuckDB returns INTEGER.
    """

    sources: Sequence[ParquetSource]
    names: Sequence[str]
    functions: bool
    query: Callable[[duckdb.DuckDBPyConnection], str]
    nulls: frozenset[str] = frozenset()
    whole: Callable[[duckdb.DuckDBPyConnection], pa.Table] | None = None

    def schema(self, found: pa.Schema) -> pa.Schema:
        """The schema of the result, from the one that DuckDB returns."""
        return pa.schema([
            pa.field(name, pa.null() if name in self.nulls else field.type)
            for name, field in zip(self.names, found, strict=True)
        ])


class ColdStartRetrievalJob(RetrievalJob):  # type: ignore[misc]  # Feast is not typed
    """The result of a read from `ColdStartDuckDBOfflineStore`.

    `to_df`, `to_arrow`, `to_feast_df`, `to_tensor` and `persist` work as in Feast. `to_arrow_reader` and
    `to_arrow_batches` stream the result. Historical features are in the order of the entity rows.

    On-demand views are applied to 16,384 rows at a time. As online, where a function gets the rows of one request, the
    result for a row must not depend on other rows.
    """

    def __init__(
        self,
        config: RepoConfig,
        prepare: Callable[[], Plan],
        *,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
        full_feature_names: bool = False,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        super().__init__()
        self._config = config
        self._prepare = prepare
        self._on_demand = [_in_batches(view) for view in on_demand_feature_views]
        self._full_feature_names = full_feature_names
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether features are called `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """The on-demand views applied to the result."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """Metadata of the request; None for a read of a source."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        for _ in range(_ATTEMPTS):
            with suppress(_SourceChangedError):
                return self._read()
        # Other processes keep writing: read under the lock of writers, which exists for single files.
        files = [Path(source.files[0]) for source in self._prepare().sources if len(source.files) == 1]
        with ExitStack() as stack:
            for file in dict.fromkeys(file for file in files if file.is_file()):
                stack.enter_context(locked(file))
            return self._read()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return frame

    def _read(self) -> pa.Table:
        with _Execution(self._config, self._prepare()) as execution:
            table = execution.table()
            schema = execution.plan.schema(table.schema)
            return pa.table([_as(*pair) for pair in zip(table.columns, schema.types, strict=True)], schema=schema)

    def to_arrow_batches(self, batch_size: int = BATCH) -> Iterator[pa.RecordBatch]:
        """The result in batches of at most `batch_size` rows, on-demand features included; see `to_arrow_reader`."""
        yield from self.to_arrow_reader(batch_size)

    def to_arrow_reader(self, batch_size: int = BATCH) -> pa.RecordBatchReader:
        """The result as a stream for pyarrow, DuckDB, Polars and others.

        On-demand features have the type that their view declares, so that the schema is known before the first row.

        Raises:
            ColdStartError: raised while reading: a source was written to meanwhile, so rows may be missing; or an
                on-demand view returned values that do not fit its declared type.
        """
        batches = self._batches(batch_size)
        schema = next(batches)
        return pa.RecordBatchReader.from_batches(schema, batches)

    def _batches(self, batch_size: int) -> Iterator[Any]:
        """The schema, then the batches."""
        with _Execution(self._config, self._prepare()) as execution:
            reader = stream(execution.result(), batch_size)
            stored = execution.plan.schema(reader.schema)
            wanted = [(view, self._requested(view)) for view in self._on_demand]
            schema = pa.schema([*stored, *(field for _, fields in wanted for field in fields)])
            yield schema
            for batch in reader:
                table = pa.table([_as(*pair) for pair in zip(batch.columns, stored.types, strict=True)], schema=stored)
                for view, fields in wanted:
                    table = _apply(view, table, fields, self._full_feature_names)
                yield from table.to_batches()

    def _requested(self, view: OnDemandFeatureView) -> list[pa.Field]:
        """The requested features of an on-demand view, as columns of the result."""
        from feast.types import from_feast_to_pyarrow_type

        asked = [reference.partition(":") for reference in (self._metadata.features if self._metadata else [])]
        names = {view.name, view.projection.name_to_use()}
        wanted = {feature for name, _, feature in asked if name in names}
        return [
            pa.field(
                f"{view.projection.name_to_use()}__{feature.name}" if self._full_feature_names else feature.name,
                from_feast_to_pyarrow_type(feature.dtype),
            )
            for feature in view.features
            if not wanted or feature.name in wanted
        ]

    def persist(
        self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Write the result, on-demand features included, in batches to a scratch file that is then moved into place.

        Raises:
            SavedDatasetLocationAlreadyExists: the file exists and `allow_overwrite` is False.
        """
        write_result(self._config, storage.to_data_source(), self.to_arrow_reader, allow_overwrite=allow_overwrite)

    def supports_remote_storage_export(self) -> bool:
        """Whether the repository has a `staging_location`."""
        return self._config.offline_store.staging_location is not None

    def to_remote_storage(self) -> list[str]:
        """Write parquet files to the repository's `staging_location`; returns their paths."""
        return export(self._config, self.to_arrow_reader())


class _SourceChangedError(ColdStartError):
    pass


class _Execution:
    """One run of a plan: a connection, and a check that the files did not change meanwhile."""

    def __init__(self, config: RepoConfig, plan: Plan) -> None:
        self.plan = plan
        self._before = [source.snapshot() for source in plan.sources]
        self._con = open_connection(config, functions=plan.functions, fingerprint=plan.functions)

    def __enter__(self) -> _Execution:
        return self

    def result(self) -> duckdb.DuckDBPyRelation:
        """The query, which runs when its rows are read."""
        return self._con.sql(self.plan.query(self._prepared()))

    def table(self) -> pa.Table:
        """The whole result, computed in the faster way."""
        return self.result().to_arrow_table() if self.plan.whole is None else self.plan.whole(self._prepared())

    def _prepared(self) -> duckdb.DuckDBPyConnection:
        for source in self.plan.sources:
            for statement in source.setup:
                self._con.execute(statement)
        return self._con

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._con.close()
        if error is None or isinstance(error, duckdb.Error):
            self._check()
        if isinstance(error, duckdb.Error) and not isinstance(error, duckdb.OutOfMemoryException):
            labels = ", ".join(dict.fromkeys(source.label for source in self.plan.sources))
            raise ColdStartError(f"reading {labels} failed: {first_line(error)}") from error

    def _check(self) -> None:
        """Rows are found by their position in the files, so a file that was replaced meanwhile gives wrong rows."""
        for source, before in zip(self.plan.sources, self._before, strict=True):
            try:
                same = source.snapshot() == before
            except FileNotFoundError:
                same = False
            if not same:
                raise _SourceChangedError(
                    f"{source.label} was written to while it was read, so its rows cannot be relied on; read again"
                )


def _as(column: pa.Array | pa.ChunkedArray, wanted: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return pa.nulls(len(column)) if pa.types.is_null(wanted) else column


def _in_batches(view: OnDemandFeatureView) -> OnDemandFeatureView:
    """A copy of the view whose function gets a batch at a time. Feast passes all rows and copies them in memory."""
    inner = copy.copy(view)
    whole = inner.transform_arrow

    def transform_arrow(table: pa.Table, full_feature_names: bool = False) -> pa.Table:
        parts = [
            whole(table.slice(start, BATCH), full_feature_names) for start in range(0, max(table.num_rows, 1), BATCH)
        ]
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts, promote_options="permissive")

    inner.transform_arrow = transform_arrow
    return inner


def _apply(view: OnDemandFeatureView, table: pa.Table, fields: Sequence[pa.Field], full_names: bool) -> pa.Table:
    made = view.transform_arrow(table, full_names)
    for field in fields:
        try:
            column = _cast(made[field.name], field.type)
        except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            given = made.schema.field(field.name).type if field.name in made.column_names else "nothing"
            raise ColdStartError(
                f"the on-demand view {view.name} declares {field.name} as {field.type}, and gave {given}: "
                f"{first_line(error)}"
            ) from None
        table = table.append_column(field, column)
    return table


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type) and not pa.types.is_floating(wanted):
        # Whole numbers and flags with NULLs, which pandas turns into floats with NaN.
        column = pc.if_else(pc.is_nan(column), None, column)
    return column.cast(wanted)
