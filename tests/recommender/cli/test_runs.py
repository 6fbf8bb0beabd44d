"""`coldstart runs list`, `show` and `compare`, on records that were written here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart_udfs.errors import ColdStartError
from recommender.cli.app import app
from recommender.tracking.records import runs
from tests.support.tracked_run import told

Print = Callable[..., list[str]]


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Print:
    """The lines that a command prints, without borders, in a folder with two runs."""
    monkeypatch.chdir(tmp_path)
    told(ndcg=0.25, rate=0.05)
    told(ndcg=0.5, rate=0.02)

    def command(*arguments: str) -> list[str]:
        result = CliRunner().invoke(app, ["runs", *arguments])
        if isinstance(result.exception, ColdStartError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return [" ".join(line.replace("│", " ").replace("┃", " ").split()) for line in result.output.splitlines()]

    return command


def ids() -> list[str]:
    return [run.id for run in runs(Path("data/runs"))]


def by_figure(figure: float) -> str:
    """The two runs may be of the same second, and then their ids have no order."""
    (found,) = [run.id for run in runs(Path("data/runs")) if run.figures["validation/ndcg@20"] == figure]
    return found


def test_runs_are_listed_with_their_first_figure_the_newest_first(shown: Print) -> None:
    lines = shown("list")
    rows = [f"{by_figure(value)} train finished 0:00:00 validation/ndcg@20 {value:.4f}" for value in (0.25, 0.5)]
    found = [line for line in lines if "finished" in line]
    assert sorted(line.replace("0:00:01", "0:00:00") for line in found) == sorted(rows)
    assert [line.split()[0] for line in found] == ids()[::-1]


def test_a_run_is_shown_with_all_that_it_told(shown: Print) -> None:
    name = by_figure(0.5)
    lines = shown("show", name[-4:])
    assert lines[0].startswith(f"{name}: finished, began ")
    for line in (
        "learning_rate 0.0200", "weights.warm.text 0.5000, 1.2500", "search", "validation/ndcg@20 0.5000",
        "cutoff_fit/auc 3 0.6000 0.8000 0.6000 0.8000", f"report.html: data/runs/{name}/report.html",
    ):  # fmt: skip
        assert line in lines


def test_the_latest_run_is_shown_and_as_json_whole(shown: Print) -> None:
    record = json.loads("".join(shown("show", "--json")))
    assert record == json.loads(Path("data/runs", ids()[-1], "run.json").read_text())


def test_two_runs_are_compared_by_what_differs(shown: Print) -> None:
    lines = shown("compare", by_figure(0.25), by_figure(0.5)[-4:])
    assert "learning_rate 0.0500 0.0200" in lines
    assert "5 parameters are the same" in lines
    assert not any("cutoff 2011" in line for line in lines)
    assert "validation/ndcg@20 0.2500 0.5000 +0.2500" in lines
    assert "cutoff_fit/auc 0.8000 0.8000 0" in lines
    assert len(shown("compare")) == len(lines)  # the two latest


def test_what_cannot_be_compared_is_refused(shown: Print) -> None:
    with pytest.raises(ColdStartError, match="give at least 2 different ones, or none"):
        shown("compare", ids()[0])
    with pytest.raises(ColdStartError, match=f"the only run named is {ids()[0]}; give"):
        shown("compare", ids()[0], ids()[0])
    with pytest.raises(ColdStartError, match="elsewhere has 0 records of runs, and 2 are needed"):
        shown("compare", "--runs", "elsewhere")
    assert shown("list", "--runs", "elsewhere") == ["elsewhere has no records of runs"]
