from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest

from coldstart_udfs import connect, register
from coldstart_udfs.settings import Enrichment
from tests.support.encoders import StubEncoder

Connection = duckdb.DuckDBPyConnection


def one(con: Connection, expression: str) -> object:
    return con.sql(f"SELECT {expression}").fetchall()[0][0]


def vector(text: str) -> list[float]:
    return StubEncoder.vector(text).tolist()


def test_ids_and_numbers_are_cast_to_text(con: Connection) -> None:
    assert one(con, "embed(42)") == pytest.approx(vector("42"))


def test_a_row_that_fails_costs_itself_alone(con: Connection) -> None:
    rows = con.sql("SELECT try_embed(t) FROM (VALUES ('a'), ('poison'), (NULL)) v(t)").fetchall()
    assert rows[0][0] == {"embedding": pytest.approx(vector("a")), "error": None}
    assert rows[1][0] == {"embedding": None, "error": "ValueError: this text cannot be encoded"}
    assert rows[2][0] == {"embedding": None, "error": None}
    with pytest.raises(duckdb.Error, match="cannot be encoded"):
        con.sql("SELECT embed('poison')").fetchall()


def test_similarity_is_the_cosine_and_null_where_there_is_none(con: Connection) -> None:
    rows = con.sql("""
        SELECT similarity(a, b) FROM (VALUES
            ([1, 0], [2, 0]), ([1, 0], [0, 3]), ([1, 0], NULL), (NULL, NULL), ([0, 0], [1, 0]), ([1, 1], [-1, -1]),
            ([1e30, 0], [1e30, 0])
        ) v(a, b)
    """).fetchall()
    assert [row[0] for row in rows] == [1, 0, None, None, None, pytest.approx(-1), pytest.approx(1)]


def test_similarity_of_different_widths_names_both(con: Connection) -> None:
    with pytest.raises(duckdb.Error, match=r"vectors of 2 and 3 numbers"):
        one(con, "similarity([1, 0], [1, 0, 0])")


def test_a_null_among_the_numbers_of_a_vector_is_refused(con: Connection) -> None:
    with pytest.raises(duckdb.Error, match="holds a NULL"):
        one(con, "similarity([1, NULL], [1, 0])")


def test_profile_is_a_weighted_sum_that_skips_null(con: Connection) -> None:
    rows = con.sql("""
        SELECT profile(v, w) FROM (VALUES
            ([[1, 0], [0, 1]], [2, 3]), ([[1, 0], NULL], [2, 3]), ([[1, 0], [5, 5]], [2, NULL]),
            ([[1, 0], [1, 1]], NULL), ([], []), (NULL, NULL), ([NULL], NULL), ([[1, 2, 3]], [1])
        ) t(v, w)
    """).fetchall()
    assert [row[0] for row in rows] == [[2, 3], [2, 0], [2, 0], [2, 1], None, None, None, [1, 2, 3]]


def test_profile_aggregates_a_group(con: Connection) -> None:
    con.execute("CREATE TABLE t AS SELECT i % 3 AS g, [i, 1]::FLOAT[] AS v FROM range(9000) r(i)")
    rows = con.sql("SELECT g, profile(list(v)) FROM t GROUP BY g ORDER BY g").fetchall()
    assert rows == [(g, [sum(range(g, 9000, 3)), 3000]) for g in range(3)]


def test_profile_of_mixed_widths_and_of_missing_weights_says_so(con: Connection) -> None:
    with pytest.raises(duckdb.Error, match=r"of 1 and 2 numbers|of 2 and 1 numbers"):
        one(con, "profile([[1, 2], [1]])")
    with pytest.raises(duckdb.Error, match="2 vectors and 1 weights"):
        one(con, "profile([[1, 2], [1, 2]], [1])")


def test_enrich_adds_the_weighted_text_and_is_never_null(con: Connection) -> None:
    text = np.array(vector("a"))
    profile = [1.0, 2.0, 3.0, 4.0]
    assert one(con, f"enrich({profile}, 'a')") == pytest.approx(np.array(profile) + text)
    assert one(con, f"enrich({profile}, 'a', alpha := 3)") == pytest.approx(np.array(profile) + 3 * text)
    assert one(con, f"enrich({profile}, NULL)") == profile
    assert one(con, "enrich(NULL, 'a')") == pytest.approx(text)
    assert one(con, "enrich(NULL, ' ')") == [0, 0, 0, 0]


