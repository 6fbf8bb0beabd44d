"""Measure `coldstart encoder tune`: ranking of new items before and after, on every data set. `make bench-tuning`.

Writes its section of docs/explanation/tuning.md. Each data set is divided as by `coldstart evaluate --split item_cold`:
the encoder is tuned, stopped and judged within the training part, and compared on the test part. Results are kept in
data/bench-tuning, so that an interrupted run continues; `--again` measures anew.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_languages import agreement
from bench_recommender_setup import ENCODERS, data_hash, dataset, make_tables, told
from common import EXPLANATION, ROOT, made_by, table, write_between
from numpy.typing import NDArray
from real_data import NAMES

from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.encoder.tuning.settings import TuningSettings
from coldstart_udfs.encoder.tuning.training import TunedVectors, tune_encoder
from coldstart_udfs.files import write_text
from coldstart_udfs.profile import Vectors
from recommender.data.dataset import Dataset
from recommender.data.events import EventWeights
from recommender.evaluation.baselines import fit_ours, scorer_of
from recommender.evaluation.comparison import measure
from recommender.evaluation.encoder_tuning.guard import described, judge
from recommender.evaluation.encoder_tuning.parts import Parts, parts_of
from recommender.evaluation.encoder_tuning.stopping import RidgeRanking
from recommender.evaluation.resume import Finished
from recommender.measure.intervals import ByItem, intervals
from recommender.measure.splits import Split, make_splits, pair_matrix

PAGE = EXPLANATION / "tuning.md"
KEPT = ROOT / "data" / "bench-tuning"
SEEDS = 2
KINDS = ("network", "static")
# Whose votes tell whether the multilingual encoder still knows Chinese.
VOTES = "polis-vtaiwan"
_PACKAGES = ("sentence-transformers", "torch", "transformers", "numpy")
_NEIGHBOURS, _SAMPLE = 10, 500

Found = dict[str, Any]


def main() -> None:
    """Measure, and write the section with all results that are there."""
    parser = argparse.ArgumentParser(description="Measure coldstart encoder tune.")
    parser.add_argument("--data-dir", type=Path, help="folder with the folders of the other data sets")
    parser.add_argument("--sets", nargs="+", choices=NAMES, help="data sets; default: all found")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--no-guard", action="store_true", help="leave the guard out, which takes most of the time")
    parser.add_argument("--again", action="store_true", help="measure anew")
    given = parser.parse_args()
    names = make_tables(given.data_dir, given.sets)
    for kind in given.kinds:
        for name in names:
            for seed in range(given.seeds):
                _Measured(name, kind, seed, again=given.again).run(guard=not given.no_guard)
    if VOTES in names and (given.data_dir / VOTES).is_dir():
        _votes(given.data_dir / VOTES, again=given.again)
    write()


class _Measured:
    """One data set, kind of model and seed; each stage is kept."""

    def __init__(self, name: str, kind: str, seed: int, *, again: bool) -> None:
        self._name, self._kind, self._seed = name, kind, seed
        self._folder = KEPT / f"{name}-{kind}-{seed}"
        if again:
            for path in self._folder.glob("*.np*"):
                path.unlink()

    def run(self, *, guard: bool) -> None:
        """Tune, rank the test part, and ask the guard."""
        data = dataset(self._name)
        identity = f"{self._name} {data_hash(self._name)} {self._kind} {self._seed}"
        finished = Finished(self._folder / "parts", identity)
        (split,) = make_splits(
            data.interactions, data.users, data.items, "item_cold", seed=self._seed, groups=data.groups,
            searchers=data.searchers,
        )  # fmt: skip
        groups = list(data.items.ids) if data.groups is None else data.groups
        parts = parts_of(split.train, groups, EventWeights(), seed=self._seed, in_time=False)
        base = Encoder(
            ENCODERS.get(self._name), backend="static" if self._kind == "static" else "torch", cache=False
        )
        vectors = self._tuned(data, parts, base, finished)
        tuned = Encoder(self._folder / "model", backend="torch", cache=False)
        ridge = RidgeRanking(data.items, pair_matrix(split.train), split.wanted, split.cold)
        scores = {f"{name} {when}": value for when, one in (("before", vectors["before"]), ("after", vectors["after"]))
                  for name, value in (("cosine", ridge.cosine(one)), ("ridge", ridge(one)))}  # fmt: skip
        before, after = (described(data, encoder, vectors[when])
                         for encoder, when in ((base, "before"), (tuned, "after")))  # fmt: skip
        for when, one, unseen in (("before", before, None), ("after", after, ~parts.learned)):
            told(f"{self._name} {self._kind} {self._seed}: the recommender {when}")
            finished.get(f"full {when}", partial(_ranked, one, self._seed, unseen))
        result = {
            "seconds": float(vectors["seconds"]), "steps": int(vectors["steps"]), "items": len(data.items),
            "learned": int(parts.learned.sum()), "kept of 10 nearest": _kept(vectors["before"], vectors["after"]),
            **scores,
        }  # fmt: skip
        self._write(result)
        if guard:
            told(f"{self._name} {self._kind} {self._seed}: guard")
            inner = [replace(one, interactions=split.train) for one in (before, after)]
            verdict = judge(
                inner[0], inner[1], parts.guard & ~split.cold, None, ~parts.learned, seed=self._seed, finished=finished
            )
            self._write({**result, "recommends": verdict.recommends, "verdict": str(verdict)})

    def _tuned(self, data: Dataset, parts: Parts, base: Encoder, finished: Finished) -> dict[str, NDArray[Any]]:
        def make() -> dict[str, NDArray[Any]]:
            told(f"{self._name} {self._kind} {self._seed}: tuning")
            judged = RidgeRanking(data.items, parts.known, parts.taken, parts.stopping)
            found: TunedVectors = tune_encoder(
                base.files, data.items.descriptions, parts.known, self._folder / "model", judge=judged,
                settings=TuningSettings(seed=self._seed), static=self._kind == "static",
                unfinished=self._folder / "steps",
            )  # fmt: skip
            return {"before": found.before, "after": found.after, "seconds": np.array(found.seconds),
                    "steps": np.array(found.steps)}  # fmt: skip

        return finished.get("vectors", make)

    def _write(self, result: Found) -> None:
        write_text(self._folder / "result.json", json.dumps(result, indent=1) + "\n")


def _ranked(data: Dataset, seed: int, unseen: NDArray[np.bool_] | None) -> dict[str, NDArray[Any]]:
    (split,) = make_splits(
        data.interactions, data.users, data.items, "item_cold", seed=seed, groups=data.groups, searchers=data.searchers
    )
    began = time.process_time()
    metrics = measure(split, scorer_of(fit_ours(split, seed, unseen=unseen)))["cold"]
    return {"ndcg": metrics.ndcg, "credit": metrics.credit, "seconds": np.array(time.process_time() - began),
            **_asked(split)}  # fmt: skip


def _asked(split: Split) -> dict[str, NDArray[Any]]:
    ranked = split.candidates("cold")
    wanted = ranked.wanted[ranked.users]
    _, groups = np.unique(split.groups, return_inverse=True)
    shares = np.asarray(wanted.T @ (1 / np.diff(wanted.indptr)), dtype=np.float64)
    return {"users": ranked.users, "groups": groups[ranked.items], "shares": shares[ranked.items]}


def _kept(before: Vectors, after: Vectors) -> float:
    """The mean share of the ten most similar items that stay among them."""
    rows = np.unique(np.linspace(0, len(before) - 1, _SAMPLE).astype(int))
    nearest = []
    for vectors in (before, after):
        similar = vectors[rows] @ vectors.T
        similar[np.arange(len(rows)), rows] = -np.inf
        nearest.append(np.argpartition(-similar, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS])
    return float(np.mean([len(np.intersect1d(*pair)) for pair in zip(*nearest, strict=True)]) / _NEIGHBOURS)


def _votes(folder: Path, *, again: bool) -> None:
    """AUC of votes on Chinese statements, under the multilingual encoder before and after it is tuned on German ones.

    The German statements are those of polis-austria, whose encoder of seed 0 is taken.
    """
    import duckdb

    out = KEPT / "votes.json"
    model = KEPT / "polis-austria-network-0" / "model"
    if (out.is_file() and not again) or not model.is_dir():
        return
    with duckdb.connect() as con:
        statements = con.sql(f"SELECT item_id, description FROM '{folder}/statements.parquet' ORDER BY ALL").fetchall()
        cast = con.sql(
            f"SELECT user_id, item_id, vote > 0 FROM '{folder}/votes.parquet' WHERE vote <> 0 ORDER BY ALL"
        ).fetchall()
    places = {item: place for place, (item, _) in enumerate(statements)}
    users: dict[str, list[tuple[int, bool]]] = {}
    for user, item, agrees in cast:
        users.setdefault(user, []).append((places[item], agrees))
    texts = [str(text) for _, text in statements]
    found = {}
    for name, encoder in (("before", Encoder("multilingual", backend="torch", cache=False)),
                          ("after", Encoder(model, backend="torch", cache=False))):  # fmt: skip
        found[name] = float(agreement(encoder.encode(texts), list(users.values())).mean())
    write_text(out, json.dumps(found) + "\n")


def write() -> None:
    """Write the section from the results that are kept."""
    rows = []
    for kind in KINDS:
        for name in NAMES:
            folders = sorted(KEPT.glob(f"{name}-{kind}-*"))
            results = [json.loads((one / "result.json").read_text("utf-8")) for one in folders
                       if (one / "result.json").is_file()]  # fmt: skip
            if results:
                rows.append(_row(name, kind, [one for one in folders if (one / "result.json").is_file()], results))
    head = ("data set", "model", "seeds", "cosine", "ridge", "recommender", "difference, 95 %", "nearest kept",
            "seconds", "guard")  # fmt: skip
    lines = table(head, rows)
    if (KEPT / "votes.json").is_file():
        votes = json.loads((KEPT / "votes.json").read_text("utf-8"))
        lines += ["", (
            "`multilingual` tuned on the German statements of polis-austria, asked about the Chinese ones of "
            f"polis-vtaiwan: AUC of agree over disagree {votes['before']:.3f} before, {votes['after']:.3f} after."
        )]  # fmt: skip
    about = "NDCG@20 of new items (split item_cold), before → after. Seconds are of the tuning, without the guard."
    write_between(PAGE, "bench-tuning", "\n".join([made_by("make bench-tuning", about, _PACKAGES), "", *lines]))
    print("\n".join(lines))


def _row(name: str, kind: str, folders: Sequence[Path], results: Sequence[Found]) -> tuple[str, ...]:
    pairs = []
    for folder in folders:
        identity = f"{name} {data_hash(name)} {kind} {folder.name.rpartition('-')[2]}"
        finished = Finished(folder / "parts", identity)
        pairs.append([finished.get(f"full {when}", _missing) for when in ("before", "after")])
    draws = [np.full(len(before["ndcg"]), draw) for draw, (before, _) in enumerate(pairs)]
    differences = np.concatenate([after["ndcg"] - before["ndcg"] for before, after in pairs])[:, None]
    by_item = ByItem(
        np.concatenate([after["credit"] - before["credit"] for before, after in pairs])[:, None],
        np.concatenate([before["shares"] for before, _ in pairs]),
        np.concatenate([before["groups"] for before, _ in pairs]),
        np.concatenate([np.full(len(before["credit"]), draw) for draw, (before, _) in enumerate(pairs)]),
    )
    users = np.concatenate([before["users"] for before, _ in pairs])
    ((low, high),) = intervals(differences, users, np.concatenate(draws), by_item)
    means = [float(np.mean([one[when]["ndcg"].mean() for one in pairs])) for when in (0, 1)]

    def shown(what: str) -> str:
        before, after = (np.mean([one[f"{what} {when}"] for one in results]) for when in ("before", "after"))
        return f"{before:.3f} → {after:.3f}"

    guards = [one["recommends"] for one in results if "recommends" in one]
    verdict = ", ".join("recommends" if one else "refuses" for one in guards) or "not asked"
    return (
        name, kind, str(len(results)), shown("cosine"), shown("ridge"), f"{means[0]:.4f} → {means[1]:.4f}",
        f"{means[1] - means[0]:+.4f} ({low:+.4f} … {high:+.4f})",
        f"{np.mean([one['kept of 10 nearest'] for one in results]):.0%}",
        f"{np.mean([one['seconds'] for one in results]):.0f}", verdict,
    )  # fmt: skip


def _missing() -> dict[str, NDArray[Any]]:
    raise SystemExit("results in data/bench-tuning are of other data; run make bench-tuning again with --again")


if __name__ == "__main__":
    main()
