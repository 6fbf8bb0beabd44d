"""Every statement of docs/sql-patterns.md runs, in its order, on a shop whose right answers a reader can tell."""

from __future__ import annotations

import re
from collections.abc import Iterator

import duckdb
import pytest

from coldstart_udfs import Encoder, connect
from tests.support.commands import ROOT

Connection = duckdb.DuckDBPyConnection
Results = tuple[Connection, list[list[tuple]]]

SHOP = """
    CREATE TABLE items AS SELECT * FROM (VALUES
        ('1', 'VINTAGE ENAMEL WATERING CAN, £12.50'), ('2', 'PINK BABY BIB'),
        ('3', 'SET OF 6 Emma Bridgewater RED MUGS'), ('4', NULL)) t(item_id, description);
    CREATE TABLE users AS SELECT unnest(['anna', 'bert', 'cleo']) AS user_id;
    CREATE TABLE interactions AS SELECT 'bert' AS user_id, '2' AS item_id, 2.0 AS weight;
    CREATE TABLE chat AS SELECT * FROM (VALUES
        ('anna', '<p>I look for  enamel &amp; zinc for my garden!!</p>', TIMESTAMP '2024-01-03'),
        ('anna', '<br>', TIMESTAMP '2024-01-04'),
        ('bert', repeat('soft toys for our baby, ', 60), TIMESTAMP '2024-01-01')) t(user_id, message, sent_at);
    CREATE TABLE reviews AS SELECT * FROM (VALUES
        ('anna', 'The watering can is lovely', TIMESTAMP '2024-01-02'),
        ('bert', 'Pink bib, very good', TIMESTAMP '2024-01-05')) t(user_id, review, written_at);
    CREATE TABLE searches AS SELECT * FROM (VALUES
        ('anna', 'enamel jug', TIMESTAMP '2024-01-01'), ('anna', 'enamel jug', TIMESTAMP '2024-01-06'),
        ('anna', NULL, TIMESTAMP '2024-01-07')) t(user_id, query, searched_at);
"""


@pytest.fixture(scope="module")
def patterns() -> list[str]:
    page = (ROOT / "docs" / "sql-patterns.md").read_text(encoding="utf-8")
    return re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def results(patterns: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    with connect(cache=tmp_path_factory.mktemp("cache") / "cache.sqlite") as con:
        con.execute(SHOP)
        yield con, [con.execute(statements).fetchall() for statements in patterns]


def test_a_description_is_gathered_cleaned_newest_first_within_the_limit(
    results: Results
) -> None:
    con, _ = results
    texts = dict(con.sql("FROM user_texts").fetchall())
    assert texts == {
        "anna": "enamel jug. I look for enamel & zinc for my garden!. The watering can is lovely",
        "bert": "Pink bib, very good",  # the chat message no longer fits
    }
    assert not Encoder(cache=False).truncated(texts.values()).any()


def test_only_what_is_new_or_changed_is_encoded(
    results: Results, patterns: list[str]
) -> None:
    con, _ = results
    incremental = patterns[1]
    con.execute(incremental)
    assert con.sql("SELECT count(*) FROM fresh").fetchall() == [(0,)]
    con.execute("UPDATE items SET description = 'BLUE BABY BIB' WHERE item_id = '2'")
    con.execute(incremental)
    assert con.sql("SELECT item_id FROM fresh").fetchall() == [("2",)]
    assert con.sql("SELECT count(*), count(DISTINCT item_id) FROM item_embeddings").fetchall() == [(3, 3)]
    con.execute("UPDATE item_embeddings SET embedding_fingerprint = 'another' WHERE item_id = '1'")
    con.execute(incremental)
    assert con.sql("SELECT item_id FROM fresh").fetchall() == [("1",)]


def test_neighbours_and_scores_are_what_a_reader_expects(results: Results) -> None:
    _, (_, _, nearest, beside, renamed, _, scores, tagged, stated) = results
    assert (nearest[0][0], nearest[0][3]) == ("1", 1)
    assert len(nearest) == 3
    assert [(user, item) for user, item, rank in beside if rank == 1] == [("anna", "1"), ("bert", "2")]
    assert renamed == [("3", 1)]
    best = {user: item for user, item, _ in reversed(scores)}
    assert (best["anna"], best["bert"]) == ("1", "2")
    assert [score for user, _, score in scores if user == "cleo"] == [None, None, None]  # unknown: no direction at all
    assert {("1", "metal", "material"), ("1", "2^3", "price"), ("2", "pink", "colour"), ("3", "red", "colour")} <= {
        row[:3] for row in tagged
    }
    assert {("3", "brand", "Emma Bridgewater", "Emma Bridgewater"), ("3", "quantity", "6", "SET OF 6")} <= set(stated)

