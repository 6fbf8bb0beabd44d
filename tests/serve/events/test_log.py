from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy

from coldstart_udfs.errors import ColdStartError
from recommender.serve.events import log as log_module
from recommender.serve.events import schema
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog, EventLogError, IdempotencyError
from tests.support.event_writer import WRITER

NOW = datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)


def view(user: str, item: str = "i1") -> Event:
    return Event(user, item, "view", NOW)


def test_what_was_appended_comes_back_in_order_with_its_ids(log: EventLog) -> None:
    given = [
        Event("0017", "i1", "impression", NOW, position=3, recommendation_id="r1"),
        Event("0017", None, "search", NOW, query="red lamp"),
        Event("ü 'x'", "i1", "rating", NOW, weight=0.5, rating=4.5),
    ]  # fmt: skip
    first = log.append(given)
    second = log.append([view("u2")])
    found = log.after(0)
    assert [event for _, event in found.events] == [*given, view("u2")]
    assert [number for number, _ in found.events] == [*first.ids, *second.ids] == [1, 2, 3, 4]
    assert (found.watermark, found.last) == (4, 4)
    assert [event for _, event in log.after(first.ids[-1]).events] == [view("u2")]
    assert log.after(4).events == []


def test_a_log_is_read_in_pieces(log: EventLog) -> None:
    log.append([view(f"u{n}") for n in range(5)])
    found = log.after(0, limit=3)
    assert (len(found.events), found.watermark, found.last) == (3, 3, 5)
    assert [event.user_id for _, event in log.after(found.watermark, limit=3).events] == ["u3", "u4"]


def test_another_process_sees_events_and_ids_go_on_after_reopening(log: EventLog, url: str) -> None:
    log.append([view("u1")])
    other = EventLog.open(url)
    assert other.identity == log.identity
    assert [event.user_id for _, event in other.after(0).events] == ["u1"]
    assert list(other.append([view("u2")]).ids) == [2]
    assert list(log.append([view("u3")]).ids) == [3]
    other.close()


def test_the_same_key_with_the_same_events_writes_once(log: EventLog, url: str) -> None:
    first = log.append([view("u1"), view("u2")], key="k1")
    assert not first.replayed
    other = EventLog.open(url)
    for again in (log, other):
        answer = again.append([view("u1"), view("u2")], key="k1")
        assert (list(answer.ids), answer.replayed) == (list(first.ids), True)
    other.close()
    assert len(log.after(0).events) == 2


def test_the_same_key_with_other_events_is_an_error_and_writes_nothing(log: EventLog) -> None:
    log.append([view("u1")], key="k1")
    with pytest.raises(IdempotencyError, match="came with other events before"):
        log.append([view("u2")], key="k1")
    assert len(log.after(0).events) == 1


