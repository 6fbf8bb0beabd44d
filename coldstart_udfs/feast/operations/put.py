"""Writing new descriptions of users or items to the online and the offline store."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.encoder.encoder import Encoder, shared_encoder
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.feast.offline.session import first_line
from coldstart_udfs.feast.operations.registry import serving
from coldstart_udfs.feast.operations.stores import join_key, local_places, open_store, parquet_files
from coldstart_udfs.profile import band_label, has_text
from coldstart_udfs.settings import Enrichment

if TYPE_CHECKING:
    import pandas as pd

# What a `coldstart put` locks in the repository's data folder.
PUT = "put"

_SURROGATE = re.compile("[\ud800-\udfff]")
_BAND = re.compile(r"2\^-?[0-9]+")


@dataclass(frozen=True)
class Put:
    """The result of `put`; arrays have one element for each id.

    Attributes:
        entity: name of the entity, such as "user" or "item".
        ids: ids of the entities.
        event_timestamp: event timestamp of the rows, UTC.
        fingerprint: fingerprint of the encoder that made the embeddings.
        evidence: (n,) number of interactions in the stored profile P; 0 for a cold entity.
        norm: (n,) norm of the enriched profile P' that the online store returns now.
        truncated: (n,) whether the text is longer than the encoder reads.
        retrievable: (n,) whether the online store returns the new description.
        seconds: time taken, without opening the store.
    """

    entity: str
    ids: list[str]
    event_timestamp: datetime
    fingerprint: str
    evidence: NDArray[np.int64]
    norm: NDArray[np.float64]
    truncated: NDArray[np.bool_]
    retrievable: NDArray[np.bool_]
    seconds: float


def put(
    store: Any,
    entity: str,
    ids: str | Iterable[str],
    descriptions: str | Iterable[str],
    attributes: Sequence[Any] | None = None,
) -> Put:
    """Embed descriptions and write them to the offline and the online store of a Feast repository.

    A call takes one entity or many: strings, or columns of a data frame. Profiles P do not change. Rows are written to
    the view `{entity}_descriptions`: first to the offline store, then to the online store, so that history has every
    row that serving reads.

    Args:
        store: a FeatureStore, or the folder of its repository.
        entity: "user" or "item".
        ids: one or several ids, each once.
        descriptions: one text for each id.
        attributes: for one id "column=value" texts, for several a list of these for each; None keeps the attributes of
            the online store. Numbers of columns that are numeric in the tables are put as bands: "price=3.5" becomes
            "price=2^1". (Numeric columns are known only if the source is on this machine; otherwise give the band.)

    Raises:
        FingerprintError: the repository's encoder is not that of its views; nothing was written.
        ColdStartError: an id or a text cannot be used, or the repository does not accept the rows; nothing was written.
            Or a store failed: then the message says what was written.
    """
    names, texts, labels = _checked(entity, ids, descriptions, attributes)
    store = open_store(store) if isinstance(store, (str, Path)) else store
    began = time.perf_counter()
    view, key = _view(store, entity), join_key(store, entity)
    settings = Enrichment.of_repo(Path(store.repo_path))
    encoder = shared_encoder(settings.model, backend=settings.backend)
    known = _known(store, view, entity, key, names, encoder)
    if labels is not None:
        numeric = _numeric_attributes(store, view)
        labels = [[_banded(label, numeric) for label in row] for row in labels]
    else:
        labels = [list(row) if row is not None else [] for row in known[f"{entity}_attributes"]]

    import pandas as pd

    # A Python datetime, in microseconds: parquet sources have no nanoseconds, and Feast casts without rounding.
    now = datetime.now(UTC)
    frame = pd.DataFrame({
        key: names, f"{entity}_description": texts, f"{entity}_attributes": pd.Series(labels, dtype=object),
        f"{entity}_embedding": list(encoder.encode(texts)), f"{entity}_text_fingerprint": encoder.fingerprint,
        view.batch_source.timestamp_field: pd.Series([now] * len(names)).dt.as_unit("us"),
    })  # fmt: skip
    _write(store, view, frame)
    evidence, norm, retrievable = _read_back(store, view, entity, key, names, texts, encoder)
    return Put(
        entity, names, now, encoder.fingerprint, evidence, norm, encoder.truncated(texts), retrievable,
        time.perf_counter() - began,
    )  # fmt: skip


def _checked(
    entity: str, ids: str | Iterable[str], descriptions: str | Iterable[str], attributes: Sequence[Any] | None
) -> tuple[list[str], list[str], list[list[str]] | None]:
    names: list[Any]
    texts: list[Any]
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        names, texts = [ids], [descriptions]
        attributes = None if attributes is None else [attributes]
    else:
        names, texts = list(ids), [descriptions] if isinstance(descriptions, str) else list(descriptions)
    labels = None if attributes is None else [_labels(row) for row in attributes]
    for what, values in (("descriptions", texts), ("lists of attributes", labels)):
        if values is not None and len(values) != len(names):
            raise ColdStartError(f"{len(names)} ids and {len(values)} {what}; give one for each id")
    if not names:
        raise ColdStartError(f"no {entity} was given; name at least one id and its description")
    for name in names:
        if not isinstance(name, str) or not has_text(name) or name != name.strip() or _SURROGATE.search(name):
            raise ColdStartError(
                f"{name!r} is no {entity}_id: ids are strings of valid Unicode, not blank, no space at either end"
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ColdStartError(f"the {entity} {twice!r} is given twice; give one description for each id")
    for name, text in zip(names, texts, strict=True):
        if not has_text(text):
            raise ColdStartError(
                f"the description of {entity} {name!r} is {text!r}, which has no words; give a text. "
                f"`coldstart forget --{entity}-id` removes a description"
            )
    # As in the encoder: stores do not accept a lone surrogate.
    return names, [_SURROGATE.sub("\ufffd", text) for text in texts], labels


def _labels(row: Any) -> list[str]:
    labels = [row] if isinstance(row, str) else list(row)
    for label in labels:
        if not isinstance(label, str) or not label.partition("=")[1] or not label.partition("=")[0].strip():
            raise ColdStartError(f"the attribute {label!r} is not column=value, such as country=France")
    return labels


def _numeric_attributes(store: Any, view: Any) -> set[str]:
    """The numeric columns, from the metadata that `coldstart profiles` wrote to the source's files."""
    import pyarrow.parquet as pq

    try:
        files = parquet_files(local_places(view.batch_source, store.config))
    except ColdStartError:  # the source is not on this machine
        return set()
    noted = ((pq.read_schema(path).metadata or {}).get(b"numeric_attributes") for path in files)
    return {name for names in noted if names for name in json.loads(names)}


