"""The offline store `coldstart_udfs.feast.ColdStartDuckDBOfflineStore`: DuckDB on a connection of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.on_demand_feature_view import OnDemandFeatureView
from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.offline import monitoring
from coldstart_udfs.feast.offline import write as offline_write
from coldstart_udfs.feast.offline.historical import HistoricalRequest, has_own_function, pull
from coldstart_udfs.feast.offline.parquet_source import (
    EMBED_TAG,
    check_embedding,
    embeddings,
    is_parquet,
    parquet_files,
)
from coldstart_udfs.feast.offline.retrieval_job import ColdStartRetrievalJob

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureView, RepoConfig
    from feast.data_source import DataSource
    from feast.feature_logging import LoggingConfig, LoggingSource
    from feast.infra.offline_stores.offline_store import RetrievalJob
    from feast.infra.registry.base_registry import BaseRegistry

_logger = logging.getLogger(__name__)
# The template sets this for a registry in a file. Feast warns that it has no effect there; it has (docs/upstream/22).
logging.getLogger("feast.repo_config").addFilter(
    lambda record: "`serve_features_while_materializing` is enabled but `registry_type` is 'file'" not in record.msg
)


class ColdStartDuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]  # Feast is not typed
    """Keys of `offline_store:` in feature_store.yaml, in addition to those of the `duckdb` store.

    Attributes:
        settings: DuckDB settings by name, as in `SET`: `threads: 2`, `memory_limit: 4GB`, `s3_region: eu-west-1`.
        extensions: DuckDB extensions to load, such as `httpfs` for `s3://`; they are installed if necessary.
    """

    type: StrictStr = "coldstart_udfs.feast.ColdStartDuckDBOfflineStore"
    settings: dict[str, StrictBool | StrictInt | StrictFloat | StrictStr] = Field(default_factory=dict)
    extensions: list[StrictStr] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _only_known(cls, given: Any) -> Any:
        # Feast's configurations accept any key, so a typing error would be ignored.
        unknown = sorted(set(given) - set(cls.model_fields)) if isinstance(given, dict) else []
        if unknown:
            raise ColdStartError(
                f"offline_store has {', '.join(unknown)}; possible keys are {', '.join(sorted(cls.model_fields))}. "
                "A DuckDB setting goes under `settings:`"
            )
        return given


class ColdStartDuckDBOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]
    """Reads parquet with plain SQL on a DuckDB connection of its own.

    It extends Feast's `duckdb` store: paths are relative to the repository; a folder stands for its parquet files; the
    tag `coldstart.embed: "text->vector"` of a FileSource makes a column that is embedded on reading; point-in-time
    joins are ASOF JOINs, in the order of the entity rows; entity rows may be given as SQL; BatchFeatureViews with a
    pandas or python function can be materialised and read; results can be streamed. Feast's store reads other sources
    than parquet (Delta, Iceberg, Lance, MLflow), and retrievals that mix them with parquet.
    """

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **unsupported: Any,
    ) -> RetrievalJob:
        """Features as they were known at each entity row's event timestamp, in the order of the entity rows.

        Args:
            config: configuration of the repository.
            feature_views: the views of `feature_refs` and of the inputs of on-demand views.
            feature_refs: references "view:feature".
            entity_df: entity keys, `event_timestamp` and any other columns, which are passed through; or SQL for these.
                The SQL may call our functions, and its file names are relative to the repository.
            registry: registry of the on-demand views.
            project: project of the on-demand views.
            full_feature_names: name features `view__feature`.
            filter_by_created_timestamp: use only rows created before the entity row's timestamp.
            **unsupported: `start_date` and `end_date`, which Feast passes without `entity_df`.

        Raises:
            ColdStartError: a file or a column is missing, or two features would have one name.
        """
        if entity_df is None:
            raise ColdStartError(
                "this store needs entity_df, a data frame or SQL; for all rows of a time range use "
                "pull_all_from_table_or_query, or SELECT the keys and timestamps that you want"
            )
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        readable = all(is_parquet(view.batch_source) for view in feature_views)
        if not readable or any(view.mode == "substrait" for view in on_demand):
            _no_tags(view.batch_source for view in feature_views)
            return DuckDBOfflineStore.get_historical_features(
                config, feature_views, feature_refs, entity_df, registry, project, full_feature_names,
                filter_by_created_timestamp,
            )  # fmt: skip
        request = HistoricalRequest(
            config, feature_views, feature_refs, entity_df, full_feature_names, filter_by_created_timestamp
        )
        request.plan()
        return ColdStartRetrievalJob(
            config, request.plan, on_demand_feature_views=on_demand, full_feature_names=full_feature_names,
            metadata=request.metadata,
        )  # fmt: skip

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The last row of each key between two instants, both included; all columns if no features are named."""
        if not is_parquet(data_source):
            _no_tags([data_source])
            return DuckDBOfflineStore.pull_latest_from_table_or_query(
                config, data_source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column,
                start_date, end_date,
            )  # fmt: skip
        return pull(
            config, data_source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column,
            start_date, end_date, latest=True,
        )  # fmt: skip

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows between two instants, both included; all columns if no features are named."""
        if not is_parquet(data_source):
            _no_tags([data_source])
            return DuckDBOfflineStore.pull_all_from_table_or_query(
                config, data_source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column,
                start_date, end_date,
            )  # fmt: skip
        return pull(
            config, data_source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column,
            start_date, end_date, latest=False,
        )  # fmt: skip

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Add rows to a view's source: a file is rewritten under a lock, a folder gets a new file.

        Raises:
            ColdStartError: the columns are not those of the source, or values do not fit its types.
        """
        source = feature_view.batch_source
        if source is None:
            raise ColdStartError(f"the feature view {feature_view.name} has no batch source to write to")
        if has_own_function(feature_view):
            _logger.warning(
                "%s: nothing was written to its source, which holds what its function reads, not what it gives; "
                "offline=False says so", feature_view.name,
            )  # fmt: skip
            return
        if not is_parquet(source):
            DuckDBOfflineStore.offline_write_batch(config, feature_view, table, progress)
            return
        offline_write.append(config, source, table)
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Add logged features to the folder of a FileLoggingDestination, which may be relative to the repository."""
        offline_write.write_logs(config, data, logging_config)

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Check a source's tag, and its columns if its files exist; `feast apply` may run before they do.

        Raises:
            ColdStartError: the tag cannot be parsed, or names a column that does not exist.
        """
        if not is_parquet(data_source):
            _no_tags([data_source])
            data_source.validate(config=config)
            return
        asked = embeddings(data_source)
        try:
            files = parquet_files(config, data_source)
        except ColdStartError as error:
            _logger.warning("%s", error)
            return
        if "://" not in files[0]:
            names = [name for name, _ in _schema(files)]
            for one in asked:
                check_embedding(data_source, one, names)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Names and Arrow types of a source's columns; those made by its tag come last."""
        if not is_parquet(data_source):
            return list(data_source.get_table_column_names_and_types(config))
        files = parquet_files(config, data_source)
        remote = "://" in files[0]
        found = list(data_source.get_table_column_names_and_types(config)) if remote else _schema(files)
        for one in embeddings(data_source):
            check_embedding(data_source, one, [name for name, _ in found])
            found += [(one.vector, "list<item: float>"), (one.fingerprint, "string")]
        return found

    @staticmethod
    def compute_monitoring_metrics(
        config: RepoConfig,
        data_source: DataSource,
        feature_columns: list[tuple[str, str]],
        timestamp_field: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        histogram_bins: int = 20,
        top_n: int = 10,
    ) -> list[dict[str, Any]]:
        """The statistics of `feast monitor`, also for folders, relative paths, tags and mapped names."""
        if not is_parquet(data_source):
            found: list[dict[str, Any]] = DuckDBOfflineStore.compute_monitoring_metrics(
                config, data_source, feature_columns, timestamp_field, start_date, end_date, histogram_bins, top_n
            )
            return found
        return monitoring.metrics(
            config, data_source, feature_columns, timestamp_field, start_date, end_date, histogram_bins, top_n
        )

    @staticmethod
    def get_monitoring_max_timestamp(
        config: RepoConfig, data_source: DataSource, timestamp_field: str
    ) -> datetime | None:
        """The last event timestamp of a source; None if it has no rows."""
        if not is_parquet(data_source):
            found: datetime | None
            found = DuckDBOfflineStore.get_monitoring_max_timestamp(config, data_source, timestamp_field)
            return found
        return monitoring.last_timestamp(config, data_source, timestamp_field)


def _no_tags(sources: Iterable[DataSource | None]) -> None:
    for source in sources:
        if source is not None and embeddings(source):
            raise ColdStartError(
                f"source {source.name}: the tag {EMBED_TAG} works on parquet files, and this retrieval reads a "
                f"{type(source).__name__} of another kind too; take it apart, or write the source as parquet"
            )


def _schema(files: Sequence[str]) -> list[tuple[str, str]]:
    """Names and Arrow types of the columns of several files, in Feast's form."""
    schema = pa.unify_schemas([pq.read_schema(file) for file in files], promote_options="permissive")
    return [(field.name, str(field.type)) for field in schema]
