"""The report of an experiment as a page, and what the command line prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart_client.experiments import (
    Arm,
    ArmResult,
    Comparison,
    Experiment,
    ExperimentRequest,
    Guard,
    Point,
    Preferred,
    RatioCheck,
    Report,
)
from recommender.cli.app import app
from recommender.serve.events.rows import EPOCH
from recommender.serve.experiments.page import page_of

LONG = "x" * 100


def report(name: str = "one", *, users: int = 500, kind: str = "ab") -> Report:
    """A report, made up."""
    arms = [Arm(name="now"), Arm(name="more", gamma=1.5)]
    both = kind == "interleaving"
    spec = ExperimentRequest.model_validate({"name": name, "kind": kind, "arms": arms})
    points = [Point(users=n, difference=0.01, low=0.01 - 1 / n, high=0.01 + 1 / n) for n in range(100, users, 10)]
    compared = Comparison(
        arm="more", metric="users with a purchase", share=True, difference=0.0123 if users else None,
        low=0.001 if users else None, high=0.02 if users else None, relative=0.25 if users else None,
        verdict="better" if users else "open", sequence=points,
    )  # fmt: skip
    guard = compared.model_copy(update={"metric": Guard(event="return").title, "verdict": "worse"})
    return Report(
        experiment=Experiment(name=name, state="running", spec=spec, created=EPOCH, started=EPOCH), at=EPOCH,
        decision=f"Use “more” <b>{name}</b>",
        arms=[ArmResult(name=arm.name, users=users, exposures=users, complete=users, value=0.05 if users else None)
              for arm in arms],
        metric=[] if both else [compared],
        guards=[] if both else [guard],
        sample_ratio=RatioCheck(mismatch=False, p=1.0, expected={"now": 0.5, "more": 0.5},
                                seen={"now": users, "more": users}),
        preference=Preferred(users={"now": 10, "more": 30}, share=0.75, low=0.55, high=0.9, verdict="better")
        if both else None,
    )  # fmt: skip


def words(page: str) -> str:
    body = page[page.index("<main>") :]
    return " ".join(re.sub("<[^>]+>", " ", re.sub("(?s)<svg.*?</svg>", "", body)).split())


def test_the_page_says_what_the_report_says() -> None:
    page = page_of(report())
    said = words(page)
    assert page.count("<svg") == 1
    for expected in ("Use “more”", "+1.23 points", "+0.10 points to +2.00 points", "+25.0%", "5.00 %", "× 1.5",
                     "users with a return", "harm"):  # fmt: skip
        assert expected in said
    assert "<b>one</b>" not in page
    assert "&lt;b&gt;one" in page


def test_a_page_of_nobody_has_no_plot_and_says_why() -> None:
    page = page_of(report(LONG, users=0))
    assert "<svg" not in page
    assert "There is no interval for more yet: it needs 50 users" in words(page)
    assert "No user was exposed." in words(page)


def test_the_page_of_two_arms_in_one_list_shows_who_is_preferred() -> None:
    said = words(page_of(report(kind="interleaving")))
    assert "Users see one list that both arms fill in turns" in said
    assert "Guards" not in said


def told(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["experiment", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_experiments_run_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arms = ["--arm", "now", "--arm", "more:gamma=2,alpha=0.5,text=false,share=3"]
    assert "one is a draft" in told("create", "one", *arms, "--metric", "cart:events:impression", "--guard", "+return")
    assert "one runs" in told("start", "one")
    assert "running" in told("list")
    assert "No user was exposed" in told("report", "one", "--html", "page.html")
    assert "cart events per impression" in (tmp_path / "page.html").read_text(encoding="utf-8")
    found = json.loads(told("report", "one", "--json"))["experiment"]["spec"]
    assert found["arms"][1] == {
        "name": "more", "share": 3, "bundle": None, "alpha": 0.5, "gamma": 2, "text": False, "exploration": None,
    }  # fmt: skip
    assert found["guards"] == [{"event": "return", "measure": "users", "per": None, "harm": "up"}]
    assert "one is stopped" in told("stop", "one")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["create", "one", "--arm", "now"], "at least 2 items"),
        (["create", "one", "--arm", "now", "--arm", "b:gamma"], "'gamma' is no KEY=VALUE, such as gamma=1.5"),
        (["create", "one", "--arm", "now", "--arm", "b:speed=2"], "arms.1.speed: Extra inputs are not permitted"),
        (["create", "one", "--arm", "now", "--arm", "b", "--metric", "clicks"], "metric.event: Input should be"),
        (["report", "none"], "there is no experiment 'none'; there are none"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_told(
    arguments: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recommender.serve.events.log import EventLog

    monkeypatch.chdir(tmp_path)
    EventLog.open("sqlite:///data/events.db").close()
    done = CliRunner().invoke(app, ["experiment", *arguments])
    assert done.exit_code != 0
    assert why in str(done.exception)
