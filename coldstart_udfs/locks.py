"""Locks between processes: who writes a file or a folder says so, and a second writer is told who that is.

The locks are the operating system's, which ends them with the process, so that a killed command blocks nobody.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from coldstart_udfs.errors import ColdStartError

# On Windows the locked byte cannot be read, so it lies far behind the text.
_LOCKED_BYTE = 1 << 30
_PAUSE = 0.02
_MISSING = 50
_WHOLE = "coldstart"


class InUseError(ColdStartError):
    """Another command writes what this one would write."""


def whole(folder: Path) -> Path:
    """What to lock for a folder as a whole, that need not exist: the lock is `folder/.coldstart.lock`."""
    return folder / _WHOLE


@contextmanager
def writing(*places: Path, command: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the locks of files or folders while the block writes them.

    The lock of `a/b` is the file `a/.b.lock`, which holds who has it as JSON and is deleted at the end. A folder that
    does not exist is created for it, and removed if the block leaves it empty. Where no lock can be made (a read-only
    folder, a full disk, a file system without locks) the block runs without one.

    Args:
        places: files, or `whole(folder)`, that the block writes; the order does not matter.
        command: what the caller runs, such as "coldstart embed", for the message of others.
        wait: for how many seconds to wait for another process.

    Raises:
        InUseError: another process, or another call in this one, has one of the locks; nothing was written.
    """
    until = time.monotonic() + wait
    with ExitStack() as stack:
        for place in sorted({place.parent.resolve() / place.name for place in places}):
            stack.enter_context(_held(place, command, until))
        yield


@contextmanager
def _held(place: Path, command: str, until: float) -> Iterator[None]:
    path = place.with_name(f".{place.name}.lock")
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    handle = _acquired(path, place, until)
    try:
        if handle is not None:
            with contextlib.suppress(OSError):  # a full disk, or the lock file of another user
                _describe(handle, command)
        yield
    finally:
        if handle is not None:
            _release(handle, path)
        for folder in made:
            with contextlib.suppress(OSError):  # it holds what the block wrote
                folder.rmdir()


def _acquired(path: Path, place: Path, until: float) -> int | None:
    """A handle that has the lock; None where no lock can be made."""
    missing = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = _open(path)
        except FileNotFoundError:  # another process has just removed the folder, or it takes no files: /proc
            missing += 1
            if missing > _MISSING:
                return None
            time.sleep(_PAUSE)
            continue
        except OSError:
            return None
        try:
            _lock(handle)
            if _is_at(handle, path):
                return handle
            _close(handle)  # the holder before deleted the file: there may be a new one
        except OSError as error:
            holder = _holder(handle)
            _close(handle)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
                return None
            if time.monotonic() >= until:
                named = place.parent if place.name == _WHOLE else place
                raise InUseError(
                    f"{named} is being written by {holder}; wait until that has ended, or stop it, then run the same "
                    "command again. Nothing was written"
                ) from None
            time.sleep(_PAUSE)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY)  # another user's, which is enough to see whether it is held


def _describe(handle: int, command: str) -> None:
    about = {"pid": os.getpid(), "host": socket.gethostname(), "command": command,
             "since": datetime.now(UTC).isoformat(timespec="seconds")}  # fmt: skip
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, json.dumps(about).encode())


def _holder(handle: int) -> str:
    """Who has the lock: "`coldstart embed` (process 4711 on host, since 2026-01-01 12:00:00 UTC)"."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        about = json.loads(os.read(handle, 4096))
        since = datetime.fromisoformat(about["since"])
        return f"`{about['command']}` (process {about['pid']} on {about['host']}, since {since:%Y-%m-%d %H:%M:%S} UTC)"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it has only just begun


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _release(handle: int, path: Path) -> None:
    if sys.platform == "win32":  # an open file cannot be deleted there, nor one that another process has opened
        _close(handle)
        with contextlib.suppress(OSError):
            path.unlink()
        return
    try:
        with contextlib.suppress(OSError):
            path.unlink()
    finally:  # Ctrl-C can come at any moment
        _close(handle)


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    def _close(handle: int) -> None:
        with contextlib.suppress(OSError):
            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
        os.close(handle)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _close(handle: int) -> None:
        os.close(handle)
