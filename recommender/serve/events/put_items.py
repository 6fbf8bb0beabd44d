"""Items that were put after a bundle was trained, for who recommends without a service."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from coldstart_udfs.encoder.encoder import Encoder
from recommender.data.entities import describe
from recommender.model.bundle import read_manifest
from recommender.model.fitted import Fitted
from recommender.model.freshness import utc
from recommender.model.revising import described
from recommender.serve.events.changes import Description
from recommender.serve.events.labels import banded, numeric_columns
from recommender.serve.events.opening import open_log, watermark_of
from recommender.serve.events.schema import exists


def put_items(bundle: Path, events: str) -> dict[str, Description]:
    """The latest description of each item that was put after what a bundle holds; none where there is no log.

    Args:
        bundle: its folder.
        events: the URL of the log.

    Raises:
        ColdStartError: the log is another one than the bundle was trained from, or cannot be read.
    """
    if not exists(events):
        return {}
    found = dict[str, Description]()
    with closing(open_log(events, bundle)) as log:
        watermark = watermark_of(read_manifest(bundle), log)
        while True:
            changes = log.after(watermark)
            found |= {one.entity_id: one for _, one in changes.descriptions if one.side == "item"}
            watermark = changes.watermark
            if watermark >= changes.last:
                return found


def with_items(fitted: Fitted, put: Mapping[str, Description], encoder: Encoder) -> Fitted:
    """The state with these descriptions, as a worker of the service takes them in. Events are not read."""
    ids, numeric = list(put), numeric_columns(fitted.item_space)
    rows = fitted.items.rows(ids)
    labels = []
    for row, one in zip(rows.tolist(), put.values(), strict=True):
        known = fitted.items.take(np.array([row])).attributes[0] if row >= 0 else []
        labels.append(known if one.attributes is None else [banded(label, numeric) for label in one.attributes])
    told = describe(encoder, ids, [one.description for one in put.values()], labels)
    return described(fitted, "item", told, np.array([utc(one.event_timestamp) for one in put.values()]))
