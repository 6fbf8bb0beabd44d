"""Records of runs on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coldstart_udfs.errors import ColdStartError, ColdStartWarning
from recommender.tracking import records, tracked
from recommender.tracking.records import RecordTracker, run_named, runs
from tests.support.tracked_run import REPORT, told


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_record_holds_what_was_told() -> None:
    told()
    (run,) = runs(Path("data/runs"))
    assert (run.command, run.status) == ("train", "finished")
    assert run.parameters == {
        "data": "data", "learning_rate": 0.05, "search": None, "resumed": False, "cutoff": "2011-08-01T00:00:00+00:00",
        "weights.warm.text": [0.5, 1.25],
    }  # fmt: skip
    assert run.metrics == {
        "cutoff_fit/auc": [(1, 0.6), (2, 0.7), (3, 0.8)], "cutoff_fit/held_out_auc": [(1, 0.5), (2, 0.5), (3, 0.5)],
        "final_fit/auc": [(1, 0.6), (2, 0.7)],
    }  # fmt: skip
    assert run.figures == {"validation/ndcg@20": 0.25, "validation/none": None}
    (report,) = run.artifacts
    assert (report.name, report.bytes, report.copied) == ("report.html", len(REPORT), True)
    assert Path("data/runs", run.id, "report.html").read_text() == REPORT
    assert run.versions["feast-coldstart"]
    assert run.began <= str(run.ended)


def test_a_run_that_raises_has_failed_and_keeps_what_it_told() -> None:
    def stopped() -> None:
        with tracked("train") as tracker:
            tracker.metrics({"loss": 1.0}, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    (run,) = runs(Path("data/runs"))
    assert (run.status, run.metrics) == ("failed", {"loss": [(1, 1.0)]})


def test_a_run_that_is_refused_before_it_measures_anything_leaves_no_record() -> None:
    def refused() -> None:
        with tracked("train") as tracker:
            tracker.parameters({"data": "nowhere"})
            raise ColdStartError("nowhere is not a folder")

    with pytest.raises(ColdStartError):
        refused()
    assert not Path("data").exists()


def test_a_run_is_on_disk_while_it_runs() -> None:
    with tracked("train") as tracker:
        tracker.metrics({"loss": 1.0}, 1)
        (run,) = runs(Path("data/runs"))
        assert (run.status, run.ended) == ("running", None)
    assert [run.status for run in runs(Path("data/runs"))] == ["finished"]


def test_only_the_last_runs_and_a_bounded_number_of_steps_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEPT", 3)
    monkeypatch.setattr(records, "STEPS", 10)
    folder = Path("data/runs")
    (folder / "notes").mkdir(parents=True)
    for number in range(5):
        tracker = RecordTracker(folder, f"run {number}")
        for step in range(1, 101):
            tracker.metrics({"loss": 1 / step}, step)
        tracker.close(False)
    known = runs(folder)
    assert [run.command for run in known] == ["run 2", "run 3", "run 4"]
    assert sorted(path.name for path in folder.iterdir()) == [*(run.id for run in known), "notes"]
    for run in known:
        steps = [step for step, _ in run.metrics["loss"]]
        assert steps == sorted(steps)
        assert (steps[0], steps[-1]) == (1, 100)
        assert 5 <= len(steps) <= 10


def test_a_large_file_is_named_but_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LARGEST", len(REPORT) - 1)
    told()
    (run,) = runs(Path("data/runs"))
    assert [(one.name, one.copied) for one in run.artifacts] == [("report.html", False)]
    assert [path.name for path in Path("data/runs", run.id).iterdir()] == ["run.json"]


def test_a_record_that_cannot_be_written_does_not_stop_the_run() -> None:
    Path("data").mkdir()
    Path("data/runs").write_text("a file where the folder would be")
    with pytest.warns(ColdStartWarning, match="the record of this run is not written"):
        told()
    assert Path("data/runs").read_text() == "a file where the folder would be"


def test_nothing_of_the_environment_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-told")
    told()
    (path,) = Path("data/runs").glob("*/run.json")
    text = path.read_text()
    for private in ("not-to-be-told", str(Path.home())):
        assert private not in text


def test_a_run_is_found_by_a_part_of_its_id_that_only_it_has() -> None:
    told()
    told()
    folder = Path("data/runs")
    first, second = (run.id for run in runs(folder))
    assert run_named(folder, first[-4:]).id == first
    assert run_named(folder, second).id == second
    with pytest.raises(ColdStartError, match=f"2 runs have 'train' in the id; give more of one of {first}, {second}"):
        run_named(folder, "train")
    with pytest.raises(ColdStartError, match="no run has 'zz' in the id"):
        run_named(folder, "zz")
    with pytest.raises(ColdStartError, match="elsewhere has no records of runs"):
        run_named(Path("elsewhere"), "train")


def test_files_that_are_no_records_are_left_out() -> None:
    told()
    (kept,) = runs(Path("data/runs"))
    record = json.loads(Path("data/runs", kept.id, "run.json").read_text())
    for name, text in (("a", "{"), ("b", "[]"), ("c", json.dumps(record | {"format": 2})),
                       ("d", json.dumps(record | {"id": 3})), ("e", json.dumps(record | {"figures": []}))):  # fmt: skip
        Path("data/runs", name).mkdir()
        Path("data/runs", name, "run.json").write_text(text)
    assert [run.id for run in runs(Path("data/runs"))] == [kept.id]
