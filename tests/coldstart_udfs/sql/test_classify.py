"""classify() in SQL."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest

from coldstart_udfs import connect
from coldstart_udfs.text.classify import Classifier
from tests.support.encoders import StubEncoder

Connection = duckdb.DuckDBPyConnection

EXAMPLES = [
    ("where is my card", "delivery"), ("it did not arrive", "delivery"), ("wrong PIN", "pin"), ("no PIN", "pin"),
]  # fmt: skip


@pytest.fixture
def shop(con: Connection) -> Connection:
    con.execute("CREATE TABLE examples (text VARCHAR, label VARCHAR)")
    con.executemany("INSERT INTO examples VALUES (?, ?)", EXAMPLES)
    con.execute("CREATE TABLE asked AS SELECT 'question ' || i AS text, i AS label FROM range(50) t(i)")
    return con


def one(con: Connection, expression: str) -> object:
    return con.sql(f"SELECT {expression}").fetchall()[0][0]


def test_sql_gives_what_python_gives(shop: Connection, stub: StubEncoder) -> None:
    classifier = Classifier.fit(stub, [text for text, _ in EXAMPLES], [label for _, label in EXAMPLES])  # type: ignore[arg-type]
    texts = [f"question {number}" for number in range(50)]
    middle = float(np.median(classifier.probabilities(texts).max(axis=1)))
    expected = classifier.predict(texts, threshold=middle)
    assert {choice.label for choice in expected if choice} == {None, "delivery", "pin"}
    rows = shop.sql(f"SELECT text, classify(text, 'examples', threshold := {middle!r}) FROM asked").fetchall()
    assert [text for text, _ in rows] == texts
    for (_, found), choice in zip(rows, expected, strict=True):
        assert choice is not None
        assert found == {"label": choice.label, "probability": pytest.approx(choice.probability, abs=1e-6)}


def test_the_examples_are_learned_from_once(shop: Connection, stub: StubEncoder) -> None:
    shop.execute("INSERT INTO examples VALUES ('PIN of this test', 'pin')")
    shop.execute("CREATE TABLE many AS SELECT 'text ' || i % 300 AS text FROM range(20000) t(i)")
    found = shop.sql("SELECT count(classify(text, 'examples').label), count(*) FROM many").fetchall()
    assert found == [(20_000, 20_000)]
    assert stub.seen.count("PIN of this test") == 1
    one(shop, "classify('again', 'examples')")
    shop.execute("CREATE VIEW other AS SELECT text, label FROM examples ORDER BY text")
    one(shop, "classify('again', 'other')")
    assert stub.seen.count("PIN of this test") == 1
    shop.execute("INSERT INTO examples VALUES ('how much is it', 'price')")
    assert one(shop, "classify('how much is it', 'examples').label") == "price"


def test_examples_are_a_table_a_view_or_a_cte_with_text_or_description(shop: Connection) -> None:
    expected = one(shop, "classify('where', 'examples')")
    shop.execute("CREATE VIEW seen AS SELECT label, text AS description, 1 AS other FROM examples")
    assert one(shop, "classify('where', 'seen')") == expected
    rows = shop.sql("WITH t AS (FROM examples) SELECT classify('where', 't')").fetchall()
    assert rows[0][0] == expected
    shop.execute("CREATE VIEW labelled AS SELECT *, classify(text, 'examples') AS found FROM asked")
    assert shop.sql("SELECT count(found.probability) FROM labelled").fetchall() == [(50,)]
    numbers = "WITH n AS (SELECT 1 AS text, 2 AS label UNION ALL SELECT 3, 4) SELECT classify(3, 'n').label"
    assert shop.sql(numbers).fetchall() == [("4",)]


def test_null_and_blank_texts_have_no_label(shop: Connection) -> None:
    rows = shop.sql("SELECT classify(t, 'examples') FROM (VALUES (NULL), (' '), ('where')) v(t)").fetchall()
    assert [row[0] is None for row in rows] == [True, True, False]
    assert shop.sql("SELECT classify(text, 'examples') FROM asked WHERE false").fetchall() == []


def test_the_threshold_may_be_a_column(shop: Connection) -> None:
    rows = shop.sql("""
        SELECT classify('where is my card', 'examples', threshold := t).label FROM (VALUES (0), (1), (NULL)) v(t)
    """).fetchall()
    assert rows == [("delivery",), (None,), ("delivery",)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("WITH e AS (SELECT text FROM examples) SELECT classify('a', 'e')", "e has no column label; it needs text"),
        ("WITH e AS (SELECT label FROM examples) SELECT classify('a', 'e')", "e has no column text; it needs text"),
        ("WITH e AS (SELECT 1 AS n) SELECT classify('a', 'e')", "e has no column text and no column label"),
        ("WITH e AS (FROM examples LIMIT 0) SELECT classify('a', 'e')", "e has no rows; insert examples"),
        ("WITH e AS (SELECT text, 'x' AS label FROM examples) SELECT classify('a', 'e')", "the label 'x' alone"),
        ("WITH e AS (SELECT text, NULL::VARCHAR AS label FROM examples) SELECT classify('a', 'e')", "e: 4 rows give 0"),
        ("SELECT classify('a', 'nowhere')", "nowhere does not exist"),
        ("SELECT classify('a', 'examples', threshold := 2)", "threshold is 2.0; it is a probability from 0 to 1"),
    ],
)
def test_errors_say_what_is_missing(shop: Connection, query: str, message: str) -> None:
    with pytest.raises(duckdb.Error, match=message):
        shop.sql(query).fetchall()


def test_private_data_in_examples_does_not_reach_the_encoder(stub: StubEncoder) -> None:
    with connect(model=stub, redact=True) as con:  # type: ignore[arg-type]
        con.execute("CREATE TABLE e (text VARCHAR, label VARCHAR)")
        con.execute("INSERT INTO e VALUES ('mail jo@example.com', 'mail'), ('a', 'b')")
        assert one(con, "classify('mail ann@example.com', 'e').label") == "mail"
    assert "mail <EMAIL>" in stub.seen
    assert not any("@" in text for text in stub.seen)


def test_several_threads_learn_once(shop: Connection, stub: StubEncoder) -> None:
    shop.execute("SET threads = 4")
    shop.execute("INSERT INTO examples VALUES ('of this test alone', 'pin')")
    shop.execute("CREATE TABLE many AS SELECT i, 'text ' || i % 100 AS text FROM range(250000) t(i)")
    rows = shop.sql("SELECT text, count(DISTINCT classify(text, 'examples')) FROM many GROUP BY text").fetchall()
    assert {count for _, count in rows} == {1}
    assert stub.seen.count("of this test alone") == 1
