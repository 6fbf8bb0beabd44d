"""What a connection's SQL functions need besides SQL literals: a given encoder, progress, objects of other packages.

DuckDB calls a Python function in its own threads and does not say for which connection. The macros of a connection
therefore pass the key of its `Registration`.

A registration is owned by the Python object of its connection. It is released when that object is garbage-collected,
or at the next registration of any connection after it was closed. Queries started before, such as an Arrow reader that
is still being read, then go on with the process's shared encoders and without progress.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, WeakKeyDictionary, WeakValueDictionary

import duckdb

from coldstart_udfs.encoder.progress import EncoderStats, EncodingProgress

if TYPE_CHECKING:
    from coldstart_udfs.encoder.encoder import Encoder


# Names of functions that are notes on a database.
_NOTE = "__coldstart_note_"
# What macros pass as the model of a connection that was given an encoder.
GIVEN = "(the encoder given to register)"


class Registration:
    """What one connection brought; made by `registration_of`.

    Attributes:
        key: what macros pass to find it.
        encoder: the connection's encoder, where `register` was given one instead of a name.
        functions: names of the Python functions that were created through this connection.
        held: objects of other packages, by a name of theirs, that live as long as the registration.
        progress: told what the connection's queries encode.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.encoder: Encoder | None = None
        self.functions: set[str] = set()
        self.held: dict[str, Any] = {}
        self.progress: tuple[EncodingProgress, ...] = ()


class Database:
    """What the connections of one database share; made by `database_of`.

    Attributes:
        given: the arguments that `register` was last called with on one of them, by name.
        encoder: the encoder among them, as long as somebody else holds it.
    """

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.encoder: ReferenceType[Encoder] | None = None


_owned: WeakKeyDictionary[duckdb.DuckDBPyConnection, Registration] = WeakKeyDictionary()
_by_key: WeakValueDictionary[str, Registration] = WeakValueDictionary()
_databases: WeakValueDictionary[str, Database] = WeakValueDictionary()
_keys = itertools.count(1)
_lock = threading.RLock()


def registration_of(con: duckdb.DuckDBPyConnection) -> Registration:
    """The registration of a connection, made if there is none; those of closed connections are released."""
    with _lock:
        if con not in _owned:
            for other in list(_owned):
                if _is_closed(other):
                    del _owned[other]
            registration = Registration(str(next(_keys)))
            _owned[con] = _by_key[registration.key] = registration
        return _owned[con]


def database_of(con: duckdb.DuckDBPyConnection) -> Database:
    """What the database of a connection shares with its cursors, made if there is nothing.

    DuckDB does not say which connections belong to one database, but all of them see its Python functions. So a
    function that is never called has the key of the record in its name, and holds the record.
    """
    with _lock:
        for name in _notes(con):
            known = _databases.get(name)
            if known is not None:
                return known
        database = Database()
        name = _note(con, str(next(_keys)), database)
        _databases[name] = database
        return database


def is_redacted(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether a connection to this database was ever registered with redaction, even if it is gone."""
    return f"{_NOTE}redacted" in _notes(con)


def mark_redacted(con: duckdb.DuckDBPyConnection) -> None:
    """Let `is_redacted` be true for the database from now on."""
    with _lock:
        if not is_redacted(con):
            _note(con, "redacted")


def _notes(con: duckdb.DuckDBPyConnection) -> list[str]:
    query = f"SELECT function_name FROM duckdb_functions() WHERE starts_with(function_name, '{_NOTE}')"
    return [name for (name,) in con.execute(query).fetchall()]


def _note(con: duckdb.DuckDBPyConnection, what: str, held: object = None) -> str:
    """Add a function that is never called, whose name is the note and which holds an object."""

    def note() -> bool:
        return held is not None

    # In a transaction that was rolled back this fails, and `register` says so when it adds the other functions.
    with contextlib.suppress(duckdb.NotImplementedException):
        con.create_function(f"{_NOTE}{what}", note, [], con.type("BOOLEAN"))
        registration_of(con).functions.add(f"{_NOTE}{what}")
    return f"{_NOTE}{what}"


def find_registration(key: str) -> Registration | None:
    """The registration with this key; None if it was released."""
    return _by_key.get(key)


def registrations() -> list[tuple[duckdb.DuckDBPyConnection, Registration]]:
    """The registrations of this process with their connections."""
    with _lock:
        return list(_owned.items())


@contextlib.contextmanager
def connection_progress(
    con: duckdb.DuckDBPyConnection, report: Callable[[EncoderStats], None] | None = None
) -> Iterator[EncodingProgress]:
    """Report what SQL functions encode for this connection while the block runs.

    Queries of other connections are not counted, even where they share the encoder. `cancel()` of the object that is
    given makes the query raise at its next run of texts, where DuckDB's own interrupt has to wait until a function
    returns.

    Args:
        con: a connection, registered before or inside the block.
        report: called with the counts so far, in one of DuckDB's threads.
    """
    progress, registration = EncodingProgress(report), registration_of(con)
    with _lock:
        registration.progress = (*registration.progress, progress)
    try:
        yield progress
    finally:
        with _lock:
            registration.progress = tuple(one for one in registration.progress if one is not progress)


def _is_closed(con: duckdb.DuckDBPyConnection) -> bool:
    try:
        con.query_progress()
    except duckdb.Error:
        return True
    return False
