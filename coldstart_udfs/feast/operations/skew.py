"""Training/serving skew: features that training read, compared with the online store's for the same entities now."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.operations.registry import serving

if TYPE_CHECKING:
    import pandas as pd

# The ids of one entity, as (join key, id).
Entity: TypeAlias = frozenset[tuple[Any, Any]]

# How far two numbers may lie apart, relative to the larger one where that is above 1.
TOLERANCE = 1e-6
_EXAMPLES = 3

# Reasons for a difference. Newer rows are not a fault; all other reasons need action.
NEWER = "the online row is newer than what training read"
MISSING = "not in the online store: run `feast materialize` (or its ttl has passed)"
LATE = "the source got the row after training read it"
EXPIRED = "past the ttl of its view, which history honours and the online store does not: remove the ttl"
REWRITTEN = "the source was rewritten since training read it"
BEHIND = "the online store is behind the source: run `feast materialize`"
INPUTS = "its inputs differ"
PARAMETERS = "its inputs agree: another α, evidence scale or encoder was applied since"
UNEXPLAINED = "computed from inputs that training did not keep"


@dataclass
class Skew:
    """The skew of one feature.

    Attributes:
        view: the online view.
        feature: its feature.
        compared: number of entities with a value on either side.
        different: number of entities that differ by more than the tolerance.
        largest: the largest absolute difference of numbers, over entities with a value on both sides.
        reasons: number of differences by reason.
        examples: the first entities that differ, such as "user_id=7, item_id=9".
    """

    view: str
    feature: str
    compared: int = 0
    different: int = 0
    largest: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def faulty(self) -> int:
        """The number of differences that are not due to a newer online row."""
        return self.different - self.reasons[NEWER]


def measure_skew(
    store: Any,
    training: pd.DataFrame,
    *,
    service: str = "coldstart_serving",
    limit: int | None = 1_000,
    report: Report = no_report,
) -> list[Skew]:
    """Compare a training frame with the online store, feature by feature.

    Args:
        store: the Feast store.
        training: the result of `get_historical_features`: join keys, `event_timestamp` and features under their short
            names. The latest row of each entity is compared.
        service: the feature service that serving reads; its features are compared if `training` has them.
        limit: number of entities of each kind to compare, spread evenly over the frame; None compares all.
        report: called with the views compared so far.

    Returns:
        One `Skew` for each feature, in the service's order.

    Raises:
        ColdStartError: the frame has no `event_timestamp` or none of the service's features.
    """
    import pandas as pd

    if "event_timestamp" not in training.columns:
        raise ColdStartError(
            f"the training frame has the columns {', '.join(map(str, training.columns))} and no event_timestamp; give "
            "what get_historical_features gave, entity columns and timestamps included"
        )
    training = training.assign(event_timestamp=pd.to_datetime(training["event_timestamp"], utc=True))
    services = {one.name: one for one in store.list_feature_services()}
    if service not in services:
        raise ColdStartError(f"there is no feature service {service!r}; there are {', '.join(sorted(services))}")
    projections = services[service].feature_view_projections
    on_demand = {view.name: view for view in store.list_on_demand_feature_views()}
    # Stored features first: their differences explain those of computed features.
    projections = sorted(projections, key=lambda projection: projection.name in on_demand)
    found: list[Skew] = []
    differing: dict[str, set[Entity]] = {}
    for number, projection in enumerate(projections):
        report("views", number, len(projections))
        names = [feature.name for feature in projection.features if feature.name in training.columns]
        keys = _join_keys(store, projection.name, on_demand)
        if not names or not set(keys) <= set(training.columns):
            continue
        rows = _latest(training, keys, limit)
        if rows.empty:
            continue
        online, moments = _online(store, projection.name, names, rows[keys])
        if projection.name in on_demand:
            explain = _computed(store, on_demand[projection.name], training, rows, keys, differing)
        else:
            explain = _stored(store, projection.name, names, rows, keys, moments)
        for name in names:
            found.append(Skew(projection.name, name))
            differing[name] = _compare(found[-1], rows, keys, online[name], explain)
    report("views", len(projections), len(projections))
    if not found:
        raise ColdStartError(
            f"the training frame has no row or no feature of {service}; its columns are "
            f"{', '.join(map(str, training.columns))}. "
            "Read it without full_feature_names, or name the right service"
        )
    return found


def _compare(
    skew: Skew, rows: pd.DataFrame, keys: list[str], online: Sequence[Any],
    explain: Callable[[str, int, Entity, Any, Any], str],
) -> set[Entity]:  # fmt: skip
    """Fill in the skew of a feature; returns the entities that differ."""
    differing: set[Entity] = set()
    entities = rows[keys].to_dict("records")
    both = zip(map(_plain, rows[skew.feature].tolist()), map(_plain, online), strict=True)
    for row, (read, given) in enumerate(both):
        if read is None and given is None:
            continue
        skew.compared += 1
        skew.largest = max(skew.largest, _distance(read, given) or 0.0)
        silent = _nothing(read, skew.feature) and _nothing(given, skew.feature)
        if silent or _same(read, given):
            continue
        entity = frozenset(entities[row].items())
        differing.add(entity)
        skew.different += 1
        skew.reasons[explain(skew.feature, row, entity, read, given)] += 1
        if len(skew.examples) < _EXAMPLES:
            skew.examples.append(", ".join(f"{key}={value}" for key, value in entities[row].items()))
    return differing


def _stored(
    store: Any, view: str, names: list[str], rows: pd.DataFrame, keys: list[str], moments: dict[str, list[float]]
) -> Callable[[str, int, Entity, Any, Any], str]:
    """Reasons for differences of a stored feature. History is read again, at the same moments, if it is needed."""
    again: dict[str, list[Any]] = {}
    read_at = _seconds(rows)
    ttl = _ttl(store, view)

    def explain(name: str, row: int, entity: Entity, read: Any, given: Any) -> str:
        if given is None:
            return MISSING
        if moments[name][row] > read_at[row]:
            return NEWER
        if read is None:
            return EXPIRED if read_at[row] - moments[name][row] > ttl else LATE
        if not again:
            frame = _history(store, [f"{view}:{feature}" for feature in names], rows, keys)
            again.update((feature, frame[feature].tolist()) for feature in names)
        return BEHIND if _same(read, _plain(again[name][row])) else REWRITTEN

    return explain


def _computed(
    store: Any, view: Any, training: pd.DataFrame, rows: pd.DataFrame, keys: list[str],
    differing: dict[str, set[Entity]],
) -> Callable[[str, int, Entity, Any, Any], str]:
    """Reasons for differences of an on-demand feature: the ttl of a source, its inputs, else its parameters."""
    inputs = [
        feature.name for projection in view.source_feature_view_projections.values() for feature in projection.features
    ]
    # Fingerprints are left out: a change of the encoder shows in the vectors.
    known = {name for name in inputs if not name.endswith("_fingerprint")} <= set(training.columns)

    @cache
    def expired() -> list[bool]:
        """Whether each row is older than a source's ttl, but still online."""
        read_at, result = _seconds(rows), [False] * len(rows)
        for source in view.source_feature_view_projections.values():
            ttl = _ttl(store, source.name)
            if math.isfinite(ttl) and source.features:
                feature = source.features[0].name
                _, moments = _online(store, source.name, [feature], rows[keys])
                ages = [at - moment if moment else 0 for at, moment in zip(read_at, moments[feature], strict=True)]
                result = [known or age > ttl for known, age in zip(result, ages, strict=True)]
        return result

    def explain(name: str, row: int, entity: Entity, read: Any, given: Any) -> str:
        if expired()[row]:
            return EXPIRED
        if any(one <= entity for name in inputs for one in differing.get(name, ())):
            return INPUTS
        return PARAMETERS if known else UNEXPLAINED

    return explain


