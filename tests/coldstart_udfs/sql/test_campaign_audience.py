"""`campaign_audience()`: a budget, a break-even and a cap, on tables whose right answer is seen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import duckdb
import pytest

from coldstart_udfs import connect

CANDIDATES = """
    CREATE TABLE candidates AS SELECT * REPLACE (probability::DOUBLE AS probability) FROM (VALUES
        ('ann', 'spring', 0.5, 0), ('bob', 'spring', 0.3, 2), ('cat', 'spring', 0.9, 1), ('ann', 'summer', 0.4, 0),
        ('dan', 'spring', NULL, 0), ('eve', 'spring', 0.0, 0)
    ) AS t(user_id, campaign_id, probability, contacts)
"""


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as con:
        con.execute(CANDIDATES)
        yield con


def chosen(con: duckdb.DuckDBPyConnection, arguments: str = "") -> list[tuple[str, str]]:
    """The user and the campaign of each contact, in their order."""
    return con.execute(f"SELECT user_id, campaign_id FROM campaign_audience('candidates'{arguments})").fetchall()


def test_likeliest_come_first_and_who_has_no_probability_never_comes(con: duckdb.DuckDBPyConnection) -> None:
    assert chosen(con) == [("cat", "spring"), ("ann", "spring"), ("ann", "summer"), ("bob", "spring")]


def test_rank_and_spent_stand_in_place_of_columns_so_called(con: duckdb.DuckDBPyConnection) -> None:
    found = con.sql("""
        WITH t AS (SELECT user_id, probability, 7 AS rank, 8 AS spent, 9 AS cost FROM candidates)
        FROM campaign_audience('t', budget := 5, cost := 2)
    """)
    assert found.columns == ["user_id", "probability", "cost", "contacts", "rank", "spent"]
    assert found.fetchall() == [("cat", 0.9, 9, 0, 1, 2), ("ann", 0.5, 9, 0, 2, 4)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (", budget := 2", [("cat", "spring"), ("ann", "spring")]),
        (", budget := 0", []),
        (", budget := 0.3, cost := 0.1", [("cat", "spring"), ("ann", "spring"), ("ann", "summer")]),
        (", budget := 2.9, cost := 1.5", [("cat", "spring")]),
        (", value := 2.5", [("cat", "spring"), ("ann", "spring")]),  # 0.4 × 2.5 is no more than a contact costs
        (", value := 10, cost := 4", [("cat", "spring"), ("ann", "spring")]),
        (", cap := 1", [("ann", "spring")]),  # cat and bob were contacted before
        (", cap := 2", [("cat", "spring"), ("ann", "spring"), ("ann", "summer")]),
        (", cap := 3, budget := 4, value := 100", chosen),
    ],
)
def test_budget_value_and_cap(con: duckdb.DuckDBPyConnection, arguments: str, expected: object) -> None:
    assert chosen(con, arguments) == (expected(con) if callable(expected) else expected)


def test_nobody_is_not_contacted_and_texts_of_numbers_are_numbers(con: duckdb.DuckDBPyConnection) -> None:
    query = "WITH t AS (FROM (VALUES (NULL, '0.9'), ('ann', '0.5')) AS v(user_id, probability)) "
    assert con.execute(query + "SELECT user_id, rank FROM campaign_audience('t')").fetchall() == [("ann", 1)]


def test_no_other_choice_within_the_budget_and_the_cap_expects_more(con: duckdb.DuckDBPyConnection) -> None:
    rows = con.execute("SELECT user_id, probability, contacts FROM candidates WHERE probability > 0").fetchall()
    allowed = [
        choice for size in range(3) for choice in combinations(rows, size)
        if all(sum(other[0] == one[0] for other in choice) + one[2] <= 2 for one in choice)
    ]  # fmt: skip
    best = max(sum(float(one[1]) for one in choice) for choice in allowed)
    query = "SELECT sum(probability) FROM campaign_audience('candidates', budget := 2, cap := 2)"
    assert float(con.execute(query).fetchall()[0][0]) == pytest.approx(best)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("FROM campaign_audience('candidates', cost := 0)", "cost is 0; it is that of one contact, above 0"),
        ("FROM campaign_audience('candidates', cost := 'nan'::DOUBLE)", "cost is nan; it is that of one contact"),
        ("FROM campaign_audience('candidates', budget := 'nan'::DOUBLE)", "budget is nan; it must be 0 or more"),
        ("FROM campaign_audience('candidates', value := 'nan'::DOUBLE)", "value is nan; it must be 0 or more"),
        ("FROM campaign_audience('candidates', cap := -1)", "cap is -1; it must be 0 or more, or NULL for no limit"),
        ("WITH t AS (SELECT 'a' AS user_id, 1.5 AS probability) FROM campaign_audience('t')", "between 0 and 1"),
        ("WITH t AS (SELECT 'a' AS user_id, 'nan'::DOUBLE AS probability) FROM campaign_audience('t')", "is nan"),
        ("WITH t AS (SELECT 'a' AS user_id) FROM campaign_audience('t')", "probability"),
    ],
)
def test_errors_say_what_is_wrong(con: duckdb.DuckDBPyConnection, query: str, message: str) -> None:
    with pytest.raises(duckdb.Error, match=message):
        con.execute(query).fetchall()
