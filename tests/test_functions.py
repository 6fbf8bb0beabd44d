from __future__ import annotations

import duckdb
import numpy as np
import pytest

from coldstart_udfs import connect, register
from coldstart_udfs.profile import Enrichment
from tests.conftest import StubEncoder

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
    with connect(enrichment=Enrichment(alpha=2, beta=4, evidence_scale=10)) as con:
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
