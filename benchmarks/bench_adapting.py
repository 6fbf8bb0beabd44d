"""Parameters that adapt, on made-up shops whose best value is known: `make bench-adapting`.

Writes its section of docs/explanation/adapting.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from common import EXPLANATION, made_by, table, write_between

from recommender.serve.experiments.sequences import Sums, asymptotic
from recommender.serve.policy.adapting import NOW, Adaptive, better

ADAPTIVE = Adaptive("gamma", 0.5, 2.0, step=1.5, users=200_000)
SHOPS = 300
# Users between two looks, and of each shop in all.
LOOK, USERS = 5_000, 4_000_000
SHOWN = (250_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000)
BEST = 1.6
MOVED = 0.7


@dataclass(frozen=True)
class World:
    """How likely a user buys, by the value of the parameter; the best value may change after half of the users.

    Attributes:
        rate: at the best value.
        loss: the share of it that half or twice the best value costs.
        moves: whether the best value changes from `BEST` to `MOVED`.
    """

    rate: float
    loss: float
    moves: bool

    def best(self, seen: int) -> float:
        """The best value after a number of users."""
        return MOVED if self.moves and seen >= USERS // 2 else BEST

    def chance(self, value: float, seen: int) -> float:
        """That a user buys."""
        return self.rate * max(1 - self.loss * math.log2(value / self.best(seen)) ** 2, 0.1)


WORLDS = {
    "the best value is 1.6": World(0.1, 0.3, False),
    "1.6, after half of the users 0.7": World(0.1, 0.3, True),
    "A/A: all values are alike": World(0.1, 0.0, False),
}


def sure(counts: dict[str, Sums], number: int) -> str | None:
    """The side that is better with certainty, as the service decides it."""
    error = ADAPTIVE.error_of(number) / (len(counts) - 1)
    found = {arm: asymptotic(counts[NOW], sums, error, ADAPTIVE.planned) for arm, sums in counts.items() if arm != NOW}
    return better({arm: (one.last()[1], one.last()[2]) for arm, one in found.items()})


def larger_mean(counts: dict[str, Sums], _: int) -> str | None:
    """The side of the larger mean after a whole round, without a test."""
    if sum(float(one.users[-1]) for one in counts.values()) < ADAPTIVE.users:
        return None
    side = max(counts, key=lambda arm: float(counts[arm].y[-1] / counts[arm].users[-1]))
    return None if side == NOW else side


def values(
    world: World, decide: Callable[[dict[str, Sums], int], str | None], rng: np.random.Generator
) -> tuple[list[float], int]:
    """The value of one shop after each look, and the number of its moves."""
    value, number, moves, seen = 1.0, 1, 0, 0
    found: list[float] = []
    while seen < USERS:
        arms = ADAPTIVE.arms(value)
        totals = {arm: np.zeros(2) for arm in arms}
        of_round, side = 0, None
        while side is None and of_round < ADAPTIVE.users and seen < USERS:
            for arm, users in zip(arms, rng.multinomial(LOOK, [1 / len(arms)] * len(arms)).tolist(), strict=True):
                totals[arm] += users, rng.binomial(users, world.chance(arms[arm], seen))
            of_round, seen = of_round + LOOK, seen + LOOK
            side = decide({arm: _sums(*total) for arm, total in totals.items()}, number)
            found.append(value)
        number += 1
        if side is not None:
            value, moves = arms[side], moves + 1
    return found, moves


def _sums(users: float, bought: float) -> Sums:
    n, y = np.array([users]), np.array([bought])
    return Sums(n, y, n, y, y, n)


def main() -> None:
    """Measure, print and write."""
    rows = []
    for title, world in WORLDS.items():
        for rule, decide in (("with certainty", sure), ("larger mean", larger_mean)):
            shops = [values(world, decide, np.random.default_rng([11, shop])) for shop in range(SHOPS)]
            paths, moves = np.array([path for path, _ in shops]), np.array([count for _, count in shops])
            cells = []
            for users in SHOWN:
                at = paths[:, users // LOOK - 1]
                low, middle, high = np.quantile(at, [0.05, 0.5, 0.95])
                cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
            last = paths[:, -1]
            earned = np.mean([world.chance(value, USERS) for value in last]) / world.chance(world.best(USERS), USERS)
            rows.append((title, rule, *cells, f"{earned:.1%}", f"{np.mean(moves > 0):.1%}", f"{moves.mean():.1f}"))
            print(rows[-1], flush=True)
    head = ("shop", "moves", *(f"{users / 1e6:g} million users" for users in SHOWN), "of the best rewards",
            "shops that ever moved", "moves")  # fmt: skip
    about = (
        f"{SHOPS} shops, which begin at 1 with the bounds 0.5 and 2, steps of {ADAPTIVE.step:g} and rounds of at most "
        f"{ADAPTIVE.users:,} users. One user in ten buys at the best value; half or twice the best value costs 30 % of "
        f"that. A look after every {LOOK} users. Values are the median and the range of nine shops in ten."
    )
    write_between(EXPLANATION / "adapting.md", "adapting", "\n".join([
        made_by("make bench-adapting", about, ("numpy", "scipy")), "", *table(head, rows),
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
