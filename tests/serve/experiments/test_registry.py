"""Experiments in the database: states, room in layers, and what cannot be combined."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from coldstart_client.experiments import Arm, ExperimentRequest
from coldstart_udfs.errors import ColdStartError
from recommender.serve.events import schema
from recommender.serve.events.log import EventLog
from recommender.serve.experiments.assignment import BUCKETS
from recommender.serve.experiments.registry import ExperimentStateError, Registry, UnknownExperimentError
from tests.support.made_up_shop import shared

ARMS = [Arm(name="now"), Arm(name="more", gamma=2.0)]
OF_BUNDLES = [Arm(name="now"), Arm(name="new", bundle="0123456789abcdef")]
OF_SHARES = [Arm(name="now"), Arm(name="new", exploration=0.1)]


def spec(name: str = "one", **given: Any) -> ExperimentRequest:
    return ExperimentRequest(name=name, arms=given.pop("arms", ARMS), **given)


def test_an_experiment_is_a_draft_then_runs_then_is_over(log: EventLog) -> None:
    registry = Registry(log)
    made = registry.create(spec(layer="page"))
    assert (made.state, made.started, made.spec.layer) == ("draft", None, "page")
    assert made.spec.seed
    assert registry.running() == {}
    started = registry.start("one")
    assert started.state == "running"
    assert registry.running()["one"].buckets == frozenset(range(BUCKETS))
    assert registry.stop("one").state == "stopped"
    assert registry.running() == {}
    with pytest.raises(ExperimentStateError, match="'one' was stopped, and its users have seen it; create another"):
        registry.start("one")


def test_what_is_asked_for_twice_is_done_once(log: EventLog) -> None:
    registry = Registry(log)
    assert registry.create(spec()) == registry.create(spec())
    assert registry.start("one") == registry.start("one")
    assert registry.stop("one") == registry.stop("one")
    assert len(registry.all()) == 1


def test_a_name_belongs_to_one_experiment(log: EventLog) -> None:
    registry = Registry(log)
    registry.create(spec())
    with pytest.raises(ExperimentStateError, match=r"there is another experiment 'one' \(draft\)"):
        registry.create(spec(share=0.5))
    with pytest.raises(UnknownExperimentError, match="there is no experiment 'two'; there are one"):
        registry.get("two")


def test_a_layer_is_given_away_once(log: EventLog) -> None:
    registry = Registry(log)
    for name, share in (("one", 0.6), ("two", 0.4), ("three", 0.1)):
        registry.create(spec(name, share=share))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(registry.start, ("one", "two")))
    first, second = (registry.running()[name].buckets for name in ("one", "two"))
    assert (len(first), len(second), len(first & second)) == (600, 400, 0)
    with pytest.raises(ExperimentStateError, match=r"needs 10.0% of the layer 'default', and 0.0% is free"):
        registry.start("three")
    registry.stop("two")
    registry.start("three")
    assert registry.running()["three"].buckets < second


@pytest.mark.parametrize(
    ("what", "arms", "given"),
    [
        ("the bundle", OF_BUNDLES, {}),
        ("the share of exploration", OF_SHARES, {}),
        ("the list by interleaving", ARMS, {"kind": "interleaving"}),
    ],
)
def test_layers_change_different_things(log: EventLog, what: str, arms: list[Arm], given: dict[str, Any]) -> None:
    registry = Registry(log)
    registry.create(spec(arms=arms, layer="a", **given))
    registry.create(spec("two", arms=arms, layer="b", **given))
    registry.create(spec("three", layer="c"))
    registry.start("one")
    registry.start("three")
    with pytest.raises(ExperimentStateError, match=f"'two' changes {what}, as 'one' of another layer does"):
        registry.start("two")


@pytest.mark.parametrize(("first", "second"), [("one", "two"), ("two", "one")])
@pytest.mark.parametrize(("arms", "given"), [(OF_BUNDLES, {}), (ARMS, {"kind": "interleaving"})])
def test_a_share_of_exploration_is_not_tried_where_nothing_is_explored(
    log: EventLog, arms: list[Arm], given: dict[str, Any], first: str, second: str
) -> None:
    registry = Registry(log)
    registry.create(spec(arms=arms, layer="a", **given))
    registry.create(spec("two", arms=OF_SHARES, layer="b"))
    registry.start(first)
    with pytest.raises(ExperimentStateError, match=rf"'{second}' changes .+ and '{first}' .+ nothing is explored"):
        registry.start(second)


def test_an_experiment_of_another_version_assigns_nobody_and_the_others_go_on(log: EventLog) -> None:
    registry = Registry(log)
    for name in ("one", "two"):
        registry.create(spec(name, share=0.5))
        registry.start(name)
    table = schema.experiments
    newer = registry.get("two").spec.model_dump_json().replace('"kind":"ab"', '"kind":"ab","of_tomorrow":1')
    log.transaction(lambda connection: connection.execute(
        update(table).where(table.c.name == "two").values(spec=newer)
    ))  # fmt: skip
    with capture_logs() as lines:
        assert [*registry.running()] == [*registry.running()] == ["one"]
    assert [line["unreadable"] for line in lines] == ["two"]
    with pytest.raises(ColdStartError, match="this version cannot read the experiment 'two'"):
        registry.get("two")
    assert registry.stop("one").state == "stopped"


def test_a_bundle_that_is_not_kept_is_no_arm(sqlite_log: EventLog, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shared().save(bundle)
    registry = Registry(sqlite_log, bundle)
    with pytest.raises(ColdStartError, match="arm 'new' names the bundle 0123456789abcdef, which is not kept"):
        registry.create(spec(arms=[Arm(name="now"), Arm(name="new", bundle="0123456789abcdef")]))
    assert registry.all() == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "two arms have one name"),
        ({"arms": [{"name": "a"}]}, "at least 2 items"),
        ({"arms": [{"name": "a"}, {"name": "b"}, {"name": "c"}], "kind": "interleaving"}, "takes two arms"),
        ({"method": "betting", "metric": {"measure": "weight"}}, "betting needs numbers between 0 and 1"),
        ({"name": "no spaces"}, "should match pattern"),
        ({"share": 0}, "greater than or equal to 0.001"),
        ({"share": "1"}, "should be a valid number"),
        ({"arms": [{"name": "a"}, {"name": "b", "text": "no"}]}, "valid boolean"),
        ({"arms": [{"name": "a"}, {"name": "b", "exploration": 0.6}]}, "less than or equal to 0.5"),
        ({"arms": [{"name": "a"}, {"name": "b", "exploration": 0.1}], "kind": "interleaving"}, "explore nothing"),
        ({"arms": [{"name": "a", "bundle": "0" * 16}, {"name": "b", "exploration": 0.1}]}, "explore nothing"),
    ],
)
def test_what_is_no_experiment_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ExperimentRequest.model_validate({"name": "one", "arms": [{"name": "a"}, {"name": "b"}]} | given)
