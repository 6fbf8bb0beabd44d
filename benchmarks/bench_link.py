"""Links between two shops: what brings new customers of the second something; `make bench-link DATA=folder`.

Writes its section of docs/explanation/linking.md. Two departments of Complete Journey are two shops. Each draw sets a
fifth of the households that are in both aside: they are new in the second shop, which knows none of their purchases.
Every method has its settings chosen on the other shared households. NDCG@20 of what the new ones bought there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from bench_link_languages import across_languages
from bench_recommender_setup import dataset, make_tables, told
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray

from coldstart_udfs.link import LinkAbout, unit
from coldstart_udfs.profile import Vectors
from recommender.data.dataset import Dataset
from recommender.data.entities import with_history
from recommender.data.interactions import Interactions
from recommender.measure.intervals import intervals
from recommender.measure.metrics import rank_metrics
from recommender.measure.splits import stable_share
from recommender.model.closed_form import item_metric
from recommender.model.fitted import Fitted
from recommender.model.lightfm import FeatureSpace
from recommender.model.linked import SMALLEST, lift_scale
from recommender.model.parameters import Parameters
from recommender.model.scoring import blocks
from recommender.pipeline.linking_fit import RIDGE, SHARED_SPACE, SHARED_USERS, Pairs, fit_link, halves
from recommender.tuning.validation import fit_tuned

SET = "complete-journey"
PAIRS = (("GROCERY", "DRUG GM"), ("GROCERY", "PRODUCE"), ("PRODUCE", "DRUG GM"), ("MEAT", "PRODUCE"),
         ("DRUG GM", "GROCERY"))  # fmt: skip
# LightFM with fewer numbers than by default, so that the benchmark takes minutes.
PARAMETERS = Parameters(components=32, epochs=5, lightfm_seeds=1)
WEIGHTS, RIDGES = (0.03, 0.1, 0.3, 1.0), (10.0, 30.0, 100.0)
# Draws of the first pair and of the others. How links are made was chosen on earlier draws of the first pair.
DRAWS, OTHER_DRAWS, FIRST_DRAW = 6, 2, 20
_BLOCK = 200

Rows: TypeAlias = NDArray[np.int64]
Numbers: TypeAlias = NDArray[np.float64]
Score: TypeAlias = Callable[[Rows], Numbers]


@dataclass(frozen=True)
class Shop:
    """A department: its items (rows of the data set), (users, items) who took what, and (items, d) embeddings."""

    items: Rows
    taken: sp.csr_matrix
    embeddings: Vectors

    @classmethod
    def of(cls, data: Dataset, department: str) -> Shop:
        """The department of a data set."""
        label = f"department={department}"
        rows = np.array([row for row, labels in enumerate(data.items.attributes) if label in labels], np.int64)
        pairs = data.interactions.pairs()
        shape = len(pairs.user_ids), len(pairs.item_ids)
        whole = sp.csr_matrix((np.ones(len(pairs), np.float32), (pairs.users, pairs.items)), shape)
        return cls(rows, sp.csr_matrix(whole[:, rows]), data.items.embeddings[rows])

    @property
    def profiles(self) -> Vectors:
        """(users, d), P_u."""
        return np.asarray(self.taken @ self.embeddings, dtype=np.float32)


@dataclass(frozen=True)
class Draw:
    """One draw of a pair of shops.

    Attributes:
        ids: of all users.
        source: shop A.
        target: shop B.
        learned: users of both that count as known.
        new: users of both that are new in B.
        popularity: (items of B,), how many users other than the new ones took each.
        metric: (d, d), the item metric of B, and what it is multiplied by: B's embeddings.
    """

    ids: Sequence[str]
    source: Shop
    target: Shop
    learned: Rows
    new: Rows
    popularity: Numbers
    metric: Vectors

    @property
    def log(self) -> Numbers:
        """(items,), the logarithm of the popularity."""
        return np.asarray(np.log(self.popularity + SMALLEST))

    def ndcg(self, score: Score, rows: Rows) -> Numbers:
        """(rows,), NDCG@20 of what users took in B."""
        found = []
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            wanted = self.target.taken[some].toarray() > 0
            found.append(rank_metrics(score(some), wanted, np.zeros_like(wanted)).ndcg)
        return np.concatenate(found)

    def best(self, scores: Sequence[Score]) -> Score:
        """The score that is best for the known users; one that learns from them is to be made by `folded`."""
        return max(scores, key=lambda score: float(self.ndcg(score, self.learned).mean()))

    def pairs(self, rows: Rows) -> Pairs:
        """Users of both shops, to learn a link from."""
        names = [self.ids[row] for row in rows.tolist()]
        return Pairs.shared(names, self.source.profiles[rows], self.target.taken[rows])


def draw(data: Dataset, source: Shop, target: Shop, seed: int) -> Draw:
    """Set a fifth of the shared users aside."""
    ids = data.interactions.user_ids
    both = np.flatnonzero((np.diff(source.taken.indptr) > 0) & (np.diff(target.taken.indptr) > 0))
    held = np.array([stable_share(name, f"users {seed}") < 0.2 for name in ids])
    popularity = np.asarray(target.taken[~held].sum(axis=0), dtype=np.float64).ravel()
    items = data.items.take(target.items[popularity > 0])
    metric = item_metric(FeatureSpace.fit(items, 1.0).vocabulary.feature_matrix(items), 8.0)
    d = target.embeddings.shape[1]
    return Draw(ids, source, target, both[~held[both]], both[held[both]], popularity, metric[:d, :d])


def popular(one: Draw) -> Score:
    """What most people buy."""
    return lambda rows: np.tile(one.log, (len(rows), 1))


def copied(one: Draw) -> Score:
    """P_u of A as it is, under B's item metric, beside popularity."""
    direction = one.source.profiles @ one.metric
    embeddings = one.target.embeddings.T
    return one.best([_beside(one, lambda rows: direction[rows] @ embeddings, weight) for weight in WEIGHTS])


