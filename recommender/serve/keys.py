"""API keys: made, listed and revoked in a file that holds their hashes."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import threading
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text

SCOPES = ("read", "feedback", "admin")
_FORM = re.compile(r"csk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
# A name shows in lists and logs.
_NAME = re.compile(r"[\w .-]{1,64}")


@dataclass(frozen=True)
class Key:
    """One key, without the key itself.

    Attributes:
        id: the public part.
        name: whose it is.
        scopes: what it may do: "read" asks, "feedback" sends events, "admin" writes and erases users and items, and
            runs experiments.
        created: ISO 8601, UTC.
        expires: likewise; None is never.
        sha256: of the whole key.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    created: str
    expires: str | None
    sha256: str

    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and datetime.fromisoformat(self.expires) <= datetime.now(UTC)


class KeyFile:
    """The keys in a file, which is read again when it changes, so that a revoked key ends in every worker.

    Args:
        path: a JSON file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def all(self) -> list[Key]:
        """All keys, expired ones too.

        Raises:
            ColdStartError: the file is no file of keys.
        """
        return list(self._read().values())

    def create(self, name: str, scopes: Collection[str], days: int | None = None) -> tuple[str, Key]:
        """Make a key of 256 random bits; only its hash is kept.

        Args:
            name: whose it is.
            scopes: of `SCOPES`.
            days: until it expires; None is never.

        Returns:
            The key, which nobody can find out again, and what is kept of it.

        Raises:
            ColdStartError: no scope, an unknown one, or a name with other characters than letters, digits and `_ .-`.
        """
        if not scopes or not set(scopes) <= set(SCOPES):
            raise ColdStartError(f"scopes are {sorted(scopes)}; give some of {', '.join(SCOPES)}")
        if not _NAME.fullmatch(name):
            raise ColdStartError(f"the name is {name!r}; give 1 to 64 letters, digits, spaces, dots, hyphens")
        now, public = datetime.now(UTC), secrets.token_hex(6)
        whole = f"csk_{public}_{secrets.token_urlsafe(32)}"
        expires = None if days is None else (now + timedelta(days=days)).isoformat(timespec="seconds")
        chosen = tuple(scope for scope in SCOPES if scope in scopes)
        key = Key(public, name, chosen, now.isoformat(timespec="seconds"), expires, _hash(whole))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock"):
            self._write([*self.all(), key])
        return whole, key

    def revoke(self, public: str) -> Key:
        """Take a key away.

        Raises:
            ColdStartError: there is no key with this id.
        """
        with FileLock(f"{self._path}.lock"):
            keys = self._read()
            if public not in keys:
                raise ColdStartError(f"{self._path} has no key {public!r}; it has {sorted(keys)}")
            self._write([key for name, key in keys.items() if name != public])
        return keys[public]

    def find(self, given: str) -> Key | None:
        """The key that a client gives, unless it is unknown or expired.

        Its public part says with which hash it is compared, in constant time.

        Raises:
            ColdStartError: the file cannot be read, or is no file of keys.
        """
        form = _FORM.fullmatch(given)
        key = self._read().get(form[1]) if form else None
        same = hmac.compare_digest(key.sha256 if key else "0" * 64, _hash(given))
        return key if key and same and not key.expired() else None

    def _read(self) -> dict[str, Key]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return {}
        seen = status.st_mtime_ns, status.st_size, status.st_ino
        with self._lock:
            if seen != self._seen:
                try:
                    given = json.loads(self._path.read_text(encoding="utf-8"))["keys"]
                    found = [_checked(Key(**one | {"scopes": tuple(one["scopes"])})) for one in given]
                except (OSError, ValueError, TypeError, KeyError) as error:
                    raise ColdStartError(
                        f"{self._path} is no file of keys: {error}; `coldstart keys create` writes one"
                    ) from None
                self._keys, self._seen = {key.id: key for key in found}, seen
            return self._keys

    def _write(self, keys: list[Key]) -> None:
        write_text(self._path, json.dumps({"keys": [asdict(key) for key in keys]}, indent=2) + "\n")
        os.chmod(self._path, 0o600)


def _checked(key: Key) -> Key:
    """A key of a file, if it can be compared with what clients give; otherwise a ValueError or TypeError."""
    if not set(key.scopes) <= set(SCOPES):
        raise ValueError(f"the scopes of {key.id!r} are {key.scopes}; possible are {', '.join(SCOPES)}")
    key.expired()
    hmac.compare_digest(key.sha256, _hash(""))
    return key


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
