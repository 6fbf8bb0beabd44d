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

SEEDS = 20
NEW, HIDDEN = 0.25, 0.2
USERS, ITEMS, VISITS, PLACES = 5_000, 300, 20_000, 10
# Visits between two looks at the rewards.
BATCH = 200
DRAWS = 250
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
    for seed in range(SEEDS):
        for name, done in runs.items():
            done.append(run(world, name, seed))
        last = {name: (done[-1].reached[-1].tolist(), round(done[-1].earned)) for name, done in runs.items()}
        print(f"seed {seed}: {last}", file=sys.stderr, flush=True)
    plot(runs)
    write_between(EXPLANATION / "exploration.md", "simulation", section(runs))


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


if __name__ == "__main__":
    main()
