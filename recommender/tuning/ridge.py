"""Choose λ of the item metric, which decides how far P_u'ᵀ A x tells texts apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.data.entities import Entities
from recommender.model.closed_form import in_item_metric, item_metric
from recommender.model.fitted import Fitted
from recommender.model.scoring import OF_METRIC, Block, standard_parts
from recommender.model.weights import PARTS
from recommender.tuning.rankings import FEWEST, Rankings, weights_of

_RIDGES = (2.0, 30.0)


def choose_ridge(fits: Sequence[Fitted], sets: Sequence[Rankings]) -> float | None:
    """The λ by which cold items are ranked best, with the weights that the parts have before they are learned.

    Another value than the default has to be better in each draw, and by two standard errors.

    Args:
        fits: one for each division, with the default.
        sets: their rankings.

    Returns:
        λ, or None if fewer than ten rankings have cold items that are wanted.
    """
    default = fits[0].parameters.metric_ridge
    weights = weights_of(fits[0].parameters.weights, "cold")
    place = PARTS.index("text")
    values: dict[float, list[NDArray[np.float64]]] = {ridge: [] for ridge in (default, *_RIDGES)}
    for fitted, one in zip(fits, sets, strict=True):
        rows = np.flatnonzero(one.ranked.wanted[:, one.cold].any(axis=1))
        if not len(rows):
            continue
        columns = np.flatnonzero(one.cold)
        side, users = one.ranked.take(rows, columns), one.users.take(rows)
        others = side.scores(weights) - side.of(place, weights[:, place])
        for ridge, found in values.items():
            text = side
            if ridge != default:
                parts = list(side.parts)
                parts[place] = _text_under(fitted, users, one.columns[columns], ridge)
                text = replace(side, parts=parts)
            found.append(side.quality(others + text.of(place, weights[:, place])))
    if sum(map(len, values[default])) < FEWEST:
        return None
    best = max(values, key=lambda ridge: float(np.concatenate(values[ridge]).mean()))
    gains = [new - old for new, old in zip(values[best], values[default], strict=True)]
    gain = np.concatenate(gains)
    sure = gain.mean() > 2 * gain.std() / np.sqrt(len(gain)) and all(one.mean() > 0 for one in gains)
    return best if sure else default


def with_ridge(fitted: Fitted, rankings: Rankings, ridge: float) -> tuple[Fitted, Rankings]:
    """The same fit and rankings under another item metric."""
    metric = item_metric(fitted.warm_items.features, ridge)
    changed = fitted.changed(item_metric=metric, parameters=replace(fitted.parameters, metric_ridge=ridge))
    new = dict(zip(OF_METRIC, standard_parts(changed, rankings.users, OF_METRIC, rankings.columns), strict=True))
    parts = [new.get(part, old) for part, old in zip(PARTS, rankings.ranked.parts, strict=True)]
    return changed, replace(rankings, ranked=replace(rankings.ranked, parts=parts))


def _text_under(fitted: Fitted, users: Entities, columns: NDArray[np.int64], ridge: float) -> NDArray[np.floating[Any]]:
    """The part `text` of `standard_parts` under another λ of the item metric, which is not computed."""
    block = Block.of(fitted, users)
    side = block.users
    # Where a cached property looks first.
    vars(side)["direction"] = in_item_metric(fitted.warm_items.features, side.past + side.text, ridge)
    return block.standard("text", fitted.all_items.take(columns))
