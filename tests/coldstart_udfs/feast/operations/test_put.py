"""`coldstart put`: new words in both stores at once, on a small real repository with the template's definitions."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore

from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.feast.operations.put import put
from coldstart_udfs.feast.operations.stores import open_store
from coldstart_udfs.settings import Enrichment
from recommender.data.tables import load
from recommender.pipeline.profiles import build_profiles
from tests.support.small_shop import LAST, USERS, apply, history, online


def embedded(text: str) -> np.ndarray:
    return shared_encoder(None, backend=None).encode([text])[0]


def pushed(shop: Path) -> list[Path]:
    return sorted((shop / "feature_repo" / "data").rglob("pushed-*.parquet"))


def the_tables_now_say(shop: Path, user: str, description: str) -> None:
    users = shop / "data" / "users.parquet"
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE users AS FROM '{users}'")
        con.execute("UPDATE users SET description = $1 WHERE user_id = $2", [description, user])
        con.execute(f"COPY users TO '{users}'")


def test_a_new_user_is_found_online_and_in_history_at_once(store: FeatureStore) -> None:
    done = put(store, "user", "eve", "a red lamp", ["country=Peru"])
    assert done.retrievable.all()
    assert (done.evidence.tolist(), done.norm.round(5).tolist()) == ([0], [1.0])
    found = online(store, "eve")
    np.testing.assert_allclose(found["user_enriched_profile"][0], embedded("a red lamp"), atol=1e-6)
    assert (found["user_is_cold"], found["user_has_description"]) == ([True], [True])
    assert found["user_attributes"] == [["country=Peru"]]

    just_before = done.event_timestamp - timedelta(microseconds=1)
    past = history(store, ("eve", done.event_timestamp), ("eve", just_before))
    assert past.user_description.tolist() == ["a red lamp", None]
    assert past.user_text_fingerprint.tolist() == [done.fingerprint, None]
    assert list(past.user_attributes[0]) == ["country=Peru"]
    np.testing.assert_array_equal(past.user_enriched_profile[0], np.float32(found["user_enriched_profile"][0]))
    assert past.user_has_description.tolist() == [True, False]


def test_a_known_user_keeps_the_profile_and_the_new_words_count(store: FeatureStore) -> None:
    before = online(store, "ann")
    done = put(store, "user", "ann", "I am into gardening now")
    after = online(store, "ann")
    assert done.evidence.tolist() == [2] == after["user_evidence"]
    assert after["user_profile"] == before["user_profile"]
    expected = np.array(after["user_profile"][0]) + embedded("I am into gardening now")
    np.testing.assert_allclose(after["user_enriched_profile"][0], expected, atol=1e-6)
    np.testing.assert_allclose(done.norm[0], np.linalg.norm(expected), atol=1e-6)
    past = history(store, ("ann", LAST + timedelta(days=1)), ("ann", done.event_timestamp))
    assert past.user_description.tolist() == [USERS["ann"], "I am into gardening now"]


def test_attributes_that_are_not_given_stay_and_an_empty_list_clears_them(store: FeatureStore) -> None:
    put(store, "user", "ann", "new words")
    assert online(store, "ann")["user_attributes"] == [["country=France"]]
    put(store, "user", "ann", "newer words", [])
    assert not online(store, "ann")["user_attributes"][0]
    last = put(store, "user", "ann", "newest words")
    assert not len(history(store, ("ann", last.event_timestamp)).user_attributes[0])


def test_a_number_falls_into_the_band_that_the_tables_give_it(store: FeatureStore, tmp_path: Path) -> None:
    prices = {"a": 3.5, "b": 0.3, "c": 4, "d": 1000, "e": 0, "f": -2, "g": 1e-12}
    labels = [["price=2^1", f"price={price}", "size=10"] for price in prices.values()]
    put(store, "item", list(prices), [f"a vase, number {name}" for name in prices], labels)
    asked = [{"item_id": name} for name in (*prices, "lamp")]
    found = store.get_online_features(["item_descriptions:item_attributes"], asked).to_dict()["item_attributes"]
    rows = "".join(f"{name},x,{price}\n" for name, price in prices.items())
    (tmp_path / "items.csv").write_text(f"item_id,description,price\n{rows}")
    (tmp_path / "users.csv").write_text("user_id,description\nu,x\n")
    (tmp_path / "interactions.csv").write_text("user_id,item_id,event_timestamp\nu,a,2024-01-01\n")
    with duckdb.connect() as con:
        load(con, tmp_path)
        bands = [row[0][0] for row in con.sql("SELECT attributes FROM items ORDER BY item_id").fetchall()]
    assert found == [*(["price=2^1", band, "size=10"] for band in bands), ["price=2^1", "size=10"]]


def test_a_word_in_a_column_of_numbers_is_refused(never_written: Path) -> None:
    with pytest.raises(ColdStartError, match=r"'price=cheap' is no number, and the tables' column 'price' holds numb"):
        put(never_written / "feature_repo", "item", "jar", "a jar", ["price=cheap"])
    assert not pushed(never_written)


def test_an_item_is_put_likewise(store: FeatureStore) -> None:
    done = put(store, "item", ["vase", "pot"], ["a green glass vase", "terracotta pot"])
    assert done.evidence.tolist() == [0, 1]
    rows = [{"item_id": "vase"}, {"item_id": "pot"}]
    found = store.get_online_features(["item_enriched:item_enriched_profile"], rows).to_dict()["item_enriched_profile"]
    np.testing.assert_allclose(found[0], embedded("a green glass vase"), atol=1e-6)
    assert done.retrievable.all()


def test_two_puts_of_one_user_within_a_second_leave_the_last_words_everywhere(store: FeatureStore) -> None:
    first, second = (put(store, "user", "eve", text) for text in ("first words", "second words"))
    assert second.event_timestamp > first.event_timestamp
    assert online(store, "eve")["user_description"] == ["second words"]
    past = history(store, ("eve", second.event_timestamp), ("eve", first.event_timestamp))
    assert past.user_description.tolist() == ["second words", "first words"]


def test_feasts_own_offline_write_takes_the_columns_of_the_file_though_they_are_mapped(
    small: Path, store: FeatureStore
) -> None:
    fingerprint = online(store, "ann")["user_text_fingerprint"][0]
    now = datetime.now(UTC)
    frame = pd.DataFrame({
        "user_id": ["eve"], "user_description": ["a red lamp"], "user_attributes": [["country=Peru"]],
        "user_embedding": [embedded("a red lamp")], "embedding_fingerprint": [fingerprint],
        "event_timestamp": pd.Series([now]).dt.as_unit("us"),
    })  # fmt: skip
    (part,) = (small / "feature_repo" / "data" / "user_descriptions").iterdir()
    columns = pq.read_schema(part).names
    assert set(frame.columns) == set(columns)
    store.write_to_offline_store("user_descriptions", frame)
    (file,) = pushed(small)
    assert pq.read_schema(file).names == columns
    past = history(store, ("eve", now), ("eve", now - timedelta(seconds=1)))
    assert past.user_description.tolist() == ["a red lamp", None]
    assert past.user_text_fingerprint.tolist() == [fingerprint, None]
    assert list(past.user_attributes[0]) == ["country=Peru"]
    np.testing.assert_array_equal(past.user_embedding[0], embedded("a red lamp"))
    assert past.user_has_description.tolist() == [True, False]
    assert online(store, "eve")["user_description"] == [None]


def test_500_at_once_are_one_file_and_the_last_row_is_as_right_as_the_first(small: Path, store: FeatureStore) -> None:
    frame = pd.DataFrame({"n": range(500)}).astype(str)
    done = put(store, "user", "new " + frame.n, "lamp " + frame.n, [[f"size={n}"] for n in frame.n])
    assert done.retrievable.all()
    assert len(pushed(small)) == 1
    found = online(store, "new 0", "new 499")
    np.testing.assert_allclose(found["user_embedding"], [embedded("lamp 0"), embedded("lamp 499")], atol=1e-6)
    assert found["user_attributes"] == [["size=0"], ["size=499"]]
    past = history(store, ("new 499", done.event_timestamp))
    np.testing.assert_array_equal(past.user_embedding[0], np.float32(found["user_embedding"][1]))


def test_a_long_text_in_any_script_is_kept_whole_and_reported_as_cut(store: FeatureStore) -> None:
    text = "Grüße 🌻 \u0000 من هنا 你好 " + "enamel pots " * 2_000
    done = put(store, "user", "eve 🌻", text)
    assert done.truncated.tolist() == [True]
    assert done.retrievable.tolist() == [True]
    assert online(store, "eve 🌻")["user_description"] == [text]
    assert history(store, ("eve 🌻", done.event_timestamp)).user_description[0] == text


def test_half_a_surrogate_pair_is_put_as_the_encoder_reads_it(store: FeatureStore) -> None:
    assert put(store, "user", "eve", "a lamp \ud83c").retrievable.all()
    assert online(store, "eve")["user_description"] == ["a lamp \ufffd"]


REFUSED = [
    ("eve", "", r"'eve' is '', which has no words"),
    ("eve", " \n", r"has no words"),
    ("eve", None, r"description of user 'eve' is None"),
    ("", "a lamp", r"'' is no user_id"),
    ("  ", "a lamp", r"no user_id"),
    ("eve ", "a lamp", r"'eve ' is no user_id"),
    ("\ud83c", "a lamp", r"no user_id"),
    (17, "a lamp", r"17 is no user_id"),
    ([None], ["a lamp"], r"None is no user_id"),
    (["eve", "eve"], ["a", "b"], r"'eve' is given twice"),
    (["eve", "ann"], ["a"], r"2 ids and 1 descriptions"),
    ([], [], r"no user was given"),
]


@pytest.fixture(scope="module")
def never_written(unapplied_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shop = tmp_path_factory.mktemp("never") / "shop"
    shutil.copytree(unapplied_shop, shop)
    apply(shop / "feature_repo")
    return shop


@pytest.mark.parametrize(("ids", "texts", "message"), REFUSED)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    never_written: Path, ids: Any, texts: Any, message: str
) -> None:
    with pytest.raises(ColdStartError, match=message):
        put(never_written / "feature_repo", "user", ids, texts)
    assert not pushed(never_written)


def test_attributes_have_a_column(never_written: Path) -> None:
    for attributes in (["France"], ["=France"], [3]):
        with pytest.raises(ColdStartError, match="is not column=value"):
            put(never_written / "feature_repo", "user", "eve", "a lamp", attributes)
    with pytest.raises(ColdStartError, match="2 ids and 1 lists of attributes"):
        put(never_written / "feature_repo", "user", ["eve", "fay"], ["a lamp", "a pot"], [["a=b"]])


def test_another_encoder_than_the_views_is_refused_before_anything_is_written(small: Path) -> None:
    repo = small / "feature_repo"
    Enrichment(backend="static").write(repo / "enrichment.json")
    with pytest.raises(FingerprintError, match=r"view user_enriched.*enrichment.json of .*Nothing was written"):
        put(repo, "user", "eve", "a lamp")
    assert not pushed(small)
    assert online(open_store(repo), "eve")["user_description"] == [None]


def test_a_stored_profile_of_another_encoder_is_refused_before_anything_is_written(
    small: Path, store: FeatureStore
) -> None:
    theirs = {"user_id": ["bob"], "user_profile": [[1.0, 2.0]], "user_evidence": [3],
              "user_profile_fingerprint": "theirs", "event_timestamp": [datetime.now(UTC)]}  # fmt: skip
    store.write_to_online_store("user_profiles", pd.DataFrame(theirs))
    with pytest.raises(FingerprintError, match=r"stored profile of a given id holds .*'theirs'.*Nothing was written"):
        put(store, "user", ["eve", "bob"], ["a lamp", "a pot"])
    assert not pushed(small)
    assert put(store, "user", "eve", "a lamp").retrievable.all()


def test_a_stored_text_of_another_encoder_is_replaced(store: FeatureStore) -> None:
    theirs = {"user_id": ["bob"], "user_description": ["old"], "user_attributes": [["a=b"]], "user_embedding": [[1.0]],
              "user_text_fingerprint": "theirs", "event_timestamp": [datetime.now(UTC)]}  # fmt: skip
    store.write_to_online_store("user_descriptions", pd.DataFrame(theirs))
    assert put(store, "user", "bob", "a pot").retrievable.all()
    np.testing.assert_allclose(online(store, "bob")["user_embedding"][0], embedded("a pot"), atol=1e-6)


@pytest.mark.service
def test_on_redis_the_last_of_two_puts_within_a_second_counts(
    make_shop: Callable[..., Path], redis_server: str
) -> None:
    pytest.importorskip("redis", reason="the extra `redis` is not installed")
    shop = make_shop(f"online_store:\n  type: redis\n  connection_string: {redis_server}\n")
    store = open_store(shop / "feature_repo")
    assert put(store, "user", "ann", "first words").evidence.tolist() == [2]
    done = put(store, "user", ["ann", "eve"], ["second words", "a lamp"])
    assert done.retrievable.all()
    assert online(store, "ann", "eve")["user_description"] == ["second words", "a lamp"]


def test_a_repository_that_was_not_applied_says_so(unapplied_shop: Path) -> None:
    with pytest.raises(ColdStartError, match=r"no registry yet; run `feast -c .* apply`"):
        put(unapplied_shop / "feature_repo", "user", "eve", "a lamp")


def test_another_entity_than_the_repository_has_is_named(store: FeatureStore) -> None:
    with pytest.raises(ColdStartError, match=r"no view 'shop_descriptions', where a put goes; it has \['item_desc"):
        put(store, "shop", "eve", "a lamp")


def test_when_the_offline_store_fails_nothing_is_online_either(small: Path, store: FeatureStore) -> None:
    folder = small / "feature_repo" / "data" / "user_descriptions"
    shutil.rmtree(folder)
    folder.write_text("no folder")
    with pytest.raises(ColdStartError, match="offline store of user_descriptions failed, and nothing was written"):
        put(store, "user", "eve", "a lamp")
    assert online(store, "eve")["user_description"] == [None]


def test_when_the_online_store_fails_the_message_says_what_is_where_and_the_same_put_mends_it(
    small: Path, store: FeatureStore
) -> None:
    database = small / "feature_repo" / "data" / "online_store.db"
    with sqlite3.connect(database) as con:
        con.execute("CREATE TRIGGER full BEFORE INSERT ON coldstart_user_descriptions "
                    "BEGIN SELECT RAISE(ABORT, 'disk full'); END")  # fmt: skip
    con.close()
    with pytest.raises(ColdStartError, match=r"in the offline store, but the online store failed.*run the same put"):
        put(store, "user", "eve", "a lamp")
    assert len(pushed(small)) == 1
    with sqlite3.connect(database) as con:
        con.execute("DROP TRIGGER full")
    con.close()
    done = put(store, "user", "eve", "a lamp")
    assert done.retrievable.all()
    assert history(store, ("eve", done.event_timestamp)).user_description.tolist() == ["a lamp"]


def test_the_next_profiles_keep_what_was_put_unless_the_tables_have_something_new_to_say(
    small: Path, store: FeatureStore
) -> None:
    words = {"eve": "a red lamp", "ann": "now I collect tin signs", "dan": "closed the cafe"}
    put(store, "user", list(words), list(words.values()))
    the_tables_now_say(small, "dan", "a tea room now")
    expected = {"eve": words["eve"], "ann": words["ann"], "dan": "a tea room now", "cy": USERS["cy"]}
    for _ in range(2):
        counts = build_profiles(small / "data", small / "feature_repo")
        assert counts["user_descriptions since puts"] == 3
        assert len(pushed(small)) == 1
        now = datetime.now(UTC)
        found = history(store, *((name, now) for name in expected))
        assert dict(zip(expected, found["user_description"], strict=True)) == expected
        np.testing.assert_allclose(found["user_embedding"][1], embedded(words["ann"]), atol=1e-6)


def test_what_the_tables_newly_say_replaces_what_was_put_online_too(small: Path, store: FeatureStore) -> None:
    put(store, "user", "dan", "closed the cafe")
    the_tables_now_say(small, "dan", "a tea room now")
    build_profiles(small / "data", small / "feature_repo")
    # The row of the tables is older than the put: left so, a store that keeps the later of two rows would keep the put.
    sources = f"{small}/feature_repo/data/user_descriptions/*.parquet"
    with duckdb.connect() as con:
        query = f"SELECT user_description FROM '{sources}' WHERE user_id = 'dan' ORDER BY event_timestamp"
        assert con.sql(query).fetchall() == [("a tea room now",), ("a tea room now",)]
    store.materialize(LAST - timedelta(days=400), datetime.now(UTC))
    assert online(store, "dan")["user_description"] == ["a tea room now"]


def test_profiles_that_were_stopped_before_they_cleaned_up_do_not_bring_put_words_back(
    small: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "user", "dan", "closed the cafe")
    the_tables_now_say(small, "dan", "a tea room now")
    with monkeypatch.context() as stopped:
        stopped.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_profiles(small / "data", small / "feature_repo")
    build_profiles(small / "data", small / "feature_repo")
    assert history(store, ("dan", datetime.now(UTC))).user_description.tolist() == ["a tea room now"]


def test_a_folder_with_an_apostrophe_has_profiles(unapplied_shop: Path, tmp_path: Path) -> None:
    shop = tmp_path / "it's a shop"
    shutil.copytree(unapplied_shop, shop)
    assert build_profiles(shop / "data", shop / "feature_repo")["user_descriptions"] == len(USERS)
