"""`Lease`: work that one of the workers that share an event log does for all of them."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, or_, select, text, update

from recommender.serve.events import schema
from recommender.serve.events.log import EventLog
from recommender.serve.events.rows import to_us

# For how long work belongs to a worker that has not been heard of; clocks of machines may differ by less.
SECONDS = 60.0
# Both databases have it; SQLAlchemy has it for each alone.
_FIRST = text("INSERT INTO leases (name, until_us) VALUES (:name, 0) ON CONFLICT DO NOTHING")


class Lease:
    """Work with a name, which at most one holder does at a time; a holder that has died loses it after a while.

    The lease is a row in the database of the log, so it holds over processes and machines.

    Args:
        log: which the workers share.
        name: of the work.
        seconds: for how long the work belongs to a holder that does not ask again.
    """

    def __init__(self, log: EventLog, name: str, seconds: float = SECONDS) -> None:
        self._log, self._name, self._length = log, name, timedelta(seconds=seconds)
        self._me, self._sure = uuid4().hex, 0.0

    def held(self) -> bool:
        """Take the lease, or keep it for another while; whether this worker has it.

        Raises:
            EventLogError: the database cannot be written.
        """
        if time.monotonic() < self._sure:
            return True
        began = time.monotonic()
        held = self._log.transaction(self._take)
        self._sure = began + self._length.total_seconds() / 2 if held else 0.0
        return held

    def state(self) -> dict[str, Any]:
        """What was kept last, by whichever holder; {} if nothing was.

        Raises:
            EventLogError: the database cannot be read.
        """
        table = schema.leases
        with self._log.reading() as connection:
            kept = connection.execute(select(table.c.state).where(table.c.name == self._name)).scalar()
        return dict(json.loads(kept)) if kept else {}

    def keep(self, state: dict[str, Any]) -> bool:
        """Keep what the next holder has to know; False, and nothing is kept, if this worker has lost the lease.

        Raises:
            EventLogError: the database cannot be written.
        """
        table = schema.leases
        mine = update(table).where(table.c.name == self._name, table.c.holder == self._me)
        written = mine.values(state=json.dumps(state))
        kept = self._log.transaction(lambda connection: connection.execute(written).rowcount > 0)
        self._sure = self._sure if kept else 0.0
        return kept

    def release(self) -> None:
        """Let another worker have it at once.

        Raises:
            EventLogError: the database cannot be written.
        """
        table, self._sure = schema.leases, 0.0
        freed = update(table).where(table.c.name == self._name, table.c.holder == self._me).values(until_us=0)
        self._log.transaction(lambda connection: connection.execute(freed))

    def _take(self, connection: Connection) -> bool:
        table, now = schema.leases, datetime.now(UTC)
        mine = {"holder": self._me, "until_us": to_us(now + self._length)}
        free = or_(table.c.holder == self._me, table.c.until_us < to_us(now))
        taken = update(table).where(table.c.name == self._name, free).values(**mine)
        if connection.execute(taken).rowcount:
            return True
        connection.execute(_FIRST, {"name": self._name})
        return connection.execute(taken).rowcount > 0
