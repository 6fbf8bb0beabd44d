"""One list of two arms: who picks, who is credited, what is concluded."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import insert

from coldstart_client.experiments import Arm, ExperimentRequest, Metric
from recommender.serve.events import schema
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog
from recommender.serve.events.rows import to_us
from recommender.serve.experiments.exposures import Exposure
from recommender.serve.experiments.interleaving import Preference, drafted
from recommender.serve.experiments.registry import Registry
from recommender.serve.experiments.report import report_of

FIRST, SECOND = ["a", "b", "c", "d", "e", "f"], ["f", "e", "x", "y", "a", "b"]


def test_teams_pick_in_turns_the_best_that_is_left() -> None:
    for seed in map(str, range(50)):
        picked = drafted(FIRST, SECOND, (), seed)
        assert len(picked) == len({item for item, _ in picked}) == 6
        teams = [team for _, team in picked]
        assert all(abs(teams[:end].count(0) - teams[:end].count(1)) <= 1 for end in range(7))
        taken: list[str] = []
        for item, team in picked:
            assert item == next(one for one in (FIRST, SECOND)[team] if one not in taken)
            taken.append(item)


def test_each_team_picks_first_in_half_of_the_lists_and_is_credited_alike_for_equal_lists() -> None:
    picks = [drafted(FIRST, FIRST, (), str(seed)) for seed in range(2_000)]
    assert all([item for item, _ in picked] == FIRST for picked in picks)
    for place in range(6):
        assert Counter(picked[place][1] for picked in picks)[0] / 2_000 == pytest.approx(0.5, abs=0.05)


def test_pinned_items_are_of_no_team_and_short_lists_end() -> None:
    assert drafted(["p", "a"], ["p", "b"], ["p"], "s")[0] == ("p", -1)
    assert [item for item, _ in drafted(["a"], [], (), "s")] == ["a"]
    assert drafted([], [], (), "s") == []


def test_a_preference_is_found_and_chance_is_none() -> None:
    few, many = Preference.of(np.array([1.0, 1, -1, 0]), 0.05), Preference.of(np.array([1.0, 1, -1, 0] * 100), 0.05)
    assert (few.first, few.second) == (1, 2)
    assert few.low < 0.5 < few.high
    assert 0.5 < many.low < 2 / 3 < many.high
    assert Preference.of(np.array([]), 0.05).low == 0
    rng = np.random.default_rng(0)
    runs = [np.where(rng.random(400) < 0.5, 1.0, -1.0) for _ in range(60)]
    looks = [[Preference.of(run[:n], 0.05) for n in range(40, 401, 40)] for run in runs]
    assert np.mean([any(look.low > 0.5 or look.high < 0.5 for look in one) for one in looks]) <= 0.12


def test_events_that_cite_a_list_credit_the_arm_of_their_item(log: EventLog) -> None:
    registry = Registry(log)
    arms = [Arm(name="now"), Arm(name="more")]
    registry.create(ExperimentRequest(name="one", kind="interleaving", arms=arms, metric=Metric(event="cart")))
    registry.start("one")
    began = datetime.now(UTC) - timedelta(days=20)
    users = [f"user {number}" for number in range(60)]
    rows = [asdict(Exposure("one", user, f"of {user}", "", to_us(began), f"of {user}", '{"mug": "more", "pot": "now"}'))
            for user in users]  # fmt: skip
    log.transaction(lambda connection: connection.execute(insert(schema.exposures), rows))
    then = began + timedelta(days=1)
    log.append([
        *(Event(user, "mug", "cart", then, recommendation_id=f"of {user}") for user in users[:40]),
        *(Event(user, "pot", "cart", then, recommendation_id=f"of {user}") for user in users[35:45]),
        Event(users[50], "mug", "cart", then), Event(users[51], "mug", "cart", then, recommendation_id="of user 1"),
        Event(users[52], "flag", "cart", then, recommendation_id="of user 52"),
        Event(users[53], "mug", "view", then, recommendation_id="of user 53"),
        Event(users[54], "mug", "cart", then + timedelta(days=9), recommendation_id="of user 54"),
    ])  # fmt: skip
    found = report_of(log, registry.get("one"))
    assert found.preference is not None
    # Five took one of each, and prefer neither.
    assert found.preference.users == {"now": 5, "more": 35}
    assert found.preference.verdict == "better"
    assert found.decision.startswith("Users prefer “more” to “now”. Of 40 users")
    assert found.metric == []
