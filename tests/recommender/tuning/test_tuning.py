"""What is chosen on held-out interactions of shops whose right answers are known, and what is set aside for that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recommender.data.entities import Entities, with_history
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.measure.splits import SHOTS
from recommender.model.fitted import Fitted
from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.tuning import weights as tuning
from recommender.tuning.held_out_rankings import quality
from recommender.tuning.validation import fit_tuned, held_out
from recommender.tuning.weights import DEFAULT, KEPT, STAND_IN, tune
from tests.support.made_up_shop import LAMP, entities, events, made_up_shop

SMALL = Parameters(components=8, epochs=5)
KINDS, DEPTH = 20, 6
Shop = tuple[Interactions, Entities, Entities]


def shop_of_words(users: int = 120, *, told: bool = True, seed: int = 0) -> Shop:
    """20 kinds of things, 6 items of each; half of what a user buys is of one kind, and he says which.

    With `told` false users say a kind that has nothing to do with theirs, and items too.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(KINDS, 16))
    kinds /= np.linalg.norm(kinds, axis=1, keepdims=True)
    of_item, of_user = np.repeat(np.arange(KINDS), DEPTH), np.arange(users) % KINDS
    said_item = of_item if told else rng.permutation(of_item)
    said_user = of_user if told else rng.permutation(of_user)
    # The other half of what is bought is what everybody buys: the first item of the first five kinds.
    pairs = [(u, DEPTH * int(of_user[u]) + i) for u in range(users) for i in rng.permutation(DEPTH)[:4].tolist()]
    pairs += [(u, DEPTH * i) for u in range(users) for i in range(5) if i != of_user[u] and rng.random() < 0.8]
    order = rng.permutation(len(pairs))
    people = entities([f"u{n:03}" for n in range(users)], [f"kind{k}" for k in said_user], kinds[said_user])
    things = entities([f"i{n:03}" for n in range(KINDS * DEPTH)], [f"kind{k}" for k in said_item], kinds[said_item])
    return events(people, things, [pairs[k] for k in order]), people, things


def new_users_gain(shop: Shop) -> tuple[Fitted, float]:
    """Tuned on a third of the users as new ones; what that gains over popularity for another third, in DCG@20."""
    interactions = shop[0]
    third = interactions.users // KINDS % 3
    known = interactions.select(third == 0)
    users, items = with_history(known, *shop[1:])
    model = tune(SMALL, known, interactions.select(third == 1), users, items)
    shown = interactions.select((third == 2) & ~model.all_items.cold[interactions.items])
    popular = model.with_parameters(gamma_cold=0.0, predicted_profile_weight=0.0, attribute_popularity=0.0)
    asked = np.unique(shown.users)
    wanted = np.zeros((len(asked), len(items)), bool)
    wanted[np.searchsorted(asked, shown.users), shown.items] = True

    def ndcg(one: Fitted) -> float:
        scores = HybridRecommender.of(one).score([users.ids[row] for row in asked], items.ids)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :20]
        hits = np.take_along_axis(wanted, order, axis=1)
        return float((hits / np.log2(np.arange(2, 2 + hits.shape[1]))).sum(axis=1).mean())

    return model, ndcg(model) - ndcg(popular)


def test_words_that_tell_all_are_heard_of_new_users() -> None:
    model, gain = new_users_gain(shop_of_words())
    assert model.parameters.gamma_cold > 0
    assert gain > 0.5


def test_of_words_that_are_noise_popularity_stays() -> None:
    for seed in (0, 1, 3):
        model, gain = new_users_gain(shop_of_words(900, told=False, seed=seed))
        assert gain > -0.001
        assert model.parameters.gamma_cold < SMALL.gamma_cold
        assert model.parameters.source["gamma_cold"] == tuning.FITTED


