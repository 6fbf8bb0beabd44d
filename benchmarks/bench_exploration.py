"""Simulate exploration with known truth: which new items find their buyers, and what it costs.

`make bench-exploration SHOP=folder` reads the tables and the bundle of a shop in whose folder `make demo` has run, and
writes its section of docs/explanation/exploration.md and the plot beside it. A quarter of the items are new: the model
is fitted again without their purchases, which are the truth. Policies draw for the reserved place of lists with the
candidates, contexts and sampler of the service, without HTTP.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray

from recommender.data.entities import with_history
from recommender.data.events import EventWeights
from recommender.data.tables import load, read_interactions
from recommender.model.ranking import Rules
from recommender.model.recommender import HybridRecommender
from recommender.model.scoring import Block
from recommender.model.single import best_of
from recommender.serve.policy.contexts import WIDTH, Contexts
from recommender.serve.policy.drawing import CANDIDATES
from recommender.serve.policy.sampler import Evidence, Posterior

# The constants of the sampler were chosen with seeds 0 to 3.
SEEDS = range(100, 120)
NEW, HIDDEN = 0.25, 0.2
USERS, ITEMS, VISITS, PLACES = 5_000, 300, 15_000, 10
# Visits between two looks at the rewards.
BATCH = 150
DRAWS = 200
POLICIES = {
    "model": "the new item that the model scores highest (greedy)",
    "greedy": "the greatest expected reward, without Thompson's draws",
    "uniform": "each candidate with the same probability",
    "flat": "Thompson, prior without words",
    "text": "Thompson, prior by the words' expected demand (the service)",
}
BOUGHT = (1, 5, 10)
# The probability that a user looks at a place, from 1 on.
LOOKED_AT = 1 / np.log2(1 + np.arange(1, PLACES + 1))
PLOT = EXPLANATION / "exploration.png"


@dataclass(frozen=True)
class World:
    """What is the same in all runs.

    Attributes:
        contexts: (users, new items, 12).
        scores: (users, new items), of the model.
        buys: (users, new items), the hidden purchases.
        hits: (users, 10), which places of the model's list of known items the user buys.
    """

    contexts: NDArray[np.float32]
    scores: NDArray[np.float32]
    buys: NDArray[np.bool_]
    hits: NDArray[np.bool_]


@dataclass(frozen=True)
class Run:
    """One policy with one seed: after each batch, how many items have 1, 5, 10 purchases; and the whole reward."""

    reached: NDArray[np.int64]
    earned: float
    explored: float
    without: float


def main() -> None:
    """Run all policies and seeds, and write the section; the argument is the folder of the shop."""
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "data" / "bundle").is_dir():
        raise SystemExit("give the folder of a shop in which `make demo` has run: make bench-exploration SHOP=…")
    world = world_of(Path(sys.argv[1]))
    runs: dict[str, list[Run]] = {name: [] for name in POLICIES}
    for seed in SEEDS:
        for name, done in runs.items():
            done.append(run(world, name, seed))
        last = {name: (done[-1].reached[-1].tolist(), round(done[-1].earned)) for name, done in runs.items()}
        print(f"seed {seed}: {last}", file=sys.stderr, flush=True)
    plot(runs)
    write_between(EXPLANATION / "exploration.md", "simulation", section(runs, len(world.buys)))


def world_of(shop: Path) -> World:
    """Fit the model without the purchases that are the truth, and score everything once."""
    rng = np.random.default_rng(0)
    whole = HybridRecommender.load(shop / "data" / "bundle")
    with duckdb.connect() as con:
        load(con, shop / "data")
        known = read_interactions(con)
    known = known.weighted(EventWeights(), known.timestamps.max() + np.timedelta64(1, "D"))
    users, items = whole.users, whole.items
    assert (list(known.user_ids), list(known.item_ids)) == (list(users.ids), list(items.ids))
    new = np.zeros(len(items), bool)
    new[rng.choice(len(items), int(NEW * len(items)), replace=False)] = True
    pairs = known.users * len(items) + known.items
    distinct, place = np.unique(pairs, return_inverse=True)
    hidden = new[known.items] | (rng.random(len(distinct)) < HIDDEN)[place]
    truth = np.zeros((len(users), len(items)), bool)
    truth[known.users[hidden], known.items[hidden]] = True
    seen = known.select(~hidden)
    parameters = replace(whole.parameters, lightfm_seeds=1)
    model = HybridRecommender(parameters).fit(seen, *with_history(seen, users, items))
    fitted = model.fitted
    columns = np.flatnonzero(new)
    asked = np.flatnonzero(truth[:, new].any(axis=1) & (np.diff(fitted.history.whole.indptr) > 0))
    asked = rng.choice(asked, min(USERS, len(asked)), replace=False)
    contexts = np.zeros((len(asked), len(columns), WIDTH), np.float32)
    scores, hits = np.zeros(contexts.shape[:2], np.float32), np.zeros((len(asked), PLACES), bool)
    maker, warm = Contexts.of(fitted), Rules(PLACES, allowed=~new)
    for row, user in enumerate(asked.tolist()):
        block = Block.of(fitted, fitted.users.take(np.array([user])))
        total = block.total(fitted.all_items)
        contexts[row] = maker.of_candidates(block, total, columns)
        scores[row] = total[0, columns]
        hits[row] = truth[user, best_of(block, total, warm, seen=())]
    return World(contexts, scores, truth[np.ix_(asked, columns)], hits)


def run(world: World, policy: str, seed: int) -> Run:
    """One policy: the seed says which items are new, who comes when, which place is reserved, and who looks at it."""
    rng = np.random.default_rng(seed)
    items = rng.choice(world.buys.shape[1], ITEMS, replace=False)
    visitors = rng.integers(0, len(world.buys), VISITS)
    places, looks = rng.integers(1, PLACES, VISITS), rng.random(VISITS)
    rng = np.random.default_rng(seed + 1_000)
    names = [str(item) for item in range(ITEMS)]
    order = np.argsort(-world.scores[:, items], axis=1, kind="stable")
    bought = np.zeros((len(world.buys), ITEMS), bool)
    purchases = np.zeros(ITEMS, np.int64)
    evidence = Evidence.nothing(WIDTH)
    reached, explored, given = [], 0.0, []
    lists = 0.0
    for start in range(0, VISITS, BATCH):
        posterior = evidence.posterior("flat" if policy == "flat" else "text", DRAWS)
        decided = np.isin(names, list(posterior.decided)) & (policy not in ("model", "uniform"))
        shown, rewards, of = [], [], []
        for visit in range(start, min(start + BATCH, VISITS)):
            user, place = visitors[visit], places[visit]
            free = order[user][~(bought[user] | decided)[order[user]]][:CANDIDATES]
            hits = world.hits[user]
            lists += float((hits * LOOKED_AT).sum())
            if not len(free):
                given.append(float((hits * LOOKED_AT).sum()))
                continue
            given.append(float((np.insert(hits, place, False)[:PLACES] * LOOKED_AT).sum()))
            contexts = world.contexts[user, items[free]]
            one = free[drawn(policy, posterior, contexts, [names[item] for item in free], rng)]
            buys = bool(world.buys[user, items[one]] and looks[visit] < LOOKED_AT[place])
            bought[user, one] |= buys
            purchases[one] += buys
            explored += buys
            shown.append(world.contexts[user, items[one]])
            rewards.append(float(buys))
            of.append(names[one])
        if of:
            evidence.add(np.array(shown), np.array(rewards), of)
        reached.append([int((purchases >= n).sum()) for n in BOUGHT])
    return Run(np.array(reached), sum(given) + explored, explored, lists)


def drawn(
    policy: str, posterior: Posterior, contexts: NDArray[np.float32], names: Sequence[str], rng: np.random.Generator
) -> int:
    """Which of the candidates is shown; they come with the best score first."""
    if policy == "model":
        return 0
    if policy == "uniform":
        return int(rng.integers(len(names)))
    if policy == "greedy":
        return int(posterior.expected(contexts, names).argmax())
    return int(rng.choice(len(names), p=posterior.probabilities(contexts, names)))


def section(runs: dict[str, list[Run]], users: int) -> str:
    """The tables of the section."""
    text = made_by(
        "make bench-exploration",
        f"Online Retail: {NEW:.0%} of the items are new. Their purchases, and {HIDDEN:.0%} of the others, are hidden "
        f"from the model and are the truth. {len(SEEDS)} seeds; in each {ITEMS} new items, and {VISITS:,} visits of "
        f"{users:,} users. A visit is a list of {PLACES} places, of which one is explored. A user looks at place k "
        "with the probability 1/log₂(1+k), and buys what they look at if they bought it in truth, a new item once. "
        f"Rewards are learned every {BATCH} visits. The lists of known items are the same in all visits. Means over "
        "the seeds, with 95 % intervals.",
        ("numpy", "scipy", "lightfm-next"),
    )  # fmt: skip
    model = np.array([run.reached[-1, 1] for run in runs["model"]])
    rows = []
    for name, about in POLICIES.items():
        reached = np.array([run.reached[-1] for run in runs[name]])
        middle = np.array([run.reached[VISITS // BATCH // 2 - 1, 1] for run in runs[name]])
        lost = np.array([1 - run.earned / run.without for run in runs[name]])
        explored = np.array([run.explored for run in runs[name]])
        rows.append([
            about, interval(reached[:, 0], ".0f"), interval(middle, ".0f"), interval(reached[:, 1], ".0f"),
            interval(reached[:, 1] / model, ".2f"), interval(explored, ",.0f"), interval(100 * lost, ".1f"),
        ])  # fmt: skip
    head = ("what fills the place", "items with a purchase", "with 5, after half of the visits", "with 5",
            "with 5, by those of greedy", "purchases of new items", "reward lost, %")  # fmt: skip
    return "\n".join([text, "", *table(head, rows)])


def interval(values: NDArray[np.floating], form: str) -> str:
    """The mean over seeds, and half the length of its 95 % interval (Student's t)."""
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():{form}} ± {half:{form}}"


def plot(runs: dict[str, list[Run]]) -> None:
    """Draw the discoverable corpus: items past 1, 5 and 10 purchases over visits."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharex=True)
    visits = np.arange(1, VISITS // BATCH + 1) * BATCH
    for column, axis in enumerate(axes):
        for name, about in POLICIES.items():
            curves = np.array([run.reached[:, column] for run in runs[name]])
            mean = curves.mean(axis=0)
            half = 1.96 * curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
            (line,) = axis.plot(visits, mean, label=about)
            axis.fill_between(visits, mean - half, mean + half, color=line.get_color(), alpha=0.2, linewidth=0)
        axis.set_title(f"New items with at least {BOUGHT[column]} purchase{'s' if column else ''}, of {ITEMS}")
        axis.set_xlabel("visits, one explored place each")
        axis.grid(alpha=0.3)
        axis.set_ylim(bottom=0)
    axes[0].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
