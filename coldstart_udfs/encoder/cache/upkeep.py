"""Maintenance of a cache file: statistics, clearing, erasing and checking."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldstart_udfs.encoder.cache.file import (
    KEYS_PER_QUERY,
    aside_of,
    checksum_of,
    connect,
    encoder_id,
    files_of,
    readable,
    seed_of,
)
from coldstart_udfs.encoder.cache.store import size_limit
from coldstart_udfs.errors import ColdStartError


@dataclass(frozen=True)
class CacheStats:
    """The contents of a cache file.

    Attributes:
        path: the file.
        bytes: its size on disk, write-ahead log included.
        limit: the size, in bytes, at which the oldest tenth is deleted.
        vectors: number of vectors by fingerprint.
    """

    path: Path
    bytes: int
    limit: int
    vectors: dict[str, int]


def stats(path: Path) -> CacheStats:
    """Count the contents of a cache file.

    Raises:
        ColdStartError: the file is damaged or not a vector cache.
    """
    counts: dict[str, int] = {}
    if path.exists():
        with readable(path), closing(connect(path)) as connection:
            counts = dict(connection.execute(
                "SELECT fingerprint, count(*) FROM vectors JOIN encoders ON encoder = encoders.id GROUP BY 1 ORDER BY 1"
            ))  # fmt: skip
    size = sum(file.stat().st_size for file in files_of(path) if file.exists())
    return CacheStats(path, size, size_limit(), counts)


def clear(path: Path, fingerprint: str | None = None) -> int:
    """Delete the vectors of one encoder, or the file with all vectors.

    Returns:
        The number of vectors deleted.

    Raises:
        ColdStartError: the file is not a vector cache, or has no vectors of `fingerprint`.
    """
    held = stats(path).vectors
    if fingerprint is None:
        for file in files_of(path):
            file.unlink(missing_ok=True)
        return sum(held.values())
    if fingerprint not in held:
        raise ColdStartError(f"{path} holds nothing of {fingerprint!r}; it holds {sorted(held) or 'nothing at all'}")
    with closing(connect(path)) as connection:
        with connection:
            connection.execute("DELETE FROM vectors WHERE encoder = ?", [encoder_id(connection, fingerprint)])
            connection.execute("DELETE FROM encoders WHERE fingerprint = ?", [fingerprint])
        connection.execute("VACUUM")
    return held[fingerprint]


def forget(path: Path, keys: Iterable[bytes], *, dry_run: bool = False) -> int:
    """Erase the vectors of some texts, of every encoder, so that their bytes are not on the disk any more.

    A file that was moved away as damaged is deleted as a whole, because its contents are unknown.

    Args:
        path: the cache file; it need not exist.
        keys: keys of the texts, from `key_of`.
        dry_run: only count.

    Returns:
        The number of vectors erased.

    Raises:
        ColdStartError: the file is damaged, not a vector cache, or in use for more than a minute.
    """
    if not path.exists():
        if not dry_run:
            aside_of(path).unlink(missing_ok=True)
        return 0
    wanted = list(dict.fromkeys(keys))
    rows: list[tuple[int]] = []
    with readable(path), closing(connect(path)) as connection:
        encoders = [row for (row,) in connection.execute("SELECT id FROM encoders").fetchall()]
        for start in range(0, len(wanted), KEYS_PER_QUERY):
            part = wanted[start : start + KEYS_PER_QUERY]
            marks = ",".join("?" * len(part))
            for encoder in encoders:
                query = f"SELECT id FROM vectors WHERE encoder = ? AND key IN ({marks})"
                rows += connection.execute(query, (encoder, *part)).fetchall()
    if not dry_run:
        with closing(connect(path)) as connection:
            erase(connection, path, [("DELETE FROM vectors WHERE id = ?", row) for row in rows])
        aside_of(path).unlink(missing_ok=True)
    return len(rows)


def erase(connection: sqlite3.Connection, path: Path, deletes: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
    """Run deletes so that neither these rows nor rows deleted or replaced earlier leave bytes in a SQLite file.

    Args:
        connection: a connection to the file, without an open transaction.
        path: the file, for messages.
        deletes: statements with their parameters; if there are none, earlier rows are still cleaned up.

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
        # Rows replaced earlier are still in free space, and in WAL mode the log keeps old pages.
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
    """Check the file's structure and every vector's checksum; damaged vectors are removed.

    Returns:
        The number of valid vectors, and the number of damaged ones.

    Raises:
        ColdStartError: the structure is damaged. The file was moved away, and the next use creates a new one.
    """
    if not path.exists():
        return 0, 0
    right, wrong = 0, []
    with readable(path), closing(connect(path)) as connection:
        state = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        seeds = {row: seed_of(name) for row, name in connection.execute("SELECT id, fingerprint FROM encoders")}
        for row, encoder, key, checksum, vector in connection.execute(
            "SELECT id, encoder, key, checksum, vector FROM vectors"
        ):
            if encoder in seeds and checksum_of(seeds[encoder], key, vector) == checksum:
                right += 1
            else:
                wrong.append((row,))
        with connection:
            connection.executemany("DELETE FROM vectors WHERE id = ?", wrong)
    return right, len(wrong)
