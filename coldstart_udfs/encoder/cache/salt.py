"""The secret of this machine with which the vector cache hashes texts."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path

from coldstart_udfs.encoder.places import make_private, own_folder

_BYTES = 32


@lru_cache(maxsize=1)
def salt() -> bytes:
    """32 random bytes in `cache.key` of `own_folder`, which only this user can read; created if there are none.

    They are not in the cache file, so that keys in a copy of it say nothing about texts.

    Raises:
        OSError: they cannot be read or written.
    """
    path = own_folder() / "cache.key"
    found = _read(path)
    if len(found) == _BYTES:
        return found
    make_private(path.parent)
    handle, name = tempfile.mkstemp(prefix=".unfinished-", dir=path.parent)  # readable by this user only
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
        if found:  # cut short
            os.replace(name, path)
        else:
            _publish(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return _read(path)


@lru_cache(maxsize=1)
def salt_id() -> bytes:
    """8 bytes that tell salts apart and do not give them away; a cache file has them beside the keys of each.

    Raises:
        OSError: the salt cannot be read or written.
    """
    return hashlib.blake2b(b"id", digest_size=8, key=salt()).digest()


def _publish(name: str, path: Path) -> None:
    """Give a file its name, unless another process was first."""
    try:
        os.link(name, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        os.replace(name, path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
