"""What the recommender makes of Feast's values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartWarning
from recommender.pipeline.online import as_vectors


def test_missing_vectors_are_zero_and_so_are_those_with_nan_which_are_counted() -> None:
    values = [[1.0, 2.0], None, [], math.nan, np.array([3.0, 4.0])]
    expected = [[1, 2], [0, 0], [0, 0], [0, 0], [3, 4]]
    assert as_vectors(values, 2, "user_profile").tolist() == expected
    with pytest.warns(ColdStartWarning, match="user_profile: 2 of 7 vectors hold NaN or infinity"):
        read = as_vectors([*values, [math.nan, 1.0], [1.0, -math.inf]], 2, "user_profile")
    assert read.tolist() == [*expected, [0, 0], [0, 0]]
