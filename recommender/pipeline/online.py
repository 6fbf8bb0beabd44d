"""Read the features of a user or item from Feast's online store for the recommender."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from coldstart_udfs.encoder.encoder import Encoder, shared_encoder
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.feast.operations.registry import serving
from coldstart_udfs.feast.operations.stores import open_store as open_store
from coldstart_udfs.profile import Vectors, has_text, usable_rows
from coldstart_udfs.settings import Enrichment
from recommender.data.entities import Entities
from recommender.model.recommender import HybridRecommender

NEW = "new"


def online_user(store: Any, model: HybridRecommender, user_id: str, description: str | None = None) -> Entities:
    """Read the current features of a user from the online store.

    Args:
        store: the Feast store.
        model: the recommender that the features are for.
        user_id: an id; it may be unknown.
        description: a description in the request, which replaces the stored one.

    Raises:
        ColdStartError: the bundle has history or a description of the user that the online store lacks, or the applied
            view has another weight of descriptions than the bundle.
        FingerprintError: the encoder of the repository is not that of the recommender.
    """
    return _online(store, model, "user", user_id, description)


def online_item(store: Any, model: HybridRecommender, item_id: str, description: str | None = None) -> Entities:
    """Read the current features of an item from the online store, as `online_user`, without checking β."""
    return _online(store, model, "item", item_id, description)


def request_encoder(store: Any) -> Encoder:
    """Return the encoder in a repository's `enrichment.json`."""
    settings = Enrichment.of_repo(store.repo_path)
    return shared_encoder(settings.model, backend=settings.backend)


def as_vectors(values: Iterable[Any], width: int, name: str) -> Vectors:
    """Return Feast's vectors as a matrix, with zero rows for missing ones and for those with NaN or infinity.

    A `ColdStartWarning` counts the latter.
    """
    rows = [value if isinstance(value, (list, np.ndarray)) and len(value) else np.zeros(width) for value in values]
    vectors = np.asarray(rows, dtype=np.float32).reshape(len(rows), width)
    vectors[~usable_rows(vectors, name)] = 0
    return vectors


def text_of(value: Any) -> str:
    """Return Feast's text as a string, "" if it is missing."""
    return value if isinstance(value, str) and has_text(value) else ""


def labels_of(value: Any) -> list[str]:
    """Return Feast's list of attributes, empty if it is missing."""
    return list(value) if isinstance(value, (list, np.ndarray)) else []


def _online(store: Any, model: HybridRecommender, side: str, name: str, description: str | None) -> Entities:
    features = [
        f"{side}_profiles:{side}_profile", f"{side}_profiles:{side}_evidence",
        *(f"{side}_descriptions:{side}_{feature}" for feature in ("description", "attributes", "embedding")),
        *(f"{side}_enriched:{side}_{feature}" for feature in ("evidence_weight", "embedding_fingerprint")),
    ]  # fmt: skip
    with serving(store):
        answer = store.get_online_features(features, [{f"{side}_id": name}]).to_dict()
    found = {key.removeprefix(f"{side}_"): values[0] for key, values in answer.items()}
    known = model.fitted.users if side == "user" else model.fitted.items
    width, fingerprint = known.embeddings.shape[1], str(found["embedding_fingerprint"])
    if fingerprint != model.fingerprint:
        raise FingerprintError(
            found=fingerprint, found_in=f"the online store's {side}s", expected=model.fingerprint,
            expected_by="the recommender", remedy="Run `coldstart profiles`, `feast apply`, `feast materialize` and "
            "`coldstart train` with one encoder.",
        )  # fmt: skip
    _same_as_trained(model, side, name, found, description)
    text, embedding = text_of(found["description"]), as_vectors([found["embedding"]], width, f"{side}_embedding")
    profile = as_vectors([found["profile"]], width, f"{side}_profile")
    if description and has_text(description) and description != text:
        encoder = request_encoder(store)
        if encoder.fingerprint != fingerprint:
            raise FingerprintError(
                found=encoder.fingerprint, found_in=f"{store.repo_path}/enrichment.json", expected=fingerprint,
                expected_by=f"the view {side}_enriched", remedy="Run `feast apply`, so that both use one encoder.",
            )  # fmt: skip
        text, embedding = description, encoder.encode([description])
    return Entities(
        [name], [text], [labels_of(found["attributes"])], embedding, profile,
        np.array([float(found["evidence"] or 0)]), fingerprint,
    )  # fmt: skip


def _same_as_trained(
    model: HybridRecommender, side: str, name: str, found: dict[str, Any], description: str | None
) -> None:
    """Raise an error if features that training knew are missing, or if α differs: scores would be wrong."""
    known = model.fitted.users if side == "user" else model.fitted.items
    if known.row(name) >= 0:
        trained, lost = known.take(known.rows([name])), []
        if side == "user" and found["profile"] is None and trained.profiles.any():
            lost.append("history")
        if not text_of(description) and not text_of(found["description"]) and trained.descriptions[0]:
            lost.append("a description")
        if lost:
            raise ColdStartError(
                f"{side} {name} has {' and '.join(lost)} in the bundle but not in the online store; run `feast "
                "materialize`, or `coldstart train` if it was erased since the last training"
            )
    # β is not part of a score, so items are not checked.
    settings, weight = model.parameters, float(found["evidence_weight"])
    expected = float(settings.alpha_of(float(found["evidence"] or 0)))
    if side == "user" and not np.isclose(weight, expected):
        raise ColdStartError(
            f"the view of users gives this description the weight {weight:g}, but the bundle was trained with "
            f"{expected:g}; run `feast apply` after `coldstart train`, so that both use one enrichment.json (if it was "
            "edited by hand, train first)"
        )
