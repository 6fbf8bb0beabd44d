"""A feed, replayed in time: which article does a reader take next; `make bench-feed DATA=folder`.

Writes its section and the plots of docs/explanation/feed.md. Articles are the questions of Stack Exchange, readers
those who answer them. Three cut-offs make three draws: everything is chosen and fitted on what is before, then each
answer up to the next cut-off asks for a list of the articles that are there at that moment, and is taken into
histories and popularity afterwards. There is no training between.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
from bench_recommender_setup import SCRATCH, told
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray
from real_data import contract_tables

from recommender.data.dataset import Dataset, files_in, read_dataset
from recommender.data.entities import Entities
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.measure.intervals import ByItem, intervals
from recommender.model.fitted import Fitted
from recommender.model.freshness import decay
from recommender.model.parameters import Parameters
from recommender.model.scoring import Block
from recommender.model.updating import updated
from recommender.tuning.freshness import HALF_LIVES, WEIGHTS
from recommender.tuning.validation import fit_tuned

SETS = {"stackexchange-beer": "beer.stackexchange.com", "stackexchange-quantum": "quantumcomputing.stackexchange.com"}
CUTS = (0.55, 0.70, 0.85, 1.0)
HOURS = (1.0, 6.0, 24.0, 72.0)
EVENTS = (1, 3, 10)
# The share of a training part, the latest of it, on which the other methods' half-lives are chosen.
LATEST = 0.15
OURS, PLAIN = "ours", "ours without freshness"
_DAY = np.timedelta64(1, "D")
_ABOUT = ("hours", "read", "answered")

Numbers: TypeAlias = NDArray[np.float64]
Score: TypeAlias = Callable[["World", int, np.datetime64], Numbers]


@dataclass
class World:
    """What is known at a moment of the replay.

    Attributes:
        data: all articles and readers.
        came: (items,), when each article was published.
        tfidf: (items, words), rows of unit length.
        items: of the answers so far.
        moments: of the answers so far.
        by_user: the articles that each reader answered so far.
    """

    data: Dataset
    came: NDArray[np.datetime64]
    tfidf: Numbers
    items: list[int]
    moments: list[np.datetime64]
    by_user: dict[int, list[int]]

    def take(self, user: int, item: int, moment: np.datetime64) -> None:
        """Note an answer."""
        self.items.append(item)
        self.moments.append(moment)
        self.by_user.setdefault(user, []).append(item)

    def days(self, moment: np.datetime64) -> Numbers:
        """(items,), ages."""
        return np.maximum((moment - self.came) / _DAY, 0.0)


def main() -> None:
    """Replay each data set, and write its section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="contains the folders of the raw files")
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    given = parser.parse_args()
    for name in given.sets:
        data, came = articles(name, given.data_dir)
        folds = [replay(data, came, name, place) for place in range(len(CUTS) - 1)]
        lines = section(name, folds)
        print("\n".join(lines), flush=True)
        about = (
            f"{SETS[name]}: three cut-offs, {sum(len(one.users) for one in folds):,} answers are replayed. Intervals "
            "are 95 %, with cut-offs, articles and readers as sources of chance."
        )
        text = made_by("make bench-feed DATA=folder", about, ("lightfm-next", "numpy", "scikit-learn", "scipy"))
        write_between(EXPLANATION / "feed.md", f"bench-feed {name}", "\n".join([text, *lines]))
        plot(name, folds)


def articles(name: str, folder: Path) -> tuple[Dataset, NDArray[np.datetime64]]:
    """All questions, answered or not, and the answers of others than who asked."""
    tables = SCRATCH / "tables" / f"feed-{name}"
    contract_tables(f"{name}-feed", folder / name, tables)
    data = read_dataset(*files_in(tables))
    with duckdb.connect() as con:
        query = "SELECT item_id, epoch_us(event_timestamp) FROM read_parquet(?)"
        found = dict(con.execute(query, [str(tables / "items.parquet")]).fetchall())
    return data, np.array([found[item] for item in data.items.ids], np.int64).astype("datetime64[us]")


