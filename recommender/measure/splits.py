"""Splits of the interactions into a training part and a test part.

A stable hash of the id and the seed decides which users and items are cold, so a split stays the same when data are
added. Profiles are rebuilt from the training part, because those in the feature store contain held-out interactions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.data.searches import Searchers, known_until
from recommender.measure.latest import cold_share_of

SPLITS = ("item_cold", "user_cold", "both_cold", "warm", "temporal", "k_shot")
SHOTS = (1, 3, 5)
CANDIDATES = ("cold", "warm", "overall")
_HELD_OUT = 0.2
# Of the pairs of warm items, in item_cold.
_WARM_PAIRS = 0.1

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """One list of items to rank.

    Attributes:
        items: (items,), whether an item is in the list.
        wanted: (users, items), 1 for relevant pairs; all are of `items`.
        excluded: (users, items), 1 for pairs that are not candidates.
        users: row numbers of the users to rank for, each with a relevant item.
    """

    items: Mask
    wanted: sp.csr_matrix
    excluded: sp.csr_matrix
    users: NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A training part, the users to rank for, and their relevant items.

    Attributes:
        kind: one of `SPLITS`.
        train: the training interactions.
        test: the test interactions.
        users: features of all users, with profiles from `train` and the searches in `searchers`.
        items: features of all items, with profiles from `train`.
        cold: (items,), cold candidates.
        warm: (items,), items with training interactions.
        asked: row numbers of the users to rank for.
        wanted: (users, items), 1 for relevant pairs, which are in `test`.
        excluded: (users, items), 1 for pairs that are not candidates: training pairs, and pairs in neither part.
        groups: the group of each item; items of one group are held out together.
        listed: (items,), items in the list "overall".
        listed_wanted: (users, items), 1 for the pairs of `wanted` that are relevant in the list "overall".
        shots: for k_shot, number of interactions of each user in `asked` that are in `train`.
        searchers: the same users without history, with the searches that may be used; None if there are none.
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
    listed: Mask
    listed_wanted: sp.csr_matrix
    shots: int | None = None
    searchers: Searchers | None = None

    def candidates(self, kind: str) -> Candidates:
        """Return one list to rank: "cold" or "warm" items alone, or "overall", both kinds in one list.

        In "overall", pairs of `wanted` that are not in `listed_wanted` are excluded: neither relevant nor candidates.
        No user is asked if nobody wants an item of the kind.

        Args:
            kind: one of `CANDIDATES`.

        Raises:
            ColdStartError: an unknown kind.
        """
        if kind not in CANDIDATES:
            raise ColdStartError(f"unknown candidates {kind!r}; choose one of {', '.join(CANDIDATES)}")
        items, wanted, excluded = self.listed, self.listed_wanted, self.excluded
        if kind == "overall":
            excluded = (excluded + (self.wanted - wanted)).tocsr()
            excluded.eliminate_zeros()
        else:
            items = self.cold if kind == "cold" else self.warm
            wanted = of_items(self.wanted, items)
        return Candidates(items, wanted, excluded, self.asked[np.diff(wanted.indptr)[self.asked] > 0])

    @cached_property
    def cold_share(self) -> float:
        """The share of the relevant pairs of the list "overall" whose item is cold; 0 if it has none."""
        wanted = self.listed_wanted
        return float(self.cold[wanted.indices].mean()) if wanted.nnz else 0.0


def stable_share(name: str, salt: str) -> float:
    """Return a number in [0, 1) that depends only on the name and the salt."""
    digest = hashlib.blake2b(f"{salt}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def pair_matrix(interactions: Interactions) -> sp.csr_matrix:
    """Return (users, items) float32, 1 for pairs with an interaction."""
    pairs = interactions.pairs()
    shape = (len(pairs.user_ids), len(pairs.item_ids))
    return sp.csr_matrix((np.ones(len(pairs), np.float32), (pairs.users, pairs.items)), shape=shape)


def of_items(pairs: sp.csr_matrix, items: Mask) -> sp.csr_matrix:
    """Return the pairs, (users, items), of some items; `items` is (items,) bool."""
    kept = (pairs @ sp.diags(items.astype(np.float32))).tocsr()
    kept.eliminate_zeros()
    return kept


def make_splits(
    interactions: Interactions, users: Entities, items: Entities, kind: str, *, seed: int = 0,
    groups: Sequence[str] | None = None, cutoff: datetime | None = None, shots: Sequence[int] = SHOTS,
    searchers: Searchers | None = None,
) -> list[Split]:
    """Split the interactions. Returns one `Split`; for k_shot, one for each number of shots.

    - item_cold: a fifth of the items, by group, is cold, and a tenth of the pairs of the other items is held out. Users
      with training interactions are tested on both.
    - user_cold: a fifth of the users is cold. They are tested on all their interactions.
    - both_cold: both. Cold users are tested on all their interactions. Those of other users with cold items are in
      neither part.
    - warm: a fifth of the pairs is tested; their users and items keep other pairs.
    - temporal: the training part ends at the cut-off. Items without earlier interactions are cold. Users with training
      interactions are tested on their later interactions.
    - k_shot: as user_cold, but the first k items of each cold user are in the training part. The same users are tested
      for every k: those with more items than the largest k.

    In item_cold and both_cold far more of what is held out is of cold items than a shop meets. The list "overall" of
    these two therefore treats both kinds of items alike, and has as many cold ones as the data show:

    1. In item_cold a tenth of the pairs of cold items is relevant there, as of warm items, and the others are excluded.
       So a pair of either kind is held out with the same probability: among purchases by chance, no order of cold and
       warm items is better than another.
    2. Items of the kind that is too frequent leave the list, by group in the order of a stable hash, until the share of
       relevant pairs of cold items is `recommender.measure.latest.cold_share_of` these interactions.

    In the other splits "overall" is all items, as held out. Items of item_cold and both_cold that are neither cold nor
    in the training part are in no list.

    A user's description contains their searches that are earlier than the user's first interaction outside the training
    part, and not later than the last training interaction of all users. In temporal, these are before the cut-off.

    Args:
        interactions: all interactions.
        users: features of `interactions.user_ids`; their profiles are rebuilt.
        items: features of `interactions.item_ids`; their profiles are rebuilt.
        kind: one of `SPLITS`.
        seed: seed of the hash; temporal does not depend on it.
        groups: the group of each item; None: each item is its own group.
        cutoff: required for temporal, not allowed otherwise; UTC if it has no time zone.
        shots: the values of k for k_shot.
        searchers: `users` with their searches; None if there are none.

    Raises:
        ColdStartError: an unknown kind; a cut-off that is missing, not allowed or outside the data; shots below 1; no
            training interactions, or no user to test.
    """
    if kind not in SPLITS:
        raise ColdStartError(f"unknown split {kind!r}; choose one of {', '.join(SPLITS)}")
    if cutoff is not None and kind != "temporal":
        raise ColdStartError(f"the split {kind} does not accept a cut-off; only temporal does")
    groups = list(items.ids) if groups is None else groups
    cold_items, cold_users = _draw(groups, f"items {seed}"), _draw(users.ids, f"users {seed}")
    by_item, by_user = cold_items[interactions.items], cold_users[interactions.users]
    if kind == "item_cold":
        drawn = _draw_pairs(interactions, f"warm pairs {seed}", _WARM_PAIRS)
        parts = [_Part(~by_item & ~drawn, by_item | drawn, cold_items=cold_items, listed=drawn)]
    elif kind == "user_cold":
        parts = [_Part(~by_user, by_user, cold_users)]
    elif kind == "both_cold":
        parts = [_Part(~by_user & ~by_item, by_user, cold_users, cold_items, listed=by_user)]
    elif kind == "warm":
        test = _draw_pairs(interactions, f"pairs {seed}", _HELD_OUT)
        parts = [_Part(~test, test)]
    elif kind == "temporal":
        moment = _moment(interactions, cutoff)
        later = interactions.timestamps >= moment
        parts = [_Part(~later, later, until=np.full(len(users), moment))]
    else:
        parts = _k_shot(interactions, cold_users, seed, shots)
    return [_split(kind, interactions, part, users, items, groups, searchers, seed) for part in parts]


def divide(
    kind: str, interactions: Interactions, held_out: Mask, users: Entities, items: Entities, groups: Sequence[str], *,
    seed: int = 0, ask: Mask | None = None, cold_items: Mask | None = None, listed: Mask | None = None,
    searchers: Searchers | None = None,
) -> Split:
    """Split the interactions by a mask of those that are held out; everything else is as in `make_splits`.

    Args:
        kind: one of `SPLITS`.
        interactions: all interactions.
        held_out: (interactions,), the test part.
        users: features of `interactions.user_ids`; their profiles are rebuilt.
        items: features of `interactions.item_ids`; their profiles are rebuilt.
        groups: the group of each item.
        seed: of the items that leave the list "overall".
        ask: (users,), those who may be tested; None: those with training interactions.
        cold_items: (items,), the cold candidates; None: all items without training interactions.
        listed: (interactions,), those whose pairs are relevant in the list "overall", from which items of the kind that
            is too frequent then leave; None: all of `held_out`, and no item leaves.
        searchers: `users` with their searches; None if there are none.

    Raises:
        ColdStartError: no training interactions, or no user to test.
    """
    part = _Part(~held_out, held_out, ask, cold_items, listed=listed)
    return _split(kind, interactions, part, users, items, groups, searchers, seed)


@dataclass(frozen=True)
class _Part:
    """One split of the interactions, as masks.

    Attributes:
        train: mask of the training interactions.
        test: mask of the test interactions.
        ask: mask of the users to test; None: users with training interactions.
        cold_items: mask of the cold items; None: items without training interactions.
        until: for each user, the moment from which nothing is known, including returns of earlier purchases.
        shots: see `Split`.
        listed: mask of the interactions whose pairs are relevant in "overall"; None: all of `test`.
    """

    train: Mask
    test: Mask
    ask: Mask | None = None
    cold_items: Mask | None = None
    until: NDArray[np.datetime64] | None = None
    shots: int | None = None
    listed: Mask | None = None


def _split(
    kind: str, interactions: Interactions, part: _Part, users: Entities, items: Entities, groups: Sequence[str],
    searchers: Searchers | None, seed: int,
) -> Split:
    # Returned items are neither relevant nor candidates.
    kept = part.test & np.isnat(interactions.returned)
    train, test = interactions.select(part.train), interactions.select(kept)
    if part.until is not None:
        unknown = train.returned >= part.until[train.users]
        train = replace(train, returned=np.where(unknown, np.datetime64("NaT", "us"), train.returned))
    if not len(train) or not len(test):
        raise ColdStartError(
            f"{kind}: {len(train):,} training and {len(test):,} test interactions; add data until both are positive"
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
    cold = ~warm if part.cold_items is None else part.cold_items
    known = cold | warm
    wanted = of_items(wanted, known)
    ask = np.bincount(train.users, minlength=len(users)) > 0 if part.ask is None else part.ask
    asked = np.flatnonzero(ask & (np.diff(wanted.indptr) > 0))
    if not len(asked):
        raise ColdStartError(f"{kind}: none of {len(users):,} users can be tested; add more data")
    listed, listed_wanted = known, wanted
    if part.listed is not None:
        alike = wanted.multiply(pair_matrix(interactions.select(part.listed))).tocsr()
        listed = known & ~_left_out(alike, cold, groups, cold_share_of(interactions), seed)
        listed_wanted = of_items(alike, listed)
    return Split(
        kind, train, test, users, items, cold, warm, asked, wanted, excluded, groups, listed, listed_wanted,
        part.shots, searchers,
    )  # fmt: skip


def _left_out(wanted: sp.csr_matrix, cold: Mask, groups: Sequence[str], share: float, seed: int) -> Mask:
    """Return (items,): which leave a list, for at most this share of its relevant pairs, `wanted`, to be of cold items.

    Of the kind that is too frequent, groups of items stay in the order of a stable hash as long as they have no more
    pairs than that, or one. The first group that has too many leaves too: a list that ended with it would end with a
    hit, and its last items would be wanted more often than by chance.
    """
    counts = np.bincount(wanted.indices, minlength=len(cold))
    n_cold, n_warm = int(counts[cold].sum()), int(counts[~cold].sum())
    gone = np.zeros(len(cold), dtype=bool)
    if not n_cold or not n_warm:
        return gone
    most_cold, most_warm = max(n_warm * share / (1 - share), 1), max(n_cold * (1 - share) / share, 1)
    too_many, most = (cold, most_cold) if n_cold > most_cold else (~cold, most_warm)
    rows = np.flatnonzero(too_many)
    hashes = np.array([stable_share(groups[row], f"list {seed}") for row in rows.tolist()])
    _, places = np.unique(hashes, return_inverse=True)
    up_to = np.cumsum(np.bincount(places, weights=counts[rows]))
    gone[rows] = (up_to > most)[places]
    return gone


def _k_shot(interactions: Interactions, cold_users: Mask, seed: int, shots: Sequence[int]) -> list[_Part]:
    if not shots or min(shots) < 1:
        raise ColdStartError(f"shots are {list(shots)}; each must be at least 1, for example 1,3,5")
    pairs = interactions.pairs()
    # Purchases of one visit can have one timestamp; the hash decides their order.
    ties = np.zeros(len(pairs))
    for row in np.flatnonzero(cold_users[pairs.users]).tolist():
        ties[row] = stable_share(_pair_name(pairs, row), f"first {seed}")
    order = np.lexsort((ties, pairs.timestamps, pairs.users))
    counts = np.bincount(pairs.users, minlength=len(cold_users))
    ask = cold_users & (counts > max(shots))
    if not ask.any():
        raise ColdStartError(
            f"k_shot: none of the {cold_users.sum():,} held-out users has more than {max(shots)} items; use fewer shots"
        )
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(pairs), dtype=np.int64)
    rank[order] = np.arange(len(pairs)) - starts[pairs.users[order]]
    width = len(interactions.item_ids)
    place = np.searchsorted(pairs.users * width + pairs.items, interactions.users * width + interactions.items)
    by_user, event_rank = cold_users[interactions.users], rank[place]
    parts = []
    for k in sorted(set(shots)):
        # Training data end at the first test item: a later repeat of a training item is in the future.
        until = np.full(len(cold_users), np.iinfo(np.int64).max).astype("datetime64[us]")
        until[pairs.users[rank == k]] = pairs.timestamps[rank == k]
        given = by_user & (event_rank < k) & (interactions.timestamps <= until[interactions.users])
        parts.append(_Part(~by_user | given, by_user & (event_rank >= k), ask, None, until, k))
    return parts


def _draw(names: Sequence[str], salt: str, share: float = _HELD_OUT) -> Mask:
    return np.array([stable_share(name, salt) < share for name in names], dtype=bool)


def _draw_pairs(interactions: Interactions, salt: str, share: float) -> Mask:
    width = max(len(interactions.item_ids), 1)
    keys, places = np.unique(interactions.users * width + interactions.items, return_inverse=True)
    ids = interactions.user_ids, interactions.item_ids
    names = [f"{ids[0][key // width]}\0{ids[1][key % width]}" for key in keys.tolist()]
    return _draw(names, salt, share)[places]


def _pair_name(pairs: Interactions, row: int) -> str:
    return f"{pairs.user_ids[pairs.users[row]]}\0{pairs.item_ids[pairs.items[row]]}"


def _moment(interactions: Interactions, cutoff: datetime | None) -> np.datetime64:
    times = interactions.timestamps
    if len(times) and times.min() == times.max():
        others = ", ".join(kind for kind in SPLITS if kind != "temporal")
        raise ColdStartError(
            f"the split temporal needs time, but all {len(times):,} interactions have the timestamp "
            f"{str(times[0])[:19]}; choose one of {others}, which divide by chance"
        )
    if cutoff is None:
        raise ColdStartError("the split temporal needs a cut-off, for example 2011-09-01")
    moment = cutoff if cutoff.tzinfo is None else cutoff.astimezone(UTC).replace(tzinfo=None)
    when = np.datetime64(moment, "us")
    if len(times) and not times.min() < when <= times.max():
        raise ColdStartError(
            f"the cut-off {moment:%Y-%m-%dT%H:%M:%S} does not divide the interactions; "
            f"choose one after {str(times.min())[:19]} and at most {str(times.max())[:19]}"
        )
    return when
