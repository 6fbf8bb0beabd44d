"""The SQLite file that vectors are kept in: how it is begun, opened, locked, and set aside when it is damaged."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from coldstart_udfs.errors import ColdStartError

KEYS_PER_QUERY = 500
DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_SHORT_READ}

_APPLICATION_ID = 0x436F6C64  # "Cold": how our files are told from anybody else's
_PATIENCE = 60  # seconds that one process waits for another

_SCHEMA = f"""
    PRAGMA application_id = {_APPLICATION_ID};
    CREATE TABLE IF NOT EXISTS encoders (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE);
    -- Rows are only ever appended, so that a commit touches few pages; the oldest go first when it is full.
    CREATE TABLE IF NOT EXISTS vectors (
        id INTEGER PRIMARY KEY,
        encoder INTEGER NOT NULL,
        key BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        vector BLOB NOT NULL,
        UNIQUE (encoder, key)
    );
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open a cache file, begun if it is not there.

    Raises:
        ColdStartError: it is a SQLite database of something else.
    """
    connection = sqlite3.connect(path, timeout=_PATIENCE)
    try:
        # Vectors are read in no order of theirs; with the usual 2 MB the same pages would be read again and again.
        connection.execute("PRAGMA cache_size = -262144")
        if not _begun(connection, path):
            # One process at a time: SQLite does not wait for another that turns WAL on at the same moment.
            with lock_of(path, "begin").acquire(timeout=_PATIENCE):
                if not _begun(connection, path):
                    # Ten vectors of 384 numbers a page; the default size holds two and wastes a quarter.
                    connection.execute("PRAGMA page_size = 16384")
                    # Readers go on while one process writes.
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        # A process may be killed at any moment and nothing committed is lost; a power cut may cost the last commits.
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _begun(connection: sqlite3.Connection, path: Path) -> bool:
    # In one transaction, or another process could begin the file between the two answers.
    connection.execute("BEGIN")
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    connection.rollback()
    if owner not in (0, _APPLICATION_ID) or (tables and not owner):
        raise ColdStartError(f"{path} is a SQLite database of something else; choose another file as cache")
    return bool(owner)


def lock_of(path: Path, name: str) -> FileLock:
    """A lock among the processes that use a cache file, not taken yet."""
    folder = path.with_name(path.name + ".locks")
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one that says what to do; a damaged file is set aside.

    Raises:
        ColdStartError: the file is damaged, or cannot be read.
    """
    before = inode_of(path)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in DAMAGE:
            raise ColdStartError(f"{path} cannot be read: {error}") from None
        raise _damaged(path, before, error) from None
    except sqlite3.DatabaseError as error:
        raise _damaged(path, before, error) from None
    except OSError as error:
        raise ColdStartError(f"{path} cannot be read: {error}") from None


def _damaged(path: Path, inode: int, error: Exception) -> ColdStartError:
    aside = set_aside(path, inode)
    return ColdStartError(
        f"the vector cache {path} is damaged ({error}); it was moved to {aside}, and the next use begins a new one"
    )


def set_aside(path: Path, inode: int) -> Path:
    """Move a damaged file out of the way, if it still has this inode; where it is then."""
    aside = aside_of(path)
    # Another process may have seen the damage first and begun a new file: that one stays.
    if inode_of(path) == inode:
        with suppress(FileNotFoundError):
            os.replace(path, aside)
        for file in files_of(path)[1:]:
            file.unlink(missing_ok=True)
    return aside


def aside_of(path: Path) -> Path:
    """Where a damaged file is moved to."""
    return path.with_name(path.name + ".damaged")


def files_of(path: Path) -> list[Path]:
    """All that SQLite keeps of a file."""
    return [path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm"))]


def inode_of(path: Path) -> int:
    """Which file stands there now; -1 if none does."""
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def encoder_id(connection: sqlite3.Connection, fingerprint: str) -> int:
    """The row of an encoder; -1 if nothing of it is kept."""
    row = connection.execute("SELECT id FROM encoders WHERE fingerprint = ?", [fingerprint]).fetchone()
    return int(row[0]) if row else -1


def seed_of(fingerprint: str) -> int:
    """What the checksums of one encoder's vectors begin with."""
    return zlib.crc32(fingerprint.encode())


def checksum_of(seed: int, key: bytes, vector: bytes) -> int:
    """Of fingerprint, key and numbers: none is served that was not stored."""
    return zlib.crc32(vector, zlib.crc32(key, seed))
