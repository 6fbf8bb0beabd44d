"""The recommender in SQL: what is registered, and that it says what the recommender says."""

from __future__ import annotations

import gc
import io
import json
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import coldstart_udfs
import recommender
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.sql.catalogue import KERNEL, SqlFunction
from coldstart_udfs.sql.shell import dot_commands as shell_commands
from recommender.cli import sql as shell
from recommender.data.entities import Entities, describe, with_history
from recommender.data.interactions import Interactions
from recommender.model.bundle import BundleError
from recommender.model.recommender import HybridRecommender, Parameters
from recommender.sql import bundles as sql_bundles
from recommender.sql.arrow_functions import PYTHON_FUNCTIONS
from recommender.sql.catalogue import FUNCTIONS, hint
from tests.support.commands import must
from tests.support.encoders import StubEncoder
from tests.support.made_up_shop import weighing

Connection = duckdb.DuckDBPyConnection

MACROS = """
    SELECT function_name, function_type, parameters, comment FROM duckdb_functions()
    WHERE database_name = '{}' AND function_type IN ('macro', 'table_macro')
"""
COLUMNS = {
    "recommend": {"rank": "BIGINT", "item_id": "VARCHAR", "score": "DOUBLE", "tier": "VARCHAR"},
    "audience": {"rank": "BIGINT", "user_id": "VARCHAR", "score": "DOUBLE", "tier": "VARCHAR"},
    "expected_demand": {
        "percentile": "DOUBLE", "buyers": "DOUBLE", "low": "BIGINT", "high": "BIGINT", "tier": "VARCHAR"
    },
    "explain": {"term": "VARCHAR", "kind": "VARCHAR", "value": "DOUBLE"},
}

# Users 100 … 139; 100 … 119 buy lamps, the others spades. Item 9 of each kind is new, and so are users 138 and 139, of
# whom one has said something.
USERS, ITEMS = [str(100 + n) for n in range(40)], [f"{word}{n}" for word in ("lamp", "spade") for n in range(10)]


def read(texts: list[str]) -> np.ndarray:
    given = np.array([bool(text) for text in texts])
    return np.array([StubEncoder.vector(text) for text in texts], np.float32) * given[:, None]


def entities(ids: list[str], texts: list[str]) -> Entities:
    vectors = read(texts)
    return Entities(ids, texts, [[] for _ in ids], vectors, np.zeros_like(vectors), np.zeros(len(ids)), "stub")


