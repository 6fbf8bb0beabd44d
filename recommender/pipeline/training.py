"""The training job: read features from Feast, choose parameters on later interactions, write a bundle."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.tuning.manifests import check_recommends, read_learned
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import whole, writing
from coldstart_udfs.made_from import MadeFrom, data_hash
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.data.entities import Entities, with_history
from recommender.data.events import EventWeights
from recommender.data.facts import exclusions, warn_of_idle
from recommender.data.interactions import Interactions
from recommender.data.tables import load, read_interactions
from recommender.measure.latest import SMALLEST_PART, cold_share_of, latest
from recommender.model.pair_order import OnStep
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.online import as_vectors, labels_of, open_store, text_of
from recommender.pipeline.profiles import SOURCES, snapshots
from recommender.tuning.divisions import Division, by_chance, draws
from recommender.tuning.freshness import choose_freshness
from recommender.tuning.held_out_rankings import quality
from recommender.tuning.prior import Prior
from recommender.tuning.weights import tune

_SERVICE = "coldstart_training"
_SHARE_AFTER_CUTOFF = 0.1


def train(
    data: Path, repo: Path, bundle: Path, *, cutoff: datetime | None = None, parameters: Parameters | None = None,
    search: int | None = None, settle: bool = True, prior: Prior | None = None, report: Report = no_report,
    on_step: OnStep | None = None,
) -> HybridRecommender:
    """Fit on interactions before the cut-off, choose the parameters on later ones, and fit again on all.

    Where no moment divides the interactions, as if all had one timestamp, they are divided by chance.

    Event weights, half-life and evidence scale come from the repository's `enrichment.json`. β of the served P_i' is
    not part of a score and stays the same.

    Args:
        data: the folder of the tables of the data contract.
        repo: an applied Feast repository; α is written to its `enrichment.json`.
        bundle: the output folder of the recommender.
        cutoff: None is the last snapshot with at least a tenth of the interactions after it and a twentieth before it.
        parameters: parameters that are not chosen here.
        search: number of trials of LightFM's settings; all weights are chosen in each trial. The trials are kept in the
            file {bundle}.search.jsonl, so an interrupted search resumes, and a larger number adds trials.
        settle: whether α is written to the repository, see `settle_alpha`.
        prior: what small shops have in common (`recommender.tuning.prior`); it counts in a shop with few users. None:
            the data alone decide.
        report: called with (stage, done, total).
        on_step: called after each epoch of LightFM, and each trial of a search, with its number and what was measured,
            named "cutoff_fit/…" (the fit before the cut-off), "final_fit/…" and "search/…".

    Raises:
        ColdStartError: the data break the contract, the repository is not applied, there are no interactions before or
            after the cut-off, a search is requested without Optuna, or the encoder was tuned and is refused.
        InUseError: another process changes the repository or writes the bundle.
    """
    if search is not None and find_spec("optuna") is None:
        raise ColdStartError("--search needs Optuna, which is not installed: pip install 'feast-coldstart[search]'")
    with writing(whole(repo / "data"), bundle, command="coldstart train"):
        model = _train(data, repo, bundle, cutoff, parameters, search, prior, report, on_step)
        if settle:
            settle_alpha(repo, model.parameters)
    return model


def settle_alpha(repo: Path, chosen: Parameters) -> None:
    """Write the α of a trained recommender to a repository's `enrichment.json`; the next `feast apply` serves by it."""
    settings = Enrichment.of_repo(repo)
    source = settings.source | {"alpha": chosen.source.get("alpha", "default")}
    replace(settings, alpha=chosen.alpha, source=source).write(repo / ENRICHMENT_FILE)


