"""Features of one user or item from Feast's online store, as the recommender takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast import REQUEST_DESCRIPTION
from coldstart_udfs.feast.stores import open_store as open_store
from coldstart_udfs.profile import Vectors, evidence_weight, has_text
from recommender.features import Entities
from recommender.model import HybridRecommender

NEW = "new"


def online_user(store: Any, model: HybridRecommender, user_id: str, description: str | None) -> Entities:
    """A user as the online store knows him now; `description` comes with the request and may be None."""
    features = store.get_feature_service("coldstart_request")
    return _online(store, model, features, "user", user_id, description)


def online_item(store: Any, model: HybridRecommender, item_id: str, description: str | None) -> Entities:
    """An item, likewise."""
    stored = [f"item_profiles:item_{name}" for name in ("profile", "evidence")]
    enriched = [f"item_enriched_request:item_{name}" for name in
                ("enriched_profile", "evidence_weight", "embedding_fingerprint")]  # fmt: skip
    return _online(store, model, stored + enriched, "item", item_id, description)


def as_vectors(values: Iterable[Any], width: int) -> Vectors:
    """Feast's vectors as a matrix, zero rows where there is none."""
    rows = [value if isinstance(value, (list, np.ndarray)) else np.zeros(width) for value in values]
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), width)


def text_of(value: Any) -> str:
    """Feast's text as a string, "" where there is none."""
    return value if isinstance(value, str) and has_text(value) else ""


def _online(
    store: Any, model: HybridRecommender, features: Any, side: str, name: str, description: str | None
) -> Entities:
    row = {f"{side}_id": name, REQUEST_DESCRIPTION: description or ""}
    found = {key: values[0] for key, values in store.get_online_features(features, [row]).to_dict().items()}
    enriched = np.asarray([found[f"{side}_enriched_profile"]], dtype=np.float32)
    profile = as_vectors([found[f"{side}_profile"]], enriched.shape[1])
    evidence, weight = float(found[f"{side}_evidence"] or 0), float(found[f"{side}_evidence_weight"])
    settings = model.parameters
    constant = settings.alpha if side == "user" else settings.beta
    expected = float(evidence_weight(evidence, constant, settings.evidence_scale))
    if not np.isclose(weight, expected):
        raise ColdStartError(
            f"the view of {side}s weighs a description {weight:g} here, the bundle was trained with {expected:g}; "
            "run `feast apply` after `coldstart train`, so that both use one enrichment.json (if that was edited by "
            "hand, train first)"
        )
    # The view gives P' = P + w·M(d), and w is known: what it added is the description's embedding.
    embedding = (enriched - profile) / weight if weight else np.zeros_like(enriched)
    return Entities(
        [name], [text_of(description)], [[]], embedding, profile, np.array([evidence]),
        str(found[f"{side}_embedding_fingerprint"]),
    )  # fmt: skip
