"""The snapshots of profiles: only months with something new, and the same profiles at every moment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.cli.app import init
from recommender.data.tables import load
from recommender.pipeline import profiles
from recommender.pipeline.profiles import build_profiles, snapshots
from tests.support.word_model import BACKEND, word_model

WORDS = ("red", "blue", "lamp", "mug", "pot")
ITEMS = {"i1": "red lamp", "i2": "blue mug", "i3": "red pot", "i4": "blue lamp"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return word_model(tmp_path_factory.mktemp("model") / "words", WORDS, 8)


def write(folder: Path, moments: Sequence[str]) -> Path:
    """Events of five users at these moments."""
    folder.mkdir(exist_ok=True)
    draw = random.Random(0)
    (folder / "items.csv").write_text(
        "item_id,description\n" + "".join(f"{name},{text}\n" for name, text in ITEMS.items())
    )
    (folder / "users.csv").write_text("user_id,description\n" + "".join(f"u{n},\n" for n in range(5)))
    rows = [f"u{draw.randrange(5)},{draw.choice(list(ITEMS))},{moment},{draw.choice(['purchase', 'view', 'return'])}"
            for moment in moments]  # fmt: skip
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,event_timestamp,event_type", *rows]) + "\n")
    return folder


def snapshots_of(folder: Path, half_life_days: float = float("inf")) -> list[str]:
    with duckdb.connect() as con:
        load(con, folder)
        return [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in snapshots(con, half_life_days)]


def test_a_row_that_is_far_away_costs_one_snapshot(tmp_path: Path) -> None:
    folder = write(tmp_path, ["1970-01-01", "2024-01-10", "2024-02-10", "2024-03-10T12:00:00", "2099-12-31"])
    assert snapshots_of(folder) == [
        "1970-02-01 00:00:00", "2024-02-01 00:00:00", "2024-03-01 00:00:00", "2024-04-01 00:00:00",
        "2099-12-31 00:00:01",
    ]  # fmt: skip
    assert len(snapshots_of(folder, 90)) == 12 + 2 + 12 + 1


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        (["2024-01-01"], ["2024-01-01 00:00:01"]),
        # The first of a month belongs to the month that it begins.
        (["2024-01-31T23:59:59", "2024-02-01"], ["2024-02-01 00:00:01"]),
        (["2024-01-31T23:59:59", "2024-02-01T00:00:01"], ["2024-02-01 00:00:00", "2024-02-01 00:00:02"]),
    ],
)
def test_the_last_snapshot_is_just_after_the_last_event(
    moments: list[str], expected: list[str], tmp_path: Path
) -> None:
    assert snapshots_of(write(tmp_path, moments)) == expected


def every_month(con: duckdb.DuckDBPyConnection, half_life_days: float = 0) -> list[datetime]:
    low, high = con.execute("SELECT min(event_timestamp), max(event_timestamp) FROM interactions").fetchall()[0]
    months = [datetime(year, month, 1, tzinfo=UTC) for year in range(low.year, high.year + 1) for month in range(1, 13)]
    return [*(month for month in months if low < month < high), high.replace(microsecond=0) + timedelta(seconds=1)]


def read(repo: Path, side: str, moment: datetime) -> dict[str, tuple[list[float], int]]:
    """What a point-in-time read gives."""
    with duckdb.connect() as con:
        rows: list[Any] = con.execute(f"""
            SELECT {side}_id, {side}_profile, {side}_evidence FROM '{repo}/data/{side}_profiles.parquet'
            WHERE event_timestamp <= $1
            QUALIFY row_number() OVER (PARTITION BY {side}_id ORDER BY event_timestamp DESC) = 1
        """, [moment]).fetchall()  # fmt: skip
    return {key: (profile, n) for key, profile, n in rows}


@pytest.mark.parametrize("half_life", [float("inf"), 40.0])
def test_reads_at_any_moment_are_those_of_a_snapshot_each_month(
    half_life: float, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(1)
    days = [draw.randrange(90) for _ in range(40)] + [draw.randrange(400, 500) for _ in range(40)]
    data = write(tmp_path / "data", [f"{datetime(2023, 1, 5) + timedelta(days=day)}" for day in days])
    repos = []
    for name in ("sparse", "dense"):
        init(tmp_path / name)
        repo = tmp_path / name / "feature_repo"
        Enrichment(model=model, backend=BACKEND, half_life_days=half_life).write(repo / ENRICHMENT_FILE)
        if name == "dense":
            monkeypatch.setattr(profiles, "snapshots", every_month)
        build_profiles(data, repo)
        repos.append(repo)
    moments = [datetime(2023, 1, 5, tzinfo=UTC) + timedelta(days=day) for day in range(0, 520, 13)]
    compared = 0
    for moment in moments:
        for side in ("user", "item"):
            sparse, dense = (read(repo, side, moment) for repo in repos)
            assert sparse.keys() == dense.keys()
            for key, (profile, n) in sparse.items():
                assert n == dense[key][1]
                np.testing.assert_allclose(profile, dense[key][0], atol=1e-6)
                compared += 1
    assert compared > 200
