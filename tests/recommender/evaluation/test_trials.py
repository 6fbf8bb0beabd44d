"""Settings of the other methods, chosen by trial within the training part."""

from __future__ import annotations

import inspect
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
import scipy.sparse as sp

from recommender.data.dataset import Dataset
from recommender.evaluation import baselines, comparison
from recommender.evaluation.baselines import METHODS, aged_pairs
from recommender.evaluation.comparison import evaluate, measure
from recommender.evaluation.plain_lightfm import word_features
from recommender.evaluation.trials import OFFSETS, best_offset, raised, run_trials, validation_of
from recommender.evaluation.tuned import GRIDS, Grid, Tuner
from recommender.measure.splits import SPLITS, Split, make_splits, pair_matrix
from tests.support.made_up_shop import entities, events
from tests.support.world import world

PLENTY = 1e9


def split_of(kind: str) -> Split:
    return make_splits(*world(), kind, cutoff=datetime(2024, 8, 1) if kind == "temporal" else None)[-1]


@pytest.fixture(scope="module")
def item_cold() -> Split:
    return split_of("item_cold")


# -- the loop -----------------------------------------------------------------------------------------------------


class Shop:
    """Trials that take as many seconds as their work, on a clock that only they move."""

    def __init__(self, slowness: float = 1.0) -> None:
        self.now, self.slowness, self.tried = 100.0, slowness, list[int]()

    def score(self, settings) -> np.ndarray:
        self.tried.append(settings["work"])
        self.now += self.slowness * settings["work"]
        return np.array([[settings["work"]]])

    def run(self, works: list[int], budget: float):
        return run_trials(
            [{"work": work} for work in works], self.score, lambda scores: float(scores.max()), budget,
            work=lambda settings: settings["work"], clock=lambda: self.now,
        )  # fmt: skip


def test_trials_end_with_the_budget_and_none_begins_that_would_overrun_it() -> None:
    shop = Shop()
    found = shop.run([2, 1, 9, 4, 3, 1, 2, 1], budget=10)
    # After 2 and 1, a trial of 9 would end at 12. After 4 and 3, all is spent.
    assert shop.tried == [2, 1, 4, 3]
    assert (found.count, found.best) == (4, {"work": 4})
    assert shop.now == 110


def test_the_first_trial_always_runs_and_says_how_slow_the_others_would_be() -> None:
    shop = Shop(slowness=50)
    assert shop.run([1, 1, 1], budget=60).count == 1
    assert Shop(slowness=50).run([1, 1, 1], budget=100).count == 2


def test_the_earlier_of_equals_is_taken() -> None:
    found = run_trials([{"a": 1}, {"a": 2}], lambda settings: np.zeros((1, 1)), lambda scores: 0.5, PLENTY)
    assert (found.best, found.count) == ({"a": 1}, 2)


@pytest.mark.parametrize("method", GRIDS)
def test_the_first_settings_are_the_defaults_and_all_differ(method: str) -> None:
    arguments = inspect.signature(METHODS[method]).parameters.values()
    defaults = {one.name: one.default for one in arguments if one.kind is one.KEYWORD_ONLY}
    settings = list(GRIDS[method].settings)
    assert settings[0] == defaults
    assert len({repr(one) for one in settings}) == len(settings)
    assert all(set(one) == set(defaults) and GRIDS[method].work(one) > 0 for one in settings)


def test_settings_with_which_a_method_diverges_are_not_taken(item_cold: Split, monkeypatch) -> None:
    def method(split: Split, seed: int, *, rate: float = 0.1):
        return (lambda rows: np.full((len(rows), 100), np.nan)) if rate > 1 else METHODS["popularity"](split, seed)

    monkeypatch.setitem(baselines.METHODS, "diverging", method)
    monkeypatch.setitem(GRIDS, "diverging", Grid([{"rate": 2.0}, {"rate": 0.1}, {"rate": 3.0}]))
    assert Tuner(item_cold, 0, PLENTY).fit("diverging").settings["rate"] == 0.1