def _train(
    data: Path, repo: Path, bundle: Path, cutoff: datetime | None, parameters: Parameters | None, search: int | None,
    prior: Prior | None, report: Report, on_step: OnStep | None,
) -> HybridRecommender:  # fmt: skip
    settings = Enrichment.of_repo(repo)
    check_recommends(settings.model)
    with duckdb.connect() as con:
        held = load(con, data, settings.event_weights).held
        data_sha256 = data_hash(data)
        _check_sources(repo, data, data_sha256)
        interactions = read_interactions(con, settings.event_weights)
        moments = snapshots(con, settings.half_life_days)
        came = {side: _came(con, side) for side in ("user", "item")}
        described = {side: _described(con, side, moments[-1]) for side in ("user", "item")}
        rules = exclusions(data)
        warn_of_idle(con, data)
    weights = EventWeights.of_settings(settings)
    parameters = replace(parameters or Parameters(), evidence_scale=settings.evidence_scale, exclusions=rules)
    division = _divided(interactions, cutoff or _default_cutoff(interactions, moments), parameters.seed)
    store = open_store(repo)
    about: dict[str, Any] = {
        "trained_until": moments[-1].isoformat(),
        "cutoff": None if division.by_chance else division.moment.isoformat(),
        "held_out": int((~division.known).sum()),
        "data_sha256": data_sha256,
        **({"events": asdict(held)} if held else {}),
    }

    report("features at the cut-off", 0, 1)
    learned = read_learned(settings.model)
    unseen = np.array([name not in learned for name in interactions.item_ids]) if learned else None
    divisions = _divisions(store, interactions, division, weights, came, moments, parameters.seed, unseen)
    report("features at the cut-off", 1, 1)
    if search is not None:
        from recommender.tuning.search import search as run_search

        best = run_search(
            parameters, divisions[-1], trials=search, storage=bundle.with_name(f"{bundle.name}.search.jsonl"),
            progress=lambda done, total: report("trials before the cut-off", done, total),
            on_trial=_named("search", on_step),
        )  # fmt: skip
        # What was learned beside LightFM's settings is learned again, on all divisions, from the same defaults.
        again = {name: getattr(parameters, name) for name in ("weights", "metric_ridge", "alpha")}
        parameters = replace(best, **again)
    tuned = tune(
        parameters, divisions, cold_share=cold_share_of(interactions),
        prior=prior.at(len(np.unique(interactions.users))) if prior else None,
        progress=lambda done, total: report("LightFM before the cut-off", done, total),
        on_epoch=_named("cutoff_fit", on_step),
    )  # fmt: skip
    settled = choose_freshness(tuned.fitted, divisions[-1], came["item"]).settled(tuned.parameters)
    source = parameters.source | settled.source
    chosen, values = replace(settled, source=source), quality(tuned.fitted, divisions[-1].wanted)
    about["metrics"] = {"validation": {"ndcg@20": float(values.mean()), "rankings": len(values)}} if len(values) else {}

    report("current features", 0, 1)
    users, items = read_features(store, interactions, moments[-1])
    for side, found in (("user", users), ("item", items)):
        _check_descriptions(repo, side, found, described[side])
    report("current features", 1, 1)
    model = HybridRecommender(chosen).fit(
        interactions.weighted(weights, moments[-1]), users, items, seen=interactions, came=came["item"],
        progress=lambda epoch, epochs: report("LightFM on all interactions", epoch, epochs),
        on_epoch=_named("final_fit", on_step),
    )  # fmt: skip
    model.save(bundle, about=about)
    return model


def _named(group: str, on_step: OnStep | None) -> OnStep | None:
    """Tell metrics under names that begin with a group."""
    if on_step is None:
        return None
    return lambda step, values: on_step(step, {f"{group}/{name}": value for name, value in values.items()})


def _divisions(
    store: Any, interactions: Interactions, division: _Division, weights: EventWeights,
    came: dict[str, NDArray[np.datetime64]], moments: list[datetime], seed: int, unseen: NDArray[np.bool_] | None,
) -> list[Division]:
    """Some by chance, of the interactions before the cut-off; then the one in time, if there is a cut-off.

    Features of a division by chance are those of the first moment, so that no search among them is one of a held-out
    interaction.
    """

    def features(moment: datetime) -> tuple[Entities, Entities]:
        users, items = read_features(store, interactions, moment)
        users = with_late_words(store, "user", users, came["user"], moment)
        return users, with_late_words(store, "item", items, came["item"], moment)

    found = []
    before = interactions if division.by_chance else interactions.select(division.known)
    users, items = features(_as_datetime(interactions.timestamps.min()))
    for draw in range(draws(before)):
        held = by_chance(before, interactions.item_ids, seed, draw, unseen)
        if held.all():
            held = np.zeros_like(held)  # of so little nothing can be held out
        # Returned interactions are not relevant.
        seen, wanted = before.select(~held), before.select(held & np.isnat(before.returned))
        counted = seen.weighted(weights, moments[-1] if division.by_chance else division.moment)
        found.append(Division(counted, wanted, *with_history(counted, users, items), seen))
    if not division.by_chance:
        users, items = features(division.moment)
        seen = interactions.select(division.known)
        wanted = interactions.select(~division.known & np.isnat(interactions.returned))
        counted = seen.weighted(weights, division.moment)
        if division.moment not in moments:
            # Between two snapshots, the store has the profiles of the earlier one, or none.
            users, items = with_history(counted, users, items)
        found.append(Division(counted, wanted, users, items, seen, in_time=True))
    return found


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