def _banded(label: str, numeric: set[str]) -> str:
    """A label as the tables have it: a number becomes its band.

    >>> _banded("price=3.5", {"price"}), _banded("price=-1", {"price"}), _banded("size=3.5", {"price"})
    ('price=2^1', 'price<=0', 'size=3.5')
    """
    column, _, value = label.partition("=")
    if column not in numeric or _BAND.fullmatch(value):
        return label
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ColdStartError(
            f"the attribute {label!r} is no number, and the tables' column {column!r} holds numbers; give it like "
            f"{column}=3.5. Nothing was written"
        )
    return band_label(column, number)


def _view(store: Any, entity: str) -> Any:
    """The view of descriptions, which must have exactly the features that `put` writes."""
    views = {view.name: view for view in store.list_feature_views()}
    name = f"{entity}_descriptions"
    if name not in views:
        raise ColdStartError(f"{store.repo_path} has no view {name!r}, where a put goes; it has {sorted(views)}")
    wanted = {f"{entity}_{part}" for part in ("description", "attributes", "embedding", "text_fingerprint")}
    found = {field.name for field in views[name].features}
    if wanted != found:
        raise ColdStartError(
            f"the view {name} has the features {sorted(found)}; a put fills {sorted(wanted)}. Make rows of your own "
            "and write them with Feast's write_to_offline_store() and write_to_online_store()"
        )
    return views[name]