# -- the division -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPLITS)
def test_the_validation_contains_no_pair_of_the_test(kind: str) -> None:
    split = split_of(kind)
    held = validation_of(split, 0)
    assert held is not None
    known, wanted = pair_matrix(split.train), held.wanted[held.asked]
    learned = pair_matrix(held.train)
    for pairs in (learned, held.wanted):
        assert pairs.nnz
        assert pairs.multiply(split.wanted).nnz == 0
        assert pairs.multiply(known).nnz == pairs.nnz
    assert learned.multiply(held.wanted).nnz == 0
    assert wanted.nnz >= 10
    # Nobody can want there what the whole training part does not have: the test's own new items.
    nobody = np.asarray(known.sum(axis=0)).ravel() == 0
    assert not any(held.candidates(name).items[nobody].any() for name in ("cold", "warm", "overall"))


def test_the_test_part_decides_nothing(item_cold: Split) -> None:
    empty = sp.csr_matrix(item_cold.wanted.shape, dtype=np.float32)
    other = replace(item_cold, test=item_cold.test.select(item_cold.test.users < 5), wanted=empty, excluded=empty)
    for method in ("TF-IDF cosine", "EASE"):
        before, after = (Tuner(split, 0, PLENTY).fit(method) for split in (item_cold, other))
        assert before.settings == after.settings
        rows = np.arange(80)
        np.testing.assert_array_equal(before.scorer(rows), after.scorer(rows))


def test_a_training_part_that_is_too_small_leaves_the_defaults(item_cold: Split) -> None:
    few = replace(item_cold, train=item_cold.train.select(item_cold.train.users < 3))
    assert validation_of(few, 0) is None
    found = Tuner(few, 0, PLENTY).fit("EASE")
    assert (found.settings, found.trials) == ({}, 0)


# -- the methods --------------------------------------------------------------------------------------------------


def order_of_words() -> Split:
    """Two tastes; the texts of both have the same words, in one order and in the other."""
    ids = [f"i{n:03}" for n in range(160)]
    texts = ["tall brass garden lamp" if n % 2 else "lamp garden brass tall" for n in range(160)]
    users = entities([f"u{n:02}" for n in range(40)], [""] * 40, np.zeros((40, 3)))
    items = entities(ids, texts, np.ones((160, 3)))
    rng = np.random.default_rng(0)
    pairs = [(u, int(i)) for u in range(40) for i in 2 * rng.choice(80, 40, replace=False) + u % 2]
    return make_splits(events(users, items, pairs), users, items, "item_cold")[0]


def test_a_method_with_bad_defaults_gets_better_by_tuning() -> None:
    split = order_of_words()
    default, tuned = (Tuner(split, 0, budget).fit("TF-IDF cosine") for budget in (0, PLENTY))
    assert (default.settings, default.trials) == ({}, 0)
    assert (tuned.settings["ngrams"], tuned.trials) == (2, 4)
    worse, better = (measure(split, found.scorer)["cold"].ndcg.mean() for found in (default, tuned))
    assert better > worse + 0.15  # by default every item is like every other


def test_a_method_without_settings_has_one_trial_which_gives_its_constant_for_cold_items(item_cold: Split) -> None:
    found = Tuner(item_cold, 0, PLENTY).fit("popularity")
    assert found.trials == 1
    assert set(found.settings) == {"offset"}


def test_half_lives_are_tried_only_where_there_is_time(item_cold: Split) -> None:
    train = replace(item_cold.train, timestamps=np.full(len(item_cold.train), np.datetime64("2024-01-01", "us")))
    assert Tuner(item_cold, 0, PLENTY).fit("EASE").trials == 12
    assert Tuner(replace(item_cold, train=train), 0, PLENTY).fit("EASE").trials == 4


def test_a_pair_is_as_old_as_its_last_event(item_cold: Split) -> None:
    days = np.array([0, 10, 20, 30], dtype="timedelta64[D]")
    train = replace(
        item_cold.train.select(np.arange(len(item_cold.train)) < 4), users=np.array([0, 1, 0, 2]),
        items=np.array([5, 6, 5, 7]), timestamps=np.datetime64("2024-01-01", "us") + days,
    )  # fmt: skip
    found = aged_pairs(replace(item_cold, train=train), 10.0)
    assert {(u, i): float(found[u, i]) for u, i in zip(*found.nonzero(), strict=True)} == {
        (0, 5): 0.5, (1, 6): 0.25, (2, 7): 1.0,
    }  # fmt: skip
    assert set(aged_pairs(item_cold, None).data) == {1.0}


