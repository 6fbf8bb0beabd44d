"""The offline store: what Feast's `duckdb` store gives, and what it does not."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.offline.gather import gather
from coldstart_udfs.feast.offline.session import open_connection
from tests.support.commands import run
from tests.support.encoders import StubEncoder

feast = pytest.importorskip("feast")

from feast import (  # noqa: E402
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    PushSource,
    RepoConfig,
    RequestSource,
    ValueType,
)  # fmt: skip
from feast.batch_feature_view import BatchFeatureView  # noqa: E402
from feast.data_source import PushMode  # noqa: E402
from feast.errors import SavedDatasetLocationAlreadyExists  # noqa: E402
from feast.feature_logging import LoggingConfig  # noqa: E402
from feast.infra.offline_stores.file_source import (  # noqa: E402
    FileLoggingDestination,
    SavedDatasetFileStorage,
)  # fmt: skip
from feast.types import Array, Float32, Int64, String, UnixTimestamp  # noqa: E402

OURS = "coldstart_udfs.feast.ColdStartDuckDBOfflineStore"
USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
ITEM = Entity(name="item", join_keys=["Item Id"], value_type=ValueType.INT64)
START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
DAY = pd.Timestamp("2024-01-10", tz="UTC")

pytestmark = [
    pytest.mark.filterwarnings("ignore:Batch feature views are experimental:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:On demand feature view is an experimental:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Saving dataset is an experimental:RuntimeWarning"),
]


@pytest.fixture
def stub(stub: StubEncoder, monkeypatch: pytest.MonkeyPatch) -> StubEncoder:
    """The encoder of every repository: the store opens its own connections, with the encoder of enrichment.json."""
    # In this order: who is first imported while the function is replaced keeps the replacement.
    for module in ("coldstart_udfs.sql.arrow_functions", "coldstart_udfs.encoder.encoder"):
        monkeypatch.setattr(f"{module}.shared_encoder", lambda *_, **__: stub)
    return stub


def open_repo(folder: Path, *objects: Any, kind: str = OURS, **offline: Any) -> FeatureStore:
    store = FeatureStore(
        config=RepoConfig(
            project="shop", provider="local", registry=str(folder / "registry.db"),
            offline_store={"type": kind, **offline}, online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3, repo_path=folder,
        )
    )  # fmt: skip
    if objects:
        store.apply(list(objects))
    return store


def days(*numbers: float | None) -> list[pd.Timestamp | None]:
    return [None if number is None else DAY + pd.Timedelta(days=number) for number in numbers]


def write(path: Path, rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path, index=False)
    return path


def source(path: Path | str, name: str = "users", **given: Any) -> FileSource:
    return FileSource(name=name, path=str(path), timestamp_field="event_timestamp", **given)


def view(source_: Any, *fields: Field, name: str = "users", **given: Any) -> FeatureView:
    return FeatureView(name=name, entities=given.pop("entities", [USER]), schema=list(fields), source=source_, **given)


N = Field(name="n", dtype=Int64)


def simple(folder: Path, **rows: Any) -> FeatureStore:
    """One view `users` with a feature n: user a has 1 three days before DAY, 2 one day before; b has 3."""
    write(folder / "users.parquet", {
        "user_id": ["a", "a", "b"], "n": [1, 2, 3], "event_timestamp": days(-3, -1, -2), **rows,
    })  # fmt: skip
    return open_repo(folder, USER, view(source("users.parquet"), N))


def ask(store: FeatureStore, users: Sequence[str | None], when: Sequence[Any], *features: str, **given: Any) -> Any:
    entities = pd.DataFrame({"user_id": users, "event_timestamp": when})
    return store.get_historical_features(entities, list(features or ["users:n"]), **given)


def values(job: Any, name: str = "n") -> list[Any]:
    return job.to_arrow()[name].to_pylist()


# --- the same as Feast's own store ---------------------------------------------------------------------------------


def stamps(rng: np.random.Generator, count: int, kind: str) -> pa.Array:
    """Instants on a grid of half days, so that many are equal."""
    instants = pd.Series(pd.Timestamp("2024-01-10") + pd.to_timedelta(rng.integers(-12, 13, count) * 12, unit="h"))
    if kind == "date":
        return pa.array(instants.dt.date)
    unit, _, zone = kind.partition(":")
    naive = pa.array(instants).cast(pa.timestamp(unit))
    return pa.array(instants.dt.tz_localize("UTC")).cast(pa.timestamp(unit, tz=zone)) if zone else naive


def with_instants(table: pa.Table) -> pa.Table:
    """A result of Feast's own store, which gives DuckDB 2.0's instants in nanoseconds as text (docs/upstream/26)."""
    for place, name in enumerate(table.column_names):
        if name in ("event_timestamp", "created") and pa.types.is_string(table.schema.field(name).type):
            instants = table[name].cast(pa.timestamp("ns", tz="UTC")).cast(pa.timestamp("us", tz="UTC"))
            table = table.set_column(place, name, instants)
    return table


def with_nulls(rng: np.random.Generator, array: pa.Array) -> pa.Array:
    return pa.array([None if rng.random() < 0.2 else value for value in array.to_pylist()], type=array.type)


def random_view(rng: np.random.Generator, folder: Path, name: str, entities: list[Entity]) -> FeatureView:
    kinds = ["us", "ns", "ms", "us:UTC", "ns:UTC", "ms:UTC", "date", "us:America/New_York"]
    count = int(rng.integers(1, 60))
    table = pa.table({
        "user_id": pa.array(rng.choice(["a", "b", "c", 'd"x', None], count).tolist(), type=pa.string()),
        "Item Id": pa.array(rng.integers(1, 4, count)), "event_timestamp": stamps(rng, count, str(rng.choice(kinds))),
        "created": with_nulls(rng, stamps(rng, count, str(rng.choice(["us", "us:UTC", "date"])))),
        "raw": pa.array(range(count)),
        f"{name}_text": with_nulls(rng, pa.array([f"text {row}" for row in range(count)])),
        f'{name} "Vector"': with_nulls(
            rng, pa.array(list(rng.random((count, 384), dtype=np.float32)), type=pa.list_(pa.float32()))
        ),
    })  # fmt: skip
    created = bool(rng.random() < 0.7)
    # What two rows that agree in all of these give is nobody's promise.
    keys = [*(entity.join_key for entity in entities), "event_timestamp", *(["created"] if created else [])]
    pq.write_table(table.filter(pa.array(~table.to_pandas().duplicated(keys))), folder / f"{name}.parquet")
    ttl = rng.choice(np.array([None, timedelta(0), timedelta(hours=12), timedelta(days=1), timedelta(days=5)]))
    return FeatureView(
        name=name, entities=entities, ttl=ttl,
        schema=[Field(name=f"{name}_number", dtype=Int64), Field(name=f"{name}_text", dtype=String),
                Field(name=f'{name} "Vector"', dtype=Array(Float32))],
        source=source(
            folder / f"{name}.parquet", name, field_mapping={"raw": f"{name}_number"},
            created_timestamp_column="created" if created else None,
        ),
    )  # fmt: skip


def random_entities(rng: np.random.Generator) -> pd.DataFrame:
    count = int(rng.integers(1, 50))
    naive = pd.Series(pd.Timestamp("2024-01-10") + pd.to_timedelta(rng.integers(-14, 15, count) * 12, unit="h"))
    utc = naive.dt.tz_localize("UTC")
    when = [naive, utc, utc.dt.tz_convert("America/New_York"), naive.astype(str)][rng.integers(4)]
    entities = pd.DataFrame({
        "row": range(count), "user_id": rng.choice(["a", "b", "c", 'd"x', "nobody", None], count),
        "Item Id": rng.integers(1, 5, count), "other": ["a", *rng.choice(["a", "b", None], count - 1)],
        "event_timestamp": when, 'Extra "column"': rng.random(count),
        "kind": pd.Categorical(rng.choice(["x", "y"], count)),
    })  # fmt: skip
    again = entities.assign(row=entities["row"] + count)
    return pd.concat([entities, again], ignore_index=True) if rng.random() < 0.3 else entities


@pytest.mark.parametrize("seed", range(14))
def test_rows_values_and_types_are_those_of_feasts_own_store(seed: int, tmp_path: Path) -> None:
    """At random: TTLs, equal timestamps, NULLs, zones, units, dates, aliases, mapped and quoted names, rows twice."""
    rng = np.random.default_rng(seed)
    first, second = random_view(rng, tmp_path, "first", [USER]), random_view(rng, tmp_path, "second", [USER, ITEM])
    plain = FeatureService(name="plain", features=[first, second])
    aliased = FeatureService(
        name="aliased",
        features=[first.with_name("theirs").with_join_key_map({"user_id": "other"}), first.with_name("mine")],
    )
    ours = open_repo(tmp_path, USER, ITEM, first, second, plain, aliased)
    stock = open_repo(tmp_path, kind="duckdb")
    asked: Any = [plain, aliased, ['second:second "Vector"', "first:first_number"]][rng.integers(3)]
    options = {
        "full_feature_names": asked is aliased or bool(rng.random() < 0.5),
        "filter_by_created_timestamp": bool(rng.random() < 0.3),
    }
    entities = random_entities(rng)
    mine = ours.get_historical_features(entities.copy(), asked, **options).to_arrow()
    theirs = stock.get_historical_features(entities.copy(), asked, **options).to_arrow().sort_by("row")
    assert mine.schema.equals(theirs.schema)
    assert mine.to_pylist() == theirs.to_pylist()
    assert mine["row"].to_pylist() == entities["row"].tolist(), "not in the order of the entity rows"

    for one in (first, second):
        for pull in ("pull_all_from_table_or_query", "pull_latest_from_table_or_query"):
            found = [
                getattr(store._get_provider().offline_store, pull)(
                    config=store.config, data_source=one.batch_source,
                    join_key_columns=[column.name for column in one.entity_columns],
                    feature_name_columns=[f"{one.name}_text", "raw"], timestamp_field="event_timestamp",
                    created_timestamp_column=one.batch_source.created_timestamp_column or None,
                    start_date=datetime(2024, 1, 5, tzinfo=UTC), end_date=datetime(2024, 1, 12, 12, tzinfo=UTC),
                ).to_arrow().sort_by("raw")
                for store in (ours, stock)
            ]  # fmt: skip
            theirs = with_instants(found[1])
            assert found[0].schema.equals(theirs.schema)
            assert found[0].to_pylist() == theirs.to_pylist()


# --- point in time, by hand ----------------------------------------------------------------------------------------


def test_a_row_counts_from_its_timestamp_on_until_exactly_its_ttl(tmp_path: Path) -> None:
    write(tmp_path / "users.parquet", {"user_id": ["a"], "n": [1], "event_timestamp": days(0)})
    store = open_repo(tmp_path, USER, view(source("users.parquet"), N, ttl=timedelta(days=2)))
    moment = pd.Timedelta(microseconds=1)
    assert values(ask(store, ["a"] * 4, [DAY - moment, DAY, DAY + 2 * pd.Timedelta(days=1), DAY + 2 * pd.Timedelta(
        days=1) + moment])) == [None, 1, 1, None]  # fmt: skip


def test_of_equal_timestamps_the_one_created_last_wins_and_without_a_clock_the_last_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / "users.parquet", {
        "user_id": ["a"] * 3, "n": [1, 2, 3], "event_timestamp": days(0, 0, 0), "created": days(1, 2, None),
    })  # fmt: skip
    store = open_repo(
        tmp_path, USER, view(source("users.parquet", "clock", created_timestamp_column="created"), N, name="clock"),
        view(source("users.parquet", "plain"), N, name="plain"),
    )  # fmt: skip
    table = ask(store, ["a"], days(0), "clock:n", "plain:n", full_feature_names=True).to_arrow()
    assert (table["clock__n"].to_pylist(), table["plain__n"].to_pylist()) == ([2], [3])


def test_a_late_row_does_not_hide_the_one_that_was_known_then(tmp_path: Path) -> None:
    write(tmp_path / "users.parquet", {
        "user_id": ["a"] * 2, "n": [1, 2], "event_timestamp": days(-2, -1), "created": days(-2, 5),
    })  # fmt: skip
    store = open_repo(tmp_path, USER, view(source("users.parquet", created_timestamp_column="created"), N))
    assert values(ask(store, ["a", "a"], days(0, 6), filter_by_created_timestamp=True)) == [1, 2]
    assert values(ask(store, ["a"], days(0))) == [2]


def test_a_view_without_entities_is_read_in_history_and_online(tmp_path: Path) -> None:
    write(tmp_path / "shop.parquet", {"visits": [10, 20], "event_timestamp": days(-2, -1)})
    whole = FeatureView(
        name="whole", entities=[], schema=[Field(name="visits", dtype=Int64)], source=source("shop.parquet", "shop")
    )
    store = open_repo(tmp_path, whole)
    job = store.get_historical_features(pd.DataFrame({"event_timestamp": days(0, -1.5, -3)}), ["whole:visits"])
    assert values(job, "visits") == [20, 10, None]
    store.materialize(START, END)
    assert store.get_online_features(["whole:visits"], [{"__dummy_id": ""}]).to_dict()["visits"] == [20]


def test_no_entity_rows_give_no_rows_with_the_right_columns(tmp_path: Path) -> None:
    store = simple(tmp_path)
    when = pd.Series([], dtype="datetime64[ns, UTC]")
    empty = pd.DataFrame({"user_id": pd.Series([], dtype=str), "event_timestamp": when})
    table = store.get_historical_features(empty, ["users:n"]).to_arrow()
    assert (table.num_rows, table.column_names, table["n"].type) == (0, ["user_id", "event_timestamp", "n"], pa.int64())


def test_a_column_of_nothing_but_null_is_passed_through_as_it_is(tmp_path: Path) -> None:
    entities = pd.DataFrame({"user_id": ["a"], "event_timestamp": days(0), "empty": [None]})
    job = simple(tmp_path).get_historical_features(entities, ["users:n"])
    assert job.to_arrow()["empty"].type == job.to_arrow_reader().schema.field("empty").type == pa.null()
    assert job.to_df()["empty"].tolist() == [None]


def test_a_feature_named_like_a_column_of_the_entity_rows_needs_its_full_name(tmp_path: Path) -> None:
    store = simple(tmp_path)
    entities = pd.DataFrame({"user_id": ["a"], "n": [7], "event_timestamp": days(0)})
    with pytest.raises(ColdStartError, match="'n' is both a feature of users and a column of the entity rows"):
        store.get_historical_features(entities, ["users:n"])
    table = store.get_historical_features(entities, ["users:n"], full_feature_names=True).to_arrow()
    assert (table["n"].to_pylist(), table["users__n"].to_pylist()) == ([7], [2])


def test_entity_rows_may_be_sql_with_our_functions_and_the_repositorys_files(tmp_path: Path, stub: StubEncoder) -> None:
    store = simple(tmp_path)
    write(tmp_path / "data" / "orders.parquet", {"who": ["b", "a"], "seen": days(0, -2)})
    job = store.get_historical_features(
        "SELECT who AS user_id, seen AS event_timestamp, len(embed(who)) AS width FROM 'data/orders.parquet'",
        ["users:n"],
    )
    assert job.to_arrow().select(["user_id", "width", "n"]).to_pylist() == [
        {"user_id": "b", "width": 4, "n": 3}, {"user_id": "a", "width": 4, "n": 1},
    ]  # fmt: skip
    assert job.metadata.min_event_timestamp == days(-2)[0]
    with pytest.raises(ColdStartError, match="entity_df as SQL failed"):
        store.get_historical_features("SELECT 1 FROM nowhere", ["users:n"])


def test_timestamps_of_sql_may_be_dates_or_strings_as_those_of_a_frame_may(tmp_path: Path, stub: StubEncoder) -> None:
    store = simple(tmp_path)
    day = days(1)[0]
    for instant in (f"DATE '{day:%Y-%m-%d}'", f"'{day:%Y-%m-%d}'", f"'{day:%Y-%m-%d}T00:00:00'"):
        query = f"SELECT 'a' AS user_id, {instant} AS event_timestamp"
        frame = pd.DataFrame({"user_id": ["a"], "event_timestamp": [pd.Timestamp(f"{day:%Y-%m-%d}", tz="UTC")]})
        found = store.get_historical_features(query, ["users:n"]).to_arrow()
        assert found["n"].to_pylist() == store.get_historical_features(frame, ["users:n"]).to_arrow()["n"].to_pylist()
    with pytest.raises(ColdStartError, match="entity_df gives event_timestamp as string; write CAST"):
        store.get_historical_features("SELECT 'a' AS user_id, 'soon' AS event_timestamp", ["users:n"])
    with pytest.raises(ColdStartError, match="must be a SELECT"):
        store.get_historical_features("", ["users:n"])


def test_instants_in_nanoseconds_are_returned_in_microseconds(tmp_path: Path) -> None:
    """DuckDB 2.0 has a type for them, and rounds; 1.x truncates. The row of the very instant is found either way."""
    instants = pa.array([1_704_844_800_123_456_789], pa.timestamp("ns", tz="UTC"))
    rows = pa.table({"user_id": ["a"], "n": [1], "event_timestamp": instants, "seen": instants})
    pq.write_table(rows, tmp_path / "users.parquet")
    store = open_repo(tmp_path, USER, view(source("users.parquet"), Field(name="seen", dtype=UnixTimestamp)))
    asked = pd.DataFrame({"user_id": ["a"], "event_timestamp": instants.to_pandas(), "asked": instants.to_pandas()})
    found = store.get_historical_features(asked, ["users:seen"]).to_arrow()
    names = ("event_timestamp", "asked", "seen")
    assert {found.schema.field(name).type for name in names} == {pa.timestamp("us", tz="UTC")}
    microseconds = {found[name].cast(pa.int64()).to_pylist()[0] for name in names}
    assert microseconds in ({1_704_844_800_123_456}, {1_704_844_800_123_457})
    store.materialize(START, END)
    assert store.get_online_features(["users:seen"], [{"user_id": "a"}]).to_dict()["seen"][0].year == 2024


def test_an_error_about_a_secret_does_not_tell_it(tmp_path: Path) -> None:
    simple(tmp_path)
    store = open_repo(tmp_path, settings={"no_such_secret": "open sesame"})
    with pytest.raises(ColdStartError, match="no_such_secret = … is not possible") as caught:
        ask(store, ["a"], days(0))
    assert "sesame" not in str(caught.value)


def test_a_join_over_arrow_rows_is_not_a_nested_loop(tmp_path: Path) -> None:
    """DuckDB plans one where it knows no row count, as of Arrow; it takes twenty times as long on 100,000 rows."""
    rows = pa.table({"user_id": ["a"], "n": [1], "event_timestamp": days(0)})
    with open_connection(simple(tmp_path).config) as con:
        con.register("asked", pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches()))
        con.register("rows", pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches()))
        ((_, plan),) = con.execute("""
            EXPLAIN SELECT rows.n FROM asked ASOF JOIN rows
            ON asked.user_id = rows.user_id AND asked.event_timestamp >= rows.event_timestamp
        """).fetchall()
    operators = plan.upper().replace("_", " ")
    assert "ASOF JOIN" in operators
    assert "NESTED LOOP" not in operators


# --- where the files are -------------------------------------------------------------------------------------------


def test_relative_absolute_and_url_paths_name_the_same_file_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"user_id": ["a"], "n": [1], "event_timestamp": days(0)}
    path = write(tmp_path / "re po" / "data" / "users.parquet", rows)
    paths = {"relative": "data/users.parquet", "absolute": str(path), "url": path.as_uri(), "many": "data/*.parquet"}
    views = [view(source(where, name), N, name=name) for name, where in paths.items()]
    monkeypatch.chdir(tmp_path)
    store = open_repo(tmp_path / "re po", USER, *views)
    table = ask(store, ["a"], days(0), *(f"{name}:n" for name in paths), full_feature_names=True).to_arrow()
    assert [table[f"{name}__n"].to_pylist() for name in paths] == [[1]] * 4


def test_a_folder_stands_for_its_files_without_what_is_hidden_or_unfinished(tmp_path: Path) -> None:
    for number, name in enumerate(["part-0", "pushed-1", "deep/x"]):
        write(tmp_path / "users" / f"{name}.parquet", {
            "user_id": ["a"], "n": [number], "event_timestamp": days(number), **({"later": [1]} if number else {}),
        })  # fmt: skip
    for name in (".unfinished-1/part", ".pushed", "_delta_log/x"):
        write(tmp_path / "users" / f"{name}.parquet", {"user_id": ["a"], "n": [99], "event_timestamp": days(9)})
    store = open_repo(tmp_path, USER, view(source("users"), N))
    assert sorted(values(ask(store, ["a"] * 4, days(-1, 0, 1, 20)), "n"), key=str) == [0, 1, 2, None]
    columns = store._get_provider().get_table_column_names_and_types_from_data_source(store.config, source("users"))
    assert [name for name, _ in columns] == ["user_id", "n", "event_timestamp", "later"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("data/none.parquet", r"source users \(data/none.parquet\): there is no file or folder .*coldstart profiles"),
        ("empty", r"source users \(empty\): the folder .* holds no \*.parquet"),
        ("text.parquet", r"source users \(text.parquet\) cannot be read as parquet"),
    ],
)
def test_a_source_that_cannot_be_read_is_named_with_its_path_and_what_to_do(
    path: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("not parquet")
    store = open_repo(tmp_path, USER, view(source(path), N))
    with pytest.raises(ColdStartError, match=message):
        ask(store, ["a"], days(0))


def test_a_missing_column_is_named_beside_those_that_there_are(tmp_path: Path) -> None:
    write(tmp_path / "users.parquet", {"user_id": ["a"], "nn": [1], "event_timestamp": days(0)})
    store = open_repo(tmp_path, USER, view(source("users.parquet"), N))
    with pytest.raises(ColdStartError, match="no column 'n', a feature of the feature view users; it has event_time"):
        ask(store, ["a"], days(0))
    with pytest.raises(ColdStartError, match="the entity rows have no column 'user_id'"):
        store.get_historical_features(pd.DataFrame({"id": ["a"], "event_timestamp": days(0)}), ["users:n"])


def test_rows_are_not_mixed_with_those_of_a_file_that_is_replaced_while_it_is_read(tmp_path: Path) -> None:
    store = simple(tmp_path)
    reader = ask(store, ["a", "b"], days(0, 0)).to_arrow_reader()
    write(tmp_path / "other.parquet", {"user_id": ["b"], "n": [9], "event_timestamp": days(0)}).replace(
        tmp_path / "users.parquet"
    )
    with pytest.raises(ColdStartError, match="was written to while it was read"):
        reader.read_all()


# --- columns that are embedded on reading --------------------------------------------------------------------------


def tagged(folder: Path, tag: str = "description->embedding") -> FeatureStore:
    write(folder / "texts.parquet", {
        "user_id": ["a", "b", "c"], "description": ["likes tea", None, "  "], "event_timestamp": days(0, 0, 0),
    })  # fmt: skip
    tags = {"coldstart.embed": tag}
    return open_repo(
        folder, USER, view(source("texts.parquet", field_mapping={"embedding_fingerprint": "encoder"}, tags=tags))
    )


def test_a_tagged_text_is_a_feature_in_history_online_and_in_apply(tmp_path: Path, stub: StubEncoder) -> None:
    store = tagged(tmp_path)
    assert {field.name: str(field.dtype) for field in store.get_feature_view("users").features} == {
        "description": "String", "embedding": "Array(Float32)", "encoder": "String",
    }  # fmt: skip
    table = ask(store, ["a", "b", "c", "d"], days(1, 1, 1, 1), "users:embedding", "users:encoder").to_arrow()
    expected = [pytest.approx(StubEncoder.vector("likes tea").tolist()), None, None, None]
    assert table["embedding"].to_pylist() == expected
    assert table["encoder"].to_pylist() == ["stub", "stub", "stub", None]
    store.materialize(START, END)
    online = store.get_online_features(["users:embedding", "users:encoder"], [{"user_id": "a"}, {"user_id": "b"}])
    assert online.to_dict()["embedding"] == expected[:2]
    assert online.to_dict()["encoder"] == ["stub", "stub"]


def test_only_the_texts_of_the_answer_are_embedded_and_plain_reads_register_nothing(
    tmp_path: Path, stub: StubEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tagged(tmp_path)
    values(ask(store, ["b"], days(1), "users:embedding"), "embedding")
    assert stub.seen == []
    monkeypatch.setattr("coldstart_udfs.sql.connection.register", None)
    monkeypatch.setattr("coldstart_udfs.encoder.encoder.shared_encoder", None)
    assert values(ask(store, ["a"], days(1), "users:description"), "description") == ["likes tea"]


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("description", 'it must be "text->vector"'),
        ("words->embedding", "names a column 'words'; the files have description, event_timestamp, user_id"),
        ("description->user_id", "makes a column 'user_id', which is there already"),
    ],
)
def test_a_tag_that_does_not_fit_fails_in_apply(tag: str, message: str, tmp_path: Path, stub: StubEncoder) -> None:
    with pytest.raises(ColdStartError, match=message):
        tagged(tmp_path, tag)


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offline", "message"),
    [
        ({"settings": {"treads": 2}}, "treads = 2 is not possible: .*Did you mean threads"),
        ({"settings": {"memory_limit": "much"}}, "memory_limit = 'much' is not possible"),
        ({"settings": {"TimeZone": "Asia/Tokyo"}}, "TimeZone cannot be set"),
        ({"settings": {"s3_region": "eu"}}, r"extensions: \[httpfs\]"),
        ({"settings": {"x = 1; DROP TABLE y": 1}}, "it is not a name"),
    ],
)
def test_a_setting_that_duckdb_refuses_is_named(offline: dict[str, Any], message: str, tmp_path: Path) -> None:
    simple(tmp_path)
    with pytest.raises(ColdStartError, match=message):
        ask(open_repo(tmp_path, **offline), ["a"], days(0))


def test_settings_are_in_force_and_an_unknown_key_is_refused(tmp_path: Path) -> None:
    simple(tmp_path)
    store = open_repo(tmp_path, settings={"threads": 1, "memory_limit": "1GB"})
    job = store.get_historical_features(
        f"SELECT 'a' AS user_id, TIMESTAMPTZ '{DAY}' AS event_timestamp, current_setting('threads') AS threads, "
        "current_setting('TimeZone') AS zone", ["users:n"],
    )  # fmt: skip
    assert job.to_arrow().select(["threads", "zone"]).to_pylist() == [{"threads": 1, "zone": "UTC"}]
    with pytest.raises(Exception, match="offline_store has thread; possible keys are extensions, settings"):
        open_repo(tmp_path, thread=2)


# --- results -------------------------------------------------------------------------------------------------------


def with_on_demand(folder: Path, count: int = 40_000) -> tuple[FeatureStore, pd.DataFrame]:
    """n for `count` users, NULL for every seventh, and an on-demand view of it."""
    write(folder / "users.parquet", {
        "user_id": [f"u{row}" for row in range(count)], "event_timestamp": [DAY] * count,
        "n": pd.array([row if row % 7 else None for row in range(count)], dtype="Int64"),
    })  # fmt: skip
    users = view(source(folder / "users.parquet"), N)

    def twice(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"twice": inputs["n"] * 2, "more": inputs["n"] + inputs["add"]})

    made = OnDemandFeatureView(
        name="made", sources=[users, RequestSource(name="asked", schema=[Field(name="add", dtype=Int64)])],
        schema=[Field(name="twice", dtype=Int64), Field(name="more", dtype=Int64)], mode="pandas", udf=twice,
        udf_string='def twice(inputs):\n    import pandas as pd\n'
        '    return pd.DataFrame({"twice": inputs["n"] * 2, "more": inputs["n"] + inputs["add"]})\n',
    )  # fmt: skip
    store = open_repo(folder, USER, users, made)
    entities = pd.DataFrame({"user_id": [f"u{row}" for row in range(count)], "event_timestamp": DAY, "add": 1})
    return store, entities


@pytest.mark.parametrize("full", [False, True])
def test_on_demand_features_by_batches_are_those_of_feasts_store_and_of_the_stream(full: bool, tmp_path: Path) -> None:
    store, entities = with_on_demand(tmp_path)
    features = ["users:n", "made:twice"]
    mine = store.get_historical_features(entities, features, full_feature_names=full)
    theirs = open_repo(tmp_path, kind="duckdb").get_historical_features(
        entities, [*features], full_feature_names=full
    ).to_arrow().to_pandas().sort_values("user_id").reset_index(drop=True)  # fmt: skip
    whole = mine.to_arrow()
    pd.testing.assert_frame_equal(whole.to_pandas().sort_values("user_id").reset_index(drop=True), theirs)
    batches = list(mine.to_arrow_batches(5_000))
    assert max(batch.num_rows for batch in batches) <= 5_000
    stream = pa.Table.from_batches(batches)
    name = "made__twice" if full else "twice"
    assert stream.column_names == whole.column_names
    assert stream[name].type == pa.int64()
    assert stream[name].to_pylist()[:3] == [None, 2, 4]


def test_vectors_are_put_in_place_over_many_batches_also_when_their_width_changes_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    for turn in (1000, 40):  # the vector from which on the width is another; 1000 is never
        vectors = [None if n % 9 == 0 else rng.random(3 if n < turn else 2).tolist() for n in range(100)]
        table = pa.table({
            "id": pa.array(rng.permutation(100)), "v": pa.array(vectors, type=pa.list_(pa.float32())),
            "s": pa.array([f"text {n}" for n in range(100)]),
        })  # fmt: skip
        wanted = pa.chunked_array([[None if one < 0 else one for one in rng.integers(-20, 100, 300).tolist()]])
        known = pa.chunked_array([wanted.combine_chunks().filter(wanted.is_valid().combine_chunks())])
        there = table.filter(pa.compute.is_in(table["id"], known.combine_chunks()))
        got = gather(wanted, there.to_batches(max_chunksize=7), table.schema)
        places = pa.compute.index_in(wanted.combine_chunks(), table["id"].combine_chunks())
        for name, column in zip(["v", "s"], got, strict=True):
            column.validate(full=True)
            assert column.to_pylist() == table[name].take(places).to_pylist()


@pytest.mark.parametrize("vectors", [
    [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0]], [[1.0, 2.0], None], [[], []], [[1.0, None], [3.0, 4.0]],
    [None, None],
])  # fmt: skip
def test_vectors_of_any_width_are_the_same_whole_and_streamed(vectors: list[Any], tmp_path: Path) -> None:
    kind = pa.list_(pa.float32())
    table = pa.table({"user_id": ["a", "b"], "event_timestamp": days(0, 0), "v": pa.array(vectors, type=kind)})
    pq.write_table(table, tmp_path / "users.parquet")
    store = open_repo(tmp_path, USER, view(source("users.parquet"), Field(name="v", dtype=Array(Float32))))
    job = ask(store, ["b", "nobody", "a", "b"], days(0, 0, 0, 0), "users:v")
    assert values(job, "v") == [vectors[1], None, vectors[0], vectors[1]]
    assert job.to_arrow_reader().read_all().equals(job.to_arrow())
    assert ask(store, ["nobody"], days(0), "users:v").to_arrow()["v"].to_pylist() == [None]


def test_a_saved_dataset_has_its_on_demand_features_and_is_replaced_only_when_allowed(tmp_path: Path) -> None:
    """Feast's own store leaves them out."""
    store, entities = with_on_demand(tmp_path, 100)
    for path in ("saved/set.parquet", "saved/folder"):
        job = store.get_historical_features(entities, ["users:n", "made:twice"])
        storage = SavedDatasetFileStorage(path)
        dataset = store.create_saved_dataset(job, name=Path(path).name, storage=storage)
        assert dataset.to_df()["twice"].tolist()[1:3] == [2, 4]
        with pytest.raises(SavedDatasetLocationAlreadyExists):
            job.persist(storage)
        store.get_historical_features(entities.head(3), ["users:n"]).persist(storage, allow_overwrite=True)
        assert pq.read_table(tmp_path / path).shape == (3, 4)
    assert sorted(file.name for file in (tmp_path / "saved").iterdir()) == ["folder", "set.parquet"]