def _known(
    store: Any, view: Any, entity: str, key: str, names: list[str], encoder: Encoder
) -> dict[str, list[Any]]:
    """The online values of the ids, after a check that stored vectors and views are of this encoder."""
    feature = f"{entity}_profile_fingerprint"
    known = _online(store, [f"{entity}_profiles:{feature}", f"{view.name}:{entity}_attributes"], key, names)
    profiles = {found: "the stored profile of a given id" for found in known[feature] if found is not None}
    # A random id reads the fingerprint of the view itself. The old vector of the text may be of another encoder: it is
    # replaced.
    asked = f"{entity}_enriched:{entity}_embedding_fingerprint"
    (registered,) = _online(store, [asked], key, [uuid4().hex])[f"{entity}_embedding_fingerprint"]
    for found, found_in in {registered: f"the registered view {entity}_enriched", **profiles}.items():
        if found != encoder.fingerprint:
            raise FingerprintError(
                found=found, found_in=found_in, expected=encoder.fingerprint,
                expected_by=f"enrichment.json of {store.repo_path}",
                remedy="Nothing was written. Run `coldstart profiles`, then `feast apply` and `feast materialize`.",
            )  # fmt: skip
    return known


def _write(store: Any, view: Any, frame: pd.DataFrame) -> None:
    """Write rows, with columns named as features, to the offline store, then to the online store.

    Feast's `push` is not used: it writes online first, so that a failing offline store would leave rows that history
    does not have; and in 0.67 it passes feature names to the offline store where the source has other column names.
    """
    import pyarrow as pa

    source = view.batch_source
    try:
        names = [
            name for name, _ in store.provider.get_table_column_names_and_types_from_data_source(store.config, source)
        ]
        columns = {feature: name for name, feature in source.field_mapping.items() if name in names}
        table = pa.Table.from_pandas(frame.rename(columns=columns), preserve_index=False)
        if set(names) != set(table.column_names):
            raise ColdStartError(f"its columns are {sorted(names)}, and a put fills {sorted(table.column_names)}")
        store.provider.offline_write_batch(store.config, view, table.select(names).replace_schema_metadata(), None)
    except Exception as error:
        raise ColdStartError(
            f"the offline store of {view.name} failed, and nothing was written: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error
    try:
        store.write_to_online_store(view.name, frame)
    except Exception as error:
        raise ColdStartError(
            f"the rows are in the offline store, but the online store failed: {type(error).__name__}: "
            f"{first_line(error)}. When it works again run the same put once more, or `feast materialize-incremental`"
        ) from error


def _read_back(
    store: Any, view: Any, entity: str, key: str, names: list[str], texts: list[str], encoder: Encoder
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    enriched = f"{entity}_enriched_profile"
    wanted = [f"{view.name}:{entity}_{part}" for part in ("description", "text_fingerprint")]
    wanted += [f"{entity}_profiles:{entity}_evidence", f"{entity}_enriched:{enriched}"]
    found = _online(store, wanted, key, names)
    evidence = np.array([count or 0 for count in found[f"{entity}_evidence"]], dtype=np.int64)
    norm = np.linalg.norm(np.array(found[enriched], dtype=np.float64), axis=1)
    read = zip(found[f"{entity}_description"], found[f"{entity}_text_fingerprint"], strict=True)
    retrievable = [pair == (text, encoder.fingerprint) for pair, text in zip(read, texts, strict=True)]
    return evidence, norm, np.array(retrievable)


def _online(store: Any, features: list[str], key: str, names: list[str]) -> dict[str, list[Any]]:
    with serving(store):
        answer: dict[str, list[Any]] = store.get_online_features(features, [{key: name} for name in names]).to_dict()
    return answer
