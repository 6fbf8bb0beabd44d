"""The vector cache on disk, shared by all processes of a user on a machine.

It is a SQLite file. LMDB reads three times as fast, but through a memory map, so that a truncated file ends the process
instead of raising an error (docs/explanation/performance.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import Timeout

from coldstart_udfs.encoder.cache.file import (
    DAMAGE,
    KEYS_PER_QUERY,
    checksum_of,
    connect,
    encoder_id,
    inode_of,
    lock_of,
    seed_of,
    set_aside,
)
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors

CLAIMS = 32

_LIMIT_VARIABLE = "COLDSTART_CACHE_MB"
_LIMIT_MB = 2048


def default_path() -> Path:
    """The machine's cache file: `embeddings.sqlite` in the user's cache directory (XDG_CACHE_HOME on Linux)."""
    return platformdirs.user_cache_path("coldstart") / "embeddings.sqlite"


def key_of(text: str) -> bytes:
    """The key of a text: 16 bytes."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def size_limit() -> int:
    """The size limit of a cache file in bytes: COLDSTART_CACHE_MB MiB, by default 2,048.

    Raises:
        ColdStartError: the variable is not a positive whole number.
    """
    given = os.environ.get(_LIMIT_VARIABLE, str(_LIMIT_MB))
    if not given.isdecimal() or int(given) == 0:
        raise ColdStartError(f"{_LIMIT_VARIABLE} is {given!r}; it must be a whole number of MiB, such as {_LIMIT_MB}")
    return int(given) * 2**20


class VectorCache:
    """A persistent, bounded map from (fingerprint, key of a text) to a float32 vector.

    Problems with the file raise no errors. If it cannot be read or written (disk full, no permission), the cache warns
    once and the encoder continues without it; a damaged file is moved away and a new one created. Each vector has a
    checksum over fingerprint, key and numbers; rows that do not match it are not used. Every call opens a connection of
    its own, so threads and forked workers share nothing. At its size limit, the oldest tenth of the rows is deleted.
    """

    def __init__(self, path: str | Path, fingerprint: str, dimensions: int) -> None:
        """Open no file yet.

        Args:
            path: the SQLite file; created, with its folder, at the first write.
            fingerprint: fingerprint of the encoder.
            dimensions: length of its vectors; stored vectors of another length are not used.

        Raises:
            ColdStartError: COLDSTART_CACHE_MB is not a number.
        """
        self.path = Path(path)
        self._fingerprint = fingerprint
        self._bytes = dimensions * 4
        self._limit = size_limit()
        self._warned = False

    def get(self, keys: Sequence[bytes]) -> tuple[dict[bytes, int], Vectors]:
        """Look keys up: the row of each key that was found, and the (found, dimensions) matrix of vectors."""
        found: dict[bytes, int] = {}
        blobs: list[bytes] = []
        if keys and self.path.exists():
            self._read(keys, found, blobs)
        return found, np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), -1 if blobs else self._bytes // 4)

    def _read(self, keys: Sequence[bytes], found: dict[bytes, int], blobs: list[bytes]) -> None:
        with self._guarded(), closing(connect(self.path)) as connection:
            encoder = encoder_id(connection, self._fingerprint)
            seed = seed_of(self._fingerprint)
            wrong = []
            for start in range(0, len(keys), KEYS_PER_QUERY):
                part = keys[start : start + KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT id, key, checksum, vector FROM vectors WHERE encoder = ? AND key IN ({marks})"
                for row, key, checksum, vector in connection.execute(query, (encoder, *part)):
                    if len(vector) == self._bytes and checksum_of(seed, key, vector) == checksum:
                        found[key] = len(blobs)
                        blobs.append(vector)
                    else:
                        wrong.append((row,))
            if wrong:
                with connection:
                    connection.executemany("DELETE FROM vectors WHERE id = ?", wrong)
                self._warn(f"{len(wrong)} vectors in {self.path} were damaged; they are encoded again")

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Store vectors by key, all or none; existing keys keep their vectors."""
        if not vectors:
            return
        seed = seed_of(self._fingerprint)
        blobs = {key: vector.astype("<f4").tobytes() for key, vector in vectors.items()}
        with self._guarded():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(connect(self.path)) as connection, connection:
                # IMMEDIATE, because two writers that both read first would wait for each other.
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT OR IGNORE INTO encoders (fingerprint) VALUES (?)", [self._fingerprint])
                encoder = encoder_id(connection, self._fingerprint)
                connection.executemany(
                    "INSERT OR IGNORE INTO vectors (encoder, key, checksum, vector) VALUES (?, ?, ?, ?)",
                    [(encoder, key, checksum_of(seed, key, blob), blob) for key, blob in blobs.items()],
                )
                excess = 1 - 0.9 * self._limit / _used_bytes(connection)
                if excess > 0.1:
                    oldest = "SELECT min(id) + (max(id) - min(id)) * ? FROM vectors"
                    connection.execute(f"DELETE FROM vectors WHERE id <= ({oldest})", [excess])

    @contextlib.contextmanager
    def claim(self, share: int, *, wait: bool) -> Iterator[bool]:
        """Hold one of the `CLAIMS` shares of all texts, so that other processes do not encode the same texts.

        Yields whether the share is held; without `wait`, False if another process holds it. If no lock file can be
        created it yields True, and two processes may encode the same text.
        """
        lock: AbstractContextManager[Any] = nullcontext()
        try:
            lock = lock_of(self.path, f"{share:02}").acquire(blocking=wait)
        except Timeout:
            yield False
            return
        except OSError as error:
            self._warn_unusable(error)
        with lock:
            yield True

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        before = inode_of(self.path)
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) in DAMAGE:
                aside = set_aside(self.path, before)
                self._warn(
                    f"the vector cache {self.path} is damaged ({error}); it was moved to {aside}, and a new one is "
                    "created"
                )
            else:
                self._warn_unusable(error)

    def _warn_unusable(self, error: Exception) -> None:
        self._warn(
            f"the vector cache {self.path} cannot be used ({error}); encoding goes on without it. "
            "Free some space, correct its permissions, or pass cache=False."
        )

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(message, RuntimeWarning, stacklevel=2)


def _used_bytes(connection: sqlite3.Connection) -> int:
    def pragma(name: str) -> int:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    return (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")
