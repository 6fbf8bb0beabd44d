"""Priors for small shops, one domain left out at a time; `make bench-prior DATA=folder`.

Writes its sections of docs/explanation/priors.md, and `recommender/tuning/public_prior.json`. Small shops of 5, 20 and
100 users are drawn from each domain (`recommender.tuning.small_shops`). The prior of a domain is learned from the
others alone. What is drawn is kept in the scratch folder, so that an interrupted run continues; `--again` draws anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench_recommender_setup import SCRATCH, data_hash, dataset, make_tables, told
from common import EXPLANATION, ROOT, made_by, table, write_between
from numpy.typing import NDArray
from real_data import NAMES
from scipy.stats import binomtest

from recommender.data.entities import with_history
from recommender.data.interactions import Interactions
from recommender.measure.intervals import intervals
from recommender.measure.metrics import ndcg
from recommender.model.closed_form import item_item_weights, item_metric
from recommender.model.fitted import Fitted
from recommender.model.fitting import as_matrix, fit
from recommender.model.parameters import Parameters
from recommender.model.scoring import Block
from recommender.model.weights import Weights
from recommender.pipeline.priors import versions
from recommender.tuning.prior import Level, Prior
from recommender.tuning.prior_learning import SIZES, Episodes, learn_level
from recommender.tuning.small_shops import Episode, Shop, draw_shop, episode

EPISODES = SCRATCH / "prior"
PUBLIC = ROOT / "recommender" / "tuning" / "public_prior.json"
COMPLETE_JOURNEY = "complete-journey"
# Departments of Complete Journey are domains of their own if they have so many items, and users with two of them.
ITEMS, USERS = 300, 150
# Draws of small shops, by their users: most where a prior can help most.
DRAWS = {5: 4, 20: 8, 100: 3}
_ARRAYS = ("parts", "wanted", "open", "cold", "evidence", "rows")
# Tried beside the defaults, in small shops of 20 users.
RIDGES = {"metric_ridge": (2.0, 30.0), "item_item_ridge": (20.0, 2_000.0)}
OF_W0 = (0.1, 0.3)


class Figures(NamedTuple):
    """NDCG@20 of each user, for one domain and size.

    Attributes:
        users: (n,), rows in the domain.
        draws: (n,).
        values: (n,) each: "alone" (training without a prior), "defaults", "prior", "stranger" (learned without the
            domains of the same source).
    """

    users: NDArray[np.int64]
    draws: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]


def main() -> None:
    """Draw, learn, and write the sections."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="contains the folders of the raw files")
    parser.add_argument("--again", action="store_true", help="forget the small shops of earlier runs")
    given = parser.parse_args()
    if given.again:
        shutil.rmtree(EPISODES, ignore_errors=True)
    names = domains(make_tables(given.data_dir, NAMES))
    by_size = {size: Episodes(size, episodes_of(names, size, DRAWS[size])) for size in SIZES}
    figures = {size: left_out(by_size[size]) for size in SIZES}
    lines = [*summary(figures), *(line for size in SIZES for line in section(size, figures[size]))]
    write("bench-prior", lines)
    levels = [learn_level(by_size[size], told=told) for size in SIZES]
    public(names, levels).write(PUBLIC)
    write("bench-prior-public", public_table(levels))
    write("bench-prior-quantities", quantities(names, 2))


def domains(names: Sequence[str]) -> list[str]:
    """The data sets, with the departments of Complete Journey in place of the whole."""
    found = []
    for name in names:
        if name != COMPLETE_JOURNEY:
            found.append(name)
            continue
        pairs, labels = dataset(name).interactions.pairs(), departments()
        for label in sorted(set(labels)):
            inside = np.array([one == label for one in labels])
            users = np.bincount(pairs.users[inside[pairs.items]])
            if len(np.unique(pairs.items[inside[pairs.items]])) >= ITEMS and (users >= 2).sum() >= USERS:
                found.append(f"{name}/{label}")
    return found


