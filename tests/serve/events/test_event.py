from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.serve.events.event import Event

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_names_of_types_become_those_of_the_contract_and_moments_utc() -> None:
    event = Event("u", "i", "addToCart", datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert (event.event_type, event.event_timestamp) == ("cart", NOW)
    assert Event("u", "i", "Vote", NOW).event_type == "vote"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"user_id": " "}, "ids are not blank"),
        ({"item_id": None}, "only a search may have None"),
        ({"item_id": ""}, "only a search may have None"),
        ({"event_type": ""}, "event_type is blank"),
        ({"event_type": "search", "item_id": None}, "give what was searched for"),
        ({"event_timestamp": datetime(2026, 1, 1)}, "has no time zone"),
        ({"event_timestamp": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))}, "in no year from 1 to 9999"),
        *(({"weight": weight}, "from 1e-06 to 1,000,000") for weight in (0.0, 1e-300, 1e300, float("nan"))),
        ({"event_type": "rating"}, "a rating has one, no other type has"),
        ({"rating": 3.0}, "a rating has one, no other type has"),
        ({"event_type": "rating", "rating": 6.0}, "from 1 to 5"),
        ({"position": 0}, "the first place is 1"),
        ({"position": 2**40}, "the first place is 1"),
        ({"user_id": "a\0b"}, "user_id has the character"),
        ({"query": "\ud800"}, "query has the character"),
    ],
)  # fmt: skip
def test_what_is_missing_or_out_of_range_is_refused(changes: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"user_id": "u", "item_id": "i", "event_type": "view", "event_timestamp": NOW}
    with pytest.raises(ColdStartError, match=said):
        Event(**given | changes)


def test_a_high_rating_weighs_its_share_and_a_low_one_takes_back() -> None:
    low, high = (Event("u", "i", "rating", NOW, rating=rating) for rating in (2.5, 4.0))
    assert high.rows == (("interaction", 0.8),)
    assert low.rows == (("view", 1.0), ("return", 1.0))
    assert Event("u", "i", "view", NOW, weight=2.0).rows == (("view", 2.0),)
