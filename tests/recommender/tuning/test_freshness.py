"""Freshness is chosen where what is new is wanted, and left out where it is not, or where nobody can tell."""

from __future__ import annotations

import numpy as np
import pytest

from recommender.data.entities import with_history
from recommender.data.interactions import Interactions
from recommender.model.fitting import fit
from recommender.model.freshness import Moments
from recommender.model.parameters import Parameters
from recommender.tuning.divisions import Division
from recommender.tuning.freshness import Freshness, Replay, choose_freshness
from tests.support.made_up_shop import entities

START = np.datetime64("2024-01-01", "us")
USERS, ITEMS, DAYS = 30, 120, 60


def feed(wanted_within: float, seed: int = 0, *, dates: bool = True) -> tuple[Division, Moments]:
    """Two articles come each day; every hour a reader takes one at random of the last days, without a taste.

    Args:
        wanted_within: days.
        seed: of chance.
        dates: false gives all articles one date.
    """
    rng = np.random.default_rng(seed)
    born = np.arange(ITEMS) * (DAYS / ITEMS)
    rows = []
    for hour in range(24, DAYS * 24, 2):
        there = np.flatnonzero((born < hour / 24) & (born >= hour / 24 - wanted_within))
        rows.append((int(rng.integers(USERS)), int(rng.choice(there)), hour / 24))
    users, items, days = (np.array(column) for column in zip(*rows, strict=True))
    ids = [f"u{n:02}" for n in range(USERS)], [f"i{n:03}" for n in range(ITEMS)]
    times = START + (days * 86_400e6).astype("timedelta64[us]")
    done = Interactions(*ids, users, items, times, np.ones(len(rows), np.float32))
    late = days > DAYS * 0.7
    learned = done.select(~late)
    readers = entities(ids[0], [""] * USERS, np.zeros((USERS, 3)))
    articles = entities(ids[1], [f"text {n}" for n in range(ITEMS)], rng.normal(size=(ITEMS, 3)))
    known = with_history(learned, readers, articles)
    came = START + (born * 86_400e6 * dates).astype("timedelta64[us]")
    return Division(learned, done.select(late), *known, learned, in_time=True), came


def chosen(division: Division, came: Moments) -> Freshness:
    state = fit(Parameters(components=4, epochs=2), division.learned, division.users, division.items)
    return choose_freshness(state, division, came)


def test_readers_of_what_is_new_get_a_short_half_life() -> None:
    found = chosen(*feed(2.0))
    assert found.weight > 1
    assert found.half_life <= 10
    assert found.source == "learned on held-out interactions in time"


@pytest.mark.parametrize("seed", range(8))
def test_where_age_does_not_matter_it_weighs_nothing(seed: int) -> None:
    assert chosen(*feed(1e9, seed)).weight == 0


def test_where_nobody_can_tell_it_weighs_nothing() -> None:
    division, came = feed(2.0)
    assert chosen(*feed(2.0, dates=False)).source == "none: the data cannot tell"
    by_chance = Division(division.learned, division.wanted, division.users, division.items, division.seen)
    assert chosen(by_chance, came).weight == 0
    for many in (20, 0):
        few = division.wanted.select(np.arange(len(division.wanted)) < many)
        told = Division(division.learned, few, division.users, division.items, division.seen, in_time=True)
        assert chosen(told, came).source == "none: the data cannot tell"
    # Everything wanted was had before.
    same = Division(division.wanted, division.wanted, division.users, division.items, division.wanted, in_time=True)
    assert chosen(same, came).source == "none: the data cannot tell"


def test_a_list_holds_what_was_there_at_its_moment_and_nothing_that_came_later() -> None:
    division, came = feed(2.0)
    state = fit(Parameters(components=4, epochs=2), division.learned, division.users, division.items)
    replay = Replay.of(state, division, came)
    there = np.isfinite(replay.scores)
    assert not there[came[None] > replay.moments[:, None]].any()
    assert there[np.arange(len(there)), replay.wanted].all()
    # Scores are those before the cut-off: what is taken later changes none.
    again = Replay.of(state, Division(
        division.learned, division.wanted.select(division.wanted.timestamps <= replay.moments[5]), division.users,
        division.items, division.seen, in_time=True,
    ), came)  # fmt: skip
    np.testing.assert_allclose(again.scores[:3], replay.scores[:3], atol=1e-5)


def test_an_item_that_is_known_from_the_interaction_alone_is_not_replayed() -> None:
    division, came = feed(2.0)
    first = division.wanted.timestamps.max() + np.zeros(len(came), "timedelta64[us]")
    np.minimum.at(first, division.wanted.items, division.wanted.timestamps)
    state = fit(Parameters(components=4, epochs=2), division.learned, division.users, division.items)
    replay = Replay.of(state, division, first)
    assert (replay.moments > first[replay.wanted]).all()
