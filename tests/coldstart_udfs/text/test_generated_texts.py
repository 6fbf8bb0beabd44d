"""Every function over texts that nobody planned for, on four threads: no crash, no NaN, no wrong width, one answer."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldstart_udfs import connect
from tests.support.encoders import StubEncoder
from tests.support.texts import MEGABYTES, generated_texts

Connection = duckdb.DuckDBPyConnection

CALLS = {
    "embedding": "embed(t)",
    "tried": "try_embed(t)",
    "cut": "embed_truncated(t)",
    "enriched": "enrich(NULL, t, 3)",
    "cleaned": "clean_text(t)",
    "redacted": "redact(t)",
    "words": "tokens(t)",
    "stated": "entities(t, ['lamp', '红色'])",
    "tagged": "tags(t)",
    "own": "tags(t, ['lamp', 'christmas'])",
}
COLUMNS = ", ".join(f"{call} AS {name}" for name, call in CALLS.items())


def in_bulk(con: Connection, folder: Path, texts: list[str]) -> None:
    """The table `bulk`, from a file with row groups enough for four threads."""
    table = pa.table({"id": range(len(texts)), "t": texts, "blank": [not text.strip() for text in texts]})
    pq.write_table(table, folder / "t.parquet", row_group_size=len(texts) // 8)
    con.execute(f"SET threads = 4; CREATE VIEW texts AS FROM '{folder / 't.parquet'}'")
    con.execute(f"CREATE TABLE bulk AS SELECT id, t, blank, {COLUMNS} FROM texts")


def check(con: Connection, width: int, rows: int) -> None:
    # Lambdas that do not look at `t`: DuckDB would copy a megabyte for each element.
    problems = con.sql(f"""
        SELECT
            count(*) FILTER ((embedding IS NULL) <> blank) AS wrong_nulls,
            count(*) FILTER (len(embedding) <> {width} OR len(enriched) <> {width}) AS wrong_widths,
            count(*) FILTER (len(list_filter(embedding, lambda x: NOT isfinite(x))) > 0) AS not_finite,
            count(*) FILTER (abs(list_dot_product(embedding, embedding) - 1) > 1e-3) AS wrong_lengths,
            count(*) FILTER (tried.embedding IS DISTINCT FROM embedding OR tried.error IS NOT NULL) AS wrong_tries,
            count(*) FILTER (cut IS NULL OR redacted IS NULL OR words IS NULL OR stated IS NULL) AS nulls,
            count(*) FILTER (tagged IS NULL OR own IS NULL OR enriched IS NULL) AS more_nulls,
            count(*) FILTER (cleaned = '' OR cleaned <> trim(cleaned)) AS not_clean,
            count(*) FILTER (len(list_filter(words, lambda w: w = '')) > 0) AS empty_words,
            count(*) FILTER (len(list_filter(stated, lambda e: e.start < 1 OR e.stop < e.start)) > 0) AS wrong_places,
            count(*) FILTER (list_max(list_transform(stated, lambda e: e.stop)) > length(t)) AS places_beyond,
            count(*) FILTER (len(list_filter(list_concat(tagged, own), lambda x: NOT coalesce(x.score BETWEEN 0 AND 1,
                false))) > 0) AS wrong_scores
        FROM bulk
    """)
    assert dict(zip(problems.columns, problems.fetchall()[0], strict=True)) == dict.fromkeys(problems.columns, 0)
    assert con.sql("SELECT count(*), count(DISTINCT id) FROM bulk").fetchall() == [(rows, rows)]
    assert con.sql("SELECT len(embedding), words FROM bulk WHERE t = 'a red lamp'").fetchall() == [
        (width, ["a", "red", "lamp"])
    ]


def check_alone(con: Connection, texts: list[str], step: int) -> None:
    """One text a query, beside the row of the bulk table."""
    for row in range(0, len(texts), step):
        same = con.execute(
            f"SELECT {' AND '.join(f'({call}) IS NOT DISTINCT FROM {name}' for name, call in CALLS.items())} "
            "FROM bulk WHERE id = $1", [row],
        ).fetchall()  # fmt: skip
        assert same == [(True,)], repr(texts[row][:200])


def check_in_another_order(con: Connection) -> None:
    third = "SELECT id, t FROM texts WHERE id % 3 = 1 ORDER BY hash(id)"
    con.execute(f"SET threads = 1; CREATE TABLE again AS SELECT id, {COLUMNS} FROM ({third})")
    different = " OR ".join(f"bulk.{name} IS DISTINCT FROM again.{name}" for name in CALLS)
    assert con.sql(f"SELECT count(*) FROM again JOIN bulk USING (id) WHERE {different}").fetchall() == [(0,)]


@pytest.mark.slow
def test_100000_texts_with_a_stub_encoder(con: Connection, tmp_path: Path) -> None:
    texts = generated_texts(100_000)
    in_bulk(con, tmp_path, texts)
    check(con, StubEncoder.dimensions, len(texts))
    check_in_another_order(con)
    check_alone(con, texts, step=500)


def run_with_the_real_encoder(count: int, folder: Path) -> None:
    texts = generated_texts(count, seed=1)
    with connect(folder / "texts.duckdb", cache=folder / "cache.sqlite") as con:
        in_bulk(con, folder, texts)
        check(con, 384, len(texts))
        check_in_another_order(con)
        con.execute("SET threads = 4")
    # Alone, and encoded anew: another cache.
    with connect(folder / "texts.duckdb", cache=False) as con:
        rows = con.sql(f"""
            SELECT count(*), max(1 - similarity(bulk.embedding, embed(bulk.t))) FROM bulk
            WHERE id % {max(1, count // 200)} = 0 AND length(t) < 10000 AND bulk.embedding IS NOT NULL
        """).fetchall()
        assert rows[0][0] > 100
        assert rows[0][1] < 1e-6


def test_2000_texts_with_the_real_encoder(tmp_path: Path) -> None:
    run_with_the_real_encoder(2_000, tmp_path)


@pytest.mark.slow
def test_all_texts_with_the_real_encoder(tmp_path: Path) -> None:
    """Ten minutes or more: every one of them goes through the model."""
    run_with_the_real_encoder(100_000, tmp_path)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_texts_at_all(con: Connection, texts: list[str]) -> None:
    rows = con.execute(f"SELECT t, {COLUMNS} FROM (SELECT unnest($1) AS t)", [texts]).fetchall()
    assert [row[0] for row in rows] == texts
    for row in rows:
        assert (row[1] is None) == (not row[0].strip())
        assert row[1] is None or len(row[1]) == StubEncoder.dimensions


def test_a_megabyte_goes_through_every_function(con: Connection) -> None:
    rows = con.execute(f"SELECT {COLUMNS} FROM (SELECT unnest($1) AS t)", [list(MEGABYTES)]).fetchall()
    assert len(rows) == len(MEGABYTES)
    assert [row[0] for row in rows] == [pytest.approx(StubEncoder.vector(text).tolist()) for text in MEGABYTES]
