"""Text × fingerprint → vector, on disk, shared by every process of this user on this machine."""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import platformdirs

from coldstart_udfs.profile import Vectors

# SQLite allows 32,766 bound values a statement; one lookup binds far fewer.
_KEYS_PER_QUERY = 1_000


def default_path() -> Path:
    """The machine's cache file: `vectors.sqlite` in the user's cache directory (XDG_CACHE_HOME on Linux)."""
    return platformdirs.user_cache_path("coldstart") / "vectors.sqlite"


class VectorCache:
    """A persistent map from (fingerprint, text) to a float32 vector.

    The cache is an optimisation and never a reason to fail: where the file cannot be read or written
    (disk full, no permission, not a database), it warns once and the encoder goes on without it.
    A connection is opened for each call, so that threads and forked workers share nothing.
    """

    def __init__(self, path: str | Path, fingerprint: str, dimensions: int) -> None:
        """Open no file yet.

        Args:
            path: the SQLite file; made, with its folder, at the first write.
            fingerprint: of the encoder whose vectors are kept; part of every key.
            dimensions: a stored vector of another length is not served.
        """
        self.path = Path(path)
        self._fingerprint = fingerprint.encode()
        self._bytes = dimensions * 4
        self._warned = False

    def get(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """The vectors that are known, by text."""
        if not texts or not self.path.exists():
            return {}
        keys = {self._key(text): text for text in texts}
        found: dict[str, Vectors] = {}
        try:
            with closing(self._connect()) as connection:
                names = list(keys)
                for start in range(0, len(names), _KEYS_PER_QUERY):
                    part = names[start : start + _KEYS_PER_QUERY]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"
                    for key, vector in connection.execute(query, part):
                        if len(vector) == self._bytes:
                            found[keys[key]] = np.frombuffer(vector, dtype="<f4")
        except (sqlite3.Error, OSError) as error:
            self._warn(error)
        return found

    def put(self, vectors: Mapping[str, Vectors]) -> None:
        """Remember vectors by text; a text that is already there keeps its own."""
        rows: Iterable[tuple[bytes, bytes]] = (
            (self._key(text), vector.astype("<f4").tobytes()) for text, vector in vectors.items()
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection, connection:
                connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)

    def _key(self, text: str) -> bytes:
        digest = hashlib.blake2b(self._fingerprint + b"\0", digest_size=16)
        digest.update(text.encode("utf-8"))
        return digest.digest()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30)
        try:
            # WAL lets readers go on while one process writes; a lost last write costs an encoding only.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the vector cache {self.path} cannot be used ({error}); encoding goes on without it. "
                "Delete the file, free some space, or pass cache=False.",
                RuntimeWarning,
                stacklevel=4,
            )
