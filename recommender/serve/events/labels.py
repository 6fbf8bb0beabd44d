"""Attributes of descriptions that were put, as training has them."""

from __future__ import annotations

import math
import re

from coldstart_udfs.profile import band_label
from recommender.model.lightfm import FeatureSpace

_BAND = re.compile(r"(.+?)(?:=2\^-?\d+|<=0)", re.DOTALL)


def numeric_columns(space: FeatureSpace) -> set[str]:
    """The columns whose numbers are bands."""
    return {found[1] for label in space.vocabulary.attributes if (found := _BAND.fullmatch(label))}


def banded(label: str, numeric: set[str]) -> str:
    """A label as training has it: a number of a column of numbers becomes its band.

    >>> banded("price=3.5", {"price"}), banded("price=2^1", {"price"}), banded("size=3.5", {"price"})
    ('price=2^1', 'price=2^1', 'size=3.5')
    """
    column, _, value = label.partition("=")
    try:
        number = float(value) if column in numeric else math.nan
    except ValueError:  # it is a band already
        return label
    return band_label(column, number) if math.isfinite(number) else label