def test_an_interrupted_persist_leaves_nothing(tmp_path: Path) -> None:
    store = simple(tmp_path)
    (tmp_path / "saved").mkdir()
    job = ask(store, ["a"], days(0))
    (tmp_path / "users.parquet").unlink()
    with pytest.raises(ColdStartError):
        job.persist(SavedDatasetFileStorage("saved/set.parquet"))
    assert list((tmp_path / "saved").iterdir()) == []


def test_remote_export_writes_parquet_under_the_staging_location(tmp_path: Path) -> None:
    simple(tmp_path)
    job = ask(open_repo(tmp_path, staging_location="staging"), ["a"], days(0))
    assert job.supports_remote_storage_export()
    (path,) = job.to_remote_storage()
    assert Path(path).is_relative_to(tmp_path / "staging")
    assert pq.read_table(path)["n"].to_pylist() == [2]


def test_jobs_run_in_threads(tmp_path: Path) -> None:
    store = simple(tmp_path)
    jobs = [ask(store, ["a", "b"], days(0, 0)) for _ in range(8)]
    got: list[list[int]] = []
    threads = [threading.Thread(target=lambda job=job: got.append(values(job))) for job in [*jobs, jobs[0]]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[2, 3]] * 9


# --- writing -------------------------------------------------------------------------------------------------------


