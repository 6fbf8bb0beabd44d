"""With `Fitted.prepare` small requests take a shorter way to the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from recommender import HybridRecommender
from recommender.data.entities import Entities
from recommender.model.fitted import Fitted
from recommender.model.ranking import Rules
from recommender.model.revising import described
from recommender.model.scoring import Block
from recommender.model.single import block_of, ranked
from recommender.model.weights import PARTS
from tests.support.made_up_shop import LAMP, SPADE, entities, events, new, only, trained

EVERYTHING = only(**dict.fromkeys(PARTS, (0.7, 0.9)))


def bought_a_new_item(model: HybridRecommender) -> None:
    users = model.users.take(model.fitted.users.rows(["u00"]))
    items = new("spade and lamp model", LAMP + SPADE, "both")
    model.partial_fit(events(users, items, [(0, 0)]), users, items)


def two_new_items(model: HybridRecommender) -> None:
    for number, vector in enumerate((LAMP, SPADE)):
        items = new("a spade", vector, f"thing{number}", ["category=spade"])
        model.partial_fit(
            events(entities([], [], np.zeros((0, 3))), items, []), entities([], [], np.zeros((0, 3))), items
        )


def other_words(model: HybridRecommender) -> None:
    told = new("spade, once a lamp", SPADE, "i03", ["category=spade"])
    model.__dict__.update(vars(HybridRecommender.of(described(model.fitted, "item", told))))


def other_words_of_old_and_new(model: HybridRecommender) -> None:
    two_new_items(model)
    other_words(model)
    bought_a_new_item(model)
    told = new("a lamp, once a spade", LAMP, "thing1").join(new("lamp model", LAMP + SPADE, "i12", ["category=lamp"]))
    model.__dict__.update(vars(HybridRecommender.of(described(model.fitted, "item", told))))


def other_words_of_most(model: HybridRecommender) -> None:
    items = model.fitted.items.take(np.arange(10))
    told = replace(items, embeddings=items.embeddings[::-1].copy(), descriptions=items.descriptions[::-1])
    model.__dict__.update(vars(HybridRecommender.of(described(model.fitted, "item", told))))


CHANGES: dict[str, Callable[[HybridRecommender], None]] = {
    "nothing": lambda model: None, "a new item in a history": bought_a_new_item, "new items": two_new_items,
    "other words of an item": other_words, "other words of old and new items": other_words_of_old_and_new,
    "other words of most items": other_words_of_most,
}  # fmt: skip


def both(change: str, *, prepared_first: bool = True) -> tuple[Fitted, Fitted]:
    """The same state, without and with what `prepare` computes."""
    found = []
    for prepared in (False, True):
        model = trained(weights=EVERYTHING)
        if prepared and prepared_first:
            model.fitted.prepare()
        CHANGES[change](model)
        if prepared:
            model.fitted.prepare()
        found.append(model.fitted)
    assert found[0].likeness is None
    assert found[1].likeness is not None
    return found[0], found[1]


def users_of(fitted: Fitted) -> Entities:
    """Known users, one whose stored profile is another, and strangers with words and with nothing."""
    known = fitted.users.take(fitted.users.rows(["u00", "u07", "u25", "u39"]))
    other = replace(known.take(np.array([1])), profiles=np.array([[0.2, 0.9, -0.3]], np.float32))
    said = replace(known.take(np.array([2])), descriptions=["a lamp model"], embeddings=LAMP[None])
    stranger = new("spade model", SPADE, "stranger", ["home=farm"])
    return known.join(other).join(said).join(stranger).join(new("", np.zeros(3), "nobody"))


@pytest.mark.parametrize("prepared_first", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_scores_and_parts_are_the_same(change: str, prepared_first: bool) -> None:
    slow, fast = both(change, prepared_first=prepared_first)
    users, items = users_of(slow), np.arange(len(slow.items))
    for rows in (np.arange(len(users)), *(np.array([row]) for row in range(len(users)))):
        one, other = Block.of(slow, users.take(rows)), Block.of(fast, users.take(rows))
        for part in PARTS:
            np.testing.assert_allclose(
                other.standard(part, fast.all_items), one.standard(part, slow.all_items), atol=1e-4, err_msg=part
            )
        total = one.total(slow.all_items)
        np.testing.assert_allclose(other.total(fast.all_items), total, atol=1e-4)
        places = np.zeros(len(items), np.int64), items
        expected = one.parts(slow.all_items, *places)
        for name, values in other.parts(fast.all_items, *places).items():
            np.testing.assert_allclose(values, expected[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("change", CHANGES)
def test_a_session_and_its_sentences_are_the_same(change: str) -> None:
    told = []
    for fitted in both(change):
        user = fitted.users.take(fitted.users.rows(["u07"]))
        block = block_of(fitted, user, fitted.items.rows(["i12", "i13"]), np.ones(2, np.float32))
        told.append(ranked(block, Rules(5), seen=[], explain=True))
    np.testing.assert_allclose(told[1].scores, told[0].scores, atol=1e-4)
    assert told[1].rows.tolist() == told[0].rows.tolist()
    assert told[1].sentences == told[0].sentences


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("item", ["i01", "i09"])
def test_terms_are_the_same(change: str, item: str) -> None:
    slow, fast = (HybridRecommender.of(one).explain("u00", item) for one in both(change))
    merged = slow.merge(fast, on=["term", "kind"], how="outer").fillna(0)
    np.testing.assert_allclose(merged.value_x, merged.value_y, atol=1e-4)


def test_an_item_that_the_recommender_does_not_know_is_scored_the_same() -> None:
    slow, fast = both("nothing")
    scores = [Block.of(one, users_of(one)).total(one.side_of(new("lamp", LAMP, "unknown"))) for one in (slow, fast)]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-4)


def test_a_shop_where_all_items_are_alike_gets_scores_of_ordinary_size() -> None:
    slow, fast = both("nothing")
    same = [
        replace(one, items=type(one.items)(replace(one.items.whole, embeddings=np.ones((20, 3), np.float32))))
        for one in (slow, fast)
    ]
    same[1].prepare()
    scores = [Block.of(one, users_of(one)).total(one.all_items) for one in same]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-3)


def test_states_that_were_made_meanwhile_share_what_is_computed() -> None:
    model = trained()
    older = model.fitted
    bought = model.users.take(model.fitted.users.rows(["u00"])), model.items.take(model.fitted.items.rows(["i12"]))
    model.partial_fit(events(*bought, [(0, 0)]), *bought)
    older.prepare()
    assert model.fitted.likeness is older.likeness


def test_other_words_take_over_what_is_computed() -> None:
    fitted = trained().fitted
    fitted.prepare()
    told = described(fitted, "item", new("spade, once a lamp", SPADE, "i03", ["category=spade"]))
    assert fitted.likeness is not None
    assert told.likeness is not None  # no second is spent on it
    others = np.delete(np.arange(20), 3)
    rows = told.likeness.text[np.ix_(others, others)] - fitted.likeness.text[np.ix_(others, others)]
    np.testing.assert_allclose(rows, np.broadcast_to(rows[:, :1], rows.shape), atol=1e-5)  # the mean alone has moved
    assert np.abs(told.likeness.text[3] - fitted.likeness.text[3]).max() > 0.01


def test_descriptions_that_have_not_changed_leave_the_state_as_it_is() -> None:
    fitted = trained().fitted
    same = fitted.items.take(np.array([3, 12]))
    assert described(fitted, "item", same) is fitted
    other = replace(same, descriptions=[same.descriptions[0], "another lamp"])
    assert described(fitted, "item", other).items.descriptions(np.array([3, 12])) == other.descriptions
