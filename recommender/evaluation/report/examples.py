"""Examples for the report: new items and new users of a split, and their recommendations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.report.measures import buyers_of, new_items_of, spread

if TYPE_CHECKING:
    import pandas as pd

    from recommender.data.entities import Entities
    from recommender.measure.splits import Split
    from recommender.model.recommender import HybridRecommender

_EXAMPLES = 10
_AUDIENCE, _BESIDE, _RECOMMENDED, _TAKEN = 3, 3, 5, 5
LONG, SHORT = 280, 110


@dataclass(frozen=True)
class Thing:
    """An item in an example.

    Attributes:
        name: the item's id.
        text: the description, cut after 280 letters, or after 110 in lists.
        taken: whether the user of the example has the item in the test part.
    """

    name: str
    text: str
    taken: bool = False


@dataclass(frozen=True)
class Fan:
    """A user in the audience of a new item.

    Attributes:
        name: the user's id.
        alike: the text of the most similar item that the user has bought.
        place: the item's place among all items that the user has not bought; 1 is first.
        of: the number of these items.
        taken: whether the user bought the item in the test part.
    """

    name: str
    alike: str
    place: int
    of: int
    taken: bool


@dataclass(frozen=True)
class NewItem:
    """A new item, the warm items ranked nearest to it, and its audience."""

    item: Thing
    demand: float
    buyers: int
    beside: list[Thing]
    audience: list[Fan]


@dataclass(frozen=True)
class NewUser:
    """A new user, their recommended items, and their items in the test part."""

    name: str
    words: str
    attributes: list[str]
    tier: str
    recommended: list[Thing]
    taken: list[Thing]
    taken_in_all: int


def new_items(model: HybridRecommender, split: Split) -> list[NewItem]:
    """Return ten new items with buyers in the test part, evenly spread over the catalogue."""
    sold = buyers_of(split)
    cold = new_items_of(split)
    rows = spread(cold[sold[cold] > 0], _EXAMPLES)
    names = [split.items.ids[row] for row in rows]
    if not names:
        return []
    demand = np.asarray(model.score(None, names))[0]
    fans = model.audience(names, k=_AUDIENCE)
    found = []
    for row, name, percentile in zip(rows.tolist(), names, demand.tolist(), strict=True):
        audience, beside = _ranked(model, split, row, fans[fans["item_id"] == name])
        found.append(NewItem(_thing(split.items, row, LONG), percentile, int(sold[row]), beside, audience))
    return found


def _ranked(
    model: HybridRecommender, split: Split, row: int, fans: pd.DataFrame
) -> tuple[list[Fan], list[Thing]]:
    """Return a new item's audience with its places in their rankings, and the warm items ranked nearest to it."""
    names = [str(name) for name in fans["user_id"]]
    if not names:
        return [], []
    scores = np.asarray(model.score(names, list(split.items.ids)), dtype=np.float64)
    warm = np.unique(split.train.items)
    audience, distances = [], []
    for user, name, alike, mine in zip(_rows(split.users.ids, names), names, fans["bought_alike"], scores, strict=True):
        bought = split.train.items[split.train.users == user]
        offered = np.setdiff1d(np.arange(len(split.items)), bought)
        place = int((mine[offered] >= mine[row]).sum())  # from 1, as it counts itself; ties count against it
        taken = bool(((split.test.users == user) & (split.test.items == row)).any())
        audience.append(Fan(name, shortened(str(alike), SHORT), place, len(offered), taken))
        distances.append(_distances(mine, row, warm, bought))
    nearest = np.argsort(np.mean(distances, axis=0), kind="stable")[:_BESIDE]
    return audience, [_thing(split.items, item) for item in warm[nearest].tolist()]


def _distances(
    scores: NDArray[np.float64], row: int, warm: NDArray[np.int64], bought: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the distance in places between a new item and each warm one in a ranking; a neighbour has 1.

    Items that the user has are not in the ranking; their distance is larger than any other.
    """
    offered = ~np.isin(warm, bought)
    ranking = np.sort(scores[warm[offered]])
    here, there = np.searchsorted(ranking, scores[row]), np.searchsorted(ranking, scores[warm])
    places = np.where(there >= here, there - here + 1, here - there)
    return np.where(offered, places, len(warm) + 1).astype(np.float64)


def new_users(model: HybridRecommender, split: Split) -> list[NewUser]:
    """Return ten tested users without history, evenly spread."""
    rows = spread(np.setdiff1d(split.asked, split.train.users), _EXAMPLES)
    ids = [split.users.ids[row] for row in rows]
    if not ids:
        return []
    ranking = model.recommend(ids, k=_RECOMMENDED)
    found = []
    for row, name in zip(rows.tolist(), ids, strict=True):
        taken = np.unique(split.test.items[split.test.users == row])
        mine = ranking[ranking["user_id"] == name]
        offered = _rows(split.items.ids, mine["item_id"])
        found.append(
            NewUser(
                name, shortened(split.users.descriptions[row], LONG), list(split.users.attributes[row]),
                str(mine["tier"].iloc[0]) if len(mine) else "",
                [_thing(split.items, item, taken=item in taken) for item in offered.tolist()],
                [_thing(split.items, item) for item in spread(taken, _TAKEN).tolist()], len(taken),
            )
        )  # fmt: skip
    return found


def shortened(text: str, letters: int) -> str:
    """Return the text on one line, cut at a space if possible.

    >>> shortened("a red\\n lamp", 10), shortened("a red lamp", 7), shortened("abcdefgh", 3)
    ('a red lamp', 'a red …', 'abc …')
    """
    line = " ".join(text.split())
    if len(line) <= letters:
        return line
    head = line[: letters + 1]
    return (head.rsplit(" ", 1)[0] if " " in head else head[:letters]) + " …"


def _thing(items: Entities, row: int, letters: int = SHORT, *, taken: bool = False) -> Thing:
    return Thing(items.ids[row], shortened(items.descriptions[row], letters), taken)


def _rows(ids: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    rows = {name: row for row, name in enumerate(ids)}
    return np.array([rows[name] for name in names], dtype=np.int64)
