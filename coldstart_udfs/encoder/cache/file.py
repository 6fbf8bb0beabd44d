"""The SQLite file of the vector cache: creating, opening and locking it, and moving it away if it is damaged.

Only a file that is, or once was, a vector cache is ever changed, moved or deleted (`check_owner`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from coldstart_udfs.encoder.cache.salt import salt_id
from coldstart_udfs.encoder.places import make_private, own_folder
from coldstart_udfs.errors import ColdStartError

T = TypeVar("T")

KEYS_PER_QUERY = 500
DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_SHORT_READ}

_NAME = "embeddings.sqlite"
_APPLICATION_ID = 0x436F6C64  # "Cold": marks our files
_VERSION = 1  # with salted keys
_PATIENCE = 60  # seconds that a process waits for another

_ENCODERS = "CREATE TABLE encoders (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL"  # in every version
_SCHEMA = f"""
    PRAGMA application_id = {_APPLICATION_ID};
    PRAGMA user_version = {_VERSION};
    {_ENCODERS}, salt BLOB NOT NULL, UNIQUE (fingerprint, salt));
    -- Rows are only appended, so that a commit touches few pages; the oldest are deleted first when the file is full.
    CREATE TABLE vectors (
        id INTEGER PRIMARY KEY,
        encoder INTEGER NOT NULL,
        key BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        vector BLOB NOT NULL,
        UNIQUE (encoder, key)
    );
"""


# What SQLite's file format (https://www.sqlite.org/fileformat2.html) has at the beginning of a file.
_MAGIC = b"SQLite format 3\0"
_OWNER = slice(68, 72)
_ROOT = slice(100, 105)  # kind of the first page, and its number of cells at the end: entries of the schema
_ENTRY = b"table" + 2 * b"encoders"  # an entry of the schema: its kind, its name, its table
_NO_TABLES = b"\x0d\0\0\0\0"


class Damage(sqlite3.DatabaseError):
    """A vector cache whose contents contradict each other."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def default_path() -> Path:
    """The machine's cache file: `embeddings.sqlite` in the user's cache directory (XDG_CACHE_HOME on Linux)."""
    return own_folder() / _NAME


def check_owner(path: Path) -> None:
    """Check that a file may become a vector cache, or is or was one; damage does not matter.

    Raises:
        ColdStartError: it is a folder, or a file of something else.
        OSError: it cannot be read.
    """
    if path.is_dir():
        raise ColdStartError(f"{path} is a folder; name a file as vector cache, such as {path / _NAME}")
    if path.exists() and not path.is_file():
        raise ColdStartError(f"{path} is no regular file; choose another file as vector cache")
    if not _may_be_new(path) and not was_ours(path):
        raise _foreign(path)


def was_ours(path: Path) -> bool:
    """Whether a file is or once was a vector cache: by its mark, by its schema, or by its place."""
    if not path.is_file():
        return False
    if path.parent == own_folder() and path.name.startswith(_NAME):
        return True
    with path.open("rb") as file:
        page = file.read(65_536)
    marked = page.startswith(_MAGIC) and page[_OWNER] == _APPLICATION_ID.to_bytes(4, "big")
    return marked or (_ENTRY in page and _ENCODERS.encode() in page)


def _may_be_new(path: Path) -> bool:
    """Whether there is no file, an empty one, or a SQLite database of nobody without tables."""
    if not path.exists() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        head = file.read(_ROOT.stop)
    return head.startswith(_MAGIC) and head[_OWNER] == bytes(4) and head[_ROOT] == _NO_TABLES


def _foreign(path: Path) -> ColdStartError:
    return ColdStartError(
        f"{path} is no vector cache but a file of something else; choose another file as cache (this one stays as it "
        "is)"
    )


