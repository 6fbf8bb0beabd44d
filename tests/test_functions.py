from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest

from coldstart_udfs import connect, register
from coldstart_udfs.functions import FUNCTIONS
from coldstart_udfs.profile import Enrichment
from tests.conftest import StubEncoder

Connection = duckdb.DuckDBPyConnection


def one(con: Connection, expression: str) -> object:
    return con.sql(f"SELECT {expression}").fetchall()[0][0]


def vector(text: str) -> list[float]:
    return StubEncoder.vector(text).tolist()


def test_what_is_registered_is_the_catalogue(con: Connection) -> None:
    rows = con.sql("""
        SELECT function_name, any_value(comment) FROM duckdb_functions()
        WHERE database_name = 'temp' AND function_type = 'macro' GROUP BY 1
    """).fetchall()
    assert dict(rows) == {function.name: function.description for function in FUNCTIONS}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_every_example_runs_and_gives_something(con: Connection, function: object) -> None:
    (value,) = con.sql(function.example).fetchall()[0]  # type: ignore[attr-defined]
    assert value is not None or "error" in function.example  # type: ignore[attr-defined]


def test_null_and_blank_text_give_null_in_any_position(con: Connection) -> None:
    rows = con.sql("SELECT embed(t) FROM (VALUES (NULL), ('a'), ('  '), (NULL), ('b'), ('')) v(t)").fetchall()
    assert [row[0] for row in rows] == [None, pytest.approx(vector("a")), None, None, pytest.approx(vector("b")), None]


def test_an_empty_table_gives_no_rows(con: Connection) -> None:
    con.execute("CREATE TABLE t (s VARCHAR, v FLOAT[], n INTEGER)")
    query = "SELECT embed(s), try_embed(s), similarity(v, v), profile([v]), alpha(n), enrich(v, s, n) FROM t"
    assert con.sql(query).fetchall() == []


def test_ids_and_numbers_are_cast_to_text(con: Connection) -> None:
    assert one(con, "embed(42)") == pytest.approx(vector("42"))


def test_a_chunk_is_encoded_once_per_distinct_text(con: Connection, stub: StubEncoder) -> None:
    con.execute("CREATE TABLE t AS SELECT 'text ' || (i % 3) AS s FROM range(2000) r(i)")
    assert con.sql("SELECT count(DISTINCT embed(s)) FROM t").fetchall() == [(3,)]
    assert sorted(stub.seen) == ["text 0", "text 1", "text 2"]


def test_rows_of_several_threads_keep_their_vectors(con: Connection) -> None:
    con.execute("CREATE TABLE t AS SELECT i, 'text ' || (i % 50) AS s FROM range(300000) r(i)")
    con.execute("SET threads = 4")
    wrong = con.sql("""
        SELECT count(*) FROM (SELECT s, embed(s) AS v FROM t) AS many
        JOIN (SELECT DISTINCT s, embed(s) AS v FROM t WHERE i < 50) AS few USING (s) WHERE many.v <> few.v
    """)
    assert wrong.fetchall() == [(0,)]


def test_a_filter_that_leaves_few_rows(con: Connection) -> None:
    con.execute("CREATE TABLE t AS SELECT i, 'text ' || i AS s FROM range(10000) r(i)")
    rows = con.sql("SELECT i, embed(s) FROM t WHERE i % 50 = 7 ORDER BY i").fetchall()
    assert len(rows) == 200
    assert all(value == pytest.approx(vector(f"text {i}")) for i, value in rows)


def test_left_join_case_and_coalesce_over_vectors(con: Connection) -> None:
    con.execute("CREATE TABLE a AS SELECT unnest([1, 2, 3]) AS i; CREATE TABLE b AS SELECT 2 AS i, embed('b') AS v")
    joined = con.sql("SELECT i, v, coalesce(v, embed('x')), CASE WHEN v IS NULL THEN embed('c') ELSE v END "
                     "FROM a LEFT JOIN b USING (i) ORDER BY i").fetchall()  # fmt: skip
    b, c, x = (pytest.approx(vector(text)) for text in "bcx")
    assert joined == [(1, None, x, c), (2, b, b, b), (3, None, x, c)]


def test_a_literal_under_explain(con: Connection) -> None:
    assert con.sql("EXPLAIN SELECT embed('x')").fetchall()


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
    with connect(enrichment=Enrichment(alpha=2, beta=4, evidence_scale=10)) as con:
        rows = con.sql("SELECT alpha(0), alpha(10), alpha(NULL), beta(10), enrich(NULL, 'a', 10)").fetchall()
    assert rows == [(2, 1, 2, 2, pytest.approx(vector("a")))]


def test_registering_twice_replaces_the_settings(con: Connection) -> None:
    register(con, enrichment=Enrichment(alpha=7))
    assert one(con, "alpha(0)") == 7


def test_a_read_only_database_works_and_nothing_is_written_into_a_file(stub: StubEncoder, tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    with connect(path) as con:
        con.execute("CREATE TABLE t AS SELECT 'a' AS s")
    with duckdb.connect(str(path)) as plain:
        rows = plain.sql("SELECT function_name FROM duckdb_functions() WHERE NOT internal").fetchall()
        names = {row[0] for row in rows}
        assert names.isdisjoint(function.name for function in FUNCTIONS)
    with connect(path, read_only=True) as con:
        assert con.sql("SELECT embed(s) FROM t").fetchall() == [(pytest.approx(vector("a")),)]


def test_a_cursor_gets_the_macros_by_registering(con: Connection) -> None:
    cursor = con.cursor()
    register(cursor)
    assert cursor.sql("SELECT len(embed('a'))").fetchall() == [(4,)]
    cursor.close()
    assert one(con, "len(embed('a'))") == 4


def test_leaving_the_process_says_nothing_on_stderr() -> None:
    code = "import coldstart_udfs as c; con = c.connect(cache=False); print(con.sql('SELECT alpha(3)').fetchall())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[(1.0,)]", "")


def test_the_real_encoder_gives_sql_what_it_gives_python() -> None:
    from coldstart_udfs import Encoder

    texts = ["SET OF 6 HERB GARDEN TIN POTS", "lampe à huile", "🫖"]
    with connect(cache=False) as con:
        rows = con.execute("SELECT embed(t) FROM (SELECT unnest($1) AS t)", [texts]).fetchall()
    np.testing.assert_allclose(np.array([row[0] for row in rows]), Encoder(cache=False).encode(texts), atol=1e-6)
