"""Small shops drawn from a large one: a few of its users, as if there were no others, and what is wanted then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recommender.data.entities import Entities, with_history
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.measure.latest import LATEST, cold_share_of, latest
from recommender.measure.metrics import ndcg
from recommender.measure.splits import stable_share
from recommender.model.fitting import as_matrix, fit
from recommender.model.parameters import Parameters
from recommender.model.scoring import Block
from recommender.model.weights import PARTS, Weights
from recommender.tuning.divisions import Division, by_chance, draws
from recommender.tuning.weights import tune

# What is known of new users when they are asked: so many of their first items, in turn.
GIVEN = (0, 1, 3)
# Of each user of the small shop, this share of the items is asked for: the latest ones.
_ASKED_FOR = 0.2
# The most new users, and the most users of the small shop, that are asked.
MOST_ASKED = 150
# Of a large catalogue, each user's candidates: those that come first with the default weights, and in each part.
_FIRST, _FIRST_OF_PART = 100, 25
# The offsets of items without history under which they come first.
_OFFSETS = (-2.0, 0.0, 2.0)

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Shop:
    """A shop that small ones are drawn from.

    Attributes:
        name: for messages.
        interactions: all of them.
        users: without history.
        items: without history.
        weights: of events.
    """

    name: str
    interactions: Interactions
    users: Entities
    items: Entities
    weights: EventWeights = field(default_factory=EventWeights)


@dataclass(frozen=True)
class SmallShop:
    """k users of a shop, and who is asked what.

    Attributes:
        learned: interactions of the k users, without those that are asked for.
        members: features of the k users, without history.
        asked: features of n users, with profiles of what is known of them.
        history: (n, items), the weights of what is known of them.
        wanted: (n, items), what they took later.
        rows: (n,), theirs in the large shop.
    """

    learned: Interactions
    members: Entities
    asked: Entities
    history: sp.csr_matrix
    wanted: Mask
    rows: Rows


@dataclass(frozen=True)
class Episode:
    """A small shop after training: the parts of the scores of everybody who is asked, for any weights to be tried.

    Attributes:
        parts: (parts, n, candidates) float16.
        wanted: (n, candidates).
        open: (n, candidates), what is ranked.
        cold: (n, candidates), items without history in the small shop.
        evidence: (n,), how much each user is a known one, 0 to 1.
        rows: (n,), the users in the large shop.
        learned: the weights that the small shop learns by itself, before items without history are placed.
        placed: the same afterwards: what training without a prior takes.
    """

    parts: NDArray[np.float16]
    wanted: Mask
    open: Mask
    cold: Mask
    evidence: NDArray[np.float32]
    rows: Rows
    learned: Weights
    placed: Weights

    def scores(self, weights: Weights) -> NDArray[np.float32]:
        """(n, candidates): the weighed sum of all parts."""
        return scores(self.parts, self.cold, self.evidence, weights)

    def rescored(self, total: NDArray[np.float32], before: Weights, after: Weights) -> NDArray[np.float32]:
        """(n, candidates): the scores under other weights, from those under the ones before."""
        changed = total + np.where(self.cold, np.float32(after.cold_offset - before.cold_offset), np.float32(0))
        for part, values in zip(PARTS, self.parts, strict=True):
            steps = [
                _between(new.get(part, (0.0, 0.0)), self.evidence) - _between(old.get(part, (0.0, 0.0)), self.evidence)
                for old, new in ((before.warm, after.warm), (before.cold, after.cold))
            ]
            if any(step.any() for step in steps):
                changed += values.astype(np.float32) * np.where(self.cold, steps[1], steps[0])
        return changed

    def ndcg(self, total: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,): NDCG@20 of each user, with known and new items in one list."""
        return ndcg(total, self.wanted, self.open)

    def quality(self, weights: Weights) -> NDArray[np.float64]:
        """(n,): NDCG@20 of each user under some weights."""
        return self.ndcg(self.scores(weights))