def fit(**parameters: Any) -> HybridRecommender:
    users = entities(USERS, ["", "a lamp"] * 19 + ["", "garden spade"])
    items = entities(ITEMS, [f"{name[:-1]} model {name[-1]}" for name in ITEMS])
    pairs = [(u, 10 * (u // 20) + i) for u in range(38) for i in range(9) if (u + i) % 3]
    rows, columns = np.array(pairs).T
    times = np.datetime64("2024-01-01", "us") + np.arange(len(pairs)).astype("timedelta64[h]")
    interactions = Interactions(USERS, ITEMS, rows, columns, times, np.ones(len(pairs), np.float32))
    model = HybridRecommender(Parameters(components=8, epochs=5, **parameters))
    return model.fit(interactions, *with_history(interactions, users, items))


@pytest.fixture(scope="module")
def model() -> HybridRecommender:
    return fit()


@pytest.fixture(scope="module")
def bundle(model: HybridRecommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "it's a bundle"
    model.save(path)
    return path


@pytest.fixture
def shop(con: Connection, bundle: Path) -> Connection:
    recommender.register(con, bundle=bundle)
    return con


def rows(frame: pd.DataFrame, found: str) -> list[tuple[Any, ...]]:
    return list(frame[["rank", found, "score", "tier"]].itertuples(index=False, name=None))


def near(expected: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(pytest.approx(x, abs=1e-5) if isinstance(x, float) else x for x in row) for row in expected]


# -- the catalogue ----------------------------------------------------------------------------------


def as_listed(function: SqlFunction) -> tuple[str, str, list[str], str]:
    names = [parameter.split(" := ")[0] for parameter in function.parameters]
    return function.name, "table_macro" if function.is_table else "macro", names, function.description


def test_what_is_registered_is_both_catalogues(shop: Connection) -> None:
    listed = shop.sql(MACROS.format("temp")).fetchall()
    assert sorted(listed) == sorted(map(as_listed, KERNEL.functions + FUNCTIONS))


def test_the_python_halves_are_registered_as_declared(shop: Connection) -> None:
    declared = {
        one.name: ([str(shop.type(kind)) for kind in one.parameters], str(shop.type(one.returns)))
        for one in (*KERNEL.python_functions(), *PYTHON_FUNCTIONS)
    }
    listed = shop.sql("""
        SELECT function_name, parameter_types, return_type FROM duckdb_functions()
        WHERE function_name LIKE '\\_coldstart%' ESCAPE '\\'
    """).fetchall()
    assert {name: (list(types), returns) for name, types, returns in listed} == declared


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_every_example_runs_and_gives_what_is_declared(shop: Connection, function: SqlFunction) -> None:
    relation = shop.sql(function.example)
    found = dict(zip(relation.columns, map(str, relation.types), strict=True))
    if function.is_table:
        assert found == COLUMNS[function.name]
    else:
        assert list(found.values()) == [function.returns]
    assert relation.fetchall()


def test_no_name_is_a_reserved_word_of_sql_or_one_of_the_other_catalogue(con: Connection) -> None:
    listed = con.sql("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'").fetchall()
    used = {name for function in FUNCTIONS for name in (function.name, *as_listed(function)[2])}
    assert used.isdisjoint(name for (name,) in listed)
    assert {function.name for function in FUNCTIONS}.isdisjoint(function.name for function in KERNEL.functions)


def test_stubs_say_what_to_do_until_register_shadows_them(stub: StubEncoder, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    views = {
        "recommend": "FROM recommend(user_id := '100')", "audience": "FROM audience(item_id := 'lamp9')",
        "score": "SELECT score('100', 'lamp9')", "explain": "FROM explain('100', 'lamp9')",
    }  # fmt: skip
    with duckdb.connect(str(path)) as con:
        recommender.install_stubs(con)
        recommender.install_stubs(con)
        for name, query in views.items():
            con.execute(f"CREATE VIEW {name}_view AS {query}")
        assert sorted(con.sql(MACROS.format("shop")).fetchall()) == sorted(map(as_listed, FUNCTIONS))
    with duckdb.connect(str(path)) as con:
        for name in views:
            expected = rf"\b{name}\(\) is not registered: run recommender.register\(con, bundle=…\)"
            with pytest.raises(duckdb.Error, match=expected):
                con.sql(f"FROM {name}_view").fetchall()
        recommender.register(con, bundle=bundle)
        assert all(con.sql(f"FROM {name}_view").fetchall() for name in ("recommend", "audience", "score"))


def test_stubs_never_take_the_place_of_somebodys_own_macros() -> None:
    with duckdb.connect() as con:
        con.execute("CREATE MACRO score(x) AS x + 1")
        with pytest.raises(ColdStartError, match="macros of its own called score"):
            recommender.install_stubs(con)
        assert con.sql("SELECT score(1)").fetchall() == [(2,)]


# -- recommend and audience -------------------------------------------------------------------------


def test_recommend_gives_what_the_recommender_gives(shop: Connection, model: HybridRecommender) -> None:
    expected = rows(model.recommend("100", 4), "item_id")
    assert len(expected) == 4
    # An id of any type: here an INTEGER.
    for query in ("FROM recommend('100', k := 4)", "FROM recommend(user_id := 100, k := 4)"):
        assert shop.sql(query).fetchall() == near(expected)
    assert len(shop.sql("FROM recommend(user_id := 100)").fetchall()) == 10


def test_audience_gives_what_the_recommender_gives(shop: Connection, model: HybridRecommender) -> None:
    expected = rows(model.audience("lamp9", 4), "user_id")
    assert shop.sql("FROM audience('lamp9', k := 4)").fetchall() == near(expected)
    assert {tier for *_, tier in expected} == {"cold"}


def test_beside_a_table_every_row_gets_its_own_ranking_and_the_order_is_in_rank(
    shop: Connection, model: HybridRecommender
) -> None:
    """A lateral join loses a list's order on DuckDB 1.4."""
    shop.execute("CREATE TABLE users AS SELECT 100 + i AS user_id FROM range(40) r(i)")
    found = shop.sql("SELECT u.user_id, r.* FROM users u, recommend(user_id := u.user_id, k := 3) r "
                     "ORDER BY u.user_id, rank").fetchall()  # fmt: skip
    single = [(int(user), *row) for user in USERS for row in rows(model.recommend(user, 3), "item_id")]
    assert found == near(single)
    shop.execute(f"CREATE TABLE items AS SELECT unnest({ITEMS}) AS item_id")
    found = shop.sql("SELECT i.item_id, a.user_id, rank FROM items i, audience(item_id := i.item_id, k := 2) a "
                     "ORDER BY ALL").fetchall()  # fmt: skip
    assert sorted(found) == sorted(
        (item, user, rank) for item in ITEMS for rank, user, *_ in rows(model.audience(item, 2), "user_id")
    )


def test_one_row_with_an_unknown_id_or_none_costs_no_other_row(shop: Connection, model: HybridRecommender) -> None:
    shop.execute("CREATE TABLE t AS SELECT * FROM (VALUES (1, '100'), (2, 'who'), (3, NULL), (4, '100'), (5, '139')) "
                 "v(n, user_id)")  # fmt: skip
    found = shop.sql("SELECT n, r.* FROM t, recommend(user_id := t.user_id, k := 2) r ORDER BY n, rank").fetchall()
    known = rows(model.recommend("100", 2), "item_id")
    nobody = rows(model.recommend("who", 2, unknown="popularity"), "item_id")
    assert {tier for *_, tier in nobody} == {"unknown"}
    said = rows(model.recommend("139", 2), "item_id")
    assert found == near(
        [(n, *row) for n, ranking in enumerate([known, nobody, nobody, known, said], 1) for row in ranking]
    )


def test_k_may_differ_from_row_to_row(shop: Connection) -> None:
    counted = shop.sql("""
        SELECT n, count(r.rank) FROM (VALUES (0), (1), (3), (NULL), (1000)) v(n)
        LEFT JOIN recommend(user_id := 139, k := n) r ON true GROUP BY n ORDER BY n NULLS LAST
    """).fetchall()
    assert counted == [(0, 0), (1, 1), (3, 3), (1000, 20), (None, 0)]
    with pytest.raises(duckdb.Error, match="k is -1; it is the largest number of rows and must be at least 0"):
        shop.sql("FROM recommend(k := -1)").fetchall()


def test_a_user_who_has_everything_gets_no_rows(con: Connection, tmp_path: Path) -> None:
    users, items = entities(["a", "b"], ["", ""]), entities(["x", "y", "z"], ["lamp", "lamp two", "spade"])
    pairs = np.array([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]).T
    times = np.full(5, np.datetime64("2024-01-01", "us"))
    interactions = Interactions(users.ids, items.ids, pairs[0], pairs[1], times, np.ones(5, np.float32))
    HybridRecommender(Parameters(components=2, epochs=1)).fit(
        interactions, *with_history(interactions, users, items)
    ).save(tmp_path)
    recommender.register(con, bundle=tmp_path)
    query = "SELECT u, item_id FROM (VALUES ('a'), ('b')) v(u), recommend(user_id := u)"
    assert con.sql(query).fetchall() == [("b", "z")]
    assert con.sql("FROM recommend('a')").fetchall() == []


# -- descriptions -----------------------------------------------------------------------------------


def test_a_stranger_is_understood_by_his_words(shop: Connection, model: HybridRecommender, stub: StubEncoder) -> None:
    said = describe(stub, ["somebody"], ["a lamp model"])  # type: ignore[arg-type]
    expected = rows(model.recommend(said, 5), "item_id")
    assert {tier for *_, tier in expected} == {"cold"}
    assert shop.sql("FROM recommend(description := 'a lamp model', k := 5)").fetchall() == near(expected)
    assert shop.sql("FROM recommend('who', 'a lamp model', 5)").fetchall() == near(expected)
    product = describe(stub, ["something"], ["a lamp model"])  # type: ignore[arg-type]
    expected = rows(model.audience(product, 5), "user_id")
    assert shop.sql("FROM audience(description := 'a lamp model', k := 5)").fetchall() == near(expected)


def test_a_description_takes_the_place_of_the_stored_one_and_of_nothing_else(
    shop: Connection, model: HybridRecommender
) -> None:
    known = model.users.take(np.array([3]))
    told = replace(known, descriptions=["garden spade"], embeddings=read(["garden spade"]))
    expected = rows(model.recommend(told, 20), "item_id")
    assert expected != rows(model.recommend(USERS[3], 20), "item_id")
    found = shop.sql(f"FROM recommend({USERS[3]}, 'garden spade', 20)").fetchall()
    assert found == near(expected)
    assert {tier for *_, tier in found} == {"warm"}


def test_one_user_may_come_with_several_descriptions(shop: Connection) -> None:
    texts = ["a lamp", "garden spade", "  ", None, "lamp model 3", "a lamp"]
    shop.execute("CREATE TABLE t AS SELECT unnest($1) AS said, unnest(range(6)) AS n", [texts])
    for user in ("103", "who", None):
        query = "SELECT n, r.* FROM t, recommend($1, t.said, 4) r ORDER BY n, rank"
        together = shop.execute(query, [user]).fetchall()
        single = [
            (n, *row) for n, said in enumerate(texts)
            for row in shop.execute("FROM recommend($1, $2, 4)", [user, said]).fetchall()
        ]  # fmt: skip
        assert together == near(single)
        assert len({row[1:] for row in together}) > 4


def test_the_encoder_is_not_asked_where_there_is_no_description(shop: Connection, stub: StubEncoder) -> None:
    assert len(shop.sql("FROM recommend(100, k := 2)").fetchall()) == 2
    assert len(shop.sql("FROM (VALUES (100, ' ')) v(u, d), audience('lamp9', d, 2)").fetchall()) == 2
    assert len(shop.sql("FROM recommend(k := 2)").fetchall()) == 2
    assert stub.seen == []
    shop.sql("FROM recommend(description := 'a lamp')").fetchall()
    assert stub.seen == ["a lamp"]


def test_descriptions_of_another_encoder_are_refused_by_both_names(shop: Connection, stub: StubEncoder) -> None:
    stub.fingerprint = "another"
    with pytest.raises(duckdb.Error, match=r"encoder 'another', but the bundle .*it's a bundle uses encoder 'stub'"):
        shop.sql("FROM recommend(description := 'a lamp')").fetchall()
    with pytest.raises(duckdb.Error, match="'another'"):
        shop.sql("FROM audience(description := 'a lamp')").fetchall()
    assert shop.sql("FROM recommend(100)").fetchall()


@pytest.mark.parametrize("before", [True, False], ids=["registered before", "registered after"])
def test_descriptions_are_read_as_the_connection_reads_every_text(
    stub: StubEncoder, bundle: Path, before: bool
) -> None:
    with duckdb.connect() as con:
        if not before:
            recommender.register(con, bundle=bundle)
        coldstart_udfs.register(con, model=stub, redact=True)  # type: ignore[arg-type]
        if before:
            recommender.register(con, bundle=bundle)
        assert con.sql("FROM recommend(description := 'lamps to jo@example.com', k := 1)").fetchall()
    assert stub.seen == ["lamps to <EMAIL>"]
    assert stub.prompts == {"document"}


# -- score ------------------------------------------------------------------------------------------


PAIRS = """
    CREATE TABLE pairs AS
    SELECT user_id, item_id FROM (SELECT unnest($1) AS user_id), (SELECT unnest($2) AS item_id), range({}) r(i)
    ORDER BY hash(user_id || item_id || i)
"""


@pytest.mark.parametrize("kept", [32_000_000, 40 * 21, 0], ids=["all rows kept", "some", "none: a large catalogue"])
def test_a_score_is_the_recommenders_whatever_stands_beside_it(
    con: Connection, bundle: Path, model: HybridRecommender, monkeypatch: pytest.MonkeyPatch, kept: int, tmp_path: Path
) -> None:
    monkeypatch.setattr(sql_bundles, "_KEPT", kept)
    monkeypatch.setattr(sql_bundles, "_CHUNK", 30)
    monkeypatch.setattr(sql_bundles, "_USERS", 7)
    monkeypatch.setattr(sql_bundles, "BLOCK", 100)
    recommender.register(con, bundle=shutil.copytree(bundle, tmp_path / "own"))
    con.execute(PAIRS.format(40), [[*USERS, "who"], [*ITEMS, "what"]])
    found = con.sql("""
        SELECT user_id, item_id, min(s), max(s)
        FROM (SELECT user_id, item_id, score(user_id, item_id) AS s FROM pairs) GROUP BY ALL
    """).fetchall()
    expected = model.score([*USERS, "who"], [*ITEMS, "what"], unknown="popularity")
    assert len(found) == 41 * 21
    for user, item, *scores in found:
        place = ([*USERS, "who"].index(user), [*ITEMS, "what"].index(item))
        # The order of float32 sums differs with the size of a block.
        assert scores == pytest.approx([float(expected[place])] * 2, abs=1e-5)


def test_scores_of_many_pairs_cost_one_row_of_scores_for_each_user(
    con: Connection, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    computed = []
    score = HybridRecommender.score

    def counted(self: HybridRecommender, *arguments: Any, **settings: Any) -> Any:
        result = score(self, *arguments, **settings)
        computed.append(result.size)
        return result

    monkeypatch.setattr(HybridRecommender, "score", counted)
    recommender.register(con, bundle=shutil.copytree(bundle, tmp_path / "own"))
    con.execute(PAIRS.format(30), [USERS, ITEMS])
    assert con.sql("SELECT count(score(user_id, item_id)) FROM pairs").fetchall() == [(24_000,)]
    assert sum(computed) == len(USERS) * (len(ITEMS) + 1)


def test_in_a_large_catalogue_only_what_is_asked_is_scored(
    con: Connection, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    computed = []
    score = HybridRecommender.score

    def counted(self: HybridRecommender, *arguments: Any, **settings: Any) -> Any:
        result = score(self, *arguments, **settings)
        computed.append(result.shape)
        return result

    monkeypatch.setattr(HybridRecommender, "score", counted)
    monkeypatch.setattr(sql_bundles, "_KEPT", 0)
    monkeypatch.setattr(sql_bundles, "_USERS", 10)
    recommender.register(con, bundle=shutil.copytree(bundle, tmp_path / "own"))
    con.execute("CREATE TABLE pairs AS SELECT 100 + i AS user_id, 'lamp' || (i // 10) AS item_id FROM range(40) r(i)")
    assert con.sql("SELECT count(score(user_id, item_id)) FROM pairs").fetchall() == [(40,)]
    assert computed == [(10, 1)] * 4


def test_what_is_null_and_what_is_unknown(shop: Connection) -> None:
    found = shop.sql("SELECT score(100, NULL), score(NULL, NULL), score('who', 'what'), score('who', 'lamp1'), "
                     "score(100, 'what')").fetchall()[0]  # fmt: skip
    assert found[:2] == (None, None)
    assert all(isinstance(score, float) for score in found[2:])
    shop.execute("CREATE TABLE t AS SELECT unnest(['100', NULL, '101']) AS u, unnest([NULL, 'lamp1', 'lamp2']) AS i")
    assert shop.sql("SELECT score(u, i) FROM t WHERE u IS NOT NULL AND i IS NULL").fetchall() == [(None,)]


def test_a_null_user_gives_the_expected_demand_as_a_percentile(shop: Connection, model: HybridRecommender) -> None:
    demand = model.score(None, model.items)[0]
    assert demand.min() >= 0
    assert demand.max() <= 100
    shop.execute("CREATE TABLE items AS SELECT unnest($1) AS item_id", [ITEMS])
    found = dict(shop.sql("SELECT item_id, score(NULL, item_id) FROM items").fetchall())
    assert found == {item: pytest.approx(float(value)) for item, value in zip(ITEMS, demand, strict=True)}
    mixed = shop.sql("SELECT score(u, 'lamp1') FROM (VALUES (NULL), ('100'), ('who')) v(u)").fetchall()
    scores = model.score(["100", "who"], "lamp1", unknown="popularity")[:, 0]
    assert mixed == [(pytest.approx(float(value), abs=1e-5),) for value in (found["lamp1"], *scores)]


# -- explain ----------------------------------------------------------------------------------------


def test_expected_demand_is_the_recommenders_and_each_row_gets_its_own(
    shop: Connection, model: HybridRecommender
) -> None:
    rows = shop.sql(
        "SELECT id, d.* FROM (VALUES ('lamp9'), (NULL), ('lamp0'), ('nowhere')) AS t(id), expected_demand(id) AS d"
    ).fetchall()
    expected = model.expected_demand(["lamp9", "lamp0"])
    found = {row[0]: row[1:] for row in rows}
    for row in expected.itertuples(index=False):
        assert found[row.item_id][:4] == pytest.approx((row.percentile, row.buyers, row.low, row.high))
        assert found[row.item_id][4] == row.tier
    assert found["nowhere"] == found[None]
    assert found[None][4] == "unknown"
    narrow, wide = (shop.sql(f"FROM expected_demand('lamp9', level := {level})").fetchall()[0] for level in (0.5, 0.9))
    assert wide[2] <= narrow[2] <= narrow[3] <= wide[3]
    assert shop.sql("FROM expected_demand('lamp9', level := NULL)").fetchall() == []
    for item, level in (("lamp9", "2"), ("lamp1", "2"), ("lamp9", "nan")):  # lamp1 has buyers
        with pytest.raises(duckdb.Error, match=f"level is {level}"):
            shop.sql(f"FROM expected_demand('{item}', level := '{level}')").fetchall()


def test_the_terms_of_explain_add_up_to_the_score(shop: Connection, model: HybridRecommender) -> None:
    for user, item in (("100", "lamp9"), ("139", "spade3"), ("who", "lamp1"), ("100", "what")):
        found = shop.execute("FROM explain($1, $2)", [user, item]).fetchall()
        assert found
        ((score,),) = shop.execute("SELECT score($1, $2)", [user, item]).fetchall()
        assert sum(value for *_, value in found) == pytest.approx(score, abs=1e-5)
    expected = model.explain("100", "lamp9")[["term", "kind", "value"]].itertuples(index=False, name=None)
    assert shop.sql("FROM explain(100, 'lamp9')").fetchall() == near(list(expected))


def test_explain_beside_a_table(shop: Connection) -> None:
    shop.execute("CREATE TABLE t (u INTEGER, i VARCHAR)")
    shop.execute("INSERT INTO t VALUES (100, 'lamp9'), (NULL, 'lamp1'), (101, NULL), (102, 'spade1')")
    sums = shop.sql("SELECT u, i, sum(value) FROM t, explain(t.u, t.i) GROUP BY ALL ORDER BY ALL").fetchall()
    scores = shop.sql("SELECT u, i, score(u, i) FROM t WHERE u IS NOT NULL AND i IS NOT NULL ORDER BY ALL").fetchall()
    assert [row[:2] for row in sums] == [(100, "lamp9"), (102, "spade1")]
    assert sums == near(scores)


# -- connections and bundles ------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_a_bundle_that_cannot_be_used_is_refused_at_once(
    con: Connection, bundle: Path, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "bundle"
    if damage != "missing":
        shutil.copytree(bundle, path)
        (file,) = path.glob("arrays-*" if damage == "cut" else "manifest.json")
        file.write_bytes(file.read_bytes()[:-100] if damage == "cut" else b'{"format": 99}')
    # The whole one is in memory, with an equal manifest; that must not hide anything.
    recommender.register(con, bundle=bundle)
    with pytest.raises(BundleError):
        recommender.register(con, bundle=path)
    with duckdb.connect() as other:
        with pytest.raises(BundleError):
            recommender.register(other, bundle=path)
        assert other.sql(MACROS.format("temp")).fetchall() == []


def test_a_bundle_is_loaded_once_for_all_that_use_it(
    stub: StubEncoder, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded = []
    load = HybridRecommender.load
    monkeypatch.setattr(HybridRecommender, "load", lambda path: loaded.append(path) or load(path))
    path = shutil.copytree(bundle, tmp_path / "own")

    def work(con: Connection) -> list[Any]:
        recommender.register(con, bundle=path)
        return con.sql("SELECT score(100, 'lamp1'), (SELECT item_id FROM recommend(100, k := 1))").fetchall()

    with duckdb.connect() as con:
        cursors = [con.cursor() for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(work, cursors))
        assert answers == [answers[0]] * 4
    assert len(loaded) == 1


def test_two_connections_may_have_two_bundles(stub: StubEncoder, bundle: Path, tmp_path: Path) -> None:
    fit(weights=weighing(text=(3.0, 3.0))).save(tmp_path)
    with duckdb.connect() as con, con.cursor() as cursor:
        recommender.register(con, bundle=bundle)
        recommender.register(cursor, bundle=tmp_path)
        query = "SELECT score(100, 'lamp1')"
        one, other = con.sql(query).fetchall(), cursor.sql(query).fetchall()
        assert one != other
        assert (con.sql(query).fetchall(), cursor.sql(query).fetchall()) == (one, other)
        recommender.register(con, bundle=tmp_path)
        assert con.sql(query).fetchall() == other


def test_a_bundle_that_is_replaced_counts_from_the_next_register(
    stub: StubEncoder, bundle: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(bundle, tmp_path / "own")
    query = "SELECT score(100, 'lamp1')"
    with duckdb.connect() as con:
        recommender.register(con, bundle=path)
        before = con.sql(query).fetchall()
        fit(weights=weighing(text=(3.0, 3.0))).save(path)
        assert con.sql(query).fetchall() == before
        recommender.register(con, bundle=path)
        assert con.sql(query).fetchall() != before


def test_a_bundle_is_released_with_its_last_connection(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = models_loaded(monkeypatch)
    first, second = duckdb.connect(), duckdb.connect()
    for con in (first, second):
        recommender.register(con, bundle=bundle)
        con.sql("SELECT score(100, 'lamp1')").fetchall()
    (model,) = loaded
    first.close()
    del first, con
    gc.collect()
    assert second.sql("SELECT score(100, 'lamp1')").fetchall()
    second.close()
    del second
    gc.collect()
    assert model() is None


def test_a_bundle_is_released_when_its_connection_registers_another(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded = models_loaded(monkeypatch)
    with duckdb.connect() as con:
        recommender.register(con, bundle=bundle)
        recommender.register(con, bundle=shutil.copytree(bundle, tmp_path / "own"))
        gc.collect()
        first, second = loaded
        assert first() is None
        assert second() is not None


def models_loaded(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[HybridRecommender]]:
    """The models that are loaded from now on."""
    loaded: list[weakref.ref[HybridRecommender]] = []
    load = HybridRecommender.load

    def watched(path: Path) -> HybridRecommender:
        model = load(path)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(HybridRecommender, "load", watched)
    return loaded


def test_a_relation_that_outlives_the_object_of_its_connection(stub: StubEncoder, bundle: Path) -> None:
    def ask() -> duckdb.DuckDBPyRelation:
        con = duckdb.connect()
        recommender.register(con, bundle=bundle)
        return con.sql("SELECT item_id FROM recommend(100, k := 2)")

    relation = ask()
    if duckdb.__version__ < "1.5":
        with pytest.raises(duckdb.Error, match="already been closed"):
            relation.fetchall()
    else:
        assert len(relation.fetchall()) == 2


def test_a_read_only_database_works(stub: StubEncoder, bundle: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "shop.duckdb")
    with duckdb.connect(path) as con:
        con.execute("CREATE TABLE users AS SELECT 100 AS user_id")
    with duckdb.connect(path, read_only=True) as con:
        recommender.register(con, bundle=bundle)
        assert len(con.sql("SELECT r.* FROM users u, recommend(u.user_id, k := 2) r").fetchall()) == 2


def test_rows_of_several_threads_keep_their_scores(shop: Connection) -> None:
    shop.execute("SET threads = 4")
    shop.execute("CREATE TABLE t AS SELECT 100 + i % 41 AS u, 'lamp' || (i % 11) AS i FROM range(300000) r(i)")
    wrong = shop.sql("""
        SELECT count(*) FROM (SELECT u, i, score(u, i) AS s FROM t)
        JOIN (SELECT u, i, score(u, i) AS s1 FROM (SELECT DISTINCT u, i FROM t)) USING (u, i) WHERE s <> s1
    """)
    assert wrong.fetchall() == [(0,)]


def test_python_functions_themselves_take_no_rows() -> None:
    kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}
    for function in PYTHON_FUNCTIONS:
        for chunks in ([], [pa.array([], pa.string())]):
            columns = [pa.chunked_array(chunks and [pa.array([], kinds[kind])], kinds[kind])
                       for kind in function.parameters]  # fmt: skip
            assert len(function.call(*columns)) == 0


def test_leaving_the_process_says_nothing_on_stderr(bundle: Path) -> None:
    code = f"""
import duckdb, recommender
con = duckdb.connect()
recommender.register(con, bundle={str(bundle)!r})
cursor = con.cursor()
recommender.register(cursor, bundle={str(bundle)!r})
print(cursor.sql("SELECT count(*) FROM recommend(100, k := 2)").fetchall())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[(2,)]", "")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import recommender.sql.catalogue as _, sys; print({'duckdb', 'numpy', 'pandas'} & {*sys.modules} or [])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the shell --------------------------------------------------------------------------------------


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[typer.Typer]:
    out = Console(width=200, highlight=False)
    monkeypatch.setattr(shell, "console", out)
    monkeypatch.setattr(shell_commands, "console", out)
    one = typer.Typer()
    one.command()(shell.sql)
    return one


def test_the_shell_has_the_functions_of_a_bundle(stub: StubEncoder, app: typer.Typer, bundle: Path) -> None:
    listed = CliRunner().invoke(app, ["--functions", "--bundle", str(bundle)]).output
    assert [one.name for one in KERNEL.functions + FUNCTIONS if f"│ {one.name}(" not in listed] == []
    listed = CliRunner().invoke(app, ["--functions"]).output
    assert [one.name for one in FUNCTIONS if f"│ {one.name}(" in listed] == []
    completer_input = io.StringIO()
    shell_commands.console.file = completer_input
    with duckdb.connect() as con:
        assert shell_commands.obey(con, KERNEL.functions + FUNCTIONS, ".functions audience")
    assert "FROM audience(" in completer_input.getvalue()


def test_without_a_bundle_its_functions_say_how_to_open_one(stub: StubEncoder) -> None:
    with coldstart_udfs.connect(model=stub) as con:  # type: ignore[arg-type]
        con.execute("CREATE MACRO score(a, b) AS a + b")
        hint(con)
        for name, query in (
            ("recommend", "FROM recommend('anna', k := 3)"), ("audience", "FROM audience('lamp')"),
            ("explain", "FROM explain('anna', 'lamp')"), ("recommend", "SELECT * FROM range(2), recommend() AS r"),
        ):  # fmt: skip
            with pytest.raises(duckdb.Error, match=rf"{name}\(\) needs a trained recommender.*coldstart sql --bundle"):
                con.sql(query).fetchall()
        assert con.sql("SELECT score(1, 2)").fetchall() == [(3,)]


def test_a_cursor_with_a_bundle_keeps_the_redaction_and_the_encoder_of_its_connection(
    stub: StubEncoder, bundle: Path
) -> None:
    with coldstart_udfs.connect(model=stub, redact=True) as con, con.cursor() as cursor:  # type: ignore[arg-type]
        recommender.register(cursor, bundle)
        assert cursor.sql("FROM recommend(description := 'lamp, ring 020 7946 0958', k := 1)").fetchall()
    assert stub.seen == ["lamp, ring <PHONE>"]


def test_coldstart_sql_with_a_bundle(bundle: Path, tmp_path: Path) -> None:
    told = must("coldstart", "sql", "--bundle", bundle, "-c", "FROM recommend(100, k := 2)", "--json", cwd=tmp_path)
    assert [set(row) for row in json.loads(told)] == [set(COLUMNS["recommend"])] * 2