def _ttl(store: Any, view: str) -> float:
    """The greatest age of a row in history, in seconds; infinity without a ttl."""
    ttl = store.get_feature_view(view).ttl
    return float(ttl.total_seconds()) if ttl else math.inf


def _seconds(rows: pd.DataFrame) -> list[float]:
    """The event timestamps in seconds since 1970."""
    import pandas as pd

    found: list[float] = (rows["event_timestamp"] - pd.Timestamp(0, tz="UTC")).dt.total_seconds().tolist()
    return found


def _join_keys(store: Any, view: str, on_demand: dict[str, Any]) -> list[str]:
    sources = on_demand[view].source_feature_view_projections.values() if view in on_demand else ()
    views = [source.name for source in sources] or [view]
    columns = [column.name for one in views for column in store.get_feature_view(one).entity_columns]
    return list(dict.fromkeys(columns))


def _latest(training: pd.DataFrame, keys: list[str], limit: int | None) -> pd.DataFrame:
    """The latest row of each entity; at most `limit` rows, spread evenly."""
    rows = training.sort_values("event_timestamp", kind="stable").drop_duplicates(keys, keep="last")
    rows = rows.sort_values(keys)
    if limit is not None and len(rows) > limit:
        rows = rows.iloc[np.linspace(0, len(rows) - 1, limit).astype(int)]
    return rows.reset_index(drop=True)


def _online(
    store: Any, view: str, names: Sequence[str], entities: pd.DataFrame
) -> tuple[dict[str, list[Any]], dict[str, list[float]]]:
    """Values, and their event timestamps in seconds since 1970 (0 without a row), by feature."""
    with serving(store):
        response = store.get_online_features([f"{view}:{name}" for name in names], entities.to_dict("records"))
    moments = {
        name: [moment.seconds + moment.nanos / 1e9 for moment in result.event_timestamps]
        for name, result in zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True)
    }
    return response.to_dict(), moments


def _history(store: Any, features: list[str], rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """History at the timestamps of the rows, in the same order."""
    frame = store.get_historical_features(rows[[*keys, "event_timestamp"]], features).to_df()
    return rows[keys].merge(frame.drop_duplicates(keys), on=keys, how="left")


def _plain(value: Any) -> Any:
    """None for what counts as missing: NaN, empty lists, vectors with NaN or infinity. Vectors and lists as arrays."""
    if isinstance(value, (list, tuple, np.ndarray)):
        array = np.asarray(value)
        numeric = np.issubdtype(array.dtype, np.floating)
        return array if len(value) and not (numeric and not np.isfinite(array).all()) else None
    return None if value is None or value != value else value


def _nothing(value: Any, feature: str) -> bool:
    """Whether a value is NULL, or zero because all events of a history were returned."""
    if value is None:
        return True
    numeric = isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.number)
    return bool(numeric and not value.any()) or (feature.endswith("_evidence") and value == 0)


def _distance(a: Any, b: Any) -> float | None:
    """The largest absolute difference of two numbers or equally long vectors; None for other values."""
    if a is None or b is None or np.shape(a) != np.shape(b):
        return None
    a, b = np.asarray(a), np.asarray(b)
    if not (np.issubdtype(a.dtype, np.number) and np.issubdtype(b.dtype, np.number)):
        return None
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))


def _same(a: Any, b: Any) -> bool:
    distance = _distance(a, b)
    if distance is None:
        return bool(np.array_equal(a, b))
    return distance <= TOLERANCE * max(1.0, float(np.abs(a).max(initial=0.0)), float(np.abs(b).max(initial=0.0)))
