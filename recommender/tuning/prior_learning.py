"""Learn a prior: in small shops drawn from several large ones, which weights rank best in most of them?

What helps in one kind of shop may harm in another. A step is therefore taken only if the mean gain over shops is larger
than the differences between shops would make it by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from recommender.model.weights import Weights
from recommender.tuning.prior import Level
from recommender.tuning.small_shops import Episode

SIZES = (5, 20, 100)
DRAWS = 3
# The fewest shops that a step can be judged by.
FEWEST_SHOPS = 3
# Which weights are multiplied by one number: side, part, and of which users (0 new, 1 known).
_NEW, _KNOWN, _BOTH = (0,), (1,), (0, 1)
_GROUPS: dict[str, tuple[tuple[str, str, tuple[int, ...]], ...]] = {
    "lightfm of cold items": (("cold", "lightfm", _BOTH), ("cold", "lightfm_map", _BOTH)),
    "lightfm of warm items": (("warm", "lightfm", _BOTH), ("warm", "lightfm_map", _BOTH)),
    "item_item of warm items": (("warm", "item_item", _BOTH), ("warm", "neighbour_text", _BOTH)),
    "neighbour_text of cold items": (("cold", "neighbour_text", _BOTH),),
    "text of warm items": (("warm", "text", _BOTH),),
    "text of cold items": (("cold", "text", _BOTH),),
    "popularity_30d of warm items": (("warm", "popularity_30d", _BOTH),),
    "popularity of warm items, new users": (("warm", "popularity", _NEW),),
    "popularity of warm items, known users": (("warm", "popularity", _KNOWN),),
    "popularity of cold items": (("cold", "popularity", _BOTH), ("cold", "popularity_30d", _BOTH)),
}
_FACTORS = (0.0, 0.25, 0.5, 2.0)
_OFFSETS = (-1.0, -0.5, -0.25, 0.25)
_OWN = (0.25, 0.5, 0.75, 1.0)
_OFFSET, _OWN_SHARE = "cold_offset", "own"
# The most steps.
_STEPS = 8
# In standard errors over shops: the best of some forty tries looks better than it is.
_SURE = 2.0
# A gain is a ratio of NDCG@20, with this added to both sides. It counts up to 5 %, so that no shop decides alone;
# losses count as they are.
_ADDED, _MOST_GAIN = 0.005, 0.05

Setting = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Episodes:
    """The small shops of one size, by the shop that they were drawn from.

    Attributes:
        users: the number of users of each small shop.
        by_shop: the episodes of each shop.
        start: the default weights.
    """

    users: int
    by_shop: Mapping[str, Sequence[Episode]]
    start: Weights = field(default_factory=Weights)
    _known: dict[tuple[str, Setting], float] = field(default_factory=dict, repr=False)
    _totals: dict[tuple[str, Setting], list[NDArray[np.float32]]] = field(default_factory=dict, repr=False)

    def gains(self, shops: Sequence[str], setting: Setting, before: Setting) -> NDArray[np.float64]:
        """(shops,): logarithms of ratios of NDCG@20, at most 5 %."""
        pairs = [(self._quality(shop, setting, before), self._quality(shop, before, before)) for shop in shops]
        ratios = np.array([math.log((new + _ADDED) / (old + _ADDED)) for new, old in pairs])
        return np.asarray(np.minimum(ratios, _MOST_GAIN))

    def _quality(self, shop: str, setting: Setting, before: Setting) -> float:
        """NDCG@20 of one shop, the mean of its draws; `before` differs in little."""
        if (shop, setting) not in self._known:
            old, new = (level_of(self.users, one, self.start) for one in (before, setting))
            values = [
                one.ndcg(one.rescored(total, old.mixed(one.learned), new.mixed(one.learned)))
                for one, total in zip(self.by_shop[shop], self._scores(shop, before), strict=True)
            ]
            self._known[shop, setting] = float(np.mean([value.mean() for value in values]))
        return self._known[shop, setting]

    def _scores(self, shop: str, setting: Setting) -> list[NDArray[np.float32]]:
        if (shop, setting) not in self._totals:
            level = level_of(self.users, setting, self.start)
            self._totals[shop, setting] = [
                one.scores(level.mixed(one.learned)) for one in self.by_shop[shop]
            ]
        return self._totals[shop, setting]


def level_of(users: int, setting: Setting, start: Weights) -> Level:
    """The level that a setting stands for: the default weights times its factors, its offset and its share."""
    chosen = dict(setting)
    sides = {"warm": dict(start.warm), "cold": dict(start.cold)}
    for name, factor in chosen.items():
        for side, part, rows in _GROUPS.get(name, ()):
            pair = sides[side].get(part, (0.0, 0.0))
            new, known = (round(pair[row] * (factor if row in rows else 1.0), 4) for row in (0, 1))
            sides[side][part] = (new, known)
    weights = replace(
        start, warm=sides["warm"], cold=sides["cold"], cold_offset=chosen.get(_OFFSET, start.cold_offset)
    )
    return Level(users, weights, chosen.get(_OWN_SHARE, 0.0))


def learn_level(
    episodes: Episodes, shops: Sequence[str] | None = None, told: Callable[[str], None] | None = None
) -> Level:
    """Change one group of weights after the other, or the offset of new items, as long as a change helps for sure.

    Of all changes, the one comes next whose gain is most certain: the mean over shops less two standard errors. At
    last, the share of a shop's own weights with the largest mean gain is taken.

    Args:
        episodes: of one size.
        shops: those that count; None: all.
        told: called with each step that is taken.

    Raises:
        ColdStartError: fewer than three shops.
    """
    shops = list(episodes.by_shop) if shops is None else list(shops)
    if len(shops) < FEWEST_SHOPS:
        raise ColdStartError(
            f"{len(shops)} shops have enough users for small shops of {episodes.users}, a prior needs {FEWEST_SHOPS}: "
            "what helps in one need not help in another. Give more shops, or shops with more users"
        )
    setting: Setting = ()
    for _ in range(_STEPS):
        best: tuple[float, float, Setting] | None = None
        for name in (*_GROUPS, _OFFSET):
            for tried in _others(setting, name):
                gains = episodes.gains(shops, tried, setting)
                gain = float(gains.mean())
                sure = gain - _SURE * float(gains.std(ddof=1) / np.sqrt(len(gains)))
                if sure > 0 and (best is None or (sure, gain, tried) > best):
                    best = sure, gain, tried
        if best is None:
            break
        setting = best[2]
        if told is not None:
            told(f"{episodes.users} users: {dict(setting)}, gain {best[1]:+.2%}")
    shares = {_with(setting, _OWN_SHARE, share, 0.0): share for share in (0.0, *_OWN)}
    setting = max(shares, key=lambda one: (float(episodes.gains(shops, one, setting).mean()), -shares[one]))
    return level_of(episodes.users, setting, episodes.start)


def _others(setting: Setting, name: str) -> Iterator[Setting]:
    """The settings with another value of one coordinate."""
    neutral, values = (0.0, _OFFSETS) if name == _OFFSET else (1.0, _FACTORS)
    for value in (neutral, *values):
        if value != dict(setting).get(name, neutral):
            yield _with(setting, name, value, neutral)


def _with(setting: Setting, name: str, value: float, neutral: float) -> Setting:
    """A setting with one value; neutral ones are left out."""
    changed = dict(setting) | {name: value}
    return tuple(sorted((key, one) for key, one in changed.items() if key != name or value != neutral))