def _check_sources(repo: Path, data: Path, sha256: str) -> None:
    """Raise an error if the repository's sources do not exist or were not made from these data."""
    known = MadeFrom.of_repo(repo)
    if known and (problem := known.problem(repo, data, sha256)):
        raise ColdStartError(f"{problem}, then train")
    if (repo / "sql").is_dir() and not any((repo / "data" / path).exists() for path in SOURCES.values()):
        raise ColdStartError(
            f"{repo} has no sources yet; run `coldstart profiles --data {data} --repo {repo}`, `feast -c {repo} apply` "
            f"and `feast -c {repo} materialize`, then train"
        )


def _check_descriptions(repo: Path, side: str, found: Entities, described: NDArray[np.bool_]) -> None:
    """Compare the descriptions from Feast with those in the tables; all missing is an error, some are a warning."""
    lost = [name for name, text, there in zip(found.ids, found.descriptions, described, strict=True)
            if there and not text]  # fmt: skip
    if not lost:
        return
    count = int(described.sum())
    told = f"Feast returned no description for {len(lost):,} of {count:,} {side}s that have one, such as {lost[0]}"
    if len(lost) < count:
        warnings.warn(f"{told}; a view's ttl or sql/descriptions.sql may leave them out", UserWarning, stacklevel=2)
        return
    raise ColdStartError(
        f"{told}; run `coldstart profiles` and `feast -c {repo} apply`, and see that the views have no ttl, then train"
    )


def _described(con: duckdb.DuckDBPyConnection, side: str, moment: datetime) -> NDArray[np.bool_]:
    """Return which users, or items, have a description at a moment, in the order of their ids."""
    query = f"""
        SELECT event_timestamp <= $1 AND coalesce(regexp_matches(description, '\\S'), false) AS there
        FROM {side}s ORDER BY {side}_id
    """
    return np.asarray(con.execute(query, [moment]).fetchnumpy()["there"], dtype=bool)


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


@dataclass(frozen=True)
class _Division:
    """What is learned from while parameters are chosen; the other interactions are held out.

    Attributes:
        known: (n,) mask of the interactions that are learned from.
        moment: the features are those of this moment: the cut-off; by chance, the first of all moments, so that no
            search among the features is one of a held-out interaction.
        by_chance: whether there is no moment that divides them, and they are drawn.
    """

    known: NDArray[np.bool_]
    moment: datetime
    by_chance: bool


def _divided(interactions: Interactions, cutoff: datetime | None, seed: int) -> _Division:
    """Divide at the cut-off, or by chance if it is None."""
    times = interactions.timestamps
    if cutoff is None:
        return _Division(~by_chance(interactions, interactions.item_ids, seed), _as_datetime(times.min()), True)
    known = times < np.datetime64(cutoff.astimezone(UTC).replace(tzinfo=None), "us")
    if known.all() or not known.any():
        low, high = (f"{_as_datetime(time):%Y-%m-%dT%H:%M:%S}" for time in (times.min(), times.max()))
        raise ColdStartError(
            f"of {len(interactions):,} interactions, {int(known.sum()):,} are before the cut-off {cutoff:%Y-%m-%d}; "
            + (f"all are of {low}, so leave the cut-off out, and they are divided by chance" if low == high else
               f"some must be before it and some after, so choose one after {low} and at most {high}")
        )  # fmt: skip
    return _Division(known, cutoff, False)


def _default_cutoff(interactions: Interactions, moments: list[datetime]) -> datetime | None:
    """Return the last snapshot that has enough interactions on both sides; None if no moment has."""
    for moment in reversed(moments):
        before = (interactions.timestamps < np.datetime64(moment.replace(tzinfo=None), "us")).mean()
        if 1 - before >= _SHARE_AFTER_CUTOFF and before >= SMALLEST_PART:
            return moment
    # Less than a month of data: the cut-off is after nine tenths of the interactions.
    after = latest(interactions.timestamps, _SHARE_AFTER_CUTOFF)
    return None if after is None else _as_datetime(interactions.timestamps[after].min())


def _as_datetime(moment: np.datetime64) -> datetime:
    microseconds = int(moment.astype("datetime64[us]").astype(np.int64))
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)

