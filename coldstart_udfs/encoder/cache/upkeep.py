"""Maintenance of a cache file: statistics, clearing, erasing and checking."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coldstart_udfs.encoder.cache.file import (
    KEYS_PER_QUERY,
    Damage,
    aside_of,
    check_owner,
    connect,
    examine,
    files_of,
    is_intact,
    old_version,
    readable,
    seed_of,
    was_ours,
)
from coldstart_udfs.encoder.cache.salt import salt_id
from coldstart_udfs.encoder.cache.store import size_limit, sound
from coldstart_udfs.errors import ColdStartError

_AT_ONCE = 4_096


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
    """Count the contents of a cache file, which stays as it is.

    Raises:
        ColdStartError: the file is damaged or not a vector cache.
    """
    check_owner(path)
    counts = examine(path, _counts) if path.exists() else {}
    size = sum(file.stat().st_size for file in files_of(path) if file.exists())
    return CacheStats(path, size, size_limit(), counts)


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    if not _has_tables(connection):
        return {}
    return dict(connection.execute(
        "SELECT fingerprint, count(*) FROM vectors JOIN encoders ON encoder = encoders.id GROUP BY 1 ORDER BY 1"
    ))  # fmt: skip


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def clear(path: Path, fingerprint: str | None = None) -> int | None:
    """Delete the vectors of one encoder, or the file with all vectors, even if it is damaged.

    Returns:
        The number of vectors deleted; None if the file was damaged, so that they could not be counted.

    Raises:
        ColdStartError: the file is not a vector cache, or has no vectors of `fingerprint`.
    """
    if fingerprint is None:
        return _clear_all(path)
    held = stats(path).vectors
    if fingerprint not in held:
        raise ColdStartError(f"{path} holds nothing of {fingerprint!r}; it holds {sorted(held) or 'nothing at all'}")
    with closing(connect(path)) as connection:
        with connection:
            these = "SELECT id FROM encoders WHERE fingerprint = ?"
            connection.execute(f"DELETE FROM vectors WHERE encoder IN ({these})", [fingerprint])
            connection.execute("DELETE FROM encoders WHERE fingerprint = ?", [fingerprint])
        connection.execute("VACUUM")
    return held[fingerprint]


def _clear_all(path: Path) -> int | None:
    check_owner(path)
    try:
        held: int | None = sum(stats(path).vectors.values())
    except ColdStartError:
        if not was_ours(path):
            raise
        held = None
    for file in files_of(path):
        file.unlink(missing_ok=True)
    return held


def forget(path: Path, keys: Iterable[bytes], *, dry_run: bool = False) -> int:
    """Erase the vectors of some texts, of every encoder, so that their bytes are not on the disk any more.

    A cache that was moved away as damaged, or that an earlier version wrote, is deleted as a whole, and so are vectors
    of another machine, or of a salt that was lost, because texts cannot be found among them.

    Args:
        path: the cache file; it need not exist.
        keys: keys of the texts, from `key_of`.
        dry_run: only count.

    Returns:
        The number of vectors erased.

    Raises:
        ColdStartError: the file is damaged, not a vector cache, or in use for more than a minute.
    """
    check_owner(path)
    if not dry_run and was_ours(aside_of(path)):
        aside_of(path).unlink(missing_ok=True)
    if not path.exists():
        return 0
    if old_version(path):
        held = sum(stats(path).vectors.values())
        if not dry_run:
            _clear_all(path)
        return held
    wanted = list(dict.fromkeys(keys))
    if dry_run:
        return len(examine(path, lambda connection: _rows_of(connection, wanted)))
    with readable(path), closing(connect(path)) as connection:
        rows = _rows_of(connection, wanted)
        erase(connection, path, [("DELETE FROM vectors WHERE id = ?", row) for row in rows])
    return len(rows)


def _rows_of(connection: sqlite3.Connection, keys: list[bytes]) -> list[tuple[int]]:
    """The rows of some keys, of every encoder, and all rows whose keys have another salt."""
    if not _has_tables(connection):
        return []
    others = "SELECT id FROM encoders WHERE salt != ?"
    rows: list[tuple[int]] = connection.execute(
        f"SELECT id FROM vectors WHERE encoder IN ({others})", [salt_id()]
    ).fetchall()
    encoders = connection.execute("SELECT id FROM encoders WHERE salt = ?", [salt_id()]).fetchall()
    for start in range(0, len(keys), KEYS_PER_QUERY):
        part = keys[start : start + KEYS_PER_QUERY]
        marks = ",".join("?" * len(part))
        for (encoder,) in encoders:
            query = f"SELECT id FROM vectors WHERE encoder = ? AND key IN ({marks})"
            rows += connection.execute(query, (encoder, *part)).fetchall()
    return rows


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
    """Check the file's structure, and checksum, numbers and length of every vector. The file stays as it is.

    Returns:
        The number of valid vectors, and the number of damaged ones, which are encoded again when they are next needed.

    Raises:
        ColdStartError: the structure is damaged, or the file is not a vector cache.
    """
    check_owner(path)
    return examine(path, _verify) if path.exists() else (0, 0)


def _verify(connection: sqlite3.Connection) -> tuple[int, int]:
    if not _has_tables(connection):
        return 0, 0
    state = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if state != "ok":
        raise Damage(state)
    right = wrong = 0
    seeds = {row: seed_of(name) for row, name in connection.execute("SELECT id, fingerprint FROM encoders")}
    rows = connection.execute("SELECT encoder, key, checksum, vector FROM vectors")
    while part := rows.fetchmany(_AT_ONCE):
        whole = [
            vector for encoder, key, checksum, vector in part
            if encoder in seeds and is_intact(seeds[encoder], key, checksum, vector)
        ]  # fmt: skip
        found = _count_sound(whole)
        right, wrong = right + found, wrong + len(part) - found
    return right, wrong


def _count_sound(vectors: list[bytes]) -> int:
    by_length: dict[int, list[bytes]] = {}
    for vector in vectors:
        by_length.setdefault(len(vector), []).append(vector)
    return sum(
        int(sound(np.frombuffer(b"".join(same), dtype="<f4").reshape(len(same), -1)).sum())
        for length, same in by_length.items() if length and length % 4 == 0
    )  # fmt: skip