def mapped(one: Draw) -> Score:
    """A ridge regression from P_u of A to P_u of B, under B's item metric, beside popularity."""
    told, wanted = unit(one.source.profiles), unit(one.target.profiles)

    def found(learned: Rows, ridge: float) -> Score:
        direction = _regressed(told, wanted[learned], learned, ridge) @ one.metric
        return lambda rows: direction[rows] @ one.target.embeddings.T

    def beside(learned: Rows, weight: float, ridge: float) -> Score:
        return _beside(one, found(learned, ridge), weight)

    return _folded(one, [partial(beside, weight=weight, ridge=ridge) for weight in WEIGHTS for ridge in RIDGES])


def to_items(one: Draw) -> Score:
    """A ridge regression from P_u of A to the items of B."""
    told = unit(one.source.profiles)

    def found(learned: Rows, ridge: float) -> Score:
        taken = one.target.taken[learned].toarray()
        weights = _ridge(told[learned], taken, ridge)
        centre = told[learned].mean(axis=0)
        return lambda rows: taken.mean(axis=0) + (told[rows] - centre) @ weights

    return _folded(one, [partial(found, ridge=ridge) for ridge in (*RIDGES, 300.0)])


def columns_to_items(one: Draw) -> Score:
    """The same from what users took in A, item by item, by a kernel (the smaller side)."""
    rare = 1 + np.asarray(one.source.taken.sum(axis=0)).ravel()
    weighted = one.source.taken @ sp.diags(np.sqrt(np.log(len(one.ids) / rare)))
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    told = sp.csr_matrix(sp.diags(1 / np.maximum(length, 1e-9)) @ weighted)

    def found(learned: Rows, ridge: float) -> Score:
        taken = one.target.taken[learned].toarray()
        gram = (told[learned] @ told[learned].T).toarray() + ridge * np.eye(len(learned))
        solved = np.linalg.solve(gram, taken - taken.mean(axis=0))
        return lambda rows: taken.mean(axis=0) + (told[rows] @ told[learned].T).toarray() @ solved

    return _folded(one, [partial(found, ridge=ridge) for ridge in RIDGES])


