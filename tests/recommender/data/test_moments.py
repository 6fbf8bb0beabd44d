"""Interactions without time: no column of timestamps, or one timestamp for all."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from coldstart_udfs.errors import ColdStartError
from recommender.cli.app import app
from recommender.data.dataset import read_dataset
from recommender.data.tables import load, read_interactions
from recommender.measure.splits import make_splits
from tests.support.word_model import BACKEND, word_model


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "items.csv").write_text("item_id,description,event_timestamp\ni1,lamp,\ni2,mug,2023-05-01\n")
    (folder / "users.csv").write_text("user_id,description\nu1,\nu2,\n")
    (folder / "interactions.csv").write_text("user_id,item_id\nu1,i1\nu1,i2\nu2,i2\n")
    return folder


def test_ingest_without_timestamps_says_so_and_writes_one_moment(raw: Path) -> None:
    out = raw.parent / "out"
    result = CliRunner().invoke(app, ["ingest", str(raw), "--data", str(out)])
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    assert "interactions.csv: there is no column 'event_timestamp'; all interactions count as of one moment" in said
    assert "all 3 interactions have the timestamp 2023-05-01 00:00:00: the data have no time" in said
    with duckdb.connect() as con:
        loaded = load(con, out)
        moments = con.sql("SELECT DISTINCT event_timestamp::VARCHAR FROM interactions").fetchall()
        known = con.sql("SELECT count(*) FROM items, interactions WHERE items.event_timestamp > "
                        "interactions.event_timestamp").fetchall()  # fmt: skip
        assert len(read_interactions(con)) == 3
    # No earlier than the items' own: at the end of the interactions every item is known.
    assert (moments, known) == ([("2023-05-01 00:00:00+00",)], [(0,)])
    assert len(loaded.notes) == 1


def test_data_with_time_are_not_talked_about(raw: Path) -> None:
    (raw / "interactions.csv").write_text("user_id,item_id,event_timestamp\nu1,i1,2024-01-01\nu1,i2,2024-01-02\n")
    with duckdb.connect() as con:
        assert load(con, raw).notes == []


def test_an_evaluation_says_that_there_is_no_time_and_refuses_the_temporal_split(raw: Path, tmp_path: Path) -> None:
    model = word_model(tmp_path / "words", ("lamp", "mug"))
    data = read_dataset(raw / "items.csv", None, raw / "interactions.csv", model=model, backend=BACKEND)
    assert data.notes[0].startswith(f"{raw / 'interactions.csv'}: there is no column")
    message = "all 3 interactions have the timestamp 2023-05-01T00:00:00; choose one of item_cold, user_cold"
    with pytest.raises(ColdStartError, match=message):
        make_splits(data.interactions, data.users, data.items, "temporal")
