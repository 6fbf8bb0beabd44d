"""Compare every method on one kind of split, over several seeds, with intervals of the differences."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

import coldstart_udfs
import recommender
from coldstart_udfs.console import Report, no_report
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.made_from import versions_of
from recommender.data.dataset import Dataset
from recommender.evaluation.baselines import METHODS, OURS, Scorer, fit_ours, missing, scorer_of
from recommender.evaluation.resume import Arrays, Finished
from recommender.evaluation.trials import processor_seconds
from recommender.evaluation.tuned import TUNING, Tuner
from recommender.measure.intervals import ByItem, intervals
from recommender.measure.metrics import K, Metrics, rank_metrics
from recommender.measure.splits import CANDIDATES, SHOTS, Candidates, Split, make_splits, pair_matrix

if TYPE_CHECKING:
    from coldstart_udfs.settings import Enrichment
    from recommender.model.recommender import HybridRecommender
    from recommender.tuning.prior import Prior

# One block of scores, over all items, is about 32 MB of float32; larger ones are slower to copy and to sort.
_BLOCK = 8_000_000
_PACKAGES = ("feast-coldstart", "lightfm-next", "numpy", "scipy", "scikit-learn", "duckdb", "implicit")



@dataclass(frozen=True)
class Details:
    """The data behind the table.

    Attributes:
        per_user: by method and candidates, NDCG@20 of each tested user, seed after seed (k_shot: shots after shots).
        history: by candidates, number of items of each of these users in the training part, in the same order.
        users: by candidates, these users' row numbers, in the same order.
        draws: by candidates, the seed of each of these values.
        model: the recommender of the first seed.
        split: the split of `model`.
    """

    per_user: dict[tuple[str, str], NDArray[np.float64]]
    history: dict[str, NDArray[np.int64]]
    users: dict[str, NDArray[np.int64]]
    draws: dict[str, NDArray[np.int64]]
    model: HybridRecommender
    split: Split


@dataclass(frozen=True)
class Evaluation:
    """The table, ready for JSON, and the data behind it.

    Attributes:
        result: {"dataset", "split", "seeds", "rows", "versions", "notes"}; a row has method, candidates, users (tested,
            mean over seeds), ndcg@20 with its standard deviation over seeds, recall@20, precision@10, auc, coverage,
            cold_share, ci_low and ci_high (95 % interval of coldstart minus this method in NDCG@20, see
            `recommender.measure.intervals`; None in the row of coldstart), fit_s and score_s (processor seconds, means
            over seeds), tuning_s and trials (processor seconds and number of the trials that chose the method's
            settings, means over seeds), settings (the chosen ones, one for each seed; the last three are None in the
            row of coldstart, whose fit_s contains its choice), and shots in k_shot. The last note says the seconds of
            each method.
        details: data for the report.
    """

    result: dict[str, Any]
    details: Details


def evaluate(
    data: Dataset, split: str, *, seeds: int = 5, cutoff: datetime | None = None, shots: Sequence[int] = SHOTS,
    methods: Sequence[str] | None = None, tuning: float = TUNING, settings: Enrichment | None = None,
    prior: Prior | None = None, unfinished: Path | None = None, report: Report = no_report,
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
        prior: of the recommender, for few users (`recommender.tuning.prior`); None: the data alone decide.
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
    finished = Finished(unfinished, _key(data, split, cutoff, list(shots), seeds, tuning, versions, settings, prior))
    compared = [*others, OURS]
    asked = _Asked(compared)
    for seed in range(seeds):
        parts = make_splits(
            data.interactions, data.users, data.items, split, seed=seed, groups=data.groups, cutoff=cutoff, shots=shots,
            searchers=data.searchers,
        )  # fmt: skip
        for number, part in enumerate(parts):
            stage = f"seed {seed + 1} of {seeds}" + (f", shots {part.shots}" if part.shots else "")
            asked.ask(part, seed)
            kept = finished.folder("model") if not seed and not number else None
            ours = _Ours(part, seed, settings, prior, report, kept)
            report(stage, 0, len(compared))
            found = finished.get(f"{stage} {OURS}", ours.run)
            asked.add(OURS, part, seed, found)
            tuner = Tuner(part, seed, tuning * float(found["costs"][0]), report)
            for done, method in enumerate(others, 1):
                report(stage, done, len(compared))
                asked.add(method, part, seed, finished.get(f"{stage} {method}", partial(_run, part, method, tuner)))
            report(stage, len(compared), len(compared))
            if not seed and not number:
                model, first = ours.model(), part
    notes = [*data.notes, *(f"{name} is omitted: {left_out[name]}" for name in left_out if methods is None)]
    result = {
        "dataset": data.name, "split": split, "seeds": seeds, "rows": asked.rows(), "versions": versions,
        "notes": [*notes, asked.cost()],
    }  # fmt: skip
    return Evaluation(result, Details(*asked.per_user(), model, first))


def measure(split: Split, scorer: Scorer, method: str = "the method") -> dict[str, Metrics]:
    """Rank the candidates of every tested user, by kind of candidates; kinds without a relevant item are omitted."""
    return _measure(split, scorer, method)[0]


def lists_of(split: Split) -> dict[str, Candidates]:
    """Return the kinds of candidates of which some user wants one."""
    found = {name: split.candidates(name) for name in CANDIDATES}
    return {name: candidates for name, candidates in found.items() if len(candidates.users)}


def _measure(split: Split, scorer: Scorer, method: str) -> tuple[dict[str, Metrics], float]:
    lists = {name: _List.of(candidates) for name, candidates in lists_of(split).items()}
    blocks: dict[str, list[Metrics]] = {name: [] for name in lists}
    seconds, step = 0.0, max(_BLOCK // len(split.items), 1)
    for start in range(0, len(split.asked), step):
        rows = split.asked[start : start + step]
        began = processor_seconds()
        scores = np.asarray(scorer(rows))
        seconds += processor_seconds() - began
        if scores.shape != (len(rows), len(split.items)) or not np.isfinite(scores).all():
            raise ColdStartError(f"{method}: scores must be finite numbers of shape {(len(rows), len(split.items))}")
        for name, ranked in lists.items():
            first, last = np.searchsorted(ranked.users, (rows[0], rows[-1] + 1))
            if first < last:
                block = scores[np.searchsorted(rows, ranked.users[first:last])].take(ranked.columns, axis=1)
                wanted, known = ranked.wanted[first:last], ranked.known[first:last]
                blocks[name].append(rank_metrics(block, wanted, known, split.cold[ranked.columns]))
    return {name: Metrics.of(found) for name, found in blocks.items()}, seconds


@dataclass(frozen=True)
class _List:
    """The rows and columns of `Candidates` that are ranked."""

    users: NDArray[np.int64]
    columns: NDArray[np.int64]
    wanted: sp.csr_matrix
    known: sp.csr_matrix

    @classmethod
    def of(cls, candidates: Candidates) -> _List:
        users, columns = candidates.users, np.flatnonzero(candidates.items)
        return cls(users, columns, candidates.wanted[users][:, columns], candidates.excluded[users][:, columns])


def _run(split: Split, method: str, tuner: Tuner) -> Arrays:
    tuned = tuner.fit(method)
    arrays = _packed(split, tuned.scorer, method, tuned.fit_s, tuned.tuning_s, tuned.trials)
    return arrays | {"settings": np.array(json.dumps(tuned.settings))}


class _Ours:
    """The recommender on one split, fitted when it is first needed, and saved if a resumed evaluation needs it."""

    def __init__(
        self, split: Split, seed: int, settings: Enrichment | None, prior: Prior | None, report: Report,
        kept: Path | None,
    ) -> None:  # fmt: skip
        self._split, self._seed, self._settings, self._report, self._kept = split, seed, settings, report, kept
        self._prior = prior
        self._model: HybridRecommender | None = None

    def run(self) -> Arrays:
        began = processor_seconds()
        model = self.model()
        seconds = processor_seconds() - began
        if self._kept:
            model.save(self._kept)
        return _packed(self._split, scorer_of(model), OURS, seconds)

    def model(self) -> HybridRecommender:
        if self._model is None and self._kept and self._kept.is_dir():
            from recommender.model.recommender import HybridRecommender

            self._model = HybridRecommender.load(self._kept)
        if self._model is None:
            self._model = fit_ours(self._split, self._seed, self._report, self._settings, self._prior)
        return self._model


def _packed(
    split: Split, scorer: Scorer, method: str, fit_s: float, tuning_s: float = 0.0, trials: int = 0
) -> Arrays:
    metrics, score_s = _measure(split, scorer, method)
    arrays: Arrays = {"costs": np.array([fit_s, score_s, tuning_s, trials])}
    for name, found in metrics.items():
        arrays |= {f"{name}/{field.name}": getattr(found, field.name) for field in fields(Metrics)}
    return arrays


@dataclass(frozen=True)
class _Rankings:
    """Who is asked for one kind of candidates of one split, and who shares what.

    Attributes:
        users: (n,), row numbers.
        history: (n,), number of their items in the training part.
        groups: (candidates,), the number of each item's group.
        shares: (candidates,), the sum over users who want an item of 1 / number of items that they want.
    """

    users: NDArray[np.int64]
    history: NDArray[np.int64]
    groups: NDArray[np.int64]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, candidates: Candidates, split: Split) -> _Rankings:
        users, wanted = candidates.users, candidates.wanted[candidates.users]
        history = np.diff(pair_matrix(split.train).indptr).astype(np.int64)[users]
        _, groups = np.unique(split.groups, return_inverse=True)
        shares = np.asarray(wanted.T @ (1 / np.diff(wanted.indptr)), dtype=np.float64)
        return cls(users, history, groups[candidates.items], shares[candidates.items])


class _Asked:
    """All measurements, by shots, candidates, method and seed."""

    def __init__(self, methods: Sequence[str]) -> None:
        self._methods = methods
        self._rankings: dict[tuple[int | None, str], dict[int, _Rankings]] = {}
        self._found: dict[tuple[int | None, str, str], dict[int, Metrics]] = {}
        self._costs: dict[tuple[int | None, str], list[NDArray[np.float64]]] = {}
        self._settings: dict[tuple[int | None, str], list[dict[str, Any]]] = {}

    def ask(self, split: Split, seed: int) -> None:
        for name, candidates in lists_of(split).items():
            self._rankings.setdefault((split.shots, name), {})[seed] = _Rankings.of(candidates, split)

    def add(self, method: str, split: Split, seed: int, arrays: Arrays) -> None:
        self._costs.setdefault((split.shots, method), []).append(arrays["costs"])
        if method != OURS:
            self._settings.setdefault((split.shots, method), []).append(json.loads(str(arrays["settings"])))
        for (shots, name), rankings in self._rankings.items():
            if shots == split.shots and seed in rankings:
                metrics = Metrics(**{field.name: arrays[f"{name}/{field.name}"] for field in fields(Metrics)})
                self._found.setdefault((shots, name, method), {})[seed] = metrics

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table, ordered by shots, candidates and method, coldstart last."""
        rows = []
        for shots, candidates in sorted(self._rankings, key=lambda key: (key[0] or 0, CANDIDATES.index(key[1]))):
            bounds = self._intervals(shots, candidates)
            for method, (low, high) in zip(self._methods, bounds.tolist(), strict=True):
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

    def cost(self) -> str:
        """Return processor seconds of tuning, fitting and scoring, and trials, by method, most seconds first."""
        totals = {name: np.sum([np.sum(self._costs[key], axis=0) for key in self._costs if key[1] == name], axis=0)
                  for name in self._methods}  # fmt: skip
        order = sorted(totals, key=lambda name: -totals[name][:3].sum())
        trials = {name: f" ({costs[3]:.0f} trials)" if costs[3] else "" for name, costs in totals.items()}
        each = ", ".join(f"{name} {totals[name][:3].sum():,.1f}{trials[name]}" for name in order)
        everything = sum(float(costs[:3].sum()) for costs in totals.values())
        return f"Processor seconds of tuning, fitting and scoring: {everything:,.1f} in all; {each}"

    def per_user(self) -> tuple[
        dict[tuple[str, str], NDArray[np.float64]], dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]],
        dict[str, NDArray[np.int64]],
    ]:  # fmt: skip
        """Return NDCG@20, history, users and draws, pooled over shots and seeds."""
        keys = sorted(self._rankings, key=lambda key: key[0] or 0)
        kinds = [name for name in CANDIDATES if any(name == kind for _, kind in keys)]
        values = {
            (method, name): np.concatenate([self._pooled(shots, n, method) for shots, n in keys if n == name])
            for name in kinds for method in self._methods
        }  # fmt: skip
        asked = {
            name: [each for key in keys if key[1] == name for each in self._rankings[key].items()] for name in kinds
        }
        history = {name: np.concatenate([each.history for _, each in of_kind]) for name, of_kind in asked.items()}
        users = {name: np.concatenate([each.users for _, each in of_kind]) for name, of_kind in asked.items()}
        draws = {
            name: np.concatenate([np.full(len(each.users), seed) for seed, each in of_kind])
            for name, of_kind in asked.items()
        }
        return values, history, users, draws

    def _intervals(self, shots: int | None, candidates: str) -> NDArray[np.float64]:
        """Return (methods, 2): the 95 % intervals of coldstart minus each method in NDCG@20."""
        ours = self._pooled(shots, candidates, OURS)
        differences = np.column_stack([ours - self._pooled(shots, candidates, method) for method in self._methods])
        asked = self._rankings[shots, candidates]
        found = {method: self._found[shots, candidates, method] for method in self._methods}
        credits = {seed: [found[OURS][seed].credit - found[method][seed].credit for method in self._methods]
                   for seed in asked}  # fmt: skip
        by_item = ByItem(
            np.concatenate([np.column_stack(credits[seed]) for seed in asked]),
            np.concatenate([each.shares for each in asked.values()]),
            np.concatenate([each.groups for each in asked.values()]),
            np.concatenate([np.full(len(each.groups), seed) for seed, each in asked.items()]),
        )
        users = np.concatenate([each.users for each in asked.values()])
        draws = np.concatenate([np.full(len(each.users), seed) for seed, each in asked.items()])
        # A difference of NDCG has no larger range, whatever a single user can tell.
        return np.clip(intervals(differences, users, draws, by_item), -1, 1)

    def _pooled(self, shots: int | None, candidates: str, method: str) -> NDArray[np.float64]:
        return np.concatenate([metrics.ndcg for metrics in self._found[shots, candidates, method].values()])


def _versions(data: Dataset) -> dict[str, str]:
    return {"python": platform.python_version(), "encoder": data.users.fingerprint} | versions_of(_PACKAGES)


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
