"""A BatchFeatureView that embeds texts on Ray while Feast materialises, with one encoder in each actor."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from coldstart_udfs.encoder.bulk import EMBEDDING, FINGERPRINT, embed_table
from coldstart_udfs.encoder.encoder import Encoder, shared_encoder
from coldstart_udfs.errors import ColdStartError, FingerprintError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from feast import BatchFeatureView, Entity, FeatureStore
    from feast.data_source import DataSource
    from ray.data import Dataset

_ROWS = 2_048
_REMEDY = "Install the same feast-coldstart on every node, or run `feast apply` again with this one."

# Feast stores a function with dill, by value: this one is short, and `feast apply` shows its parameters in the diff.
_SOURCE = """\
def {view}(dataset):
    from coldstart_udfs.feast.ray import Embedding

    return Embedding(
{parameters}
    ).of(dataset)
"""


@dataclass(frozen=True)
class Embedding:
    """The function of a registered view, on a Ray dataset.

    Attributes:
        text: the column with the texts.
        embedding: the column to add with their vectors; NULL without text.
        fingerprint: the column to add with the encoder's fingerprint.
        encoder: the fingerprint that the encoder of each actor must have.
        backend: backend of the encoder.
        model: model of the encoder; None is the embedded one.
        workers: number of actors with one processor each; None is one less than the cluster's processors.
    """

    text: str
    embedding: str
    fingerprint: str
    encoder: str
    backend: str
    model: str | None = None
    workers: int | None = None

    def of(self, dataset: Dataset) -> Dataset:
        """Compute the dataset with both columns.

        Raises:
            ColdStartError: it is not a Ray dataset, the cluster has too few processors, or rows were lost. Errors in
                an actor are raised as RayTaskError with their message.
        """
        if not hasattr(dataset, "map_batches"):
            raise ColdStartError(
                f"this view embeds on Ray and was handed a {type(dataset).__name__}; "
                "feature_store.yaml needs `batch_engine: {type: ray.engine}`"
            )
        import ray

        processors = int(ray.cluster_resources().get("CPU", 0))
        workers = processors - 1 if self.workers is None else self.workers
        if not 1 <= workers < processors:
            # Reading the rows needs a processor too, or all tasks wait for ever.
            raise ColdStartError(
                f"{max(workers, 1)} workers and one processor to read with are more than the cluster's {processors} "
                "processors; pass workers= to embedding_view, or ray_conf: {num_cpus: …} to the batch engine"
            )
        rows = int(dataset.count())
        # Materialised here: Feast reads a dataset several times, and a lazy one would be embedded each time.
        embedded = dataset.map_batches(
            _Embedder, fn_constructor_args=(self,), batch_format="pyarrow", batch_size=_ROWS,
            compute=ray.data.ActorPoolStrategy(size=workers), num_cpus=1,
        ).materialize()  # fmt: skip
        if embedded.count() != rows:
            raise ColdStartError(f"{rows:,} texts went in and {embedded.count():,} came out; look at Ray's log")
        return embedded


def embedding_view(
    name: str,
    source: DataSource,
    *,
    entities: Sequence[Entity],
    text: str,
    embedding: str,
    fingerprint: str,
    model: str | None = None,
    backend: str | None = None,
    workers: int | None = None,
    **options: Any,
) -> BatchFeatureView:
    """A view over a source of texts, whose features are their vectors; `feast materialize` embeds them on Ray.

    `enriched_views(…, description=embedding)` takes its features.

    Args:
        name: name of the view.
        source: a source with `text`, the entities' keys and timestamps. It is read through the offline store.
        entities: entities of the view.
        text: the column with the texts.
        embedding: the feature with the vector, an Array(Float32); NULL where the text is NULL or blank.
        fingerprint: the feature with the encoder's fingerprint, a String whose name ends in `_fingerprint`.
        model: the encoder; None is the embedded one. Its files are read; it is not loaded.
        backend: the encoder's backend; None is "auto", resolved now.
        workers: number of actors with one processor each; None is one less than the cluster's processors.
        **options: other parameters of BatchFeatureView: `ttl`, `tags`, `owner` …

    Raises:
        ColdStartError: the encoder does not exist or is not installed.
    """
    from feast import BatchFeatureView, Field
    from feast.types import Array, Float32, String

    encoder = shared_encoder(model, backend=backend)
    work = Embedding(text, embedding, fingerprint, encoder.fingerprint, encoder.backend, model, workers)
    parameters = "\n".join(f"        {field.name}={getattr(work, field.name)!r}," for field in fields(work))
    function = name if name.isidentifier() else "embed"
    code = _SOURCE.format(view=function, parameters=parameters)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(code, namespace)  # noqa: S102 - the text above, as Feast itself does it # nosec B102
    schema = [Field(name=embedding, dtype=Array(Float32)), Field(name=fingerprint, dtype=String)]
    settings: dict[str, Any] = {"online": True, "offline": False, **options}
    return BatchFeatureView(
        name=name, mode="ray", source=source, entities=list(entities), schema=schema,
        udf=namespace[function], udf_string=code, **settings,
    )  # fmt: skip


def check_materialized(store: FeatureStore, name: str, start: datetime, end: datetime) -> int:
    """Check that `store.materialize(start, end)` wrote all rows of an embedding view to the online store.

    If the online store refuses a write, Feast's Ray engine only logs it, and the materialization succeeds.

    Args:
        store: the Feast store.
        name: name of the view.
        start: as for `materialize`.
        end: as for `materialize`.

    Returns:
        The number of entities of the source between both instants. Each has this row, or a later one, online.

    Raises:
        ColdStartError: entities are missing; the message says how many, and names three.
    """
    view = store.get_feature_view(name)
    (fingerprint,) = [field.name for field in view.features if str(field.dtype) == "String"]
    source, keys = view.batch_source, list(view.join_keys)
    latest = store._get_provider().offline_store.pull_latest_from_table_or_query(
        config=store.config, data_source=source, join_key_columns=keys, feature_name_columns=[],
        timestamp_field=source.timestamp_field, created_timestamp_column=source.created_timestamp_column or None,
        start_date=start, end_date=end,
    )  # fmt: skip
    expected = latest.to_arrow()
    seconds = expected[source.timestamp_field].cast(pa.timestamp("s"), safe=False).cast(pa.int64()).to_pylist()
    entities = expected.select(keys).to_pylist()
    missing: list[dict[str, Any]] = []
    for start_row in range(0, len(entities), _ROWS):
        rows = entities[start_row : start_row + _ROWS]
        answer = store.get_online_features(features=[f"{name}:{fingerprint}"], entity_rows=rows)
        found = answer.to_dict(include_event_timestamps=True)
        # Timestamps are compared, because a row from before may hide that a write was refused.
        written = zip(rows, found[fingerprint], found[f"{fingerprint}__ts"], seconds[start_row:], strict=False)
        missing += [row for row, encoder, at, due in written if encoder is None or at < due]
    if missing:
        raise ColdStartError(
            f"{name}: {len(missing):,} of {len(entities):,} entities are not in the online store as they are in the "
            "source, the first "
            f"{missing[:3]}; look at Feast's log, repair the store and materialize again"
        )
    return len(entities)


class _Embedder:
    """An actor with an encoder on one processor."""

    def __init__(self, work: Embedding) -> None:
        self._encoder = Encoder(work.model, backend=work.backend, threads=1)
        self._work = work
        if self._encoder.fingerprint != work.encoder:
            raise FingerprintError(
                found=self._encoder.fingerprint, found_in="this Ray node", expected=work.encoder,
                expected_by="the registered view", remedy=_REMEDY,
            )  # fmt: skip

    def __call__(self, batch: pa.Table) -> pa.Table:
        done = embed_table(batch, self._work.text, self._encoder)
        names = {EMBEDDING: self._work.embedding, FINGERPRINT: self._work.fingerprint}
        return done.rename_columns([names.get(name, name) for name in done.column_names]).replace_schema_metadata()
