"""The log of exposures: which user was shown which arm, in the database of the event log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime

from sqlalchemy import Connection, select, text

from coldstart_udfs.errors import ColdStartError
from recommender.serve.events import schema
from recommender.serve.events.log import EventLog
from recommender.serve.events.rows import to_us

# Exposures that wait for the database at most; the oldest are given up then.
MOST_WAITING = 100_000
_MOST_REMEMBERED = 1_000_000


@dataclass(frozen=True)
class Exposure:
    """A user was shown an arm.

    Attributes:
        experiment: its name.
        user_id: who.
        occasion: what is logged once: a day, or an answer that two arms filled.
        arm: its name; of an interleaved answer "".
        exposed_us: when, in microseconds since 1970, UTC.
        recommendation_id: of the answer; the first one of a day.
        teams: of an interleaved answer, JSON: the arm of each item.
    """

    experiment: str
    user_id: str
    occasion: str
    arm: str
    exposed_us: int
    recommendation_id: str
    teams: str | None = None


# The row that is there stays: it was the first. Both databases have it; SQLAlchemy has it for each alone.
_INSERT = text(
    f"INSERT INTO exposures ({', '.join(one.name for one in fields(Exposure))}) "
    f"VALUES ({', '.join(f':{one.name}' for one in fields(Exposure))}) ON CONFLICT DO NOTHING"
)


class ExposureLog:
    """Collects exposures of one worker, and writes them in batches beside the requests.

    What was collected since the last `flush` is lost if the process is killed. The user is then logged with the next
    answer, of whichever arm: what is lost does not depend on the arm.

    Args:
        log: the event log.
        counted: called with "written" or "lost", and a number of exposures.
    """

    def __init__(self, log: EventLog, counted: Callable[[str, int], None] = lambda *_: None) -> None:
        self._log, self._counted = log, counted
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._waiting: list[tuple[int, Exposure]] = []
        # Hashes with a key of this process: no id of a user is kept.
        self._known: set[int] = set()

    def add(
        self, experiment: str, user_id: str, arm: str, recommendation_id: str, watermark: int, teams: str | None = None
    ) -> None:
        """Note an exposure; of an arm once per user and day.

        Args:
            experiment: its name.
            user_id: who.
            arm: its name.
            recommendation_id: of the answer.
            watermark: of the event log; if the user is erased after it, the exposure is not written.
            teams: see `Exposure`.
        """
        now = datetime.now(UTC)
        occasion = now.date().isoformat() if teams is None else recommendation_id
        key = hash((experiment, user_id, occasion))
        with self._lock:
            if teams is None:
                if key in self._known:
                    return
                if len(self._known) >= _MOST_REMEMBERED:
                    self._known.clear()  # the database knows
                self._known.add(key)
            self._waiting.append((watermark, Exposure(
                experiment, user_id, occasion, arm, to_us(now), recommendation_id, teams
            )))  # fmt: skip
            lost = len(self._waiting) - MOST_WAITING
            if lost > 0:
                del self._waiting[:lost]
        if lost > 0:
            self._counted("lost", lost)

    def flush(self) -> int:
        """Write what was collected; how many exposures these are.

        Raises:
            EventLogError: the database cannot be written; the next call tries again.
        """
        with self._flushing:
            with self._lock:
                waiting, self._waiting = self._waiting, []
            if not waiting:
                return 0
            try:
                done = self._log.transaction(lambda connection: self._write(connection, waiting))
            except ColdStartError:
                with self._lock:
                    self._waiting[:0] = waiting
                raise
            self._counted("written", done)
            return done

    def _write(self, connection: Connection, waiting: Sequence[tuple[int, Exposure]]) -> int:
        state, table = schema.log_state, schema.erasures
        connection.execute(state.update().values(last=state.c.last))  # others wait: nobody is erased meanwhile
        oldest = min(watermark for watermark, _ in waiting)
        rows = connection.execute(select(table.c.id, table.c.digest).where(table.c.id > oldest)).all()
        gone = {bytes(row.digest): row.id for row in rows}
        kept = [
            asdict(one) for watermark, one in waiting
            if not gone or gone.get(self._log.digest_of(one.user_id), 0) <= watermark
        ]  # fmt: skip
        if kept:
            connection.execute(_INSERT, kept)
        return len(kept)
