"""`coldstart forget`: after it no file of the shop, nor the vector cache, holds anything of who was forgotten."""

from __future__ import annotations

import html
import json
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureService, FeatureStore
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.monitoring.monitoring_service import MonitoringService
from feast.saved_dataset import SavedDataset
from typer.testing import CliRunner

from coldstart_udfs import connect
from coldstart_udfs.encoder.cache.store import VectorCache, default_path, key_of
from coldstart_udfs.encoder.cache.upkeep import stats
from coldstart_udfs.encoder.encoder import Encoder, clear_shared_encoders, shared_encoder
from coldstart_udfs.encoder.manifests import MANIFEST, Manifest, models_folder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.operations import forget as forget_module
from coldstart_udfs.feast.operations import stores
from coldstart_udfs.feast.operations.forget import Forgotten, forget
from coldstart_udfs.feast.operations.put import put
from coldstart_udfs.feast.operations.stores import open_store
from recommender.cli.app import app
from recommender.pipeline.profiles import build_profiles
from tests.support.small_shop import LAST, USERS, apply, history, online, stuck

Traces = tuple[Path, list[str], list[np.ndarray]]
WHO, OTHER = "cy", "ann"
FIRST, SECOND = USERS[WHO], "Jugendstil für zuhause; mail me: cy.smith@example.org — ☎ 020 7946 0958"


