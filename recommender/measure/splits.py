"""Splits: what a method may learn from, who is asked then, and for what.

Who or what is cold is decided by a stable hash of the id and the seed, so that a split stays as data grow. Profiles are
rebuilt from a split's training part: those in the feature store hold what the split holds out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.data.searches import Searchers, known_until

SPLITS = ("item_cold", "user_cold", "both_cold", "warm", "temporal", "k_shot")
SHOTS = (1, 3, 5)
_HELD_OUT = 0.2

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """What is learned from, who is asked, and what would have been right.

    Attributes:
        kind: one of `SPLITS`.
        train: the interactions that a method may see.
        test: those that it is asked for.
        users: features of all users, with profiles of `train` alone, and of searches those that `searchers` holds.
        items: features of all items, with profiles of `train` alone.
        cold: (items,), the cold candidates.
        warm: (items,), the warm ones: those with training interactions.
        asked: rows of the users who are asked.
        wanted: (users, items), 1 where a pair of `test` is asked for.
        excluded: (users, items), 1 where a pair is no candidate: it was learned from, or belongs to neither part.
        groups: of each item; those of one group are cold or warm together.
        shots: how many interactions of each asked user are given, for k_shot.
        searchers: the same users without history, with their searches before what is held out; None: nobody's.
    """

    kind: str
    train: Interactions
    test: Interactions
    users: Entities
    items: Entities
    cold: Mask
    warm: Mask
    asked: NDArray[np.int64]
    wanted: sp.csr_matrix
    excluded: sp.csr_matrix
    groups: Sequence[str]
    shots: int | None = None
    searchers: Searchers | None = None


def stable_share(name: str, salt: str) -> float:
    """A number in [0, 1) that depends on the name and the salt alone, so that splits stay as data grow."""
    digest = hashlib.blake2b(f"{salt}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def pair_matrix(interactions: Interactions) -> sp.csr_matrix:
    """(users, items) float32, 1 where they interacted."""
    pairs = interactions.pairs()
    shape = (len(pairs.user_ids), len(pairs.item_ids))
    return sp.csr_matrix((np.ones(len(pairs), np.float32), (pairs.users, pairs.items)), shape=shape)


def make_splits(
    interactions: Interactions, users: Entities, items: Entities, kind: str, *, seed: int = 0,
    groups: Sequence[str] | None = None, cutoff: datetime | None = None, shots: Sequence[int] = SHOTS,
    searchers: Searchers | None = None,
) -> list[Split]:
    """Split the interactions; one `Split`, for k_shot one for each number of shots.

    - item_cold: a fifth of the items, by group, is cold; users with training interactions are asked for them.
    - user_cold: a fifth of the users is cold, and asked for all that they did.
    - both_cold: both; cold users are asked for cold items. What a cold one did with a warm one is in neither part.
    - warm: a fifth of the pairs, of users and items with others.
    - temporal: what happened before the cut-off is learned from. Items first seen later are cold; users with training
      interactions are asked for all that they did later.
    - k_shot: as user_cold, but the first k items of each cold user are given. The same users are asked for every k:
      those who have something left after the largest.

    A user's searches are in his description as far as they come before the first interaction of his that is not learned
    from, and no later than the last one, of anybody, that is: in temporal, then, before the cut-off.

    Args:
        interactions: all that happened.
        users: features of `interactions.user_ids`; their profiles are rebuilt.
        items: features of `interactions.item_ids`, likewise.
        kind: one of `SPLITS`.
        seed: of the hash; the temporal split does not depend on it.
        groups: of each item; None: each is its own.
        cutoff: for temporal and it alone; UTC where it has no time zone.
        shots: the k of k_shot.
        searchers: `users` and what they searched for; None: nothing.

    Raises:
        ColdStartError: another kind; a cut-off that is missing, not asked for or outside the data; shots below 1;
            nothing to learn from, or nobody to ask.
    """
    if kind not in SPLITS:
        raise ColdStartError(f"split {kind!r} is unknown; possible are {', '.join(SPLITS)}")
    if cutoff is not None and kind != "temporal":
        raise ColdStartError(f"the split {kind} takes no cut-off; only temporal does")
    groups = list(items.ids) if groups is None else groups
    cold_items, cold_users = _draw(groups, f"items {seed}"), _draw(users.ids, f"users {seed}")
    by_item, by_user = cold_items[interactions.items], cold_users[interactions.users]
    if kind == "item_cold":
        parts = [_Part(~by_item, by_item, cold_items=cold_items)]
    elif kind == "user_cold":
        parts = [_Part(~by_user, by_user, cold_users)]
    elif kind == "both_cold":
        parts = [_Part(~by_user & ~by_item, by_user & by_item, cold_users, cold_items)]
    elif kind == "warm":
        test = _draw_pairs(interactions, f"pairs {seed}")
        parts = [_Part(~test, test)]
    elif kind == "temporal":
        moment = _moment(interactions, cutoff)
        later = interactions.timestamps >= moment
        parts = [_Part(~later, later, until=np.full(len(users), moment))]
    else:
        parts = _k_shot(interactions, cold_users, seed, shots)
    return [_split(kind, interactions, part, users, items, groups, searchers) for part in parts]


@dataclass(frozen=True)
class _Part:
    """One split of the interactions, by masks.

    Attributes:
        train: interactions to learn from.
        test: interactions to ask for.
        ask: users; None: those who have training interactions.
        cold_items: items; None: those that have none.
        until: of each user, the moment from which on nothing is known, returns of earlier purchases included.
        shots: see `Split`.
    """

    train: Mask
    test: Mask
    ask: Mask | None = None
    cold_items: Mask | None = None
    until: NDArray[np.datetime64] | None = None
    shots: int | None = None


def _split(
    kind: str, interactions: Interactions, part: _Part, users: Entities, items: Entities, groups: Sequence[str],
    searchers: Searchers | None,
) -> Split:
    # What was taken back is not what a method should have found, nor is it something to recommend again.
    kept = part.test & np.isnat(interactions.returned)
    train, test = interactions.select(part.train), interactions.select(kept)
    if part.until is not None:
        unknown = train.returned >= part.until[train.users]
        train = replace(train, returned=np.where(unknown, np.datetime64("NaT", "us"), train.returned))
    if not len(train) or not len(test):
        raise ColdStartError(
            f"{kind}: {len(train):,} interactions to learn from and {len(test):,} to ask for; give more data"
        )
    if searchers:
        searchers = searchers.before(known_until(train, interactions.select(~part.train)))
        users = searchers.described()
    users, items = with_history(train, users, items)
    wanted = pair_matrix(test)
    taken_back = pair_matrix(interactions.select(part.test)) - wanted
    excluded = pair_matrix(interactions.select(~part.test)).maximum(taken_back).tocsr()
    wanted = (wanted - wanted.multiply(excluded)).tocsr()
    wanted.eliminate_zeros()
    warm = np.bincount(train.items, minlength=len(items)) > 0
    ask = np.bincount(train.users, minlength=len(users)) > 0 if part.ask is None else part.ask
    asked = np.flatnonzero(ask & (np.diff(wanted.indptr) > 0))
    if not len(asked):
        raise ColdStartError(f"{kind}: nobody can be asked, of {len(users):,} users; give more data")
    cold = ~warm if part.cold_items is None else part.cold_items
    return Split(kind, train, test, users, items, cold, warm, asked, wanted, excluded, groups, part.shots, searchers)


def _k_shot(interactions: Interactions, cold_users: Mask, seed: int, shots: Sequence[int]) -> list[_Part]:
    if not shots or min(shots) < 1:
        raise ColdStartError(f"shots are {list(shots)}; give numbers of at least 1, such as 1,3,5")
    pairs = interactions.pairs()
    # What was bought in one visit has one time: the hash decides what came first.
    ties = np.zeros(len(pairs))
    for row in np.flatnonzero(cold_users[pairs.users]).tolist():
        ties[row] = stable_share(_pair_name(pairs, row), f"first {seed}")
    order = np.lexsort((ties, pairs.timestamps, pairs.users))
    counts = np.bincount(pairs.users, minlength=len(cold_users))
    ask = cold_users & (counts > max(shots))
    if not ask.any():
        raise ColdStartError(
            f"k_shot: none of the {cold_users.sum():,} users who are held out has more than {max(shots)} items; "
            "give fewer shots"
        )
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(pairs), dtype=np.int64)
    rank[order] = np.arange(len(pairs)) - starts[pairs.users[order]]
    width = len(interactions.item_ids)
    place = np.searchsorted(pairs.users * width + pairs.items, interactions.users * width + interactions.items)
    by_user, event_rank = cold_users[interactions.users], rank[place]
    parts = []
    for k in sorted(set(shots)):
        # Given is what happened until the first of what is asked for: a given item bought again later is the future.
        until = np.full(len(cold_users), np.iinfo(np.int64).max).astype("datetime64[us]")
        until[pairs.users[rank == k]] = pairs.timestamps[rank == k]
        given = by_user & (event_rank < k) & (interactions.timestamps <= until[interactions.users])
        parts.append(_Part(~by_user | given, by_user & (event_rank >= k), ask, None, until, k))
    return parts


def _draw(names: Sequence[str], salt: str) -> Mask:
    return np.array([stable_share(name, salt) < _HELD_OUT for name in names], dtype=bool)


def _draw_pairs(interactions: Interactions, salt: str) -> Mask:
    width = max(len(interactions.item_ids), 1)
    keys, places = np.unique(interactions.users * width + interactions.items, return_inverse=True)
    ids = interactions.user_ids, interactions.item_ids
    names = [f"{ids[0][key // width]}\0{ids[1][key % width]}" for key in keys.tolist()]
    return _draw(names, salt)[places]


def _pair_name(pairs: Interactions, row: int) -> str:
    return f"{pairs.user_ids[pairs.users[row]]}\0{pairs.item_ids[pairs.items[row]]}"


def _moment(interactions: Interactions, cutoff: datetime | None) -> np.datetime64:
    if cutoff is None:
        raise ColdStartError("the split temporal needs a cut-off, such as 2011-09-01")
    moment = cutoff if cutoff.tzinfo is None else cutoff.astimezone(UTC).replace(tzinfo=None)
    when = np.datetime64(moment, "us")
    times = interactions.timestamps
    if len(times) and not times.min() < when <= times.max():
        raise ColdStartError(
            f"the cut-off {moment:%Y-%m-%dT%H:%M:%S} does not divide the interactions; "
            f"give one between {str(times.min())[:19]} and {str(times.max())[:19]}"
        )
    return when