@dataclass(frozen=True)
class Fold:
    """The replayed answers after one cut-off; all arrays have n rows.

    Attributes:
        values: by method, (n, 2): NDCG@10 and NDCG@20.
        users: the readers.
        items: the articles.
        hours: since the article was published.
        read: the number of earlier answers of the reader.
        answered: the number of earlier answers to the article.
        parameters: of ours.
        chosen: of the others, in words.
    """

    values: Mapping[str, Numbers]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    hours: Numbers
    read: NDArray[np.int64]
    answered: NDArray[np.int64]
    parameters: Parameters
    chosen: Mapping[str, str]


def replay(data: Dataset, came: NDArray[np.datetime64], name: str, place: int) -> Fold:
    """Fit before a cut-off, and replay the answers up to the next one."""
    pairs = data.interactions.pairs()
    order = np.argsort(np.argsort(pairs.timestamps, kind="stable"))
    begin, end = (int(cut * len(pairs)) for cut in CUTS[place : place + 2])
    train, test = pairs.select(order < begin), pairs.select((order >= begin) & (order < end))
    told(f"{name}, cut-off {place}: fit on {begin:,} answers")
    model, untouched = (
        fit_tuned(
            train, data.users, data.items, kind="temporal", seed=place, weights=EventWeights(), came=one
        ).fitted
        for one in (came, None)
    )  # fmt: skip
    before = untouched.parameters.weights
    told(f"{name}: freshness {model.parameters.freshness}, {model.parameters.freshness_half_life} days")
    tfidf = text_vectors(data, came <= train.timestamps.max())
    first = int((1 - LATEST) * begin)
    scorers, chosen = others(World(data, came, tfidf, [], [], {}), train, first)
    world = World(data, came, tfidf, [], [], {})
    for user, item, moment in rows_of(train):
        world.take(user, item, moment)
    values: dict[str, list[tuple[float, float]]] = {one: [] for one in (OURS, PLAIN, *scorers)}
    about = []
    for user, item, moment in rows_of(test):
        there = candidates(world, user, moment)
        there[item] = True
        read, answered = len(world.by_user.get(user, ())), world.items.count(item)
        about.append((user, item, (moment - came[item]) / _DAY * 24, read, answered))
        states = {OURS: model.as_of(moment), PLAIN: model.with_parameters(freshness=0.0, weights=before)}
        for which, state in states.items():
            values[which].append(gains(ours(state, user), item, there))
        for which, score in scorers.items():
            values[which].append(gains(score(world, user, moment), item, there))
        world.take(user, item, moment)
        model = after(model, data, user, item, moment)
    columns = np.array(about)
    return Fold(
        {one: np.array(found) for one, found in values.items()}, columns[:, 0].astype(np.int64),
        columns[:, 1].astype(np.int64), columns[:, 2], columns[:, 3].astype(np.int64),
        columns[:, 4].astype(np.int64), model.parameters, chosen,
    )  # fmt: skip


def rows_of(interactions: Interactions) -> list[tuple[int, int, np.datetime64]]:
    """Reader, article and moment of each answer."""
    order = np.argsort(interactions.timestamps, kind="stable")
    users, items = interactions.users[order].tolist(), interactions.items[order].tolist()
    return list(zip(users, items, interactions.timestamps[order], strict=True))


def candidates(world: World, user: int, moment: np.datetime64) -> NDArray[np.bool_]:
    """The articles that are there, and that the reader has not answered."""
    there = world.came <= moment
    there[world.by_user.get(user, [])] = False
    return there


def ours(state: Fitted, user: int) -> Numbers:
    """Our scores of all articles."""
    total = Block.of(state, state.users.take(np.array([user]))).total(state.all_items)
    return np.asarray(total[0], dtype=np.float64)


def after(state: Fitted, data: Dataset, user: int, item: int, moment: np.datetime64) -> Fitted:
    """The state with one answer more, as the service takes in an event."""
    one = Interactions(
        [data.users.ids[user]], [data.items.ids[item]], np.zeros(1, np.int64), np.zeros(1, np.int64),
        np.array([moment]), np.ones(1, np.float32),
    )  # fmt: skip
    width, fingerprint = data.items.embeddings.shape[1], data.items.fingerprint
    nothing = [Entities.nothing(ids, width, fingerprint) for ids in (one.user_ids, one.item_ids)]
    return updated(state, one, nothing[0], nothing[1], one)


