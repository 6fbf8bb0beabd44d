"""`enriched_views` and what its views compute, by hand, without a store."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast import Entity, FeatureView, Field, FileSource, OnDemandFeatureView, ValueType
from feast.types import Array, Float32, Int64, String

from coldstart_udfs import Encoder
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.feast import Enricher, enriched_views
from tests.support.commands import ROOT

USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
TYPES = {
    "user_profile": Array(Float32), "user_embedding": Array(Float32), "user_evidence": Int64,
    "user_description": String, "user_profile_fingerprint": String, "user_text_fingerprint": String,
}  # fmt: skip
OURS = Encoder().fingerprint


def a_view(name: str = "shop_users", **changes: Any) -> FeatureView:
    fields = {feature: kind for feature, kind in {**TYPES, **changes}.items() if kind is not None}
    return FeatureView(
        name=name, entities=[USER], schema=[Field(name=feature, dtype=kind) for feature, kind in fields.items()],
        source=FileSource(name=f"{name}_source", path=f"{name}.parquet", timestamp_field="event_timestamp"),
    )  # fmt: skip


def enricher(**changes: Any) -> Enricher:
    given: dict[str, Any] = {
        "name": "user", "profile": "user_profile", "evidence": "user_evidence",
        "description": "user_embedding", "stored": True, "request": False, "alpha": 2.0, "evidence_scale": None,
        "fingerprints": ("user_profile_fingerprint", "user_text_fingerprint"), "model": None, "backend": "torch",
        "fingerprint": "ours", "dimensions": 2,
    }  # fmt: skip
    return Enricher(**{**given, **changes})


def columns(**changes: list[Any]) -> dict[str, list[Any]]:
    return {
        "user_profile": [[1.0, 0.0]], "user_embedding": [[0.0, 1.0]], "user_evidence": [3],
        "user_profile_fingerprint": ["ours"], "user_text_fingerprint": ["ours"], **changes,
    }  # fmt: skip


def test_both_modes_enrich_by_hand() -> None:
    found = enricher().columns(columns())
    assert found["user_enriched__user_enriched_profile"] == [[1, 2]]
    assert [list(row) for row in found["user_enriched_profile"]] == [[1, 2]]
    assert found["user_enriched_cosine"] == pytest.approx([1 / math.sqrt(5)])
    assert (found["user_embedding_norm"], found["user_evidence_weight"]) == ([1.0], [2.0])
    frame = enricher().frame(pd.DataFrame(columns(), index=[7]))
    assert frame.index.tolist() == [7]
    for name, values in frame.items():
        assert np.array_equal(np.array(values.tolist()), np.array(found[name])), name


def test_the_weight_falls_with_evidence_where_a_scale_is_given() -> None:
    found = enricher(evidence_scale=3.0).columns(columns())
    assert found["user_evidence_weight"] == [1.0]
    assert found["user_enriched_profile"][0].tolist() == [1, 1]


def test_vectors_of_another_encoder_are_an_error_that_names_both() -> None:
    with pytest.raises(FingerprintError, match=r"'theirs'.*'ours'.*coldstart profiles"):
        enricher().columns(columns(user_profile_fingerprint=["theirs"]))


def test_a_vector_of_another_width_is_an_error() -> None:
    with pytest.raises(ColdStartError, match="user_profile holds a vector of 3 numbers, the encoder gives 2"):
        enricher().columns(columns(user_profile=[[1.0, 0.0, 0.0]]))


@pytest.mark.parametrize("nothing", [None, math.nan, []])
def test_null_in_every_column_gives_a_cold_zero_profile(nothing: Any) -> None:
    # An empty list is what some stores make of a vector that is NULL.
    number = None if nothing == [] else nothing
    values = {name: [nothing if TYPES[name] == Array(Float32) else number] for name in columns()}
    found = enricher().columns(values)
    assert found["user_is_cold"] == [True]
    assert found["user_enriched_profile"][0].tolist() == [0, 0]
    assert (found["user_embedding_norm"], found["user_enriched_cosine"]) == ([0.0], [None])
    assert found["user_has_description"] == [False]


def test_a_stored_text_is_encoded_and_one_in_the_request_counts_before_it() -> None:
    asked = enricher(
        description="user_description", stored=False, request=True, fingerprint=OURS, dimensions=384,
        backend=Encoder().backend, fingerprints=(), alpha=1.0,
    )  # fmt: skip
    texts: list[str | None] = ["a red lamp", "a red lamp", None, "  "]
    found = asked.columns({
        "user_profile": [None] * 4, "user_evidence": [None] * 4, "user_description": texts,
        "request_description": [None, "a blue cup", "", None],
    })  # fmt: skip
    lamp, cup = Encoder().encode(["a red lamp", "a blue cup"])
    np.testing.assert_allclose(found["user_enriched_profile"], [lamp, cup, 0 * cup, 0 * cup], atol=1e-6)
    assert found["user_has_description"] == [True, True, False, False]


def test_no_rows_give_no_rows() -> None:
    found = enricher().columns({name: [] for name in columns()})
    assert all(values == [] for values in found.values())
    assert len(enricher().frame(pd.DataFrame(columns())[:0])) == 0


def test_features_may_have_any_name_and_lie_in_several_views() -> None:
    behaviour = a_view("behaviour", user_profile=None, user_embedding=None, taste=Array(Float32))
    words = FeatureView(
        name="words", entities=[USER], schema=[Field(name="about_me", dtype=String)],
        source=FileSource(name="words_source", path="words.parquet", timestamp_field="event_timestamp"),
    )  # fmt: skip
    views = enriched_views("member", [behaviour, words], profile="taste", evidence="user_evidence",
                           description="about_me", request_description=False)  # fmt: skip
    assert views.request is None
    assert [field.name.startswith("member_") for field in views.serving.features] == [True] * 7
    assert views.serving.features == views.training.features
    read = {(p.name, f.name) for p in views.serving.source_feature_view_projections.values() for f in p.features}
    assert read == {
        ("behaviour", "taste"), ("behaviour", "user_evidence"), ("words", "about_me"),
        ("behaviour", "user_profile_fingerprint"), ("behaviour", "user_text_fingerprint"),
    }  # fmt: skip


def test_alpha_and_the_fingerprint_stand_in_the_registered_source() -> None:
    for view in enriched_views("user", a_view(), alpha=0.25):
        assert view is not None
        source = view.feature_transformation.udf_string
        assert "alpha=0.25," in source
        assert f"fingerprint={OURS!r}," in source
        assert len(view.to_proto().SerializeToString()) < 2_000
        assert view.track_metrics


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"description": "bio"}, r"no feature 'bio' in shop_users; there are user_description, .* description=…"),
        ({"evidence": "user_profile"}, r"user_profile is Array\(Float32\); as evidence it must be Int64 or"),
        ({"profile": "user_description"}, r"user_description is String; as profile it must be Array\(Float32\)"),
        ({"name": "two words"}, "name is 'two words'; it begins names"),
        ({"alpha": math.inf}, "alpha and beta must be finite"),
        ({"alpha": -1.0}, "alpha is -1.0; it must be a number of at least 0"),
        ({"evidence_scale": 0}, "evidence_scale is 0; it must be positive"),
        ({"source_view": []}, "source_view is empty; give a FeatureView or a list of them"),
        ({"source_view": "members"}, "give a FeatureView or a list of them"),
        ({"source_view": [a_view(), a_view("more")]}, "user_description.* is in several of shop_users, more"),
        ({"source_view": a_view().with_name("other")}, "shop_users has an alias or other join keys"),
        ({"source_view": a_view(user_is_cold=Int64)}, "user_is_cold of shop_users is named like a field"),
        ({"source_view": a_view(request_description=String)}, "request_description of shop_users is named like"),
    ],
)
def test_what_cannot_be_enriched_says_what_can(given: dict[str, Any], problem: str) -> None:
    arguments = {"name": "user", "source_view": a_view(), **given}
    with pytest.raises(ColdStartError, match=problem):
        enriched_views(arguments.pop("name"), arguments.pop("source_view"), **arguments)


def test_the_pages_example_registers_its_views() -> None:
    page = (ROOT / "docs" / "how-to" / "existing-feast-repository.md").read_text()
    block = page.partition("```python\n")[2].partition("```")[0]
    fields = {"bio": String, "taste": Array(Float32), "n_orders": Int64}
    names: dict[str, Any] = {"members": a_view("members", **dict.fromkeys(TYPES), **fields)}
    exec(block, names)
    # Feast registers what has a name of its own in the module.
    views = {value.name for value in names.values() if isinstance(value, OnDemandFeatureView)}
    assert views == {"member_enriched", "member_enriched_training", "member_enriched_request"}
    assert [p.name for p in names["serving"].feature_view_projections] == ["members", "member_enriched"]
