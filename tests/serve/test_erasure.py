"""A user is erased from the event log, the bundle, the feature store, its sources and the tables by one call."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from recommender.cli.app import app
from recommender.data.exported import Held, held_by
from recommender.serve.erasure import erase_user
from recommender.serve.events.event import Event
from recommender.serve.events.export import export
from recommender.serve.events.log import EventLog
from recommender.serve.events.put_items import put_items
from recommender.serve.live import Live
from tests.support.made_up_shop import shared
from tests.support.small_shop import apply

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WHO = "dan"
TEXTS = (b"vintage enamel signs", b"dan's searches", b"dan says")


@pytest.fixture
def shop(unapplied_shop: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    shutil.copytree(unapplied_shop, folder)
    apply(folder / "feature_repo")
    shared().save(folder / "data" / "bundle")
    return folder


@pytest.fixture
def sqlite_log(shop: Path) -> Iterator[EventLog]:
    log = EventLog.open(f"sqlite:///{shop / 'data' / 'events.db'}")
    log.append([
        Event(WHO, "i12", "view", NOW), Event(WHO, None, "search", NOW, query="dan's searches"),
        Event("ann", "i12", "view", NOW),
    ])  # fmt: skip
    log.put("user", WHO, "dan says this")
    yield log
    log.close()


def traces(shop: Path) -> list[str]:
    """Files that hold the texts of the user."""
    files = [path for path in shop.rglob("*") if path.is_file() and path.suffix != ".npz"]
    return [path.name for path in files if any(text in path.read_bytes() for text in TEXTS)]


def test_one_call_erases_a_user_everywhere(shop: Path, sqlite_log: EventLog, tmp_path: Path) -> None:
    live = Live(shop / "data" / "bundle", sqlite_log, poll=None)
    assert WHO in live.model.users.ids
    table = pq.read_table(shop / "data" / "interactions.parquet")
    table = table.append_column("event_type", pa.array(["purchase"] * len(table)))
    pq.write_table(table, shop / "data" / "interactions.parquet")
    (shop / "feature_repo" / "names.json").write_text('{"purchase": 1.0}')  # says nothing of the user
    assert "events.db" in traces(shop) or "events.db-wal" in traces(shop)
    receipt = erase_user(
        live, shop / "feature_repo", WHO, data=shop / "data", cache=tmp_path / "cache.sqlite", patience=0
    )
    assert traces(shop) == []
    assert WHO not in live.model.users.ids
    assert (receipt.removed["events"], receipt.removed["descriptions"]) == (2, 1)
    assert receipt.removed[f"rows, {shop}/data/users.parquet"] == 1
    assert any("raw files stay" in sentence for sentence in receipt.remains)
    assert not any("names.json" in sentence for sentence in receipt.remains)


def test_linked_shops_are_erased_from_too(shop: Path, sqlite_log: EventLog, tmp_path: Path) -> None:
    live = Live(shop / "data" / "bundle", sqlite_log, poll=None)
    file = tmp_path / "other" / "feature_repo" / "data" / "linked_profiles.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": [WHO, "ann", WHO], "user_source_profile": [[1.0], [2.0], [3.0]]}), file)
    (shop / "data" / "links.json").write_text(json.dumps({"targets": [str(tmp_path / "other")]}))
    receipt = erase_user(live, shop / "feature_repo", WHO, data=shop / "data", cache=tmp_path / "c.sqlite", patience=0)
    assert receipt.removed[f"rows, {file}"] == 2
    assert pq.read_table(file)["user_id"].to_pylist() == ["ann"]


def test_the_export_of_the_log_is_written_again_without_the_user(
    shop: Path, sqlite_log: EventLog, tmp_path: Path
) -> None:
    live, exported = Live(shop / "data" / "bundle", sqlite_log, poll=None), shop / "data" / "exported"
    sqlite_log.put("user", "ann", "ann says")
    export(sqlite_log, exported)
    files = [path for path in exported.rglob("*.parquet") if pq.read_table(path).num_rows]
    before = {path: pq.read_table(path).num_rows for path in files}
    receipt = erase_user(
        live, shop / "feature_repo", WHO, data=shop / "data", cache=tmp_path / "cache.sqlite", patience=0
    )
    assert receipt.removed[f"rows, {exported}"] == 3
    assert traces(shop) == []
    assert sum(before.values()) - sum(pq.read_table(path).num_rows for path in files) == 3
    with duckdb.connect() as con:
        assert {held_by(con, path) for path in files} == {Held(sqlite_log.identity, 5)}


def test_a_store_that_is_in_use_is_named_and_the_rest_is_erased(
    shop: Path, sqlite_log: EventLog, tmp_path: Path
) -> None:
    live = Live(shop / "data" / "bundle", sqlite_log, poll=None)
    receipt = erase_user(live, shop / "feature_repo", WHO, data=tmp_path / "no tables", cache=tmp_path / "c.sqlite")
    assert receipt.removed == {"events": 2, "descriptions": 1, "exposures": 0, "explorations": 0, "bundles": 0}
    assert "still have the user" in receipt.remains[0]
    assert WHO not in live.model.users.ids


def test_the_command_erases_from_the_log_too(shop: Path, sqlite_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    command = ["forget", "--user-id", WHO, "--events", "sqlite:///data/events.db"]
    done = CliRunner().invoke(app, [*command, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "event log" in done.output
    assert len(sqlite_log.after(0).events) == 3
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert [event.user_id for _, event in sqlite_log.after(0).events] == ["ann"]
    assert traces(shop) == []


def test_an_item_that_was_put_is_listed_no_more_after_it_is_forgotten(
    shop: Path, sqlite_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    bundle, url = shop / "data" / "bundle", "sqlite:///data/events.db"
    for name in ("new", "other"):
        done = CliRunner().invoke(app, ["put", "--item-id", name, "--description", "a brass lamp"])
        assert done.exit_code == 0, done.output
    sqlite_log.append([Event("ann", "new", "view", NOW)])
    sqlite_log.put("user", "new", "has the same id")
    assert set(put_items(bundle, url)) == {"new", "other"}
    command = ["forget", "--item-id", "new"]
    assert "event log" in CliRunner().invoke(app, [*command, "--dry-run"]).output
    assert set(put_items(bundle, url)) == {"new", "other"}
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "running services list the item until they are restarted" in " ".join(done.output.split())
    assert set(put_items(bundle, url)) == {"other"}
    changes = sqlite_log.after(0)
    assert ([one.entity_id for _, one in changes.descriptions][-1], changes.erasures) == ("new", [])
