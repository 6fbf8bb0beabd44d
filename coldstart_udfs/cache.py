"""Text × fingerprint → vector: on disk, shared by every process of this user on this machine, and in memory.

The store is SQLite: of the two that were measured LMDB reads three times as fast, but reads through a memory
map, so that a truncated file ends the process instead of raising (docs/performance.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import warnings
import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors

CLAIMS = 32

_KEYS_PER_QUERY = 500
_PATIENCE = 60  # seconds that one process waits for another
_APPLICATION_ID = 0x436F6C64  # "Cold": how our files are told from anybody else's
_LIMIT_VARIABLE = "COLDSTART_CACHE_MB"
_LIMIT_MB = 2048
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_SHORT_READ}

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


def default_path() -> Path:
    """The machine's cache file: `embeddings.sqlite` in the user's cache directory (XDG_CACHE_HOME on Linux)."""
    return platformdirs.user_cache_path("coldstart") / "embeddings.sqlite"


def key_of(text: str) -> bytes:
    """What a text is looked up by: 16 bytes."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def size_limit() -> int:
    """Bytes that a cache file may take: COLDSTART_CACHE_MB MiB, 2,048 unless set.

    Raises:
        ColdStartError: the variable is no positive number.
    """
    given = os.environ.get(_LIMIT_VARIABLE, str(_LIMIT_MB))
    if not given.isdecimal() or int(given) == 0:
        raise ColdStartError(f"{_LIMIT_VARIABLE} is {given!r}; it must be a whole number of MiB, such as {_LIMIT_MB}")
    return int(given) * 2**20