def linked(one: Draw) -> Score:
    """`coldstart link` with shared users: popularity times the lifts of topics."""
    return _with_link(one, one.pairs(one.learned), popular(one))


def linked_by_space(one: Draw) -> Score:
    """`coldstart link` without shared users."""
    known = np.setdiff1d(np.flatnonzero(np.diff(one.target.taken.indptr)), one.new)
    parted = halves([one.ids[row] for row in known.tolist()], one.target.taken[known], one.target.embeddings)
    return _with_link(one, parted, popular(one), SHARED_SPACE)


METHODS: dict[str, Callable[[Draw], Score]] = {
    "popularity": popular,
    "copied profile": copied,
    "profile → profile (ridge)": mapped,
    "profile → items (ridge)": to_items,
    "purchases → items (kernel ridge)": columns_to_items,
    "link without shared users": linked_by_space,
    "link on shared users": linked,
}


def _with_link(one: Draw, pairs: Pairs, base: Score, method: str = SHARED_USERS, scale: float = 1.0) -> Score:
    about = LinkAbout("", method, "", "", len(pairs.ids), RIDGE, 0.0)
    link = fit_link(about, one.source.embeddings, pairs, one.target.embeddings, one.popularity)
    topics_of = link.topics_of(one.target.embeddings)
    told(f"  {method}: strength {link.about.strength:g}")
    return lambda rows: base(rows) + scale * link.about.strength * link.lifts(one.source.profiles[rows], topics_of)


def _beside(one: Draw, score: Score, weight: float) -> Score:
    popularity = one.log / one.log.std()

    def found(rows: Rows) -> Numbers:
        scores = score(rows)
        scores = (scores - scores.mean(axis=1, keepdims=True)) / np.maximum(scores.std(axis=1, keepdims=True), 1e-12)
        return np.asarray(popularity + weight * np.sign(scores) * np.log1p(np.abs(scores)))

    return found


def _folded(one: Draw, fits: Sequence[Callable[[Rows], Score]]) -> Score:
    """The fit that is best for a fifth of the known users when it learns from the others, then of all of them."""
    held = np.array([stable_share(one.ids[row], "link") < 0.2 for row in one.learned.tolist()])
    values = [one.ndcg(fit(one.learned[~held]), one.learned[held]).mean() for fit in fits]
    return fits[int(np.argmax(values))](one.learned)


def _ridge(told_of: Vectors, wanted: Vectors, ridge: float) -> Vectors:
    told_of = told_of - told_of.mean(axis=0)
    gram = told_of.T @ told_of + ridge * np.eye(told_of.shape[1])
    return np.asarray(np.linalg.solve(gram, told_of.T @ (wanted - wanted.mean(axis=0))))


def _regressed(told_of: Vectors, wanted: Vectors, learned: Rows, ridge: float) -> Vectors:
    return np.asarray((told_of - told_of[learned].mean(axis=0)) @ _ridge(told_of[learned], wanted, ridge))


def with_recommender(data: Dataset, one: Draw, seed: int) -> dict[str, Numbers]:
    """The trained recommender of B for its new users: alone, with a copied profile, and with the link."""
    place = np.full(len(data.items), -1)
    place[one.target.items] = np.arange(len(one.target.items))
    items = data.items.take(one.target.items)
    held = np.zeros(len(one.ids), bool)
    held[one.new] = True
    known = data.interactions.select((place[data.interactions.items] >= 0) & ~held[data.interactions.users])
    train: Interactions = replace(known, item_ids=items.ids, items=place[known.items])
    users = with_history(train, data.users, items)[0]
    fitted = fit_tuned(train, data.users, items, kind="user_cold", seed=seed, parameters=PARAMETERS).fitted

    def score(profiles: Vectors | None) -> Score:
        def found(rows: Rows) -> Numbers:
            # As strangers: without what they took, of which the recommender knows some.
            asked = replace(users.take(rows), ids=[f"new {row}" for row in rows.tolist()])
            own = np.zeros_like(asked.profiles) if profiles is None else profiles[rows]
            return _scores(fitted, replace(asked, profiles=own, evidence=np.zeros(len(rows))))

        return found

    base = score(None)
    return {
        "recommender": one.ndcg(base, one.new),
        "recommender, copied profile": one.ndcg(score(unit(one.source.profiles)), one.new),
        "recommender, lifts added": one.ndcg(
            _with_link(one, one.pairs(one.learned), base, scale=lift_scale(fitted)), one.new
        ),
    }


