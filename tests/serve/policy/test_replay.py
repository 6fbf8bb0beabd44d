"""Replaying explored places: who earned what, which policies there are, and the command."""

from __future__ import annotations

import json
from dataclasses import replace as changed
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from coldstart_udfs.errors import ColdStartError
from recommender.cli.app import app
from recommender.serve.policy.exported import from_export
from recommender.serve.policy.replay import replay
from recommender.serve.policy.rewards import Explored, earned
from tests.support.explored import DAY, WEEK, decision, drawn, write_export


def test_policies_earn_what_their_items_do() -> None:
    """Expected are .4·.5 + .2·.2 = .24 for the log, .2 for uniform draws, .4 for lamps alone."""
    found = replay(drawn(4_000), ["logged", "uniform", "greedy", "model"])
    assert (found.decisions, found.units, found.first, found.last) == (4_000, 4_000, DAY, DAY + timedelta(hours=3_999))
    assert found.policies["logged"].ips.value == pytest.approx(found.earned)
    for name, truth in {"logged": 0.24, "uniform": 0.2, "greedy": 0.4, "model": 0.4}.items():
        one = found.policies[name]
        assert one.dr.low < truth < one.dr.high, name
        assert one.warnings == ()
    assert found.policies["greedy"].gain.low > 0.1 > -0.01 > found.policies["uniform"].gain.high


def test_a_file_weighs_items(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"rug": 3, "*": 1}')
    found = replay(drawn(4_000), [str(file)]).policies[str(file)]
    assert found.dr.low < 0.4 * 0.2 + 0.2 * 0.6 < found.dr.high
    assert found.max_weight == pytest.approx(0.6 / 0.2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{rug: 1}", "is no JSON"), ("[1]", "must hold weights"), ('{"rug": -1}', "must hold weights"),
        ('{"rug": true}', "must hold weights"), ('{"rug": 1e999}', "must hold weights"),
        ('{"sofa": 1}', r"no weight to any candidate of 30 of 30 decisions; .*\"\*\": 1"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_policy_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(content)
    with pytest.raises(ColdStartError, match=message):
        replay(drawn(30), [str(file)])


def test_an_unknown_policy_is_an_error() -> None:
    with pytest.raises(ColdStartError, match=r"no policy 'greddy' and no such file; possible are logged, uniform"):
        replay(drawn(30), ["greddy"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"probabilities": np.array([0.5, 0.5, 0.0])}, "probabilities from 0 to 0.5 with the sum 1"),
        ({"probabilities": np.array([0.5, 0.3, 0.3])}, "the sum 1.1"),
        ({"probabilities": np.array([0.5, 0.5])}, "3 candidates, 2 probabilities and 3 contexts"),
        ({"item_id": "sofa"}, "drew 'sofa', which is not among its candidates"),
        ({"contexts": np.full((3, 2), np.nan, np.float32)}, "NaN or infinity"),
        ({"contexts": np.zeros((3, 4), np.float32)}, "2 and 4 columns"),
    ],
)
def test_a_decision_that_cannot_be_is_an_error(bad: dict[str, Any], message: str) -> None:
    explored = drawn(10)
    odd = changed(explored.decisions[4], **bad)
    with pytest.raises(ColdStartError, match=message):
        replay(Explored([*explored.decisions[:4], odd], [0.0] * 5), ["uniform"])


def test_guests_are_one_unit_for_each_answer() -> None:
    decisions = [decision(1, user=""), decision(1, user="", position=7), decision(2, user=""), decision(3, user="r1")]
    assert replay(Explored(decisions, [0.0, 1.0, 0.0, 1.0]), ["uniform"]).units == 3


def test_nothing_to_replay_is_an_error() -> None:
    with pytest.raises(ColdStartError, match=r"no decision to replay; 3 are too recent"):
        replay(Explored([], [], 3), ["uniform"])


def test_a_decision_earns_the_best_of_its_events_within_the_window() -> None:
    decisions = [decision(number) for number in range(5)]
    late = DAY + 2 * WEEK
    events = [
        ("r0", "lamp", DAY + timedelta(days=1), "cart"), ("r0", "lamp", DAY + timedelta(days=2), "purchase"),
        ("r1", "lamp", DAY + timedelta(days=1), "cart"), ("r2", "pot", DAY + timedelta(days=1), "purchase"),
        ("r3", "lamp", DAY + timedelta(days=8), "purchase"), ("r9", "lamp", DAY, "purchase"),
        # A sender's clock is late: the event cites the answer all the same.
        ("r4", "lamp", DAY, "purchase"),
    ]  # fmt: skip
    found = earned(decisions, events, {"purchase": 1.0, "cart": 0.2}, WEEK, late)
    assert (list(found.rewards), found.waiting) == ([1.0, 0.2, 0.0, 0.0, 1.0], 0)


