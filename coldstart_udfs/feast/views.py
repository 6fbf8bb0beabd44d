"""On-demand views that enrich profiles while features are retrieved.

Feast stores the function of a view as source text and runs this text in every process that reads the registry. The text
made here imports `Enricher` and calls it with the view's parameters. So a new process can run it, although it has no
globals and no closure, and `feast apply` shows a change of α or of the encoder in its diff.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.errors import ColdStartError, ColdStartWarning
from coldstart_udfs.feast.transform import FINGERPRINT_SUFFIX, REQUEST_DESCRIPTION, Enricher
from coldstart_udfs.settings import Enrichment

if TYPE_CHECKING:
    from feast import FeatureView, Field, OnDemandFeatureView

_SOURCE = """\
def {view}(inputs):
    from coldstart_udfs.feast import Enricher

    return Enricher(
{parameters}
    ).{method}(inputs)
"""


class EnrichedViews(NamedTuple):
    """The views of one enrichment, with the same features.

    Assign them to three module-level names: `feast apply` registers only objects with a name of their own.

    Attributes:
        serving: `mode="python"`, fast for few rows: for online reads.
        training: `mode="pandas"`, fast for many rows: for history.
        request: as serving, but the `request_description` of a request replaces the stored description. Every request
            must have this field: a text, which may be NULL or blank; anything else is an error. None if it was not
            asked for.
    """

    serving: OnDemandFeatureView
    training: OnDemandFeatureView
    request: OnDemandFeatureView | None


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Let `feast apply` print an error as one line; it prints a traceback for all errors but click's."""
    try:
        yield
    except ColdStartError as error:
        import click

        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(str(error)) from None


@_in_one_line()
def enriched_views(
    name: str,
    source_view: FeatureView | Sequence[FeatureView],
    *,
    description: str | None = None,
    profile: str | None = None,
    evidence: str | None = None,
    request_description: bool = True,
    alpha: float = 1.0,
    evidence_scale: float = math.inf,
    model: str | None = None,
    backend: str | None = None,
) -> EnrichedViews:
    """On-demand views that give P' = P + α(n)·M(d) for one entity.

    Features of the source views whose names end in `_fingerprint` name the encoder of stored vectors. Reading features
    raises an error if it is not the encoder of the view.

    A source view with a `ttl` causes a `ColdStartWarning`: Feast honours it in history but not online.

    Args:
        name: prefix of every feature and view, such as "user" or "item".
        source_view: one or several views with a schema that have the three features below.
        description: the feature with d, a String, which is encoded (or found in the vector cache) when features are
            read; or with its stored embedding, an Array(Float32). None is `{name}_description`.
        profile: the feature with P, an Array(Float32); None is `{name}_profile`.
        evidence: the feature with n, a number; None is `{name}_evidence`.
        request_description: whether to make the view that takes a description from the request.
        alpha: α, the weight of a description, in interactions (β for items).
        evidence_scale: a in α(n) = α·a/(a+n); infinity keeps the weight constant.
        model: the encoder; None is the embedded one. Its files are read; it is not loaded.
        backend: the encoder's backend, as recorded in `enrichment.json`; None is "auto", resolved now.

    Returns:
        Views `{name}_enriched`, `{name}_enriched_training` and `{name}_enriched_request` with the features
        `{name}_enriched_profile`, `…_is_cold` (n is 0 or NULL), `…_evidence_weight` (α(n)), `…_has_description`,
        `…_embedding_fingerprint`, and for monitoring `…_embedding_norm` (of M(d), 0 without d) and `…_enriched_cosine`
        (of P and P', NULL if P is zero). For an unknown entity the profile is α·M(d), or zero without a description.

    Raises:
        ColdStartError: a feature is missing, has another type or the name of an output; or the encoder does not exist.
    """
    from feast import Field, OnDemandFeatureView, RequestSource
    from feast.types import Array, Bool, Float32, Float64, String

    Enrichment(alpha=alpha, evidence_scale=evidence_scale)  # checks both
    found = _Features(name, list(source_view) if isinstance(source_view, Sequence) else [source_view])
    found.warn_of_ttl()
    roles = {"description": description, "profile": profile, "evidence": evidence}
    encoder = shared_encoder(model, backend=backend)
    schema = [
        Field(name=f"{name}_enriched_profile", dtype=Array(Float32)),
        Field(name=f"{name}_is_cold", dtype=Bool),
        Field(name=f"{name}_evidence_weight", dtype=Float64),
        Field(name=f"{name}_has_description", dtype=Bool),
        Field(name=f"{name}_embedding_fingerprint", dtype=String),
        Field(name=f"{name}_embedding_norm", dtype=Float64),
        Field(name=f"{name}_enriched_cosine", dtype=Float64),
    ]
    found.refuse([*(field.name for field in schema), *([REQUEST_DESCRIPTION] if request_description else [])])
    text = found.of("description", roles, "String", "Array(Float32)")
    common: dict[str, Any] = {
        "profile": found.of("profile", roles, "Array(Float32)").name,
        "evidence": found.of("evidence", roles, "Int64", "Int32", "Float64", "Float32").name,
        "description": text.name,
        "stored": "Array" in str(text.dtype),
        "fingerprints": found.fingerprints(),
        "alpha": float(alpha),
        "evidence_scale": None if math.isinf(evidence_scale) else float(evidence_scale),
        "model": model,
        "backend": encoder.backend,
        "fingerprint": encoder.fingerprint,
        "dimensions": encoder.dimensions,
    }
    inputs = found.project([common["profile"], common["evidence"], common["description"], *common["fingerprints"]])

    def view(ending: str, mode: str, request: bool, about: str) -> OnDemandFeatureView:
        enricher, view_name = Enricher(name=name, request=request, **common), f"{name}_enriched{ending}"
        parameters = "\n".join(
            f"        {field.name}={getattr(enricher, field.name)!r},"
            for field in fields(enricher) if getattr(enricher, field.name) != field.default
        )  # fmt: skip
        source = _SOURCE.format(
            view=view_name, parameters=parameters, method="frame" if mode == "pandas" else "columns"
        )  # fmt: skip
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(source, namespace)  # noqa: S102 - the text above, as Feast itself does it # nosec B102
        asked = RequestSource(name=f"{name}_request", schema=[Field(name=REQUEST_DESCRIPTION, dtype=String)])
        return OnDemandFeatureView(
            name=view_name, sources=[*inputs, *([asked] if request else [])], schema=schema, mode=mode,
            udf=namespace[view_name], udf_string=source, track_metrics=True,
            description=f"P' of a {name}, from {about}",
        )  # fmt: skip

    return EnrichedViews(
        view("", "python", False, "stored text: online"),
        view("_training", "pandas", False, "stored text: history"),
        view("_request", "python", True, "text in the request: online") if request_description else None,
    )


