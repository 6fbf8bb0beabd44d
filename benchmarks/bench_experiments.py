"""Measure how often experiments find a difference where there is none, and how many users they need to find one.

`make bench-experiments` simulates users who come again and again, computes the intervals of
`recommender.serve.experiments` after every user, and writes its section of docs/explanation/experiments.md.
`python benchmarks/bench_experiments.py RUNS` takes another number of runs, and writes nothing.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator

import numpy as np
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray
from scipy.stats import beta, norm

from recommender.serve.experiments.fixed import users_needed
from recommender.serve.experiments.ratios import ALARM, evidence
from recommender.serve.experiments.sequences import (
    LEAST_USERS,
    Sequence,
    Sums,
    asymptotic,
    bets,
    pseudo_outcomes,
    wealth,
)

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

RUNS, USERS, PLANNED = 10_000, 10_000, 5_000
ERROR, LOOKS = 0.05, 30
RATES = (0.005, 0.01, 0.05, 0.2)
# Runs that are computed at once: arrays of 6 MB.
_AT_ONCE = 80
_POWER_RUNS, _BLOCKS, _FURTHEST = 2_000, 1_000, 6
# Visits of a user: geometric, with this mean. Who is interested buys in such a share of their visits, others never.
VISITS, INTERESTED = 4.0, 0.25
METHODS = (
    "confidence sequence, users with a purchase",
    "confidence sequence, purchases per visit",
    "betting sequence, users with a purchase",
    f"z-test of users, {LOOKS} looks",
    "z-test of users, one look",
    "z-test of visits, one look",
    "interleaving, preference of users with a purchase",
    f"alarm of the sample ratio, p < {ALARM:g}",
)


def main() -> None:
    """Simulate, print, and write the section unless another number of runs is asked for."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    began = time.process_time()
    false_positives, power = of_nothing(runs), of_power()
    lines = [
        *table(("false positives", *(f"{rate:.1%}" for rate in RATES)), false_positives), "",
        *table(("users with a purchase", "difference", "one look", "sequence", "times", "half have stopped at"), power),
    ]  # fmt: skip
    print("\n".join(lines))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{time.process_time() - began:.0f} s of CPU, {peak:.2f} GiB")
    if runs == RUNS:
        write_between(EXPLANATION / "experiments.md", "experiments", "\n".join([about(), "", *lines]))


def about() -> str:
    """What the tables show."""
    return made_by(
        "make bench-experiments",
        f"The first table: the share of {RUNS:,} simulated experiments, with two equal arms, that found a difference "
        f"at any look, and in brackets its upper bound (one-sided, 95 %). {USERS:,} users come in turn; {PLANNED:,} "
        "were planned. Sequences are looked at after each user. The columns are the shares of users with a purchase. "
        f"Users come {VISITS:g} times on average; those who are interested buy in every fourth visit. The second "
        f"table: the number of users of both arms after which 80 % of {_POWER_RUNS:,} experiments have found a "
        "difference that is there, with one look at a number planned for this (tea-tasting), and with a look at any "
        "time.",
        ("numpy", "scipy", "tea-tasting"),
    )  # fmt: skip


def of_nothing(runs: int) -> list[tuple[str, ...]]:
    """False positives by method and rate."""
    found: dict[str, list[str]] = {method: [] for method in METHODS}
    for number, rate in enumerate(RATES):
        counts = np.zeros(len(METHODS))
        for chunk in chunks(np.random.default_rng([7, number]), rate, runs):
            counts += [float(one.sum()) for one in chunk]
        for method, count in zip(METHODS, counts.tolist(), strict=True):
            found[method].append(f"{count / runs:.4f} ({upper(count, runs):.4f})")
    return [(method, *cells) for method, cells in found.items()]


def upper(count: float, runs: int) -> float:
    """The upper bound of a rate, one-sided, 95 % (Clopper and Pearson 1934)."""
    return float(beta.ppf(0.95, count + 1, runs - count)) if count < runs else 1.0


