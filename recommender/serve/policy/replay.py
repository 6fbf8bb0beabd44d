"""Replay the places that were drawn by chance: what other policies would have earned there."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from coldstart_udfs.errors import ColdStartError
from recommender.serve.policy.decisions import Decision
from recommender.serve.policy.estimates import Estimates, Logged, Numbers, cross_fitted, estimate, greedy
from recommender.serve.policy.rewards import Explored

LOGGED, UNIFORM, GREEDY, MODEL = "logged", "uniform", "greedy", "model"
POLICIES = (LOGGED, UNIFORM, GREEDY, MODEL)
# The key of a file of weights that stands for all items that it does not name.
_OTHERS = "*"
# Probabilities are stored as doubles, but others than us may write a log.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Replay:
    """What policies would have earned.

    Attributes:
        decisions: how many decisions were replayed.
        waiting: see `Explored`.
        units: how many users they are of; an answer to a guest is one of its own.
        first: the moment of the first decision.
        last: of the last one.
        earned: the mean reward of a decision.
        policies: estimates by name, in the order that was asked for.
    """

    decisions: int
    waiting: int
    units: int
    first: datetime
    last: datetime
    earned: float
    policies: dict[str, Estimates]

    def as_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold: bounds that do not exist are null, moments are texts."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def replay(explored: Explored, policies: Sequence[str]) -> Replay:
    """Estimate what policies would have earned in places that another policy has drawn.

    `logged` is the policy that drew. `uniform` draws all candidates alike. `greedy` takes the candidate of the highest
    reward that a regression on the contexts predicts; it is fitted on other users than those it chooses for. `model`
    takes the candidate that the recommender puts first. Another name is that of a JSON file with the weight of items,
    `{"22423": 3, "*": 1}`, which are drawn in proportion; "*" stands for all others and is 0 if it is not given.

    Args:
        explored: the decisions, of one policy or several.
        policies: names, and names of files.

    Raises:
        ColdStartError: there is no decision, a decision has no valid probabilities, there is no such policy, or its
            file cannot be used.
    """
    if not explored.decisions:
        more = f"; {explored.waiting:,} are too recent: what they earn is not known yet" if explored.waiting else ""
        raise ColdStartError(
            f"there is no decision to replay{more}; run `coldstart serve --explore 0.1` and let users act on what it "
            "shows"
        )
    log = logged(explored.decisions, explored.rewards)
    predicted = cross_fitted(log)
    chosen = {name: _policy(name, explored.decisions, log, predicted) for name in dict.fromkeys(policies)}
    moments = [decision.at for decision in explored.decisions]
    return Replay(
        decisions=len(log), waiting=explored.waiting, units=len(np.unique(log.units)), first=min(moments),
        last=max(moments), earned=float(log.rewards.mean()),
        policies={name: estimate(log, policy, predicted) for name, policy in chosen.items()},
    )  # fmt: skip


def logged(decisions: Sequence[Decision], rewards: Sequence[float]) -> Logged:
    """Decisions as arrays. The decisions of a user are one unit, the answer to a guest is one of its own.

    Raises:
        ColdStartError: the probabilities of a decision are not positive or do not add up to 1, the drawn item is not
            among its candidates, or contexts differ in their number of columns.
    """
    widths = {decision.contexts.shape[-1] for decision in decisions}
    if len(widths) > 1:
        raise ColdStartError(
            f"the contexts of decisions have {_numbers(widths)} columns: they are of different versions of the "
            "exploration; replay the days of one version"
        )
    for decision in decisions:
        _check(decision)
    sizes = np.array([len(decision.items) for decision in decisions])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    places = np.array([decision.items.index(decision.item_id) for decision in decisions])
    # A user and an answer may have the same id.
    names = [(bool(one.user_id), one.user_id or one.recommendation_id) for one in decisions]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return Logged(
        starts=starts, drawn=starts + places,
        propensities=np.array([decision.propensity for decision in decisions]),
        rewards=np.asarray(rewards, dtype=np.float64),
        units=np.array([numbers[name] for name in names], dtype=np.int64),
        contexts=np.concatenate([decision.contexts for decision in decisions]).astype(np.float64),
    )  # fmt: skip


def _check(decision: Decision) -> None:
    p = decision.probabilities
    told = f"the decision of {decision.recommendation_id!r}, position {decision.position},"
    if not len(decision.items) == len(p) == len(decision.contexts):
        raise ColdStartError(f"{told} has {len(decision.items)} candidates, {len(p)} probabilities and "
                             f"{len(decision.contexts)} contexts; each candidate has one of each")  # fmt: skip
    if not (np.isfinite(p).all() and (p > 0).all() and abs(p.sum() - 1) < _TOLERANCE):
        raise ColdStartError(f"{told} has probabilities from {p.min():g} to {p.max():g} with the sum {p.sum():g}; they "
                             "are positive and add up to 1")  # fmt: skip
    if decision.item_id not in decision.items:
        raise ColdStartError(f"{told} drew {decision.item_id!r}, which is not among its candidates")
    if not np.isfinite(decision.contexts).all():
        raise ColdStartError(f"{told} has contexts with NaN or infinity; they are finite numbers")


def _policy(name: str, decisions: Sequence[Decision], log: Logged, predicted: Numbers) -> Numbers:
    """(N,), the probability that a policy gives each candidate."""
    if name == LOGGED:
        return np.concatenate([decision.probabilities for decision in decisions])
    if name == UNIFORM:
        return _shares(np.ones(len(predicted)), log)
    if name == GREEDY:
        return greedy(log, predicted)
    if name == MODEL:
        return greedy(log, np.zeros(len(predicted)))
    weights = _weights(name)
    items = [item for decision in decisions for item in decision.items]
    given = np.array([weights.get(item, weights.get(_OTHERS, 0.0)) for item in items])
    sums = np.add.reduceat(given, log.starts)
    if not sums.all():
        raise ColdStartError(
            f"{name} gives no weight to any candidate of {np.count_nonzero(sums == 0):,} of {len(log):,} decisions; "
            'weigh the items that it does not name: {"*": 1}'
        )
    return _shares(given, log)


def _shares(weights: Numbers, log: Logged) -> Numbers:
    return weights / np.add.reduceat(weights, log.starts)[log.decisions]


def _weights(name: str) -> dict[str, float]:
    """The weights in a file."""
    path = Path(name)
    if not path.is_file():
        raise ColdStartError(
            f"there is no policy {name!r} and no such file; possible are {', '.join(POLICIES)}, and a JSON file with "
            "the weight of items"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ColdStartError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict) or not all(_is_weight(weight) for weight in found.values()):
        raise ColdStartError(f'{path} must hold weights of items, each a number from 0: {{"22423": 3, "*": 1}}')
    return {item: float(weight) for item, weight in found.items()}


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _numbers(values: set[int]) -> str:
    return " and ".join(map(str, sorted(values)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value