class _Features:
    """The features of the source views, by name."""

    def __init__(self, name: str, sources: Sequence[FeatureView]) -> None:
        self._name, self._sources = name, sources
        if not sources or not all(hasattr(source, "projection") for source in sources):
            raise ColdStartError(f"source_view is {sources or 'empty'}; give a FeatureView or a list of them")
        for source in sources:
            if source.projection.name_alias or source.projection.join_key_map:
                raise ColdStartError(
                    f"{source.name} has an alias or other join keys, which Feast loses inside of an on-demand view; "
                    "give the view itself, and use with_name() in the FeatureService"
                )
        self._views = ", ".join(source.name for source in sources)
        self._by_name: dict[str, Field] = {field.name: field for source in sources for field in source.features}
        if not name.isidentifier():
            raise ColdStartError(f"name is {name!r}; it begins names of features and views, such as 'user'")
        if not self._by_name:
            raise ColdStartError(f"{self._views} has no schema; give the view schema=[Field(…)] with the features")

    def of(self, role: str, named: Mapping[str, str | None], *types: str) -> Field:
        wanted = named[role] or f"{self._name}_{role}"
        if wanted not in self._by_name:
            raise ColdStartError(
                f"no feature {wanted!r} in {self._views}; there are {', '.join(sorted(self._by_name))}. "
                f"Name the right one: enriched_views(…, {role}=…)"
            )
        field = self._by_name[wanted]
        if str(field.dtype) not in types:
            raise ColdStartError(f"{wanted} is {field.dtype}; as {role} it must be {' or '.join(types)}")
        return field

    def fingerprints(self) -> tuple[str, ...]:
        return tuple(
            name for name, field in self._by_name.items()
            if name.endswith(FINGERPRINT_SUFFIX) and str(field.dtype) == "String"
        )  # fmt: skip

    def project(self, wanted: Sequence[str]) -> list[Any]:
        """The source views with only these features, so that no others are read."""
        names = [field.name for view in self._sources for field in view.features if field.name in wanted]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ColdStartError(
                f"{', '.join(twice)} is in several of {self._views}, and Feast would take either; give one of them "
                "another name"
            )
        parts = [(view, [field.name for field in view.features if field.name in wanted]) for view in self._sources]
        return [view[names] for view, names in parts if names]

    def warn_of_ttl(self) -> None:
        for view in self._sources:
            if view.ttl:
                age = str(view.ttl).removesuffix(", 0:00:00")
                warnings.warn(
                    f"{view.name} has a ttl of {age}: Feast leaves older rows out of history but returns them online "
                    "(feast-dev/feast#6821), so that training and serving differ for every entity without a newer row; "
                    "remove the ttl. `coldstart skew` counts these entities",
                    ColdStartWarning,
                    stacklevel=4,  # the caller of enriched_views
                )

    def refuse(self, taken: Sequence[str]) -> None:
        same = sorted(set(taken) & set(self._by_name))
        if same:
            raise ColdStartError(
                f"{', '.join(same)} of {self._views} is named like a field of the enrichment, and Feast would mix "
                "them up; give it another name with the source's field_mapping"
            )
