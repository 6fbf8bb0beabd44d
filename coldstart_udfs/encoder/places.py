"""Where vectors, derived models and the key of the vector cache are kept on this machine."""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from pathlib import Path

import platformdirs

_NAME = "coldstart"
_told: set[str] = set()


def own_folder() -> Path:
    """The folder of this user's vector cache and derived models; it need not exist yet.

    It is `coldstart` in the user's cache directory (XDG_CACHE_HOME on Linux). If that cannot be written, or the user
    has no home, it is a folder in the temporary directory that only this user can open, which is told once.
    """
    return _chosen()[0]


def can_keep() -> bool:
    """Whether files can be kept in `own_folder`."""
    return _chosen()[1]


def user_folder() -> Path | None:
    """`coldstart` in the user's cache directory, whether it can be written or not; None for a user without a home."""
    try:
        folder = platformdirs.user_cache_path(_NAME)
    except (RuntimeError, OSError, KeyError):
        return None
    return folder if folder.is_absolute() else None  # "~" stays where there is no home


def make_private(folder: Path) -> None:
    """Create a folder that only this user can open; `own_folder` is closed to others if it exists.

    Raises:
        OSError: it cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder == own_folder() and os.name == "posix":
        found = folder.stat()
        if found.st_uid == os.getuid() and found.st_mode & 0o077:
            folder.chmod(0o700)


def _chosen() -> tuple[Path, bool]:
    folder = user_folder()
    if folder is not None and _writable(folder):
        return folder, True
    lacks = f"{folder} cannot be written" if folder else "this user has no home directory"
    remedy = "set XDG_CACHE_HOME to a folder that can be written"
    temporary, usable = _temporary()
    if usable:
        _tell(f"{lacks}: vectors and derived models are kept in {temporary} instead; to keep them longer, {remedy}")
    else:
        _tell(f"{lacks}, nor can {temporary}: no vector or derived model is kept on this machine; {remedy}")
    return (temporary if usable else folder or temporary), usable


def _writable(folder: Path) -> bool:
    """Whether a folder can be written, or created in the nearest parent that exists."""
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    except (OSError, StopIteration):
        return False


def _temporary() -> tuple[Path, bool]:
    """A private folder in the temporary directory, and whether it can be used: others can create names there too."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        folder = Path(tempfile.gettempdir()) / f"{_NAME}-{user}"
    except OSError:
        return Path(os.sep, "tmp", f"{_NAME}-{user}"), False
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        private = os.name != "posix" or (found.st_uid == user and not found.st_mode & 0o077)
        return folder, stat.S_ISDIR(found.st_mode) and private and os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return folder, False


def _tell(message: str) -> None:
    if message not in _told:
        _told.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)
