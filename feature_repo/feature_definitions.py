"""Entities, sources, views and services of the shop.

`coldstart profiles` writes the Parquet sources with the files in `sql/`. The name of every stored feature contains its
entity, because Feast drops or confuses names that two views share.
"""

import warnings
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.types import Array, Float32, Int64, String

from coldstart_udfs.feast import enriched_views, linked_views
from coldstart_udfs.link import is_linked
from coldstart_udfs.made_from import warn_of_changed_data
from coldstart_udfs.settings import Enrichment

# The warning concerns historical retrieval, which the offline store reads in batches.
warnings.filterwarnings("ignore", "On demand feature view is an experimental feature", RuntimeWarning)

HERE = Path(__file__).resolve().parent
# α, β and the encoder, from enrichment.json beside this file, or the defaults. `coldstart train` writes the fitted α;
# the next `feast apply` shows the change.
ENRICHMENT = Enrichment.of_repo(HERE)
# `feast apply` warns if `coldstart ingest` has run since the last `coldstart profiles`.
warn_of_changed_data(HERE)


def source(table: str, fingerprint: str, path: str) -> FileSource:
    """Return a Parquet source written by `coldstart profiles`: a file, or a folder that `coldstart put` adds to.

    The column `embedding_fingerprint` is mapped to the name `fingerprint`.
    """
    return FileSource(
        name=f"{table}_source",
        path=path,
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        field_mapping={"embedding_fingerprint": fingerprint},
    )


user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)

# Behaviour: the profile P and its evidence n (the number of interactions).
user_profiles = FeatureView(
    name="user_profiles",
    entities=[user],
    schema=[
        Field(name="user_profile", dtype=Array(Float32)),
        Field(name="user_evidence", dtype=Int64),
        Field(name="user_profile_fingerprint", dtype=String),
    ],
    source=source("user_profiles", "user_profile_fingerprint", "data/user_profiles.parquet"),
)
item_profiles = FeatureView(
    name="item_profiles",
    entities=[item],
    schema=[
        Field(name="item_profile", dtype=Array(Float32)),
        Field(name="item_evidence", dtype=Int64),
        Field(name="item_profile_fingerprint", dtype=String),
    ],
    source=source("item_profiles", "item_profile_fingerprint", "data/item_profiles.parquet"),
)

# Text: the description d, its embedding M(d), and attributes as "column=value".
user_descriptions = FeatureView(
    name="user_descriptions",
    entities=[user],
    schema=[
        Field(name="user_description", dtype=String),
        Field(name="user_attributes", dtype=Array(String)),
        Field(name="user_embedding", dtype=Array(Float32)),
        Field(name="user_text_fingerprint", dtype=String),
    ],
    source=source("user_descriptions", "user_text_fingerprint", "data/user_descriptions"),
)
item_descriptions = FeatureView(
    name="item_descriptions",
    entities=[item],
    schema=[
        Field(name="item_description", dtype=String),
        Field(name="item_attributes", dtype=Array(String)),
        Field(name="item_embedding", dtype=Array(Float32)),
        Field(name="item_text_fingerprint", dtype=String),
    ],
    source=source("item_descriptions", "item_text_fingerprint", "data/item_descriptions"),
)

# Enrichment, P' = P + α(n)·M(d), computed when features are read.
user_enriched, user_enriched_training, user_enriched_request = enriched_views(
    "user",
    [user_profiles, user_descriptions],
    description="user_embedding",
    alpha=ENRICHMENT.alpha,
    evidence_scale=ENRICHMENT.evidence_scale,
    model=ENRICHMENT.model,
    backend=ENRICHMENT.backend,
)
item_enriched, item_enriched_training, item_enriched_request = enriched_views(
    "item",
    [item_profiles, item_descriptions],
    description="item_embedding",
    alpha=ENRICHMENT.beta,
    evidence_scale=ENRICHMENT.evidence_scale,
    model=ENRICHMENT.model,
    backend=ENRICHMENT.backend,
)

STORED = [user_profiles, user_descriptions, item_profiles, item_descriptions]

# The same features under the same names: python views for the online store, pandas views for history.
coldstart_serving = FeatureService(name="coldstart_serving", features=[*STORED, user_enriched, item_enriched])
coldstart_training = FeatureService(
    name="coldstart_training", features=[*STORED, user_enriched_training, item_enriched_training]
)
# For users whose description comes with the request; the only service that needs `request_description`.
# For items whose description comes with the request, use features of the view item_enriched_request.
coldstart_request = FeatureService(
    name="coldstart_request", features=[user_profiles, user_enriched_request]
)

# Profiles of another shop, if `coldstart link` has linked it to this one.
if is_linked(HERE):
    linked_profiles, user_linked, user_linked_training = linked_views(HERE, user)
    coldstart_linked = FeatureService(name="coldstart_linked", features=[linked_profiles, user_linked])
    coldstart_linked_training = FeatureService(
        name="coldstart_linked_training", features=[linked_profiles, user_linked_training]
    )

# Scalars about data quality, for `feast monitor`; README.md shows how to log them.
QUALITY = ("is_cold", "has_description", "embedding_norm", "enriched_cosine")
coldstart_quality = FeatureService(
    name="coldstart_quality",
    features=[user_enriched[[f"user_{name}" for name in QUALITY]], item_enriched[[f"item_{name}" for name in QUALITY]]],
    logging_config=LoggingConfig(destination=FileLoggingDestination(path="data/served")),
)
