from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import scipy.sparse as sp

from coldstart_udfs.errors import ColdStartError
from recommender.data.entities import Entities
from recommender.data.interactions import Interactions
from recommender.measure.latest import COLD_SHARE, cold_share_of
from recommender.measure.splits import CANDIDATES, SPLITS, Split, make_splits, of_items, stable_share
from tests.support.world import DAY, world

CUTOFF = datetime(2024, 8, 1)
Data = tuple[Interactions, Entities, Entities]


@pytest.fixture(scope="module")
def data() -> Data:
    return world()


def split(data: Data, kind: str, **options) -> list[Split]:
    return make_splits(*data, kind, cutoff=CUTOFF if kind == "temporal" else None, **options)


def joined(interactions: Interactions, users, items, times, weight: float) -> Interactions:
    more = {"users": users, "items": items, "timestamps": times, "weights": np.full(len(users), weight, np.float32)}
    columns = {name: np.concatenate([getattr(interactions, name), values]) for name, values in more.items()}
    return Interactions(interactions.user_ids, interactions.item_ids, **columns)


def planted(interactions: Interactions, held: Split) -> Interactions:
    """With heavy events in what the split holds out, after all others."""
    rng = np.random.default_rng(2)
    users, items = rng.integers(0, 80, 600), rng.integers(0, 100, 600)
    new = ~np.isin(users, held.train.users)
    if held.kind == "warm":
        drawn = rng.integers(0, len(held.test), 600)
        users, items = held.test.users[drawn], held.test.items[drawn]
    pairs = sp.csr_matrix((np.ones(len(held.test)), (held.test.users, held.test.items)), shape=held.wanted.shape)
    kept = {
        "item_cold": held.cold[items] | np.asarray(pairs[users, items]).ravel().astype(bool), "user_cold": new,
        "both_cold": new | held.cold[items], "k_shot": np.isin(users, held.asked),
    }.get(held.kind, np.ones(600, bool))  # fmt: skip
    users, items = users[kept], items[kept]
    assert len(users) > 20
    times = np.full(len(users), DAY + np.timedelta64(400, "D"))
    return joined(interactions, users, items, times, 1e6)


def shop_with_new_items() -> Data:
    """Purchases by chance; of 200 items 60 come one after the other, and are as popular as the others from then on."""
    rng = np.random.default_rng(0)
    users, items, days = rng.integers(0, 150, 9_000), rng.integers(0, 200, 9_000), rng.integers(0, 360, 9_000)
    sold = (items < 140) | (days > 240 + 2 * (items - 140))
    vectors = np.eye(200, 8, dtype=np.float32)

    def entities(prefix: str, count: int) -> Entities:
        ids = [f"{prefix}{n}" for n in range(count)]
        zeros = np.zeros((count, 8), np.float32)
        return Entities(ids, [""] * count, [[]] * count, vectors[:count], zeros, np.zeros(count), "stub")

    of_users, of_items = entities("u", 150), entities("i", 200)
    return (
        Interactions(
            of_users.ids, of_items.ids, users[sold], items[sold], DAY + days[sold].astype("timedelta64[D]"),
            np.ones(sold.sum(), np.float32),
        ),
        of_users, of_items,
    )  # fmt: skip


@pytest.mark.parametrize("kind", SPLITS)
def test_nothing_that_a_split_holds_out_reaches_what_a_method_is_given(kind, data) -> None:
    for number, held in enumerate(split(data, kind)):
        again = split((planted(data[0], held), *data[1:]), kind)[number]
        for name in ("users", "items", "timestamps", "weights", "returned"):
            np.testing.assert_array_equal(getattr(again.train, name), getattr(held.train, name))
        for name in ("profiles", "evidence"):
            np.testing.assert_array_equal(getattr(again.users, name), getattr(held.users, name))
            np.testing.assert_array_equal(getattr(again.items, name), getattr(held.items, name))
        assert again.warm.tolist() == held.warm.tolist()
        assert 0 < np.abs(held.users.profiles).max() < 100


@pytest.mark.parametrize("kind", SPLITS)
def test_training_pairs_are_never_candidates(kind, data) -> None:
    for held in split(data, kind):
        assert len(held.asked)
        train = set(zip(held.train.users.tolist(), held.train.items.tolist(), strict=True))
        assert all(held.excluded[user, item] and not held.wanted[user, item] for user, item in train)
        assert held.wanted.multiply(held.excluded).nnz == 0


def test_item_cold_asks_users_with_history_for_items_without_and_variants_stay_together(data) -> None:
    groups = [name[:3] for name in data[2].ids]
    (held,) = split(data, "item_cold", groups=groups)
    cold = {data[2].ids[row] for row in np.flatnonzero(held.cold)}
    assert 0.1 < len(cold) / 100 < 0.3
    assert {name[:3] for name in cold}.isdisjoint({data[2].ids[row][:3] for row in held.train.items})
    assert not held.items.profiles[held.cold].any()
    assert set(held.asked) <= set(held.train.users)
    stranger = np.flatnonzero(held.cold)[:1]
    alone = data[0].select(data[0].users != 0)
    alone = joined(alone, np.zeros(1, np.int64), stranger, alone.timestamps[:1], 1)
    (held,) = split((alone, *data[1:]), "item_cold", groups=groups)
    assert held.wanted[0, stranger[0]]
    assert 0 not in held.asked


