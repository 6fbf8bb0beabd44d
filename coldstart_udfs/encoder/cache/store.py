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
from filelock import Timeout
from numpy.typing import NDArray

from coldstart_udfs.encoder.cache.file import (
    KEYS_PER_QUERY,
    check_owner,
    checksum_of,
    connect,
    default_path,
    encoder_id,
    inode_of,
    is_damage,
    is_intact,
    lock_of,
    seed_of,
    set_aside,
)
from coldstart_udfs.encoder.cache.salt import salt, salt_id
from coldstart_udfs.encoder.places import can_keep, make_private
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors

__all__ = [
    "CLAIMS", "VectorCache", "check_setting", "default_path", "key_of", "open_cache", "size_limit", "sound",
]  # fmt: skip

CLAIMS = 32

# Of the squared length: half precision rounds to three digits.
_TOLERANCE = 0.02
_LIMIT_VARIABLE = "COLDSTART_CACHE_MB"
_LIMIT_MB = 2048


def key_of(text: str) -> bytes:
    """The key of a text on this machine: 16 bytes, a hash with the machine's salt.

    Raises:
        OSError: the salt cannot be read or written.
    """
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16, key=salt()).digest()


def sound(vectors: Vectors) -> NDArray[np.bool_]:
    """(n,), which rows of (n, dimensions) are finite and of unit length, as every vector of an encoder is."""
    wide = vectors.astype(np.float32, copy=False)
    return np.asarray(np.abs(np.einsum("ij,ij->i", wide, wide) - 1) < _TOLERANCE)  # False for NaN


def size_limit() -> int:
    """The size limit of a cache file in bytes: COLDSTART_CACHE_MB MiB, by default 2,048.

    Raises:
        ColdStartError: the variable is not a positive whole number.
    """
    given = os.environ.get(_LIMIT_VARIABLE, str(_LIMIT_MB))
    if not given.isdecimal() or int(given) == 0:
        raise ColdStartError(f"{_LIMIT_VARIABLE} is {given!r}; it must be a whole number of MiB, such as {_LIMIT_MB}")
    return int(given) * 2**20


def check_setting(setting: bool | str | os.PathLike[str]) -> None:
    """Check the `cache` argument of an `Encoder`, as far as that can be done without using it.

    Raises:
        ColdStartError: the path is a folder or a file of something else.
    """
    if not isinstance(setting, bool):
        with contextlib.suppress(OSError):  # told when it is used
            check_owner(Path(setting))


def open_cache(
    setting: bool | str | os.PathLike[str], fingerprint: str, dimensions: int
) -> VectorCache | None:
    """The cache for the `cache` argument of an `Encoder`; None, with one warning, where no cache can be kept."""
    if setting is False or (setting is True and not can_keep()):
        return None
    path = default_path() if isinstance(setting, bool) else Path(setting)
    try:
        salt()
    except OSError as error:
        warnings.warn(
            f"the vector cache {path} cannot be used, because its key cannot be kept ({error}); encoding goes on "
            "without it. Set XDG_CACHE_HOME to a folder that can be written, or pass cache=False.",
            RuntimeWarning, stacklevel=2,
        )  # fmt: skip
        return None
    return VectorCache(path, fingerprint, dimensions)


class VectorCache:
    """A persistent, bounded map from (fingerprint, key of a text) to a float32 vector.

    If the file cannot be read or written (disk full, no permission), the cache warns once and the encoder continues
    without it; a damaged cache is moved away and a new one created. Each vector has a checksum over fingerprint, key
    and numbers; rows that do not match it, are not finite or not of unit length are not used. Every call opens a
    connection of its own, so threads and forked workers share nothing. At its size limit, the oldest tenth of the rows
    is deleted.
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
        """Look keys up: the row of each key that was found, and the (rows, dimensions) matrix of vectors.

        Raises:
            ColdStartError: the file is not a vector cache.
        """
        found: dict[bytes, int] = {}
        vectors = np.zeros((0, self._bytes // 4), dtype=np.float32)
        with self._guarded():
            if keys and self.path.exists():
                found, vectors = self._read(keys)
        return found, vectors

    def _read(self, keys: Sequence[bytes]) -> tuple[dict[bytes, int], Vectors]:
        rows: dict[bytes, int] = {}
        blobs: list[bytes] = []
        with closing(connect(self.path)) as connection:
            encoder = encoder_id(connection, self._fingerprint)
            seed = seed_of(self._fingerprint)
            wrong = []
            for start in range(0, len(keys), KEYS_PER_QUERY):
                part = keys[start : start + KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT id, key, checksum, vector FROM vectors WHERE encoder = ? AND key IN ({marks})"
                for row, key, checksum, vector in connection.execute(query, (encoder, *part)):
                    if is_intact(seed, key, checksum, vector) and len(vector) == self._bytes:
                        rows[key] = row
                        blobs.append(vector)
                    else:
                        wrong.append((row,))
            vectors = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), self._bytes // 4)
            found = {key: place for place, key in enumerate(rows)}
            unsound = np.flatnonzero(~sound(vectors)).tolist()
            for key in [list(rows)[place] for place in unsound]:
                wrong.append((rows[key],))
                del found[key]
            if wrong:
                with connection:
                    connection.executemany("DELETE FROM vectors WHERE id = ?", wrong)
                self._warn(f"{len(wrong)} vectors in {self.path} were damaged; they are encoded again")
        return found, vectors

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Store vectors of unit length by key, all or none; existing keys keep their vectors.

        Raises:
            ColdStartError: the file is not a vector cache.
        """
        if not vectors:
            return
        seed = seed_of(self._fingerprint)
        kept = sound(np.stack(list(vectors.values())))
        blobs = {
            key: vector.astype("<f4").tobytes()
            for (key, vector), keep in zip(vectors.items(), kept.tolist(), strict=True) if keep
        }  # fmt: skip
        with self._guarded():
            make_private(self.path.parent)
            with closing(connect(self.path)) as connection, connection:
                # IMMEDIATE, because two writers that both read first would wait for each other.
                connection.execute("BEGIN IMMEDIATE")
                known = "INSERT OR IGNORE INTO encoders (fingerprint, salt) VALUES (?, ?)"
                connection.execute(known, [self._fingerprint, salt_id()])
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
            if is_damage(error):
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