def _scores(fitted: Fitted, users: object) -> Numbers:
    return np.concatenate([block.total(fitted.all_items) for _, block in blocks(fitted, users)]).astype(np.float64)  # type: ignore[arg-type]


def section(runs: Sequence[dict[str, Numbers]], rows: Sequence[Rows], chosen: str) -> list[str]:
    """The table of one pair of shops."""
    users, draws = np.concatenate(list(rows)), np.repeat(np.arange(len(rows)), [len(one) for one in rows])
    plain = np.concatenate([run["popularity"] for run in runs])
    copied_values = np.concatenate([run["copied profile"] for run in runs])
    lines = []
    for method in runs[0]:
        values = np.concatenate([run[method] for run in runs])
        cells = [method, f"{values.mean():.4f}"]
        for other in (plain, copied_values):
            low, high = intervals((values - other)[:, None], users, draws)[0]
            share = [100 * number / other.mean() for number in (values.mean() - other.mean(), low, high)]
            cells.append("" if values is other or not np.any(values - other) else
                         f"{share[0]:+.1f} % ({share[1]:+.1f} to {share[2]:+.1f})")  # fmt: skip
        lines.append(tuple(cells))
    head = ("method", "NDCG@20", "against popularity", "against a copied profile")
    return [f"{chosen}: {len(users):,} rankings.", "", *table(head, lines), ""]


def main() -> None:
    """Measure all pairs, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="contains complete-journey, and grocery-store")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="how many of the pairs")
    parser.add_argument("--recommender", type=int, default=2, help="draws of the first pair with the recommender")
    given = parser.parse_args()
    make_tables(given.data_dir, [SET])
    data = dataset(SET)
    lines: list[str] = []
    for number, names in enumerate(PAIRS[: given.pairs]):
        source, target = (Shop.of(data, name) for name in names)
        runs, rows, ours, asked = [], [], [], []
        count = min(given.draws, OTHER_DRAWS) if number else given.draws
        for seed in range(FIRST_DRAW, FIRST_DRAW + count):
            told(f"{' → '.join(names)}, draw {seed}")
            one = draw(data, source, target, seed)
            runs.append({name: one.ndcg(method(one), one.new) for name, method in METHODS.items()})
            rows.append(one.new)
            told(f"  {({name: round(float(found.mean()), 4) for name, found in runs[-1].items()})}")
            if not number and seed < FIRST_DRAW + given.recommender:
                base = {name: runs[-1][name] for name in ("popularity", "copied profile")}
                ours.append(base | with_recommender(data, one, seed))
                asked.append(one.new)
                told(f"  {({name: round(float(found.mean()), 4) for name, found in ours[-1].items()})}")
        both = (np.diff(source.taken.indptr) > 0) & (np.diff(target.taken.indptr) > 0)
        title = f"**{names[0]} → {names[1]}**, {int(both.sum()):,} households in both"
        lines += section(runs, rows, title)
        if ours:
            lines += section(ours, asked, f"With the recommender of the second shop, trained on it ({names[1]})")
        print("\n".join(lines[-24:]), flush=True)
    if (products := given.data_dir / "grocery-store" / "products.parquet").is_file():
        lines += across_languages(products)
    about = (
        f"{given.draws} draws of new customers of the first pair, {OTHER_DRAWS} of the others; for each new customer "
        "all items of the second shop are ranked. Intervals are 95 %, with draws and users as sources of chance. "
        "Settings of all methods are chosen on the other shared households; which kind of map a link is, and its λ, "
        "were chosen on earlier draws of the first pair, which has the same households."
    )
    text = made_by("make bench-link DATA=folder", about, ("numpy", "scikit-learn", "scipy"))
    write_between(EXPLANATION / "linking.md", "bench-link", "\n".join([text, "", *lines]))


if __name__ == "__main__":
    main()
