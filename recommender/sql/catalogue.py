"""The recommender in SQL: `register(con, bundle=…)` adds the functions of a bundle to a DuckDB connection.

As in `coldstart_udfs.sql.catalogue`, a table describes the functions; macros, comments, stubs, the reference page and
the tests are made from it. The Python functions are in `recommender.sql.arrow_functions`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from coldstart_udfs.sql.catalogue import SETTINGS_VARIABLE, Catalogue, SqlFunction

if TYPE_CHECKING:
    import duckdb

    from coldstart_udfs.sql.arrow_functions import PythonFunction

# The settings of the connection, read when a query is planned. If the other functions are registered again, for example
# with another model, these need not be.
_SETTINGS = f"getvariable('{SETTINGS_VARIABLE}')"
_ENCODER = f"{_SETTINGS}.model, {_SETTINGS}.backend, {_SETTINGS}.cache, {_SETTINGS}.connection"
_DESCRIPTION = (
    f"CASE WHEN {_SETTINGS}.redact = '1' THEN _coldstart_redact(CAST(description AS VARCHAR)) "
    "ELSE CAST(description AS VARCHAR) END"
)


def _ranking(function: str, asked: str) -> str:
    return f"""
SELECT * FROM (
    SELECT unnest(
        {function}(CAST({asked} AS VARCHAR), {_DESCRIPTION}, CAST(k AS BIGINT), {{bundle}}, {_ENCODER}),
        recursive := true
    )
)
ORDER BY rank
"""


def _fails(columns: str) -> str:
    return f"SELECT {columns} WHERE CAST({{failure}} AS BOOLEAN)"


FUNCTIONS = (
    SqlFunction(
        "recommend", ("user_id := NULL", "description := NULL", "k := 10"), "TABLE",
        "The k best items that the user has not interacted with: rank, item_id, score, tier. The tier is warm for "
        "users with history, cold for users with a description or attributes only, and unknown for NULL or an id that "
        "is not in the bundle; unknown users get popular items. With a link to another shop it is linked for users who "
        "are known there alone. A description replaces the one in the bundle.",
        "FROM recommend(description := 'vintage enamel for the garden', k := 5)",
        _ranking("_coldstart_recommend", "user_id"),
        stub=_fails("0::BIGINT AS rank, '' AS item_id, 0::DOUBLE AS score, '' AS tier"),
    ),
    SqlFunction(
        "audience", ("item_id := NULL", "description := NULL", "k := 10"), "TABLE",
        "The k best users for an item, of those with history who have not interacted with it: rank, user_id, score, "
        "tier. The score is score(user_id, item_id) plus how much the user does, so that users are comparable. The "
        "tier is the item's: warm, cold (a description or attributes only) or unknown. A description replaces the one "
        "in the bundle. k is a number of rows; campaign_audience() spends a budget on probabilities.",
        "FROM audience(description := 'red enamel lamp', k := 5)",
        _ranking("_coldstart_audience", "item_id"),
        stub=_fails("0::BIGINT AS rank, '' AS user_id, 0::DOUBLE AS score, '' AS tier"),
    ),
    SqlFunction(
        "score", ("user_id", "item_id"), "DOUBLE",
        "The score of one user and one item, by which recommend() ranks. For a NULL user, the item's expected demand "
        "over all users: a percentile of the catalogue, 0 to 100. An id that is not in the bundle has no features. A "
        "NULL item gives NULL.",
        "SELECT score('17850', '85123A')",
        "_coldstart_score(CAST(user_id AS VARCHAR), CAST(item_id AS VARCHAR), {bundle})",
    ),
    SqlFunction(
        "expected_demand", ("item_id := NULL", "description := NULL", "level := 0.9"), "TABLE",
        "How many buyers an item has or, without buyers, may be expected to get from its words and attributes: "
        "percentile (0 to 100, among the items with history), buyers, low, high, tier. The share `level` of new items "
        "lies between low and high. An item with buyers has their number in all three. A description replaces the one "
        "in the bundle.",
        "FROM expected_demand(description := 'red enamel lamp')",
        f"""
