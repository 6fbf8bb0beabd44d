"""A score split into terms: they add up, each is what it says, and people can read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.text.words import tokens
from recommender.data.entities import Entities
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.model.requests import UnknownIdError
from recommender.model.weights import PARTS
from tests.support.made_up_shop import (
    COLD_ITEMS,
    LAMP,
    SPADE,
    events,
    made_up_shop,
    new,
    only,
    shared,
    trained,
    weighing,
)

KINDS = {
    "constant", "popularity", "bought", "history", "word", "description",
    "lightfm bias", "lightfm identity", "lightfm word", "lightfm attribute", "lightfm map", "predicted profile",
    "newness",
}  # fmt: skip


class BagOfWords:
    """An encoder without a model: a text is the sum of what its words mean. What it is asked for is kept."""

    fingerprint, dimensions = "stub", 3

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str], prompt: str = "document") -> np.ndarray:
        self.asked += texts
        vectors = np.zeros((len(texts), 3), np.float32)
        for row, text in enumerate(texts):
            for word in tokens(text):
                vectors[row] += LAMP * word.startswith("lamp") + SPADE * word.startswith("spade")
        return vectors


@pytest.fixture(scope="module")
def model() -> HybridRecommender:
    return shared()


def told(text: str, user: Entities) -> Entities:
    """The same user with words."""
    return replace(user, descriptions=[text], embeddings=BagOfWords().encode([text]))


def adds_up(model: HybridRecommender, user: Any, item: Any, **how: Any) -> pd.DataFrame:
    table = model.explain(user, item, **how)
    score = model.score(user, item, **{key: value for key, value in how.items() if key != "encoder"})
    assert table.value.sum() == pytest.approx(float(score[0, 0]), abs=5e-6)
    assert table.columns.tolist() == ["term", "kind", "value"]
    assert set(table.kind) <= KINDS
    assert table.value.abs().is_monotonic_decreasing
    assert np.isfinite(table.value).all()
    return table


@pytest.mark.parametrize("item", ["i00", "i03", "i09", "i15", "i19"])
def test_terms_add_up_for_warm_users_and_warm_and_new_items(model: HybridRecommender, item: str) -> None:
    for user in ("u00", "u25"):
        table = adds_up(model, user, item)
        assert {"bought", "lightfm bias", "constant"} <= set(table.kind)
        assert set(table.term[table.kind == "bought"]) <= set(model.items.descriptions)


@pytest.mark.parametrize("encoder", [None, BagOfWords()])
def test_terms_add_up_for_words_with_and_without_an_encoder(
    model: HybridRecommender, encoder: BagOfWords | None
) -> None:
    stranger = told("two spades please", new("", SPADE))
    warm = told("a garden spade", model.users.take(np.array([0])))
    for user in (stranger, warm):
        for item in ("i10", "i00", "i19"):
            table = adds_up(model, user, item, encoder=encoder)
            # Spades, in the plural, have no column of their own: only the encoder hears them.
            assert ("word" in set(table.kind)) == (encoder is not None or user is warm)
    table = model.explain(stranger, "i10", encoder=encoder)
    assert not set(table.kind) & {"bought", "history", "lightfm bias", "lightfm identity"}


def test_without_an_encoder_a_known_word_counts_what_its_own_column_adds(model: HybridRecommender) -> None:
    table = adds_up(model, new("a spade, the unheard of kind", SPADE), "i10")
    words = table.query("kind == 'word'").set_index("term").value
    assert words.index.tolist() == ["spade"]  # nothing else has a column
    assert words["spade"] > 0
    # The encoder's vector is a term of its own.
    assert table.query("kind == 'description'").term.item() == "a spade, the unheard of kind"


def beside_history(table: pd.DataFrame) -> pd.Series:
    """The terms of words in units of what the history adds: the scale, that all terms of a part share, is left out."""
    return table.query("kind == 'word'").set_index("term").value / table.query("kind == 'bought'").value.sum()


@pytest.fixture(scope="module")
def of_text(model: HybridRecommender) -> HybridRecommender:
    """Scores of text alone: of what a user has, and of what they say."""
    return model.with_parameters(weights=only(text=(1.0, 1.0)))


def test_a_word_of_who_has_a_history_adds_its_column_as_often_as_alpha_says(of_text: HybridRecommender) -> None:
    user = replace(of_text.users.take(np.array([30])), descriptions=["a lamp"])
    found = [
        beside_history(adds_up(of_text.with_parameters(alpha=alpha), user, "i00"))["lamp"]
        for alpha in (1.0, 2.0, 6.0)
    ]
    np.testing.assert_allclose(found, found[0] * np.array([1, 2, 6]), rtol=1e-4)
    assert abs(found[0]) > 0.01


def test_a_word_counts_what_leaving_it_out_takes_away(of_text: HybridRecommender) -> None:
    encoder, user = BagOfWords(), of_text.users.take(np.array([25]))
    table = adds_up(of_text, told("spade or lamp", user), "i10", encoder=encoder)
    assert encoder.asked == ["or lamp", "spade lamp", "spade or"]

    def together(text: str) -> float:
        terms = of_text.explain(told(text, user), "i10").groupby("kind").value.sum()
        return float((terms.get("word", 0) + terms.get("description", 0)) / terms["bought"])

    words, whole = beside_history(table), together("spade or lamp")
    assert words["spade"] == pytest.approx(whole - together("or lamp"), abs=1e-5)
    assert words["lamp"] == pytest.approx(whole - together("spade or"), abs=1e-5)
    assert words["spade"] > 0 > words["lamp"]
    assert "or" not in words  # it moves nothing, so it is no term


def test_a_words_share_is_the_same_in_a_shop_whose_users_have_numbers_for_names() -> None:
    interactions, users, items = made_up_shop()
    numbers = [str(n) for n in range(40)]
    shares = []
    for ids in (users.ids, numbers):
        people, done = replace(users, ids=ids), replace(interactions, user_ids=ids)
        settings = Parameters(components=8, epochs=5, weights=weighing(predicted_profile=(5.0, 0.0)))
        model = HybridRecommender(settings).fit(done, people, items)
        farmer = told("one spade please", new("", SPADE, attributes=["home=farm"]))
        shares.append(model.explain(farmer, "i10", encoder=BagOfWords()))
    pd.testing.assert_frame_equal(*shares)


def test_terms_add_up_for_who_is_unknown_and_for_strangers(model: HybridRecommender) -> None:
    unknown = adds_up(model, "who", "i00", unknown="popularity")
    assert set(unknown.kind) == {"popularity"}
    thing = new("lamp model new", LAMP, "thing", ["category=lamp"])
    for user in ("u00", new("a lamp", LAMP)):
        adds_up(model, user, thing)
    adds_up(model, "u00", "nothing", unknown="popularity")
    assert "lightfm identity" not in set(adds_up(model, "u00", thing).kind)


def test_terms_add_up_with_other_profiles_and_say_so(model: HybridRecommender) -> None:
    own = model.users.profiles[[0]]
    assert "history" not in set(adds_up(model, "u00", "i10", profiles=own).query("abs(value) > 1e-5").kind)
    since = adds_up(model, "u00", "i10", profiles=own + 5 * SPADE).set_index("kind")
    assert since.loc["history", "term"] == "history since training"
    assert since.loc["history", "value"] > 0
    adds_up(model, new("", np.zeros(3)), "i10", profiles=5 * SPADE[None])


def test_terms_add_up_with_every_part_switched_on() -> None:
    weights = weighing(cold_offset=-0.3, **dict.fromkeys(PARTS, (2.0, 0.5)))
    model = trained(weights=weights, evidence_scale=3.0, lightfm_seeds=2)
    farmer = new("", np.zeros(3), attributes=["home=farm"])
    for user in ("u00", farmer, told("a lamp", farmer), told("a lamp", model.users.take(np.array([30])))):
        for item in ("i00", "i19", new("spade", SPADE)):
            adds_up(model, user, item, encoder=BagOfWords())
    new_item = model.explain("u00", "i19").set_index("term")
    assert new_item.value["new item"] == pytest.approx(-0.3)


def test_terms_add_up_after_new_interactions_without_training() -> None:
    model = trained()
    items, fresh = model.items.take(np.array([0, 12])), new("", np.zeros(3), "fresh")
    model.partial_fit(events(fresh, items, [(0, 0), (0, 1)]), fresh, items)
    table = adds_up(model, "fresh", "i10")
    assert set(table.term[table.kind == "bought"]) == {"lamp model 0", "spade model 2"}


def test_the_constant_takes_up_nothing_but_the_users_average_item(model: HybridRecommender) -> None:
    # It takes up what the other terms do not explain: a term that was wrong would show here.
    fitted = model.fitted
    for user in ("u00", "u25", told("a spade", model.users.take(np.array([3])))):
        entity = model.users.take(fitted.users.rows([user])) if isinstance(user, str) else user
        latent = (fitted.user_space.matrix(entity) @ fitted.factors.users)[0]
        warm = fitted.warm_items
        for place, row in enumerate(fitted.warm_rows):
            table = model.explain(user, model.items.ids[row]).set_index("kind").value
            # All of LightFM's terms have one factor.
            average, bias = float(latent @ warm.latent.mean(axis=0)), float(warm.bias[place] - warm.bias.mean())
            assert table["constant"] * bias == pytest.approx(-table["lightfm bias"] * average, abs=1e-6)


def test_the_twin_of_what_is_asked_contributes_most(model: HybridRecommender) -> None:
    # u00 has lamps 1, 2, 4, 5, 7 and 8.
    for place in (1, 5, 8):
        twin = new(f"lamp model {place}", model.items.embeddings[place], "twin")
        bought = adds_up(model, "u00", twin).query("kind == 'bought'")
        assert bought.term.iloc[bought.value.argmax()] == f"lamp model {place}"


def test_one_user_and_one_item_are_asked_at_a_time(model: HybridRecommender) -> None:
    with pytest.raises(ColdStartError, match="one user and one item; 1 and 2 were given"):
        model.explain("u00", ["i00", "i01"])
    with pytest.raises(ColdStartError, match="0 and 1 were given"):
        model.explain([], "i00")
    with pytest.raises(UnknownIdError, match="item_ids are not among the 20"):
        model.explain("u00", "i99")


def test_every_row_of_a_list_can_say_why(model: HybridRecommender) -> None:
    plain = model.recommend(["u00", "u30"], k=3)
    ranking = model.recommend(["u00", "u30"], k=3, explain=True)
    assert ranking.drop(columns="because").equals(plain)
    assert all("goes with lamp model" in text for text in ranking.because[ranking.user_id == "u00"])
    assert all("goes with spade model" in text for text in ranking.because[ranking.user_id == "u30"])
    stranger = model.recommend(told("one spade", new("", SPADE)), k=2, explain=True)
    assert all("answers the words spade" in text for text in stranger.because)
    assert not any(text.count("answers") > 1 for text in stranger.because)
    assert model.recommend("who", k=2, unknown="popularity", explain=True).because.str.len().gt(0).all()
    alone = model.recommend("u30", k=3, explain=True)
    assert alone.because.tolist() == ranking.because[3:].tolist()


def test_of_what_nobody_has_no_sentence_says_that_many_have_it() -> None:
    raised = trained(weights=weighing(cold_offset=5.0))
    ranking = raised.recommend("who", k=4, unknown="popularity", explain=True).set_index("item_id").because
    assert all("things like it sell" in ranking[name] and "many" not in ranking[name] for name in COLD_ITEMS)
    assert all("many have it" in text for text in ranking.drop(COLD_ITEMS))


def test_what_a_user_did_since_training_is_a_reason(model: HybridRecommender) -> None:
    since = SPADE[None] * 2_000
    ranking = model.recommend("u00", k=3, profiles=since, explain=True)
    assert all("goes with what the user did lately" in text for text in ranking.because)


def test_a_user_who_is_asked_for_twice_is_told_each_time_of_the_profile_that_was_given(
    model: HybridRecommender,
) -> None:
    own, other = model.users.profiles[0], model.users.profiles[0] + 500 * SPADE
    twice = model.recommend(["u00", "u00"], k=1, profiles=np.stack([own, other]), explain=True)
    alone = [model.recommend("u00", k=1, profiles=one[None], explain=True).because[0] for one in (own, other)]
    assert twice.because.tolist() == alone
    assert alone[0] != alone[1]


def test_why_is_told_of_the_profiles_that_were_given(model: HybridRecommender) -> None:
    ranking = model.recommend("u00", k=1, profiles=model.users.profiles[[0]] + 500 * SPADE, explain=True)
    assert ranking.item_id[0] in {f"i{n}" for n in range(10, 20)}
    table = model.explain("u00", ranking.item_id[0], profiles=model.users.profiles[[0]] + 500 * SPADE)
    assert table.kind[0] == "history"
    assert ranking.because[0] != "nothing speaks for it but that the others are less likely"
