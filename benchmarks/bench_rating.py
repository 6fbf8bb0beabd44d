"""Initial ratings of new items: do their buyers lie in the interval? `make bench-rating DATA=folder`.

Writes its section of docs/explanation/ratings.md. Items are new in two ways: a fifth of them is set aside (variants of
one product together), or time is cut, and what was first bought later is new. The map from words and attributes to
log(1 + buyers), and the intervals, are learned from the other items. How intervals are made was chosen on other draws
and other cuts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from bench_recommender_setup import dataset, make_tables, told
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray

from recommender.data.dataset import Dataset
from recommender.data.interactions import Interactions
from recommender.measure.intervals import intervals
from recommender.measure.splits import pair_matrix, stable_share
from recommender.model.closed_form import MAP_RIDGE
from recommender.model.demand import KnownDemand
from recommender.model.fitted import Maps
from recommender.model.lightfm import FeatureSpace

LEVEL = 0.9
DRAWS, CUTS = 6, (0.6, 0.75, 0.9)
# Draws of a large set.
FEWER, LARGE = 3, 10_000
# Cuts with fewer new items say nothing.
FEWEST = 40

Numbers: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """New items and what is known of the others.

    Attributes:
        items: (m,), rows of the new items.
        expected: (m,), log(1 + buyers) as their words and attributes predict it.
        actual: (m,), as it turned out.
        known: (n,), log(1 + buyers) of the other items.
        residuals: (n,), of the items that the map was learned from.
        left_out: predictions of items that it was not learned from, and their buyers.
    """

    items: NDArray[np.int64]
    expected: NDArray[np.float32]
    actual: Numbers
    known: Numbers
    residuals: Numbers
    left_out: KnownDemand


def case(data: Dataset, train: Interactions, later: Interactions) -> Case:
    """Learn from the training part."""
    before, after = (np.diff(sp.csc_matrix(pair_matrix(part)).indptr) for part in (train, later))
    warm, new = np.flatnonzero(before), np.flatnonzero((before == 0) & (after > 0))
    learned = data.items.take(warm)
    vocabulary = FeatureSpace.fit(learned, 1.0).vocabulary
    features, known = vocabulary.feature_matrix(learned), np.log1p(before[warm])
    maps = Maps.fit(features, known[:, None].astype(np.float32), MAP_RIDGE)
    predicted = maps.of(features)[:, 0]
    expected = maps.of(vocabulary.feature_matrix(data.items.take(new)))[:, 0]
    others = KnownDemand.of(features, predicted, before[warm])
    return Case(new, expected, np.log1p(after[new]), known, known - predicted, others)


def overall(one: Case) -> Numbers:
    """The quantiles of the buyers of all known items: what is known without reading the new one."""
    bounds = np.quantile(one.known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return np.tile(bounds, (len(one.items), 1))


def trained(one: Case) -> Numbers:
    """The prediction and the quantiles of the residuals of the items that it was learned from."""
    return np.asarray(one.expected[:, None] + np.quantile(one.residuals, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))


def residuals_left_out(one: Case) -> Numbers:
    """The prediction and the quantiles of the residuals of all items, each left out."""
    residuals = np.log1p(one.left_out.buyers) - one.left_out.predicted
    return np.asarray(one.expected[:, None] + np.quantile(residuals, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))


def ours(one: Case) -> Numbers:
    """The buyers of the items with the nearest predictions."""
    return np.log1p(one.left_out.intervals(one.expected, LEVEL)[:, [0, 2]])


METHODS: dict[str, Callable[[Case], Numbers]] = {
    "all items alike": overall,
    "residuals of the training": trained,
    "residuals of items left out": residuals_left_out,
    "buyers of near items (`expected_demand`)": ours,
}


def rounded(bounds: Numbers) -> Numbers:
    """Log bounds after buyers are rounded to whole numbers, outwards; those of `expected_demand` are whole."""
    buyers = np.expm1(np.maximum(bounds, 0))
    low, high = np.floor(buyers[:, 0] + 1e-4), np.ceil(buyers[:, 1] - 1e-4)
    return np.asarray(np.log1p(np.column_stack([low, high])))


def measured(one: Case, bounds: Numbers) -> Numbers:
    """(m, 3): whether buyers lie within, the width, and the interval score (Gneiting and Raftery 2007, equation 43)."""
    (low, high), actual = rounded(bounds).T, one.actual
    below, above = np.maximum(low - actual, 0), np.maximum(actual - high, 0)
    inside = (below < 1e-9) & (above < 1e-9)
    return np.column_stack([inside, high - low, high - low + 2 / (1 - LEVEL) * (below + above)])


def drawn(data: Dataset, seed: int) -> Case:
    """A fifth of the items is new, by group."""
    groups = data.groups or list(data.items.ids)
    cold = np.array([stable_share(name, f"rating {seed}") < 0.2 for name in groups])
    events = data.interactions
    return case(data, events.select(~cold[events.items]), events.select(cold[events.items]))


def cut(data: Dataset, share: float) -> Case | None:
    """New is what was first bought after this share of the interactions; None without time."""
    events = data.interactions
    moment = np.sort(events.timestamps)[int(len(events) * share)]
    if moment == events.timestamps.min():
        return None
    return case(data, events.select(events.timestamps < moment), events.select(events.timestamps >= moment))


def section(title: str, cases: list[Case]) -> list[tuple[str, ...]]:
    """The rows of one way to be new: coverage, that of its worst third, width, interval score."""
    items, draws = np.concatenate([one.items for one in cases]), np.repeat(
        np.arange(len(cases)), [len(one.items) for one in cases]
    )  # fmt: skip
    expected, found = np.concatenate([one.expected for one in cases]), {
        name: np.concatenate([measured(one, method(one)) for one in cases]) for name, method in METHODS.items()
    }  # fmt: skip
    plain = found[next(iter(METHODS))]
    rows: list[tuple[str, ...]] = []

    def mean(values: Numbers) -> float:
        return float(np.mean([values[draws == one].mean() for one in np.unique(draws)]))

    for name, values in found.items():
        bounds = intervals(values[:, :1], items, draws)[0]
        thirds = [values[part, 0].mean() for part in np.array_split(np.argsort(expected, kind="stable"), 3)]
        held = f"{100 * mean(values[:, 0]):.1f} % ({100 * bounds[0]:.1f} to {min(100 * bounds[1], 100):.1f})"
        cells = [title if not rows else "", name, held, f"{100 * min(thirds):.1f} %",
                 f"× {np.exp(mean(values[:, 1])):.1f}", f"{mean(values[:, 2]):.2f}"]  # fmt: skip
        if values is plain:
            cells.append("")
        else:
            low, high = intervals((values[:, 2] - plain[:, 2])[:, None], items, draws)[0]
            base = mean(plain[:, 2]) / 100
            difference = (mean(values[:, 2]) - mean(plain[:, 2])) / base
            cells.append(f"{difference:+.0f} % ({low / base:+.0f} to {high / base:+.0f})")
        rows.append(tuple(cells))
    return rows


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--sets", nargs="*")
    given = parser.parse_args()
    lines: list[str] = []
    for name in make_tables(given.data_dir, given.sets):
        data = dataset(name)
        count = FEWER if len(data.items) > LARGE else DRAWS
        told(f"{name}: {len(data.items):,} items")
        drawn_cases = [drawn(data, seed) for seed in range(count)]
        rows = section(f"a fifth of the items, {count} draws", drawn_cases)
        cuts = [one for one in (cut(data, share) for share in CUTS) if one is not None and len(one.items) >= FEWEST]
        if cuts:
            rows += section(f"later items, {len(cuts)} cuts", cuts)
        median = np.expm1(np.median(drawn_cases[0].known))
        title = f"**{name}**, {len(data.items):,} items; the median number of buyers is {median:.0f}."
        head = ("new", "interval", "holds", "in its worst third", "high over low", "interval score", "against alike")
        lines += [title, "", *table(head, rows), ""]
        print("\n".join(lines[-len(rows) - 5:]), flush=True)
    about = (
        f"Intervals that are to hold {100 * LEVEL:.0f} % of the new items. Worst third: of the items with the lowest, "
        "middle and highest prediction, the third that is held least. High over low: the geometric mean of "
        "(1 + high) / (1 + low). The interval score (on logarithms, lower is better) is the width and 20 times what is "
        "missed. In brackets 95 % intervals, with draws and items as sources of chance."
    )
    text = made_by("make bench-rating DATA=folder", about, ("numpy", "scikit-learn", "scipy"))
    write_between(EXPLANATION / "ratings.md", "bench-rating", "\n".join([text, "", *lines]))


if __name__ == "__main__":
    main()