def test_enrich_of_a_profile_of_another_encoder_names_both_widths(con: Connection) -> None:
    with pytest.raises(duckdb.Error, match="2 wide, the encoder's embeddings 4"):
        one(con, "enrich([1, 2], 'a')")


def test_alpha_and_beta_follow_the_settings(stub: StubEncoder) -> None:
    with connect(model=stub, enrichment=Enrichment(alpha=2, beta=4, evidence_scale=10)) as con:  # type: ignore[arg-type]
        rows = con.sql("SELECT alpha(0), alpha(10), alpha(NULL), beta(10), enrich(NULL, 'a', 10)").fetchall()
    assert rows == [(2, 1, 2, 2, pytest.approx(vector("a")))]


def test_registering_twice_replaces_the_settings(con: Connection) -> None:
    register(con, enrichment=Enrichment(alpha=7))
    assert one(con, "alpha(0)") == 7


def test_the_real_encoder_gives_sql_what_it_gives_python() -> None:
    from coldstart_udfs import Encoder

    texts = ["SET OF 6 HERB GARDEN TIN POTS", "lampe à huile", "🫖"]
    with connect(cache=False) as con:
        rows = con.execute("SELECT embed(t) FROM (SELECT unnest($1) AS t)", [texts]).fetchall()
    np.testing.assert_allclose(np.array([row[0] for row in rows]), Encoder(cache=False).encode(texts), atol=1e-6)


def test_with_redact_no_private_data_reach_the_encoder(stub: StubEncoder) -> None:
    private = "lamp for jo@example.com, ring 020 7946 0958"
    public = "lamp for <EMAIL>, ring <PHONE>"
    with connect(model=stub, redact=True) as con:  # type: ignore[arg-type]
        con.execute("CREATE TABLE t AS SELECT $1 AS s, [1, 0, 0, 0]::FLOAT[] AS embedding", [private])
        (row,) = con.sql("""
            SELECT embed(s), (try_embed(s)).embedding, enrich(NULL, s), embed_truncated(s), tags(s), tags(s, ['x'])
            FROM t
        """).fetchall()
        assert row[:3] == (pytest.approx(vector(public)),) * 3
        assert con.sql("SELECT rank FROM nearest('t', 'jo@example.com')").fetchall() == [(1,)]
        assert con.sql("SELECT q.s, n.rank FROM t AS q, nearest('t', q.s) AS n").fetchall() == [(private, 1)]
        assert one(con, "embed(NULL)") is None
    assert public in stub.seen
    assert not [text for text in stub.seen if "@" in text or "7946" in text]


def test_with_redact_the_cache_and_the_error_message_hold_nothing_private(tmp_path: Path) -> None:
    from coldstart_udfs.encoder.cache.store import VectorCache, key_of

    private, public = "ring 020 7946 0958", "ring <PHONE>"
    with connect(cache=tmp_path / "cache.sqlite", redact=True) as con:
        fingerprint = con.sql("SELECT embed_info().fingerprint, len(embed($1))", params=[private]).fetchall()[0][0]
        with pytest.raises(duckdb.Error) as failed:
            con.execute("SELECT similarity(embed($1), [1, 2])", [private]).fetchall()
    known, _ = VectorCache(tmp_path / "cache.sqlite", fingerprint, 384).get([key_of(private), key_of(public)])
    assert set(known) == {key_of(public)}
    assert "7946" not in str(failed.value)


def test_cache_stats_count_what_was_asked(tmp_path: Path) -> None:
    with connect(cache=tmp_path / "cache.sqlite") as con:
        read = "SELECT embed_cache_stats()"
        before = con.sql(read).fetchall()[0][0]
        con.sql("SELECT count(embed(t)) FROM (VALUES ('lamp 1'), ('lamp 2'), ('lamp 1'), (NULL)) v(t)").fetchall()
        first = con.sql(read).fetchall()[0][0]
        con.sql("SELECT count(embed(t)) FROM (VALUES ('lamp 1')) v(t)").fetchall()
        second = con.sql(read).fetchall()[0][0]
    assert {name: first[name] - before[name] for name in first} | {"bytes": 0} == {
        "hits": 0, "misses": 2, "encoded": 2, "entries": 2, "bytes": 0,
    }  # fmt: skip
    assert first["bytes"] > 0
    assert (second["hits"] - first["hits"], second["misses"] - first["misses"]) == (1, 0)


