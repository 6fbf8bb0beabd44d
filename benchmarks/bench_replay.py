"""Off-policy estimates on made-up logs whose truth is known, and on Open Bandit's: `make bench-replay`.

Writes the sections of docs/explanation/replay.md.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray
from replay_world import World, learned, sharp, uniform

from recommender.serve.policy.estimates import Estimate, Logged, cross_fitted, estimate, greedy

Numbers = NDArray[np.float64]

PAGE = EXPLANATION / "replay.md"
COMMAND = "make bench-replay"
ESTIMATORS = {"ips": "IPS", "snips": "SNIPS", "dr": "doubly robust"}
# Name, world, users in a log.
WORLDS = (
    ("2,000 users, one reward in 13 places", World(), 2_000),
    ("500 users, one reward in 13 places", World(), 500),
    ("4,000 users, one reward in 75 places", World(base=-5.0), 4_000),
    ("2,000 users, a decided policy logs", World(least=0.1, decided=1.5), 2_000),
    ("100 users, one reward in 4 places", World(base=-1.5), 100),
)


class Found(NamedTuple):
    """One estimate of one log, and the truth."""

    estimate: Estimate
    truth: float
    warned: bool


def simulated(world: World, users: int, logs: int) -> dict[tuple[str, str], list[Found]]:
    """Estimates of many logs, by policy and estimator."""
    fixed = {
        name: world.truth(policy, pieces=40)
        for name, policy in (("logged", world.logging), ("uniform", uniform), ("sharp", sharp))
    }
    found: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for number in range(logs):
        log, own = world.log(np.random.default_rng([7, number]), users)
        predicted = cross_fitted(log)
        contexts = log.contexts.reshape(len(log), -1, log.contexts.shape[1])
        policies = {
            "logged": own, "uniform": uniform(contexts).ravel(), "sharp": sharp(contexts).ravel(),
            "greedy": greedy(log, predicted),
        }  # fmt: skip
        for name, policy in policies.items():
            truth = fixed[name] if name in fixed else world.truth(learned(log))
            estimates = estimate(log, policy, predicted)
            for one in ESTIMATORS:
                found[name, one].append(Found(getattr(estimates, one), truth, bool(estimates.warnings)))
    return found


def coverage(logs: int) -> Iterable[tuple[str, ...]]:
    """Rows of the first table."""
    for title, world, users in WORLDS:
        found = simulated(world, users, logs)
        for policy in ("logged", "uniform", "sharp", "greedy"):
            cells = []
            for one in ESTIMATORS:
                results = found[policy, one]
                covered = np.mean([each.estimate.low <= each.truth <= each.estimate.high for each in results])
                width = np.mean([each.estimate.high - each.estimate.low for each in results])
                cells.append(f"{covered:.1%}, ±{500 * width:.1f}")
            results = found[policy, "dr"]
            truth, warned = np.mean([each.truth for each in results]), np.mean([each.warned for each in results])
            yield title, policy, f"{1_000 * truth:.1f}", *cells, f"{warned:.0%}"
            print("|", " | ".join((title, policy, f"{1_000 * truth:.1f}", *cells, f"{warned:.0%}")), "|", flush=True)


def open_bandit() -> Iterable[tuple[str, ...]]:
    """Rows of the second table: each policy estimated from the other one's log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a package of 2021 with today's Python
        import obp
        from obp.ope import DoublyRobust, InverseProbabilityWeighting, SelfNormalizedInverseProbabilityWeighting
        from obp.policy import BernoulliTS

    folder = Path(obp.__file__).parent / "dataset" / "obd"
    theirs = (InverseProbabilityWeighting(), SelfNormalizedInverseProbabilityWeighting(), DoublyRobust())
    for campaign, items in (("all", 80), ("men", 34), ("women", 46)):
        thompson = BernoulliTS(
            n_actions=items, len_list=3, is_zozotown_prior=True, campaign=campaign, random_state=1
        ).compute_batch_action_dist(n_sim=100_000, n_rounds=1)[0]  # fmt: skip
        policies: dict[str, Callable[[NDArray[np.int64]], Numbers]] = {
            "random": lambda positions, m=items: np.full((len(positions), m), 1 / m),  # type: ignore[misc]
            "bts": lambda positions, p=thompson: p[:, positions].T,  # type: ignore[misc]
        }
        logs = {name: read(folder / name / campaign, items) for name in policies}
        for source, other in (("random", "bts"), ("bts", "random")):
            log, positions = logs[source]
            policy, predicted = policies[other](positions), cross_fitted(log)
            found = estimate(log, policy.ravel(), predicted)
            itself = logs[other][0]
            own = estimate(itself, np.repeat(itself.propensities, items), np.zeros(len(itself.contexts))).ips
            n = len(log)
            given = {
                "reward": log.rewards, "action": log.drawn - log.starts, "pscore": log.propensities,
                "action_dist": policy[:, :, None], "position": np.zeros(n, int),
                "estimated_rewards_by_reg_model": predicted.reshape(n, -1, 1),
            }  # fmt: skip
            ours = np.array([found.ips.value, found.snips.value, found.dr.value])
            agreed = np.abs(ours - [one.estimate_policy_value(**given) for one in theirs]).max()
            yield (
                campaign, other, source, shown(own), shown(found.ips), shown(found.snips), shown(found.dr),
                f"{found.effective_units:,.0f}", f"{found.max_weight:,.1f}", "yes" if found.warnings else "no",
                f"{agreed:.0e}",
            )  # fmt: skip