def test_long_texts_weigh_as_much_as_short_ones(item_cold: Split) -> None:
    texts = [" ".join(f"w{k}" for k in range(1 + n % 40)) for n in range(99)] + [""]
    words = [" ".join(f"v{k}" for k in range(1 + n % 7)) for n in range(80)]
    split = replace(
        item_cold, items=replace(item_cold.items, descriptions=texts),
        users=replace(item_cold.users, descriptions=words),
    )  # fmt: skip
    for features, n_words in zip(word_features(split, own_words=True), ([40, 99], [7, 80]), strict=True):
        lengths = np.sqrt(np.asarray(features.multiply(features).sum(axis=1)).ravel())
        assert len(np.unique(np.diff(features.indptr)[: n_words[1]])) >= n_words[0] - 1
        np.testing.assert_allclose(lengths[: n_words[1]], 1, rtol=1e-6)
    assert word_features(split)[0][99].nnz == 0


# -- the constant for cold items ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_new_items() -> Split:
    """Items 0 to 14 come after the cut-off, 15 to 34 shortly before it."""
    interactions, users, items = world()
    late = np.where(interactions.items < 35, np.datetime64("2024-07-30", "us"), interactions.timestamps)
    late = np.where(interactions.items < 15, np.datetime64("2024-09-01", "us"), late)
    shop = replace(interactions, timestamps=late), users, items
    return make_splits(*shop, "temporal", cutoff=datetime(2024, 8, 1))[0]


def test_the_constant_changes_candidates_overall_only(with_new_items: Split) -> None:
    score = METHODS["encoder cosine"](with_new_items, 0)
    before = measure(with_new_items, score)
    for offset in OFFSETS[1:]:
        after = measure(with_new_items, raised(with_new_items, score, offset))
        for candidates in ("cold", "warm"):
            np.testing.assert_array_equal(before[candidates].ndcg, after[candidates].ndcg)
            np.testing.assert_array_equal(before[candidates].auc, after[candidates].auc)
        assert (after["overall"].auc != before["overall"].auc).any()


def test_cold_items_that_a_method_scores_too_low_are_raised(with_new_items: Split, monkeypatch) -> None:
    def method(split: Split, seed: int):
        return raised(split, METHODS["encoder cosine"](split, seed), -4.0)

    monkeypatch.setitem(baselines.METHODS, "buried", method)
    default, tuned = (Tuner(with_new_items, 0, budget).fit("buried") for budget in (0, PLENTY))
    held = validation_of(with_new_items, 0)
    assert held is not None
    plain = best_offset(held, METHODS["encoder cosine"](held, 0)(held.asked))
    assert tuned.settings["offset"] == plain + 4.0
    worse, better = (measure(with_new_items, found.scorer)["overall"].ndcg.mean() for found in (default, tuned))
    assert better > worse + 0.05


def test_cold_and_warm_items_are_wanted_alike_in_one_list() -> None:
    """In a fifth of the items all pairs are held out, of the others a tenth; neither may be what the list is about."""
    split = split_of("item_cold")
    held = validation_of(split, 0)
    assert held is not None
    assert held.listed_wanted[:, held.cold].nnz < held.wanted[:, held.cold].nnz / 4
    assert held.listed_wanted[:, held.warm].nnz == held.wanted[:, held.warm].nnz


# -- in the comparison --------------------------------------------------------------------------------------------


def test_rows_say_what_was_chosen_and_what_it_cost(monkeypatch) -> None:
    budgets = []

    class Recorded(Tuner):
        def __init__(self, split, seed, budget, report) -> None:
            budgets.append(budget)
            super().__init__(split, seed, PLENTY, report)

    monkeypatch.setattr(comparison, "Tuner", Recorded)
    methods = ["popularity", "TF-IDF cosine"]
    result = evaluate(Dataset("world", *world()), "item_cold", seeds=2, methods=methods, tuning=0.5).result
    rows = {row["method"]: row for row in result["rows"] if row["candidates"] == "overall"}
    assert rows["TF-IDF cosine"]["trials"] == 4
    assert [set(one) for one in rows["TF-IDF cosine"]["settings"]] == [{"ngrams", "sublinear", "offset"}] * 2
    assert rows["popularity"]["trials"] == 1
    assert rows["popularity"]["tuning_s"] > 0
    ours = rows["coldstart"]
    assert ours["tuning_s"] is ours["trials"] is ours["settings"] is None
    assert np.mean(budgets) == pytest.approx(0.5 * ours["fit_s"])