def test_words_that_only_speak_of_taste_are_mapped_to_it() -> None:
    # A user's words are no item's: what he says lies in directions that no item has.
    interactions, users, items = shop_of_words(600)
    turned = np.roll(users.embeddings, 8, axis=1)
    items = replace(items, embeddings=np.hstack([items.embeddings, np.zeros_like(items.embeddings)]))
    apart = np.hstack([np.zeros_like(turned), turned])
    users = replace(users, descriptions=["hello"] * len(users), embeddings=apart, profiles=np.zeros_like(apart))
    items = replace(items, descriptions=["thing"] * len(items), profiles=np.zeros_like(items.embeddings))
    model, gain = new_users_gain((interactions, users, items))
    assert model.parameters.predicted_profile_weight > 0
    assert gain > 0.5


def test_popularity_among_those_with_an_attribute_counts_where_it_tells() -> None:
    items = made_up_shop()[2]
    silent = replace(items, descriptions=[""] * 20, embeddings=np.zeros_like(items.embeddings), attributes=[[]] * 20)
    many = [(u, i) for u in range(200) for i in range(9) if (u + i) % 3]
    people = entities([f"u{n:03}" for n in range(200)], [""] * 200, np.zeros((200, 3)),
                      [[f"home={'flat' if n % 2 else 'farm'}"] for n in range(200)])  # fmt: skip
    told = events(people, silent, [(u, i + 10 * (u % 2)) for u, i in many])
    model, gain = new_users_gain((told, people, silent))
    assert model.parameters.attribute_popularity > 0
    assert gain > 0.5


def test_where_lightfm_has_learned_nothing_popularity_takes_its_place() -> None:
    shop = shop_of_words(400)
    rng = np.random.default_rng(1)
    interactions = shop[0]
    held = rng.random(len(interactions)) < 0.2
    known = interactions.select(~held)
    useless = replace(SMALL, learning_rate=1e-6, item_item_weight=0.0, warm_text_weight=0.0, lightfm_half_trust=1.0)
    model = tune(useless, known, interactions.select(held), *with_history(known, *shop[1:]))
    assert model.parameters.lightfm_half_trust > useless.lightfm_half_trust or model.parameters.item_item_weight > 0
    alone = model.with_parameters(item_item_weight=0.0, warm_text_weight=0.0)
    asked = interactions.select(held)
    by_few = [float(quality(alone.with_parameters(lightfm_half_trust=few), asked).mean()) for few in (1.0, np.inf)]
    assert by_few[1] > by_few[0]
    assert model.parameters.lightfm_half_trust == np.inf


def test_what_the_data_cannot_tell_keeps_its_default_and_says_so() -> None:
    interactions, users, items = made_up_shop()
    nothing = tune(SMALL, interactions, interactions.select(np.zeros(len(interactions), bool)), users, items)
    assert set(nothing.parameters.source.values()) == {DEFAULT}
    assert replace(nothing.parameters, source={}) == SMALL

    # One user is asked, of warm items: nothing can be told of new items, nor of anything else.
    held = (interactions.users == 3) & (np.arange(len(interactions)) % 2 == 0)
    known = interactions.select(~held)
    one = tune(SMALL, known, interactions.select(held), *with_history(known, users, items)).parameters
    assert replace(one, source={}) == SMALL
    assert {one.source[name] for name in ("metric_ridge", "item_item_smoothing", "gamma", "cold_offset")} == {DEFAULT}
    assert one.source["item_item_weight"] == KEPT
    assert set(one.source) == set(tuning._CHOSEN)


def test_new_items_are_raised_among_the_old_as_far_as_held_out_users_want_them() -> None:
    interactions, users, items = shop_of_words()
    new = interactions.items % DEPTH >= DEPTH - 2  # the last two of each kind
    old = ~new & (np.arange(len(interactions)) % 3 == 0)
    chosen = []
    for many, few in ((old, new), (new, old)):
        held_out = interactions.select(many | (few & (interactions.users == 0)))
        known = interactions.select(~new & ~(old & (many | (interactions.users == 0))))
        chosen.append(tune(SMALL, known, held_out, *with_history(known, users, items)).parameters.cold_offset)
    assert chosen[0] <= 0 < chosen[1]


