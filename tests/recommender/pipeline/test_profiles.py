"""The snapshots of profiles: what they are sums of, only months with something new, the same at every moment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from coldstart_udfs.encoder import bulk_ray
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.cli.app import init
from recommender.data.tables import load
from recommender.pipeline import profile_sums, profiles
from recommender.pipeline.profiles import SOURCES, build_profiles, snapshots
from tests.support.commands import must
from tests.support.word_model import BACKEND, word_model

WORDS = ("red", "blue", "lamp", "mug", "pot")
ITEMS = {"i1": "red lamp", "i2": "blue mug", "i3": "red pot", "i4": "blue lamp"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return word_model(tmp_path_factory.mktemp("model") / "words", WORDS, 8)


def write(folder: Path, moments: Sequence[str]) -> Path:
    """Events of five users at these moments."""
    folder.mkdir(parents=True, exist_ok=True)
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


def shop(folder: Path, model: str, settings: dict[str, Any], rows: Sequence[str]) -> Path:
    """A repository and, beside it, tables with these interactions: user, item, day, type of event."""
    write(folder / "data", ["2024-01-01"])
    lines = ["user_id,item_id,event_timestamp,event_type", *(row.replace(" ", ",") for row in rows)]
    (folder / "data" / "interactions.csv").write_text("\n".join(lines) + "\n")
    init(folder)
    Enrichment(model=model, backend=BACKEND, **settings).write(folder / "feature_repo" / ENRICHMENT_FILE)
    return folder / "feature_repo"


SHORT = ["u0 i1 2024-01-05 view", "u0 i1 2024-01-09 purchase", "u0 i2 2024-02-03 purchase", "u0 i2 2024-02-20 return",
         "u1 i2 2024-02-01 cart", "u1 i3 2024-03-05 purchase", "u1 i2 2024-03-06 impression"]  # fmt: skip


def test_the_sql_says_which_events_count_in_which_snapshot(model: str, tmp_path: Path) -> None:
    repo = shop(tmp_path, model, {"half_life_days": 10}, SHORT)
    with duckdb.connect() as con:
        load(con, tmp_path / "data")
        con.execute("SET VARIABLE event_weights = MAP {'view': 0.1, 'cart': 0.5, 'purchase': 1.0, 'impression': 0.0, "
                    "'return': 1.0}; SET VARIABLE half_life_days = 10.0; SET VARIABLE fingerprint = 'f'")  # fmt: skip
        con.execute("CREATE MACRO embed(text) AS [1.0::FLOAT]")
        found = []
        for previous, as_of in (("2024-01-01", "2024-02-01"), ("2024-02-01", "2024-03-01")):
            con.execute(f"SET VARIABLE previous = TIMESTAMPTZ '{previous}'; SET VARIABLE as_of = TIMESTAMPTZ '{as_of}'")
            if not found:
                con.execute((repo / "sql" / "descriptions.sql").read_text())
                con.execute((repo / "sql" / "profiles.sql").read_text())
            found.append(con.sql("SELECT user_id, item_id, times, round(weight, 9) FROM profile_changes ORDER BY ALL"))
            found[-1] = found[-1].fetchall()
    assert found == [
        [("u0", "i1", 2, round(0.1 * 0.5**2.7 + 0.5**2.3, 9))],
        # Bought and returned in one month: the event and its return cancel out.
        [("u0", "i2", 0, 0.0), ("u1", "i2", 1, round(0.5 * 0.5**2.9, 9))],
    ]


@pytest.mark.parametrize("half_life", [float("inf"), 25.0])
@pytest.mark.parametrize("rows", [8_192, 3])
def test_profiles_are_those_of_a_plain_loop(
    half_life: float, rows: int, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_sums, "ROW_GROUP", rows)
    draw = random.Random(5)
    kinds = ["purchase"] * 4 + ["view", "cart", "return"]
    events = [f"u{draw.randrange(5)} i{draw.randrange(1, 5)} {datetime(2024, 1, 1) + timedelta(days=day):%Y-%m-%d} "
              f"{draw.choice(kinds)}" for day in range(100)]  # fmt: skip
    repo = shop(tmp_path, model, {"half_life_days": half_life}, events)
    counts = build_profiles(tmp_path / "data", repo)
    with duckdb.connect() as con:
        load(con, tmp_path / "data")
        known = con.sql("SELECT user_id, item_id, event_type, event_timestamp, returned FROM interactions").fetchall()
        moments = snapshots(con, half_life)
        described = con.sql(f"SELECT item_id, item_embedding FROM '{repo}/data/item_descriptions/part-0.parquet'")
        x = {key: np.array(vector) for key, vector in described.fetchall()}
    weights = {"purchase": 1.0, "view": 0.1, "cart": 0.5}
    compared = 0
    for moment in moments:
        pairs: dict[tuple[str, str], list[float]] = {}
        for user, item, kind, happened, returned in known:
            if kind == "return" or happened >= moment or (returned and returned < moment):
                continue
            pair = pairs.setdefault((user, item), [0.0, 0])
            pair[0] += weights[kind] * 0.5 ** ((moment - happened).total_seconds() / 86_400 / half_life)
            pair[1] += 1
        users: dict[str, tuple[np.ndarray, int]] = {}
        for (user, item), (weight, times) in pairs.items():
            profile, n = users.get(user, (np.zeros(8), 0))
            users[user] = (profile + weight * x[item], n + int(times))
        items: dict[str, tuple[np.ndarray, int]] = {}
        for item, vector in x.items():
            rests = [users[user][0] - weight * vector for (user, other), (weight, times) in pairs.items()
                     if other == item and users[user][1] > times]  # fmt: skip
            n = sum(int(times) for (_, other), (_, times) in pairs.items() if other == item)
            units = [rest / np.linalg.norm(rest) for rest in rests if np.linalg.norm(rest) > 1e-6]
            items[item] = (np.sum(units, axis=0) / len(rests) if units else np.zeros(8), n)
        for side, expected in (("user", users), ("item", items)):
            for key, (profile, n) in read(repo, side, moment).items():
                wanted = expected.get(key, (np.zeros(8), 0))
                assert n == wanted[1]
                np.testing.assert_allclose(profile, wanted[0], atol=1e-6)
                compared += n > 0
    assert compared > 25
    for side in ("user", "item"):
        file = pq.ParquetFile(repo / "data" / f"{side}_profiles.parquet")
        assert file.metadata.num_rows == counts[f"{side}_profiles"]
        assert max(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)) <= rows


def test_items_without_descriptions_have_no_profiles(model: str, tmp_path: Path) -> None:
    repo = shop(tmp_path, model, {}, SHORT)
    (tmp_path / "data" / "items.csv").write_text("item_id,description\n" + "".join(f"{name},\n" for name in ITEMS))
    counts = build_profiles(tmp_path / "data", repo)
    assert (counts["user_profiles"], counts["item_profiles"]) == (0, 0)
    assert read(repo, "user", datetime(2030, 1, 1, tzinfo=UTC)) == {}


def test_a_profiles_sql_of_an_earlier_version_is_named(model: str, tmp_path: Path) -> None:
    repo = shop(tmp_path, model, {}, SHORT)
    (repo / "sql" / "profiles.sql").write_text("SELECT 1")
    with pytest.raises(ColdStartError, match=r"profiles\.sql creates no view profile_changes .* `coldstart init`"):
        build_profiles(tmp_path / "data", repo)
    assert list((repo / "data").glob("**/*.parquet")) == []


@pytest.mark.slow
def test_ray_encodes_and_the_profiles_are_the_same(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra `ray`, which `make test-all` installs")
    for name in ("ray", "here"):
        repo = shop(tmp_path / name, model, {}, SHORT)
        words = "user_id,description\nu0,red\nu1,\nu2,  \nu3,a mug\nu4,red\n"
        (tmp_path / name / "data" / "users.csv").write_text(words)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    must("coldstart", "profiles", "--engine", "ray", "--workers", "1", cwd=tmp_path / "ray")
    encoder = Encoder(model, backend=BACKEND)
    texts = [*ITEMS.values(), "red", "a mug"]
    vectors = encoder.encode(texts)
    assert encoder.stats.encoded == 0
    np.testing.assert_allclose(vectors, Encoder(model, backend=BACKEND, cache=False).encode(texts), atol=1e-6)
    build_profiles(tmp_path / "here" / "data", repo)
    for path in SOURCES.values():
        ray, here = (pq.read_table(tmp_path / name / "feature_repo" / "data" / path) for name in ("ray", "here"))
        assert ray.equals(here), path


def test_ray_that_is_not_installed_is_named(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_ray, "find_spec", lambda name: None)
    repo = shop(tmp_path, model, {}, SHORT)
    with pytest.raises(ColdStartError, match=r"pip install 'feast-coldstart\[ray\]'"):
        build_profiles(tmp_path / "data", repo, ray_workers=1)