def chunks(rng: np.random.Generator, rate: float, runs: int) -> Iterator[list[Flags]]:
    """Of some runs at a time, whether each method found a difference."""
    visits, purchases = population(rng, rate)
    for start in range(0, runs, _AT_ONCE):
        shape = min(_AT_ONCE, runs - start), USERS
        who, mine = rng.integers(0, len(visits), shape), rng.random(shape) < 0.5
        x, events = visits[who], purchases[who]
        y = (events > 0).astype(np.float64)
        users = Sums.of(~mine, y), Sums.of(mine, y)
        per_visit = Sums.of(~mine, events, x), Sums.of(mine, events, x)
        looks = np.linspace(USERS / LOOKS, USERS, LOOKS).astype(np.int64) - 1
        z = pseudo_outcomes(mine, y, 0.5)
        capital = wealth(z, bets(z, -2, 2, ERROR), 0, -2, 2)
        halves = np.array([0.5, 0.5])
        alarm = evidence(np.stack([users[0].users, users[1].users], axis=-1), halves)
        # In an interleaved list of equal rankers, chance decides whose item a buyer takes, as it decides arms here.
        preference = evidence(np.stack([users[0].y, users[1].y], axis=-1), halves)
        yield [
            excludes(asymptotic(*users, ERROR, PLANNED)), excludes(asymptotic(*per_visit, ERROR, PLANNED)),
            (capital > -np.log(ERROR)).any(axis=1), np.asarray(z_test(*users)[:, looks].any(axis=1)),
            np.asarray(z_test(*users)[:, -1]), of_visits(*per_visit), (preference > -np.log(ERROR)).any(axis=1),
            (alarm > -np.log(ALARM)).any(axis=1),
        ]  # fmt: skip


def population(rng: np.random.Generator, rate: float, size: int = 1_000_000) -> tuple[Numbers, Numbers]:
    """Visits and purchases of users, of whom a share of `rate` has a purchase."""
    visits = rng.geometric(1 / VISITS, size)
    # The probability that an interested user never buys, by the generating function of their visits.
    never = (1 - INTERESTED) / VISITS / (1 - (1 - INTERESTED) * (1 - 1 / VISITS))
    interested = rng.random(size) < rate / (1 - never)
    return visits.astype(np.float64), (rng.binomial(visits, INTERESTED) * interested).astype(np.float64)


def excludes(sequence: Sequence) -> Flags:
    """(runs,): whether 0 was ever outside."""
    return np.asarray(((sequence.low > 0) | (sequence.high < 0)).any(axis=1))


def z_test(control: Sums, arm: Sums) -> Flags:
    """(runs, users): whether a test of the means is significant after each user."""
    (base, of_base), (other, of_other) = control.ratio(), arm.ratio()
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (other - base) / np.sqrt(of_base + of_other)
    enough = np.minimum(control.users, arm.users) >= LEAST_USERS
    return np.asarray((np.abs(z) > norm.ppf(1 - ERROR / 2)) & enough)


def of_visits(control: Sums, arm: Sums) -> Flags:
    """(runs,): the same at the end, as if visits were independent."""
    rates = [sums.y[:, -1] / sums.x[:, -1] for sums in (control, arm)]
    variances = [p * (1 - p) / sums.x[:, -1] for p, sums in zip(rates, (control, arm), strict=True)]
    return np.asarray(np.abs(rates[1] - rates[0]) > norm.ppf(1 - ERROR / 2) * np.sqrt(sum(variances)))


def of_power() -> list[tuple[str, ...]]:
    """The users needed by rate and difference."""
    rows: list[tuple[str, ...]] = []
    for number, (rate, effect) in enumerate((rate, effect) for rate in RATES for effect in (0.05, 0.1)):
        needed = users_needed(rate, effect)
        stopped = stopping(np.random.default_rng([8, number]), rate, effect, needed)
        within = float(np.quantile(stopped, 0.8, method="inverted_cdf"))
        half = f"{np.median(stopped):,.0f}"
        rows.append((f"{rate:.1%}", f"+{effect:.0%}", f"{needed:,}", f"{within:,.0f}", f"{within / needed:.2f}", half))
    return rows


def stopping(rng: np.random.Generator, rate: float, effect: float, needed: int) -> Numbers:
    """(runs,): after how many users the sequence excludes 0; users come in blocks, to save time."""
    block = needed / 2 / _BLOCKS
    shape = 250, _BLOCKS * _FURTHEST
    users = np.cumsum(np.full(shape, round(block)), axis=1, dtype=np.float64)
    found = []
    for _ in range(_POWER_RUNS // shape[0]):
        sums = []
        for p in (rate, rate * (1 + effect)):
            y = np.cumsum(rng.binomial(round(block), p, shape), axis=1, dtype=np.float64)
            sums.append(Sums(users, y, users, y, y, users))
        sequence = asymptotic(sums[0], sums[1], ERROR, needed)
        out = (sequence.low > 0) | (sequence.high < 0)
        found.append(np.where(out.any(axis=1), 2 * users[0, out.argmax(axis=1)], np.inf))
    return np.concatenate(found)


if __name__ == "__main__":
    main()
