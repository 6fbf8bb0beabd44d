"""From scores to a list: filters, business rules, and what people type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.data.entities import with_history
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.model.requests import UnknownIdError
from tests.support.made_up_shop import LAMP, LAMPS, SPADES, column, entities, events, every_score, new, shared

PARTS = ["popularity", "lightfm", "history", "text"]


@pytest.fixture(scope="module")
def model() -> HybridRecommender:
    return shared()


def listed(model: HybridRecommender, user: str = "u00", k: int = 20, **rules: Any) -> list[str]:
    found: list[str] = model.recommend(user, k, **rules).item_id.tolist()
    return found


def by_score(model: HybridRecommender, user: str, ids: Sequence[str]) -> list[str]:
    """The answer by definition: these items, sorted by score, in the catalogue's order where equal."""
    scores = dict(zip(model.items.ids, model.score(user, model.items.ids)[0], strict=True))
    return sorted(ids, key=lambda name: (-scores[name], model.fitted.items.row(name)))


def seen(user: int) -> set[str]:
    return {f"i{10 * (user // 20) + i:02}" for i in range(9) if (user + i) % 3}


# -- filters ------------------------------------------------------------------------------------------


def test_the_list_is_the_scores_sorted(model: HybridRecommender) -> None:
    for user in ("u00", "u13", "u39"):
        left = set(model.items.ids) - seen(int(user[1:]))
        assert listed(model, user) == by_score(model, user, sorted(left))
        assert listed(model, user, k=5) == by_score(model, user, sorted(left))[:5]
        assert listed(model, user, exclude_seen=False) == by_score(model, user, model.items.ids)


def test_of_equal_scores_the_first_in_the_catalogue_wins_whatever_k() -> None:
    users = entities([f"u{n}" for n in range(12)], [""] * 12, np.zeros((12, 3)))
    items = entities([f"i{n:02}" for n in range(12)], ["thing"] * 12, np.tile(LAMP, (12, 1)))
    shop = events(users, items, [(n, n) for n in range(12)])
    model = HybridRecommender(Parameters(components=2, epochs=1)).fit(shop, *with_history(shop, users, items))
    for k in (1, 3, 11, 12, 50):
        found = model.recommend("who", k, unknown="popularity").item_id.tolist()
        assert found == list(items.ids)[:k]


def test_only_what_is_allowed_is_listed_and_the_rest_moves_up(model: HybridRecommender) -> None:
    among = ["i03", "i15", "i00", "i01"]
    assert listed(model, among=among) == by_score(model, "u00", ["i00", "i03", "i15"])  # i01 is bought
    assert listed(model, among=among, exclude_seen=False) == by_score(model, "u00", among)
    assert listed(model, among=[]) == []
    whole = listed(model)
    assert listed(model, without=whole[:2]) == whole[2:]
    assert listed(model, without=model.items.ids) == []
    assert set(listed(model, attribute="category=spade")) == set(SPADES)
    assert listed(model, attribute="category=spade", among=["i10", "i00"], without=["i11"]) == ["i10"]


def test_what_others_may_have_left_does_not_fill_the_list_of_who_has_seen_all(model: HybridRecommender) -> None:
    ranking = model.recommend(["u00", "u01", "u20"], k=3, among=["i01", "i10"], pin=["i01"])
    # u00 and u01 have i01 already, u20 has i10.
    found = {user: group.item_id.tolist() for user, group in ranking.groupby("user_id")}
    assert found == {"u00": ["i10"], "u01": ["i10"], "u20": ["i01"]}
    assert ranking.groupby("user_id")["rank"].first().eq(1).all()


def test_one_user_with_nothing_left_costs_the_others_nothing(model: HybridRecommender) -> None:
    ranking = model.recommend(["u00", "u39"], k=3, among=sorted(seen(0)), pin=["i02"])
    assert set(ranking.user_id) == {"u39"}
    assert ranking.item_id[0] == "i02"


# -- business rules -----------------------------------------------------------------------------------


def test_a_boost_is_added_to_the_score_and_to_no_part_of_it(model: HybridRecommender) -> None:
    scores = every_score(model)[0]
    plain = model.recommend("u00", k=20).set_index("item_id")
    boosted = model.recommend("u00", k=20, boost={"i15": 1000.0, "category=lamp": 10.0}).set_index("item_id")
    assert boosted.index[0] == "i15"
    for name, added in (("i15", 1000.0), ("i09", 10.0), ("i16", 0.0)):
        assert boosted.score[name] == pytest.approx(scores[model.fitted.items.row(name)] + added, abs=1e-4)
        found, wanted = (frame.loc[name, PARTS].astype(float) for frame in (boosted, plain))
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    both = model.recommend("u00", k=20, boost={"i09": -1000.0, "category=lamp": 10.0})
    assert both.item_id.tolist()[-1] == "i09"


