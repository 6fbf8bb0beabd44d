"""Progress of encoding: counts of one piece of work, reported to the code that started it, which may also cancel it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class EncoderStats:
    """Counts of texts; a text that occurs several times in one call counts once.

    Attributes:
        hits: texts found in the cache.
        misses: texts not found in the cache; `hits + misses` is the number of texts asked for.
        encoded: texts that went through the model: the misses on which it did not fail.
    """

    hits: int = 0
    misses: int = 0
    encoded: int = 0

    def add(self, hits: int, misses: int, encoded: int) -> None:
        """Add to the three counts; the caller holds a lock."""
        self.hits += hits
        self.misses += misses
        self.encoded += encoded


class EncodingProgress:
    """What one piece of work has encoded so far. Several threads may add to it.

    Attributes:
        stats: the counts so far.
    """

    def __init__(self, report: Callable[[EncoderStats], None] | None = None) -> None:
        """Start at zero; `report` is called with `stats` after each run of texts, in the thread that encodes."""
        self.stats = EncoderStats()
        self._report = report
        self._cancelled = False
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Make the work raise KeyboardInterrupt after its current run of texts."""
        self._cancelled = True

    def add(self, hits: int, misses: int, encoded: int) -> None:
        """Add to the counts and report them.

        Raises:
            KeyboardInterrupt: `cancel` was called. Not an Exception, so that `try_embed()` does not catch it.
        """
        with self._lock:
            self.stats.add(hits, misses, encoded)
        if self._report:
            self._report(self.stats)
        if self._cancelled:
            raise KeyboardInterrupt


# The progress objects that this thread, or asyncio task, reports to.
_current: ContextVar[Sequence[EncodingProgress]] = ContextVar("coldstart_encoding_progress", default=())


@contextmanager
def encoding_progress(report: Callable[[EncoderStats], None] | None = None) -> Iterator[EncodingProgress]:
    """Report what this thread encodes inside the block, with whatever encoder.

    Other threads that use the same encoder are not counted. Blocks nest: an outer block also counts what an inner one
    encodes. SQL functions run in DuckDB's threads and are not counted either; they report to
    `coldstart_udfs.sql.registration.connection_progress`.

    >>> from coldstart_udfs import Encoder
    >>> encoder = Encoder(backend="torch", cache=False)
    >>> with encoding_progress() as progress:
    ...     _ = encoder.encode(["a red lamp", "a crimson light"])
    >>> progress.stats.encoded
    2
    """
    progress = EncodingProgress(report)
    with reporting_to([*_current.get(), progress]):
        yield progress


@contextmanager
def reporting_to(progress: Sequence[EncodingProgress]) -> Iterator[None]:
    """Report what this thread encodes inside the block to these objects, and to no others."""
    token = _current.set(progress)
    try:
        yield
    finally:
        _current.reset(token)


def add_to_progress(hits: int, misses: int, encoded: int) -> None:
    """Add to the counts of every progress object of this thread: called by encoders."""
    for progress in _current.get():
        progress.add(hits, misses, encoded)
