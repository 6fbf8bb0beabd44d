"""One user at a time: as `recommend`, and after events of the session as `partial_fit`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coldstart_udfs.errors import FingerprintError
from recommender.data.entities import Entities
from recommender.model.ranking import Rules
from recommender.model.recommender import HybridRecommender
from recommender.model.single import block_of, ranked
from recommender.model.weights import PARTS, Weights
from tests.support.made_up_shop import LAMP, SPADE, SPADES, events, new, shared, trained

LOUD = dict.fromkeys(PARTS, (1.0, 1.0))
NO_EVENTS = np.zeros(0, np.int64), np.zeros(0, np.float32)


@pytest.mark.parametrize("name", ["u03", "u25"])
@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_a_known_user_gets_what_recommend_gives(name: str, diversity: float) -> None:
    model = shared()
    rules = {"among": None, "without": ["i05"], "attribute": None, "boost": {"category=spade": 0.5}, "pin": ["i09"]}
    table = model.recommend(name, 5, diversity=diversity, explain=True, **rules)
    block = block_of(model.fitted, model.fitted.users.take(model.fitted.users.rows([name])), *NO_EVENTS)
    found = ranked(block, Rules.of(model.fitted, 5, diversity=diversity, **rules), seen=(), explain=True)
    assert model.fitted.items.ids(found.rows) == table["item_id"].tolist()
    np.testing.assert_allclose(found.scores, table["score"], rtol=1e-6)
    for part, values in found.parts.items():
        np.testing.assert_allclose(values, table[part], atol=1e-6)
    assert found.sentences == table["because"].tolist()
    assert {found.tier} == set(table["tier"])


def test_events_of_a_guest_count_as_after_partial_fit_and_are_not_kept() -> None:
    model, before = trained(), len(shared().users)
    guest = new("something for the garden", LAMP, "guest")
    rows, weights = model.fitted.items.rows(["i12", "i14", "i01"]), np.array([1, 0.5, 0.1], np.float32)
    block = block_of(model.fitted, guest, rows, weights)
    assert len(model.users) == before
    found = ranked(block, Rules.of(model.fitted, 20, None, (), None, None, (), 0.0), seen=rows.tolist())
    items = model.items.take(rows)
    model.partial_fit(events(guest, items, [(0, 0), (0, 1), (0, 2)], weights.tolist()), guest, items)
    table = model.recommend("guest", 20)
    assert found.tier == "warm"
    assert model.fitted.items.ids(found.rows) == table["item_id"].tolist()
    # Popularity moves with events that are kept.
    rest = [part for part in found.parts if part != "popularity"]
    for part in rest:
        np.testing.assert_allclose(found.parts[part], table[part], atol=1e-4)
    assert set(table["item_id"][:3]) <= set(SPADES)


def test_without_seen_nothing_is_left_out() -> None:
    model = shared()
    user = model.fitted.users.take(model.fitted.users.rows(["u03"]))
    found = ranked(block_of(model.fitted, user, *NO_EVENTS), Rules(100), seen=None)
    assert len(found.rows) == len(model.items)


def test_features_of_another_encoder_are_refused() -> None:
    model = shared()
    with pytest.raises(FingerprintError, match="the request holds embeddings of encoder 'other'"):
        block_of(model.fitted, Entities.nothing(["x"], 3, "other"), *NO_EVENTS)


def test_one_user_alone_scores_as_among_others() -> None:
    """Products of one user take shorter ways than those of many."""
    model = trained(weights=Weights(warm=LOUD, cold=LOUD))
    together = model.score(model.users.ids, model.items)
    alone = np.concatenate([model.score(name, model.items) for name in model.users.ids])
    np.testing.assert_allclose(alone, together, atol=2e-5)
    guests = new("lamp model 3", LAMP, attributes=["home=flat"]).join(new("", np.zeros(3, np.float32), "nobody"))
    apart = [model.score(guests.take(np.array([row])), model.items) for row in (0, 1)]
    np.testing.assert_allclose(np.concatenate(apart), model.score(guests, model.items), atol=2e-5)


def test_what_is_kept_of_all_users_follows_new_events() -> None:
    model = trained(weights=Weights(warm=LOUD, cold=LOUD))
    before = model.score("u03", model.items)
    np.testing.assert_array_equal(model.score("u03", model.items), before)
    guest = new("", np.zeros(3, np.float32), "guest")
    items = model.items.take(model.fitted.items.rows(["i12"]))
    model.partial_fit(events(guest, items, [(0, 0)]), guest, items)
    after = model.score("u03", model.items)
    fresh = HybridRecommender.of(replace(model.fitted)).score("u03", model.items)
    assert not np.array_equal(after, before)
    np.testing.assert_allclose(after, fresh, atol=1e-6)


def test_one_event_does_not_silence_what_a_guest_has_said() -> None:
    """Where no user of the training data has a description, only `words` says what one weighs."""
    history = {"item_item": (1.0, 1.0), "text": (0.2, 1.0)}
    fitted = trained(weights=Weights(history, {"text": (0.2, 1.0)}, words=4.0)).fitted
    guest, lamp = new("spade model", SPADE, "guest"), fitted.items.rows(["i01"])
    block = block_of(fitted, guest, lamp, np.array([0.05], np.float32))
    rules = Rules.of(fitted, 3, None, (), None, None, (), 0.0)
    assert set(fitted.items.ids(ranked(block, rules, seen=()).rows)) <= set(SPADES)
