"""What DuckDB does wrong with Python functions, on one version or another: each a test that fails if we fall for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest

from coldstart_udfs import connect, register
from coldstart_udfs.encoder.encoder import clear_shared_encoders
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.sql.catalogue import FUNCTIONS
from tests.support.encoders import StubEncoder

Connection = duckdb.DuckDBPyConnection


def vector(text: str) -> list[float]:
    return StubEncoder.vector(text).tolist()


def near(text: str) -> object:
    return pytest.approx(vector(text))


def test_null_and_blank_text_give_null_in_any_position(con: Connection) -> None:
    rows = con.sql("SELECT embed(t) FROM (VALUES (NULL), ('a'), ('  '), (NULL), ('b'), ('')) v(t)").fetchall()
    assert [row[0] for row in rows] == [None, pytest.approx(vector("a")), None, None, pytest.approx(vector("b")), None]


def test_an_empty_table_gives_no_rows(con: Connection) -> None:
    con.execute("CREATE TABLE t (s VARCHAR, v FLOAT[], n INTEGER)")
    query = "SELECT embed(s), try_embed(s), similarity(v, v), profile([v]), alpha(n), enrich(v, s, n) FROM t"
    assert con.sql(query).fetchall() == []


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


def test_a_read_only_database_works_and_nothing_is_written_into_a_file(stub: StubEncoder, tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    with connect(path, model=stub) as con:  # type: ignore[arg-type]
        con.execute("CREATE TABLE t AS SELECT 'a' AS s")
    with duckdb.connect(str(path)) as plain:
        rows = plain.sql("SELECT function_name FROM duckdb_functions() WHERE NOT internal").fetchall()
        names = {row[0] for row in rows}
        assert names.isdisjoint(function.name for function in FUNCTIONS)
    with connect(path, read_only=True, model=stub) as con:  # type: ignore[arg-type]
        assert con.sql("SELECT embed(s) FROM t").fetchall() == [(pytest.approx(vector("a")),)]


def test_a_cursor_gets_the_macros_by_registering(con: Connection, stub: StubEncoder) -> None:
    cursor = con.cursor()
    register(cursor, model=stub)  # type: ignore[arg-type]
    assert cursor.sql("SELECT len(embed('a'))").fetchall() == [(4,)]
    cursor.close()
    assert con.sql("SELECT len(embed('a'))").fetchall() == [(4,)]


def test_leaving_the_process_says_nothing_on_stderr() -> None:
    code = "import coldstart_udfs as c; con = c.connect(cache=False); print(con.sql('SELECT alpha(3)').fetchall())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[(1.0,)]", "")




@pytest.mark.parametrize("place", range(5))
def test_one_null_among_texts_moves_no_other_row(con: Connection, place: int) -> None:
    texts = ["a", "b", "c", "d", "e"]
    given = [None if row == place else text for row, text in enumerate(texts)]
    rows = con.execute("SELECT embed(t), similarity(embed(t), embed(t)), tokens(t), redact(t), embed_truncated(t) "
                       "FROM (SELECT unnest($1) AS t)", [given]).fetchall()  # fmt: skip
    for row, text in zip(rows, given, strict=True):
        if text is None:
            assert row == (None,) * 5
        else:
            assert row == (near(text), pytest.approx(1), [text], text, False)


def test_a_chunk_of_length_zero(con: Connection) -> None:
    """A filter may leave a chunk without rows; every Python function must take it."""
    con.execute("CREATE TABLE t AS SELECT i, 'text ' || i AS s, [i, 1]::FLOAT[] AS v FROM range(5000) r(i)")
    calls = ("embed(s), try_embed(s), embed_truncated(s), clean_text(s), redact(s), tokens(s), entities(s), tags(s), "
             "similarity(v, v), profile([v]), alpha(i), beta(i), enrich(NULL, s), embed_info(), embed_cache_stats()")
    assert con.sql(f"SELECT {calls} FROM t WHERE i < 0").fetchall() == []
    assert con.sql(f"SELECT {calls} FROM t WHERE i < 0 UNION ALL SELECT {calls} FROM t WHERE i = 3").fetchall()


def test_python_functions_themselves_take_no_rows() -> None:
    """What DuckDB's optimiser spares a function today it may send tomorrow."""
    import pyarrow as pa

    from coldstart_udfs.sql.arrow_functions import PYTHON_FUNCTIONS

    kinds = {"BIGINT": pa.int64(), "VARCHAR": pa.string(), "VARCHAR[]": pa.list_(pa.string()), "DOUBLE": pa.float64(),
             "FLOAT[]": pa.list_(pa.float32()), "FLOAT[][]": pa.list_(pa.list_(pa.float32()))}  # fmt: skip
    for function in PYTHON_FUNCTIONS:
        columns = [pa.chunked_array([], kinds[kind]) for kind in function.parameters]
        empty = [pa.chunked_array([pa.array([], kinds[kind])]) for kind in function.parameters]
        assert len(function.call(*columns)) == len(function.call(*empty)) == 0


