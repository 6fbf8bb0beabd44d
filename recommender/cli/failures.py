"""How a command ends where the machine fails it: a sentence and status 2; after Ctrl-C, status 130 without a word.

It is imported before everything else, and so imports nothing that costs time.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED, REFUSED = 130, 2

_AGAIN = "then run the same command again"
_ROOM = f"free some space there, {_AGAIN}"
_ALLOW = f"mend its permissions or name another place, {_AGAIN}"

# What is wrong with a file, and what to do, by the number of the system's error.
_SENTENCES = {
    errno.ENOSPC: ("{file} cannot be written, the disk is full", _ROOM),
    errno.EDQUOT: ("{file} cannot be written, your quota of the disk is used up", _ROOM),
    errno.EFBIG: ("{file} cannot be written, it is larger than allowed", f"raise the limit (ulimit -f), {_AGAIN}"),
    errno.EROFS: ("{file} cannot be written, its file system is read-only", f"name another place, {_AGAIN}"),
    errno.EACCES: ("{file} may not be read or written by this user", _ALLOW),
    errno.EPERM: ("{file} may not be changed by this user", _ALLOW),
    errno.ENOENT: ("{file} does not exist", "correct the path"),
    errno.EISDIR: ("{file} is a folder", "name a file"),
    errno.ENOTDIR: ("{file} is not in a folder, but below a file", "correct the path"),
    errno.EEXIST: ("{file} exists already", "name another, or move it away"),
    errno.ENOTEMPTY: ("{file} is a folder with files in it", "name another, or move it away"),
    errno.ENAMETOOLONG: ("{file} is too long a name", "name a shorter one"),
    errno.EMFILE: ("{file} cannot be opened, too many files are open", f"raise the limit (ulimit -n), {_AGAIN}"),
    errno.EIO: ("{file} cannot be read or written, the disk fails", "look at the disk"),
}

# The number of the system's error, by words in messages of libraries that do not give it.
_WORDS = {
    "no space left on device": errno.ENOSPC, "disk is full": errno.ENOSPC, "disk quota exceeded": errno.EDQUOT,
    "file too large": errno.EFBIG, "read-only file system": errno.EROFS, "permission denied": errno.EACCES,
    "readonly database": errno.EACCES, "unable to open database file": errno.EACCES,
    "too many open files": errno.EMFILE,
}  # fmt: skip


# DuckDB 2 gives some of its messages as JSON, with escaped quotes.
_QUOTED = re.compile(r"file \\?\"([^\"]+?)\\?\"|-> '([^']+)'")
_UNFINISHED = re.compile(r"\.unfinished-[^/\\]*[/\\]")


def run(command: Callable[[], int | None]) -> int:
    """Run a command and return the exit status of the process; its output is flushed.

    Raises:
        Exception: an error of the program itself.
    """
    _open_standard_streams()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    with _interrupts() as pressed:
        try:
            status = command() or 0
            sys.stdout.flush()
        except SystemExit as error:
            status = _status(error)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except Exception as error:
            # Libraries turn the exception of Ctrl-C into others, above all while they are imported.
            status = INTERRUPTED if pressed() else _ended(error)
        if pressed():
            status = INTERRUPTED
    return status


def sentence(error: BaseException) -> str | None:
    """What an error of the machine says to a user: the file, what is wrong, what to do. None for other errors.

    >>> sentence(PermissionError(13, "Permission denied", "data/items.parquet"))
    'data/items.parquet may not be read or written by this user; mend its permissions or name another place, then run the same command again'
    >>> sentence(KeyError("x")) is None
    True
    """  # noqa: E501
    if isinstance(error, MemoryError):
        return "there is not enough memory; give the command less data or the machine more memory"
    if isinstance(error, OSError):
        return _of_system(error.errno, _named(error), _message(error))
    if _is_of(error, "duckdb", "IOException") or _is_of(error, "sqlite3", "OperationalError"):
        return _of_system(None, "", str(error))
    return sentence(error.__cause__) if error.__cause__ else None


def _named(error: OSError) -> str:
    names = [name for name in (error.filename2, error.filename) if isinstance(name, (str, bytes, os.PathLike))]
    return os.fsdecode(names[0]) if names else ""


def _message(error: OSError) -> str:
    # shutil.Error is a list of (source, destination, message): the first says enough.
    first = error.args[0] if error.args else None
    return str(first[0][2]) if isinstance(first, list) and first and len(first[0]) == 3 else str(error)


def _of_system(number: int | None, file: str, message: str) -> str:
    text = " ".join(message.split())
    if number is None:
        number = next((one for words, one in _WORDS.items() if words in text.lower()), None)
    if number not in _SENTENCES:
        return f"{text}; make this possible, {_AGAIN}"
    quoted = _QUOTED.search(text)
    if quoted and not file:
        # Where files are written before they get their names, the folder is what a user knows.
        file, text = _UNFINISHED.sub("", quoted[1] or quoted[2]), ""
    what, remedy = _SENTENCES[number]
    shown = "" if file or not text else f" ({text})"
    return f"{what.format(file=file or 'a file')}{shown}; {remedy}"


def _is_of(error: BaseException, module: str, name: str) -> bool:
    """Whether an error is of a class of a module, which need not be imported."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(error, kind)


def _ended(error: Exception) -> int:
    """Tell an error of the machine; the exit status."""
    if isinstance(error, BrokenPipeError):  # the reader (`| head`) has left
        return 1
    told = sentence(error)
    if told is None:
        raise error
    tell(told)
    return REFUSED


def tell(message: str) -> None:
    """Write an error to stderr."""
    with contextlib.suppress(OSError):
        print(f"error: {message}", file=sys.stderr, flush=True)


class _Output(io.FileIO):
    """Standard output, whose errors say that it is that."""

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            error.filename = "the output"
            # What is buffered leads nowhere, or Python would fail at exit once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            raise


def _status(error: SystemExit) -> int:
    if isinstance(error.code, str):
        tell(error.code)
        return 1
    return error.code or 0


def _open_standard_streams() -> None:
    """Let closed streams lead nowhere, or the next file would get their number; escape what an encoding lacks."""
    with contextlib.suppress(OSError):
        while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(opened)
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if number and isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", getattr(sys.stdout, "buffer", None))
    if type(raw) is io.FileIO and isinstance(sys.stdout, io.TextIOWrapper):
        out, named = sys.stdout, _Output(raw.fileno(), "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            named if out.buffer is raw else io.BufferedWriter(named), encoding=out.encoding, errors=out.errors,
            line_buffering=out.line_buffering, write_through=out.write_through,
        )  # fmt: skip


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed, even if its exception was swallowed."""
    count = 0

    def press(signum: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored (nohup, &), or another program's
        yield lambda: count > 0
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: count > 0
    finally:
        signal.signal(signal.SIGINT, before)
