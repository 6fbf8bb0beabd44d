"""The statements of docs/how-to/sql-recipes.md give what a reader expects, on the shop that the page creates."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from coldstart_udfs import Encoder, connect
from tests.support.commands import ROOT
from tests.support.pages import blocks_of

Connection = duckdb.DuckDBPyConnection
Results = tuple[Connection, list[list[tuple]]]

@pytest.fixture(scope="module")
def recipes() -> list[str]:
    return [block.text for block in blocks_of(ROOT / "docs" / "how-to" / "sql-recipes.md") if block.language == "sql"]


@pytest.fixture(scope="module")
def results(recipes: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    with connect(cache=tmp_path_factory.mktemp("cache") / "cache.sqlite") as con:
        yield con, [con.execute(statements).fetchall() for statements in recipes]


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


def test_private_data_are_redacted_in_each_language(results: Results) -> None:
    assert results[1][3] == [("我的电话是<PHONE>，密码是<SECRET>", "Tel. <PHONE>, <ADDRESS>")]


def test_only_what_is_new_or_changed_is_encoded(
    results: Results, recipes: list[str]
) -> None:
    con, _ = results
    incremental = recipes[4]
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
    _, (_, _, _, _, _, _, nearest, beside, renamed, _, scores, tagged, stated, *_) = results
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

