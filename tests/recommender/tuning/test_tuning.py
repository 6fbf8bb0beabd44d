"""What is chosen on held-out interactions of shops whose right answers are known, and what is set aside for that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recommender.data.entities import with_history
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.model.fitted import Fitted
from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.model.weights import PARTS, Weights
from recommender.tuning.held_out_rankings import quality
from recommender.tuning.validation import fit_tuned, held_out
from recommender.tuning.weights import DEFAULT, FITTED, KEPT, STAND_IN, tune
from tests.support.made_up_shop import LAMP, entities, events, made_up_shop, only
from tests.support.shop_of_words import DEPTH, KINDS, Shop, divided, shop_of_words

SMALL = Parameters(components=8, epochs=5)


def new_users_gain(shop: Shop) -> tuple[Fitted, float]:
    """Tuned on a third of the users as new ones; what that gains over popularity for another third, in DCG@20."""
    interactions, users, items = shop
    third = interactions.users // KINDS % 3
    asked_then = third == 2
    model = tune(SMALL, [divided((interactions.select(~asked_then), users, items), (third == 1)[~asked_then])]).fitted
    shown = interactions.select(asked_then & ~model.all_items.cold[interactions.items])
    popular = model.with_parameters(weights=only(popularity=(1.0, 1.0)))
    asked = np.unique(shown.users)
    wanted = np.zeros((len(asked), len(items)), bool)
    wanted[np.searchsorted(asked, shown.users), shown.items] = True
    strangers = users.take(asked)

    def ndcg(one: Fitted) -> float:
        scores = HybridRecommender.of(one).score(strangers, items.ids)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :20]
        hits = np.take_along_axis(wanted, order, axis=1)
        return float((hits / np.log2(np.arange(2, 2 + hits.shape[1]))).sum(axis=1).mean())

    return model, ndcg(model) - ndcg(popular)


def for_new_users(parameters: Parameters, part: str) -> float:
    """The weight of a part of the scores of warm items, for users without history."""
    return parameters.weights.warm.get(part, (0.0, 0.0))[0]


def test_words_that_tell_all_are_heard_of_new_users() -> None:
    model, gain = new_users_gain(shop_of_words())
    assert for_new_users(model.parameters, "text") > for_new_users(SMALL, "text")
    assert gain > 0.5


def test_a_first_description_is_heard_where_no_user_had_one_to_learn_from() -> None:
    interactions, users, items = shop_of_words()
    silent = replace(users, descriptions=[""] * len(users), embeddings=np.zeros_like(users.embeddings))
    model = new_users_gain((interactions, silent, items))[0]
    assert model.parameters.weights.words > for_new_users(model.parameters, "text")
    n = np.array([0, 1])
    heard = model.parameters.weights.of("text", n, told=np.ones(2, bool))
    assert heard[0] == np.float32(model.parameters.weights.words) > heard[1]
    # Where users have descriptions, what these weigh is learned.
    assert new_users_gain(shop_of_words())[0].parameters.weights.words == 0


def test_of_words_that_are_noise_popularity_stays() -> None:
    gains = []
    for seed in (0, 1, 3):
        model, gain = new_users_gain(shop_of_words(900, told=False, seed=seed))
        gains.append(gain)
        assert for_new_users(model.parameters, "text") < 0.3 * for_new_users(model.parameters, "popularity")
        assert model.parameters.source["weights"] == FITTED
    assert np.mean(gains) > -0.01  # of a DCG of 2.5


def test_words_that_only_speak_of_taste_are_mapped_to_it() -> None:
    # A user's words are no item's: what they say lies in directions that no item has.
    interactions, users, items = shop_of_words(600)
    turned = np.roll(users.embeddings, 8, axis=1)
    items = replace(items, embeddings=np.hstack([items.embeddings, np.zeros_like(items.embeddings)]))
    apart = np.hstack([np.zeros_like(turned), turned])
    users = replace(users, descriptions=["hello"] * len(users), embeddings=apart, profiles=np.zeros_like(apart))
    items = replace(items, descriptions=["thing"] * len(items), profiles=np.zeros_like(items.embeddings))
    model, gain = new_users_gain((interactions, users, items))
    assert for_new_users(model.parameters, "predicted_profile") > for_new_users(SMALL, "predicted_profile")
    assert gain > 0.5


def test_popularity_among_those_with_an_attribute_counts_where_it_tells() -> None:
    items = made_up_shop()[2]
    silent = replace(items, descriptions=[""] * 20, embeddings=np.zeros_like(items.embeddings), attributes=[[]] * 20)
    many = [(u, i) for u in range(200) for i in range(9) if (u + i) % 3]
    people = entities([f"u{n:03}" for n in range(200)], [""] * 200, np.zeros((200, 3)),
                      [[f"home={'flat' if n % 2 else 'farm'}"] for n in range(200)])  # fmt: skip
    told = events(people, silent, [(u, i + 10 * (u % 2)) for u, i in many])
    model, gain = new_users_gain((told, people, silent))
    assert for_new_users(model.parameters, "attribute_popularity") > for_new_users(SMALL, "attribute_popularity")
    assert gain > 0.5


def test_where_lightfm_has_learned_nothing_the_other_parts_take_its_place() -> None:
    shop = shop_of_words(400)
    held = np.random.default_rng(1).random(len(shop[0])) < 0.2
    useless = replace(SMALL, learning_rate=1e-6)
    tuned = tune(useless, [divided(shop, held)])
    learned, default = tuned.parameters.weights, useless.weights
    for n in (0, 5, 50):
        shares = []
        for weights in (learned, default):
            of_lightfm = weights.of("lightfm", np.array([n])) + weights.of("lightfm_map", np.array([n]))
            shares.append(float(of_lightfm[0] / sum(weights.of(part, np.array([n]))[0] for part in PARTS)))
        assert shares[0] < 0.5 * shares[1]
    by_default = tuned.fitted.with_parameters(weights=default)
    wanted = shop[0].select(held)
    assert quality(tuned.fitted, wanted).mean() > quality(by_default, wanted).mean()


def test_what_the_data_cannot_tell_keeps_its_default_and_says_so() -> None:
    shop = made_up_shop()
    nothing = tune(SMALL, [divided(shop, np.zeros(len(shop[0]), bool))]).parameters
    assert nothing.source == dict.fromkeys(("weights", "metric_ridge", "alpha", "cold_offset"), DEFAULT)
    # No user of this shop has a description.
    default = replace(SMALL, weights=replace(SMALL.weights, words=1.5))
    assert replace(nothing, source={}) == default

    # Nine rankings, of warm items: nothing can be told of new items, nor of anything else.
    held = np.isin(shop[0].users, np.arange(9)) & (np.arange(len(shop[0])) % 2 == 0)
    nine = tune(SMALL, [divided(shop, held)]).parameters
    assert replace(nine, source={}) == default
    assert set(nine.source.values()) == {DEFAULT}

    # The tenth is enough for the weights, of warm items.
    held |= (shop[0].users == 9) & (np.arange(len(shop[0])) % 2 == 0)
    ten = tune(SMALL, [divided(shop, held)]).parameters
    assert ten.weights.warm != SMALL.weights.warm
    assert ten.weights.cold == SMALL.weights.cold
    assert ten.source["weights"] == FITTED
    assert ten.source["cold_offset"] == ten.source["metric_ridge"] == DEFAULT


def test_new_items_are_raised_among_the_old_as_far_as_held_out_users_want_them() -> None:
    shop = shop_of_words()
    interactions = shop[0]
    new = interactions.items % DEPTH >= DEPTH - 2  # the last two of each kind
    old = ~new & (np.arange(len(interactions)) % 3 == 0)
    rare = interactions.users % 10 == 0
    chosen = []
    for many, few in ((old, new), (new, old)):
        held = many | (few & rare)
        left = held | ~new  # new items that nobody wants are nowhere
        division = divided((interactions.select(left), *shop[1:]), held[left], in_time=True)
        weights = tune(SMALL, [division]).parameters.weights
        chosen.append(weights.cold_offset)
    assert chosen[0] < chosen[1]


def test_what_was_done_and_counts_nothing_is_not_asked_for() -> None:
    shop = shop_of_words()
    interactions = shop[0]
    part = np.random.default_rng(2).integers(0, 3, len(interactions))
    rest = interactions.select(part < 2), *shop[1:]
    held = (part == 1)[part < 2]
    # The same pairs again: what is seen is out of the question, so nothing is left to choose by.
    again = tune(SMALL, [divided(rest, held, seen=interactions)]).parameters
    assert set(again.source.values()) == {DEFAULT}
    assert tune(SMALL, [divided(rest, held)]).parameters.source["weights"] == FITTED


def test_of_what_is_drawn_by_chance_nothing_is_chosen() -> None:
    # The best of several choices ranks a little better on what is held out, and means nothing. Of twenty shops one gets
    # another α, and one another λ.
    changed = np.zeros(2, np.int64)
    for seed in range(5):
        _, users, items = shop_of_words(seed=seed)
        rng = np.random.default_rng(seed)
        pairs = [(user, int(item)) for user in range(len(users)) for item in rng.permutation(len(items))[:8]]
        interactions = events(users, items, pairs)
        held = (interactions.items % DEPTH == DEPTH - 1) | (np.arange(len(pairs)) % 4 == 0)
        chosen = tune(SMALL, [divided((interactions, users, items), held)]).parameters
        for place, name in enumerate(("metric_ridge", "alpha")):
            kept = getattr(chosen, name) == getattr(SMALL, name)
            assert chosen.source[name] == (KEPT if kept else FITTED)
            changed[place] += not kept
        # No part says more than another: what is learned spreads scores less than the defaults do.
        for side in ("warm", "cold"):
            learned, default = (sum(map(sum, getattr(one.weights, side).values())) for one in (chosen, SMALL))
            assert learned < default
    assert (changed <= 1).all()


def test_every_choice_that_departs_from_its_default_says_that_it_was_fitted() -> None:
    chosen = new_users_gain(shop_of_words())[0].parameters
    for name in ("alpha", "metric_ridge", "weights"):
        assert (getattr(chosen, name) == getattr(SMALL, name)) == (chosen.source[name] in (DEFAULT, KEPT))


def test_choices_know_nothing_of_what_is_held_out() -> None:
    # The held-out part decides among weights; what is fitted, vocabulary, A, B, LightFM, is of the rest alone.
    shop = shop_of_words()
    held = np.isin(shop[0].items, (3, 9, 15)) | (np.arange(len(shop[0])) % 5 == 0)
    division = divided(shop, held)
    model = tune(SMALL, [division]).fitted
    plain = fit(replace(model.parameters, source={}, lightfm_seeds=1), division.learned, division.users, division.items)
    assert not model.all_items.cold[[0, 1]].any()
    assert model.all_items.cold[[3, 9, 15]].all()
    np.testing.assert_array_equal(model.counts, plain.counts)
    np.testing.assert_allclose(model.item_metric, plain.item_metric, atol=1e-6)
    np.testing.assert_array_equal(model.item_item.toarray(), plain.item_item.toarray())
    np.testing.assert_array_equal(model.factors.items, plain.factors.items)
    np.testing.assert_array_equal(model.maps.weights, plain.maps.weights)
    np.testing.assert_array_equal(model.trends.popularity, plain.trends.popularity)
    assert model.item_space.names == plain.item_space.names


def test_all_divisions_are_learned_from_and_progress_counts_their_epochs() -> None:
    # Either half of the wanted pairs has nine rankings; together they are enough.
    shop = made_up_shop()
    odd = np.arange(len(shop[0])) % 2 == 0
    halves = [divided(shop, np.isin(shop[0].users, rows) & odd) for rows in (np.arange(9), np.arange(20, 29))]
    told: list[tuple[int, int]] = []
    both = tune(SMALL, halves, progress=lambda done, total: told.append((done, total))).parameters
    assert both.source["weights"] == FITTED
    assert tune(SMALL, halves[:1]).parameters.source["weights"] == DEFAULT
    assert max(told) == (2 * SMALL.epochs, 2 * SMALL.epochs)


def test_of_a_temporal_split_the_latest_are_set_aside() -> None:
    interactions, _, items = shop_of_words()
    held = held_out(interactions, items, "temporal", items.ids, 0)
    assert interactions.timestamps[held].min() > interactions.timestamps[~held].max()
    assert held.mean() == pytest.approx(0.15, abs=0.01)


def shop_of_turns(*, turn: bool) -> Shop:
    """Ten kinds of things. Everybody buys 8 of one kind, and a year later 5 more: of another kind if he turns."""
    rng = np.random.default_rng(0)
    users = entities([f"u{n:03}" for n in range(150)], [""] * 150, np.zeros((150, 10)))
    kinds = np.repeat(np.eye(10), 15, axis=0)
    items = entities([f"i{n:03}" for n in range(150)], [f"kind{n // 15}" for n in range(150)], kinds)
    done = []
    for user in range(150):
        first = user % 10
        kind = (first + 1 + user // 10 % 9) % 10 if turn else first
        things = rng.permutation(15)
        done += [(200 * rng.random(), user, 15 * first + int(one)) for one in things[:8]]
        done += [(400 + 5 * place + rng.random(), user, 15 * kind + int(one)) for place, one in enumerate(things[8:13])]
    done.sort()
    days, rows, columns = (np.array(one) for one in zip(*done, strict=True))
    times = np.datetime64("2023-01-01", "us") + (days * 86_400e6).astype("timedelta64[us]")
    return Interactions(users.ids, items.ids, rows, columns, times, np.ones(len(rows), np.float32)), users, items


def test_histories_fade_where_tastes_turn_and_nowhere_else() -> None:
    fading = fit_tuned(*shop_of_turns(turn=True), kind="temporal", parameters=SMALL)
    assert fading.fitted.history.whole.data.min() < 0.3
    lasting = fit_tuned(*shop_of_turns(turn=False), kind="temporal", parameters=SMALL)
    assert set(lasting.fitted.history.whole.data.tolist()) == {1.0}


def test_the_final_fit_has_seen_all_that_was_given_and_nothing_else() -> None:
    interactions, users, items = shop_of_words()
    model = fit_tuned(interactions, users, items, kind="item_cold", parameters=SMALL)
    pairs = interactions.pairs()
    assert model.fitted.seen.whole.nnz == model.fitted.history.whole.nnz == len(pairs)
    profiled = with_history(interactions, users, items)[0].profiles
    np.testing.assert_allclose(model.users.profiles, profiled, rtol=1e-6)


def test_of_a_handful_of_interactions_nothing_is_set_aside_and_a_recommender_comes_all_the_same() -> None:
    users, items = entities(["u"], [""], np.zeros((1, 3))), entities(["i"], ["lamp"], LAMP[None])
    one = events(users, items, [(0, 0)])
    for kind in ("item_cold", "user_cold", "warm", "temporal", "k_shot"):
        for seed in range(4):
            model = fit_tuned(one, users, items, kind=kind, seed=seed, parameters=SMALL)
            assert np.isfinite(model.score("u", "i")).all()


def shop_of(*buyers: int, items: int = 240, users: int = 240) -> Shop:
    """8 kinds of things; the items have so many buyers in turn, all of whom buy things of one kind alone."""
    rng = np.random.default_rng(1)
    kinds = np.eye(8)
    people = entities([f"u{n:03}" for n in range(users)], [""] * users, np.zeros((users, 8)))
    things = entities([f"i{n:03}" for n in range(items)], [f"kind{n % 8}" for n in range(items)],
                      kinds[np.arange(items) % 8])  # fmt: skip
    fans = [np.flatnonzero(np.arange(users) % 8 == kind) for kind in range(8)]
    counts = [buyers[i // 8 % len(buyers)] for i in range(items)]
    pairs = [(int(u), i) for i in range(items) for u in rng.choice(fans[i % 8], counts[i], replace=False)]
    return events(people, things, [pairs[k] for k in rng.permutation(len(pairs))]), people, things


def test_new_items_that_come_last_by_default_are_raised_where_they_are_wanted() -> None:
    low = replace(SMALL, weights=Weights(cold_offset=-3.0))
    some_once, often = (
        fit_tuned(*shop_of(*buyers), kind="item_cold", parameters=low).parameters for buyers in ((1, 1, 6), (12,))
    )
    # Two of three items come once, each of them as a new one; what has twelve buyers is never new.
    assert some_once.weights.cold_offset > max(-2.0, often.weights.cold_offset)
    assert some_once.source["cold_offset"] == often.source["cold_offset"] == FITTED


def test_items_that_nobody_took_come_lower_where_there_are_very_many_of_them() -> None:
    taken, users, items = shop_of(1, 1, 6)
    few, many = (
        entities([*items.ids, *(f"n{n:04}" for n in range(more))], [f"kind{n % 8}" for n in range(240 + more)],
                 np.eye(8)[np.arange(240 + more) % 8])
        for more in (24, 4_800)
    )  # fmt: skip
    plain, crowded = (
        fit_tuned(replace(taken, item_ids=some.ids), users, some, kind="item_cold", parameters=SMALL)
        for some in (few, many)
    )
    assert crowded.parameters.weights.cold_offset < plain.parameters.weights.cold_offset - 1
    first = crowded.recommend(users.ids[:40], k=20)["item_id"]
    assert first.str.startswith("n").mean() < 0.5


def test_weights_that_are_given_are_the_recommenders_and_their_half_life_stays() -> None:
    shop = shop_of_turns(turn=True)
    viewed = replace(shop[0], event_types=("view",))
    given = EventWeights({"view": 0.25})
    model = fit_tuned(viewed, *shop[1:], kind="temporal", parameters=SMALL, weights=given)
    assert set(model.fitted.history.whole.data.tolist()) == {0.25}
    by_default = fit_tuned(viewed, *shop[1:], kind="temporal", parameters=SMALL)
    assert by_default.fitted.history.whole.data.min() < 0.03  # 0.1 for a view, and they fade


def test_where_nobody_has_words_a_purchase_stands_for_them_and_the_choice_says_so() -> None:
    interactions, users, items = shop_of_words()
    silent = replace(users, descriptions=[""] * len(users), embeddings=np.zeros_like(users.embeddings))
    low, alphas = replace(SMALL, alpha=0.01), []
    for seed in range(3):
        held = np.random.default_rng(seed).random(len(interactions)) < 0.8  # short histories say little
        chosen = tune(low, [divided((interactions, silent, items), held)]).parameters
        assert chosen.alpha > low.alpha
        assert chosen.source["alpha"] == STAND_IN
        heard = tune(low, [divided((interactions, users, items), held)]).parameters
        assert heard.source["alpha"] == FITTED
        alphas.append((chosen.alpha, heard.alpha))
    # What a user says of himself tells more.
    stand_in, own = np.log(alphas).mean(axis=0)
    assert own > stand_in