def test_embed_in_select_and_in_where_encodes_each_text_once(tmp_path: Path) -> None:
    """DuckDB runs the function twice; that no text goes through the model twice is the encoder's affair."""
    clear_shared_encoders()  # the counts leave out an encoder that makes room for another one
    with connect(cache=tmp_path / "cache.sqlite") as con:
        con.execute("CREATE TABLE t AS SELECT 'text ' || i AS s FROM range(10) r(i)")
        before = con.sql("SELECT embed_cache_stats().encoded").fetchall()[0][0]
        rows = con.sql("SELECT s, len(embed(s)) FROM t WHERE similarity(embed(s), embed(s)) > 0.9").fetchall()
        after = con.sql("SELECT embed_cache_stats().encoded").fetchall()[0][0]
    assert sorted(rows) == [(f"text {i}", 384) for i in range(10)]
    assert after - before == 10


def test_no_vector_is_ever_zero_or_nan_so_that_no_comparison_lies(con: Connection) -> None:
    """Cosine with a zero vector is -1 on 1.x and NaN on 2.0, and NaN > 0.5 is true."""
    rows = con.sql("""
        SELECT count(*) FROM (VALUES (''), (NULL), ('  ')) v(t) WHERE similarity(embed(t), embed('lamp')) > -2
    """).fetchall()
    assert rows == [(0,)]
    bad = con.sql("SELECT similarity([0, 0], [1, 0]) > 0.5, similarity(['nan'::FLOAT, 0], [1, 0]) > 0.5")
    assert bad.fetchall() == [(None, None)]


def test_vectors_cast_to_an_array_for_an_index(con: Connection) -> None:
    con.execute("CREATE TABLE t AS SELECT s, embed(s)::FLOAT[4] AS v FROM (VALUES ('a'), (NULL), ('b')) x(s)")
    assert con.sql("SELECT similarity(v, embed(s)) FROM t ORDER BY s NULLS LAST").fetchall() == [
        (pytest.approx(1),), (pytest.approx(1),), (None,),
    ]  # fmt: skip
    assert [row[0] for row in con.sql("SELECT description FROM (SELECT s AS description, v AS embedding FROM t) "
                                      "WHERE embedding IS NULL").fetchall()] == [None]  # fmt: skip


def test_results_of_one_function_feed_the_next(con: Connection) -> None:
    """Buffers that came in are never handed back."""
    con.execute("CREATE TABLE t AS SELECT i, 'text ' || (i % 700) AS s FROM range(10000) r(i)")
    wrong = con.sql("""
        SELECT count(*) FROM t
        WHERE abs(similarity(profile([embed(redact(redact(s)))]), enrich(NULL, clean_text(s))) - 1) > 1e-6
    """).fetchall()
    assert wrong == [(0,)]


def test_dedup_changes_neither_rows_nor_order_nor_duplicates(con: Connection) -> None:
    con.execute("""CREATE TABLE t AS SELECT i, CASE WHEN i % 7 = 0 THEN NULL ELSE 'text ' || (i % 3) END AS s
                   FROM range(5000) r(i)""")
    rows = con.sql("SELECT i, s, embed(s), tokens(s) FROM t ORDER BY i").fetchall()
    assert [row[0] for row in rows] == list(range(5000))
    for i, text, embedding, words in rows:
        expected = None if i % 7 == 0 else f"text {i % 3}"
        assert text == expected
        assert words == (None if expected is None else expected.split())
        assert embedding == (None if expected is None else near(expected))


def test_two_models_in_one_call_are_refused(con: Connection) -> None:
    with pytest.raises(duckdb.Error, match="one call uses the models"):
        con.sql("SELECT embed('a', model := m) FROM (VALUES ('x'), ('y')) v(m)").fetchall()