def test_info_names_the_encoder_and_truncation_is_visible() -> None:
    from coldstart_udfs import Encoder

    encoder = Encoder()
    with connect() as con:
        assert one(con, "embed_info()") == {
            "model": encoder.name, "fingerprint": encoder.fingerprint, "backend": encoder.backend, "dimensions": 384,
            "token_limit": 256, "device": "cpu",
        }  # fmt: skip
        rows = con.sql("SELECT embed_truncated(t) FROM (VALUES (repeat('lamp ', 300)), ('lamp'), (''), (NULL)) v(t)")
        assert [row[0] for row in rows.fetchall()] == [True, False, False, None]


def nearest_table(con: Connection) -> None:
    con.execute("""
        CREATE TABLE items AS SELECT * FROM (VALUES
            (1, embed('a')), (2, embed('b')), (3, NULL), (4, [0, 0, 0, 0]), (5, ['nan'::FLOAT, 0, 0, 0]),
            (6, [1, NULL, 0, 0])
        ) v(id, embedding)
    """)


def test_nearest_gives_the_columns_then_similarity_and_rank(con: Connection) -> None:
    nearest_table(con)
    found = con.sql("FROM nearest('items', 'a')")
    assert found.columns == ["id", "embedding", "similarity", "rank"]
    between = float(StubEncoder.vector("a") @ StubEncoder.vector("b"))
    assert found.fetchall() == [
        (1, pytest.approx(vector("a")), pytest.approx(1), 1),
        (2, pytest.approx(vector("b")), pytest.approx(between), 2),
    ]  # fmt: skip
    assert con.sql("SELECT id FROM nearest('items', 'b', k := 1)").fetchall() == [(2,)]
    assert con.sql("FROM nearest('items', NULL)").fetchall() == con.sql("FROM nearest('items', ' ')").fetchall() == []


def test_nearest_beside_a_table(con: Connection) -> None:
    nearest_table(con)
    rows = con.sql("""
        SELECT q.t, n.id, n.rank FROM (VALUES ('a'), ('b'), (NULL), ('')) q(t), nearest('items', q.t, k := 2) AS n
        ORDER BY ALL
    """).fetchall()
    assert rows == [("a", 1, 1), ("a", 2, 2), ("b", 1, 2), ("b", 2, 1)]


def test_nearest_reads_a_view_a_cte_and_an_array_column(con: Connection) -> None:
    nearest_table(con)
    con.execute("CREATE VIEW seen AS SELECT id, embedding::FLOAT[4] AS embedding FROM items WHERE id < 3")
    assert con.sql("SELECT id FROM nearest('seen', 'b', k := 1)").fetchall() == [(2,)]
    renamed = "SELECT id, embedding AS v, id AS text, id AS k FROM items"
    cte = f"WITH renamed AS ({renamed}) SELECT id FROM nearest('renamed', 'b')"
    with pytest.raises(duckdb.Error, match="embedding"):
        con.sql(cte).fetchall()
    assert con.sql(cte.replace("AS v", "AS embedding")).fetchall() == [(2,), (1,)]


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ("embed('a') AS vectors", r"nearest\(\): items has no column embedding; rename the one with its vectors: WITH"),
        ("CAST(embed('a') AS VARCHAR) AS embedding", r"the column embedding is VARCHAR, not a FLOAT\[\]; convert it"),
        ("1.5 AS embedding", r"the column embedding is DECIMAL\(2,1\), not"),
        ("{'v': embed('a')} AS embedding", r"the column embedding is STRUCT\(v FLOAT\[\]\), not"),
        ("[embed('a')] AS embedding", r"the column embedding is FLOAT\[\]\[\], not"),
    ],
)
def test_nearest_in_a_table_without_vectors_says_what_to_do(con: Connection, column: str, problem: str) -> None:
    con.execute(f"CREATE TABLE items AS SELECT 1 AS id, {column}")
    for query in (
        "FROM nearest('items', 'a')", "SELECT n.id FROM (VALUES ('a')) AS q(t), nearest('items', q.t, k := 2) AS n",
    ):  # fmt: skip
        with pytest.raises(duckdb.Error, match=problem):
            con.sql(query).fetchall()