class VectorCache:
    """A persistent, bounded map from (fingerprint, key of a text) to a float32 vector.

    The cache is an optimisation and never a reason to fail: where the file cannot be read or written (disk
    full, no permission) it warns once and the encoder goes on without it; a damaged file is set aside and
    a new one begun. Each vector has a checksum over fingerprint, key and numbers, so that none is served
    that was not stored. A connection is opened for each call: threads and forked workers share nothing.
    When the file has reached its limit, the tenth that was written first goes.
    """

    def __init__(self, path: str | Path, fingerprint: str, dimensions: int) -> None:
        """Open no file yet.

        Args:
            path: the SQLite file; made, with its folder, at the first write.
            fingerprint: of the encoder whose vectors are kept.
            dimensions: a stored vector of another length is not served.

        Raises:
            ColdStartError: COLDSTART_CACHE_MB is no number.
        """
        self.path = Path(path)
        self._fingerprint = fingerprint
        self._bytes = dimensions * 4
        self._limit = size_limit()
        self._warned = False

    def get(self, keys: Sequence[bytes]) -> tuple[dict[bytes, int], Vectors]:
        """What is known: the row of each known key, and the (known, dimensions) matrix of vectors."""
        found: dict[bytes, int] = {}
        blobs: list[bytes] = []
        if keys and self.path.exists():
            self._read(keys, found, blobs)
        return found, np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), -1 if blobs else self._bytes // 4)

    def _read(self, keys: Sequence[bytes], found: dict[bytes, int], blobs: list[bytes]) -> None:
        with self._guarded(), closing(_connect(self.path)) as connection:
            encoder = _encoder_id(connection, self._fingerprint)
            seed = _seed(self._fingerprint)
            wrong = []
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                part = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT id, key, checksum, vector FROM vectors WHERE encoder = ? AND key IN ({marks})"
                for row, key, checksum, vector in connection.execute(query, (encoder, *part)):
                    if len(vector) == self._bytes and _checksum(seed, key, vector) == checksum:
                        found[key] = len(blobs)
                        blobs.append(vector)
                    else:
                        wrong.append((row,))
            if wrong:
                with connection:
                    connection.executemany("DELETE FROM vectors WHERE id = ?", wrong)
                self._warn(f"{len(wrong)} vectors in {self.path} were damaged; they are encoded anew")

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Remember vectors by key, all or none; a key that is already there keeps its own."""
        if not vectors:
            return
        seed = _seed(self._fingerprint)
        blobs = {key: vector.astype("<f4").tobytes() for key, vector in vectors.items()}
        with self._guarded():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(_connect(self.path)) as connection, connection:
                # At once, or two writers that both read first would wait for each other.
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT OR IGNORE INTO encoders (fingerprint) VALUES (?)", [self._fingerprint])
                encoder = _encoder_id(connection, self._fingerprint)
                connection.executemany(
                    "INSERT OR IGNORE INTO vectors (encoder, key, checksum, vector) VALUES (?, ?, ?, ?)",
                    [(encoder, key, _checksum(seed, key, blob), blob) for key, blob in blobs.items()],
                )
                excess = 1 - 0.9 * self._limit / _used_bytes(connection)
                if excess > 0.1:
                    oldest = "SELECT min(id) + (max(id) - min(id)) * ? FROM vectors"
                    connection.execute(f"DELETE FROM vectors WHERE id <= ({oldest})", [excess])

    @contextlib.contextmanager
    def claim(self, share: int, *, wait: bool) -> Iterator[bool]:
        """Hold one of the `CLAIMS` shares of all texts, among the processes that use this file.

        Yields whether the share is held. Without `wait` another holder means no. Where no lock can be made,
        the answer is yes: two processes may then encode one text.
        """
        lock: AbstractContextManager[Any] = nullcontext()
        try:
            lock = _lock(self.path, f"{share:02}").acquire(blocking=wait)
        except Timeout:
            yield False
            return
        except OSError as error:
            self._warn_unusable(error)
        with lock:
            yield True

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        before = _inode(self.path)
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) in _DAMAGE:
                aside = _set_aside(self.path, before)
                self._warn(f"the vector cache {self.path} is damaged ({error}); it was moved to {aside} and begun anew")
            else:
                self._warn_unusable(error)

    def _warn_unusable(self, error: Exception) -> None:
        self._warn(
            f"the vector cache {self.path} cannot be used ({error}); encoding goes on without it. "
            "Free some space, mend its permissions, or pass cache=False."
        )

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(message, RuntimeWarning, stacklevel=2)


class MemoryLayer:
    """The vectors that this process used last, in one matrix of bounded size; the oldest slot is reused."""

    def __init__(self, dimensions: int, limit: int = 128 * 2**20) -> None:
        """Take no memory yet; `limit` is in bytes of vectors."""
        self._capacity = max(1, limit // (4 * dimensions))
        self._matrix = np.empty((0, dimensions), dtype=np.float32)
        self._slots: dict[Hashable, int] = {}
        self._keys: list[Hashable] = []
        self._next = 0
        self._lock = threading.Lock()

    def fill(self, keys: Sequence[Hashable], rows: Sequence[int], out: Vectors) -> list[int]:
        """Write what is known of `rows` into `out`; the rows that are not known are returned."""
        where = np.asarray(rows, dtype=np.int64)
        with self._lock:
            asked = keys if rows == range(len(keys)) else [keys[row] for row in rows]
            slots = np.array(list(map(self._slots.get, asked, repeat(-1))), dtype=np.int64)
            known = slots >= 0
            if asked is keys and len(keys) == len(out) and known.all():
                np.take(self._matrix, slots, axis=0, out=out, mode="clip")  # "clip" writes without a buffer between
                return []
            out[where[known]] = self._matrix[slots[known]]
        unknown: list[int] = where[~known].tolist()
        return unknown

    def put(self, vectors: Mapping[Any, Vectors]) -> None:
        """Remember vectors by key, unless they are more than there is room for."""
        if len(vectors) > self._capacity:
            return
        with self._lock:
            for key, vector in vectors.items():
                if key in self._slots:
                    continue
                slot = self._next
                if slot == len(self._keys):
                    self._keys.append(key)
                    if slot == len(self._matrix):
                        more = min(max(1024, 2 * slot), self._capacity) - slot
                        self._matrix = np.vstack([self._matrix, np.empty((more, self._matrix.shape[1]), np.float32)])
                else:
                    del self._slots[self._keys[slot]]
                    self._keys[slot] = key
                self._slots[key] = slot
                self._matrix[slot] = vector
                self._next = (slot + 1) % self._capacity


@dataclass(frozen=True)
class CacheStats:
    """What a cache file holds.

    Attributes:
        path: the file.
        bytes: its size on disk, write-ahead log included.
        limit: the size, in bytes, beyond which the oldest tenth goes.
        vectors: how many vectors there are, by fingerprint.
    """

    path: Path
    bytes: int
    limit: int
    vectors: dict[str, int]


def stats(path: Path) -> CacheStats:
    """Count what a cache file holds.

    Raises:
        ColdStartError: the file is damaged, or no vector cache.
    """
    counts: dict[str, int] = {}
    if path.exists():
        with _readable(path), closing(_connect(path)) as connection:
            counts = dict(connection.execute(
                "SELECT fingerprint, count(*) FROM vectors JOIN encoders ON encoder = encoders.id GROUP BY 1 ORDER BY 1"
            ))  # fmt: skip
    size = sum(file.stat().st_size for file in _files(path) if file.exists())
    return CacheStats(path, size, size_limit(), counts)


def clear(path: Path, fingerprint: str | None = None) -> int:
    """Forget the vectors of one encoder, or all of them with the file itself.

    Returns:
        How many vectors went.

    Raises:
        ColdStartError: the file is no vector cache, or holds nothing of `fingerprint`.
    """
    held = stats(path).vectors
    if fingerprint is None:
        for file in _files(path):
            file.unlink(missing_ok=True)
        return sum(held.values())
    if fingerprint not in held:
        raise ColdStartError(f"{path} holds nothing of {fingerprint!r}; it holds {sorted(held) or 'nothing at all'}")
    with closing(_connect(path)) as connection:
        with connection:
            connection.execute("DELETE FROM vectors WHERE encoder = ?", [_encoder_id(connection, fingerprint)])
            connection.execute("DELETE FROM encoders WHERE fingerprint = ?", [fingerprint])
        connection.execute("VACUUM")
    return held[fingerprint]


def forget(path: Path, keys: Iterable[bytes], *, dry_run: bool = False) -> int:
    """Erase vectors by key, of every encoder, so that their bytes are gone from the disk too.

    A file that was set aside as damaged goes altogether: nobody can tell what is in it.

    Args:
        path: the cache file; it need not exist.
        keys: of texts, as `key_of` makes them.
        dry_run: count, and change nothing.

    Returns:
        How many vectors went.

    Raises:
        ColdStartError: the file is damaged, no vector cache, or in use for more than a minute.
    """
    if not path.exists():
        if not dry_run:
            _aside(path).unlink(missing_ok=True)
        return 0
    wanted = list(dict.fromkeys(keys))
    rows: list[tuple[int]] = []
    with _readable(path), closing(_connect(path)) as connection:
        encoders = [row for (row,) in connection.execute("SELECT id FROM encoders").fetchall()]
        for start in range(0, len(wanted), _KEYS_PER_QUERY):
            part = wanted[start : start + _KEYS_PER_QUERY]
            marks = ",".join("?" * len(part))
            for encoder in encoders:
                query = f"SELECT id FROM vectors WHERE encoder = ? AND key IN ({marks})"
                rows += connection.execute(query, (encoder, *part)).fetchall()
    if not dry_run:
        with closing(_connect(path)) as connection:
            erase(connection, path, [("DELETE FROM vectors WHERE id = ?", row) for row in rows])
        _aside(path).unlink(missing_ok=True)
    return len(rows)


def erase(connection: sqlite3.Connection, path: Path, deletes: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
    """Run deletes so that nothing of the rows, nor of what was deleted or replaced before, stays in a SQLite file.

    Args:
        connection: to the file, with no transaction open.
        path: the file, for messages.
        deletes: statements and their parameters; with none the file is cleaned alone.

    Raises:
        ColdStartError: another process uses the file for longer than the connection's timeout.
    """
    connection.isolation_level = None
    try:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN IMMEDIATE")
        for statement, parameters in deletes:
            connection.execute(statement, parameters)
        connection.execute("COMMIT")
        # What was replaced earlier lies in free space, and the log of a file in WAL mode keeps pages as they were.
        connection.execute("VACUUM")
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise ColdStartError(
            f"{path}: {error}; make room or stop what uses the file, then run the same command again"
        ) from None
    if busy:
        raise ColdStartError(
            f"{path} is being read, so that deleted rows stay in its log; stop what uses it, then run the same command "
            "again"
        )


def verify(path: Path) -> tuple[int, int]:
    """Check the file's structure and every vector's checksum; wrong vectors are removed.

    Returns:
        How many vectors are right, and how many were wrong.

    Raises:
        ColdStartError: the structure is damaged: the file was set aside, and the next use begins a new one.
    """
    if not path.exists():
        return 0, 0
    right, wrong = 0, []
    with _readable(path), closing(_connect(path)) as connection:
        state = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        seeds = {row: _seed(name) for row, name in connection.execute("SELECT id, fingerprint FROM encoders")}
        for row, encoder, key, checksum, vector in connection.execute(
            "SELECT id, encoder, key, checksum, vector FROM vectors"
        ):
            if encoder in seeds and _checksum(seeds[encoder], key, vector) == checksum:
                right += 1
            else:
                wrong.append((row,))
        with connection:
            connection.executemany("DELETE FROM vectors WHERE id = ?", wrong)
    return right, len(wrong)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_PATIENCE)
    try:
        # Vectors are read in no order of theirs; with the usual 2 MB the same pages would be read again and again.
        connection.execute("PRAGMA cache_size = -262144")
        if not _begun(connection, path):
            # One process at a time: SQLite does not wait for another that turns WAL on at the same moment.
            with _lock(path, "begin").acquire(timeout=_PATIENCE):
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


def _lock(path: Path, name: str) -> FileLock:
    folder = path.with_name(path.name + ".locks")
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    before = _inode(path)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _DAMAGE:
            raise ColdStartError(f"{path} cannot be read: {error}") from None
        raise _damaged(path, before, error) from None
    except sqlite3.DatabaseError as error:
        raise _damaged(path, before, error) from None
    except OSError as error:
        raise ColdStartError(f"{path} cannot be read: {error}") from None


def _damaged(path: Path, inode: int, error: Exception) -> ColdStartError:
    aside = _set_aside(path, inode)
    return ColdStartError(
        f"the vector cache {path} is damaged ({error}); it was moved to {aside}, and the next use begins a new one"
    )


def _set_aside(path: Path, inode: int) -> Path:
    aside = _aside(path)
    # Another process may have seen the damage first and begun a new file: that one stays.
    if _inode(path) == inode:
        with suppress(FileNotFoundError):
            os.replace(path, aside)
        for file in _files(path)[1:]:
            file.unlink(missing_ok=True)
    return aside


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".damaged")


def _files(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm"))]


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _encoder_id(connection: sqlite3.Connection, fingerprint: str) -> int:
    row = connection.execute("SELECT id FROM encoders WHERE fingerprint = ?", [fingerprint]).fetchone()
    return int(row[0]) if row else -1


def _used_bytes(connection: sqlite3.Connection) -> int:
    def pragma(name: str) -> int:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    return (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")


def _seed(fingerprint: str) -> int:
    return zlib.crc32(fingerprint.encode())


def _checksum(seed: int, key: bytes, vector: bytes) -> int:
    return zlib.crc32(vector, zlib.crc32(key, seed))
