"""What is registered, documented and commented on is the catalogue, literally."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from coldstart_udfs import connect, install_stubs, register
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.sql.catalogue import FUNCTIONS, KERNEL, SqlFunction
from tests.support.encoders import StubEncoder

Connection = duckdb.DuckDBPyConnection

MACROS = """
    SELECT function_name, function_type, parameters, comment FROM duckdb_functions()
    WHERE database_name = '{}' AND function_type IN ('macro', 'table_macro')
"""


def as_listed(function: SqlFunction) -> tuple[str, str, list[str], str]:
    names = [parameter.split(" := ")[0] for parameter in function.parameters]
    return function.name, "table_macro" if function.is_table else "macro", names, function.description


def test_what_is_registered_is_the_catalogue(con: Connection) -> None:
    listed = con.sql(MACROS.format("temp")).fetchall()
    assert sorted(listed) == sorted(map(as_listed, FUNCTIONS))


def test_the_python_halves_are_registered_as_declared(con: Connection) -> None:
    rows = con.sql("""
        SELECT function_name, parameter_types, return_type, stability FROM duckdb_functions()
        WHERE function_name LIKE '\\_coldstart%' ESCAPE '\\'
    """).fetchall()
    declared = {
        function.name: (
            [str(con.type(kind)) for kind in function.parameters], str(con.type(function.returns)),
            "CONSISTENT" if function.deterministic else "VOLATILE",
        )
        for function in KERNEL.python_functions()
    }  # fmt: skip
    assert {name: (list(types), returns, stability) for name, types, returns, stability in rows} == declared


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_every_example_runs_and_gives_what_is_declared(con: Connection, function: SqlFunction) -> None:
    relation = con.sql(function.example)
    row = relation.fetchall()[0]
    assert all(value not in (None, []) for value in row)
    if not function.is_table:
        expression = function.example.removeprefix("SELECT ")
        field = expression.rpartition(").")[2] if ")." in expression else None
        declared = con.type(function.returns)
        expected = dict(declared.children)[field] if field else declared
        assert str(relation.types[0]) == str(expected)


def test_no_name_is_a_reserved_word_of_sql(con: Connection) -> None:
    rows = con.sql("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'").fetchall()
    reserved = {name for (name,) in rows}
    used = {name for function in FUNCTIONS for name in (function.name, *as_listed(function)[2])}
    assert used.isdisjoint(reserved)


def test_stubs_say_what_to_do_until_register_shadows_them(stub: StubEncoder, tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    with connect(path, model=stub) as con:  # type: ignore[arg-type]
        con.execute("CREATE TABLE items AS SELECT 'a' AS description, embed('a') AS embedding")
        install_stubs(con)
        con.execute("CREATE VIEW vectors AS SELECT embed(description) AS v FROM items")
        con.execute("CREATE VIEW alike AS FROM nearest('items', 'a')")
        assert con.sql("FROM vectors").fetchall() == [(pytest.approx(StubEncoder.vector("a").tolist()),)]
    with duckdb.connect(str(path)) as plain:
        for view, name in (("vectors", "embed"), ("alike", "nearest")):
            with pytest.raises(duckdb.Error, match=rf"{name}\(\) is not registered: run coldstart_udfs.register"):
                plain.sql(f"FROM {view}").fetchall()
        assert sorted(plain.sql(MACROS.format("shop")).fetchall()) == sorted(map(as_listed, FUNCTIONS))
        register(plain, model=stub)  # type: ignore[arg-type]
        assert len(plain.sql("FROM vectors").fetchall()) == 1
        assert plain.sql("SELECT rank FROM alike").fetchall() == [(1,)]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_every_stub_raises_its_own_name(function: SqlFunction) -> None:
    required = [parameter for parameter in function.parameters if ":=" not in parameter]
    with duckdb.connect() as con:
        con.execute("CREATE TABLE items AS SELECT [1.0] AS embedding")
        install_stubs(con)
        called = ", ".join(["'items'", "'a'"][:len(required)] if function.is_table else ["NULL"] * len(required))
        query = f"{'FROM' if function.is_table else 'SELECT'} {function.name}({called})"
        expected = rf"\b{function.name}\(\) is not registered: run coldstart_udfs.register\(con\)"
        with pytest.raises(duckdb.Error, match=expected):
            con.sql(query).fetchall()


def test_stubs_in_a_read_only_database_are_a_clear_error(tmp_path: Path) -> None:
    path = str(tmp_path / "shop.duckdb")
    duckdb.connect(path).close()
    with duckdb.connect(path, read_only=True) as con, pytest.raises(ColdStartError, match="open the database for wri"):
        install_stubs(con)


def test_stubs_never_take_the_place_of_somebodys_own_macros() -> None:
    with duckdb.connect() as con:
        con.execute("CREATE MACRO tags(x) AS x || '!'")
        with pytest.raises(ColdStartError, match="macros of its own called tags"):
            install_stubs(con)
        assert con.sql("SELECT tags('a')").fetchall() == [("a!",)]
        con.execute("DROP MACRO tags")
        install_stubs(con)
        install_stubs(con)
