"""The Feast door: on-demand views that enrich a profile while features are retrieved.

Feast keeps a view's function as source text and runs that text again wherever the registry is read. What
is registered here is therefore a few lines that import `enrich_columns` or `enrich_frame` and hold their
parameters, so that a change of α or of the encoder shows in `feast apply`'s diff, and a fresh process,
which has neither our modules' globals nor a closure, can run it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.encoder import shared_encoder
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.profile import Vectors, enrich, evidence_weight, has_text

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureView, OnDemandFeatureView

REQUEST_DESCRIPTION = "request_description"

_REMEDY = "Run `coldstart profiles`, then `feast apply` and `feast materialize`, to embed everything anew."

_SOURCE = '''\
def {name}(inputs):
    from coldstart_udfs.feast import {function}

    return {function}(
        inputs,
        entity={entity!r},
        view={view!r},
        weight={weight!r},
        evidence_scale={evidence_scale!r},
        model={model!r},
        backend={backend!r},
        fingerprint={fingerprint!r},
        dimensions={dimensions!r},
        request={request!r},
    )
'''


class EnrichedViews(NamedTuple):
    """The three doors of one enrichment; all give the same features.

    Attributes:
        serving: `mode="python"`, fast for few rows: online.
        training: `mode="pandas"`, fast for many: history.
        request: as serving, and a `request_description` that comes with the request counts before the
            stored description. Every call must give that field; NULL and blank are allowed.
    """

    serving: OnDemandFeatureView
    training: OnDemandFeatureView
    request: OnDemandFeatureView


def enriched_views(
    entity: str,
    *,
    profiles: FeatureView,
    descriptions: FeatureView,
    weight: float,
    evidence_scale: float = math.inf,
    model: str | None = None,
    backend: str | None = None,
) -> EnrichedViews:
    """On-demand views that give P' = P + α(n)·M(d) for one entity.

    Args:
        entity: "user" or "item", say; the prefix of every feature name.
        profiles: a view with the features `{entity}_profile`, `{entity}_evidence` and
            `{entity}_profile_fingerprint`.
        descriptions: a view with `{entity}_embedding` and `{entity}_text_fingerprint`.
        weight: α, or β for items.
        evidence_scale: a of α(n) = α·a/(a+n); infinite keeps the weight constant.
        model: the encoder; None is the embedded one. Its files are read, it is not loaded.
        backend: what runs it, as `enrichment.json` records it; None is "auto", decided now.

    Returns:
        Views `{entity}_enriched`, `{entity}_enriched_training` and `{entity}_enriched_request` with the
        features `{entity}_enriched_profile`, `…_is_cold` (no evidence), `…_evidence_weight` (α(n)),
        `…_has_description` and `…_embedding_fingerprint`. An unknown entity gets its description's part
        of the profile, or a zero profile; never an error.
    """
    from feast import Field, OnDemandFeatureView, RequestSource
    from feast.types import Array, Bool, Float32, Float64, String

    encoder = shared_encoder(model, backend=backend)
    schema = [
        Field(name=f"{entity}_enriched_profile", dtype=Array(Float32)),
        Field(name=f"{entity}_is_cold", dtype=Bool),
        Field(name=f"{entity}_evidence_weight", dtype=Float64),
        Field(name=f"{entity}_has_description", dtype=Bool),
        Field(name=f"{entity}_embedding_fingerprint", dtype=String),
    ]

    def view(name: str, mode: str, request: bool, description: str) -> OnDemandFeatureView:
        source = _SOURCE.format(
            name=name, view=name, entity=entity, weight=float(weight), request=request,
            evidence_scale=None if math.isinf(evidence_scale) else evidence_scale,
            model=model, backend=encoder.backend, fingerprint=encoder.fingerprint, dimensions=encoder.dimensions,
            function="enrich_frame" if mode == "pandas" else "enrich_columns",
        )  # fmt: skip
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(source, namespace)  # noqa: S102 - the text above; Feast itself runs it the same way
        asked = RequestSource(
            name=f"{entity}_request", schema=[Field(name=REQUEST_DESCRIPTION, dtype=String)]
        )
        return OnDemandFeatureView(
            name=name, sources=[profiles, descriptions, *([asked] if request else [])], schema=schema,
            mode=mode, udf=namespace[name], udf_string=source, description=description,
        )  # fmt: skip

    return EnrichedViews(
        view(f"{entity}_enriched", "python", False, f"P' of a {entity}, from stored text: online"),
        view(f"{entity}_enriched_training", "pandas", False, f"P' of a {entity}, from stored text: history"),
        view(f"{entity}_enriched_request", "python", True, f"P' of a {entity}, from text in the request"),
    )


def enrich_columns(
    inputs: Mapping[str, Sequence[Any]],
    *,
    entity: str,
    view: str,
    weight: float,
    evidence_scale: float | None,
    model: str | None,
    backend: str,
    fingerprint: str,
    dimensions: int,
    request: bool,
) -> dict[str, list[Any]]:
    """Enrich columns of plain Python lists: what a registered view calls online.

    Each output comes under its short and its `view__feature` name, because Feast 0.67 drops the features of
    a python view online when it is asked for full names.

    Raises:
        FingerprintError: stored vectors come from another encoder than the view's.
        ColdStartError: a stored vector is not `dimensions` long.
    """
    outputs = _enrich(
        inputs, entity, weight, evidence_scale, model, backend, fingerprint, dimensions, request
    )  # fmt: skip
    profiles = outputs[f"{entity}_enriched_profile"]
    plain = {name: values.tolist() for name, values in outputs.items()}
    plain[f"{entity}_enriched_profile"] = list(profiles.tolist())
    return {**plain, **{f"{view}__{name}": values for name, values in plain.items()}}


def enrich_frame(
    inputs: pd.DataFrame,
    *,
    entity: str,
    view: str,
    weight: float,
    evidence_scale: float | None,
    model: str | None,
    backend: str,
    fingerprint: str,
    dimensions: int,
    request: bool,
) -> pd.DataFrame:
    """Enrich a data frame: what a registered view calls for history. As `enrich_columns`."""
    import pandas as pd

    outputs = _enrich(
        inputs, entity, weight, evidence_scale, model, backend, fingerprint, dimensions, request
    )  # fmt: skip
    columns = {name: list(values) if values.ndim > 1 else values for name, values in outputs.items()}
    return pd.DataFrame(columns, index=inputs.index)


def _enrich(
    inputs: Any, entity: str, weight: float, evidence_scale: float | None, model: str | None,
    backend: str, fingerprint: str, dimensions: int, request: bool,
) -> dict[str, NDArray[Any]]:
    stored_in = {"profile": list(inputs[f"{entity}_profile_fingerprint"]),
                 "text": list(inputs[f"{entity}_text_fingerprint"])}  # fmt: skip
    rows = len(stored_in["profile"])
    sample = _is_feast_sample(stored_in["profile"])
    if sample:
        profiles = embeddings = np.zeros((rows, dimensions), dtype=np.float32)
        described = np.ones(rows, dtype=bool)
    else:
        for column, names in stored_in.items():
            _check_fingerprints(names, f"the source of {entity}_{column}_fingerprint", fingerprint, entity)
        profiles, _ = _stack(inputs[f"{entity}_profile"], f"{entity}_profile", dimensions)
        embeddings, described = _stack(inputs[f"{entity}_embedding"], f"{entity}_embedding", dimensions)
        if request:
            texts = list(inputs[REQUEST_DESCRIPTION])
            given = np.fromiter(map(has_text, texts), dtype=bool, count=rows)
            if given.any():
                encoder = shared_encoder(model, backend=backend)
                _check_fingerprints([encoder.fingerprint], "this process's encoder", fingerprint, entity)
                embeddings[given] = encoder.encode([texts[row] for row in np.flatnonzero(given)])
            described |= given
    evidence = np.array([0.0 if _is_null(n) else float(n) for n in inputs[f"{entity}_evidence"]])
    weights = evidence_weight(evidence, weight, evidence_scale)
    return {
        f"{entity}_enriched_profile": enrich(profiles, embeddings, weights),
        f"{entity}_is_cold": evidence == 0,
        f"{entity}_evidence_weight": weights,
        f"{entity}_has_description": described,
        f"{entity}_embedding_fingerprint": np.full(rows, fingerprint, dtype=object),
    }


def _is_feast_sample(fingerprints: list[Any]) -> bool:
    """`feast apply` tries a view on one made-up row, whose strings are these and whose vectors have one number."""
    return fingerprints == ["hello world"]


def _check_fingerprints(found: Sequence[Any], found_in: str, expected: str, entity: str) -> None:
    for name in set(found):
        if not _is_null(name) and name != expected:
            raise FingerprintError(
                found=name, found_in=found_in, expected=expected,
                expected_by=f"the view {entity}_enriched", remedy=_REMEDY,
            )  # fmt: skip


def _stack(values: Sequence[Any], feature: str, dimensions: int) -> tuple[Vectors, NDArray[np.bool_]]:
    """One row a value, zero where it is NULL, and where it is not."""
    present = np.array([not _is_null(value) for value in values], dtype=bool)
    result = np.zeros((len(present), dimensions), dtype=np.float32)
    vectors = [value for value in values if not _is_null(value)]
    wrong = [len(vector) for vector in vectors if len(vector) != dimensions]
    if wrong:
        raise ColdStartError(
            f"{feature} holds a vector of {wrong[0]} numbers, the encoder gives {dimensions}. {_REMEDY}"
        )
    if vectors:
        result[present] = np.asarray(vectors, dtype=np.float32)
    return result, present


def _is_null(value: Any) -> bool:
    """None, or the NaN and NaT that pandas puts in its place; a list is a value."""
    return value is None or (not isinstance(value, str) and np.ndim(value) == 0 and value != value)