def test_what_was_done_and_counts_nothing_is_not_asked_for() -> None:
    interactions, users, items = shop_of_words()
    order = np.random.default_rng(2).permutation(len(interactions))
    parts = [interactions.select(np.isin(np.arange(len(interactions)), order[part::3])) for part in range(3)]
    features = with_history(parts[0], users, items)
    # The same pairs again: what is seen is out of the question, so nothing is left to choose by.
    again = tune(SMALL, parts[0], parts[1], *features, seen=interactions)
    assert set(again.parameters.source.values()) == {DEFAULT}
    assert tune(SMALL, parts[0], parts[1], *features).parameters.source["item_item_weight"] != DEFAULT


@pytest.mark.parametrize("seed", range(3))
def test_of_what_is_drawn_by_chance_nothing_is_chosen(seed: int) -> None:
    # The best of some hundred choices ranks a little better on what is held out, and means nothing.
    _, users, items = shop_of_words(seed=seed)
    rng = np.random.default_rng(seed)
    pairs = [(user, int(item)) for user in range(len(users)) for item in rng.permutation(len(items))[:8]]
    interactions = events(users, items, pairs)
    learned = (interactions.items % DEPTH < DEPTH - 1) & (np.arange(len(pairs)) % 4 > 0)
    known, held_out = interactions.select(learned), interactions.select(~learned)
    chosen = tune(SMALL, known, held_out, *with_history(known, users, items)).parameters
    names = ("metric_ridge", "item_item_ridge", "item_item_smoothing", "gamma", "lightfm_half_trust",
             "item_item_weight", "warm_text_weight", "alpha")  # fmt: skip
    assert {name: getattr(chosen, name) for name in names} == {name: getattr(SMALL, name) for name in names}
    assert {chosen.source[name] for name in names} == {KEPT}


def test_every_choice_that_departs_from_its_default_says_that_it_was_fitted() -> None:
    model, _ = new_users_gain(shop_of_words())
    chosen = model.parameters
    for name, how in chosen.source.items():
        assert (getattr(chosen, name) == getattr(SMALL, name)) == (how in (DEFAULT, KEPT))


def test_choices_know_nothing_of_what_is_held_out() -> None:
    # The held-out part decides among fits; what is fitted, vocabulary, popularity, A, B, LightFM, is of the rest alone.
    interactions, users, items = shop_of_words()
    held = np.isin(interactions.items, (3, 9, 15)) | (np.arange(len(interactions)) % 5 == 0)
    known = interactions.select(~held)
    features = with_history(known, users, items)
    model = tune(SMALL, known, interactions.select(held), *features)
    plain = fit(replace(model.parameters, source={}, lightfm_seeds=1), known, *features)
    assert not model.all_items.cold[[0, 1]].any()
    assert model.all_items.cold[[3, 9, 15]].all()
    np.testing.assert_array_equal(model.counts, plain.counts)
    np.testing.assert_array_equal(model.item_metric, plain.item_metric)
    np.testing.assert_array_equal(model.item_item.toarray(), plain.item_item.toarray())
    np.testing.assert_array_equal(model.factors.items, plain.factors.items)
    assert model.item_space.names == plain.item_space.names