def gains(scores: Numbers, item: int, there: NDArray[np.bool_]) -> tuple[float, float]:
    """NDCG@10 and @20 of one taken article; among equals the mean over their orders."""
    own, rest = scores[item], scores[there]
    above, equal = int((rest > own).sum()), int((rest == own).sum())
    ranks = np.arange(above + 1, above + equal + 1)
    gain = 1 / np.log2(1 + ranks)
    return float(np.where(ranks <= 10, gain, 0).mean()), float(np.where(ranks <= 20, gain, 0).mean())


def since(moments: Sequence[np.datetime64], now: np.datetime64) -> Numbers:
    """Days."""
    us = np.array(moments, "datetime64[us]").astype(np.int64)
    return np.asarray((now.astype("datetime64[us]").astype(np.int64) - us) / 86_400e6, np.float64)


def text_vectors(data: Dataset, known: NDArray[np.bool_]) -> Numbers:
    """TF-IDF of all articles, with the vocabulary of those before the cut-off."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english")
    words.fit([text for text, one in zip(data.items.descriptions, known, strict=True) if one])
    return np.asarray(words.transform(data.items.descriptions).toarray())


def others(world: World, train: Interactions, first: int) -> tuple[dict[str, Score], dict[str, str]]:
    """The methods that are compared; their half-lives and weights are chosen on the latest part of training."""

    def recency(world: World, user: int, moment: np.datetime64) -> Numbers:
        return -world.days(moment)

    def popular(half_life: float) -> Score:
        def score(world: World, user: int, moment: np.datetime64) -> Numbers:
            days = np.maximum(since(world.moments, moment), 0.0)
            return np.asarray(np.bincount(world.items, decay(days, half_life), minlength=len(world.came)), np.float64)

        return score

    def lately(world: World, user: int, moment: np.datetime64) -> Numbers:
        late = np.array(world.moments, "datetime64[us]") > moment - 30 * _DAY
        return np.bincount(np.array(world.items)[late], minlength=len(world.came)).astype(np.float64)

    def alike(vectors: Numbers) -> Score:
        def score(world: World, user: int, moment: np.datetime64) -> Numbers:
            past = world.by_user.get(user, [])
            mean = vectors[past].sum(axis=0) if past else np.zeros(vectors.shape[1])
            return vectors @ (mean / max(float(np.linalg.norm(mean)), 1e-12))

        return score

    def fresh(weight: float, half_life: float) -> Score:
        cosine = alike(embeddings)
        return lambda world, user, moment: cosine(world, user, moment) + weight * decay(world.days(moment), half_life)

    embeddings = world.data.items.embeddings.astype(np.float64)
    fading = {(half,): popular(half) for half in (0.25, 1.0, 3.0, 10.0, 30.0, 100.0)}
    both = {(w, h): fresh(w, h) for w in WEIGHTS[:6] for h in HALF_LIVES}
    totals = dict.fromkeys([*fading, *both], 0.0)
    for place, (user, item, moment) in enumerate(rows_of(train)):
        if place >= first:
            there = candidates(world, user, moment)
            there[item] = True
            for key, score in (*fading.items(), *both.items()):
                totals[key] += gains(score(world, user, moment), item, there)[1]
        world.take(user, item, moment)
    (half,) = max(fading, key=lambda key: totals[key])
    weight, life = max(both, key=lambda key: totals[key])
    scorers = {
        "recency": recency, "popularity, 30 days": lately, "popularity, fading": popular(half),
        "TF-IDF of the history": alike(world.tfidf), "encoder cosine": alike(embeddings),
        "encoder cosine + freshness": fresh(weight, life),
    }  # fmt: skip
    return scorers, {
        "popularity, fading": f"half-life {half:g} days",
        "encoder cosine + freshness": f"weight {weight:g}, half-life {life:.3g} days",
    }


def section(name: str, folds: Sequence[Fold]) -> list[str]:
    """The tables of one data set."""
    methods = list(folds[0].values)
    draws = np.repeat(np.arange(len(folds)), [len(one.users) for one in folds])
    values = {one: np.concatenate([fold.values[one] for fold in folds]) for one in methods}
    users, items = (np.concatenate([getattr(fold, part) for fold in folds]) for part in ("users", "items"))
    hours, read, answered = (np.concatenate([getattr(fold, part) for fold in folds]) for part in _ABOUT)
    rows = []
    for one in methods:
        means = [float(np.mean([values[one][draws == d, k].mean() for d in range(len(folds))])) for k in (0, 1)]
        against = ""
        if one != OURS:
            low, high = interval(values[OURS][:, 1] - values[one][:, 1], users, items, draws)
            mean = np.mean([(values[OURS] - values[one])[draws == d, 1].mean() for d in range(len(folds))])
            against = f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
        rows.append((one, f"{means[0]:.3f}", f"{means[1]:.3f}", against))
    chosen = "; ".join(
        f"cut-off {place + 1}: ours weight {fold.parameters.freshness:g}, half-life "
        f"{fold.parameters.freshness_half_life:.3g} days, fading popularity {fold.chosen['popularity, fading']}, "
        f"cosine + freshness {fold.chosen['encoder cosine + freshness']}"
        for place, fold in enumerate(folds)
    )
    lines = ["", f"Chosen before each cut-off: {chosen}.", ""]
    lines += table(("method", "NDCG@10", "NDCG@20", "ours − this, NDCG@20"), rows)
    for title, groups in (
        ("hours since publication", by(hours, HOURS)),
        ("earlier answers of the reader", by(read, EVENTS)),
        ("earlier answers to the article", by(answered, EVENTS)),
    ):
        head = ["NDCG@20, by " + title, *(f"{label} ({int(rows.sum())})" for label, rows in groups)]
        body = [(one, *(f"{values[one][rows, 1].mean():.3f}" if rows.any() else "" for _, rows in groups))
                for one in methods]  # fmt: skip
        lines += ["", *table(head, body)]
    return lines


def interval(values: Numbers, users: NDArray[np.int64], items: NDArray[np.int64], draws: NDArray[np.int64]) -> Numbers:
    """95 %, of the mean over draws."""
    keys, place = np.unique(np.column_stack([draws, items]), axis=0, return_inverse=True)
    sums = np.asarray(np.bincount(place.ravel(), values), np.float64)[:, None]
    shares = np.asarray(np.bincount(place.ravel()), np.float64)
    found = intervals(values[:, None], users, draws, ByItem(sums, shares, keys[:, 1], keys[:, 0]))
    return np.asarray(found[0])


def by(values: NDArray[Any], bounds: Sequence[float]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Groups between bounds, and their labels."""
    edges = [-np.inf, *bounds, np.inf]
    labels = [f"< {bounds[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(bounds)),
              f"≥ {bounds[-1]:g}"]  # fmt: skip
    return [(label, (values >= low) & (values < high))
            for label, low, high in zip(labels, edges, edges[1:], strict=False)]  # fmt: skip