def test_what_the_errors_of_nearest_advise_works(con: Connection) -> None:
    con.execute("CREATE TABLE items AS SELECT 1 AS id, embed('a') AS vectors, embed('a')::VARCHAR AS embedding")
    named = "WITH t AS (SELECT * EXCLUDE (embedding), vectors AS embedding FROM items) SELECT id FROM nearest('t', 'a')"
    read = "WITH t AS (SELECT * REPLACE (embedding::FLOAT[] AS embedding) FROM items) SELECT id FROM nearest('t', 'a')"
    assert con.sql(named).fetchall() == con.sql(read).fetchall() == [(1,)]


@pytest.mark.parametrize("k", ["NULL", "0", "-1"])
def test_nearest_of_no_rows_is_an_error(con: Connection, k: str) -> None:
    nearest_table(con)
    with pytest.raises(duckdb.Error, match=rf"nearest\(\): k is {k}; it is the number of rows, at least 1"):
        con.sql(f"FROM nearest('items', 'a', k := {k})").fetchall()


@pytest.mark.parametrize("alpha", ["'inf'::DOUBLE", "'-inf'::DOUBLE", "'nan'::DOUBLE", "1e39"])
def test_enrich_with_a_weight_that_is_no_number_is_an_error(con: Connection, alpha: str) -> None:
    for text in ("'a'", "NULL"):
        with pytest.raises(duckdb.Error, match=r"the weight of a description \(alpha\) is .*must be a finite number"):
            one(con, f"enrich([1, 0, 0, 0], {text}, alpha := {alpha})")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_nan_and_infinity_never_get_into_a_new_vector(con: Connection, number: str) -> None:
    bad = f"['{number}'::FLOAT, 0, 0, 0]"
    with pytest.raises(duckdb.Error, match=r"1 of 1 profiles given to enrich\(\) of one chunk hold NaN or infinity"):
        one(con, f"enrich({bad}, 'a')")
    with pytest.raises(duckdb.Error, match=r"1 of 2 vectors given to profile\(\) of one chunk hold NaN or infinity"):
        one(con, f"profile([{bad}, [1, 0, 0, 0]])")
    with pytest.raises(duckdb.Error, match=r"1 of 2 weights given to profile\(\) of one chunk"):
        one(con, f"profile([[1, 0], [1, 0]], [1, '{number}'::FLOAT])")
    assert one(con, f"similarity({bad}, [1, 0, 0, 0])") is None
    assert one(con, f"similarity([1, 0, 0, 0], {bad})") is None
    con.execute(f"CREATE TABLE t AS SELECT * FROM (VALUES (1, {bad}), (2, [1, 0, 0, 0]), (3, NULL)) v(id, p)")
    kept = con.sql("SELECT id, enrich(p, 'a') FROM (FROM t WHERE p IS NULL OR isfinite(list_sum(p))) ORDER BY id")
    assert [row[0] for row in kept.fetchall()] == [2, 3]


def test_sums_beyond_all_numbers_are_an_error(con: Connection) -> None:
    with pytest.raises(duckdb.Error, match=r"1 of 1 sums of profile\(\) .* they exceed FLOAT: scale the weights down"):
        one(con, "profile([[3e38, 0], [3e38, 1]])")


def test_nearest_in_a_table_of_another_encoder_names_both_widths(con: Connection) -> None:
    con.execute("CREATE TABLE items AS SELECT i AS id, [1, i]::FLOAT[] AS embedding FROM range(20) r(i)")
    with pytest.raises(duckdb.Error, match="vectors of 2 and 4 numbers"):
        con.sql("FROM nearest('items', 'a', k := 3)").fetchall()