@pytest.mark.parametrize("kind", ["item_cold", "user_cold", "both_cold", "warm"])
def test_of_a_split_by_chance_items_users_and_pairs_are_set_aside(kind: str) -> None:
    interactions, users, items = shop_of_words(400)
    groups = [str(row // 3) for row in range(len(items))]
    held = held_out(interactions, items, kind, groups, 0)
    by_item = [held[interactions.items == row].all() for row in range(len(items))]
    per_group = [{by_item[row] for row, name in enumerate(groups) if name == group} for group in set(groups)]
    assert all(len(one) == 1 for one in per_group)
    assert 0 < sum(by_item) < len(items) / 2
    by_user = np.array([held[interactions.users == row].all() for row in range(len(users))])
    assert 0.03 < by_user.mean() < 0.2
    rest = ~np.isin(interactions.users, np.flatnonzero(by_user)) & ~np.array(by_item)[interactions.items]
    assert 0.05 < held[rest].mean() < 0.15
    other = held_out(interactions, items, kind, groups, 1)
    assert (other != held).any()


def test_of_a_temporal_split_the_latest_are_set_aside() -> None:
    interactions, _, items = shop_of_words()
    held = held_out(interactions, items, "temporal", items.ids, 0)
    assert interactions.timestamps[held].min() > interactions.timestamps[~held].max()
    assert held.mean() == pytest.approx(0.15, abs=0.01)


def test_of_few_shots_new_users_keep_their_first_few() -> None:
    interactions, users, items = shop_of_words(400)
    chance = held_out(interactions, items, "warm", items.ids, 0)
    few = held_out(interactions, items, "k_shot", items.ids, 0)
    assert not (few & ~chance).any()
    spared = chance & ~few
    people = np.unique(interactions.users[spared])
    assert 0.03 < len(people) / len(users) < 0.2
    kept = []
    for row in people:
        mine = np.flatnonzero(interactions.users == row)
        mine = mine[np.argsort(interactions.timestamps[mine])]
        last = np.flatnonzero(spared[mine]).max()
        assert last < max(SHOTS)
        kept.append(last + 1)
        assert few[mine[max(SHOTS) :]].all()
    assert {1, 3, 5} <= set(kept)


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


def test_new_items_are_raised_as_far_as_the_question_meets_new_ones_that_are_wanted() -> None:
    low = replace(SMALL, cold_offset=-3.0)  # new items come last
    some_once, often = shop_of(1, 1, 6), shop_of(12)
    for kind in ("warm", "user_cold"):
        # What has one buyer is new once he is set aside.
        raised = fit_tuned(*some_once, kind=kind, parameters=low).parameters
        assert raised.cold_offset > low.cold_offset
        assert raised.source["cold_offset"] == tuning.FITTED
        # What has twelve is never new, but for the fifth that is made so to learn what words weigh.
        kept = fit_tuned(*often, kind=kind, parameters=low).parameters
        assert kept.cold_offset == low.cold_offset
        assert kept.source["cold_offset"] == DEFAULT
    made_new = fit_tuned(*often, kind="item_cold", parameters=low).parameters
    assert made_new.cold_offset > low.cold_offset
    assert made_new.source["cold_offset"] == tuning.FITTED


def test_weights_that_are_given_are_the_recommenders_and_their_half_life_stays() -> None:
    shop = shop_of_turns(turn=True)
    viewed = replace(shop[0], event_types=("view",))
    given = EventWeights({"view": 0.25})
    model = fit_tuned(viewed, *shop[1:], kind="temporal", parameters=SMALL, weights=given)
    assert set(model.fitted.history.whole.data.tolist()) == {0.25}
    by_default = fit_tuned(viewed, *shop[1:], kind="temporal", parameters=SMALL)
    assert by_default.fitted.history.whole.data.min() < 0.03  # 0.1 for a view, and they fade


def test_a_purchase_that_stands_for_words_never_makes_a_newcomers_count_less() -> None:
    interactions, users, items = shop_of_words()
    silent = replace(users, descriptions=[""] * len(users), embeddings=np.zeros_like(users.embeddings))
    chosen = new_users_gain((interactions, silent, items))[0].parameters
    assert chosen.gamma_cold >= SMALL.gamma_cold
    assert chosen.source["gamma_cold"] in (STAND_IN, KEPT)


def test_a_purchase_that_stands_for_words_lowers_their_weight_where_that_does_harm_and_nowhere_else() -> None:
    interactions, users, items = shop_of_words()
    silent = replace(users, descriptions=[""] * len(users), embeddings=np.zeros_like(users.embeddings))
    third = interactions.users // KINDS % 3
    known = interactions.select(third == 0)
    features = with_history(known, silent, items)

    def chosen(default: float) -> Parameters:
        return tune(replace(SMALL, gamma_cold=default), known, interactions.select(third == 1), *features).parameters

    # A third as much ranks best here. Three quarters rank better than popularity all the same, a whole no longer.
    kept, lowered = chosen(0.75), chosen(1.0)
    assert (kept.gamma_cold, kept.source["gamma_cold"]) == (0.75, KEPT)
    assert (lowered.gamma_cold, lowered.source["gamma_cold"]) == (0.25, STAND_IN)