@lru_cache(maxsize=1)
def departments() -> list[str]:
    """The department of each item of Complete Journey; "" for none."""
    labels = dataset(COMPLETE_JOURNEY).items.attributes
    return [next((one.split("=", 1)[1] for one in row if one.startswith("department=")), "") for row in labels]


def shop_of(name: str) -> Shop:
    """One domain."""
    source, _, department = name.partition("/")
    data = dataset(source)
    if not department:
        return Shop(name, data.interactions, data.users, data.items)
    all_ = data.interactions
    items = np.flatnonzero(np.array([one == department for one in departments()]))
    some = all_.select(np.isin(all_.items, items))
    users = np.unique(some.users)
    inside = Interactions(
        [all_.user_ids[row] for row in users.tolist()], [all_.item_ids[row] for row in items.tolist()],
        np.searchsorted(users, some.users), np.searchsorted(items, some.items), some.timestamps, some.weights,
        some.event_types, some.events, some.returned,
    )  # fmt: skip
    return Shop(name, inside, data.users.take(users), data.items.take(items))


def drawn(name: str, size: int, draw: int) -> Path | None:
    """The file of one small shop; None if the domain is too small."""
    path = EPISODES / f"{name.replace('/', '-')} {size} {draw}.npz"
    if path.is_file():
        return path
    shop = shop_of(name)
    found = episode(shop, size, draw)
    if found is None:
        return None
    told(f"{name}: {size} users, draw {draw}")
    weights = [json.dumps(one.as_json()) for one in (found.learned, found.placed)]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, weights=np.array(weights), **{field: getattr(found, field) for field in _ARRAYS})
    partial.rename(path)
    return path


def episodes_of(names: Sequence[str], size: int, draws: int) -> dict[str, list[Episode]]:
    """All that were drawn, by domain."""
    found: dict[str, list[Episode]] = {}
    for name in names:
        for draw in range(draws):
            if path := drawn(name, size, draw):
                with np.load(path) as arrays:
                    weights = [Weights.of_json(json.loads(str(one))) for one in arrays["weights"]]
                    found.setdefault(name, []).append(Episode(*(arrays[field] for field in _ARRAYS), *weights))
    return found


def left_out(episodes: Episodes) -> dict[str, Figures]:
    """The figures of each domain under a prior that was learned from others."""
    found = {}
    for name, own in episodes.by_shop.items():
        others = [one for one in episodes.by_shop if one != name]
        levels = {"prior": learn_level(episodes, others)}
        strangers = [one for one in others if source_of(one) != source_of(name)]
        levels["stranger"] = learn_level(episodes, strangers)
        values = {key: quality(own, level) for key, level in levels.items()}
        values["alone"] = np.concatenate([one.quality(one.placed) for one in own])
        values["defaults"] = np.concatenate([one.quality(Weights()) for one in own])
        users = np.concatenate([one.rows for one in own])
        of_draw = np.concatenate([np.full(len(one.rows), draw) for draw, one in enumerate(own)])
        found[name] = Figures(users, of_draw, values)
        told(f"{episodes.users} users, {name}: " + ", ".join(f"{key} {one.mean():.4f}" for key, one in values.items()))
    return found


def quality(episodes: Sequence[Episode], level: Level) -> NDArray[np.float64]:
    """NDCG@20 of each user of each episode."""
    return np.concatenate([one.quality(level.mixed(one.learned)) for one in episodes])


def source_of(name: str) -> str:
    """What a domain has in common with others: the same shop, site or platform."""
    return name.partition("/")[0].partition("-")[0]


def mean_of(figures: Figures, key: str) -> float:
    """The mean of the draws' means."""
    values = figures.values[key]
    return float(np.mean([values[figures.draws == draw].mean() for draw in np.unique(figures.draws)]))


