"""The training job: read features from Feast, choose parameters on later interactions, write a bundle."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.data.contract import TABLES
from recommender.data.entities import Entities, with_history
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.data.tables import load, read_interactions
from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.online import as_vectors, labels_of, open_store, text_of
from recommender.pipeline.profiles import snapshots
from recommender.tuning.held_out_rankings import quality
from recommender.tuning.weights import tune

_SERVICE = "coldstart_training"
_SHARE_AFTER_CUTOFF = 0.1


def train(
    data: Path, repo: Path, bundle: Path, *, cutoff: datetime | None = None, parameters: Parameters | None = None,
    search: int | None = None, report: Report = no_report,
) -> HybridRecommender:
    """Fit on interactions before the cut-off, choose the parameters on later ones, and fit again on all.

    Event weights, half-life and evidence scale come from the repository's `enrichment.json`. β of the served P_i' is
    not part of a score and stays the same.

    Args:
        data: the folder of the tables of the data contract.
        repo: an applied Feast repository; α is written to its `enrichment.json`.
        bundle: the output folder of the recommender.
        cutoff: None is the last snapshot with at least a tenth of the interactions after it.
        parameters: parameters that are not chosen here.
        search: number of trials of LightFM's settings; all weights are chosen in each trial. The trials are kept in the
            file {bundle}.search.jsonl, so an interrupted search resumes, and a larger number adds trials.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: the data break the contract, the repository is not applied, there are no interactions before or
            after the cut-off, or a search is requested without Optuna.
    """
    if search is not None and find_spec("optuna") is None:
        raise ColdStartError("--search needs Optuna, which is not installed: pip install 'feast-coldstart[search]'")
    with duckdb.connect() as con:
        load(con, data)
        interactions = read_interactions(con)
        moments = snapshots(con)
        came = {side: _came(con, side) for side in ("user", "item")}
    cutoff = cutoff or _default_cutoff(interactions, moments)
    before = interactions.timestamps < np.datetime64(cutoff.astimezone(UTC).replace(tzinfo=None), "us")
    if before.all() or not before.any():
        raise ColdStartError(
            f"of {len(interactions):,} interactions, {int(before.sum()):,} are before the cut-off {cutoff:%Y-%m-%d}; "
            f"some must be before it and some after, so choose one between {moments[0]:%Y-%m-%d} and "
            f"{moments[-1]:%Y-%m-%d}"
        )
    settings = Enrichment.of_repo(repo)
    weights = EventWeights.of_settings(settings)
    parameters = replace(parameters or Parameters(), evidence_scale=settings.evidence_scale)
    store = open_store(repo)
    about: dict[str, Any] = {
        "trained_until": moments[-1].isoformat(),
        "cutoff": cutoff.isoformat(),
        "data_sha256": _data_hash(data),
    }

    report("features at the cut-off", 0, 1)
    users, items = read_features(store, interactions, cutoff)
    users = with_late_words(store, "user", users, came["user"], cutoff)
    items = with_late_words(store, "item", items, came["item"], cutoff)
    report("features at the cut-off", 1, 1)
    # Returned interactions are not relevant.
    seen, held_out = interactions.select(before), interactions.select(~before & np.isnat(interactions.returned))
    known = seen.weighted(weights, cutoff)
    if cutoff not in moments:
        # Between two snapshots, the store has the profiles of the earlier one, or none.
        users, items = with_history(known, users, items)
    if search is None:
        validated = tune(
            parameters, known, held_out, users, items, seen=seen,
            progress=lambda done, total: report("LightFM before the cut-off", done, total),
        )  # fmt: skip
    else:
        from recommender.tuning.search import search as run_search

        best = run_search(
            parameters, known, held_out, users, items, seen=seen, trials=search,
            storage=bundle.with_name(f"{bundle.name}.search.jsonl"),
            progress=lambda done, total: report("trials before the cut-off", done, total),
        )  # fmt: skip
        # One seed, as without a search, so that the figures in manifests are comparable.
        validated = fit(replace(best, lightfm_seeds=1), known, users, items, seen=seen)
        validated = validated.with_parameters(lightfm_seeds=best.lightfm_seeds)
    chosen, values = validated.parameters, quality(validated, held_out)
    about["metrics"] = {"validation": {"ndcg@20": float(values.mean()), "rankings": len(values)}} if len(values) else {}

    report("current features", 0, 1)
    users, items = read_features(store, interactions, moments[-1])
    report("current features", 1, 1)
    model = HybridRecommender(chosen).fit(
        interactions.weighted(weights, moments[-1]), users, items, seen=interactions,
        progress=lambda epoch, epochs: report("LightFM on all interactions", epoch, epochs),
    )  # fmt: skip
    model.save(bundle, about=about)
    source = settings.source | {"alpha": chosen.source.get("alpha", "default")}
    replace(settings, alpha=chosen.alpha, source=source).write(repo / ENRICHMENT_FILE)
    return model


def read_features(store: Any, interactions: Interactions, moment: datetime) -> tuple[Entities, Entities]:
    """Read the training features of every user and item as of one moment with Feast's historical retrieval.

    An entity row contains a user and an item, because the service has features of both; the two are unrelated. There
    are as many rows as the longer side has ids.
    """
    user_ids, item_ids = list(interactions.user_ids), list(interactions.item_ids)
    rows = max(len(user_ids), len(item_ids))
    frame = pd.DataFrame(
        {
            "user_id": user_ids + user_ids[-1:] * (rows - len(user_ids)),
            "item_id": item_ids + item_ids[-1:] * (rows - len(item_ids)),
            "event_timestamp": pd.Timestamp(moment),
        }
    )
    features = store.get_historical_features(entity_df=frame, features=store.get_feature_service(_SERVICE)).to_df()
    if len(features) != rows:
        raise ColdStartError(f"Feast returned {len(features)} rows for {rows} entity rows")
    return _entities(features, "user", user_ids), _entities(features, "item", item_ids)


def with_late_words(
    store: Any, side: str, known: Entities, came: NDArray[np.datetime64], cutoff: datetime
) -> Entities:
    """Add the first text of users or items that became known after the cut-off: it is available when they are served.

    Args:
        store: the Feast store.
        side: "user" or "item".
        known: features as of the cut-off; profiles and evidence stay the same.
        came: (n,) datetime64[us], UTC, when each became known.
        cutoff: the cut-off.
    """
    late = np.flatnonzero(came > np.datetime64(cutoff.astimezone(UTC).replace(tzinfo=None), "us"))
    if not len(late):
        return known
    other = {"user": "item", "item": "user"}[side]
    ids = [known.ids[row] for row in late.tolist()]
    frame = pd.DataFrame({
        f"{side}_id": ids, f"{other}_id": "none", "event_timestamp": pd.to_datetime(came[late]).tz_localize("UTC")
    })  # fmt: skip
    features = store.get_historical_features(entity_df=frame, features=store.get_feature_service(_SERVICE)).to_df()
    told = _entities(features, side, ids)
    descriptions, attributes = list(known.descriptions), list(known.attributes)
    embeddings = known.embeddings.copy()
    embeddings[late] = told.embeddings
    for place, row in enumerate(late.tolist()):
        descriptions[row], attributes[row] = told.descriptions[place], told.attributes[place]
    return replace(known, descriptions=descriptions, attributes=attributes, embeddings=embeddings)


def _came(con: duckdb.DuckDBPyConnection, side: str) -> NDArray[np.datetime64]:
    """Return when each user, or item, became known, in the order of their ids."""
    query = f"SELECT epoch_us(event_timestamp) AS came FROM {side}s ORDER BY {side}_id"
    return np.asarray(con.execute(query).fetchnumpy()["came"]).astype(np.int64).astype("datetime64[us]")


def _entities(features: pd.DataFrame, side: str, ids: list[str]) -> Entities:
    rows = features.drop_duplicates(f"{side}_id").set_index(f"{side}_id").loc[ids]
    fingerprint = str(rows[f"{side}_embedding_fingerprint"].iloc[0])
    width = len(rows[f"{side}_enriched_profile"].iloc[0])
    attributes = [labels_of(value) for value in rows[f"{side}_attributes"]]
    return Entities(
        ids, [text_of(value) for value in rows[f"{side}_description"]], attributes,
        as_vectors(rows[f"{side}_embedding"], width, f"{side}_embedding"),
        as_vectors(rows[f"{side}_profile"], width, f"{side}_profile"),
        rows[f"{side}_evidence"].fillna(0).to_numpy(np.float64), fingerprint,
    )  # fmt: skip


def _default_cutoff(interactions: Interactions, moments: list[datetime]) -> datetime:
    for moment in reversed(moments):
        after = interactions.timestamps >= np.datetime64(moment.replace(tzinfo=None), "us")
        if after.mean() >= _SHARE_AFTER_CUTOFF:
            return moment
    # Less than a month of data: the cut-off is after nine tenths of the interactions.
    middle = interactions.timestamps[int(len(interactions) * (1 - _SHARE_AFTER_CUTOFF))]
    seconds = math.floor(middle.astype("datetime64[us]").astype(np.int64) / 1_000_000)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def _data_hash(data: Path) -> str:
    digest = hashlib.sha256()
    # A script can create the tables from files with any name.
    for path in sorted(data.iterdir() if (data / "ingest.sql").is_file() else
                       (path for table in TABLES for path in data.glob(f"{table.name}.*"))):  # fmt: skip
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
