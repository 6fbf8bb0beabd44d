"""Learn a prior: in small shops drawn from several large ones, which weights rank best in most of them?

What helps in one kind of shop may harm in another. A step is therefore taken only if the mean gain over shops is larger
than the differences between shops would make it by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
_OWN = (0.25, 0.5, 1.0)
_OFFSET, _OWN_SHARE = "cold_offset", "own"
_ROUNDS = 2
# In standard errors over shops, and the least gain of a step.
_SURE, _LEAST_GAIN = 1.5, 5e-4
# A gain is a ratio of NDCG@20, with this added to both sides, and counts up to 5 %: no shop decides alone.
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

    def quality(self, shop: str, setting: Setting) -> float:
        """NDCG@20 of one shop, the mean of its draws."""
        if (shop, setting) not in self._known:
            level = level_of(self.users, setting, self.start)
            values = [
                float(one.quality(level.mixed(one.learned, one.placed)).mean()) for one in self.by_shop[shop]
            ]
            self._known[shop, setting] = float(np.mean(values))
        return self._known[shop, setting]

    def gains(self, shops: Sequence[str], setting: Setting, before: Setting) -> NDArray[np.float64]:
        """(shops,): logarithms of ratios of NDCG@20."""
        pairs = [(self.quality(shop, setting), self.quality(shop, before)) for shop in shops]
        return np.array([math.log((new + _ADDED) / (old + _ADDED)) for new, old in pairs])


def level_of(users: int, setting: Setting, start: Weights) -> Level:
    """The level that a setting stands for: the default weights times its factors, its offset and its share."""
    chosen = dict(setting)
    sides = {"warm": dict(start.warm), "cold": dict(start.cold)}
    for name, factor in chosen.items():
        for side, part, rows in _GROUPS.get(name, ()):
            pair = sides[side].get(part, (0.0, 0.0))
            new, known = (round(pair[row] * (factor if row in rows else 1.0), 4) for row in (0, 1))
            sides[side][part] = (new, known)
    weights = replace(start, **sides, cold_offset=chosen.get(_OFFSET, start.cold_offset))
    return Level(users, weights, chosen.get(_OWN_SHARE, 0.0))


def learn_level(
    episodes: Episodes, shops: Sequence[str] | None = None, told: Callable[[str], None] | None = None
) -> Level:
    """Coordinate ascent over groups of weights, the offset of new items and the share of a shop's own weights.

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
            f"{len(shops)} shops can draw small shops of {episodes.users} users, a prior needs {FEWEST_SHOPS}: what "
            "helps in one need not help in another. Give more shops, or shops with more users"
        )
    setting: Setting = ()
    for _ in range(_ROUNDS):
        before = setting
        for name in (*_GROUPS, _OFFSET, _OWN_SHARE):
            setting = _step(episodes, shops, setting, name, told)
        if setting == before:
            break
    return level_of(episodes.users, setting, episodes.start)


def _step(
    episodes: Episodes, shops: Sequence[str], setting: Setting, name: str, told: Callable[[str], None] | None
) -> Setting:
    """The best other value of one coordinate, if it is better for sure."""
    now = dict(setting)
    neutral, values = {_OFFSET: (0.0, _OFFSETS), _OWN_SHARE: (0.0, _OWN)}.get(name, (1.0, _FACTORS))
    best: tuple[float, Setting] | None = None
    for value in {neutral, *values} - {now.get(name, neutral)}:
        changed = now | {name: value}
        tried = tuple(sorted((key, one) for key, one in changed.items() if key != name or value != neutral))
        gains = np.clip(episodes.gains(shops, tried, setting), -_MOST_GAIN, _MOST_GAIN)
        gain, error = float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))
        if gain > max(_SURE * error, _LEAST_GAIN) and (best is None or (gain, tried) > best):
            best = gain, tried
    if best is None:
        return setting
    if told is not None:
        told(f"{episodes.users} users: {name} {dict(best[1]).get(name, neutral):g}, gain {best[0]:+.2%}")
    return best[1]
