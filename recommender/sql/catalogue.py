"""The recommender in SQL: `register(con, bundle=…)` adds what a bundle can say to a DuckDB connection.

The functions follow the rules of `coldstart_udfs.sql.catalogue`: a table describes them, and macros, comments, stubs,
the page and the tests are made from it. Their Python halves are in `recommender.sql.arrow_functions`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from coldstart_udfs.sql.catalogue import SETTINGS_VARIABLE, Catalogue, SqlFunction

if TYPE_CHECKING:
    import duckdb

    from coldstart_udfs.sql.arrow_functions import PythonFunction

# The settings of the connection, read when a query is planned: whoever registers the other functions anew, with another
# model say, need not register these again.
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
        "The k best items that a user has not had: rank, item_id, score, rung. The rung is warm for a user with "
        "history, cold for one of whom words or attributes alone are known, unknown (what sells) for an id that the "
        "bundle does not know, or none. A description stands in place of the one that the bundle holds.",
        "FROM recommend(description := 'vintage enamel for the garden', k := 5)",
        _ranking("_coldstart_recommend", "user_id"),
        stub=_fails("0::BIGINT AS rank, '' AS item_id, 0::DOUBLE AS score, '' AS rung"),
    ),
    SqlFunction(
        "audience", ("item_id := NULL", "description := NULL", "k := 10"), "TABLE",
        "The k users with history to whom an item would matter most, and who have not had it: rank, user_id, score, "
        "rung. The rung is the item's: warm, cold (known by words or attributes alone) or unknown. A description "
        "stands in place of the one that the bundle holds.",
        "FROM audience(description := 'red enamel lamp', k := 5)",
        _ranking("_coldstart_audience", "item_id"),
        stub=_fails("0::BIGINT AS rank, '' AS user_id, 0::DOUBLE AS score, '' AS rung"),
    ),
    SqlFunction(
        "score", ("user_id", "item_id"), "DOUBLE",
        "What recommend() ranks by, of one user and one item. For a NULL user, the item's expected demand over all "
        "users instead: a percentile of the catalogue, 0 to 100. An id that the bundle does not know counts as one of "
        "which nothing is known. A NULL item gives NULL.",
        "SELECT score('17850', '85123A')",
        "_coldstart_score(CAST(user_id AS VARCHAR), CAST(item_id AS VARCHAR), {bundle})",
    ),
    SqlFunction(
        "explain", ("user_id", "item_id"), "TABLE",
        "What a score is made of: term, kind, value; the values add up to score(user_id, item_id). NULL for either "
        "gives no rows.",
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


def register(con: duckdb.DuckDBPyConnection, bundle: str | os.PathLike[str]) -> None:
    """Add `recommend()`, `audience()`, `score()` and `explain()` to a connection.

    A connection without `embed()` and the rest gets them first, with their defaults. With which encoder descriptions
    are read, and whether they are redacted, is what `coldstart_udfs.register` was told, or is told later. As there,
    nothing is written into the database, a cursor registers for itself, and calling it again replaces the bundle.

    Args:
        con: an open connection.
        bundle: the folder of a trained recommender. It is read now, once for all connections that use it, and stays in
            memory until the last of them is closed or registers another one. What is later written to the folder
            counts from the next call.

    Raises:
        BundleError: no bundle, of another format, truncated or altered.

    Queries raise `FingerprintError` where a description is given and the connection's encoder is not the bundle's.
    """
    from coldstart_udfs.quoting import quote_text
    from coldstart_udfs.sql.connection import add_catalogue, is_registered
    from coldstart_udfs.sql.connection import register as register_kernel
    from recommender.sql.bundles import hold

    key = hold(con, Path(bundle))
    if not is_registered(con):
        register_kernel(con)
    add_catalogue(con, CATALOGUE, {"bundle": quote_text(key)})


def install_stubs(con: duckdb.DuckDBPyConnection) -> None:
    """Write macros of these names into the database, as `coldstart_udfs.install_stubs` does with its own.

    Raises:
        ColdStartError: the database is read-only, or has macros of its own under these names.
    """
    from coldstart_udfs.sql.connection import install_stubs as install

    install(con, CATALOGUE)
