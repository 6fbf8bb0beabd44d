"""Register the SQL functions of the catalogue on a DuckDB connection."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import ref

import duckdb

from coldstart_udfs.encoder.backends import require
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.quoting import quote_name, quote_text
from coldstart_udfs.settings import Enrichment
from coldstart_udfs.sql.catalogue import KERNEL, SETTINGS_VARIABLE, Catalogue, SqlFunction
from coldstart_udfs.sql.registration import (
    GIVEN,
    database_of,
    is_redacted,
    mark_redacted,
    registration_of,
    registrations,
)

if TYPE_CHECKING:
    from coldstart_udfs.encoder.encoder import Encoder

# If two threads find a function missing and both add it, the second one fails.
_registering = threading.Lock()


def register(
    con: duckdb.DuckDBPyConnection,
    *,
    model: str | os.PathLike[str] | Encoder | None = None,
    backend: str | None = None,
    cache: bool | str | os.PathLike[str] | None = None,
    enrichment: str | os.PathLike[str] | Enrichment | None = None,
    redact: bool | None = None,
) -> None:
    """Add `embed()`, `enrich()` and the other functions of the catalogue to a connection.

    Nothing is written to the database file, so read-only databases work. The macros are visible to this connection
    only: call `register` on every cursor that uses them. A cursor, or another connection to the same database, takes
    the settings that it is not given from the connection that was registered last: `model`, `backend` and `enrichment`
    if none of the three is given, and `cache`. Calling it again on one connection replaces these settings.

    Redaction stays on: once a connection of a database was registered with `redact=True`, it is on for all that are
    registered later, unless they say `redact=False`.

    Args:
        con: an open connection. Keep it as long as its functions are used: on DuckDB 1.4 and 1.5 they must not
            outlive it.
        model: the default encoder: a folder, a sentence-transformers name, or an `Encoder`; None is the one that
            `enrichment` names, else the embedded one. A given `Encoder` is kept until the connection is registered
            again or released (see `coldstart_udfs.sql.registration`).
        backend: what runs it; None is the one that `enrichment` records, else "auto". See `Encoder`. With a given
            `Encoder`, `backend` and `cache` apply to models that a query names.
        cache: True (the default) for the machine's vector cache, False for none, or a path.
        enrichment: α, β and the evidence scale, or the path of an `enrichment.json`; None for the defaults.
        redact: replace private data in every text, as the SQL function `redact` does, before it is encoded, so that
            encoder, cache and error messages never contain it. None is False, unless it is on in the database.

    Raises:
        ColdStartError: `enrichment` cannot be read, or the backend does not exist or is not installed.

    >>> con = duckdb.connect()
    >>> register(con, cache=False)
    >>> con.sql("SELECT len(embed('a red lamp')), embed(NULL), profile([[1, 0], [0, 1]], [2, 3])").fetchall()
    [(384, None, [2.0, 3.0])]
    """
    database, first = database_of(con), not is_registered(con)
    inherited = database.given if first else {}
    if inherited and model is None and backend is None and enrichment is None:
        model, backend, enrichment = (inherited[name] for name in ("model", "backend", "enrichment"))
        if model == GIVEN:
            model = database.encoder() if database.encoder else None
            if model is None:
                raise ColdStartError(
                    "the connection that this one belongs to was registered with an Encoder, which was released; pass "
                    "model=… to register"
                )
    cache = inherited.get("cache", True) if cache is None else cache
    redact = is_redacted(con) if redact is None else redact
    given = Enrichment() if enrichment is None else enrichment
    settings = given if isinstance(given, Enrichment) else Enrichment.read(Path(given))
    if backend not in (None, "auto"):
        require(backend)
    registration = registration_of(con)
    registration.encoder = None
    registration.held.pop("taggers", None)
    if model is None:
        name = settings.model or ""
    elif isinstance(model, (str, os.PathLike)):
        name = os.fspath(model)
    else:
        name, registration.encoder = GIVEN, model
    text = "CAST(text AS VARCHAR)"
    literals = {
        "text": f"_coldstart_redact({text})" if redact else text,
        "redact": "'1'" if redact else "'0'",
        "model": quote_text(name),
        "connection": quote_text(registration.key),
        "backend": quote_text(backend or settings.backend or ""),
        "cache": quote_text({True: "1", False: "0"}[cache] if isinstance(cache, bool) else os.fspath(cache)),
        "alpha": f"{settings.alpha!r}::DOUBLE",
        "beta": f"{settings.beta!r}::DOUBLE",
        "scale": f"'{settings.evidence_scale!r}'::DOUBLE",
    }
    add_catalogue(con, KERNEL, literals)
    if redact:
        mark_redacted(con)
    database.encoder = ref(registration.encoder) if registration.encoder else None
    database.given = {
        "model": GIVEN if registration.encoder else model, "backend": backend, "enrichment": settings, "cache": cache,
    }  # fmt: skip
    fields = ", ".join(f"'{name}': {literals[name]}" for name in ("model", "backend", "cache", "connection", "redact"))
    con.execute(f"SET VARIABLE {SETTINGS_VARIABLE} = {{{fields}}}")


def is_registered(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether `register` was called on this connection; other cursors of the database do not count.

    >>> con = connect(cache=False)
    >>> is_registered(con), is_registered(con.cursor())
    (True, False)
    """
    found = con.execute(f"SELECT getvariable('{SETTINGS_VARIABLE}') IS NOT NULL").fetchall()
    return bool(found[0][0])


