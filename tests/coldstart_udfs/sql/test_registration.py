"""What a connection owns in Python: its encoder and its progress, and for how long."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import duckdb
import pyarrow as pa
import pytest

from coldstart_udfs import Encoder, connect, register
from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import Enrichment
from coldstart_udfs.sql.registration import connection_progress, registration_of
from tests.support.encoders import StubEncoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(backend="torch", cache=False)


def test_two_connections_with_one_encoder_each_hear_of_their_own_texts(encoder: Encoder) -> None:
    together = Barrier(2)

    def work(count: int) -> tuple[int, int]:
        told: list[int] = []
        with (
            connect(model=encoder) as con,
            connection_progress(con, lambda stats: told.append(stats.encoded)) as progress,
        ):
            together.wait()
            con.sql(f"SELECT count(embed('text ' || i || ' of {count}')) FROM range({count}) r(i)").fetchall()
            together.wait()
        return progress.stats.encoded, max(told)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, [3, 5])) == [(3, 3), (5, 5)]


def test_the_threads_of_duckdb_report_to_the_connection(encoder: Encoder) -> None:
    with connect(model=encoder) as con, connection_progress(con) as progress:
        con.execute("SET threads = 4; CREATE TABLE t AS SELECT i FROM range(500000) r(i)")
        con.sql("SELECT count(embed('text ' || (i // 125000))) FROM t").fetchall()
        assert progress.stats.encoded >= 4
        before = progress.stats.encoded
    assert before == progress.stats.encoded


def test_a_model_that_a_query_names_reports_to_the_connection_too(encoder: Encoder) -> None:
    shared = shared_encoder(cache=False)
    asked = shared.stats.encoded
    with connect(model=encoder, cache=False) as con, connection_progress(con) as progress:
        con.sql("SELECT embed('a lamp', model := '')").fetchall()
    assert progress.stats.encoded == shared.stats.encoded - asked == 1


def test_a_cancelled_query_fails_and_the_next_one_runs(encoder: Encoder) -> None:
    with connect(model=encoder) as con:
        with connection_progress(con) as progress:
            progress.cancel()
            with pytest.raises((duckdb.Error, KeyboardInterrupt)):
                con.sql("SELECT try_embed('a lamp')").fetchall()  # try_embed() keeps errors, but does not go on here
        assert con.sql("SELECT len(embed('a lamp'))").fetchall() == [(384,)]


def test_registering_again_releases_the_encoder() -> None:
    encoder = StubEncoder()
    released = weakref.ref(encoder)
    with connect(model=encoder) as con:  # type: ignore[arg-type]
        con.sql("SELECT embed('a'), tags('red')").fetchall()
        del encoder
        gc.collect()
        assert released() is not None
        register(con, model=StubEncoder())  # type: ignore[arg-type]
        gc.collect()
        assert released() is None
        assert con.sql("SELECT len(embed('a'))").fetchall() == [(4,)]


def test_a_connection_that_is_gone_releases_its_encoder() -> None:
    encoder = StubEncoder()
    released = weakref.ref(encoder)
    con = connect(model=encoder)  # type: ignore[arg-type]
    del encoder
    con.sql("SELECT embed('a'), tags('red')").fetchall()
    con.close()
    del con
    gc.collect()
    assert released() is None


def test_a_closed_connection_releases_its_encoder_when_another_registers() -> None:
    encoder = StubEncoder()
    released = weakref.ref(encoder)
    con = connect(model=encoder)  # type: ignore[arg-type]
    del encoder
    con.close()
    with connect(cache=False):
        gc.collect()
        assert released() is None


def test_a_cursor_registers_with_redaction_and_the_other_settings_of_its_connection() -> None:
    stub, private = StubEncoder(), "ring 020 7946 0958"
    given = {"enrichment": Enrichment(alpha=7, beta=3, evidence_scale=10), "redact": True, "cache": False}
    with connect(model=stub, **given) as con, con.cursor() as cursor, cursor.cursor() as further:  # type: ignore[arg-type]
        for one in (cursor, further):
            register(one)
            query = "SELECT alpha(0), beta(10), embed_info().model, embed($1) FROM range(1)"
            alpha, beta, model, vector = one.execute(query, [private]).fetchall()[0]
            assert (alpha, beta, model) == (7, 1.5, "stub")
            assert vector == pytest.approx(StubEncoder.vector("ring <PHONE>").tolist())
            assert one.sql("SELECT getvariable('coldstart_settings').cache").fetchall() == [("0",)]
        register(further, enrichment=Enrichment(alpha=2), cache=False)
        query = "SELECT alpha(0), getvariable('coldstart_settings').redact"
        assert further.sql(query).fetchall() == [(2, "1")]  # replaced, but for redaction
        assert cursor.sql(query).fetchall() == [(7, "1")]
    assert set(stub.seen) == {"ring <PHONE>"}


def test_redaction_ends_where_it_is_said(stub: StubEncoder) -> None:
    query = "SELECT getvariable('coldstart_settings').redact"
    with connect(model=stub, redact=True) as con, con.cursor() as cursor:  # type: ignore[arg-type]
        register(cursor, redact=False)
        assert cursor.sql(query).fetchall() == [("0",)]
        register(con, model=stub)  # type: ignore[arg-type]
        assert con.sql(query).fetchall() == [("1",)]
    with connect(model=stub) as other:  # type: ignore[arg-type]  # another database
        assert other.sql(query).fetchall() == [("0",)]


def test_another_connection_to_the_file_is_redacted_too(stub: StubEncoder, tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    with connect(path, model=stub, redact=True), connect(path) as other:  # type: ignore[arg-type]
        assert other.sql("SELECT getvariable('coldstart_settings').redact").fetchall() == [("1",)]
    with connect(path, model=stub) as later:  # type: ignore[arg-type]  # opened anew
        assert later.sql("SELECT getvariable('coldstart_settings').redact").fetchall() == [("0",)]


def test_redaction_outlives_the_connection_that_asked_for_it(stub: StubEncoder) -> None:
    cursor = connect(model=stub, redact=True).cursor()  # type: ignore[arg-type]
    gc.collect()
    register(cursor, model=stub)  # type: ignore[arg-type]
    assert cursor.sql("SELECT getvariable('coldstart_settings').redact").fetchall() == [("1",)]
    cursor.close()


def test_a_cursor_whose_encoder_was_released_says_so() -> None:
    with connect(model=StubEncoder()) as con, con.cursor() as cursor:  # type: ignore[arg-type]
        registration_of(con).encoder = None
        gc.collect()
        with pytest.raises(ColdStartError, match="registered with an Encoder, which was released; pass model=…"):
            register(cursor)


def test_a_result_that_outlives_the_given_encoder_says_what_to_do() -> None:
    reader = rows_of_a_connection_that_is_gone(StubEncoder())
    with pytest.raises((duckdb.Error, OSError, pa.ArrowException), match="keep the connection until all results are"):
        reader.read_all()


def test_a_result_that_outlives_its_connection_goes_on_with_a_named_model() -> None:
    rows = rows_of_a_connection_that_is_gone("").read_all()
    assert len(rows) == 300_000
    assert rows["width"].unique().to_pylist() == [384]


def rows_of_a_connection_that_is_gone(model: object) -> pa.RecordBatchReader:
    con = connect(model=model, cache=False)  # type: ignore[arg-type]
    con.execute("SET threads = 1; CREATE TABLE t AS SELECT i FROM range(300000) r(i)")
    relation = con.sql("SELECT len(embed('text ' || (i // 150000))) AS width FROM t")
    read = relation.to_arrow_reader if hasattr(relation, "to_arrow_reader") else relation.fetch_record_batch
    reader: pa.RecordBatchReader = read(2048)
    del con, relation, read
    gc.collect()
    return reader