def test_keys_are_known_for_some_days_only(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.append([view("u1")], key="k1")
    log.append([view("u2")], key="k2")
    monkeypatch.setattr(log_module, "KEY_MEMORY", timedelta(days=-1))
    log.append([view("u3")], key="k3")
    monkeypatch.undo()
    assert not log.append([view("u1")], key="k1").replayed
    assert log.append([view("u3")], key="k3").replayed


def test_one_key_from_many_threads_writes_once(log: EventLog) -> None:
    barrier = Barrier(8)

    def append() -> tuple[int, ...]:
        barrier.wait()
        return tuple(log.append([view("u1"), view("u2")], key="k").ids)

    with ThreadPoolExecutor(8) as pool:
        answers = {future.result() for future in [pool.submit(append) for _ in range(8)]}
    assert answers == {(1, 2)}
    assert len(log.after(0).events) == 2


def test_an_event_in_the_future_is_refused(log: EventLog) -> None:
    with pytest.raises(ColdStartError, match="is in the future; see to the clock"):
        log.append([view("u1"), Event("u1", "i1", "view", datetime.now(UTC) + timedelta(hours=1))])
    assert log.after(0).events == []


def test_private_data_are_redacted_before_they_are_stored(log: EventLog) -> None:
    log.append([Event("u1", None, "search", NOW, query="lamp for jo@example.com")])
    log.put("user", "u1", "write to jo@example.com")
    log.put("item", "i1", "write to shop@example.com", ["kind=lamp"])
    found = log.after(0)
    assert found.events[0][1].query == "lamp for <EMAIL>"
    assert [told.description for _, told in found.descriptions] == ["write to <EMAIL>", "write to shop@example.com"]
    assert [told.attributes for _, told in found.descriptions] == [None, ["kind=lamp"]]


def test_what_another_database_is_needed_for_is_said() -> None:
    for url in ("mysql://host/shop", "nonsense", "duckdb:///x"):
        with pytest.raises(ColdStartError, match=r"give sqlite:///FILE or postgresql\+psycopg://"):
            EventLog.open(url)


def test_an_error_does_not_show_the_password() -> None:
    with pytest.raises(ColdStartError) as caught:
        # pragma: allowlist nextline secret
        EventLog.open("mysql://jo:geheim@host/shop")
    assert "geheim" not in str(caught.value)


def test_migrations_make_the_tables_that_the_code_reads(log: EventLog, url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()


def test_many_processes_open_a_new_log_at_once(url: str) -> None:
    script = f"from recommender.serve.events.log import EventLog; print(EventLog.open({url!r}).identity)"
    started = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1
    assert [process.returncode for process in started] == [0] * 4


def killed_while_writing(url: str, name: str, after: int) -> list[str]:
    """The lines of a writer that was killed after it had acknowledged so many batches."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, url, "100000", name], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(after)]
    writer.send_signal(signal.SIGKILL)
    lines += writer.stdout.readlines()
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()
    return [line for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_writer_loses_nothing_that_it_acknowledged_and_counts_nothing_twice(url: str, rounds: int) -> None:
    acknowledged: dict[str, list[int]] = {}
    for number in range(rounds):
        for line in killed_while_writing(url, f"run{number}", after=10 + 7 * number):
            key, *ids = line.split()
            acknowledged[key] = list(map(int, ids))
    log = EventLog.open(url)
    # A client without an answer asks again; one with an answer may ask again too.
    again = [f"run{rounds - 1}-0-{n}" for n in range(3)]
    for key in again:
        told = [event for _, event in log.after(0).events if event.user_id == key]
        if told:
            assert log.append(told, key).replayed
    stored: dict[str, list[int]] = {}
    for number, event in log.after(0, limit=10**9).events:
        stored.setdefault(event.user_id, []).append(number)
    log.close()
    assert len(acknowledged) >= 10 * rounds
    assert {key: stored.get(key) for key in acknowledged} == acknowledged
    assert {len(ids) for ids in stored.values()} == {2}  # whole batches, once


# What follows is of SQLite alone.


def test_commits_of_sqlite_are_synchronous_on_the_connections_that_write(sqlite_log: EventLog) -> None:
    with sqlite_log._engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "secure_delete")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}  # 2 is FULL


def test_every_commit_reaches_the_disk_and_threads_share_it(tmp_path: Path) -> None:
    """Counted by the calls of the operating system, since the end of a process proves nothing of a power cut."""
    import shutil

    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    url = f"sqlite:///{tmp_path}/events.db"
    EventLog.open(url).close()
    trace = tmp_path / "trace"

    def syncs(times: int) -> int:
        command = ["strace", "-f", "-o", str(trace), "-e", "trace=fsync,fdatasync", sys.executable, "-c", WRITER, url]
        done = subprocess.run([*command, str(times), f"run{times}"], capture_output=True, text=True, check=False)
        if "PTRACE" in done.stderr:
            pytest.skip("strace may not trace here")
        assert done.stdout.count("\n") == 4 * times, done.stderr
        return trace.read_text().count("sync(")

    idle = syncs(0)
    # Four threads append 20 times each: each append needs a commit that it may share with at most three others.
    assert 20 <= syncs(20) - idle <= 80 + 10


@pytest.mark.parametrize("seed", range(3))
def test_erased_users_are_in_no_file(sqlite_log: EventLog, tmp_path: Path, seed: int) -> None:
    """Pages of SQLite that were split, merged and freed, and its write-ahead log, are searched as bytes."""
    log, draw = sqlite_log, random.Random(seed)
    users = [f"<user {n}>" for n in range(40)]
    for _ in range(30):
        log.append([
            Event(user, f"item{draw.randrange(99)}", "search", NOW, query=f"{user} {'words ' * draw.randrange(200)}")
            for user in draw.choices(users, k=draw.randrange(1, 60))
        ], key=f"of {draw.choice(users)} {draw.random()}")  # fmt: skip
        user = draw.choice(users)
        log.put("user", user, f"I am {user}")
    gone, stay = users[:8], users[8:]

    def found(names: list[str]) -> set[str]:
        files = b"".join(path.read_bytes() for path in (tmp_path / "log").iterdir())
        return {name for name in names if name.encode() in files}

    assert found(users) == set(users)
    counted = {user: sum(event.user_id == user for _, event in log.after(0).events) for user in gone}
    for user in gone:
        erased = log.erase_user(user)
        assert (erased.removed["events"], list(erased.remains)) == (counted[user], [])
    assert found(users) == set(stay)


def test_what_is_erased_counts_no_more_in_either_database(log: EventLog) -> None:
    log.append([view("gone"), view("stays")])
    log.put("user", "gone", "I am gone")
    erased = log.erase_user("gone")
    assert (erased.removed["events"], erased.removed["descriptions"]) == (1, 1)
    found = log.after(0)
    assert [event.user_id for _, event in found.events] == ["stays"]
    assert (found.descriptions, found.watermark) == ([], 4)
    assert [digest for _, digest in found.erasures] == [log.digest_of("gone")]
    assert log.erase_user("gone").removed["events"] == 0


def test_a_reader_that_keeps_the_erased_rows_alive_is_reported(
    sqlite_log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_PATIENCE", 0)
    log = EventLog.open(f"sqlite:///{tmp_path / 'log' / 'events.db'}")
    log.append([view("gone")])
    with closing(sqlite3.connect(tmp_path / "log" / "events.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM events").fetchall()
        assert "has the erased rows until somebody writes" in log.erase_user("gone").remains[0]
    log.close()


def test_nothing_is_written_to_a_file_that_was_taken_away(sqlite_log: EventLog, tmp_path: Path) -> None:
    event = view("u")
    sqlite_log.append([event])
    folder, away, another = tmp_path / "log", tmp_path / "away", f"sqlite:///{tmp_path}/log/events.db"
    folder.rename(away)
    for use in (lambda: sqlite_log.append([event]), lambda: sqlite_log.after(0), lambda: sqlite_log.erase_user("u")):
        with pytest.raises(EventLogError, match="was removed or replaced; put it back"):
            use()
    EventLog.open(another).close()
    with pytest.raises(EventLogError, match="was removed or replaced"):
        sqlite_log.append([event])
    shutil.rmtree(folder)
    away.rename(folder)
    assert sqlite_log.append([event]).ids == range(2, 3)