def row(user: str, n: int, when: float) -> pd.DataFrame:
    return pd.DataFrame({"user_id": [user], "n": [n], "event_timestamp": days(when)})


@pytest.mark.parametrize("place", ["users.parquet", "users"])
def test_concurrent_pushes_lose_nothing_in_a_file_nor_in_a_folder(place: str, tmp_path: Path) -> None:
    first = tmp_path / place if place.endswith("parquet") else tmp_path / place / "part-0.parquet"
    write(first, {"user_id": ["a"], "n": [0], "event_timestamp": [DAY.tz_localize(None)]})
    pushed = PushSource(name="push", batch_source=source(place))
    store = open_repo(tmp_path, USER, view(pushed, N))
    threads = [
        threading.Thread(target=store.push, args=("push", row("a", n, n)), kwargs={"to": PushMode.OFFLINE})
        for n in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(ask(store, ["a"] * 9, days(*range(9)))) == list(range(9))
    assert not list(tmp_path.rglob(".unfinished*"))
    assert pq.read_schema(first).field("event_timestamp").type.tz is None, "the source keeps its types"


def test_embedded_columns_are_pushed_online_and_left_out_of_the_files(tmp_path: Path, stub: StubEncoder) -> None:
    write(tmp_path / "texts" / "part-0.parquet", {"user_id": ["a"], "description": ["tea"], "event_timestamp": days(0)})
    batch = source("texts", tags={"coldstart.embed": "description->embedding"})
    store = open_repo(tmp_path, USER, view(PushSource(name="push", batch_source=batch)))
    store.push("push", pd.DataFrame({
        "user_id": ["b"], "description": ["coffee"], "event_timestamp": days(1),
        "embedding": [StubEncoder.vector("coffee").tolist()], "embedding_fingerprint": ["stub"],
    }), to=PushMode.ONLINE_AND_OFFLINE)  # fmt: skip
    (file,) = (tmp_path / "texts").glob("pushed-*.parquet")
    assert pq.read_schema(file).names == ["user_id", "description", "event_timestamp"]
    expected = pytest.approx(StubEncoder.vector("coffee").tolist())
    assert values(ask(store, ["b"], days(1), "users:embedding"), "embedding") == [expected]
    assert store.get_online_features(["users:embedding"], [{"user_id": "b"}]).to_dict()["embedding"] == [expected]


@pytest.mark.parametrize("place", ["users.parquet", "users/part-0.parquet"])
def test_rows_that_do_not_fit_are_refused_and_the_source_stays_as_it_was(place: str, tmp_path: Path) -> None:
    write(tmp_path / place, {"user_id": ["a"], "n": [0], "event_timestamp": days(0)})
    before = (tmp_path / place).read_bytes()
    store = open_repo(tmp_path, USER, view(source(place.partition("/")[0]), N))
    shuffled = row("a", 1, 1)[["n", "user_id", "event_timestamp"]]
    with pytest.raises(ColdStartError, match="in this order"):
        store.write_to_offline_store("users", shuffled, reorder_columns=False)
    with pytest.raises(ColdStartError, match="column n is int64, and the rows to write have string"):
        store.write_to_offline_store("users", row("a", 1, 1).assign(n="many"))
    with pytest.raises(ValueError, match="missing_expected_columns"):
        store.write_to_offline_store("users", row("a", 1, 1).drop(columns="n"))
    assert (tmp_path / place).read_bytes() == before


def test_logged_features_go_to_a_folder_of_the_repository_and_are_read_back(tmp_path: Path) -> None:
    store = simple(tmp_path)
    for folder, parts in (("logs", None), ("parted", ["__log_date"])):
        destination = FileLoggingDestination(path=folder, partition_by=parts)
        service = FeatureService(
            name=folder, features=[store.get_feature_view("users")],
            logging_config=LoggingConfig(destination=destination),
        )  # fmt: skip
        store.apply([service])
        from feast.feature_logging import FeatureServiceLoggingSource

        schema = FeatureServiceLoggingSource(service, "shop").get_schema(store.registry)
        logs = pa.table(
            {name: pa.array([_logged(field, n) for n in range(3)], type=field) for name, field in zip(
                schema.names, schema.types, strict=True)}
        )  # fmt: skip
        store.write_logged_features(logs, service)
        (tmp_path / "more").mkdir(exist_ok=True)
        pq.write_table(logs, tmp_path / "more" / "x.parquet")
        store.write_logged_features(tmp_path / "more", service)
        found = store._get_provider().retrieve_feature_service_logs(
            service, datetime(2023, 1, 1), datetime(2025, 1, 1), store.config, store.registry
        ).to_df()  # fmt: skip
        assert sorted(found["users__n"]) == [0, 0, 1, 1, 2, 2]
        assert not list((tmp_path / folder).glob(".*"))


def _logged(kind: pa.DataType, n: int) -> Any:
    if pa.types.is_timestamp(kind):
        return datetime(2024, 1, 1 + n, tzinfo=UTC)
    return datetime(2024, 1, 1 + n).date() if pa.types.is_date(kind) else n if pa.types.is_integer(kind) else str(n)


def test_monitoring_sees_folders_mapped_names_and_embedded_columns(tmp_path: Path, stub: StubEncoder) -> None:
    write(tmp_path / "users" / "part-0.parquet", {
        "user_id": ["a", "b"], "raw": [1, 3], "text": ["tea", None], "event_timestamp": days(0, 1),
    })  # fmt: skip
    batch = source("users", field_mapping={"raw": "n"}, tags={"coldstart.embed": "text->vector"})
    store = open_repo(tmp_path, USER, view(batch))
    offline = store._get_provider().offline_store
    numbers, kinds = offline.compute_monitoring_metrics(
        store.config, batch, [("vector_fingerprint", "categorical"), ("n", "numeric")], "event_timestamp", START, END
    )
    assert (numbers["mean"], numbers["row_count"]) == (2.0, 2)
    assert kinds["histogram"]["values"] == [{"value": "stub", "count": 2}]
    assert offline.get_monitoring_max_timestamp(store.config, batch, "event_timestamp") == days(1)[0]
    with pytest.raises(ColdStartError, match="no column 'm', which is to be monitored"):
        offline.compute_monitoring_metrics(store.config, batch, [("m", "numeric")], "event_timestamp")


# --- batch feature views -------------------------------------------------------------------------------------------


def batch_view(name: str, mode: str, body: str, batch: Any, **given: Any) -> BatchFeatureView:
    text = f"def {name}(df):\n    {body}\n"
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(text, scope)
    return BatchFeatureView(
        name=name, mode=mode, entities=[USER], source=batch, schema=[Field(name=name, dtype=Int64)], udf=scope[name],
        udf_string=text, online=True, **given,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["pandas", "python"])
@pytest.mark.parametrize("latest", [False, True])
def test_a_batch_feature_views_function_runs_in_materialisation_and_in_history(
    mode: str, latest: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Feast's own store hands the function keys and timestamps alone, and does not call it for history."""
    path = write(tmp_path / "users.parquet", {
        "user_id": ["a", "a", "b"], "raw": [1, 2, 3], "event_timestamp": days(-3, -1, -2),
    })  # fmt: skip
    before = path.read_bytes()
    batch = source("users.parquet", field_mapping={"raw": "n"})
    twice = batch_view("twice", mode, "return df.assign(twice=df['n'] * 2)", batch, offline=True, ttl=timedelta(days=9))
    open_repo(tmp_path, USER, twice)
    store = open_repo(tmp_path)  # as another process reads the registry
    store.config.materialization_config.pull_latest_features = latest
    assert values(ask(store, ["a", "a", "b", "c"], days(0, -2, 0, 0), "twice:twice"), "twice") == [4, 2, 6, None]
    store.materialize(START, END)
    online = store.get_online_features(["twice:twice"], [{"user_id": "a"}, {"user_id": "b"}]).to_dict()
    assert online["twice"] == [4, 6]
    assert "nothing was written to its source" in caplog.text
    assert path.read_bytes() == before, "what a function gives is not what it reads"


def test_a_view_derived_from_another_is_written_to_its_sink_and_read_from_there(tmp_path: Path) -> None:
    write(tmp_path / "users.parquet", {"user_id": ["a", "b"], "n": [1, 3], "event_timestamp": days(-3, -2)})
    users = view(source("users.parquet"), N)
    tenfold = batch_view(
        "tenfold", "python", "return df.assign(tenfold=df['n'] * 10)[['user_id', 'tenfold', 'event_timestamp']]",
        [users], sink_source=source("sink/tenfold.parquet", "sink"), offline=True,
    )  # fmt: skip
    store = open_repo(tmp_path, USER, users, tenfold)
    store.materialize(START, END)
    assert store.get_online_features(["tenfold:tenfold"], [{"user_id": "a"}]).to_dict()["tenfold"] == [10]
    assert values(ask(store, ["a", "b"], days(0, 0), "tenfold:tenfold"), "tenfold") == [10, 30]


@pytest.mark.parametrize(
    ("mode", "body", "message"),
    [
        ("pandas", "return 3", "gave a int; it must give a pandas DataFrame"),
        ("pandas", "return df[['user_id', 'event_timestamp']]", "gave no column 'wrong', a feature"),
        ("ray", "return df", "a function of mode 'ray', which is not run on reading"),
    ],
)
def test_a_function_that_cannot_serve_history_is_named(mode: str, body: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "users.parquet", {"user_id": ["a"], "n": [1], "event_timestamp": days(0)})
    store = open_repo(tmp_path, USER, batch_view("wrong", mode, body, source("users.parquet")))
    with pytest.raises(ColdStartError, match=message):
        ask(store, ["a"], days(0), "wrong:wrong").to_df()


# --- the process ---------------------------------------------------------------------------------------------------


def test_a_process_ends_without_a_word_about_leaks(tmp_path: Path) -> None:
    tagged(tmp_path)
    script = f"""
import pandas as pd
from feast import FeatureStore, RepoConfig
config = RepoConfig(
    project="shop", provider="local", registry="registry.db", offline_store={{"type": "{OURS}"}},
    online_store={{"type": "sqlite", "path": "online.db"}}, entity_key_serialization_version=3, repo_path=".",
)
asked = pd.DataFrame({{"user_id": ["a"], "event_timestamp": [pd.Timestamp("2024-01-11", tz="UTC")]}})
job = FeatureStore(config=config).get_historical_features(asked, ["users:embedding"])
reader = job.to_arrow_reader()
print(len(job.to_df()["embedding"][0]))
"""
    done = run("python", "-W", "ignore", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "384"), done.stderr
    assert "leaked" not in done.stderr


def test_a_process_that_used_feasts_own_store_closes_the_connection_of_ibis_and_prints_nothing(tmp_path: Path) -> None:
    write(tmp_path / "users.parquet", {"user_id": ["a"], "n": [1], "event_timestamp": days(0)})
    open_repo(tmp_path, USER, view(source(tmp_path / "users.parquet"), N), kind="duckdb")
    (tmp_path / "feature_store.yaml").write_text(
        "project: shop\nprovider: local\nregistry: registry.db\noffline_store: {type: duckdb}\n"
        "online_store: {type: sqlite, path: online.db}\nentity_key_serialization_version: 3\n"
    )
    script = """
import atexit

@atexit.register  # the first one runs last
def tell():
    try:
        print(kept.con.execute("SELECT 'still open'").fetchall())
    except duckdb.ConnectionException:
        print("closed")

import duckdb
import ibis
import pandas as pd
from coldstart_udfs.feast.operations.stores import open_store
asked = pd.DataFrame({"user_id": ["a"], "event_timestamp": [pd.Timestamp("2024-01-11", tz="UTC")]})
print(open_store(".").get_historical_features(asked, ["users:n"]).to_df()["n"].tolist())
kept = ibis.options.default_backend
"""
    done = run("python", "-W", "ignore", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, ["[1]", "closed"], "")