def connect(path: Path) -> sqlite3.Connection:
    """Open a cache file; it is created, readable by this user only, if it does not exist.

    A file of an earlier version, whose keys are not salted, is replaced by an empty one, with a warning.

    Raises:
        ColdStartError: the file is not a vector cache, or one of a later version.
    """
    check_owner(path)
    connection = _open(path)
    try:
        if _version(connection, path) != _VERSION:
            connection.close()
            # One process at a time: SQLite does not wait for another process that switches WAL on.
            with lock_of(path, "begin").acquire(timeout=_PATIENCE):
                _begin(path)
            connection = _open(path)
        # Vectors are read in random order; with the default of 2 MB the same pages would be read again and again.
        connection.execute("PRAGMA cache_size = -262144")
        # Killing a process loses no committed rows; a power cut may lose the last commits.
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def examine(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` on a connection that only reads; SQLite's errors become a ColdStartError, and the file stays.

    Raises:
        ColdStartError: the file is not a vector cache, is damaged, or cannot be read.
    """

    def run(flags: str) -> T:
        uri = f"{path.absolute().as_uri()}?mode=ro{flags}"
        with closing(sqlite3.connect(uri, timeout=_PATIENCE, uri=True)) as connection:
            _version(connection, path)
            return work(connection)

    log = files_of(path)[1]
    try:
        check_owner(path)
        if log.exists():
            return run("")
        try:
            # Without this, SQLite would leave an empty log beside the file.
            found = run("&immutable=1")
        except sqlite3.Error:
            if not log.exists():
                raise
        # Another process that opened the file in between may have changed what was read.
        return run("") if log.exists() else found
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise ColdStartError(
                f"the vector cache {path} is damaged ({error}); `coldstart cache clear` deletes it, or its next use "
                "moves it away and begins a new one"
            ) from None
        raise ColdStartError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise ColdStartError(f"{path} cannot be read: {error}") from None


def is_damage(error: Exception) -> bool:
    """Whether an error of SQLite says that the file is damaged."""
    return getattr(error, "sqlite_errorcode", None) in DAMAGE


def old_version(path: Path) -> bool:
    """Whether the keys in an existing cache file are those of an earlier version."""
    return examine(path, lambda connection: _version(connection, path)) == 0


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))  # SQLite gives its other files the same mode
    return sqlite3.connect(path, timeout=_PATIENCE)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a cache file; -1 if it has no tables yet."""
    # In one transaction, or another process could create the tables between the queries.
    connection.execute("BEGIN")
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    connection.rollback()
    if not owner and not tables:
        return -1
    if owner != _APPLICATION_ID:
        raise Damage("its header was altered") if was_ours(path) else _foreign(path)
    if version > _VERSION:
        raise ColdStartError(f"{path} is a vector cache of a later version; choose another file, or update this one")
    return version


def _begin(path: Path) -> None:
    """Create the tables unless another process has; the caller holds the lock."""
    with closing(_open(path)) as connection:
        version = _version(connection, path)
    if version == _VERSION:
        return
    if version >= 0:
        for file in files_of(path):
            file.unlink(missing_ok=True)
        warnings.warn(
            f"the vector cache {path} was written by an earlier version, whose keys anyone can compute from a text; "
            "its vectors were deleted, and each text is encoded again when it is next needed",
            RuntimeWarning, stacklevel=2,
        )  # fmt: skip
    with closing(_open(path)) as connection:
        # A page holds ten vectors of 384 numbers; the default size holds two and wastes a quarter.
        connection.execute("PRAGMA page_size = 16384")
        # Processes can read while one process writes.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")


def lock_of(path: Path, name: str) -> FileLock:
    """A lock between the processes that use a cache file, not acquired yet."""
    folder = path.with_name(path.name + ".locks")
    make_private(folder.parent)
    folder.mkdir(exist_ok=True, mode=0o700)
    return FileLock(folder / f"{name}.lock")


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into a ColdStartError that says what to do; a damaged cache is moved away.

    Raises:
        ColdStartError: the file is damaged or cannot be read.
    """
    before = inode_of(path)
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise ColdStartError(f"{path} cannot be read: {error}") from None
        aside = set_aside(path, before)
        raise ColdStartError(
            f"the vector cache {path} is damaged ({error}); it was moved to {aside}, and the next use creates a new one"
        ) from None
    except OSError as error:
        raise ColdStartError(f"{path} cannot be read: {error}") from None


def set_aside(path: Path, inode: int) -> Path:
    """Move a damaged cache away if the file still has this inode; returns its new path.

    Raises:
        ColdStartError: this file, or one in its new place, never was a vector cache.
    """
    aside = aside_of(path)
    # Another process may have moved it first and created a new file, which stays.
    if inode_of(path) == inode:
        if not was_ours(path):
            raise _foreign(path)
        if aside.exists() and not was_ours(aside):
            raise ColdStartError(f"the vector cache {path} is damaged and {aside} is taken; move that file elsewhere")
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
    """The id of an encoder on this machine; -1 if the file has none of its vectors.

    Raises:
        OSError: the machine's salt cannot be read.
    """
    query = "SELECT id FROM encoders WHERE fingerprint = ? AND salt = ?"
    row = connection.execute(query, [fingerprint, salt_id()]).fetchone()
    return int(row[0]) if row else -1


def seed_of(fingerprint: str) -> int:
    """The start value for the checksums of an encoder's vectors."""
    return zlib.crc32(fingerprint.encode())


def is_intact(seed: int, key: object, checksum: object, vector: object) -> bool:
    """Whether a row is as it was written; in a damaged one, values of any type can stand."""
    return isinstance(key, bytes) and isinstance(vector, bytes) and checksum_of(seed, key, vector) == checksum


def checksum_of(seed: int, key: bytes, vector: bytes) -> int:
    """The checksum over fingerprint, key and numbers, which detects damaged rows."""
    return zlib.crc32(vector, zlib.crc32(key, seed))
