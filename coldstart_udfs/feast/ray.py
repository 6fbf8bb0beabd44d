"""Texts become vectors while Feast materialises: a BatchFeatureView that Ray computes, one encoder in each actor."""

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

# Feast keeps a function with dill, by value: this one is a few lines, and its parameters show in `feast apply`'s diff.
_SOURCE = """\
def {view}(dataset):
    from coldstart_udfs.feast.ray import Embedding

    return Embedding(
{parameters}
    ).of(dataset)
"""


@dataclass(frozen=True)
class Embedding:
    """What a registered view does to a Ray dataset.

    Attributes:
        text: the column with the texts.
        embedding: the column that is added with their vectors; NULL without text.
        fingerprint: the column that is added with the encoder's name.
        encoder: the fingerprint that the encoder of each actor must have.
        backend: of the encoder.
        model: of the encoder; None is the embedded one.
        workers: actors, one processor each; None is one less than the cluster has.
    """

    text: str
    embedding: str
    fingerprint: str
    encoder: str
    backend: str
    model: str | None = None
    workers: int | None = None

    def of(self, dataset: Dataset) -> Dataset:
        """The dataset with both columns, computed.

        Raises:
            ColdStartError: it is no Ray dataset, the cluster has too few processors, or rows were lost. What an actor
                raises comes as a RayTaskError, with its message.
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
            # Whoever hands out the rows needs one too, or all wait for ever.
            raise ColdStartError(
                f"{max(workers, 1)} workers and one processor to read with are more than the cluster's {processors} "
                "processors; pass workers= to embedding_view, or ray_conf: {num_cpus: …} to the batch engine"
            )
        rows = int(dataset.count())
        # Computed here and once: Feast looks at a lazy dataset several times, and a count of it would embed it again.
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
    """A view whose source has texts and whose features are their vectors; `feast materialize` embeds them, on Ray.

    Its features are what `enriched_views(…, description=embedding)` takes.

    Args:
        name: of the view.
        source: has `text`, the entities' keys and timestamps. It is read through the offline store.
        entities: of the view.
        text: the column with the texts.
        embedding: the feature with the vector, an Array(Float32); NULL where the text is NULL or blank.
        fingerprint: the feature with the encoder's name, a String; end it in `_fingerprint`.
        model: the encoder; None is the embedded one. Its files are read, it is not loaded.
        backend: what runs it; None is "auto", decided now.
        workers: actors, one processor each; None is one less than the cluster has.
        **options: what BatchFeatureView takes besides: `ttl`, `tags`, `owner` …

    Raises:
        ColdStartError: the encoder is not there.
    """
    from feast import BatchFeatureView, Field
    from feast.types import Array, Float32, String

    encoder = shared_encoder(model, backend=backend)
    work = Embedding(text, embedding, fingerprint, encoder.fingerprint, encoder.backend, model, workers)
    parameters = "\n".join(f"        {field.name}={getattr(work, field.name)!r}," for field in fields(work))
    function = name if name.isidentifier() else "embed"
    code = _SOURCE.format(view=function, parameters=parameters)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(code, namespace)  # noqa: S102 - the text above; Feast itself runs functions the same way
    schema = [Field(name=embedding, dtype=Array(Float32)), Field(name=fingerprint, dtype=String)]
    settings: dict[str, Any] = {"online": True, "offline": False, **options}
    return BatchFeatureView(
        name=name, mode="ray", source=source, entities=list(entities), schema=schema,
        udf=namespace[function], udf_string=code, **settings,
    )  # fmt: skip


def check_materialized(store: FeatureStore, name: str, start: datetime, end: datetime) -> int:
    """Count what `store.materialize(start, end)` brought to the online store, of an embedding view.

    Feast's Ray engine only logs it when the online store refuses a write; the materialization still succeeds.

    Args:
        store: the repository.
        name: of the view.
        start: as for `materialize`.
        end: as for `materialize`.

    Returns:
        Entities of the source between both instants; each has this row, or a later one, in the online store.

    Raises:
        ColdStartError: some have none; the message says how many, and names three.
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
        # A row that was there before hides a write that was refused; its timestamp does not.
        written = zip(rows, found[fingerprint], found[f"{fingerprint}__ts"], seconds[start_row:], strict=False)
        missing += [row for row, encoder, at, due in written if encoder is None or at < due]
    if missing:
        raise ColdStartError(
            f"{name}: {len(missing):,} of {len(entities):,} entities are not in the online store as they are in the "
            "source, the first "
            f"{missing[:3]}; look at Feast's log, mend the store and materialize again"
        )
    return len(entities)


class _Embedder:
    """One actor: an encoder on one processor, which it keeps."""

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