def summary(figures: Mapping[int, Mapping[str, Figures]]) -> list[str]:
    """Over all domains, by size."""
    rows = []
    for size, found in figures.items():
        for reference, what in (("alone", "training without a prior"), ("defaults", "the default weights")):
            for key, whose in (("prior", "all other domains"), ("stranger", "other sources")):
                ratios = np.array([mean_of(one, key) / mean_of(one, reference) - 1 for one in found.values()])
                better, worse = int((ratios > 1e-9).sum()), int((ratios < -1e-9).sum())
                p = binomtest(better, better + worse).pvalue if better + worse else 1.0
                rows.append([
                    f"{size}", whose, what, f"{np.mean(ratios):+.1%}", f"{np.median(ratios):+.1%}",
                    f"{better} of {len(ratios)}", f"{worse}", f"{p:.3f}",
                ])  # fmt: skip
    head = ["users", "learned from", "compared with", "mean", "median", "better", "worse", "p (sign test)"]
    return [*table(head, rows), ""]


def section(size: int, found: Mapping[str, Figures]) -> list[str]:
    """The table of one size."""
    rows = []
    for name, one in found.items():
        gains = (one.values["prior"] - one.values["alone"])[:, None]
        low, high = intervals(gains, one.users, one.draws)[0].tolist()
        means = [mean_of(one, key) for key in ("alone", "defaults", "prior", "stranger")]
        rows.append([
            name, f"{len(one.users):,}", *(f"{mean:.4f}" for mean in means), f"{means[2] / means[0] - 1:+.1%}",
            f"{low:+.4f} … {high:+.4f}",
        ])  # fmt: skip
    head = ["domain", "rankings", "without a prior", "default weights", "prior", "prior of other sources", "gain",
            "95 % interval of the difference"]  # fmt: skip
    return [f"**{size} users**", "", *table(head, rows), ""]


def quantities(names: Sequence[str], draws: int) -> list[str]:
    """What else could be carried over: λ of A and B, and a map W₀ from embeddings to demand."""
    gains: dict[str, dict[str, float]] = {}
    for name in names:
        shop = shop_of(name)
        pairs = [changed(shop, draw, names) for draw in range(draws)]
        told(f"{name}: ridges and W₀")
        for what in pairs[0]:
            if what != "default" and all(what in one for one in pairs):
                new, old = (np.mean([one[key] for one in pairs]) for key in (what, "default"))
                gains.setdefault(what, {})[name] = float(new / old - 1)
    rows = []
    for what, found in gains.items():
        values = np.array(list(found.values()))
        rows.append([
            what, f"{values.mean():+.1%}", f"{np.median(values):+.1%}", f"{int((values > 0).sum())} of {len(values)}",
            f"{int((values < 0).sum())}",
        ])  # fmt: skip
    head = ["changed, in shops of 20 users with the default weights", "mean", "median", "better", "worse"]
    return [*table(head, rows), ""]


def changed(shop: Shop, draw: int, names: Sequence[str]) -> dict[str, float]:
    """NDCG@20 in a small shop of 20 users under the default weights and parameters, and with one thing changed."""
    small = draw_shop(shop, 20, draw)
    counted = small.learned.weighted(shop.weights, small.learned.timestamps.max() + np.timedelta64(1, "us"))
    members, items = with_history(counted, small.members, shop.items)
    fitted = fit(Parameters(seed=draw), counted, members, items, seen=small.learned)
    open_ = ~(small.history.toarray() > 0)

    def of(state: Fitted, added: NDArray[np.float32] | None = None) -> float:
        total = Block.of(state, small.asked, small.history).total(state.all_items)
        return float(ndcg(total if added is None else total + added, small.wanted, open_).mean())

    found = {"default": of(fitted)}
    for ridge in RIDGES["metric_ridge"]:
        other = item_metric(fitted.warm_items.features, ridge)
        found[f"`metric_ridge` {ridge:g}"] = of(fitted.changed(item_metric=other))
    for ridge in RIDGES["item_item_ridge"]:
        weights = item_item_weights(as_matrix(counted), ridge)
        found[f"`item_item_ridge` {ridge:g}"] = of(fitted.changed(item_item=weights))
    W0 = demand_map(tuple(one for one in names if one != shop.name and fingerprint(one) == fingerprint(shop.name)))
    if W0 is not None:
        cold = fitted.all_items.cold
        predicted = (shop.items.embeddings @ W0).astype(np.float32)
        z = (predicted - predicted[~cold].mean()) / max(float(predicted[~cold].std()), 1e-6)
        for weight in OF_W0:
            found[f"W₀ beside the predicted demand of new items, weight {weight:g}"] = of(fitted, weight * z * cold)
    return found