def test_a_function_registered_on_a_cursor_outlives_it() -> None:
    """On DuckDB 1.4 and 1.5 the process ended when such a function was a closure; ours belong to the module."""
    code = """
import gc, coldstart_udfs, duckdb
con = duckdb.connect()
cursor = con.cursor()
coldstart_udfs.register(cursor, cache=False)
assert cursor.sql("SELECT alpha(3)").fetchall() == [(1.0,)]
cursor.close()
del cursor
gc.collect()
coldstart_udfs.register(con, cache=False)
print(con.sql("SELECT alpha(3), tokens('a b')").fetchall())
con.close()  # an open one may end the process with an abort when the machine is busy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[(1.0, ['a', 'b'])]"), done.stderr


def test_threads_with_a_cursor_each(con: Connection, stub: StubEncoder) -> None:
    from concurrent.futures import ThreadPoolExecutor

    con.execute("CREATE TABLE t AS SELECT i, 'text ' || (i % 40) AS s FROM range(20000) r(i)")

    def work(thread: int) -> int:
        with con.cursor() as cursor:
            register(cursor, model=stub)  # type: ignore[arg-type]
            rows = cursor.sql(f"SELECT s, embed(s), redact(s) FROM t WHERE i % 4 = {thread}").fetchall()
            return sum(embedding == near(text) and kept == text for text, embedding, kept in rows)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [5000] * 4


def test_a_cursor_may_have_a_default_model_of_its_own(con: Connection, stub: StubEncoder) -> None:
    another = StubEncoder()
    with con.cursor() as cursor:
        register(cursor, model=another)  # type: ignore[arg-type]
        cursor.sql("SELECT embed('a')").fetchall()
        con.sql("SELECT embed('b')").fetchall()
    assert (another.seen, stub.seen) == (["a"], ["b"])


def test_every_connection_of_an_instance_registers_for_itself(stub: StubEncoder, tmp_path: Path) -> None:
    path = str(tmp_path / "shop.duckdb")
    with connect(path, model=stub) as first, duckdb.connect(path) as second:  # type: ignore[arg-type]
        with pytest.raises(duckdb.Error, match="embed"):
            second.sql("SELECT embed('a')")
        register(second, model=stub)  # type: ignore[arg-type]
        register(second, model=stub)  # type: ignore[arg-type]
        assert second.sql("SELECT embed('a')").fetchall() == [(near("a"),)]
        assert first.sql("SELECT embed('a')").fetchall() == [(near("a"),)]


def test_a_plain_macro_on_a_read_only_database_is_not_needed(stub: StubEncoder, tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    with connect(path, model=stub) as con:  # type: ignore[arg-type]
        con.execute("CREATE TABLE items AS SELECT 'a' AS description, embed('a') AS embedding")
    with connect(path, read_only=True, model=stub) as con:  # type: ignore[arg-type]
        assert con.sql("SELECT rank FROM nearest('items', 'a')").fetchall() == [(1,)]


def test_integer_ids_and_texts_are_cast(con: Connection) -> None:
    rows = con.sql("SELECT tokens(42), redact(4.5), clean_text(DATE '2024-01-02'), embed_truncated(7), entities(12), "
                   "tags(1)")  # fmt: skip
    assert rows.fetchall() == [(["42"], "4.5", "2024-01-02", False, [], [])]


def test_a_lone_surrogate_is_refused_by_duckdb_and_replaced_in_python() -> None:
    from coldstart_udfs import Encoder
    from coldstart_udfs.text.cleaning import clean_text
    from coldstart_udfs.text.redaction import redact
    from coldstart_udfs.text.words import tokens

    text = "a \ud800 lamp"
    with duckdb.connect() as con, pytest.raises((UnicodeError, duckdb.Error, RuntimeError)):
        con.execute("SELECT $1", [text]).fetchall()
    encoder = Encoder(cache=False)
    np.testing.assert_array_equal(encoder.encode([text]), encoder.encode(["a \ufffd lamp"]))
    assert (clean_text(text), tokens(text), redact(text)) == ("a lamp", ["a", "lamp"], text)


def test_leaving_with_cursors_stubs_and_views_says_nothing(tmp_path: Path) -> None:
    code = f"""
import coldstart_udfs
con = coldstart_udfs.connect({str(tmp_path / 'shop.duckdb')!r}, cache=False)
coldstart_udfs.install_stubs(con)
cursor = con.cursor()
coldstart_udfs.register(cursor, cache=False)
con.execute("CREATE TABLE t AS SELECT 'a' AS s")
con.execute("CREATE VIEW v AS SELECT tokens(s) AS words FROM t")
print(cursor.sql("SELECT embed_cache_stats().hits, v.words FROM v").fetchall())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[(0, ['a'])]", "")


def test_threads_that_register_at_once(stub: StubEncoder) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with duckdb.connect() as con:
        cursors = [con.cursor() for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda cursor: register(cursor, model=stub), cursors))  # type: ignore[arg-type]
        assert [cursor.sql("SELECT embed('a')").fetchall() for cursor in cursors] == [[(near("a"),)]] * 8


def test_registering_in_a_transaction_that_is_rolled_back_says_what_to_do(stub: StubEncoder) -> None:
    with duckdb.connect() as con:
        con.execute("BEGIN")
        register(con)
        con.execute("ROLLBACK")
        with pytest.raises(ColdStartError, match="register a new cursor or connection, before BEGIN"):
            register(con)
        with con.cursor() as cursor:
            register(cursor)
            assert cursor.sql("SELECT tokens('a b')").fetchall() == [(["a", "b"],)]


def test_an_index_on_a_function_stops_all_inserts_and_a_column_does_not(con: Connection) -> None:
    # DuckDB computes the keys of an index when it commits, where it has no connection for a Python function.
    con.execute("CREATE TABLE t (d VARCHAR); INSERT INTO t VALUES ('a!!'); CREATE INDEX i ON t(clean_text(d))")
    with pytest.raises(duckdb.Error, match=r"Cannot use .*_coldstart_clean_text.* in this context"):
        con.execute("INSERT INTO t VALUES ('b!!')")
    con.execute("DROP INDEX i; ALTER TABLE t ADD COLUMN cleaned VARCHAR; UPDATE t SET cleaned = clean_text(d)")
    con.execute("CREATE INDEX i ON t(cleaned)")
    con.execute("INSERT INTO t SELECT d, clean_text(d) FROM (VALUES ('b!!')) v(d)")
    assert con.sql("SELECT d FROM t WHERE cleaned = 'b!'").fetchall() == [("b!!",)]