def add_catalogue(con: duckdb.DuckDBPyConnection, catalogue: Catalogue, literals: Mapping[str, str]) -> None:
    """Add the functions of a catalogue to a connection, or replace them. Other packages add theirs with it.

    Args:
        con: an open connection.
        catalogue: the functions; their names must differ from those of other catalogues.
        literals: SQL for the placeholders in the bodies of the macros.

    Raises:
        ColdStartError: the connection was registered in a transaction that was rolled back.
    """
    with _registering:
        _add_python_functions(con, catalogue)
    for macro in catalogue.functions:
        _create_macro(con, "TEMP MACRO", macro, macro.body.format_map(literals))


def install_stubs(con: duckdb.DuckDBPyConnection, catalogue: Catalogue = KERNEL) -> None:
    """Write macros that fail with instructions into the database, for connections without `register`.

    A view over `embed()` is stored in the database file, but the function is not. With the stubs, querying such a view
    without `register` says what to do; DuckDB would only say that a function does not exist. `register` shadows them.

    Args:
        con: an open connection; the stubs are written to its current database and schema.
        catalogue: the functions.

    Raises:
        ColdStartError: the database is read-only, or has other macros with these names.

    >>> con = duckdb.connect()
    >>> install_stubs(con)
    >>> try:
    ...     con.sql("SELECT embed('a red lamp')").fetchall()
    ... except duckdb.Error as error:
    ...     print(error)
    Invalid Input Error: embed() is not registered: run coldstart_udfs.register(con)
    """
    own = con.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN ('macro', 'table_macro') "
        "AND database_name = current_database() AND schema_name = current_schema() "
        "AND function_name IN (SELECT unnest($1)) AND NOT contains(macro_definition, $2) ORDER BY 1",
        [[macro.name for macro in catalogue.functions], catalogue.stub_text],
    ).fetchall()  # fmt: skip
    if own:
        raise ColdStartError(
            f"the database has macros of its own called {', '.join(name for (name,) in own)}; rename them, or go "
            "without stubs (register shadows them in its own connection)"
        )
    for macro in catalogue.functions:
        try:
            _create_macro(con, "MACRO", macro, _failing(macro, macro.name + catalogue.stub_text))
        except duckdb.InvalidInputException as error:
            raise ColdStartError(f"the stubs cannot be written: {error}; open the database for writing") from None


def add_hints(con: duckdb.DuckDBPyConnection, catalogue: Catalogue, hint: str) -> None:
    """Make the functions of a catalogue that is not registered fail with a hint, on this connection.

    Functions and macros of the database with these names stay as they are.

    Args:
        con: an open connection.
        catalogue: the functions.
        hint: follows the name of the function in the error.
    """
    taken = {name for (name,) in con.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()}
    for macro in catalogue.functions:
        if macro.name not in taken:
            _create_macro(con, "TEMP MACRO", macro, _failing(macro, macro.name + hint))


def _failing(macro: SqlFunction, message: str) -> str:
    """The body of a macro that fails with the message."""
    failure = f"error({quote_text(message)})"
    return macro.stub.format(failure=failure) if macro.is_table else f"CAST({failure} AS {macro.returns})"


def _add_python_functions(con: duckdb.DuckDBPyConnection, catalogue: Catalogue) -> None:
    present = {
        name for (name,) in con.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    }
    for function in catalogue.python_functions():
        if function.name in present:
            continue
        try:
            con.create_function(  # type: ignore[call-overload]  # the stubs know enums, DuckDB takes their names
                function.name, function.call, [con.type(sql_type) for sql_type in function.parameters],
                con.type(function.returns), type="arrow", null_handling="special",
                side_effects=not function.deterministic,
            )  # fmt: skip
        except duckdb.NotImplementedException:
            # The connection still knows the function, but the database does not.
            raise ColdStartError(
                "this connection was registered in a transaction that was rolled back, and DuckDB takes the functions "
                "from it only once; register a new cursor or connection, before BEGIN"
            ) from None
        registration_of(con).functions.add(function.name)


def _create_macro(con: duckdb.DuckDBPyConnection, kind: str, macro: SqlFunction, body: str) -> None:
    table = "TABLE " if macro.is_table else ""
    con.execute(f"CREATE OR REPLACE {kind} {macro.signature} AS {table}{body}")
    # Without a schema, the comment would be set on the TEMP macro that shadows a stub.
    place = "" if kind.startswith("TEMP") else _current_schema(con)
    con.execute(f"COMMENT ON MACRO {table}{place}{macro.name} IS {quote_text(macro.description)}")


def _current_schema(con: duckdb.DuckDBPyConnection) -> str:
    ((database, schema),) = con.execute("SELECT current_database(), current_schema()").fetchall()
    return f"{quote_name(database)}.{quote_name(schema)}."


def connect(
    database: str | Path = ":memory:",
    *,
    read_only: bool = False,
    model: str | os.PathLike[str] | Encoder | None = None,
    backend: str | None = None,
    cache: bool | str | os.PathLike[str] | None = None,
    enrichment: str | os.PathLike[str] | Enrichment | None = None,
    redact: bool | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB database with the functions registered; the arguments are `register`'s.

    >>> connect(cache=False).sql("SELECT similarity([1, 0], [2, 0])").fetchall()
    [(1.0,)]
    """
    con = duckdb.connect(str(database), read_only=read_only)
    register(con, model=model, backend=backend, cache=cache, enrichment=enrichment, redact=redact)
    return con


@atexit.register
def _unregister() -> None:
    """Functions that are still registered when the interpreter exits make DuckDB 2.0 print about leaks."""
    for con, registration in registrations():
        for name in registration.functions:
            with contextlib.suppress(duckdb.Error):  # closed already
                con.remove_function(name)
