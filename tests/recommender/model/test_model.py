"""The recommender's scores on a made-up shop: who gets what, on which tier, and that nothing else moves a score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError, FingerprintError
from recommender.data.entities import Entities, with_history
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.model.requests import UnknownIdError
from recommender.model.tables import activity
from recommender.model.weights import PARTS as PARTS_OF_SCORES
from tests.support.made_up_shop import (
    COLD_ITEMS,
    LAMP,
    LAMPS,
    SPADE,
    SPADES,
    column,
    entities,
    events,
    every_score,
    made_up_shop,
    new,
    only,
    shared,
    trained,
    weighing,
)  # fmt: skip

PARTS = ["popularity", "lightfm", "history", "text"]


@pytest.fixture(scope="module")
def model() -> HybridRecommender:
    return shared()


# -- the ladder: warm, cold, unknown ------------------------------------------------------------------


def test_a_warm_user_is_offered_more_of_his_taste_and_nothing_he_has(model: HybridRecommender) -> None:
    ranking = model.recommend("u00", k=4)
    assert set(ranking.item_id) == {"i00", "i03", "i06", "i09"}
    assert ranking["rank"].tolist() == [1, 2, 3, 4]
    assert ranking.score.is_monotonic_decreasing
    assert set(ranking.tier) == {"warm"}
    assert model.recommend("u00", k=20, exclude_seen=False).shape[0] == 20


def test_a_user_who_does_not_exist_is_understood_by_his_words(model: HybridRecommender) -> None:
    ranking = model.recommend(new("spade please", SPADE), k=10)
    assert set(ranking.item_id) == set(SPADES)
    assert set(ranking.tier) == {"cold"}
    np.testing.assert_allclose(ranking.history, 0, atol=1e-5)
    assert (ranking.lightfm == 0).all()


@pytest.mark.parametrize("common", [0, 1, 3])
def test_a_sentence_is_understood_however_much_all_texts_have_in_common(common: float) -> None:
    rng = np.random.default_rng(0)
    kinds = np.eye(6) + common
    kinds /= np.linalg.norm(kinds, axis=1, keepdims=True)
    of_item = np.repeat(np.arange(6), 8)
    vectors = kinds[of_item] + rng.normal(scale=0.01, size=(48, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # Items of the first kind are unlike the others in their attributes.
    labels = [[f"shelf={n // 2}" if n < 8 else "shelf=top"] for n in range(48)]
    items = entities([f"i{n:02}" for n in range(48)], [""] * 48, vectors, labels)
    users = entities([f"u{n:02}" for n in range(24)], [""] * 24, np.zeros((24, 6)))
    bought = events(users, items, [(u, 8 * (u % 6) + i) for u in range(24) for i in range(8)])
    parameters = Parameters(components=4, epochs=2, metric_ridge=8.0, weights=only(text=(1.0, 1.0)))
    model = HybridRecommender(parameters).fit(bought, *with_history(bought, users, items))
    for kind in range(6):
        ranking = model.recommend(new("", kinds[kind]), k=8)
        assert {int(name[1:]) // 8 for name in ranking.item_id} == {kind}


def test_words_alone_are_understood_where_the_encoder_says_nothing(model: HybridRecommender) -> None:
    ranking = model.recommend(new("a spade", np.zeros(3, np.float32)), k=10)
    assert set(ranking.item_id) == set(SPADES)


@pytest.mark.parametrize(
    ("sentence", "like_it", "spade"),
    [
        ("I am looking for a spade", "lamp I am", "spade"),
        ("Ich suche einen Spaten für den Garten", "Lampe für den Flur", "Spaten"),
        ("Busco una pala para mi jardín", "Lámpara para mi casa", "pala"),
        ("Je cherche une bêche pour le jardin", "Lampe pour le salon", "bêche"),
        ("我 想 给 花园 买 一 个 铲子", "给 我 的 台灯", "铲子"),
        ("庭 の ため に スコップ を 探して います", "居間 の ため に ランプ", "スコップ"),
    ],
)
def test_function_words_of_a_sentence_speak_for_no_item(sentence: str, like_it: str, spade: str) -> None:
    _, users, items = made_up_shop()
    texts = [*(f"{like_it} {n}" for n in range(10)), *(f"{spade} {n}" for n in range(10))]
    items = replace(items, descriptions=texts)
    bought = events(users, items, [(u, 10 * (u // 20) + i) for u in range(40) for i in range(9) if (u + i) % 3])
    weights = only(text=(1.0, 1.0))
    model = HybridRecommender(Parameters(components=4, epochs=2, weights=weights)).fit(
        bought, *with_history(bought, users, items)
    )
    ranking = model.recommend(new(sentence, np.zeros(3, np.float32)), k=20, explain=True)
    assert set(ranking.item_id[:10]) == set(SPADES)
    assert (ranking.because[:10] == f"answers the words {spade.casefold()}").all()


def test_a_user_with_attributes_alone_gets_what_is_popular_among_such_users() -> None:
    model = trained(weights=only(popularity=(0.3, 0.3), attribute_popularity=(1.0, 1.0)))
    nothing = np.zeros(3, np.float32)
    for home, wanted in (("home=farm", SPADES), ("home=flat", LAMPS)):
        ranking = model.recommend(new("", nothing, attributes=[home]), k=9)
        assert set(ranking.item_id) == set(wanted) - set(COLD_ITEMS)
        assert set(ranking.tier) == {"cold"}
    same = model.score(new("", nothing), model.items.ids)
    np.testing.assert_array_equal(model.score(new("", nothing, attributes=["home=ship"]), model.items.ids), same)


def test_a_users_attributes_move_scores_the_less_the_longer_his_history_is() -> None:
    newcomer = new("", np.zeros(3, np.float32), "fresh", ["home=farm"])
    moved = []
    for n in (0, 1, 5, 15):
        heard = trained(weights=weighing(attribute_popularity=(1.0, 0.0)))
        things = heard.items.take(np.arange(n))
        if n:
            heard.partial_fit(events(newcomer, things, [(0, k) for k in range(n)]), newcomer, things)
        deaf = heard.with_parameters(weights=weighing(attribute_popularity=(0.0, 0.0)))
        user = "fresh" if n else newcomer
        moved.append(np.abs(heard.score(user, LAMPS) - deaf.score(user, LAMPS)).max())
    # 1 - n/(n + 5) of what they move without a history.
    np.testing.assert_allclose(moved, moved[0] * np.array([1, 5 / 6, 1 / 2, 1 / 4]), rtol=1e-4)
    assert moved[0] > 0.1


def test_attributes_are_mapped_to_taste_where_that_is_switched_on() -> None:
    farmer = new("", np.zeros(3, np.float32), attributes=["home=farm"])
    ranking = trained(weights=weighing(predicted_profile=(5.0, 0.0))).recommend(farmer, k=10)
    assert set(ranking.item_id) == set(SPADES)
    assert (ranking.text > 0).all()


def test_words_and_attributes_of_a_newcomer_are_weighed_apart() -> None:
    farmer = new("", np.zeros(3, np.float32), attributes=["home=farm"])
    speaking = new("spade please", np.zeros(3, np.float32))
    attributes = trained(weights=weighing(predicted_profile=(5.0, 0.0), text=(0.0, 0.0)))
    assert set(attributes.recommend(farmer, k=10).item_id) == set(SPADES)
    assert (attributes.recommend(speaking, k=10).text == 0).all()
    words = trained(weights=weighing(predicted_profile=(0.0, 0.0), text=(5.0, 0.0)))
    assert (words.recommend(farmer, k=10).text == 0).all()
    assert set(words.recommend(speaking, k=10).item_id) == set(SPADES)


def test_a_product_that_does_not_exist_finds_the_right_users(model: HybridRecommender) -> None:
    audience = model.audience(new("lamp model new", LAMP), k=20)
    assert set(audience.user_id) == {f"u{n:02}" for n in range(20)}
    assert all(text.startswith("lamp") for text in audience.bought_alike)
    assert set(audience.tier) == {"cold"}
    assert audience["rank"].tolist() == list(range(1, 21))
    assert set(model.audience(["i00", "i09"], k=3).groupby("item_id").tier.first().items()) == {
        ("i00", "warm"), ("i09", "cold"),
    }  # fmt: skip


def test_an_audience_holds_the_scores_and_nobody_who_has_the_item(model: HybridRecommender) -> None:
    audience = model.audience("i02", k=40)
    scores = dict(zip(model.users.ids, every_score(model)[:, 2], strict=True))
    pairs = audience.score - audience.activity
    np.testing.assert_allclose(pairs, [scores[name] for name in audience.user_id], atol=1e-5)
    assert audience.score.is_monotonic_decreasing
    assert len(audience) == 40 - sum((u + 2) % 3 > 0 for u in range(20))
    assert len(model.audience("i02", k=40, exclude_seen=False)) == 40


def test_of_two_users_with_the_same_taste_the_more_active_one_comes_first_in_an_audience() -> None:
    found = activity(np.array([0.0, 2.0, 2.0], np.float32), np.array([[1, 2], [1, 2], [3, 2]], np.float32))
    assert found[1, 0] - found[0, 0] == pytest.approx(3 * 2.0)
    assert found[2, 0] > found[1, 0]
    assert found[2, 1] == found[1, 1]  # of an item to which all users are alike


def test_unknown_ids_raise_or_get_popularity_labelled(model: HybridRecommender) -> None:
    with pytest.raises(UnknownIdError, match=r"1 of 2 user_ids.*'who'"):
        model.recommend(["u00", "who"])
    ranking = model.recommend(["who", "u00"], k=3, unknown="popularity")
    assert ranking.groupby("user_id").tier.first().to_dict() == {"who": "unknown", "u00": "warm"}
    who = ranking[ranking.user_id == "who"]
    np.testing.assert_allclose(who.score, who.popularity, atol=1e-6)
    with pytest.raises(ColdStartError, match="'raise' and 'popularity'"):
        model.score("who", "i00", unknown="zero")


def test_the_rung_of_each_answer_is_the_same_alone_and_beside_others(model: HybridRecommender) -> None:
    nothing = np.zeros(3, np.float32)
    asked = model.users.take(np.array([3])).join(new("a spade", SPADE, "told")).join(new("", nothing, "nobody"))
    asked = asked.join(new("", nothing, "farmer", ["home=farm"]))
    together = model.recommend(asked, k=1)
    assert together.tier.tolist() == ["warm", "cold", "unknown", "cold"]
    alone = [model.recommend(asked.take(np.array([row])), k=1).tier[0] for row in range(4)]
    assert together.tier.tolist() == alone


def test_what_is_equally_popular_stays_equal_for_who_is_unknown() -> None:
    # Eight users, each of whom bought one of eight items: a deviation of zero, or of rounding, is not divided by.
    users = entities([f"u{n}" for n in range(8)], [""] * 8, np.zeros((8, 3)))
    items = entities([f"i{n}" for n in range(8)], ["thing"] * 8, np.tile(LAMP, (8, 1)))
    shop = events(users, items, [(n, n) for n in range(8)])
    model = HybridRecommender(Parameters(components=2, epochs=1)).fit(shop, *with_history(shop, users, items))
    np.testing.assert_array_equal(model.score("who", items.ids, unknown="popularity"), np.zeros((1, 8)))
    assert model.recommend("who", 3, unknown="popularity").item_id.tolist() == ["i0", "i1", "i2"]


# -- a score is a score -------------------------------------------------------------------------------


def test_a_score_does_not_depend_on_what_else_is_asked(model: HybridRecommender) -> None:
    everything = every_score(model)
    assert everything.shape == (40, 20)
    assert everything.dtype == np.float32
    np.testing.assert_allclose(model.score("u07", "i13"), everything[7:8, 13:14], atol=1e-5)
    np.testing.assert_allclose(model.score(["u30", "u07"], ["i19", "i02", "i09"]),
                               everything[np.ix_([30, 7], [19, 2, 9])], atol=1e-5)  # fmt: skip
    ranking = model.recommend("u07", k=3)
    np.testing.assert_allclose(ranking.score, everything[7, column(model, *ranking.item_id)], atol=1e-5)


def test_features_that_are_the_known_ones_score_like_their_ids(model: HybridRecommender) -> None:
    users, items = model.users.take(np.arange(5, 9)), model.items.take(np.array([19, 0, 9]))
    np.testing.assert_allclose(model.score(users, items), model.score(users.ids, items.ids), atol=1e-5)


def test_a_stranger_scores_the_same_alone_and_in_company(model: HybridRecommender) -> None:
    stranger, other = new("a lamp", LAMP), new("a spade", SPADE, "other")
    alone = model.score(stranger, model.items.ids)
    np.testing.assert_allclose(model.score(other.join(stranger), model.items.ids)[1:], alone, atol=1e-5)
    np.testing.assert_allclose(model.score("u01", stranger), model.score("u01", other.join(stranger))[:, 1:], atol=1e-5)


def test_users_are_scored_in_blocks_and_in_large_shops_with_the_same_result(
    model: HybridRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, ranking = every_score(model), model.recommend(model.users.ids, k=5)
    audience = model.audience(["i09", "i00"], k=5)
    monkeypatch.setattr("recommender.model.scoring._BLOCK", 150)
    np.testing.assert_allclose(every_score(model), wanted, atol=1e-5)
    again = model.recommend(model.users.ids, k=5)
    assert again.item_id.tolist() == ranking.item_id.tolist()
    assert again["rank"].tolist() == ranking["rank"].tolist()
    assert model.audience(["i09", "i00"], k=5).user_id.tolist() == audience.user_id.tolist()
    monkeypatch.setattr("recommender.model.user_side.MOST_ITEMS", 10)
    np.testing.assert_allclose(every_score(model), wanted, atol=1e-5)


def test_those_who_did_one_thing_that_nobody_else_did_do_not_hush_the_history_of_the_others() -> None:
    interactions, users, items = made_up_shop()
    alone = [f"{n}" for n in range(40)]
    more_users = entities([*users.ids, *(f"u-{n}" for n in alone)], [""] * 80, np.zeros((80, 3)))
    texts = [*items.descriptions, *(f"oddity {n}" for n in alone)]
    vectors = np.vstack([items.embeddings, np.tile([0.1, 0.1, 1.0], (40, 1))])
    more_items = entities([*items.ids, *(f"i-{n}" for n in alone)], texts, vectors)
    pairs = [*zip(interactions.users.tolist(), interactions.items.tolist(), strict=True)]
    more = events(more_users, more_items, [*pairs, *((40 + n, 20 + n) for n in range(40))])
    beside = HybridRecommender(shared().parameters).fit(more, *with_history(more, more_users, more_items))

    def spread(model: HybridRecommender) -> float:
        sold = {*LAMPS, *SPADES} - {*COLD_ITEMS}
        model = model.with_parameters(weights=only(item_item=(1.0, 1.0)))
        ranking = model.recommend("u00", k=20, among=sold, exclude_seen=False)
        return float(ranking.history.max() - ranking.history.min())

    assert spread(beside) > 0.8 * spread(shared())


def test_the_four_parts_add_up_to_the_score(model: HybridRecommender) -> None:
    both = model.users.take(np.array([4])).join(new("x spade", LAMP))
    asked = [
        model.recommend(["u00", "u25"], k=20), model.recommend(both, k=20),
        model.audience(["i05", "i19"], k=40).eval("score = score - activity"),
        model.recommend("who", unknown="popularity"),
        trained(weights=weighing(**dict.fromkeys(PARTS_OF_SCORES, (1.0, 0.5)))).recommend(both, k=20),
    ]  # fmt: skip
    for ranking in asked:
        np.testing.assert_allclose(ranking[PARTS].sum(axis=1), ranking.score, atol=1e-6)


def test_each_part_is_where_it_comes_from() -> None:
    model = trained(weights=weighing(predicted_profile=(0.0, 0.0)))  # which attributes have too
    silent = model.recommend("u00", k=20, exclude_seen=False)
    assert (silent.text == 0).all()
    assert silent.history.std() > 0.1
    assert silent.lightfm.std() > 0.01
    told = replace(model.users.take(np.array([0])), embeddings=SPADE[None], descriptions=["spade"])
    spoken = model.recommend(told, k=20, exclude_seen=False).set_index("item_id")
    silent = silent.set_index("item_id")
    assert (spoken.text[SPADES].mean() > spoken.text[LAMPS].mean()) & (spoken.text.std() > 0.01)
    for part in ("popularity", "lightfm"):
        np.testing.assert_allclose(spoken[part][silent.index], silent[part], atol=1e-5)
    assert spoken.history[LAMPS].min() > spoken.history[SPADES].max()


def test_more_weight_of_a_description_moves_a_user_towards_his_words(model: HybridRecommender) -> None:
    told = replace(model.users.take(np.array([0])), embeddings=SPADE[None], descriptions=["spade"])
    means = [
        model.with_parameters(alpha=alpha).score(told, SPADES).mean() - model.score("u00", SPADES).mean()
        for alpha in (0.0, 1.0, 10.0)
    ]
    assert means[0] == pytest.approx(0, abs=1e-5)
    assert means[0] < means[1] < means[2]


# -- expected demand ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden() -> HybridRecommender:
    """30 golden things that 31 to 60 users have, 30 grey ones that one to 30 have."""
    users = entities([f"u{n:02}" for n in range(60)], [""] * 60, np.zeros((60, 3)))
    texts = [f"{colour} thing {n}" for colour in ("golden", "grey") for n in range(30)]
    items = entities([f"i{n:02}" for n in range(60)], texts, np.repeat([LAMP, SPADE], 30, axis=0))
    pairs = [(u, n) for n in range(30) for u in range(31 + n)] + [(u, 30 + n) for n in range(30) for u in range(1 + n)]
    shop = events(users, items, pairs)
    return HybridRecommender(Parameters(components=4, epochs=2)).fit(shop, *with_history(shop, users, items))


def test_expected_demand_ranks_items_by_their_buyers_as_percentiles(golden: HybridRecommender) -> None:
    demand = golden.score(None, golden.items.ids)
    assert demand.shape == (1, 60)
    percentiles = (np.arange(60) + 0.5) / 60 * 100
    np.testing.assert_allclose(demand[0, 30:], percentiles[:30], atol=1e-4)
    np.testing.assert_allclose(demand[0, :30], percentiles[30:], atol=1e-4)
    assert golden.score(None, "i03")[0, 0] == demand[0, 3]


def test_a_new_item_gets_the_demand_that_its_words_let_expect(golden: HybridRecommender) -> None:
    fresh = new("golden thing", LAMP, "a").join(new("grey thing", SPADE, "b")).join(new("", np.zeros(3), "c"))
    gold, grey, nothing = golden.score(None, fresh)[0]
    assert grey < nothing < gold
    mean = np.log1p([*range(1, 61)]).mean()  # of nothing known, the mean of the logarithms
    assert nothing == pytest.approx(np.mean(np.log1p(np.arange(1, 61)) < mean) * 100, abs=1e-3)
    np.testing.assert_allclose(golden.score(None, fresh.take(np.array([0])))[0, 0], gold)
    assert golden.score(None, "who", unknown="popularity")[0, 0] == pytest.approx(nothing)


# -- profiles= ----------------------------------------------------------------------------------------


def test_the_same_profiles_give_identical_scores_and_others_take_their_place(model: HybridRecommender) -> None:
    ids = ["u00", "u30"]
    own = model.users.profiles[[0, 30]]
    before = model.score(ids, model.items.ids)
    np.testing.assert_array_equal(model.score(ids, model.items.ids, profiles=own.tolist()), before)
    ranking = model.recommend(ids, k=5, profiles=own)
    assert ranking.item_id.tolist() == model.recommend(ids, k=5).item_id.tolist()
    more = own + 20 * np.stack([SPADE, LAMP])
    moved = model.score(ids, model.items.ids, profiles=more) - before
    assert moved[0, 10:].mean() > 0 > moved[0, :10].mean()
    assert moved[1, :10].mean() > 0 > moved[1, 10:].mean()
    np.testing.assert_array_equal(model.score(ids, model.items.ids), before)


@pytest.mark.parametrize("shape", [(1, 3), (2, 4), (3,), (3, 2)])
def test_profiles_of_a_wrong_shape_are_refused(model: HybridRecommender, shape: tuple[int, ...]) -> None:
    with pytest.raises(ColdStartError, match=r"profiles have the shape .* must be \(2, 3\)"):
        model.recommend(["u00", "u30"], profiles=np.zeros(shape))


def test_profiles_that_are_not_numbers_are_refused(model: HybridRecommender) -> None:
    with pytest.raises(ColdStartError, match="profiles must be a matrix of finite numbers"):
        model.score("u00", "i00", profiles=np.full((1, 3), np.nan))


# -- what is refused ----------------------------------------------------------------------------------


def test_profiles_of_nobody_are_refused(model: HybridRecommender) -> None:
    with pytest.raises(ColdStartError, match="expected demand is of no user"):
        model.score(None, "i00", profiles=np.zeros((1, 3)))


def test_features_of_another_encoder_are_refused(model: HybridRecommender) -> None:
    with pytest.raises(FingerprintError, match=r"'other'.*'stub'"):
        model.recommend(replace(new("x", LAMP), fingerprint="other"))
    with pytest.raises(FingerprintError, match=r"'other'.*'stub'"):
        model.audience(replace(new("x", LAMP), fingerprint="other"))
    interactions, users, items = made_up_shop()
    with pytest.raises(FingerprintError):
        HybridRecommender().fit(interactions, users, replace(items, fingerprint="other"))


def test_features_of_a_known_user_without_his_profile_are_refused(model: HybridRecommender) -> None:
    with pytest.raises(ColdStartError, match=r"'u00' has a history .* no profile .* \(1 of 1 are so\); ask by id"):
        model.score(new("spade please", SPADE, name="u00"), model.items.ids)
    profile = model.users.profiles[:1]
    assert np.isfinite(model.score(new("spade please", SPADE, name="u00"), "i00", profiles=profile)).all()


@pytest.mark.parametrize("evidence", [np.nan, -1.0, np.inf])
def test_evidence_that_is_no_count_is_refused(model: HybridRecommender, evidence: float) -> None:
    with pytest.raises(ColdStartError, match="evidence must be counts of interactions"):
        replace(model.users.take(np.array([0])), evidence=np.array([evidence]))


def test_features_of_another_width_are_refused(model: HybridRecommender) -> None:
    wide = Entities(["new"], [""], [[]], np.ones((1, 4), np.float32), np.ones((1, 4), np.float32), np.zeros(1), "stub")
    for ask in (lambda: model.recommend(wide), lambda: model.score("u00", wide), lambda: model.explain(wide, "i00")):
        with pytest.raises(ColdStartError, match="are 4 and 4 numbers wide; the recommender was trained with 3"):
            ask()


def test_features_of_other_ids_are_refused() -> None:
    interactions, users, items = made_up_shop()
    with pytest.raises(ColdStartError, match="features of 39 users do not match the 40 users"):
        HybridRecommender().fit(interactions, users.take(np.arange(39)), items)
    with pytest.raises(ColdStartError, match="same ids in the same order"):
        HybridRecommender().fit(interactions, users, items.take(np.arange(20)[::-1]))


def test_a_fit_of_nothing_and_questions_before_a_fit_are_named() -> None:
    interactions, users, items = made_up_shop()
    with pytest.raises(ColdStartError, match="no interactions to learn from"):
        HybridRecommender().fit(interactions.select(np.zeros(len(interactions), bool)), users, items)
    for ask in (lambda: HybridRecommender().recommend("u00"), lambda: HybridRecommender().score(None, "i00")):
        with pytest.raises(ColdStartError, match=r"not fitted; call fit\(\) or load\(\) first"):
            ask()


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("metric_ridge", 0), ("item_item_ridge", -1), ("alpha", float("nan")), ("alpha", float("inf")),
     ("alpha", "1")],
)
def test_parameters_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(ColdStartError, match=f"{name} is .*; it must be"):
        Parameters(**{name: value})
