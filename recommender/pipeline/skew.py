"""Compare the features that training read with those in the online store: `coldstart skew`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.feast.operations.skew import Skew, measure_skew
from coldstart_udfs.profile import Vectors, enrich, evidence_weight
from coldstart_udfs.settings import Enrichment
from recommender.data.entities import Entities
from recommender.model.bundle import read_manifest
from recommender.model.recommender import HybridRecommender


def bundle_skew(
    store: Any, bundle: Path, *, service: str = "coldstart_serving", limit: int | None = None,
    report: Report = no_report,
) -> list[Skew]:  # fmt: skip
    """Compare the users and items of a bundle, with its α and the repository's β, with the online store.

    Args:
        store: the Feast store.
        service: the feature service that serving reads.
        bundle: the folder of the trained recommender, which contains the features that training read.
        limit: at most this many users and this many items; None compares all.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: the bundle is missing or damaged, or the store has none of its features.
    """
    model = HybridRecommender.load(bundle)
    moment = datetime.fromisoformat(read_manifest(bundle)["trained_until"])
    settings, beta = model.parameters, Enrichment.of_repo(Path(store.repo_path)).beta
    found = []
    of_users = settings.alpha_of(model.users.evidence)
    of_items = evidence_weight(model.items.evidence, beta, settings.evidence_scale)
    for side, entities, weights in (("user", model.users, of_users), ("item", model.items, of_items)):
        frame = _frame(side, entities, weights, moment)
        found += measure_skew(store, frame, service=service, limit=limit, report=report)
    return found


def _frame(side: str, entities: Entities, weights: NDArray[np.float64], moment: datetime) -> pd.DataFrame:
    """Return the features that training read, with Feast's names; zero rows and empty texts become NULL."""
    enriched = enrich(entities.profiles, entities.embeddings, weights)
    return pd.DataFrame({
        f"{side}_id": list(entities.ids),
        "event_timestamp": pd.Timestamp(moment),
        f"{side}_description": [text or None for text in entities.descriptions],
        f"{side}_attributes": [list(labels) or None for labels in entities.attributes],
        f"{side}_embedding": _rows_or_none(entities.embeddings, np.any(entities.embeddings, axis=1)),
        # With evidence, a zero profile is a value; without evidence, it means that there is no profile.
        f"{side}_profile": _rows_or_none(entities.profiles, entities.evidence > 0),
        f"{side}_evidence": [n or None for n in entities.evidence.tolist()],
        f"{side}_enriched_profile": list(enriched),
        f"{side}_evidence_weight": weights,
        f"{side}_embedding_fingerprint": entities.fingerprint,
    })  # fmt: skip


def _rows_or_none(matrix: Vectors, known: NDArray[np.bool_]) -> list[Vectors | None]:
    return [row if there else None for row, there in zip(matrix, known, strict=True)]
