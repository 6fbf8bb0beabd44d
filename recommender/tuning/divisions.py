"""Divisions of the training data: what is learned from while weights are learned, and what is wanted then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.measure.splits import SHOTS, stable_share

_COLD_ITEMS, _COLD_USERS = 0.2, 0.1
SHARE_OF_PAIRS = 0.1
# Of the users that are set aside, half are new, and the others keep their first few interactions.
_GIVEN = (0, 0, 0, *SHOTS)
# As many rankings as weights need, and as one draw gives at most.
_RANKINGS, _RANKED = 1_000, 400


@dataclass(frozen=True)
class Division:
    """What is learned from, and what is wanted then.

    Attributes:
        learned: interactions with the weights that count.
        wanted: of the same users and items.
        users: features of `learned.user_ids`, with profiles of `learned` alone.
        items: features of `learned.item_ids`, likewise.
        seen: what is not ranked; None is `learned`.
        in_time: whether everything wanted is later than everything learned from.
    """

    learned: Interactions
    wanted: Interactions
    users: Entities
    items: Entities
    seen: Interactions | None = None
    in_time: bool = False


def by_chance(
    train: Interactions, groups: Sequence[str], seed: int, draw: int = 0, unseen: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Draw interactions: all of some items, all or all but the first few items of some users, and some pairs.

    Args:
        train: all interactions.
        groups: the group of each item; items of one group are drawn together.
        seed: of the hash that decides.
        draw: the number of the draw; each draws others.
        unseen: (items,), those that a tuned encoder has not learned from. Only they play new items, because vectors
            of the others look better than those of items that are really new. None: all.

    Returns:
        (n,) mask of the interactions that are set aside.
    """
    salt = f"{seed}.{draw}"
    share = _COLD_ITEMS
    if unseen is not None and (of_pairs := unseen[np.unique(train.items)]).any():
        share /= float(of_pairs.mean())
    cold = np.array([stable_share(name, f"validation items {salt}") < share for name in groups], dtype=bool)
    if unseen is not None:
        cold &= unseen
    shares = np.array([stable_share(name, f"validation users {salt}") for name in train.user_ids])
    width = max(len(train.item_ids), 1)
    keys, pairs = np.unique(train.users * width + train.items, return_inverse=True)
    drawn = [stable_share(str(key), f"validation pairs {salt}") < SHARE_OF_PAIRS for key in keys.tolist()]
    # The place of each pair among those of its user, by its first interaction.
    rank = np.empty(len(train), dtype=np.int64)
    rank[np.lexsort((train.items, train.timestamps, train.users))] = np.arange(len(train))
    first = np.full(len(keys), len(train))
    np.minimum.at(first, pairs, rank)
    users, order = keys // width, np.argsort(first)
    place = np.empty(len(keys), dtype=np.int64)
    place[order] = np.arange(len(keys)) - np.searchsorted(users, users[order])
    given = np.array(_GIVEN)[(shares * 1e6).astype(np.int64) % len(_GIVEN)]
    gone = (shares < _COLD_USERS)[users] & (place >= given[users])
    return np.asarray(cold[train.items] | (gone | np.array(drawn, dtype=bool))[pairs])


def draws(train: Interactions) -> int:
    """How many draws give about a thousand rankings: from three to six."""
    users = len(np.unique(train.users))
    return int(np.clip(np.ceil(_RANKINGS / max(min(users, _RANKED), 1)), 3, 6))
