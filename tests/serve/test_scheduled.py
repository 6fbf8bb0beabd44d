from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.serve.events.leases import Lease
from recommender.serve.events.log import EventLog
from recommender.serve.scheduled import Schedule, period

DAY = 86_400.0


def stub(status: int, note: Path) -> list[str]:
    """A process that stands for learning: it notes that it ran, and ends with a status."""
    script = f"import sys; open({str(note)!r}, 'a').write('ran '); sys.exit({status})"
    return [sys.executable, "-c", script]


def let_it_be_due(log: EventLog) -> None:
    lease = Lease(log, "learning")
    assert lease.held()
    lease.keep({"due": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()})
    lease.release()


def wait_until(come: Callable[[], bool]) -> None:
    for _ in range(1_500):
        if come():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come")


def step_until(schedule: Schedule, come: Callable[[], bool]) -> None:
    for _ in range(500):
        schedule.step()
        if come():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come")


@pytest.mark.parametrize(("text", "seconds"), [("1m", 60), ("90m", 5_400), ("24h", DAY), ("7d", 7 * DAY)])
def test_a_period_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert period(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "0h", "-1h", "1.5h", "1h30m", "3s", "h", "@daily"])
def test_another_period_is_an_error_that_says_what_is_possible(text: str) -> None:
    with pytest.raises(ColdStartError, match="give minutes, hours or days such as 90m, 24h, 7d"):
        period(text)


def test_the_first_run_is_due_after_a_period_whatever_restarts(sqlite_log: EventLog, tmp_path: Path) -> None:
    note = tmp_path / "note"
    for _ in range(3):
        schedule = Schedule(sqlite_log, DAY, stub(0, note), lambda _: None)
        schedule.step()
        due = Lease(sqlite_log, "learning").state()["due"]
        schedule.close()
    assert not note.exists()
    assert datetime.fromisoformat(due) > datetime.now(UTC) + timedelta(hours=23)
    schedule = Schedule(sqlite_log, 60.0, stub(0, note), lambda _: None)  # a shorter period
    schedule.step()
    assert datetime.fromisoformat(Lease(sqlite_log, "learning").state()["due"]) < datetime.now(UTC) + timedelta(hours=1)
    schedule.close()


@pytest.mark.parametrize(
    ("status", "result"), [(0, "promoted"), (1, "refused"), (2, "failed"), (3, "nothing new"), (-9, "failed")]
)
def test_it_runs_once_when_it_is_due_whatever_comes_of_it(
    sqlite_log: EventLog, tmp_path: Path, status: int, result: str
) -> None:
    let_it_be_due(sqlite_log)
    note, results = tmp_path / "note", list[str]()
    schedule = Schedule(sqlite_log, DAY, stub(status, note), results.append)
    step_until(schedule, lambda: bool(results))
    for _ in range(3):
        schedule.step()
    schedule.close()
    again = Schedule(sqlite_log, DAY, stub(status, note), results.append)  # after a restart
    again.step()
    again.close()
    assert (note.read_text(), results) == ("ran ", [result])


def test_one_worker_of_several_runs_it(sqlite_log: EventLog, tmp_path: Path) -> None:
    let_it_be_due(sqlite_log)
    note, results = tmp_path / "note", list[str]()
    with closing(EventLog.open(f"sqlite:///{tmp_path / 'log' / 'events.db'}")) as other:
        workers = [Schedule(log, DAY, stub(0, note), results.append) for log in (sqlite_log, other)]
        for worker in workers:
            worker.step()
        step_until(workers[0], lambda: bool(results))
        workers[1].step()
        for worker in workers:
            worker.close()
    assert (note.read_text(), results) == ("ran ", ["promoted"])


def test_what_runs_ends_with_the_worker(sqlite_log: EventLog, tmp_path: Path) -> None:
    let_it_be_due(sqlite_log)
    started, ended = tmp_path / "started", tmp_path / "ended"
    script = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(ended)!r}).touch(), sys.exit(4)))\n"
        f"pathlib.Path({str(started)!r}).touch()\n"
        "time.sleep(600)"
    )
    schedule = Schedule(sqlite_log, DAY, [sys.executable, "-c", script], lambda _: None)
    step_until(schedule, started.exists)
    schedule.close()
    assert ended.exists()


def test_what_runs_ends_with_a_worker_that_is_killed(sqlite_log: EventLog, tmp_path: Path) -> None:
    let_it_be_due(sqlite_log)
    started, ended = tmp_path / "started", tmp_path / "ended"
    runs = (
        "import pathlib, signal, sys, time\n"
        "from recommender.serve.scheduled import end_with_the_worker\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(ended)!r}).touch(), sys.exit(4)))\n"
        "end_with_the_worker()\n"
        f"pathlib.Path({str(started)!r}).touch()\n"
        "time.sleep(60)"
    )
    works = (
        "import sys, time\n"
        "from recommender.serve.events.log import EventLog\n"
        "from recommender.serve.scheduled import Schedule\n"
        f"log = EventLog.open('sqlite:///{tmp_path / 'log' / 'events.db'}')\n"
        f"schedule = Schedule(log, {DAY}, [sys.executable, '-c', {runs!r}], lambda _: None)\n"
        "schedule.step()\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", works]) as worker:
        try:
            wait_until(started.exists)
            assert not ended.exists()
        finally:
            worker.kill()
    wait_until(ended.exists)