def read(folder: Path, items: int) -> tuple[Logged, NDArray[np.int64]]:
    """A log of Open Bandit: every item is a candidate; contexts are what is known of item, position and affinity."""
    name = folder.name
    affinities = ", ".join(f'"user-item_affinity_{item}"' for item in range(items))
    with duckdb.connect() as con:
        rows = con.execute(
            f"SELECT item_id, position, click, propensity_score, {affinities} FROM '{folder / f'{name}.csv'}' "
            "ORDER BY timestamp"
        ).fetchnumpy()
        about = con.execute(f"SELECT item_feature_0 AS x FROM '{folder / 'item_context.csv'}' ORDER BY item_id")
        feature = about.fetchnumpy()["x"]
    drawn, places = np.asarray(rows["item_id"], np.int64), np.asarray(rows["position"], np.int64) - 1
    n = len(drawn)
    affinity = np.column_stack([rows[f"user-item_affinity_{item}"] for item in range(items)]).astype(np.float64)
    contexts = np.stack([
        np.tile(feature, (n, 1)), np.log1p(affinity), np.repeat(places[:, None], items, axis=1),
    ], axis=2).reshape(n * items, 3)  # fmt: skip
    rows_of = np.arange(n)
    return Logged(
        rows_of * items, rows_of * items + drawn,
        np.asarray(rows["propensity_score"], float), np.asarray(rows["click"], float), rows_of, contexts,
    ), places  # fmt: skip


def shown(found: Estimate) -> str:
    """Clicks of 1,000 places."""
    return f"{1_000 * found.value:.1f} ({1_000 * found.low:.1f} to {1_000 * found.high:.1f})"


def main(logs: int) -> None:
    """Measure, print and write both sections."""
    head = ("log", "policy", "true value", *(f"{name}: coverage, half width" for name in ESTIMATORS.values()), "warned")
    lines = table(head, coverage(logs))
    about = (
        f"{logs:,} logs for each row, 2.5 places of a user on average, 8 candidates. Values and half widths are "
        "rewards of 1,000 places. `sharp` knows the rewards better than the policy of the log. The true value of "
        "`greedy` is that of the policies that were fitted on each log. `warned` is the share of logs for which "
        "`coldstart experiment replay` warns."
    )
    write_between(PAGE, "coverage", "\n".join([made_by(COMMAND, about, ("numpy", "scipy")), "", *lines]))
    head = ("campaign", "policy", "from the log of", "its own log", *ESTIMATORS.values(), "worth of places",
            "largest weight", "warned", "difference to obp")  # fmt: skip
    lines = table(head, open_bandit())
    print("\n".join(lines))
    about = (
        "Clicks of 1,000 places in Open Bandit's samples of 10,000 places (Saito et al. 2021, arXiv 2008.07146, "
        "CC BY 4.0), which lie in the wheel of obp. `bts` is Thompson sampling at the start of the campaign, as obp "
        "computes it; its own log is of a week in which it learned."
    )
    write_between(PAGE, "open-bandit", "\n".join([made_by(COMMAND, about, ("numpy", "obp")), "", *lines]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
