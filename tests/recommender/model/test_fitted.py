"""The state never changes: updates and other parameters give another one, and derived values follow."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from recommender import HybridRecommender
from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.model.bundle import read_bundle, write_bundle
from recommender.model.fitted import Fitted
from recommender.model.scoring import Block
from tests.support.made_up_shop import LAMP, SPADE, entities, events, every_score, new, trained, weighing

DERIVED = ("counts", "demand", "feature_length", "mean_features", "text_directions", "warm_rows")
Update = tuple[Interactions, Entities, Entities]


def of_known(model: HybridRecommender, user: str, item: str, weight: float = 1.0) -> Update:
    users = model.users.take(model.fitted.users.rows([user]))
    items = model.items.take(model.fitted.items.rows([item]))
    return events(users, items, [(0, 0)], weights=[weight]), users, items


def of_new(number: int = 0) -> Update:
    users, items = new("", np.zeros(3), f"fresh{number}"), new("spade model", SPADE, f"thing{number}")
    return events(users, items, [(0, 0)]), users, items


def values_of(fitted: Fitted) -> dict[str, np.ndarray]:
    sides = {f"item {name}": getattr(fitted.all_items, name) for name in ("latent", "bias", "mapped", "rows", "cold")}
    features = fitted.all_items.features
    later, width = len(fitted.items) - len(fitted.neighbour_directions), features.width
    return {
        **{name: np.asarray(getattr(fitted, name)) for name in DERIVED}, **sides, "features": features.toarray(),
        **{f"{name} {of}": np.asarray(getattr(getattr(fitted, name), of))
           for name in ("latent_moments", "mapped_moments") for of in ("mean", "covariance", "length")},
        # Those of items that came after the fit are zeros: they may be left out.
        "neighbours": np.vstack([fitted.neighbour_directions, np.zeros((later, width), np.float32)]),
        "in partners": fitted.in_partners(np.arange(-1, len(fitted.items))),
    }  # fmt: skip


def asked(model: HybridRecommender) -> None:
    """Every derived value is computed."""
    model.recommend(model.users.ids, k=3, explain=True)
    values_of(model.fitted)


def assert_as_if_computed_anew(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(fitted, folder, {})
    anew = values_of(read_bundle(folder))
    for name, value in values_of(fitted).items():
        np.testing.assert_allclose(value, anew[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("before", ["nothing was computed", "everything was computed"])
@pytest.mark.parametrize("what", ["a known pair", "a known user and item", "a new user and item"])
def test_derived_values_after_an_update_are_those_of_a_bundle_loaded_anew(
    before: str, what: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = trained()
    if before == "everything was computed":
        asked(model)
    model.partial_fit(*{"a known pair": of_known(model, "u00", "i01"), "a new user and item": of_new(),
                        "a known user and item": of_known(model, "u03", "i15", 0.5)}[what])  # fmt: skip
    assert_as_if_computed_anew(model.fitted, tmp_path_factory)


def test_derived_values_after_many_updates_are_those_of_a_bundle_loaded_anew(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    model = trained()
    asked(model)
    for number in range(30):
        model.partial_fit(*(of_new(number) if number % 3 else of_known(model, f"u{number:02}", "i15", 0.5)))
        if number % 7 == 0:
            asked(model)
    assert_as_if_computed_anew(model.fitted, tmp_path_factory)


def test_derived_values_after_other_parameters_are_those_of_a_bundle_loaded_anew(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    model = trained()
    asked(model)
    other = model.with_parameters(alpha=2.0, weights=weighing(attribute_popularity=(1.0, 0.0)))
    assert_as_if_computed_anew(other.fitted, tmp_path_factory)
    assert not np.allclose(every_score(other), every_score(model))


def test_another_weight_shares_every_array() -> None:
    model = trained()
    asked(model)
    other = model.with_parameters(alpha=2.0).fitted
    for name in DERIVED:
        assert getattr(other, name) is getattr(model.fitted, name) or name == "text_directions", name
    assert np.shares_memory(other.text_directions, model.fitted.text_directions)
    assert other.neighbour_directions is model.fitted.neighbour_directions
    assert other.all_items is model.fitted.all_items


def test_a_state_cannot_be_assigned_to() -> None:
    with pytest.raises(FrozenInstanceError):
        trained().fitted.item_metric = np.zeros((1, 1))  # type: ignore[misc]


def test_an_update_leaves_the_older_state_as_it_was() -> None:
    model = trained()
    older = HybridRecommender.of(model.fitted)
    scores, profiles = every_score(older).copy(), older.users.profiles.copy()
    for number in range(3):
        model.partial_fit(*of_new(number))
        model.partial_fit(*of_known(model, "u03", "i15"))
    np.testing.assert_array_equal(every_score(older), scores)
    np.testing.assert_array_equal(older.users.profiles, profiles)
    assert (len(older.users), len(model.users)) == (40, 43)
    assert older.fitted.users.row("fresh0") == -1


def test_two_updates_of_one_state_do_not_see_each_other() -> None:
    start = trained().fitted
    one, other = HybridRecommender.of(start), HybridRecommender.of(start)
    one.partial_fit(*of_new(1))
    other.partial_fit(*of_new(2))
    assert (one.users.ids[-1], other.users.ids[-1]) == ("fresh1", "fresh2")
    assert (one.fitted.users.row("fresh2"), other.fitted.users.row("fresh1")) == (-1, -1)
    assert one.recommend("fresh1", k=1).tier.tolist() == other.recommend("fresh2", k=1).tier.tolist() == ["warm"]


def test_an_update_shares_what_it_does_not_touch() -> None:
    model = trained()
    asked(model)
    before = model.fitted
    after = model.partial_fit(*of_known(model, "u03", "i15")).fitted
    for name in ("item_metric", "item_item", "factors", "user_space", "item_space", "maps", "trends"):
        assert getattr(after, name) is getattr(before, name), name
    assert after.all_items is before.all_items


def test_readers_on_eight_threads_get_the_answer_of_one_state_while_a_hundred_updates_go_on() -> None:
    model = trained()
    users = model.users.ids[:5]
    item = new("spade model", SPADE, "asked")
    states, found, done = [model.fitted], [], threading.Event()

    def read() -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
        answers = []
        while not done.wait(0.01) or not answers:  # a pause, so that the updates get on
            scores, demand = model.score(users, item), model.score(None, item)
            answers.append((scores, demand, model.recommend("u03", 5).item_id.tolist()))
        return answers

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(8)]
        for number in range(100):
            update = of_new(number) if number % 2 else of_known(model, f"u{number % 40:02}", "i15", 2.0)
            states.append(model.partial_fit(*update).fitted)
        done.set()
        found = [answer for reader in readers for answer in reader.result()]
    possible = [HybridRecommender.of(state) for state in states]
    scores = {one.score(users, item).tobytes() for one in possible}
    demand = {one.score(None, item).tobytes() for one in possible}
    lists = {tuple(one.recommend("u03", 5).item_id) for one in possible}
    assert {answer[0].tobytes() for answer in found} <= scores
    assert {answer[1].tobytes() for answer in found} <= demand
    assert {tuple(answer[2]) for answer in found} <= lists
    assert len(scores) > 10


def test_readers_of_a_state_that_nobody_asked_before_agree() -> None:
    fitted = replace(trained().fitted)  # without derived values
    users = fitted.users.take(np.arange(40))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: Block.of(fitted, users).total(fitted.all_items), range(8)))
    for answer in answers:
        np.testing.assert_array_equal(answer, answers[0])


def test_a_user_with_words_is_updated_like_one_without() -> None:
    model, user = trained(), new("lamp please", LAMP, "told")
    things = entities(["i12"], [""], np.zeros((1, 3)))
    model.partial_fit(events(user, things, [(0, 0)]), user, things)
    row = model.fitted.users.rows(["told"])
    np.testing.assert_allclose(model.fitted.users.profiles.take(row)[0], model.items.embeddings[12], atol=1e-6)
    np.testing.assert_allclose(model.fitted.users.embeddings.take(row)[0], LAMP)