def test_pins_come_first_in_their_order_and_keep_their_scores(model: HybridRecommender) -> None:
    pinned = model.recommend("u00", k=6, pin=["i19", "i01", "i12", "i19"])
    assert pinned.item_id.tolist()[:2] == ["i19", "i12"]  # i01 is bought
    assert pinned["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    scores = every_score(model)[0, column(model, *pinned.item_id)]
    np.testing.assert_allclose(pinned.score, scores, atol=1e-5)
    assert pinned.item_id.tolist()[2:] == [name for name in listed(model) if name not in ("i19", "i12")][:4]
    assert listed(model, pin=["i19", "i12"], k=1) == ["i19"]
    assert "i12" not in listed(model, pin=["i12"], without=["i12"])


@pytest.fixture(scope="module")
def variants() -> HybridRecommender:
    """Five lamps that are one another's copies and one spade, all bought alike; and a user who bought another lamp."""
    users = entities([f"u{n:02}" for n in range(20)], [""] * 20, np.zeros((20, 3)))
    vectors = [LAMP] * 6 + [np.array([0, 1, 0.1])] * 2
    items = entities([f"i{n}" for n in range(8)], ["red lamp"] * 6 + ["iron spade"] * 2, np.array(vectors))
    pairs = [(u, u % 6) for u in range(12)] + [(u, 6 + u % 2) for u in range(12, 20)]
    shop = events(users, items, [*pairs, *((u, (u + 1) % 6) for u in range(12))])
    return HybridRecommender(Parameters(components=4, epochs=5)).fit(shop, *with_history(shop, users, items))


def test_diversity_brings_something_else_forward_and_nothing_twice(variants: HybridRecommender) -> None:
    plain = listed(variants, "u00", k=3)
    diverse = listed(variants, "u00", k=3, diversity=0.7)
    assert set(plain) <= {"i2", "i3", "i4", "i5"}
    assert diverse[0] == plain[0]
    assert diverse[1] in ("i6", "i7")
    whole = listed(variants, "u00", k=50, diversity=0.7)
    assert sorted(whole) == ["i2", "i3", "i4", "i5", "i6", "i7"]
    assert sorted(listed(variants, "u00", k=5, diversity=0.7, among=["i4", "i6"])) == ["i4", "i6"]
    assert listed(variants, "u00", k=5, diversity=0.7, among=["i0"]) == []
    assert listed(variants, "u00", k=3, diversity=0.7, pin=["i5", "i4"])[:2] == ["i5", "i4"]


def test_no_diversity_and_hardly_any_are_the_list_by_score(model: HybridRecommender) -> None:
    assert listed(model, diversity=0.0) == listed(model)
    assert listed(model, k=4, diversity=1e-9) == listed(model, k=4)


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"among": ["i00", "x1", "x2"]}, r"among: 2 of 3 item_ids are not among the 20 .*\['x1', 'x2'\]"),
        ({"without": ["x1"]}, r"without: 1 of 1 item_ids"),
        ({"pin": ["x1"]}, r"pin: 1 of 1 item_ids"),
        ({"attribute": "category=boat"}, r"'category=boat' is neither .*'category=lamp', 'category=spade'\] \(2 in"),
        ({"boost": {"colour=red": 1.0}}, r"'colour=red' is neither an item_id nor an attribute of any item"),
        ({"boost": {"i00": "much"}}, "the boost of 'i00' is 'much'; it must be a finite number"),
        ({"boost": {"i00": float("nan")}}, "the boost of 'i00' is nan; it must be a finite number"),
        ({"diversity": 1.5}, "diversity is 1.5; it must be from 0"),
        ({"diversity": float("nan")}, "diversity is nan"),
        ({"k": -1}, "k is -1; give how many rows at most, 0 or more"),
        ({"k": 2.5}, "k is 2.5; give how many rows"),
    ],
)
def test_a_rule_that_cannot_be_kept_says_what_is_possible(
    model: HybridRecommender, rules: dict[str, Any], named: str
) -> None:
    with pytest.raises(ColdStartError, match=named):
        model.recommend("u00", **rules)


