"""From scores to a list: filters, business rules, the k best."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from recommender.data.entities import Entities
from recommender.model.feature_matrix import FeatureMatrix
from recommender.model.fitted import Fitted
from recommender.model.requests import UnknownIdError, ids_of

Scores = NDArray[np.floating[Any]]
# How many candidates a diverse list is chosen from, for each of its places.
_POOL = 10


@dataclass(frozen=True)
class Rules:
    """The rules of a shop for a list.

    Attributes:
        k: its length at most.
        allowed: (items,), the items that may be in it; None is all.
        added: (items,), what is added to scores; None is nothing.
        pinned: rows of items that come first, in this order.
        diversity: 0 to 1, the cost of likeness to the places above.
        linked: (items,), what the user's profile in another shop adds to scores; None is nothing.
    """

    k: int
    allowed: NDArray[np.bool_] | None = None
    added: NDArray[np.float32] | None = None
    pinned: Sequence[int] = field(default_factory=list)
    diversity: float = 0.0
    linked: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.k, (int, np.integer)) or self.k < 0:
            raise ColdStartError(f"k is {self.k}; give how many rows at most, 0 or more")
        if not 0 <= self.diversity <= 1:
            raise ColdStartError(f"diversity is {self.diversity}; it must be from 0 (by score alone) to 1")

    def applied(self, scores: Scores) -> Scores:
        """(n, items): scores with what is added to them; a copy."""
        scores = scores.copy()
        for added in (self.added, self.linked):
            if added is not None:
                scores = scores + added
        return scores

    @classmethod
    def of(
        cls, fitted: Fitted, k: int, among: Collection[str] | None, without: Collection[str],
        attribute: str | None, boost: Mapping[str, float] | None, pin: Sequence[str], diversity: float,
    ) -> Rules:
        """Rules as users write them, with ids and attributes.

        Raises:
            UnknownIdError: an item that the recommender does not know.
            ColdStartError: an attribute that no item has.
        """
        allowed = added = None
        if among is not None or len(without) or attribute is not None:
            allowed = np.full(len(fitted.items), among is None)
            if among is not None:
                allowed[_rows(fitted, among, "among")] = True
            allowed[_rows(fitted, without, "without")] = False
            if attribute is not None:
                having = np.zeros(len(allowed), bool)
                having[_having(fitted, attribute)] = True
                allowed &= having
        if boost:
            added = np.zeros(len(fitted.items), dtype=np.float32)
            for key, value in boost.items():
                name = str(key)
                if not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
                    raise ColdStartError(f"the boost of {name!r} is {value!r}; it must be a finite number")
                row = fitted.items.row(name)
                added[[row] if row >= 0 else _having(fitted, name)] += value
        return cls(k, allowed, added, _rows(fitted, pin, "pin") if len(pin) else [], diversity)


def excluded(
    exclusions: Sequence[tuple[str, str]], users: Sequence[Sequence[str]], items: Mapping[str, Sequence[int]],
    width: int,
) -> sp.csr_matrix | None:
    """The items that rules keep from users.

    Args:
        exclusions: pairs of a label of users and a label of items.
        users: n lists of labels.
        items: the rows of the items with each label.
        width: the number of items.

    Returns:
        (n, width) float32, 1 for each of these items; None if there is none.
    """
    rows, columns = [], []
    for row, labels in enumerate(users if exclusions else ()):
        own = set(labels)
        found = sorted({column for user, item in exclusions if user in own for column in items.get(item, ())})
        rows += [row] * len(found)
        columns += found
    if not rows:
        return None
    return sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(users), width))


def left_out(fitted: Fitted, users: Entities, seen: sp.csr_matrix | None) -> sp.csr_matrix | None:
    """(n, items): what users have seen and what rules keep from them; None for nothing."""
    exclusions = fitted.parameters.exclusions
    found = excluded(exclusions, users.attributes, fitted.rows_with, len(fitted.items)) if exclusions else None
    if seen is None or found is None:
        return found if seen is None else seen
    return sp.csr_matrix(seen + found)


def best(
    scores: Scores, rules: Rules, seen: sp.csr_matrix | None, features: FeatureMatrix | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], Scores]:
    """The best places of each row.

    Args:
        scores: (n, m).
        rules: what is allowed, added, pinned.
        seen: (n, m), what is left out of each row.
        features: of the m items, for diversity.

    Returns:
        Rows, columns and scores of the places, row by row from the top; among equal scores the first column wins.
    """
    scores = rules.applied(scores)
    if rules.allowed is not None:
        scores[:, ~rules.allowed] = -np.inf
    if seen is not None:
        scores[np.repeat(np.arange(len(scores)), np.diff(seen.indptr)), seen.indices] = -np.inf
    order = scores
    if len(rules.pinned):
        order = scores.copy()
        above = scores.max(axis=1, initial=-np.inf)
        for place, row in enumerate(reversed(rules.pinned)):
            order[:, row] = np.where(np.isfinite(scores[:, row]), above + 1 + place, -np.inf)
    rows, flat = _top(order, rules.k * _POOL if rules.diversity else rules.k)
    if rules.diversity and features is not None:
        pools = np.split(flat, np.searchsorted(rows, np.arange(1, len(scores))))[: len(scores)]
        lists = [_diverse(scores[row], pool, features, rules) for row, pool in enumerate(pools)]
        rows, flat = np.repeat(np.arange(len(lists)), [len(one) for one in lists]), np.concatenate([flat[:0], *lists])
    return rows, flat, scores[rows, flat]


def _top(scores: Scores, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the k largest finite scores of each row, row by row from the top."""
    if not k or not scores.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    k = min(k, scores.shape[1])
    least = np.partition(scores, -k, axis=1)[:, [-k]]
    rows, columns = np.nonzero((scores >= least) & (scores > -np.inf))
    order = np.lexsort((-scores[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    kept = np.arange(len(rows)) - np.searchsorted(rows, rows) < k
    return rows[kept], columns[kept]


def _diverse(scores: Scores, pool: NDArray[np.int64], features: FeatureMatrix, rules: Rules) -> NDArray[np.int64]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): score less the likeness to what is chosen.

    Both on one scale: scores of the pool from 0 to 1, likeness is a cosine.
    """
    if not len(pool):
        return pool
    vectors = features.take(pool).toarray()
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    low, high = scores[pool].min(), scores[pool].max()
    worth = (1 - rules.diversity) * (scores[pool] - low) / max(high - low, 1e-9)
    likeness = np.zeros(len(pool))
    chosen: list[int] = []
    pinned = [int(np.flatnonzero(pool == row)[0]) for row in rules.pinned if (pool == row).any()]
    for place in range(min(rules.k, len(pool))):
        worth[chosen] = -np.inf
        one = pinned[place] if place < len(pinned) else int(np.argmax(worth - rules.diversity * likeness))
        chosen.append(one)
        likeness = np.maximum(likeness, vectors @ vectors[one])
    return pool[chosen]


def _rows(fitted: Fitted, ids: Collection[str], rule: str) -> list[int]:
    given = list(dict.fromkeys(ids_of(ids)))
    rows = fitted.items.rows(given)
    if (rows < 0).any():
        others = [name for name, row in zip(given, rows, strict=True) if row < 0]
        raise UnknownIdError(
            f"{rule}: {len(others)} of {len(given)} item_ids are not among the {len(fitted.items)} that the "
            f"recommender knows: {others[:3]}"
        )
    return [int(row) for row in rows]


def _having(fitted: Fitted, attribute: str) -> list[int]:
    """The rows of the items with an attribute."""
    if attribute not in fitted.rows_with:
        labels = sorted(fitted.rows_with)
        raise ColdStartError(
            f"{attribute!r} is neither an item_id nor an attribute of any item; attributes are {labels[:5]} "
            f"({len(labels)} in all)"
        )
    return fitted.rows_with[attribute]
