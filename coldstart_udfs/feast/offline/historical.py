"""Turning a request of Feast into SQL: entity rows, views, names of the result's columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.batch_feature_view import BatchFeatureView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.offline.parquet_source import Column, ParquetSource, open_source
from coldstart_udfs.feast.offline.point_in_time import (
    Relation,
    View,
    add_entity_rows,
    gathered,
    match,
    range_query,
    sorted_query,
)
from coldstart_udfs.feast.offline.retrieval_job import ColdStartRetrievalJob, Plan
from coldstart_udfs.feast.offline.session import first_line, open_connection
from coldstart_udfs.quoting import quote_name

if TYPE_CHECKING:
    from feast import FeatureView, RepoConfig
    from feast.infra.offline_stores.file_source import FileSource

# Modes whose function takes a data frame, as in Feast's local engine.
_FRAME_MODES = ("pandas", "python")

# Up to this many entity rows the result is assembled in memory; beyond, DuckDB sorts it, on disk if necessary.
_IN_HAND = 250_000


def has_own_function(view: FeatureView) -> bool:
    """Whether a view's source holds the input of its function, so that the function runs on reading.

    This is not so for a view derived from other views, whose sink holds the output of the function.
    """
    return isinstance(view, BatchFeatureView) and not view.source_views and view.feature_transformation is not None


class _Asked(NamedTuple):
    view: FeatureView
    features: list[str]
    names: list[str]


class HistoricalRequest:
    """One call of `get_historical_features`; each call of `plan` reads the files again.

    Attributes:
        metadata: features, keys and the range of event timestamps.
    """

    def __init__(
        self,
        config: RepoConfig,
        feature_views: Sequence[FeatureView],
        feature_refs: Sequence[str],
        entity_df: pd.DataFrame | str,
        full_feature_names: bool,
        known_then: bool,
    ) -> None:
        self._config = config
        self._known_then = known_then
        if isinstance(entity_df, str):
            self._entities, self._timestamp = _entities_of_sql(config, entity_df)
        else:
            self._entities, self._timestamp = _entities_of_frame(entity_df)
        self._asked = [_asked(view, feature_refs, full_feature_names) for view in feature_views]
        self._refuse_twins()
        first, last = _range(self._entities[self._timestamp])
        self.metadata = RetrievalMetadata(
            features=list(feature_refs), keys=[name for name in self._entities.column_names if name != self._timestamp],
            min_event_timestamp=first, max_event_timestamp=last,
        )  # fmt: skip

    def _refuse_twins(self) -> None:
        seen = dict.fromkeys(self._entities.column_names, "the entity rows")
        for one in self._asked:
            for name in one.names:
                if name in seen:
                    raise ColdStartError(
                        f"{name!r} is both a feature of {one.view.name} and a column of {seen[name]}; ask for "
                        "full_feature_names=True, or rename the entity rows' column"
                    )
                seen[name] = one.view.name

    def plan(self) -> Plan:
        """Open the sources and check that all requested columns exist."""
        views = [_Prepared(open_source(self._config, one.view.batch_source), one) for one in self._asked]
        for view in views:
            view.check(self._entities.column_names)
        names = [*self._entities.column_names, *(name for one in self._asked for name in one.names)]

        columns = self._entities.column_names

        def matched(con: duckdb.DuckDBPyConnection) -> list[View]:
            add_entity_rows(con, self._entities, self._timestamp)
            ready = [view.ready(con, number) for number, view in enumerate(views)]
            match(con, columns, ready, known_then=self._known_then)
            return ready

        sources = [view.source for view in views]
        nulls = frozenset(field.name for field in self._entities.schema if pa.types.is_null(field.type))
        return Plan(
            sources, names, any(view.calls for view in views), lambda con: sorted_query(columns, matched(con)), nulls,
            (lambda con: gathered(con, columns, matched(con))) if len(self._entities) <= _IN_HAND else None,
        )  # fmt: skip


class _Prepared:
    """A feature view with its source opened."""

    def __init__(self, source: ParquetSource, asked: _Asked) -> None:
        self.source = source
        self._view = asked.view
        self._features = asked.features
        self._columns = source.named
        join_keys = asked.view.projection.join_key_map or {}
        self._keys = {
            column.name: join_keys.get(column.name, column.name)
            for column in asked.view.entity_columns
            if column.name != DUMMY_ENTITY_ID
        }
        batch = asked.view.batch_source
        self._timestamp = self._mapped(batch.timestamp_field)
        self._created = self._mapped(batch.created_timestamp_column) if batch.created_timestamp_column else None
        self._applies = has_own_function(asked.view)

    @property
    def calls(self) -> bool:
        """Whether reading the view calls our functions."""
        wanted = self._columns if self._applies else self._features
        return any(self._columns[name].calls for name in wanted if name in self._columns)

    def _mapped(self, name: str) -> str:
        return self.source.mapping.get(name, name)

    def _needed(self) -> dict[str, str]:
        named = dict.fromkeys([self._timestamp], "which is its event timestamp")
        if self._created:
            named[self._created] = "which is its created timestamp"
        named |= dict.fromkeys(self._keys, f"a join key of the feature view {self._view.name}")
        return named | {
            name: f"a feature of the feature view {self._view.name}" for name in self._features if name not in named
        }

    def check(self, entity_columns: Sequence[str]) -> None:
        for key, entity in self._keys.items():
            if entity not in entity_columns:
                raise ColdStartError(
                    f"the entity rows have no column {entity!r}, the join key {key} of the feature view "
                    f"{self._view.name}; they have {', '.join(map(str, entity_columns))}"
                )
        if self._applies:
            mode = getattr(self._view.mode, "value", self._view.mode)
            if mode in _FRAME_MODES:
                return
            missing = [name for name in self._features if name not in self._columns]
            if missing:
                raise ColdStartError(
                    f"the feature view {self._view.name} has a function of mode {mode!r}, which is not run on reading, "
                    f"and {self.source.label} has no column {missing[0]!r}; give it mode 'pandas', or materialise it"
                )
            self._applies = False
        for name, why in self._needed().items():
            self.source.column(name, self._columns, why)

    def ready(self, con: duckdb.DuckDBPyConnection, number: int) -> View:
        relation = Relation(self.source.scan, self.source.row_id, self._columns)
        if self._applies:
            relation = self._applied(con, f"given{number}")
        return View(relation, self._keys, self._timestamp, self._created, self._features, self._view.ttl or None)

    def _applied(self, con: duckdb.DuckDBPyConnection, name: str) -> Relation:
        """The output of the view's function for the whole source, as in Feast's local engine."""
        selected = ", ".join(
            f"{column.sql} AS {quote_name(label)}" for label, column in self._columns.items()
        )
        read = con.sql(f"SELECT {selected} FROM {self.source.scan}").to_arrow_table().to_pandas()
        given: Any = self._view.feature_transformation.udf(read)
        if not isinstance(given, pd.DataFrame):
            raise ColdStartError(
                f"the function of the feature view {self._view.name} gave a {type(given).__name__}; it must give a "
                "pandas DataFrame"
            )
        missing = [column for column in self._needed() if column not in given.columns and column != self._created]
        if missing:
            raise ColdStartError(
                f"the function of the feature view {self._view.name} gave no column {missing[0]!r}, "
                f"{self._needed()[missing[0]]}; it gave {', '.join(map(str, given.columns))}"
            )
        if self._created not in given.columns:
            self._created = None
        wanted = [column for column in self._needed() if column in given.columns]
        table = pa.Table.from_pandas(given[wanted], preserve_index=False)
        labels = [f"c{place}" for place in range(len(wanted))]
        con.register(name, table.rename_columns(labels).append_column("row_id", pa.array(np.arange(table.num_rows))))
        return Relation(name, "row_id", {column: Column(label) for column, label in zip(wanted, labels, strict=True)})


def _asked(view: FeatureView, references: Sequence[str], full_names: bool) -> _Asked:
    mark = f"{view.projection.name_to_use()}:"
    features = list(dict.fromkeys(one.removeprefix(mark) for one in references if one.startswith(mark)))
    # As Feast names columns: without the version that name_to_use() may add.
    prefix = f"{view.projection.name_alias or view.name}__" if full_names else ""
    return _Asked(view, features, [f"{prefix}{feature}" for feature in features])


def _entities_of_frame(frame: pd.DataFrame) -> tuple[pa.Table, str]:
    timestamp = infer_event_timestamp_from_entity_df(dict(zip(frame.columns, frame.dtypes, strict=True)))
    instants = frame[timestamp].infer_objects()
    if pd.api.types.is_string_dtype(instants) or pd.api.types.is_object_dtype(instants):
        instants = pd.to_datetime(instants, utc=True)
    try:
        return pa.Table.from_pandas(frame.assign(**{timestamp: instants}), preserve_index=False), timestamp
    except pa.ArrowInvalid as error:
        raise ColdStartError(f"the entity rows hold a column of mixed types: {first_line(error)}") from None


def _entities_of_sql(config: RepoConfig, query: str) -> tuple[pa.Table, str]:
    try:
        with open_connection(config, functions=True) as con:
            rows = con.sql(query).to_arrow_table()
    except duckdb.Error as error:
        raise ColdStartError(
            f"entity_df as SQL failed: {first_line(error)}; it must give entity keys and event_timestamp, as in "
            "SELECT user_id, event_timestamp FROM 'data/interactions.parquet'"
        ) from None
    except AttributeError:
        raise ColdStartError(f"entity_df as SQL gives no rows: {query!r}; it must be a SELECT") from None
    kinds = rows.schema.empty_table().to_pandas().dtypes
    name = infer_event_timestamp_from_entity_df(dict(kinds))
    kind = rows.schema.field(name).type
    if not pa.types.is_timestamp(kind):
        try:
            instants = pd.to_datetime(rows[name].to_pandas(), utc=True)
            rows = rows.set_column(rows.column_names.index(name), name, pa.Array.from_pandas(instants))
        except (ValueError, TypeError):
            raise ColdStartError(f"entity_df gives {name} as {kind}; write CAST({name} AS TIMESTAMP)") from None
    return rows, name


def _range(instants: pa.ChunkedArray) -> tuple[datetime | None, datetime | None]:
    # In microseconds: Arrow returns nanoseconds as a type of pandas.
    ends = pc.min_max(instants.cast(pa.timestamp("us", tz=instants.type.tz), safe=False))
    return ends["min"].as_py(), ends["max"].as_py()


def pull(
    config: RepoConfig,
    source: FileSource,
    keys: Sequence[str],
    features: Sequence[str],
    timestamp: str,
    created: str | None,
    start: datetime | None,
    end: datetime | None,
    *,
    latest: bool,
) -> ColdStartRetrievalJob:
    """Rows of a source between two instants, or only the last row of each key."""

    def plan() -> Plan:
        opened = open_source(config, source)
        # Feast names no features if the function of a BatchFeatureView needs all columns.
        wanted = list(features) or [name for name in opened.columns if name != "__log_date"]
        names = list(dict.fromkeys([*keys, *wanted, timestamp, *([created] if created else [])]))
        for name in names:
            opened.column(name, opened.columns, "which is asked for")
        calls = any(opened.columns[name].calls for name in names)
        sql = range_query(
            opened, names, timestamp, start, end, latest_of=list(keys) if latest else None, created=created
        )
        if not keys:
            # Views without entities have this key in the online store.
            names.append(DUMMY_ENTITY_ID)
            sql = f"SELECT *, '{DUMMY_ENTITY_VAL}' FROM ({sql})"
        return Plan([opened], names, calls, lambda con: sql)

    plan()
    return ColdStartRetrievalJob(config, plan)
