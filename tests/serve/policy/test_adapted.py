"""Parameters that adapt: rounds in the database and through HTTP, the journal, undo, and the commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

from coldstart_client.experiments import Arm, ExperimentRequest
from coldstart_udfs.errors import ColdStartError
from recommender.cli.app import app
from recommender.serve.events import schema
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog
from recommender.serve.events.rows import to_us
from recommender.serve.experiments.registry import Registry
from recommender.serve.policy.adapted import Adaptation
from recommender.serve.policy.adapting import Adaptive, Move

GAMMA = Adaptive("gamma", 0.5, 2.0, step=1.5, days=1.0, users=4_000)
EARLIER = datetime.now(UTC) - timedelta(days=3)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    """In SQLite; what differs between databases is in the tests of the experiments."""
    found = EventLog.open(f"sqlite:///{tmp_path}/events.db")
    yield found
    found.close()


@pytest.fixture
def adaptation(log: EventLog, tmp_path: Path) -> Adaptation:
    return Adaptation(log, tmp_path / "adapting.jsonl")


def visit(
    log: EventLog, chance: Callable[[float], float], users: int = 1_500, parameter: str = "gamma", away: str = ""
) -> None:
    """Users get the round that runs, and buy with a chance that depends on the value they got; the day is over.

    Half of the users of the arm `away` see nothing of it.
    """
    ((name, running),) = [(name, one) for name, one in Registry(log).running().items() if parameter in name]
    rng = np.random.default_rng(3)
    exposures, events = [], []
    for number in range(users):
        user, at = f"u{number}", EARLIER + timedelta(seconds=number)
        arm = running.arm_of(user)
        assert arm is not None
        if arm.name == away and number % 2:
            continue
        exposures.append({
            "experiment": name, "user_id": user, "occasion": "1", "arm": arm.name, "exposed_us": to_us(at),
            "recommendation_id": f"r{number}", "teams": None,
        })  # fmt: skip
        if rng.random() < chance(getattr(arm, parameter)):
            events.append(Event(user, "lamp", "purchase", at + timedelta(hours=1)))
    log.transaction(lambda connection: connection.execute(insert(schema.exposures), exposures))
    log.append(events)


def running(log: EventLog) -> dict[str, dict[str, float]]:
    """The values of the arms that run, by the parameter of the round."""
    return {name.split("-")[1]: {arm.name: arm.gamma for arm in one.spec.arms}
            for name, one in Registry(log).running().items()}  # fmt: skip


def test_a_parameter_moves_to_the_better_side_and_the_journal_says_why(
    log: EventLog, adaptation: Adaptation
) -> None:
    adaptation.begin(GAMMA, 1.0)
    assert running(log) == {"gamma": {"now": 1.0, "less": 0.6667, "more": 1.5}}
    assert adaptation.step() == []
    visit(log, lambda gamma: 0.5 * gamma - 0.3)
    (move,) = adaptation.step()
    assert (move.kind, move.round, move.before, move.after) == ("moved", 2, 1.0, 1.5)
    assert move.why.startswith("more is better: users with a purchase by 0.")
    assert move.evidence["users"] == 1_500
    assert move.evidence["intervals"]["more"][0] > 0 > move.evidence["intervals"]["less"][0]
    assert running(log) == {"gamma": {"now": 1.5, "less": 1.0, "more": 2.0}}
    # The next round knows nothing of the last one's users.
    assert adaptation.step() == []
    visit(log, lambda gamma: 0.5 * gamma - 0.3)
    (again,) = adaptation.step()
    assert (again.after, running(log)) == (2.0, {"gamma": {"now": 2.0, "less": 1.3333}})
    assert adaptation.moves()[1:] == [move, again]


def test_without_a_difference_nothing_moves_and_a_round_ends_after_its_users(
    log: EventLog, adaptation: Adaptation
) -> None:
    adaptation.begin(GAMMA, 1.0)
    visit(log, lambda _: 0.2)
    assert adaptation.step() == []
    before = running(log)
    ((name, _),) = Registry(log).running().items()
    with log.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM exposures").scalar() == 1_500
    full = Adaptation(log, adaptation._journal.with_name("another.jsonl"))
    full.begin(Adaptive("alpha", 0.5, 2.0, days=1.0, users=1_000), 1.0)
    visit(log, lambda _: 0.2, parameter="alpha")
    (stayed,) = full.step()
    assert (stayed.kind, stayed.round, stayed.after, stayed.why) == (
        "stayed", 2, 1.0, "no side was better by 1,500 users"
    )  # fmt: skip
    assert {name: arms for name, arms in running(log).items() if name == "gamma"} == before
    assert name in Registry(log).running()


def test_a_round_whose_arms_lose_users_does_not_count(log: EventLog, adaptation: Adaptation) -> None:
    """Whatever keeps users away may keep those away who would not have bought."""
    adaptation.begin(GAMMA, 1.0)
    visit(log, lambda gamma: 0.5 * gamma - 0.3, away="more")
    (move,) = adaptation.step()
    assert (move.kind, move.round, move.after) == ("stayed", 2, 1.0)
    assert move.why.startswith("the arms do not have the users that were planned (p = ")


def test_moves_are_undone_one_after_the_other(log: EventLog, adaptation: Adaptation) -> None:
    adaptation.begin(GAMMA, 1.0)
    for _ in range(2):
        visit(log, lambda gamma: 0.5 * gamma - 0.3)
        adaptation.step()
    assert [adaptation.undo("gamma").after, adaptation.undo("gamma").after] == [1.5, 1.0]
    assert running(log) == {"gamma": {"now": 1.0, "less": 0.6667, "more": 1.5}}
    with pytest.raises(ColdStartError, match="has its first value, 1; there is no move to undo"):
        adaptation.undo("gamma")
    kinds = [move.kind for move in adaptation.moves()]
    assert kinds == ["begun", "moved", "moved", "undone", "undone"]


def test_errors_of_all_rounds_together_are_bounded() -> None:
    assert sum(GAMMA.error_of(number) for number in range(1, 10_000)) < GAMMA.error
    assert GAMMA.error_of(1) == GAMMA.error / 2


def test_a_round_that_an_interrupted_command_has_not_begun_begins_with_the_next_step(
    log: EventLog, adaptation: Adaptation
) -> None:
    begun = adaptation.begin(GAMMA, 1.0)
    line = begun.as_json() | {"kind": "moved", "round": 2, "before": 1.0, "after": 1.5}
    with adaptation._journal.open("a") as journal:  # as it is after the journal was written, and nothing else
        journal.write(json.dumps(line) + "\n")
    assert adaptation.step() == []
    assert running(log) == {"gamma": {"now": 1.5, "less": 1.0, "more": 2.0}}


def test_a_parameter_that_ends_is_no_experiment_any_more(log: EventLog, adaptation: Adaptation) -> None:
    adaptation.begin(GAMMA, 1.0)
    assert adaptation.end("gamma").kind == "ended"
    assert running(log) == {}
    assert adaptation.step() == []
    for change in (adaptation.end, adaptation.undo):
        with pytest.raises(ColdStartError, match="'gamma' does not adapt; what does is nothing"):
            change("gamma")
    assert adaptation.begin(GAMMA, 0.8).round == 2


def test_what_cannot_begin_leaves_no_trace(log: EventLog, adaptation: Adaptation) -> None:
    adaptation.begin(GAMMA, 1.0)
    with pytest.raises(ColdStartError, match="gamma adapts already, from 1 in round 1"):
        adaptation.begin(GAMMA, 1.0)
    with pytest.raises(ColdStartError, match=r"alpha 3 is not between 0\.5 and 2"):
        adaptation.begin(Adaptive("alpha", 0.5, 2.0), 3.0)
    with pytest.raises(ColdStartError, match="gamma adapts already, and gamma:cold would change it for the same users"):
        adaptation.begin(Adaptive("gamma", 0.5, 2.0, "cold"), 1.0)
    registry = Registry(log)
    arms = [Arm(name="a"), Arm(name="b", exploration=0.1)]
    registry.create(ExperimentRequest(name="mine", arms=arms, layer="other"))
    registry.start("mine")
    with pytest.raises(ColdStartError, match="changes the share of exploration, as 'mine' of another layer does"):
        adaptation.begin(Adaptive("exploration", 0.02, 0.2), 0.1)
    assert [move.adaptive.parameter for move in adaptation.moves()] == ["gamma"]


def test_a_round_that_was_stopped_by_hand_is_an_error(log: EventLog, adaptation: Adaptation) -> None:
    move = adaptation.begin(GAMMA, 1.0)
    Registry(log).stop(move.experiment)
    with pytest.raises(ColdStartError, match=r"in which gamma adapts, was stopped; .*coldstart adapt end gamma"):
        adaptation.step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameter": "beta"}, "'beta' does not adapt; possible are alpha, gamma, exploration"),
        ({"low": 2.0, "high": 1.0}, "from 2 to 1 is no range"), ({"high": 99.0}, "between 0.05 and 20"),
        ({"tier": "hot"}, "'hot' is no tier"), ({"tier": "unknown"}, "makes no difference to users of whom nothing"),
        ({"users": 10}, "a round has at most 10 users; it must be 400 or more"),
        ({"step": 1.0}, "the step is 1; a factor from 1.01 to 4"), ({"error": 0.5}, "the error is 0.5"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ColdStartError, match=message):
        Adaptive(**{"parameter": "gamma", "low": 0.5, "high": 2.0} | settings)


def test_a_line_of_the_journal_is_read_as_it_was_written(adaptation: Adaptation) -> None:
    move = adaptation.begin(GAMMA, 1.0)
    assert Move.of_json(json.loads(json.dumps(move.as_json()))) == move == adaptation.moves()[0]


def test_the_commands(tmp_path: Path) -> None:
    url, journal = f"sqlite:///{tmp_path}/events.db", str(tmp_path / "adapting.jsonl")
    log = EventLog.open(url)
    options = ["--events", url, "--journal", journal]

    def said(*words: str) -> str:
        found = CliRunner().invoke(app, ["adapt", *words, *options])
        assert found.exit_code == 0, found.output
        return " ".join(found.output.split())

    begin = ["begin", "gamma", "--low", "0.5", "--high", "2", "--step", "1.5", "--days", "1", "--users", "4000"]
    assert said(*begin).startswith("gamma 1 → 1 (begun: by hand); round 1 shows 0.6667, 1, 1.5")
    assert said("step") == "nothing moves: no side is better with certainty"
    visit(log, lambda gamma: 0.5 * gamma - 0.3)
    assert "gamma 1 → 1.5 (moved: more is better: users with a purchase by" in said("step")
    assert said("undo", "gamma").startswith("gamma 1.5 → 1 (undone: by hand); round 3 shows 0.6667, 1, 1.5")
    assert "gamma adapts no more" in said("end", "gamma")
    listed = said("list")
    for kind in ("begun", "moved", "undone", "ended"):
        assert kind in listed
    log.close()


def test_users_of_the_service_get_the_values_of_their_arms(start: Callable[..., Any], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/served.db"
    client = start(events=url)
    log = EventLog.open(url)
    adaptation = Adaptation(log, tmp_path / "adapting.jsonl")
    words: dict[str, Any] = {"description": "a gift for a gardener", "k": 1}
    words["among"] = [client.post("/v1/recommend", json=words).json()["items"][0]["item_id"]]

    def texts() -> dict[str, float]:
        """The part `text` of one item's score, by the arms that users are in."""
        found = {}
        for number in range(30):
            answer = client.post("/v1/recommend", json=words | {"user_id": f"new{number}"}).json()
            arms = answer.get("experiments") or {}
            found[next(iter(arms.values()), "none")] = answer["items"][0]["parts"]["text"]
        return found

    assert set(texts()) == {"none"}
    adaptation.begin(GAMMA, 1.0)
    shown = _until(texts, lambda found: len(found) == 3)
    assert [shown["less"], shown["more"]] == pytest.approx([0.6667 * shown["now"], 1.5 * shown["now"]], rel=1e-4)
    adaptation.end("gamma")
    assert _until(texts, lambda found: set(found) == {"none"})
    log.close()