# -- what people type ---------------------------------------------------------------------------------


def test_no_places_and_no_users_give_empty_tables_with_all_columns(model: HybridRecommender) -> None:
    whole = model.recommend("u00", explain=True).columns.tolist()
    for users, k in (("u00", 0), ([], 10), ([], 0), (np.array([]), 3)):
        empty = model.recommend(users, k, explain=True)
        assert (len(empty), empty.columns.tolist()) == (0, whole)
    assert model.recommend([], diversity=0.5, pin=["i00"]).empty
    whole = model.audience("i00").columns.tolist()
    for items, k in (("i00", 0), ([], 10)):
        empty = model.audience(items, k)
        assert (len(empty), empty.columns.tolist()) == (0, whole)
    assert model.score([], ["i00", "i01"]).shape == (0, 2)
    assert model.score(["u00", "u01"], []).shape == (2, 0)
    assert model.score(None, []).shape == (1, 0)


def test_an_id_asked_twice_is_answered_twice(model: HybridRecommender) -> None:
    ranking = model.recommend(["u01", "u00", "u01"], k=3)
    assert ranking.user_id.tolist() == ["u01"] * 3 + ["u00"] * 3 + ["u01"] * 3
    assert ranking["rank"].tolist() == [1, 2, 3] * 3
    assert ranking.item_id[:3].tolist() == ranking.item_id[6:].tolist()
    scores = model.score(["u01", "u01"], ["i05", "i05", "i00"])
    assert scores.shape == (2, 3)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], atol=1e-6)
    twice = model.recommend(["who", "who"], k=1, unknown="popularity")
    assert twice.tier.tolist() == ["unknown", "unknown"]
    audience = model.audience(["i09", "i09"], k=2)
    assert audience.item_id.tolist() == ["i09"] * 4


@pytest.fixture(scope="module")
def numbered() -> HybridRecommender:
    """A shop whose ids were numbers before they were written down."""
    users = entities([str(n) for n in range(10)], [""] * 10, np.zeros((10, 3)))
    items = entities([str(100 + n) for n in range(6)], ["lamp"] * 6, np.tile(LAMP, (6, 1)))
    shop = events(users, items, [(u, (u + n) % 6) for u in range(10) for n in range(3)])
    return HybridRecommender(Parameters(components=2, epochs=1)).fit(shop, *with_history(shop, users, items))


@pytest.mark.parametrize("one", [3, np.int64(3), np.int32(3), "3", np.str_("3")])
def test_an_id_may_be_a_number_of_any_type(numbered: HybridRecommender, one: object) -> None:
    wanted = numbered.recommend("3", k=4).item_id.tolist()
    assert numbered.recommend(one, k=4).item_id.tolist() == wanted
    assert numbered.recommend([one], k=4).user_id.tolist() == ["3"] * 3


def test_ids_in_arrays_and_series_and_rules_may_be_numbers(numbered: HybridRecommender) -> None:
    ids, items = np.array([1, 2]), np.array([101, 105])
    scores = numbered.score(["1", "2"], ["101", "105"])
    np.testing.assert_array_equal(numbered.score(ids, items), scores)
    frame = numbered.recommend(["1", "2"], k=3)
    assert numbered.recommend(frame.user_id.astype(int).unique(), k=3).equals(frame)
    found = numbered.recommend(
        1, among=items, pin=[np.int64(105)], boost={101: 1.0}, exclude_seen=False,
    )  # fmt: skip
    assert found.item_id.tolist() == ["105", "101"]
    assert numbered.audience(np.int64(101), k=2).item_id.tolist() == ["101"] * 2
    assert len(numbered.explain(1, 101))


def test_a_table_where_ids_should_be_is_an_unknown_id_not_a_wrong_answer(model: HybridRecommender) -> None:
    for users in (np.ones((2, 3)), np.array([np.nan]), [None], np.eye(2, dtype=int)):
        with pytest.raises(UnknownIdError, match="user_ids are not among the 40"):
            model.recommend(users)


def test_a_list_of_a_stranger_keeps_to_the_rules_too(model: HybridRecommender) -> None:
    ranking = model.recommend(new("lamp", LAMP), k=3, without=["i00"], pin=["i15"], boost={"i04": 100.0})
    assert ranking.item_id.tolist()[:2] == ["i15", "i04"]
    assert ranking.item_id[2] in LAMPS
