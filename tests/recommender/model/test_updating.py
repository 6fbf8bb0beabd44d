"""New users, new items and new events are taken in without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError, FingerprintError
from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.model.recommender import HybridRecommender
from tests.support.made_up_shop import (
    LAMP,
    LAMPS,
    SPADE,
    SPADES,
    entities,
    events,
    every_score,
    made_up_shop,
    new,
    trained,
)


@pytest.fixture
def model() -> HybridRecommender:
    return trained()


def by_id(known: Entities, *ids: str) -> Entities:
    return known.take(np.array([list(known.ids).index(name) for name in ids]))


def test_a_new_user_is_offered_his_taste_and_not_what_he_has(model: HybridRecommender) -> None:
    fresh, items = new("", np.zeros(3), "fresh"), by_id(model.items, "i12", "i13", "i14")
    before = model.recommend("fresh", k=20, unknown="popularity")
    assert set(before.tier) == {"unknown"}
    assert model.partial_fit(events(fresh, items, [(0, 0), (0, 1), (0, 2)]), fresh, items) is model
    ranking = model.recommend("fresh", k=20)
    assert set(ranking.item_id[:6]) <= set(SPADES)
    assert set(ranking.tier) == {"warm"}
    assert not set(ranking.item_id) & {"i12", "i13", "i14"}
    np.testing.assert_allclose(model.users.profiles[-1], items.embeddings.sum(axis=0), atol=1e-6)
    assert model.users.evidence[-1] == 3


def test_what_was_seen_and_counts_nothing_is_not_recommended_either(model: HybridRecommender) -> None:
    fresh, items = new("", np.zeros(3), "fresh"), by_id(model.items, "i12", "i13")
    seen = events(fresh, items, [(0, 0), (0, 1)])
    model.partial_fit(events(fresh, items, [(0, 0)]), fresh, items, seen=seen)
    assert not set(model.recommend("fresh", k=20).item_id) & {"i12", "i13"}
    assert model.fitted.history_of(["fresh"]).nnz == 1
    with pytest.raises(ColdStartError, match="must be of the same users and items"):
        model.partial_fit(events(fresh, items, [(0, 0)]), fresh, items, seen=made_up_shop()[0])


def test_a_new_item_gets_its_profile_its_buyers_and_a_place(model: HybridRecommender) -> None:
    buyers, thing = by_id(model.users, "u21", "u33"), new("spade model new", SPADE, "thing", ["category=spade"])
    expected = model.score(None, thing)[0, 0]
    model.partial_fit(events(buyers, thing, [(0, 0), (1, 0)]), buyers, thing)
    assert model.recommend("u20", k=12).item_id.tolist().count("thing") == 1
    assert "thing" not in set(model.recommend("u21", k=50).item_id)
    units = buyers.profiles / np.linalg.norm(buyers.profiles, axis=1, keepdims=True)
    np.testing.assert_allclose(model.items.profiles[-1], units.mean(axis=0), atol=1e-5)
    assert model.items.evidence[-1] == 2
    assert set(model.audience("thing", k=18).user_id) == {f"u{n}" for n in range(20, 40)} - {"u21", "u33"}
    # Two buyers are fewer than every other item has: it is asked for no more than the least of them.
    assert model.score(None, "thing")[0, 0] == 0 < expected
    assert set(model.recommend("u00", k=30, attribute="category=spade").item_id) == {*SPADES, "thing"}


def test_a_known_user_is_moved_by_exactly_what_he_did(model: HybridRecommender) -> None:
    before, others = model.users.profiles[3].copy(), np.delete(model.users.profiles, 3, axis=0)
    scores = every_score(model)
    user, item = by_id(model.users, "u03"), by_id(model.items, "i15")
    model.partial_fit(events(user, item, [(0, 0)], weights=[0.25]), user, item)
    np.testing.assert_allclose(model.users.profiles[3], before + 0.25 * item.embeddings[0], atol=1e-6)
    np.testing.assert_array_equal(np.delete(model.users.profiles, 3, axis=0), others)
    after = every_score(model)
    assert (after - scores)[3, 10:].mean() > (after - scores)[3, :10].mean()
    assert "i15" not in set(model.recommend("u03", k=20).item_id)


def joined(first: Interactions, second: Interactions, users: Entities, items: Entities) -> Interactions:
    """Both, over the ids of all."""
    rows, columns = ({name: row for row, name in enumerate(side.ids)} for side in (users, items))
    parts = [
        (
            np.array([rows[shop.user_ids[row]] for row in shop.users]),
            np.array([columns[shop.item_ids[row]] for row in shop.items]), shop.timestamps, shop.weights,
        )
        for shop in (first, second)
    ]  # fmt: skip
    return Interactions(users.ids, items.ids, *(np.concatenate(part) for part in zip(*parts, strict=True)))


def test_profiles_and_evidence_are_those_of_all_interactions_together(model: HybridRecommender) -> None:
    shop, users, items = made_up_shop()
    rng = np.random.default_rng(1)
    more_users = by_id(users, "u05", "u22").join(entities(["v0", "v1"], ["", "a lamp"], np.stack([0 * LAMP, LAMP])))
    silent = entities(["j0", "j1", "mute"], ["lamp", "spade", ""], np.stack([LAMP, SPADE, 0 * LAMP]))
    more_items = by_id(items, "i03", "i19").join(silent)
    pairs = [(u, i) for u in range(4) for i in range(5)]
    later = events(more_users, more_items, [*pairs, (2, 2), (0, 4)], weights=rng.uniform(0.1, 3, 22).round(2))
    model.partial_fit(later, more_users, more_items)

    none = {"profiles": np.zeros((42, 3), np.float32), "evidence": np.zeros(42)}
    everyone = replace(users.join(more_users.take(np.array([2, 3]))), **none)
    all_items = items.join(silent)
    wanted_users, wanted_items = with_history(joined(shop, later, everyone, all_items), everyone, all_items)
    assert list(model.users.ids) == list(wanted_users.ids)
    assert list(model.items.ids) == list(wanted_items.ids)
    np.testing.assert_allclose(model.users.profiles, wanted_users.profiles, atol=1e-5)
    np.testing.assert_array_equal(model.users.evidence, wanted_users.evidence)
    np.testing.assert_array_equal(model.items.evidence, wanted_items.evidence)


def test_many_small_updates_are_one_large_one(model: HybridRecommender) -> None:
    other = trained()
    users = by_id(model.users, "u00", "u30").join(new("", np.zeros(3), "fresh"))
    items = by_id(model.items, "i03", "i12").join(new("lamp", LAMP, "thing"))
    pairs = [(0, 1), (1, 0), (2, 0), (2, 2), (0, 2), (2, 2)]
    model.partial_fit(events(users, items, pairs), users, items)
    for pair in pairs:
        other.partial_fit(events(users, items, [pair]), users, items)
    assert list(model.users.ids) == list(other.users.ids)
    np.testing.assert_allclose(model.users.profiles, other.users.profiles, atol=1e-5)
    np.testing.assert_allclose(every_score(model), every_score(other), atol=1e-4)


def test_what_was_learned_stays_as_it_is(model: HybridRecommender) -> None:
    before = model.fitted
    metric, factors = before.item_metric.copy(), before.factors.items.copy()
    fresh, thing = new("", np.zeros(3), "fresh"), new("spade", SPADE, "thing")
    model.partial_fit(events(fresh, thing, [(0, 0)]), fresh, thing)
    np.testing.assert_array_equal(model.fitted.item_metric, metric)
    np.testing.assert_array_equal(model.fitted.factors.items, factors)
    # LightFM does not know the new one: its part is popularity, as for every new user.
    assert (model.recommend("fresh", k=20).lightfm == 0).all()


def test_a_question_that_was_answered_before_is_answered_anew(model: HybridRecommender) -> None:
    model.recommend(model.users.ids)
    model.audience("i00")
    fresh, thing = new("", np.zeros(3), "fresh"), new("spade", SPADE, "thing")
    model.partial_fit(events(fresh, thing, [(0, 0)]), fresh, thing)
    assert every_score(model).shape == (41, 21)
    assert set(model.recommend(["fresh", "u00"], k=50, exclude_seen=False).item_id) == {*LAMPS, *SPADES, "thing"}


def test_nothing_new_changes_nothing(model: HybridRecommender) -> None:
    before = every_score(model)
    users, items = by_id(model.users, "u00"), by_id(model.items, "i00")
    model.partial_fit(events(users, items, []), users, items)
    np.testing.assert_array_equal(every_score(model), before)


def test_a_bundle_holds_what_was_taken_in(model: HybridRecommender, tmp_path: Path) -> None:
    users = by_id(model.users, "u07").join(new("a spade", SPADE, "fresh"))
    thing = new("lamp shade", LAMP, "thing", ["category=lamp"])
    model.partial_fit(events(users, thing, [(0, 0), (1, 0)]), users, thing)
    model.save(tmp_path)
    loaded = HybridRecommender.load(tmp_path)
    np.testing.assert_array_equal(every_score(loaded), every_score(model))
    assert loaded.recommend("fresh", k=5).equals(model.recommend("fresh", k=5))
    loaded.partial_fit(events(users, thing, [(1, 0)]), users, thing)
    assert loaded.users.evidence[-1] == 2


def test_features_that_do_not_fit_are_refused_and_change_nothing(model: HybridRecommender) -> None:
    before = every_score(model)
    fresh, thing = new("", np.zeros(3), "fresh"), new("spade", SPADE, "thing")
    shop = events(fresh, thing, [(0, 0)])
    with pytest.raises(FingerprintError, match=r"the new items holds .*'other'.*the recommender uses encoder 'stub'"):
        model.partial_fit(shop, fresh, replace(thing, fingerprint="other"))
    with pytest.raises(FingerprintError, match=r"the new users.*'other'"):
        model.partial_fit(shop, replace(fresh, fingerprint="other"), thing)
    with pytest.raises(ColdStartError, match="features of 2 users do not match the 1 users"):
        model.partial_fit(shop, fresh.join(new("", np.zeros(3), "more")), thing)
    with pytest.raises(ColdStartError, match="not fitted"):
        HybridRecommender().partial_fit(shop, fresh, thing)
    wide = entities(["thing"], [""], np.ones((1, 4)))
    with pytest.raises(ColdStartError, match="4 numbers wide"):
        model.partial_fit(shop, fresh, wide)
    assert len(model.users) == 40
    np.testing.assert_array_equal(every_score(model), before)
