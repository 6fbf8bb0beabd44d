"""The SQLite file of the vector cache: creating, opening and locking it, and moving it away if it is damaged."""

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

_APPLICATION_ID = 0x436F6C64  # "Cold": marks our files
_PATIENCE = 60  # seconds that a process waits for another

_SCHEMA = f"""
    PRAGMA application_id = {_APPLICATION_ID};
    CREATE TABLE IF NOT EXISTS encoders (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE);
    -- Rows are only appended, so that a commit touches few pages; the oldest are deleted first when the file is full.
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
    """Open a cache file; it is created if it does not exist.

    Raises:
        ColdStartError: the file is a SQLite database of another program.
    """
    connection = sqlite3.connect(path, timeout=_PATIENCE)
    try:
        # Vectors are read in random order; with the default of 2 MB the same pages would be read again and again.
        connection.execute("PRAGMA cache_size = -262144")
        if not _begun(connection, path):
            # One process at a time: SQLite does not wait for another process that switches WAL on.
            with lock_of(path, "begin").acquire(timeout=_PATIENCE):
                if not _begun(connection, path):
                    # A page holds ten vectors of 384 numbers; the default size holds two and wastes a quarter.
                    connection.execute("PRAGMA page_size = 16384")
                    # Processes can read while one process writes.
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        # Killing a process loses no committed rows; a power cut may lose the last commits.
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _begun(connection: sqlite3.Connection, path: Path) -> bool:
    # In one transaction, or another process could create the tables between the two queries.
    connection.execute("BEGIN")
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    connection.rollback()
    if owner not in (0, _APPLICATION_ID) or (tables and not owner):
        raise ColdStartError(f"{path} is a SQLite database of something else; choose another file as cache")
    return bool(owner)


def lock_of(path: Path, name: str) -> FileLock:
    """A lock between the processes that use a cache file, not acquired yet."""
    folder = path.with_name(path.name + ".locks")
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into a ColdStartError that says what to do; a damaged file is moved away.

    Raises:
        ColdStartError: the file is damaged or cannot be read.
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
        f"the vector cache {path} is damaged ({error}); it was moved to {aside}, and the next use creates a new one"
    )


def set_aside(path: Path, inode: int) -> Path:
    """Move a damaged file away if it still has this inode; returns its new path."""
    aside = aside_of(path)
    # Another process may have moved it first and created a new file, which stays.
    if inode_of(path) == inode:
        with suppress(FileNotFoundError):
            os.replace(path, aside)
        for file in files_of(path)[1:]:
            file.unlink(missing_ok=True)
    return aside


def aside_of(path: Path) -> Path:
    """The path that a damaged file is moved to."""
    return path.with_name(path.name + ".damaged")


def files_of(path: Path) -> list[Path]:
    """A SQLite file with its write-ahead log and shared memory."""
    return [path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm"))]


def inode_of(path: Path) -> int:
    """The inode of the file now at this path; -1 if there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def encoder_id(connection: sqlite3.Connection, fingerprint: str) -> int:
    """The id of an encoder; -1 if the file has none of its vectors."""
    row = connection.execute("SELECT id FROM encoders WHERE fingerprint = ?", [fingerprint]).fetchone()
    return int(row[0]) if row else -1


def seed_of(fingerprint: str) -> int:
    """The start value for the checksums of an encoder's vectors."""
    return zlib.crc32(fingerprint.encode())


def checksum_of(seed: int, key: bytes, vector: bytes) -> int:
    """The checksum over fingerprint, key and numbers, which detects damaged rows."""
    return zlib.crc32(vector, zlib.crc32(key, seed))