def test_both_cold_asks_new_users_for_new_items_and_for_old_ones(data) -> None:
    (held,) = split(data, "both_cold")
    assert not set(held.asked) & set(held.train.users)
    assert not (held.cold & held.warm).any()
    asked = np.isin(data[0].users, held.asked)
    for user, item in zip(data[0].users[asked].tolist(), data[0].items[asked].tolist(), strict=True):
        assert held.wanted[user, item]
        assert [bool(held.candidates(kind).wanted[user, item]) for kind in ("cold", "warm")] == [
            bool(held.cold[item]), bool(held.warm[item]),
        ]  # fmt: skip


@pytest.mark.parametrize("kind", SPLITS)
def test_no_candidate_is_a_training_pair_and_every_relevant_one_is_held_out(kind, data) -> None:
    for held in split(data, kind):
        train = {(user, item) for user, item in zip(held.train.users.tolist(), held.train.items.tolist(), strict=True)}
        test = {(user, item) for user, item in zip(held.test.users.tolist(), held.test.items.tolist(), strict=True)}
        for name in CANDIDATES:
            found = held.candidates(name)
            rows, columns = found.wanted.nonzero()
            wanted = set(zip(rows.tolist(), columns.tolist(), strict=True))
            assert wanted <= test
            assert not wanted & train
            assert all(found.excluded[pair] for pair in train)
            assert found.wanted.multiply(found.excluded).nnz == 0
            assert found.items[columns].all()
            assert set(found.users.tolist()) == set(rows.tolist()) & set(held.asked.tolist())
            # What is held out of listed items and not relevant here is no candidate either.
            rest = held.wanted - held.wanted.multiply(found.wanted)
            listed = of_items(rest.tocsr(), found.items)
            assert listed.multiply(found.excluded).nnz == listed.nnz
        assert not held.candidates("cold").items[held.train.items].any()
        assert held.candidates("warm").items.sum() == len(np.unique(held.train.items))
    with pytest.raises(ColdStartError, match="unknown candidates 'hot'; choose one of cold, warm, overall"):
        held.candidates("hot")


def test_item_cold_asks_for_a_tenth_of_the_pairs_of_old_items_too(data) -> None:
    shares = []
    for seed in range(5):
        (held,) = split(data, "item_cold", seed=seed)
        old, new = held.candidates("warm").wanted.nnz, held.candidates("cold").wanted.nnz
        shares.append(old / (len(data[0].pairs()) - new))
    assert 0.07 < np.mean(shares) < 0.13


@pytest.mark.parametrize("kind", ["item_cold", "both_cold"])
def test_the_list_overall_wants_new_items_as_often_as_a_split_in_time_does(kind) -> None:
    data = shop_with_new_items()
    share = cold_share_of(data[0])
    assert 0.08 < share < 0.13
    found = [split(data, kind, seed=seed)[0] for seed in range(10)]
    assert np.mean([held.cold_share for held in found]) == pytest.approx(share, abs=0.015)
    for held in found:
        overall = held.candidates("overall")
        assert held.cold_share == pytest.approx(held.cold[overall.wanted.nonzero()[1]].mean())
        assert overall.items[held.warm].all()
        assert 0 < (overall.items & held.cold).sum() < held.cold.sum()


@pytest.mark.parametrize("kind", ["item_cold", "both_cold"])
def test_by_chance_new_items_of_the_list_overall_are_wanted_as_often_as_old_ones(kind) -> None:
    """So that among purchases by chance an order of new before old, or old before new, is no better than another."""
    data = shop_with_new_items()
    wanted, offered = np.zeros(2), np.zeros(2)
    for seed in range(40):
        (held,) = split(data, kind, seed=seed)
        overall = held.candidates("overall")
        for place, side in enumerate((held.cold, held.warm)):
            among = overall.items & side
            wanted[place] += overall.wanted[overall.users][:, among].nnz
            offered[place] += among.sum() * len(overall.users) - overall.excluded[overall.users][:, among].nnz
    assert wanted[0] / offered[0] == pytest.approx(wanted[1] / offered[1], rel=0.15)


def test_where_new_items_are_in_demand_old_ones_leave_the_list(data) -> None:
    """In its last month this shop sells almost nothing but items that it did not have before."""
    interactions = data[0]
    late = interactions.items >= 85
    times = np.where(late, DAY + np.timedelta64(400, "D"), interactions.timestamps)
    moved = replace(interactions, timestamps=times)
    assert cold_share_of(moved) == 0.5
    (held,) = split((moved, *data[1:]), "item_cold")
    assert not held.listed[held.warm].all()
    assert held.listed[held.cold].all()
    assert held.cold_share == pytest.approx(0.5, abs=0.1)


