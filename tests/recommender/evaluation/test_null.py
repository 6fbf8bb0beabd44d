"""On shops without any signal every table must say "no difference"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.evaluation import baselines, comparison
from recommender.evaluation.comparison import evaluate
from recommender.measure.splits import SPLITS, Split
from recommender.pipeline.weighing import weigh
from tests.support.null_shop import LAST_FIFTH, WORDS, null_shop, write_null_shop
from tests.support.word_model import BACKEND, word_model

METHODS = ["random", "popularity"]
Row = dict[str, Any]


def compared(
    split: str, seed: int, *, timed: bool, seeds: int, methods: list[str], scale: int = 1
) -> list[Row]:
    """The rows of the other methods, with the split and the shop in them."""
    cutoff = datetime.fromisoformat(LAST_FIFTH) if split == "temporal" else None
    shop = null_shop(seed, timed=timed, scale=scale)
    found = evaluate(shop, split, seeds=seeds, cutoff=cutoff, shots=(3,), methods=methods)
    return [row | {"split": split, "shop": seed, "timed": timed} for row in found.result["rows"]
            if row["ci_low"] is not None]  # fmt: skip


def splits_of(timed: bool) -> list[str]:
    return [split for split in SPLITS if timed or split != "temporal"]


def beyond(row: Row) -> float:
    """By how many of its half widths an interval is away from 0; 0 if it contains it."""
    half = max((row["ci_high"] - row["ci_low"]) / 2, 1e-9)
    return float(max(row["ci_low"], -row["ci_high"], 0) / half)


def assert_no_difference(rows: list[Row]) -> None:
    """A 95 % interval may miss 0 once in twenty times, and then not by much."""
    excluding = [row for row in rows if beyond(row) > 0]
    said = [(row["split"], row["candidates"], row["method"], row["shop"], round(row["ci_low"], 3),
             round(row["ci_high"], 3)) for row in excluding]  # fmt: skip
    allowed = 0.05 * len(rows) + 2 * np.sqrt(0.05 * 0.95 * len(rows))
    assert len(excluding) <= allowed, said
    assert max(map(beyond, rows)) < 1, said


# -- noise ----------------------------------------------------------------------------------------------------------


def noise(offset: float, salt: int) -> Callable[[Split, int], Callable[[np.ndarray], np.ndarray]]:
    """A method that ranks by chance, anew for each user, with a constant for items without history."""

    def fit(split: Split, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        constant = offset * ~split.warm
        return lambda rows: np.stack(
            [np.random.default_rng([salt, seed, row]).random(len(split.items)) for row in rows]
        ) + constant

    return fit


@contextmanager
def methods_of_noise(monkeypatch: pytest.MonkeyPatch, offset: float) -> Iterator[list[str]]:
    """Noise in place of all methods, ours with an offset of new items."""
    noises = {"noise": noise(0, 1), "new first": noise(2, 2), "old first": noise(-2, 3), "a bit": noise(0.3, 4)}
    with monkeypatch.context() as patched:
        for module in (baselines, comparison):
            patched.setattr(module, "METHODS", noises)
        patched.setattr(comparison, "fit_ours", lambda split, seed, *others: noise(offset, 5)(split, seed))
        patched.setattr(comparison, "scorer_of", lambda scorer: scorer)
        yield list(noises)


@pytest.mark.parametrize("offset", [0, 2, -2])
def test_no_order_of_new_and_old_items_is_better_than_another_by_chance(offset: float, monkeypatch) -> None:
    rows = []
    with methods_of_noise(monkeypatch, offset) as methods:
        for timed in (True, False):
            for split in splits_of(timed):
                rows += compared(split, 7 + offset, timed=timed, seeds=5, methods=methods)
    assert {(row["split"], row["candidates"]) for row in rows} >= {
        (split, kind) for split in ("item_cold", "both_cold") for kind in ("cold", "warm", "overall")
    }
    assert_no_difference(rows)


def test_a_method_that_knows_something_is_not_called_chance(monkeypatch) -> None:
    def knowing(split: Split, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        by_chance, truth = noise(0, 6)(split, seed), split.wanted.toarray()
        return lambda rows: by_chance(rows) + 0.3 * truth[rows]

    with methods_of_noise(monkeypatch, 0), monkeypatch.context() as patched:
        patched.setattr(comparison, "fit_ours", lambda split, seed, *others: knowing(split, seed))
        for split in splits_of(timed=True):
            rows = compared(split, 0, timed=True, seeds=5, methods=["noise"])
            assert all(row["ci_low"] > 0 for row in rows if row["users"] > 30), split


# -- the methods ----------------------------------------------------------------------------------------------------


def test_one_table_of_a_shop_without_signal_says_no_difference() -> None:
    rows = compared("item_cold", 0, timed=True, seeds=2, methods=METHODS)
    assert len(rows) == 6
    assert_no_difference(rows)


@pytest.mark.slow
@pytest.mark.parametrize("timed", [True, False])
def test_every_table_of_shops_without_signal_says_no_difference(timed: bool) -> None:
    rows = []
    for seed, scale in ((0, 1), (1, 1), (2, 3)):
        for split in splits_of(timed):
            rows += compared(split, seed, timed=timed, seeds=5, methods=METHODS, scale=scale)
    assert_no_difference(rows)


# -- weigh ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return word_model(tmp_path_factory.mktemp("model") / "words", WORDS)


def changes(folder: Path, model: str, seed: int, *, timed: bool) -> list[tuple[str, float, float]]:
    """What `coldstart weigh` changes in such a shop."""
    repo = folder / f"repo{seed}{timed}"
    repo.mkdir(parents=True)
    (repo / "feature_store.yaml").touch()
    Enrichment(model=model, backend=BACKEND).write(repo / ENRICHMENT_FILE)
    found = weigh(write_null_shop(folder / f"data{seed}{timed}", seed, timed=timed), repo)
    changed = [(one.name, one.gain, one.error) for one in found.choices if one.after != one.before]
    if not changed:
        assert found.after == found.before
    return changed


def test_weights_stay_where_events_say_nothing(tmp_path: Path, model: str) -> None:
    assert not [changed for seed in range(2) for changed in changes(tmp_path, model, seed, timed=True)]


@pytest.mark.slow
@pytest.mark.parametrize("timed", [True, False])
def test_weights_stay_in_almost_all_shops_where_events_say_nothing(timed: bool, tmp_path: Path, model: str) -> None:
    found = [changes(tmp_path, model, seed, timed=timed) for seed in range(20)]
    assert sum(map(bool, found)) <= 2, found