def fingerprint(name: str) -> str:
    """The encoder of a domain, without loading the domain."""
    return "multilingual" if name.startswith("polis") else "default"


@lru_cache(maxsize=32)
def demand_map(names: tuple[str, ...]) -> NDArray[np.float64] | None:
    """W₀, (d,): a ridge regression from embeddings to standardised log(1 + buyers), over all items of some domains.

    Each source counts alike, and in it each domain.
    """
    if not names:
        return None
    sources = [source_of(name) for name in names]
    sums: Any = 0
    for name, source in zip(names, sources, strict=True):
        gram, right = moments(name)
        share = 1 / sources.count(source) / len(set(sources))
        sums = sums + share * np.column_stack([gram, right])
    d = len(sums)
    return np.asarray(np.linalg.solve(sums[:, :d] + 0.01 * np.eye(d), sums[:, d]))


@lru_cache(maxsize=32)
def moments(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """XᵀX and Xᵀy of one domain, by item."""
    shop = shop_of(name)
    buyers = np.bincount(shop.interactions.pairs().items, minlength=len(shop.items))
    y = np.log1p(buyers)
    y = (y - y.mean()) / max(float(y.std()), 1e-9)
    X = shop.items.embeddings.astype(np.float64)
    X = X - X.mean(axis=0)
    return X.T @ X / len(X), X.T @ y / len(X)


def public(names: Sequence[str], levels: Sequence[Level]) -> Prior:
    """The prior that ships with the package, learned from all domains."""
    return Prior(levels, list(described(names)), {
        "by": "make bench-prior, which learns as `coldstart prior learn` does", "draws": DRAWS, **versions(),
    })  # fmt: skip


def described(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What each domain was."""
    for name in names:
        shop = shop_of(name)
        yield {
            "name": name, "tables_sha256": data_hash(name.partition("/")[0]), "users": len(shop.users),
            "items": len(shop.items), "interactions": len(shop.interactions), "encoder": shop.items.fingerprint,
        }  # fmt: skip


def public_table(levels: Sequence[Level]) -> list[str]:
    """What the public prior changes."""
    start, rows = Weights(), []
    for level in levels:
        for side in ("warm", "cold"):
            before, after = getattr(start, side), getattr(level.weights, side)
            rows += [
                [f"{level.users:g}", f"`{part}` of {side} items", _pair(before[part]), _pair(after[part])]
                for part in before if before[part] != after.get(part)
            ]  # fmt: skip
        if level.weights.cold_offset:
            rows.append([f"{level.users:g}", "`cold_offset`", "0", f"{level.weights.cold_offset:g}"])
        rows.append([f"{level.users:g}", "share of the shop's own weights", "100 %", f"{level.own:.0%}"])
    return table(["users", "what", "without a prior", "public prior"], rows)


def _pair(pair: tuple[float, float]) -> str:
    return f"{pair[0]:g}, {pair[1]:g}"


def write(name: str, lines: Sequence[str]) -> None:
    """Print a section, and write it into the page."""
    print("\n".join(lines), flush=True)
    about = (
        f"{', '.join(f'{draws} draws of shops with {size} users' for size, draws in DRAWS.items())} from each domain. "
        "NDCG@20 with known and new items in one list. Intervals are 95 %, with draws and users as sources of chance."
    )
    text = made_by("make bench-prior DATA=folder", about, ("lightfm-next", "numpy", "scipy"))
    write_between(EXPLANATION / "priors.md", name, "\n".join([text, "", *lines]))


if __name__ == "__main__":
    main()
