"""Compare every method on one kind of split, over several seeds, with intervals of the differences."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import coldstart_udfs
import recommender
from coldstart_udfs.console import Report, no_report
from coldstart_udfs.errors import ColdStartError
from recommender.data.dataset import Dataset
from recommender.evaluation.baselines import METHODS, OURS, Scorer, fit_ours, missing, scorer_of
from recommender.evaluation.resume import Arrays, Finished
from recommender.evaluation.tuned import TUNING, Tuner
from recommender.measure.metrics import K, Metrics, paired_intervals, rank_metrics
from recommender.measure.splits import SHOTS, Split, make_splits, pair_matrix

if TYPE_CHECKING:
    from coldstart_udfs.settings import Enrichment
    from recommender.model.recommender import HybridRecommender

CANDIDATES = ("cold", "warm", "overall")
# One block of scores, over all items, is about 100 MB of float32.
_BLOCK = 25_000_000
_PACKAGES = ("feast-coldstart", "lightfm-next", "numpy", "scipy", "scikit-learn", "duckdb", "implicit")



@dataclass(frozen=True)
class Details:
    """The data behind the table.

    Attributes:
        per_user: by method and candidates, NDCG@20 of each tested user, seed after seed (k_shot: shots after shots).
        history: by candidates, number of items of each of these users in the training part, in the same order.
        model: the recommender of the first seed.
        split: the split of `model`.
    """

    per_user: dict[tuple[str, str], NDArray[np.float64]]
    history: dict[str, NDArray[np.int64]]
    model: HybridRecommender
    split: Split


@dataclass(frozen=True)
class Evaluation:
    """The table, ready for JSON, and the data behind it.

    Attributes:
        result: {"dataset", "split", "seeds", "rows", "versions", "notes"}; a row has method, candidates, users (tested,
            mean over seeds), ndcg@20 with its standard deviation over seeds, recall@20, precision@10, auc, coverage,
            cold_share, ci_low and ci_high (95 % interval of coldstart minus this method in NDCG@20; None in the row of
            coldstart), fit_s and score_s (means over seeds), tuning_s and trials (seconds and number of the trials
            that chose the method's settings, means over seeds), settings (the chosen ones, one for each seed; the last
            three are None in the row of coldstart, whose fit_s contains its choice), and shots in k_shot.
        details: data for the report.
    """

    result: dict[str, Any]
    details: Details


def evaluate(
    data: Dataset, split: str, *, seeds: int = 5, cutoff: datetime | None = None, shots: Sequence[int] = SHOTS,
    methods: Sequence[str] | None = None, tuning: float = TUNING, settings: Enrichment | None = None,
    unfinished: Path | None = None, report: Report = no_report,
) -> Evaluation:
    """Fit every method on the training part of every seed's split, and compare their rankings of the test part.

    Args:
        data: a result of `read_dataset`.
        split: one of `recommender.measure.splits.SPLITS`.
        seeds: number of seeds, from 0 on, for the splits and the methods.
        cutoff: see `make_splits`.
        shots: see `make_splits`.
        methods: methods to compare with; None: all of `METHODS` that can run here.
        tuning: seconds for choosing the settings of each other method, as a multiple of the seconds that the
            recommender takes to choose and to fit, which therefore runs first; 0: their defaults.
        settings: settings of a repository for the recommender: event weights, half-life and `evidence_scale`. None: the
            defaults, and a half-life chosen by `fit_tuned`. The test part does not depend on them.
        unfinished: a folder for intermediate results, so that the same call resumes an interrupted evaluation; remove
            it when the evaluation is written. Results for other data, arguments, versions or code are deleted.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: as `make_splits`; seeds below 1; `tuning` below 0; a method that is unknown or cannot run here;
            scores that are not finite.
    """
    if seeds < 1:
        raise ColdStartError(f"seeds is {seeds}; it must be at least 1")
    if tuning < 0:
        raise ColdStartError(f"tuning is {tuning}; it must be at least 0")
    left_out = missing()
    others = [name for name in METHODS if name not in left_out] if methods is None else list(methods)
    for name in others:
        if name not in METHODS or name in left_out:
            raise ColdStartError(left_out.get(name) or f"unknown method {name!r}; choose from {', '.join(METHODS)}")
    versions = _versions(data)
    finished = Finished(unfinished, _key(data, split, cutoff, list(shots), seeds, tuning, versions, settings))
    asked = _Asked([*others, OURS])
    for seed in range(seeds):
        parts = make_splits(
            data.interactions, data.users, data.items, split, seed=seed, groups=data.groups, cutoff=cutoff, shots=shots,
            searchers=data.searchers,
        )  # fmt: skip
        for number, part in enumerate(parts):
            stage = f"seed {seed + 1} of {seeds}" + (f", shots {part.shots}" if part.shots else "")
            report(stage, 0, len(others) + 1)
            kept = finished.folder("model") if not seed and not number else None
            ours = _Ours(part, seed, settings, report, kept)
            found = finished.get(f"{stage} {OURS}", ours.run)
            asked.add(OURS, part, seed, found)
            if not seed and not number:
                model, first = ours.model(), part
            tuner = Tuner(part, seed, tuning * float(found["costs"][0]), report)
            for done, method in enumerate(others, 1):
                report(stage, done, len(others) + 1)
                asked.add(method, part, seed, finished.get(f"{stage} {method}", partial(_run, part, method, tuner)))
            report(stage, len(others) + 1, len(others) + 1)
    result = {
        "dataset": data.name, "split": split, "seeds": seeds, "rows": asked.rows(), "versions": versions,
        "notes": [*data.notes, *(f"{name} is omitted: {left_out[name]}" for name in left_out if methods is None)],
    }  # fmt: skip
    return Evaluation(result, Details(*asked.per_user(), model, first))


def measure(split: Split, scorer: Scorer, method: str = "the method") -> dict[str, Metrics]:
    """Rank the candidates of every tested user, by kind of candidates; kinds without a relevant item are omitted."""
    return _measure(split, scorer, method)[0]


def _measure(split: Split, scorer: Scorer, method: str) -> tuple[dict[str, Metrics], float]:
    masks = _masks(split)
    blocks: dict[str, list[Metrics]] = {name: [] for name in masks}
    seconds, step = 0.0, max(_BLOCK // len(split.items), 1)
    for start in range(0, len(split.asked), step):
        rows = split.asked[start : start + step]
        began = time.perf_counter()
        scores = np.asarray(scorer(rows))
        seconds += time.perf_counter() - began
        if scores.shape != (len(rows), len(split.items)) or not np.isfinite(scores).all():
            raise ColdStartError(f"{method}: scores must be finite numbers of shape {(len(rows), len(split.items))}")
        wanted, known = split.wanted[rows].toarray() > 0, split.excluded[rows].toarray() > 0
        for name, mask in masks.items():
            able = wanted[:, mask].any(axis=1)
            if able.any():
                block = np.ix_(able, mask)
                blocks[name].append(rank_metrics(scores[block], wanted[block], known[block], split.cold[mask]))
    return {name: Metrics.of(found) for name, found in blocks.items()}, seconds


def _masks(split: Split) -> dict[str, NDArray[np.bool_]]:
    """The candidates of each kind with a relevant item for some user."""
    wanted = np.asarray(split.wanted[split.asked].sum(axis=0)).ravel() > 0
    masks = {"cold": split.cold, "warm": split.warm, "overall": np.ones(len(split.items), dtype=bool)}
    return {name: mask for name, mask in masks.items() if (wanted & mask).any()}


def _asked_rows(split: Split, candidates: str) -> NDArray[np.int64]:
    mask = _masks(split)[candidates]
    return split.asked[np.asarray(split.wanted[split.asked][:, mask].sum(axis=1)).ravel() > 0]


def _run(split: Split, method: str, tuner: Tuner) -> Arrays:
    tuned = tuner.fit(method)
    arrays = _packed(split, tuned.scorer, method, tuned.fit_s, tuned.tuning_s, tuned.trials)
    return arrays | {"settings": np.array(json.dumps(tuned.settings))}


class _Ours:
    """The recommender on one split, fitted when it is first needed, and saved if a resumed evaluation needs it."""

    def __init__(
        self, split: Split, seed: int, settings: Enrichment | None, report: Report, kept: Path | None
    ) -> None:
        self._split, self._seed, self._settings, self._report, self._kept = split, seed, settings, report, kept
        self._model: HybridRecommender | None = None

    def run(self) -> Arrays:
        began = time.perf_counter()
        model = self.model()
        seconds = time.perf_counter() - began
        if self._kept:
            model.save(self._kept)
        return _packed(self._split, scorer_of(model), OURS, seconds)

    def model(self) -> HybridRecommender:
        if self._model is None and self._kept and self._kept.is_dir():
            from recommender.model.recommender import HybridRecommender

            self._model = HybridRecommender.load(self._kept)
        if self._model is None:
            self._model = fit_ours(self._split, self._seed, self._report, self._settings)
        return self._model


def _packed(
    split: Split, scorer: Scorer, method: str, fit_s: float, tuning_s: float = 0.0, trials: int = 0
) -> Arrays:
    metrics, score_s = _measure(split, scorer, method)
    arrays: Arrays = {"costs": np.array([fit_s, score_s, tuning_s, trials])}
    for name, found in metrics.items():
        arrays |= {f"{name}/{field.name}": getattr(found, field.name) for field in fields(Metrics)}
    return arrays


class _Asked:
    """All measurements, by shots, candidates, method and seed."""

    def __init__(self, methods: Sequence[str]) -> None:
        self._methods = methods
        self._users: dict[tuple[int | None, str], dict[int, NDArray[np.int64]]] = {}
        self._history: dict[tuple[int | None, str], dict[int, NDArray[np.int64]]] = {}
        self._found: dict[tuple[int | None, str, str], dict[int, Metrics]] = {}
        self._costs: dict[tuple[int | None, str], list[NDArray[np.float64]]] = {}
        self._settings: dict[tuple[int | None, str], list[dict[str, Any]]] = {}

    def add(self, method: str, split: Split, seed: int, arrays: Arrays) -> None:
        self._costs.setdefault((split.shots, method), []).append(arrays["costs"])
        if method != OURS:
            self._settings.setdefault((split.shots, method), []).append(json.loads(str(arrays["settings"])))
        items = np.diff(pair_matrix(split.train).indptr).astype(np.int64)
        for name in _masks(split):
            metrics = Metrics(**{field.name: arrays[f"{name}/{field.name}"] for field in fields(Metrics)})
            self._found.setdefault((split.shots, name, method), {})[seed] = metrics
            rows = _asked_rows(split, name)
            self._users.setdefault((split.shots, name), {})[seed] = rows
            self._history.setdefault((split.shots, name), {})[seed] = items[rows]

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table, ordered by shots, candidates and method, coldstart last."""
        rows = []
        for shots, candidates in sorted(self._users, key=lambda key: (key[0] or 0, CANDIDATES.index(key[1]))):
            values = {m: self._pooled(shots, candidates, m) for m in self._methods}
            users = np.concatenate(list(self._users[shots, candidates].values()))
            differences = np.column_stack([values[OURS] - values[method] for method in self._methods])
            intervals = paired_intervals(differences, users)
            for method, (low, high) in zip(self._methods, intervals.tolist(), strict=True):
                found = list(self._found[shots, candidates, method].values())
                means = [metrics.means() for metrics in found]
                fit_s, score_s, tuning_s, trials = np.mean(self._costs[shots, method], axis=0).tolist()
                spread = float(np.std([mean[f"ndcg@{K}"] for mean in means], ddof=1)) if len(means) > 1 else None
                rows.append(
                    {"method": method, "candidates": candidates}
                    | ({} if shots is None else {"shots": shots})
                    | {"users": float(np.mean([len(metrics.ndcg) for metrics in found]))}
                    | {name: float(np.mean([mean[name] for mean in means])) for name in means[0]}
                    | {f"ndcg@{K}_std": spread}
                    | {"ci_low": None if method == OURS else low, "ci_high": None if method == OURS else high}
                    | {"fit_s": fit_s, "score_s": score_s}
                    | dict.fromkeys(("tuning_s", "trials", "settings"))
                    | (
                        {} if method == OURS
                        else {"tuning_s": tuning_s, "trials": trials, "settings": self._settings[shots, method]}
                    )
                )
        return rows

    def per_user(self) -> tuple[dict[tuple[str, str], NDArray[np.float64]], dict[str, NDArray[np.int64]]]:
        """Return NDCG@20 and history, pooled over shots and seeds."""
        keys = sorted(self._users, key=lambda key: key[0] or 0)
        values = {
            (method, name): np.concatenate([self._pooled(shots, n, method) for shots, n in keys if n == name])
            for name in CANDIDATES if any(n == name for _, n in keys) for method in self._methods
        }  # fmt: skip
        history = {
            name: np.concatenate([rows for key in keys if key[1] == name for rows in self._history[key].values()])
            for _, name in values
        }
        return values, history

    def _pooled(self, shots: int | None, candidates: str, method: str) -> NDArray[np.float64]:
        return np.concatenate([metrics.ndcg for metrics in self._found[shots, candidates, method].values()])


def _versions(data: Dataset) -> dict[str, str]:
    found = {"python": platform.python_version(), "encoder": data.users.fingerprint}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _key(data: Dataset, *arguments: object) -> str:
    """Hash everything that a result depends on: data, arguments, versions, and the code of this project."""
    digest = hashlib.blake2b(repr(arguments).encode(), digest_size=16)
    digest.update(repr((data.groups, data.users.ids, data.items.ids, data.users.attributes)).encode())
    digest.update(repr((data.users.descriptions, data.items.descriptions, data.items.attributes)).encode())
    digest.update(repr(tuple(data.interactions.event_types)).encode())
    for name in ("users", "items", "timestamps", "weights", "events", "returned"):
        digest.update(np.ascontiguousarray(getattr(data.interactions, name)).tobytes())
    if data.searchers:
        searches = data.searchers.searches
        digest.update(repr(searches.texts).encode())
        digest.update(searches.users.tobytes() + searches.timestamps.tobytes())
    for package in (coldstart_udfs.__file__, recommender.__file__):
        for path in sorted(Path(package).parent.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