def test_a_parameter_of_one_tier_changes_nothing_for_others(start: Callable[..., Any], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/served.db"
    client = start(events=url)
    log = EventLog.open(url)
    adaptation = Adaptation(log, tmp_path / "adapting.jsonl")
    adaptation.begin(Adaptive("gamma", 0.5, 2.0, "cold", step=1.5), 2.0)
    adaptation.begin(Adaptive("exploration", 0.05, 0.2, "warm"), 0.1)
    adaptation.begin(Adaptive("exploration", 0.05, 0.2, "cold"), 0.1)
    (known, *_) = client.get("/v1/users").json()["users"]

    def shown(**asker: Any) -> dict[str, str]:
        answer = client.post("/v1/recommend", json={"k": 1} | asker).json()
        return {name.rsplit("-", 2)[0]: arm for name, arm in (answer.get("experiments") or {}).items()}

    def all_tiers() -> dict[str, Any]:
        return {
            "cold": shown(user_id="new", description="a gift for a gardener"), "warm": shown(user_id=known["user_id"]),
            "unknown": shown(user_id="new"), "guest": shown(description="a gift for a gardener"),
        }  # fmt: skip

    found = _until(all_tiers, lambda found: len(found["cold"]) == 2 and len(found["warm"]) == 1)
    assert set(found["cold"]) == {"adapt-gamma-cold", "adapt-exploration-cold"}
    assert set(found["warm"]) == {"adapt-exploration-warm"}
    assert (found["unknown"], found["guest"]) == ({}, {})
    asked = {"user_id": "new", "description": "a gift for a gardener"}
    item = client.post("/v1/recommend", json=asked | {"k": 1}).json()["items"][0]
    explained = client.post("/v1/explain", json=asked | {"item_id": item["item_id"]}).json()
    assert explained["score"] == pytest.approx(item["score"])
    log.close()


def _until(ask: Callable[[], dict[str, Any]], right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask until workers have noticed; some hundred requests are longer than their poll."""
    for _ in range(60):
        if right(found := ask()):
            return found
    raise AssertionError(found)