def test_columns_may_be_named_like_the_parameters_of_macros(con: Connection) -> None:
    con.execute("""CREATE TABLE t AS SELECT 'a' AS text, 'x' AS model, 7 AS k, 5 AS n, 2.5 AS alpha, ['q'] AS labels,
                   ['b'] AS brands, 't' AS table_name, [1.0, 0, 0, 0] AS profile, embed('a') AS embedding""")
    rows = con.sql("SELECT embed(text), enrich(profile, text, n, alpha := alpha), tags(text), entities(text) FROM t")
    enriched = np.array([1, 0, 0, 0]) + 2.5 * np.array(vector("a"))
    assert rows.fetchall() == [(pytest.approx(vector("a")), pytest.approx(enriched), [], [])]
    assert con.sql("SELECT text, k, n, rank FROM nearest('t', 'a')").fetchall() == [("a", 7, 5, 1)]


def test_nearest_reads_a_table_of_another_schema_and_a_file(con: Connection, tmp_path: Path) -> None:
    con.execute("CREATE SCHEMA other; CREATE TABLE other.items AS SELECT 1 AS id, embed('a') AS embedding")
    con.execute(f"COPY other.items TO '{tmp_path / 'items.parquet'}'")
    for name in ("other.items", tmp_path / "items.parquet"):
        assert con.sql(f"SELECT id, rank FROM nearest('{name}', 'a')").fetchall() == [(1, 1)]


def test_nearest_of_an_earlier_result_gives_new_similarities(con: Connection) -> None:
    rows = "(VALUES ('a', embed('a')), ('b', embed('b'))) v(id, embedding)"
    con.execute(f"CREATE TABLE items AS SELECT *, 'kept' AS \"Similarity kept\" FROM {rows}")
    con.execute("CREATE TABLE found AS FROM nearest('items', 'a')")
    again = con.sql("FROM nearest('found', 'b')")
    assert again.columns == ["id", "embedding", "Similarity kept", "similarity", "rank"]
    between = float(StubEncoder.vector("a") @ StubEncoder.vector("b"))
    assert [(row[0], row[3], row[4]) for row in again.fetchall()] == [
        ("b", pytest.approx(1), 1), ("a", pytest.approx(between), 2),
    ]  # fmt: skip
    beside = con.sql("SELECT n.id, n.rank FROM (VALUES ('b')) q(t), nearest('found', q.t) AS n ORDER BY n.rank")
    assert beside.fetchall() == [("b", 1), ("a", 2)]


def test_nearest_searches_with_the_prompt_of_queries(con: Connection, stub: StubEncoder) -> None:
    nearest_table(con)
    stub.prompts.clear()
    con.sql("FROM nearest('items', 'a')").fetchall()
    assert stub.prompts == {"query"}
    con.sql("SELECT embed('c')").fetchall()
    assert stub.prompts == {"query", "document"}


def test_with_redact_the_callers_labels_are_redacted_too(stub: StubEncoder) -> None:
    with connect(model=stub, redact=True) as con:  # type: ignore[arg-type]
        con.execute("SELECT tags('mug', labels := ['call jo@example.com', 'mug'])").fetchall()
    assert "call <EMAIL>" in stub.seen
    assert not [text for text in stub.seen if "@" in text]


def test_lists_of_labels_and_brands_the_same_or_not_in_every_row(con: Connection) -> None:
    con.execute("""CREATE TABLE t AS SELECT i, 'acme bolt' AS s,
                   CASE i % 3 WHEN 0 THEN ['acme'] WHEN 1 THEN ['bolt'] END AS b FROM range(3000) r(i)""")
    values = "list_transform(entities(s, brands := {}), lambda e: e.value)"
    assert con.sql(f"SELECT DISTINCT {values.format(['acme', 'bolt'])} FROM t").fetchall() == [(["acme", "bolt"],)]
    rows = con.sql(f"SELECT DISTINCT i % 3, {values.format('b')} FROM t ORDER BY 1").fetchall()
    assert rows == [(0, ["acme"]), (1, ["bolt"]), (2, [])]
    assert con.sql("SELECT sum(len(tags(s, labels := b))) FROM t").fetchall() == [(2000,)]
