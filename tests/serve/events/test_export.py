from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from coldstart_udfs.errors import ColdStartError
from recommender.cli.app import app
from recommender.data.contract import ContractError
from recommender.data.events import EventWeights
from recommender.data.exported import Held, held_by_tables
from recommender.data.tables import ingest, load, read_interactions
from recommender.model.fitting import as_matrix
from recommender.serve.events.event import Event
from recommender.serve.events.export import erase_from_export, export
from recommender.serve.events.log import EventLog
from recommender.serve.live import Live
from recommender.serve.policy.decisions import Decision
from recommender.serve.policy.explorations import Explorations
from tests.support.made_up_shop import shared

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def did(user: str, item: str | None, kind: str, hours: float, **rest: object) -> Event:
    return Event(user, item, kind, DAY + timedelta(hours=hours), **rest)  # type: ignore[arg-type]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """In SQLite; that both databases return the same is tested in test_log.py."""
    return f"sqlite:///{tmp_path}/events.db"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A shop without events of the service."""
    folder = tmp_path / "raw"
    folder.mkdir()
    tables = {
        "items": ["item_id,description,price,colour", "lamp,brass lamp,3.5,red", "pot,old pot,4.5,blue"],
        "users": ["user_id,description,event_timestamp", "007,I like lamps,2025-12-01", "bo,,2025-12-01"],
        "interactions": ["user_id,item_id,event_timestamp", "007,lamp,2025-12-30", "bo,pot,2025-12-31"],
    }
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def rows(files: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        return con.execute(files).fetchall()


def test_events_are_exported_by_day_in_the_form_of_the_data_contract(log: EventLog, tmp_path: Path) -> None:
    log.append([
        did("007", "lamp", "view", 1, weight=2.0), did("007", None, "search", 2, query="red lamp"),
        did("bo", "pot", "rating", 30, rating=4.0), did("bo", "lamp", "rating", 31, rating=1.0),
    ])  # fmt: skip
    done = export(log, tmp_path / "out")
    assert (done.events, done.days, done.held) == (5, 2, Held(log.identity, 4))
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.parquet"))
    assert files == ["interactions/day=2026-01-01/events.parquet", "interactions/day=2026-01-02/events.parquet",
                     "items.parquet", "users.parquet"]  # fmt: skip
    found = rows(f"""
        SELECT user_id, item_id, event_type, weight, query, event_id, day::VARCHAR
        FROM read_parquet('{tmp_path}/out/interactions/*/*.parquet', hive_partitioning = true)
        ORDER BY event_id, event_type DESC
    """)
    assert found == [
        ("007", "lamp", "view", 2.0, None, 1, "2026-01-01"), ("007", None, "search", 1.0, "red lamp", 2, "2026-01-01"),
        ("bo", "pot", "interaction", 0.8, None, 3, "2026-01-02"), ("bo", "lamp", "view", 1.0, None, 4, "2026-01-02"),
        ("bo", "lamp", "return", 1.0, None, 4, "2026-01-02"),
    ]  # fmt: skip


def test_entries_of_a_newer_version_are_left_out_and_counted(log: EventLog, url: str, tmp_path: Path) -> None:
    log.append([did("007", "lamp", "view", 1)])
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE events SET event_type = 'gesture', item_id = NULL")
    log.append([did("007", "lamp", "view", 2)])
    done = export(log, tmp_path / "out")
    assert (done.events, done.unreadable, done.held.watermark) == (1, 1, 2)


def test_ingest_adds_an_export_to_the_tables(log: EventLog, raw: Path, tmp_path: Path) -> None:
    log.append([
        did("007", "pot", "cart", 1), did("new", "lamp", "purchase", 2),
        did("new", None, "search", 3, query="Red Lamp"), did("new", "vase", "purchase", 4),
        did("007", "nowhere", "view", 5),
    ])  # fmt: skip
    log.put("item", "vase", "blue vase", ["price=7.25", "colour=blue", "shape=round"])
    log.put("user", "bo", "I am bo")
    export(log, tmp_path / "out")
    understood = ingest(raw, tmp_path / "data", events=tmp_path / "out")
    assert any("1 events are left out until somebody describes their 1 items" in note for note in understood.notes)
    data = tmp_path / "data"
    assert rows(f"SELECT item_id, description, price, colour, shape FROM '{data}/items.parquet' ORDER BY 1") == [
        ("lamp", "brass lamp", 3.5, "red", None), ("pot", "old pot", 4.5, "blue", None),
        ("vase", "blue vase", 7.25, "blue", "round"),
    ]  # fmt: skip
    assert rows(f"SELECT user_id, description FROM '{data}/users.parquet' ORDER BY 1") == [
        ("007", "I like lamps"), ("bo", "I am bo"), ("new", None),
    ]  # fmt: skip
    table = f"'{data}/interactions.parquet'"
    found = rows(f"SELECT user_id, item_id, event_type, query FROM {table} ORDER BY event_timestamp")
    assert found == [
        ("007", "lamp", "interaction", None), ("bo", "pot", "interaction", None), ("007", "pot", "cart", None),
        ("new", "lamp", "purchase", None), ("new", None, "search", "red lamp"), ("new", "vase", "purchase", None),
    ]  # fmt: skip
    assert held_by_tables(data) == Held(log.identity, 7)
    with duckdb.connect() as con:
        assert load(con, data).held == Held(log.identity, 7)


def test_tables_without_an_export_hold_nothing_of_a_log(raw: Path, tmp_path: Path) -> None:
    ingest(raw, tmp_path / "data")
    assert held_by_tables(tmp_path / "data") is None


def test_an_export_is_not_added_twice(log: EventLog, raw: Path, tmp_path: Path) -> None:
    log.append([did("007", "pot", "cart", 1)])
    export(log, tmp_path / "out")
    ingest(raw, tmp_path / "data", events=tmp_path / "out")
    with pytest.raises(ContractError, match="holds events of an event log already"):
        ingest(tmp_path / "data", tmp_path / "again", events=tmp_path / "out")
    assert not (tmp_path / "again").exists()


def test_an_export_of_two_moments_is_refused(log: EventLog, raw: Path, tmp_path: Path) -> None:
    log.append([did("007", "pot", "cart", 1)])
    export(log, tmp_path / "out")
    before = (tmp_path / "out" / "users.parquet").read_bytes()
    log.append([did("007", "pot", "cart", 2)])
    export(log, tmp_path / "out")
    (tmp_path / "out" / "users.parquet").write_bytes(before)
    for folder in (tmp_path / "out", tmp_path / "nothing"):
        with pytest.raises(ContractError, match="holds no whole export"):
            ingest(raw, tmp_path / "data", events=folder)


def test_an_export_leaves_out_who_was_erased_and_days_that_are_gone(log: EventLog, tmp_path: Path) -> None:
    log.append([did("gone", "lamp", "view", 1), did("stays", "lamp", "view", 30)])
    log.put("user", "gone", "I like lamps")
    export(log, tmp_path / "out")
    log.erase_user("gone")
    log.append([did("gone", "pot", "view", 31)])  # who comes back counts again
    done = export(log, tmp_path / "out")
    assert (done.events, done.days, done.descriptions) == (2, 1, 0)
    assert len(list((tmp_path / "out" / "interactions").iterdir())) == 1


def test_the_command_exports_and_ingest_reads_it(raw: Path, tmp_path: Path, url: str, log: EventLog) -> None:
    log.append([did("007", "pot", "cart", 1)])
    runner, out = CliRunner(), tmp_path / "out"
    done = runner.invoke(app, ["events", "export", str(out), "--events", url])
    assert done.exit_code == 0, done.output
    assert "1 rows of 1 days" in done.output
    done = runner.invoke(app, ["ingest", str(raw), "--data", str(tmp_path / "data"), "--export", str(out)])
    assert done.exit_code == 0, done.output
    assert held_by_tables(tmp_path / "data") == Held(log.identity, 1)


@pytest.mark.parametrize("command", [["events", "export", "out"], ["learn", "raw"], ["forget", "--user-id", "007"]])
def test_a_log_that_a_command_only_reads_is_not_made(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*command, "--events", "sqlite:///dta/events.db"])
    assert done.exit_code == 1
    assert "there is no event log at sqlite:///dta/events.db" in str(done.exception)
    assert not (tmp_path / "dta").exists()


KINDS = ("view", "cart", "wishlist", "purchase", "purchase", "return", "cart_removal", "wishlist_removal", "rating",
         "search")  # fmt: skip


def random_day(seed: int, items: Sequence[str]) -> list[Event]:
    """Events of three guests, many of whom return what they bought."""
    draw = random.Random(seed)
    events = []
    for minute in range(60):
        kind = draw.choice(KINDS)
        rest: dict[str, object] = {"rating": draw.choice([1.0, 3.0, 5.0])} if kind == "rating" else {}
        rest |= {"query": f"text {minute}"} if kind == "search" else {}
        events.append(did(f"guest{draw.randrange(3)}", draw.choice(items), kind, minute / 60, **rest))
    return events


@pytest.mark.parametrize("seed", [0, 3, 4, 5, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 60))])
def test_what_a_worker_knows_of_a_day_is_what_training_reads_of_it(
    log: EventLog, tmp_path: Path, seed: int
) -> None:
    """History and evidence of guests, after a day with returns, as the service and as the tables have them."""
    shop = shared()
    weights = EventWeights({"return": [1.0, 0.5][seed % 2]}, half_life_days=[np.inf, 3.0][seed // 2 % 2])
    shop.save(tmp_path / "bundle", about={"trained_until": "2026-01-02T00:00:00+00:00"})
    live = Live(tmp_path / "bundle", log, weights=weights, poll=None)
    items = ["i00", "i01", "i15"]
    for event in random_day(seed, items):
        live.accept([event])

    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "items.csv").write_text("item_id,description\n" + "".join(f"{item},x\n" for item in items))
    (raw / "users.csv").write_text("user_id,description\nnobody,x\n")
    (raw / "interactions.csv").write_text("user_id,item_id,event_timestamp\nnobody,i00,2025-01-01\n")
    export(log, tmp_path / "out")
    with duckdb.connect() as con:
        load(con, raw, weights.by_type, events=tmp_path / "out")
        interactions = read_interactions(con, weights.by_type)
    counted = interactions.weighted(weights, np.datetime64("2026-01-02", "us"))
    trained = as_matrix(counted).toarray()
    guests = [user for user in interactions.user_ids if user.startswith("guest")]
    places = [list(interactions.user_ids).index(user) for user in guests]
    fitted = live.model.fitted
    columns = fitted.items.rows(interactions.item_ids)
    np.testing.assert_allclose(fitted.history_of(guests).toarray()[:, columns], trained[places], atol=1e-4)
    evidence = np.bincount(counted.users, minlength=len(interactions.user_ids))[places]
    np.testing.assert_array_equal(fitted.users.take(fitted.users.rows(guests)).evidence, evidence)
    seen = as_matrix(interactions).toarray()[places] > 0
    np.testing.assert_array_equal(fitted.seen_by(guests).toarray()[:, columns] > 0, seen)


def test_a_bundle_that_holds_an_export_replays_only_what_is_newer(log: EventLog, tmp_path: Path) -> None:
    log.append([did("guest", "i12", "purchase", 1)])
    held = Held(log.identity, 1)
    model = shared()
    model.save(tmp_path / "bundle", about={"events": {"log": held.log, "watermark": held.watermark}})
    log.append([did("guest", "i13", "purchase", 2)])
    live = Live(tmp_path / "bundle", log, poll=None)
    row = live.model.fitted.history_of(["guest"])
    assert [live.model.items.ids[column] for column in row.indices] == ["i13"]
    assert (live.pending, live.watermark) == (1, 2)

    other = EventLog.open(f"sqlite:///{tmp_path}/another.db")
    other.append([did("guest", "i14", "purchase", 1)])
    with pytest.raises(ColdStartError, match="another one"):  # watermarks of another log say nothing here
        Live(tmp_path / "bundle", other, poll=None)
    other.close()


def test_explored_places_are_exported_by_day_and_erased_from_the_export(log: EventLog, tmp_path: Path) -> None:
    for number, user in enumerate(["ann", "", "bob"]):
        at = DAY + timedelta(hours=20 * number)
        contexts = np.full((2, 12), number, np.float32)
        drawn = Decision(f"r{number}", user, at, 2, "lamp", ("pot", "lamp"), np.array([0.25, 0.75]), contexts, "t/1")
        Explorations(log).add([drawn])
    log.append([did("ann", "lamp", "cart", 1, recommendation_id="r0")])
    Explorations(log).settle(DAY + timedelta(hours=1), 86_400.0, EventWeights())
    log.erase_user("bob")
    exported = tmp_path / "exported"
    assert export(log, exported).explorations == 2
    files = f"'{exported}/explorations/*/explorations.parquet'"
    columns = "* EXCLUDE (day) REPLACE (contexts[2][12] AS contexts), day::VARCHAR"
    assert rows(f"SELECT {columns} FROM {files} ORDER BY 1")[0] == (
        "r0", "ann", DAY, 2, "lamp", ["pot", "lamp"], [0.25, 0.75], 0.0, "t/1", 0.5, "2026-01-01",
    )  # fmt: skip
    assert rows(f"SELECT user_id, reward, contexts[1][1] FROM {files} ORDER BY recommendation_id")[1] == ("", None, 1.0)
    assert erase_from_export(exported, "ann") == 2  # an event, an explored place
    assert rows(f"SELECT recommendation_id FROM {files}") == [("r1",)]
    export(log, exported)
    assert len(rows(f"FROM {files}")) == 2


def test_a_log_without_exploration_exports_none_and_takes_away_an_earlier_export(
    log: EventLog, tmp_path: Path
) -> None:
    stale = tmp_path / "exported" / "explorations" / "day=2020-01-01"
    stale.mkdir(parents=True)
    (stale / "explorations.parquet").write_bytes(b"of an earlier export")
    log.append([did("ann", "lamp", "cart", 1)])
    assert export(log, tmp_path / "exported").explorations == 0
    assert [*(tmp_path / "exported" / "explorations").iterdir()] == []