def plot(name: str, folds: Sequence[Fold]) -> None:
    """NDCG@20 by the age of the article, and by the earlier answers of the reader."""
    panels = []
    for part, bounds, about in (("hours", HOURS, "hours since publication"),
                                ("read", EVENTS, "earlier answers of the reader")):  # fmt: skip
        groups = by(np.concatenate([getattr(fold, part) for fold in folds]), bounds)
        curves = {}
        for one in folds[0].values:
            values = np.concatenate([fold.values[one] for fold in folds])[:, 1]
            curves[one] = [float(values[rows].mean()) if rows.any() else np.nan for _, rows in groups]
        panels.append((about, [label for label, _ in groups], curves))
    draw(name, panels)


def draw(name: str, panels: Sequence[tuple[str, Sequence[str], Mapping[str, Sequence[float]]]]) -> None:
    """One panel for each (x label, groups, curves by method), and one legend beside them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(12, 4), sharey=True)
    for axis, (about, labels, curves) in zip(axes, panels, strict=True):
        for one, means in curves.items():
            axis.plot(labels, means, marker="o", markersize=3, linewidth=2.5 if one == OURS else 1.2, label=one)
        axis.set_xlabel(about)
        axis.grid(alpha=0.3)
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("NDCG@20")
    axes[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.suptitle(SETS[name])
    figure.tight_layout()
    figure.savefig(EXPLANATION / f"feed-{name.removeprefix('stackexchange-')}.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