def test_without_time_a_twentieth_is_of_new_items(data) -> None:
    still = replace(data[0], timestamps=np.full(len(data[0]), DAY))
    assert cold_share_of(still) == COLD_SHARE
    assert split((still, *data[1:]), "item_cold")[0].cold_share == pytest.approx(COLD_SHARE, abs=0.03)


def test_temporal_learns_from_what_was_before_and_asks_who_was_there(data) -> None:
    (held,) = split(data, "temporal")
    moment = np.datetime64(CUTOFF)
    assert held.train.timestamps.max() < moment <= held.test.timestamps.min()
    assert set(held.asked) <= set(held.train.users)
    assert not (held.cold & held.warm).any()
    (zoned,) = make_splits(*data, "temporal", cutoff=CUTOFF.replace(tzinfo=UTC))
    assert len(zoned.train) == len(held.train)


def test_k_shot_gives_the_first_k_items_and_asks_the_same_users(data) -> None:
    splits = split(data, "k_shot", shots=(3, 1))
    assert [held.shots for held in splits] == [1, 3]
    assert splits[0].asked.tolist() == splits[1].asked.tolist()
    for held in splits:
        for user in held.asked:
            given, rest = (part.select(part.users == user) for part in (held.train, held.test))
            assert len(given) == held.shots
            assert len(rest) == 15 - held.shots
            assert given.timestamps.max() <= rest.timestamps.min()
    few = splits[0].train.select(np.isin(splits[0].train.users, splits[0].asked))
    more = splits[1].train.select(np.isin(splits[1].train.users, splits[1].asked))
    assert set(zip(few.users, few.items, strict=True)) < set(zip(more.users, more.items, strict=True))


def test_a_given_item_bought_again_later_is_the_future(data) -> None:
    held = split(data, "k_shot", shots=(1,))[0]
    user = held.asked[0]
    item = held.train.items[held.train.users == user]
    late = joined(data[0], np.array([user]), item, np.array([DAY + np.timedelta64(500, "D")]), 7)
    again = split((late, *data[1:]), "k_shot", shots=(1,))[0]
    assert again.train.weights.tolist() == held.train.weights.tolist()
    assert again.excluded[user, item[0]]


def test_what_was_taken_back_is_not_asked_for_and_a_later_return_is_not_known(data) -> None:
    interactions = data[0]
    moment = np.datetime64(CUTOFF)
    late = np.flatnonzero(interactions.timestamps >= moment)[0]
    early = np.flatnonzero(interactions.timestamps < moment)[:2]
    returned = interactions.returned.copy()
    returned[late] = interactions.timestamps[late] + np.timedelta64(1, "D")
    returned[early] = [moment - np.timedelta64(1, "us"), moment]
    returning = replace(interactions, returned=returned)
    (held,) = split((returning, *data[1:]), "temporal")
    user, item = interactions.users[late], interactions.items[late]
    assert not held.wanted[user, item]
    assert held.excluded[user, item]
    assert np.isnat(held.train.returned[:2]).tolist() == [bool(returned[0] >= moment), bool(returned[1] >= moment)]
    assert np.isnat(held.train.returned).sum() == len(held.train) - 1


def test_a_split_stays_as_data_grow(data) -> None:
    interactions, users, items = data
    kept = interactions.users < 40
    fewer = Interactions(
        interactions.user_ids[:40], interactions.item_ids, interactions.users[kept], interactions.items[kept],
        interactions.timestamps[kept], interactions.weights[kept],
    )  # fmt: skip
    for kind in ("item_cold", "user_cold", "both_cold", "warm"):
        (small,) = make_splits(fewer, users.take(np.arange(40)), items, kind)
        (large,) = split(data, kind)
        test = large.test.select(large.test.users < 40)
        assert set(zip(small.test.users, small.test.items, strict=True)) == set(
            zip(test.users, test.items, strict=True)
        )
    shares = np.array([stable_share(str(n), "x") for n in range(2000)])
    assert abs((shares < 0.2).mean() - 0.2) < 0.03


def test_seeds_differ(data) -> None:
    drawn = {tuple(split(data, "item_cold", seed=seed)[0].cold) for seed in range(3)}
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("items", {}, "unknown split 'items'; choose one of item_cold, user_cold"),
        ("temporal", {}, "the split temporal needs a cut-off, for example"),
        ("warm", {"cutoff": CUTOFF}, "the split warm does not accept a cut-off"),
        ("temporal", {"cutoff": datetime(2030, 1, 1)}, "the cut-off 2030-01-01T00:00:00 does not divide .* 2024-01"),
        ("k_shot", {"shots": (0, 1)}, r"shots are \[0, 1\]; each must be at least 1"),
        ("k_shot", {"shots": (15,)}, "held-out users has more than 15 items; use fewer shots"),
    ],
)
def test_what_cannot_be_split_says_so(kind, options, said, data) -> None:
    with pytest.raises(ColdStartError, match=said):
        make_splits(*data, kind, **options)