def traces(texts: list[str], vectors: list[np.ndarray]) -> dict[str, bytes]:
    """What must not be found: the id where it stands alone, texts in several encodings, the numbers of vectors."""
    found = {}
    for text in texts:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "latin-1"):
            found[f"{text} as {encoding}"] = text.encode(encoding, "replace")
        found[f"{text} as JSON"] = json.dumps(text)[1:-1].encode()
    for vector in vectors:
        for kind in ("<f4", ">f4", "<f8"):
            # A third of a vector: long enough to be nobody else's, short enough to show where a page was cut.
            found[f"vector {vector[:2]} as {kind}"] = vector[: len(vector) // 3].astype(kind).tobytes()
    return found


def places_of(name: str, texts: list[str], vectors: list[np.ndarray], *folders: Path) -> list[str]:
    """Every file below the folders that holds a trace, in its bytes or in the values of its parquet or SQLite."""
    wanted = traces(texts, vectors)
    key = b"\x02\x00\x00\x00" + len(name.encode()).to_bytes(4, "little") + name.encode()  # of Feast's entity keys
    found = []
    for file in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        found += [f"{file.name}: {what}" for what, trace in {**wanted, "entity key": key}.items() if trace in content]
        if file.suffix == ".parquet":
            found += [f"{file.name}: {what}" for what in parquet_traces(file, name, texts, vectors)]
    return found


def parquet_traces(file: Path, name: str, texts: list[str], vectors: list[np.ndarray]) -> Iterator[str]:
    rows = pq.read_table(file).to_pylist()
    with duckdb.connect() as con:
        rows += con.sql(f"FROM '{file}'").to_arrow_table().to_pylist()
    for value in (value for row in rows for value in row.values()):
        if isinstance(value, str) and (value == name or any(text in value for text in texts)):
            yield f"value {value}"
        is_vector = isinstance(value, list) and bool(value) and isinstance(value[0], float)
        if is_vector and any(np.allclose(np.float32(value), vector, atol=1e-7) for vector in vectors):
            yield "vector"
    for group in range((metadata := pq.read_metadata(file)).num_row_groups):
        for column in range(metadata.num_columns):
            stats = metadata.row_group(group).column(column).statistics
            if stats is not None and stats.has_min_max and {str(stats.min), str(stats.max)} & {name, *texts}:
                yield "statistics"


def vectors_of(store: FeatureStore, name: str) -> list[np.ndarray]:
    found = online(store, name)
    return [np.float32(found[feature][0]) for feature in ("user_profile", "user_embedding") if found[feature][0]]


@pytest.fixture
def cache_folder() -> Path:
    return default_path().parent


@pytest.fixture
def e5(own_cache: Path) -> Iterator[None]:
    """A derived model on this machine that puts prefixes in front of texts: its manifest."""
    folder = models_folder() / "e5"
    folder.mkdir(parents=True)
    prompts = {"document": "passage: ", "query": "query: "}
    values = {**dict.fromkeys(Manifest.__dataclass_fields__, None), "fingerprint": "e5", "prompts": prompts}
    (folder / MANIFEST).write_text(json.dumps(values))
    yield
    shutil.rmtree(folder)


@pytest.fixture
def busy(make_shop: Callable[..., Path], e5: None) -> Callable[..., Traces]:
    """A shop where WHO has left traces wherever a shop keeps any; his texts and vectors with it."""

    def make(online_store: str | None = None) -> Traces:
        shop = make_shop(online_store)
        repo = shop / "feature_repo"
        store = open_store(repo)
        vectors = vectors_of(store, WHO)
        put(store, "user", [WHO, OTHER], [SECOND, "I moved to a flat"])
        vectors += vectors_of(store, WHO)
        put(store, "user", WHO, SECOND + " again", ["country=Malta"])
        vectors += vectors_of(store, WHO)
        texts = [FIRST, SECOND, SECOND + " again"]
        with connect(redact=True) as con:  # redacted variants and queries in the cache
            con.execute("SELECT embed($1)", [SECOND]).fetchall()
        foreign = [np.random.default_rng(n).normal(size=384).astype(np.float32) for n in range(3)]
        keys = [key_of("passage: " + FIRST), key_of(SECOND), key_of("query: " + SECOND)]
        VectorCache(default_path(), "e5", 384).put(dict(zip(keys, foreign, strict=True)))
        entities = pd.DataFrame({"user_id": [WHO, OTHER], "event_timestamp": datetime.now(UTC)})
        features = ["user_descriptions:user_description", "user_profiles:user_profile"]
        saved = shop / "saved" / "set.parquet"
        saved.parent.mkdir()
        store.get_historical_features(entities, features).to_df().to_parquet(saved)
        dataset = SavedDataset("set", features, ["user_id"], SavedDatasetFileStorage(path=str(saved)))
        store.registry.apply_saved_dataset(dataset, store.project)
        logs = LoggingConfig(destination=FileLoggingDestination(path="../logs"))
        views = [store.get_feature_view("item_profiles")]
        store.apply(FeatureService(name="logged", features=views, logging_config=logs))
        log = shop / "logs" / "day=1" / "log.parquet"
        log.parent.mkdir(parents=True)
        pq.write_table(pa.table({"user_id": [WHO, OTHER], "user_description": [SECOND, "x"]}), log)
        # As `feast monitor run` does: the most frequent values of a text column stand in its statistics.
        MonitoringService(store).compute_baseline(None, "user_descriptions", ["user_description"])
        return shop, texts, vectors + foreign

    return make


def others(store: FeatureStore) -> tuple[dict[str, list[Any]], pd.DataFrame]:
    names = [name for name in USERS if name != WHO]
    now = datetime.now(UTC)
    return online(store, *names), history(store, *((n, m) for n in names for m in (LAST + timedelta(days=1), now)))


def same(one: Any, two: Any) -> None:
    assert one[0] == two[0]
    pd.testing.assert_frame_equal(one[1].drop(columns="event_timestamp"), two[1].drop(columns="event_timestamp"))


def nothing_is_left(shop: Path, texts: list[str], vectors: list[np.ndarray], cache_folder: Path) -> None:
    assert places_of(WHO, texts, vectors, shop, cache_folder) == []
    assert len(places_of(OTHER, [USERS[OTHER], "I moved to a flat"], [], shop)) > 3


def unknown_everywhere(store: FeatureStore) -> None:
    found = online(store, WHO)
    assert found["user_description"] == found["user_profile"] == found["user_evidence"] == [None]
    assert (found["user_is_cold"], found["user_has_description"]) == ([True], [False])
    assert not any(found["user_enriched_profile"][0])
    past = history(store, (WHO, datetime.now(UTC)), (WHO, LAST + timedelta(days=1)))
    assert past[["user_description", "user_profile", "user_evidence"]].isna().all(axis=None)


def test_no_file_holds_anything_of_the_forgotten_and_others_are_unchanged(busy: Any, cache_folder: Path) -> None:
    shop, texts, vectors = busy()
    repo = shop / "feature_repo"
    before = others(open_store(repo))
    held = sum(stats(default_path()).vectors.values())
    assert len(vectors) == 6 + 3
    present = places_of(WHO, texts, vectors, shop, cache_folder)
    for file in ("users.parquet", "interactions.parquet", "part-0.parquet", "pushed-", "user_profiles.parquet",
                 "online_store.db", "embeddings.sqlite", "set.parquet", "log.parquet",
                 "feast_monitoring_feature_metrics.parquet"):  # fmt: skip
        assert any(file in place for place in present), file

    shown = forget(repo, "user", WHO, data=shop / "data", dry_run=True)
    assert places_of(WHO, texts, vectors, shop, cache_folder) == present
    done = forget(repo, "user", WHO, data=shop / "data")
    assert done.removed == shown.removed
    counts = {Path(row.place).name: row.count for row in done.removed}
    assert (counts["users.parquet"], counts["interactions.parquet"], counts["set.parquet"]) == (1, 2, 1)
    assert (counts["part-0.parquet"], counts["user_profiles.parquet"]) == (1, 1)
    assert counts["feast_monitoring_feature_metrics.parquet"] == 1
    assert counts["online_store.db"] == 7
    assert counts["embeddings.sqlite"] == held - sum(stats(default_path()).vectors.values()) > 3

    nothing_is_left(shop, texts, vectors, cache_folder)
    unknown_everywhere(open_store(repo))
    same(others(open_store(repo)), before)
    again = forget(repo, "user", WHO, data=shop / "data")
    assert (again.total, again.removed) == (0, [])
    # The contract holds, and what is made of it anew does not know him either.
    build_profiles(shop / "data", repo)
    assert places_of(WHO, texts, vectors, shop, cache_folder) == []


@pytest.mark.service
def test_the_same_on_redis(busy: Any, cache_folder: Path, redis_server: str) -> None:
    redis = pytest.importorskip("redis", reason="the extra `redis` is not installed")
    host, port = redis_server.split(":")
    with closing(redis.Redis(host=host, port=int(port))) as client:
        client.flushall()
        shop, texts, vectors = busy(f"online_store:\n  type: redis\n  connection_string: {redis_server}\n")
        repo = shop / "feature_repo"
        before = others(open_store(repo))
        assert redis_traces(client, WHO, texts, vectors)
        keys = client.dbsize()
        done = forget(repo, "user", WHO, data=shop / "data")
        assert {row.place: row.count for row in done.removed}["online store, redis"] == 7
        assert any("BGSAVE" in note for note in done.notes)
        assert redis_traces(client, WHO, texts, vectors) == []
        assert redis_traces(client, OTHER, ["I moved to a flat"], [])
        assert client.dbsize() == keys - 1
        nothing_is_left(shop, texts, vectors, cache_folder)
        unknown_everywhere(open_store(repo))
        same(others(open_store(repo)), before)
        assert forget(repo, "user", WHO, data=shop / "data").total == 0


def redis_traces(client: Any, name: str, texts: list[str], vectors: list[np.ndarray]) -> list[str]:
    content = b"".join(key + b"".join(client.hgetall(key).values()) for key in client.scan_iter())
    wanted = {**traces(texts, vectors), "id": len(name.encode()).to_bytes(4, "little") + name.encode()}
    return [what for what, trace in wanted.items() if trace in content]


def test_an_item_is_forgotten_likewise(small: Path) -> None:
    repo = small / "feature_repo"
    facts = pa.table({
        "subject": ["pot", "mug", "pot", "clay"], "predicate": ["made of", "made of", "colour", "kind of"],
        "object": ["clay", "clay", "red", "stone"],
    })  # fmt: skip
    pq.write_table(facts, small / "data" / "facts.parquet")
    done = forget(repo, "item", "pot", data=small / "data")
    counts = {Path(row.place).name: row.count for row in done.removed}
    assert (counts["items.parquet"], counts["interactions.parquet"], counts["item_profiles.parquet"]) == (1, 1, 2)
    assert counts["facts.parquet"] == 2
    assert pq.read_table(small / "data" / "facts.parquet")["subject"].to_pylist() == ["mug", "clay"]
    assert any("user profiles are sums over items" in note for note in done.notes)
    with duckdb.connect() as con:
        for file in (small / "data").glob("*.parquet"):
            assert "pot" not in str(con.sql(f"FROM '{file}'").fetchall())
    build_profiles(small / "data", repo)


def test_a_file_keeps_its_rows_order_metadata_and_compression(small: Path) -> None:
    file = small / "feature_repo" / "data" / "user_descriptions" / "part-0.parquet"
    before, table = pq.read_metadata(file), pq.read_table(file)
    forget(small / "feature_repo", "user", WHO, data=small / "data")
    after = pq.read_metadata(file)
    fingerprint = table["embedding_fingerprint"][0].as_py().encode()
    assert after.metadata == before.metadata == {b"embedding_fingerprint": fingerprint}
    columns = [[m.row_group(0).column(n) for n in range(m.num_columns)] for m in (before, after)]
    assert [(c.path_in_schema, c.compression, c.physical_type) for c in columns[0]] == [
        (c.path_in_schema, c.compression, c.physical_type) for c in columns[1]
    ]
    kept = table.filter(pa.compute.not_equal(table["user_id"], WHO))
    assert pq.read_table(file).to_pylist() == kept.to_pylist()
    assert pq.read_schema(file).equals(table.schema)


def test_a_pushed_file_that_would_be_empty_goes_and_a_table_stays(small: Path) -> None:
    repo = small / "feature_repo"
    put(repo, "user", WHO, SECOND)
    folder = repo / "data" / "user_descriptions"
    assert len(list(folder.glob("pushed-*"))) == 1
    for name in USERS:
        forget(repo, "user", name, data=small / "data")
    assert [file.name for file in folder.iterdir()] == ["part-0.parquet"]
    assert pq.read_metadata(folder / "part-0.parquet").num_rows == 0
    assert online(open_store(repo), *USERS)["user_description"] == [None] * 4
    assert history(open_store(repo), ("ann", datetime.now(UTC))).user_description.tolist() == [None]
    done = put(repo, "user", "ann", "back again")
    assert done.retrievable.all()


@pytest.mark.parametrize("stop_after", [0, 3, 6])
def test_an_interrupted_run_is_taken_up_again(
    busy: Any, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    shop, texts, vectors = busy()
    rewrite = forget_module.rewrite
    left = stop_after

    def stopping(*given: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        rewrite(*given)

    monkeypatch.setattr(forget_module, "rewrite", stopping)
    with pytest.raises(KeyboardInterrupt):
        forget(shop / "feature_repo", "user", WHO, data=shop / "data")
    monkeypatch.undo()
    if any(FIRST in place for place in places_of(WHO, [FIRST], [], shop)):
        Encoder().encode([FIRST])  # somebody reads the words meanwhile, which the sources still have
    with duckdb.connect() as con:  # at no moment does a table name a user that another lacks
        events, users = (shop / "data" / f"{table}.parquet" for table in ("interactions", "users"))
        assert con.sql(f"FROM '{events}' ANTI JOIN '{users}' USING (user_id)").fetchall() == []
    assert forget(shop / "feature_repo", "user", WHO, data=shop / "data").total > 0
    nothing_is_left(shop, texts, vectors, cache_folder)


def test_the_online_store_keeps_nothing_of_words_that_were_replaced_before(store: FeatureStore) -> None:
    # SQLite leaves what an update replaced in the free part of its pages.
    database = Path(store.repo_path) / "data" / "online_store.db"
    # Debian's SQLite clears it by itself, others do not.
    store.provider.online_store._get_conn(store.config).execute("PRAGMA secure_delete = OFF")
    put(store, "user", WHO, "the quick brown fox " * 400)
    put(store, "user", WHO, "short")
    assert b"quick brown fox" in database.read_bytes()
    forget(store, "user", WHO, data=None)
    assert b"quick brown fox" not in database.read_bytes()


def test_an_id_within_another_id_is_another_id(store: FeatureStore) -> None:
    for name in ("an", "anna", "nn", "ANN"):
        put(store, "user", name, f"words of {name}")
    forget(store, "user", "an", data=None)
    assert online(store, "an", "ann", "anna")["user_description"] == [None, USERS["ann"], "words of anna"]


def test_who_is_unknown_leaves_everything_as_it_is(small: Path) -> None:
    files = {file: file.read_bytes() for file in small.rglob("*.parquet")}
    done = forget(small / "feature_repo", "user", "nobody", data=small / "data")
    assert done.total == 0
    assert all(file.read_bytes() == content for file, content in files.items())


def test_what_cannot_be_removed_is_said(small: Path) -> None:
    (small / "data" / ".unfinished-killed").mkdir()
    notes = {name: " ".join(notes_of(small, name)) for name in ("cy", "ann")}
    for note in ("coldstart ingest", "item profiles are means", "feast serve", "backups", ".unfinished-killed"):
        assert note in notes["ann"]
    assert "the recommender in models/one holds the user's text: run `coldstart train` again" in notes["cy"]
    assert "coldstart train" not in notes["ann"]


def notes_of(shop: Path, name: str) -> list[str]:
    done: Forgotten = forget(
        shop / "feature_repo", "user", name, data=shop / "data", dry_run=True,
        recommenders=lambda entity, entity_id: [Path("models/one")] if (entity, entity_id) == ("user", "cy") else [],
    )  # fmt: skip
    return done.notes


def test_another_online_store_is_refused_before_anything_is_touched(small: Path) -> None:
    repo = small / "feature_repo"
    config = (repo / "feature_store.yaml").read_text()
    lines = "online_store:\n  type: remote\n  path: http://localhost\n"
    start, end = config.index("online_store:"), config.index("entity_key_serialization_version")
    (repo / "feature_store.yaml").write_text(config[:start] + lines + config[end:])
    files = {file: file.read_bytes() for file in small.rglob("*.parquet")}
    with pytest.raises(ColdStartError, match=r"erases from sqlite and redis alone, and nothing was removed"):
        forget(repo, "user", WHO, data=small / "data")
    assert all(file.read_bytes() == content for file, content in files.items())
    (repo / "feature_store.yaml").write_text(config[:start] + "online_store: null\n" + config[end:])
    assert forget(repo, "user", WHO, data=small / "data").total > 0


def test_tables_that_cannot_be_rewritten_are_refused_before_anything_is_touched(small: Path) -> None:
    (small / "data" / "users.csv").write_text("user_id,description\ncy,words\n")
    with pytest.raises(ColdStartError, match=r"holds users.csv, and only parquet can be rewritten here; nothing was"):
        forget(small / "feature_repo", "user", WHO, data=small / "data")
    (small / "data" / "users.csv").unlink()
    (small / "data" / "more.parquet").write_bytes(b"PAR1 rubbish")
    with pytest.raises(ColdStartError, match=r"more.parquet cannot be read as parquet"):
        forget(small / "feature_repo", "user", WHO, data=small / "data")
    assert online(open_store(small / "feature_repo"), WHO)["user_description"] == [FIRST]


def test_an_online_store_that_is_in_use_is_an_error_that_says_so(store: FeatureStore) -> None:
    database = Path(store.repo_path) / "data" / "online_store.db"
    with closing(sqlite3.connect(database, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(2, other.rollback)
        release.start()
        forget(store, "user", WHO, data=None)  # waits for it
        release.join()
    assert online(store, WHO)["user_description"] == [None]


def test_a_blank_id_is_no_id(small: Path) -> None:
    for name in ("", "  "):
        with pytest.raises(ColdStartError, match="is no user_id"):
            forget(small / "feature_repo", "user", name, data=small / "data")


def test_a_repository_alone_without_tables_is_enough(small: Path) -> None:
    shutil.rmtree(small / "data")
    assert forget(small / "feature_repo", "user", WHO, data=None).total > 0


def test_an_encoder_whose_folder_is_not_there_keeps_nobody_from_being_forgotten(small: Path) -> None:
    clear_shared_encoders()
    shared_encoder("./of-another-repository")
    try:
        assert forget(small / "feature_repo", "user", WHO, data=small / "data").total > 0
    finally:
        clear_shared_encoders()


def test_the_commands_say_what_they_did(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small)
    shown = command("put", "--user-id", WHO, "--description", "words that no test said before")
    assert re.search(r"user cy: profile known, 2 interactions; norm of the enriched profile \d\.\d+", shown)
    assert "online: retrievable now; history: from 20" in shown
    assert "user new: cold" in command("put", "--user-id", "new", "--description", "word " * 999, "--attribute", "a=b")
    assert "its end does not count" in command("put", "--item-id", "lamp", "--description", "word " * 999)
    assert "found" in command("forget", "--user-id", WHO, "--dry-run")
    rows = command("forget", "--user-id", WHO)
    for part in ("vector cache", "online store", " data/interactions.parquet ", "removed", "coldstart ingest"):
        assert part in rows
    assert " feature_repo/data/user_descriptions/part-0.parquet " in rows
    assert "nothing is left of user cy" in command("forget", "--user-id", WHO)
    for given in ([], ["--user-id", "a", "--item-id", "b"]):
        with pytest.raises(ColdStartError, match="give one of --user-id and --item-id"):
            command("forget", *given)


def command(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=True)
    if result.exception:
        raise result.exception
    return " ".join(result.output.split())


def test_a_data_folder_without_tables_is_refused_before_anything_goes(small: Path) -> None:
    repo = small / "feature_repo"
    with pytest.raises(ColdStartError, match=r"data holds none of items, users and interactions.*--no-tables"):
        forget(repo, "user", WHO, data=repo / "data")
    assert forget(repo, "user", WHO, data=small / "data", dry_run=True).total > 0
    assert forget(repo, "user", WHO, data=None, dry_run=True).total > 0


def test_statistics_of_fingerprints_are_nobodys_text(small: Path) -> None:
    repo = small / "feature_repo"
    folder = repo / "feast_monitoring"
    folder.mkdir(exist_ok=True)
    fingerprint = Encoder().fingerprint
    quoted = json.dumps({"values": [{"value": fingerprint, "count": 4}]})
    table = pa.table({"feature_name": ["user_text_fingerprint"], "histogram": [quoted]})
    pq.write_table(table, folder / "of_fingerprints.parquet")
    forget(repo, "user", WHO, data=small / "data")
    assert pq.read_table(folder / "of_fingerprints.parquet").num_rows == 1


def test_what_a_materialisation_had_read_before_does_not_come_back(
    small: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the sources when the erasure begins, and writes after the online store was erased."""
    has_read, erased, waited = threading.Event(), threading.Event(), threading.Event()
    write, erase, wait = SqliteOnlineStore.online_write_batch, stores._Sqlite.erase, forget_module.wait_for_materialize

    def write_late(*arguments: Any, **named: Any) -> None:
        has_read.set()
        assert erased.wait(60)
        write(*arguments, **named)

    def erase_and_tell(*arguments: Any) -> None:
        erase(*arguments)
        erased.set()

    def wait_and_tell(*arguments: Any) -> None:
        wait(*arguments)
        waited.set()

    monkeypatch.setattr(SqliteOnlineStore, "online_write_batch", write_late)
    monkeypatch.setattr(stores._Sqlite, "erase", erase_and_tell)
    monkeypatch.setattr(forget_module, "wait_for_materialize", wait_and_tell)
    span = (LAST - timedelta(days=400), LAST + timedelta(days=1))
    running = threading.Thread(target=store.materialize, args=span)
    running.start()
    assert has_read.wait(60)
    done = forget(small / "feature_repo", "user", WHO, data=small / "data")
    running.join()
    assert waited.is_set()
    assert not any("materialised" in note for note in done.notes)
    unknown_everywhere(open_store(small / "feature_repo"))
    assert forget(small / "feature_repo", "user", WHO, data=small / "data").total == 0


def test_a_materialisation_that_was_killed_is_not_waited_for_long_and_named(small: Path, store: FeatureStore) -> None:
    stuck(store, "user_profiles")
    done = forget(small / "feature_repo", "user", WHO, data=small / "data", patience=0)
    assert done.total
    assert any(note.startswith("user_profiles: being materialised, or a `feast mat") for note in done.notes)


def test_views_whose_first_materialisation_may_be_running_are_named(unapplied_shop: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(unapplied_shop, shop)
    apply(shop / "feature_repo")
    done = forget(shop / "feature_repo", "user", WHO, data=shop / "data")
    assert any(note.startswith("user_descriptions, user_profiles: never materialised.") for note in done.notes)


def test_reports_and_stopped_writes_are_named(small: Path) -> None:
    shop, repo = small, small / "feature_repo"
    (shop / "reports").mkdir()
    pages = {
        shop / "report.html": f"<h3>{html.escape(FIRST)}</h3>",
        shop / "data" / "ids.html": '<p class="id">cy · cold</p>',
        shop / "data" / "fans.html": '<span class="id">user cy, place 3 of 4</span>',
        repo / "data" / "log.jsonl": '{"user_id": "cy"}\n', repo / "exported.json": json.dumps({"words": FIRST}),
    }  # fmt: skip
    silent = {shop / "other.html": '<p class="id">cyd</p> party supplies', shop / "data" / "other.json": '["cyd"]'}
    for path, content in {**pages, **silent}.items():
        path.write_text(content)
    (shop / "out.json.unfinished").mkdir()
    dry = forget(repo, "user", WHO, data=shop / "data", dry_run=True)
    for done in (dry, forget(repo, "user", WHO, data=shop / "data")):
        (quoted,) = [note for note in done.notes if "quotes the user" in note]
        assert all(str(path) in quoted for path in pages)
        assert not any(str(path) in quoted for path in silent)
        assert any("out.json.unfinished, not searched" in note for note in done.notes)
        assert any("elsewhere were not" in note for note in done.notes)