def test_decisions_wait_until_their_window_is_over() -> None:
    """Also those that were rewarded: else quick rewards would count, and those who still think would not."""
    decisions = [decision(number) for number in range(5)]
    bought = [("r4", "lamp", DAY + timedelta(hours=5), "purchase")]
    found = earned(decisions, bought, {"purchase": 1.0}, WEEK, DAY + WEEK + timedelta(hours=2))
    assert ([one.recommendation_id for one in found.decisions], found.waiting) == (["r0", "r1", "r2"], 2)
    assert earned(decisions, [], {"purchase": 1.0}, timedelta(hours=1), None).waiting == 1
    assert earned([], [], {"purchase": 1.0}, WEEK, None) == Explored([], [], 0)


def test_a_type_that_never_occurs_is_an_error_that_names_those_that_do() -> None:
    with pytest.raises(ColdStartError, match=r"no purchse cites .* place; events of other types do: purchase \(1\)"):
        earned([decision(1)], [("r1", "lamp", DAY, "purchase")], {"purchse": 1.0}, WEEK, DAY)


def test_an_export_is_read_as_it_was_written(tmp_path: Path) -> None:
    explored = drawn(50)
    write_export(tmp_path / "out", explored)
    found = from_export(tmp_path / "out", {"purchase": 1.0}, WEEK)
    assert found.rewards == explored.rewards
    for one, other in zip(found.decisions, explored.decisions, strict=True):
        assert (one.recommendation_id, one.user_id, one.at, one.position, one.item_id, one.items, one.policy) == (
            other.recommendation_id, other.user_id, other.at, other.position, other.item_id, other.items, other.policy
        )  # fmt: skip
        assert np.array_equal(one.probabilities, other.probabilities)
        assert np.array_equal(one.contexts, other.contexts)
        assert one.contexts.dtype == np.float32


def test_an_export_without_decisions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ColdStartError, match="has no decisions; run `coldstart events export"):
        from_export(tmp_path, {"purchase": 1.0}, WEEK)
    place = tmp_path / "explorations" / "day=2026-03-01"
    place.mkdir(parents=True)
    duckdb.sql("SELECT 'r1' AS recommendation_id").write_parquet(str(place / "rows.parquet"))
    with pytest.raises(ColdStartError, match="lacks the columns user_id, event_timestamp"):
        from_export(tmp_path, {"purchase": 1.0}, WEEK)


def test_contexts_of_different_lengths_are_an_error(tmp_path: Path) -> None:
    odd = changed(decision(1), contexts=[np.zeros(2), np.zeros(1), np.zeros(1)])
    write_export(tmp_path / "out", Explored([decision(0), odd], [0.0, 1.0]))
    with pytest.raises(ColdStartError, match="the contexts of 'r1' have 4 numbers for 3 candidates"):
        from_export(tmp_path / "out", {"purchase": 1.0}, WEEK)


def test_the_command_prints_a_table_and_warnings(tmp_path: Path) -> None:
    write_export(tmp_path / "out", drawn(120))
    found = CliRunner().invoke(app, ["experiment", "replay", str(tmp_path / "out"), "--window", "48h"])
    assert found.exit_code == 0, found.output
    text = " ".join(found.output.split())
    assert "120 explored places of 120 users, 2026-03-01 to 2026-03-05" in text
    for policy in ("logged", "uniform", "greedy", "model"):
        assert f"│ {policy} " in text
    assert "purchases in 1,000 places, within 48h" in text
    assert "greedy: the estimates rest on the worth of" in text


def test_the_command_prints_json(tmp_path: Path) -> None:
    write_export(tmp_path / "out", drawn(400), "cart")
    words = ["experiment", "replay", str(tmp_path / "out"), "--policy", "greedy", "--reward", "add_to_cart", "--json"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    told = json.loads(found.output)
    assert (told["reward"], told["window"], told["decisions"]) == ("cart", "24h", 400)
    one = told["policies"]["greedy"]
    assert one["dr"]["low"] < 0.4 < one["dr"]["high"]
    assert {"ips", "snips", "dr", "gain", "effective_units", "max_weight", "warnings"} == set(one)


def test_bounds_that_do_not_exist_are_null_in_json() -> None:
    found = replay(Explored([decision(1)], [1.0]), ["uniform"]).as_json()
    assert found["policies"]["uniform"]["ips"] == {"value": pytest.approx(2 / 3), "low": None, "high": None}
    json.dumps(found, allow_nan=False)
