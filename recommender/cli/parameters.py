"""Parameters of a recommender as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from recommender.model.parameters import Parameters
    from recommender.model.weights import Weights


def told(parameters: Parameters) -> Iterator[tuple[str, str, str]]:
    """Name, value and source of each parameter; the weights of parts are in `weights_table`."""
    named = {one.name: getattr(parameters, one.name) for one in fields(parameters) if one.name != "source"}
    weights: Weights = named.pop("weights")
    named |= {"weights": "below"}
    named |= {name: getattr(weights, name) for name in ("half_evidence", "words", "cold_offset")}
    for name, value in named.items():
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        yield name, shown, parameters.source.get(name, "default")


def weights_table(weights: Weights) -> Table:
    """What each part weighs: for warm and for cold items, for a user without history and for one with a long one."""
    from recommender.model.weights import PARTS

    table = Table("part")
    sides = {"warm items": weights.warm, "cold items": weights.cold}
    for side in sides:
        for user in ("new user", "known user"):
            table.add_column(f"{side},\n{user}", justify="right")
    for part in PARTS:
        pairs = [value for side in sides.values() for value in side.get(part, (0.0, 0.0))]
        if any(pairs):
            table.add_row(part, *(f"{value:.2f}" for value in pairs))
    return table
