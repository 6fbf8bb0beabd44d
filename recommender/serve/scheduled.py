"""Learning on a schedule: of all workers one runs what `coldstart learn --apply` does, in a process of its own.

`python -m recommender.serve.scheduled` is that process; its settings come as those of a worker do.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

from coldstart_udfs.errors import ColdStartError
from recommender.serve.events.leases import Lease
from recommender.serve.events.log import EventLog
from recommender.serve.logs import configure, log, place_of
from recommender.serve.metrics import SHARED
from recommender.serve.settings import Settings

# Exit statuses of the process.
_RESULTS = {0: "promoted", 1: "refused", 3: "nothing new"}
_UNITS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0}
# Seconds that a process has to end.
_PATIENCE = 10.0
# Says that standard input is the pipe of a worker.
_OF_A_WORKER = "--of-a-worker"


def period(text: str) -> float:
    """The seconds of a time such as 90m, 24h or 7d.

    Raises:
        ColdStartError: it is no such time, or less than a minute.

    >>> period("90m"), period("24h")
    (5400.0, 86400.0)
    """
    found = re.fullmatch(r"(\d+)([mhd])", text)
    if not found or not int(found[1]):
        raise ColdStartError(f"{text!r} is no time; give minutes, hours or days such as 90m, 24h, 7d")
    return int(found[1]) * _UNITS[found[2]]


class Schedule:
    """Starts a process when it is due, at the least priority, and waits for it; one worker of all does so.

    The first run is due one period after the service was first started with a period. When the next run is due is kept
    in the event log before a run starts, so that neither a restart nor a failure starts one again at once.

    Args:
        events: the event log, which all workers share.
        every: seconds from one start to the next.
        command: runs the process.
        ended: called with the result: promoted, refused, nothing new, failed.
    """

    def __init__(self, events: EventLog, every: float, command: list[str], ended: Callable[[str], None]) -> None:
        self._every, self._ended = timedelta(seconds=every), ended
        nice = shutil.which("nice")
        self._command = [*([nice, "-n", "19"] if nice else []), *command]
        self._lease = Lease(events, "learning")
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def of(cls, settings: Settings, events: EventLog, ended: Callable[[str], None]) -> Schedule:
        """The schedule of a service."""
        command = [sys.executable, "-m", "recommender.serve.scheduled", _OF_A_WORKER]
        return cls(events, settings.learn_every or 0.0, command, ended)

    def step(self) -> None:
        """Start the process if it is due, or see whether it has ended.

        Raises:
            EventLogError: the log cannot be read or written.
        """
        held = self._lease.held()
        if self._process is not None:
            self._watch()
        elif held:
            self._start()

    def close(self) -> None:
        """Stop the process; another worker waits until the next run is due."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            _leave_alone(self._process)
        self._lease.release()

    def _start(self) -> None:
        now = datetime.now(UTC)
        known = self._lease.state().get("due")
        due = min(datetime.fromisoformat(known), now + self._every) if known else now + self._every
        if now < due:
            if due.isoformat() != known:
                self._lease.keep({"due": due.isoformat()})
        elif self._lease.keep({"due": (now + self._every).isoformat()}):
            log.info("audit", action="learn", step="started")
            environment = {**os.environ}
            environment.pop(SHARED, None)  # it is no worker, whose numbers are shared
            # The pipe says when this worker has ended, however that was.
            self._process = subprocess.Popen(self._command, env=environment, stdin=subprocess.PIPE)

    def _watch(self) -> None:
        status = self._process.poll() if self._process else None
        if self._process is not None and status is not None:
            _leave_alone(self._process)
            self._process = None
            result = _RESULTS.get(status, "failed")
            log.info("audit", action="learn", step="ended", result=result, status=status)
            self._ended(result)


def _leave_alone(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe to a process that has ended."""
    if process.stdin is not None:
        process.stdin.close()


def end_with_the_worker() -> None:
    """Stop this process when the worker that started it is gone; a worker that is killed cannot do it."""

    def wait() -> None:
        os.read(0, 1)  # nobody writes
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    """Learn once, as the settings in the environment say; the exit status says how it went."""
    from recommender.serve.learning import learn, refresh_store

    settings = Settings.of_environment()
    if settings.raw is None or settings.data is None:
        raise ColdStartError("learning needs the raw files and the tables")
    with closing(EventLog.open(settings.events)) as events:
        done = learn(
            events, settings.raw, settings.data, settings.repo, settings.bundle, settings.data / "exported"
        )
    if done is None:
        return 3
    log.info("learned", step=done.entry.step, bundle=done.entry.bundle, why=done.entry.why)
    if done.entry.step != "promoted":
        return 1
    refresh_store(settings.repo)
    return 0


if __name__ == "__main__":
    configure()
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: sys.exit(4))  # what is half written is removed
    if _OF_A_WORKER in sys.argv:
        end_with_the_worker()
    try:
        sys.exit(main())
    except Exception as problem:
        log.error("learning failed", **place_of(problem))
        sys.exit(2)