def scores(
    parts: NDArray[np.float16] | Sequence[NDArray[np.float16]], cold: Mask, evidence: NDArray[np.float32],
    weights: Weights,
) -> NDArray[np.float32]:
    """(n, m): the weighted sum of parts; `parts` are (n, m) or (1, m) each, `cold` is (n, m), `evidence` (n,)."""
    total = np.where(cold, np.float32(weights.cold_offset), np.float32(0))
    for part, values in zip(PARTS, parts, strict=True):
        own = [_between(side.get(part, (0.0, 0.0)), evidence) for side in (weights.warm, weights.cold)]
        if any(one.any() for one in own):
            total += values.astype(np.float32) * np.where(cold, own[1], own[0])
    return total


def _between(pair: tuple[float, float], evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    return (np.float32(pair[0]) + evidence * np.float32(pair[1] - pair[0]))[:, None]


def draw_shop(shop: Shop, users: int, draw: int) -> SmallShop:
    """Draw some users by chance; ask them for the last fifth of their items, and other users for theirs.

    The other users are new to the small shop: nothing, the first item or the first three items of each are known when
    they are asked. All items of the large shop are there.

    Args:
        shop: with more than `users` users.
        users: how many the small shop has.
        draw: the number of the draw; each draws others.
    """
    interactions = shop.interactions.select(np.isnat(shop.interactions.returned))
    found = np.unique(interactions.users)
    order = np.random.default_rng([draw, users]).permutation(found)
    own, others = np.sort(order[:users]), order[users:]
    user, item, place = _in_order(interactions, f"small shop {draw}")
    n, count = len(shop.users), np.bincount(user, minlength=len(shop.users))
    is_own = np.zeros(n, dtype=bool)
    is_own[own] = True
    kept = np.where(is_own, count - np.floor(count * _ASKED_FOR).astype(np.int64), 0)
    new = [(row, GIVEN[turn % len(GIVEN)]) for turn, row in enumerate(others.tolist())]
    new = [(row, given) for row, given in new if count[row] > given][:MOST_ASKED]
    for row, given in new:
        kept[row] = given
    rows = np.array([*own[kept[own] < count[own]][:MOST_ASKED], *(row for row, _ in new)], dtype=np.int64)
    known = place < kept[user]

    def taken(mask: Mask, of: Rows) -> Interactions:
        keys = user[mask] * len(shop.items) + item[mask]
        some = interactions.select(np.isin(interactions.users * len(shop.items) + interactions.items, keys))
        return _of_users(some, of)

    learned, before, after = taken(known & is_own[user], own), taken(known, rows), taken(~known, rows)
    moment = max(part.timestamps.max() for part in (learned, before) if len(part)) + np.timedelta64(1, "us")
    before = before.weighted(shop.weights, moment)
    asked, _ = with_history(before, shop.users.take(rows), shop.items)
    history = as_matrix(before)
    wanted = (as_matrix(after).toarray() > 0) & ~(history.toarray() > 0)
    some = np.flatnonzero(wanted.any(axis=1))
    return SmallShop(
        learned, shop.users.take(own), asked.take(some), history[some], wanted[some], rows[some]
    )


def episode(shop: Shop, users: int, draw: int, parameters: Parameters | None = None) -> Episode | None:
    """Draw a small shop, train in it, and keep the parts of the scores of everybody who is asked.

    Args:
        shop: see `draw_shop`.
        users: see `draw_shop`.
        draw: see `draw_shop`; it is the seed of the training too.
        parameters: for training; None: the defaults.

    Returns:
        None if there is nothing to learn from, or nobody to ask.
    """
    small = draw_shop(shop, users, draw)
    settings = replace(parameters or Parameters(), seed=draw)
    counted, members, items = _counted(small.learned, shop, small.members)
    if not len(counted) or not len(small.rows):
        return None
    tuned = tune(settings, _divisions(small, shop, draw), cold_share=cold_share_of(small.learned))
    settings = replace(settings, metric_ridge=tuned.parameters.metric_ridge)
    fitted = fit(settings, counted, members, items, seen=small.learned)
    block, every = Block.of(fitted, small.asked, small.history), fitted.all_items
    parts = [block.standard(part, every).astype(np.float16) for part in PARTS]
    open_ = ~(small.history.toarray() > 0)
    evidence = settings.weights.evidence(np.diff(small.history.indptr))
    columns, real = _candidates(parts, small.wanted, open_, every.cold, evidence, settings.weights)
    rows = np.arange(len(columns))[:, None]
    some = np.stack([part[0 if len(part) == 1 else rows, columns] for part in parts])
    return Episode(
        some, small.wanted[rows, columns] & real, open_[rows, columns] & real, every.cold[columns], evidence,
        small.rows, tuned.learned, tuned.parameters.weights,
    )  # fmt: skip


def _divisions(small: SmallShop, shop: Shop, seed: int) -> list[Division]:
    """As in training: some by chance, and one in time if the data have time."""
    learned = small.learned
    held = [by_chance(learned, shop.items.ids, seed, draw) for draw in range(draws(learned))]
    in_time = latest(learned.timestamps, LATEST)
    if in_time is not None:
        held.append(in_time)
    found = []
    for number, mask in enumerate(held):
        some = np.zeros_like(mask) if mask.all() else mask  # of so little nothing can be set aside
        part = learned.select(~some)
        counted, users, items = _counted(part, shop, small.members)
        late = in_time is not None and number == len(held) - 1
        found.append(Division(counted, learned.select(some), users, items, part, late))
    return found


def _counted(part: Interactions, shop: Shop, users: Entities) -> tuple[Interactions, Entities, Entities]:
    """What counts just after the last interaction, and features with profiles of it."""
    moment = part.timestamps.max() + np.timedelta64(1, "us") if len(part) else np.datetime64("now", "us")
    counted = part.weighted(shop.weights, moment)
    return (counted, *with_history(counted, users, shop.items))


def _in_order(interactions: Interactions, salt: str) -> tuple[Rows, Rows, Rows]:
    """Users and items of all pairs, and the place of each pair among those of its user, by its first interaction."""
    pairs = interactions.pairs()
    ties = [stable_share(f"{user}\0{item}", salt) for user, item in zip(pairs.users, pairs.items, strict=True)]
    order = np.lexsort((np.array(ties), pairs.timestamps, pairs.users))
    users = pairs.users[order]
    return users, pairs.items[order], np.arange(len(users)) - np.searchsorted(users, users)


def _of_users(interactions: Interactions, rows: Rows) -> Interactions:
    """The interactions of some users, who are the only ones then."""
    place = np.full(len(interactions.user_ids), -1)
    place[rows] = np.arange(len(rows))
    some = interactions.select(place[interactions.users] >= 0)
    return replace(some, user_ids=[interactions.user_ids[row] for row in rows.tolist()], users=place[some.users])


def _candidates(
    parts: Sequence[NDArray[np.float16]], wanted: Mask, open_: Mask, cold: Mask, evidence: NDArray[np.float32],
    weights: Weights,
) -> tuple[Rows, Mask]:
    """(n, c) columns, and which of them are real: of each user, the items that can come first, and the wanted ones."""
    n, m = wanted.shape
    sides = [side for side in (cold, ~cold) if side.any()]
    if m <= len(_OFFSETS) * _FIRST + len(PARTS) * len(sides) * _FIRST_OF_PART:
        return np.tile(np.arange(m), (n, 1)), np.ones((n, m), dtype=bool)
    chosen = wanted.copy()

    def add(values: NDArray[np.float32], most: int) -> None:
        first = np.argpartition(-np.where(open_, values, -np.inf), most - 1, axis=1)[:, :most]
        chosen[np.arange(n)[:, None], first] = True

    for offset in _OFFSETS:
        add(scores(parts, np.broadcast_to(cold, (n, m)), evidence, replace(weights, cold_offset=offset)), _FIRST)
    for part in parts:
        for side in sides:
            values = np.where(side, np.broadcast_to(part, (n, m)), np.float32(-1e6))
            add(values.astype(np.float32), min(_FIRST_OF_PART, int(side.sum())))
    size = int(chosen.sum(axis=1).max())
    order = np.argsort(~chosen, axis=1, kind="stable")[:, :size]
    return order, np.take_along_axis(chosen, order, axis=1)