SELECT unnest(
    _coldstart_expected_demand(
        CAST(item_id AS VARCHAR), {_DESCRIPTION}, CAST(level AS DOUBLE), {{bundle}}, {_ENCODER}
    ),
    recursive := true
)
""",
        stub=_fails("0::DOUBLE AS percentile, 0::DOUBLE AS buyers, 0::BIGINT AS low, 0::BIGINT AS high, '' AS tier"),
    ),
    SqlFunction(
        "explain", ("user_id", "item_id"), "TABLE",
        "The terms of a score: term, kind, value; the values add up to score(user_id, item_id). If either argument is "
        "NULL, there are no rows.",
        "FROM explain('17850', '85123A')",
        "SELECT unnest(_coldstart_explain(CAST(user_id AS VARCHAR), CAST(item_id AS VARCHAR), {bundle}), "
        "recursive := true)",
        stub=_fails("'' AS term, '' AS kind, 0::DOUBLE AS \"value\""),
    ),
)  # fmt: skip


def _python_functions() -> tuple[PythonFunction, ...]:
    from recommender.sql.arrow_functions import PYTHON_FUNCTIONS

    return PYTHON_FUNCTIONS


CATALOGUE = Catalogue(FUNCTIONS, _python_functions, "recommender.register(con, bundle=…)")


def register(
    con: duckdb.DuckDBPyConnection, bundle: str | os.PathLike[str], repo: str | os.PathLike[str] | None = None
) -> None:
    """Add `recommend()`, `audience()`, `score()`, `expected_demand()` and `explain()` to a connection.

    If the connection lacks `embed()` and the other functions, they are registered first: a cursor with the settings of
    its connection, others with defaults. The encoder and the redaction of descriptions are those of
    `coldstart_udfs.register`, also if it is called later. As there, nothing is written to the database, each cursor
    registers for itself, and another call replaces the bundle.

    Args:
        con: an open connection.
        bundle: the folder of a trained recommender. It is read now, once for all connections that use it, and stays in
            memory until the last of them is closed or registers another one. What is later written to the folder
            counts from the next call.
        repo: the Feast repository of the shop. If `coldstart link` has linked it to another shop, users who are new
            here are ranked by their profiles there; their tier is "linked". The link, and who is in it, are read now.

    Raises:
        BundleError: there is no bundle, or it has another format, or it is truncated or changed.
        ColdStartError: there is no such repository.

    Queries with a description raise `FingerprintError` if the connection's encoder is not the bundle's.
    """
    from coldstart_udfs.quoting import quote_text
    from coldstart_udfs.sql.connection import add_catalogue, is_registered
    from coldstart_udfs.sql.connection import register as register_kernel
    from recommender.sql.bundles import hold

    key = hold(con, Path(bundle), None if repo is None else Path(repo))
    if not is_registered(con):
        register_kernel(con)
    add_catalogue(con, CATALOGUE, {"bundle": quote_text(key)})


def hint(con: duckdb.DuckDBPyConnection) -> None:
    """Make `recommend()` and the other functions of a bundle fail with how to open one, on a connection without one."""
    from coldstart_udfs.sql.connection import add_hints

    add_hints(
        con, CATALOGUE, "() needs a trained recommender: run `coldstart sql --bundle data/bundle`, or "
        "recommender.register(con, bundle='data/bundle') in Python; `coldstart train` makes the bundle",
    )  # fmt: skip


def install_stubs(con: duckdb.DuckDBPyConnection) -> None:
    """Write stub macros with these names into the database, as `coldstart_udfs.install_stubs` does.

    Raises:
        ColdStartError: the database is read-only, or has other macros with these names.
    """
    from coldstart_udfs.sql.connection import install_stubs as install

    install(con, CATALOGUE)
