"""Rules that keep items from users, and what items share: in lists, audiences, explanations and bundles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.model.parameters import Parameters
from recommender.model.ranking import Rules
from recommender.model.recommender import HybridRecommender
from recommender.model.single import block_of, ranked
from tests.support.made_up_shop import LAMPS, SPADE, SPADES, made_up_shop, new, shared

RULE = ("home=flat", "category=spade")
NO_EVENTS = np.zeros(0, np.int64), np.zeros(0, np.float32)


@pytest.fixture(scope="module")
def ruled() -> HybridRecommender:
    """People in flats are shown no spades."""
    return shared().with_parameters(exclusions=(RULE,))


def test_only_users_with_the_label_lose_the_items(ruled: HybridRecommender) -> None:
    lists = ruled.recommend(["u00", "u25"], 20, exclude_seen=False).groupby("user_id")["item_id"].agg(set)
    assert lists["u00"] == set(LAMPS)
    assert lists["u25"] == {*LAMPS, *SPADES}
    seen = ruled.recommend(["u00", "u25"], 20).groupby("user_id")["item_id"].agg(set)
    assert not seen["u00"] & set(SPADES)
    assert seen["u25"] & set(SPADES)


def test_a_new_user_is_ruled_by_their_own_attributes(ruled: HybridRecommender) -> None:
    flat, farm = (new("a spade", SPADE, attributes=[f"home={home}"]) for home in ("flat", "farm"))
    assert not set(ruled.recommend(flat, 20)["item_id"]) & set(SPADES)
    assert set(ruled.recommend(farm, 20)["item_id"]) & set(SPADES)


def test_a_pin_does_not_break_the_rule(ruled: HybridRecommender) -> None:
    assert ruled.recommend("u00", 3, pin=["i15", "i09"])["item_id"].tolist()[0] == "i09"
    assert "i15" not in ruled.recommend("u00", 20, pin=["i15"])["item_id"].tolist()


def test_one_user_at_a_time_as_in_the_service(ruled: HybridRecommender) -> None:
    fitted = ruled.fitted
    for seen in (None, (), (0,)):
        block = block_of(fitted, fitted.users.take(fitted.users.rows(["u00"])), *NO_EVENTS)
        found = fitted.items.ids(ranked(block, Rules(20), seen=seen).rows)
        assert found
        assert not set(found) & set(SPADES)


def test_an_item_has_no_audience_that_the_rule_keeps_it_from(ruled: HybridRecommender) -> None:
    homes = dict(zip(ruled.users.ids, ruled.users.attributes, strict=True))
    for exclude_seen in (True, False):
        for item in ("i19", new("spade model", SPADE, attributes=["category=spade"])):
            found = ruled.audience(item, 40, exclude_seen=exclude_seen)["user_id"]
            assert len(found)
            assert {label for user in found for label in homes[user]} == {"home=farm"}


def test_the_explanation_names_the_rule_and_still_adds_up(ruled: HybridRecommender) -> None:
    table = ruled.explain("u00", "i15")
    assert table[table["kind"] == "rule"].to_dict("records") == [
        {"term": "home=flat excludes category=spade", "kind": "rule", "value": 0.0}
    ]
    assert table["value"].sum() == pytest.approx(float(ruled.score("u00", "i15")[0, 0]), abs=5e-6)
    assert "rule" not in set(ruled.explain("u00", "i05")["kind"])
    assert "rule" not in set(ruled.explain("u25", "i15")["kind"])


def test_the_bundle_keeps_the_rule(ruled: HybridRecommender, tmp_path: Path) -> None:
    ruled.save(tmp_path)
    loaded = HybridRecommender.load(tmp_path)
    assert loaded.parameters.exclusions == (RULE,)
    assert set(loaded.recommend("u00", 20, exclude_seen=False)["item_id"]) == set(LAMPS)


@pytest.mark.parametrize("wrong", [(("home=flat",),), "home=flat", ((1, 2),), [["home=flat", "category=spade"]]])
def test_a_rule_that_is_no_pair_is_refused(wrong: object) -> None:
    with pytest.raises(ColdStartError, match="give pairs of a label of users and one of items"):
        Parameters(exclusions=wrong)  # type: ignore[arg-type]


def test_the_explanation_names_what_two_items_share() -> None:
    interactions, users, items = made_up_shop()
    labels = [list(own) for own in items.attributes]
    for row in (1, 9):  # both lamps; only the first has history of u00
        labels[row] += ["maker=Brass & Co", "price=2^4"]
    items = replace(items, attributes=labels)
    model = HybridRecommender(Parameters(components=4, epochs=3)).fit(interactions, users, items)
    bought = set(model.explain("u00", "i09").query("kind == 'bought'")["term"])
    assert "lamp model 1 (same maker: Brass & Co)" in bought
    # Half of the items are lamps: that tells nothing.
    assert "lamp model 2" in bought
