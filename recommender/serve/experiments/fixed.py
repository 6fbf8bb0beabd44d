"""Tests that are valid at one look, planned before: with CUPED, and the number of users that they need.

They are tea-tasting's. CUPED takes away what a user did before the experiment (Deng, Xu, Kohavi and Walker 2013,
Improving the sensitivity of online controlled experiments, https://doi.org/10.1145/2433396.2433413).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError

# A sequence finds a difference with the same probability after about so many times the users of a test with one look,
# see docs/explanation/experiments.md.
ALWAYS_VALID = 1.75


def compared(
    treated: NDArray[np.bool_], y: NDArray[np.float64], before: NDArray[np.float64], error: float
) -> tuple[float, float, float, float, float]:
    """Compare two arms' means by Welch's t-test, after CUPED.

    Args:
        treated: (n,), whether a user is of the arm that is compared.
        y: (n,), the metric.
        before: (n,), the same before the experiment.
        error: the probability that the interval is wrong.

    Returns:
        Difference, its bounds, p, and the share of the variance that CUPED leaves; NaN without variance.

    Raises:
        ColdStartError: tea-tasting is not installed.
    """
    tt = _tea_tasting()
    import pyarrow as pa

    if min(treated.sum(), (~treated).sum()) < 2 or not y.std():
        return math.nan, math.nan, math.nan, math.nan, math.nan
    covariate = before if before.std() else None
    columns = {"variant": treated.astype(np.int64), "y": y} | ({} if covariate is None else {"before": before})
    metric = tt.Mean("y", None if covariate is None else "before", confidence_level=1 - error)
    found: Any = tt.Experiment(y=metric).analyze(pa.table(columns))["y"]
    left = 1.0 if covariate is None else 1 - float(np.corrcoef(y, before)[0, 1]) ** 2
    low, high = float(found.effect_size_ci_lower), float(found.effect_size_ci_upper)
    return float(found.effect_size), low, high, float(found.pvalue), left


def users_needed(rate: float, effect: float, *, error: float = 0.05, power: float = 0.8) -> int:
    """How many users both arms need together for a test with one look, of a share of users.

    Args:
        rate: the control's share of users.
        effect: the relative difference to find, such as 0.05.
        error: the probability that a test finds a difference where there is none.
        power: the probability that it finds this difference.

    Raises:
        ColdStartError: a number out of range, or tea-tasting is not installed.
    """
    tt = _tea_tasting()
    import pyarrow as pa

    if not (0 < rate < 1 and effect and rate * (1 + effect) < 1 and effect > -1):
        raise ColdStartError(
            f"a rate of {rate} and an effect of {effect} are given; the rates of both arms must lie between 0 and 1"
        )
    # A sample of 100,000 with this rate, of which tea-tasting takes mean and variance.
    sample = (np.arange(100_000) < round(rate * 100_000)).astype(np.float64)
    metric = tt.Mean("y", alpha=error, power=power, rel_effect_size=effect)
    found: Any = tt.Experiment(y=metric).solve_power(pa.table({"y": sample}), "n_obs")["y"]
    return math.ceil(float(found[0].n_obs))


def _tea_tasting() -> Any:
    try:
        import tea_tasting  # type: ignore[import-untyped]
    except ImportError:
        raise ColdStartError(
            "tests with a fixed horizon need tea-tasting: pip install 'feast-coldstart[experiments]'"
        ) from None
    return tea_tasting
