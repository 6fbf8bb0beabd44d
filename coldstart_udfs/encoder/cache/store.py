"""Text × fingerprint → vector, on disk, shared by every process of this user on this machine.

The store is SQLite: of the two that were measured LMDB reads three times as fast, but reads through a memory
map, so that a truncated file ends the process instead of raising (docs/performance.md).
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
                self._warn(f"{len(wrong)} vectors in {self.path} were damaged; they are encoded anew")

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Remember vectors by key, all or none; a key that is already there keeps its own."""
        if not vectors:
            return
        seed = seed_of(self._fingerprint)
        blobs = {key: vector.astype("<f4").tobytes() for key, vector in vectors.items()}
        with self._guarded():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(connect(self.path)) as connection, connection:
                # At once, or two writers that both read first would wait for each other.
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
        """Hold one of the `CLAIMS` shares of all texts, among the processes that use this file.

        Yields whether the share is held. Without `wait` another holder means no. Where no lock can be made,
        the answer is yes: two processes may then encode one text.
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


def _used_bytes(connection: sqlite3.Connection) -> int:
    def pragma(name: str) -> int:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    return (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")
