"""`EventLog`: an append-only log of events in SQLite or PostgreSQL, which several processes share."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import has_text
from coldstart_udfs.text.redaction import redact
from recommender.serve.events import schema
from recommender.serve.events.changes import Appended, Changes, Erased, Side
from recommender.serve.events.event import Event, check_text
from recommender.serve.events.rows import EPOCH, contents_digest, read, to_description, to_event, to_row, to_us

T = TypeVar("T")

# How far clocks of those who send events may be ahead.
_AHEAD = timedelta(minutes=5)
# For how long an idempotency key is known.
KEY_MEMORY = timedelta(days=7)


class EventLogError(ColdStartError):
    """The database of the event log cannot be read or written."""


class IdempotencyError(ColdStartError):
    """An idempotency key came with other events than before."""


@dataclass(slots=True)
class _Work:
    """A write that waits for its commit."""

    write: Callable[[Connection], Any]
    done: bool = False
    result: Any = None
    error: BaseException | None = field(default=None)


class EventLog:
    """A log of events, descriptions and erasures. What it has acknowledged survives a crash of process and machine.

    Any number of threads and processes may write and read. Writes of several threads share a commit, so one fsync. Each
    entry has an id from one counter; an id can be read only after all lower ones.

    Attributes:
        identity: says which log it is; another log has another one.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._waiting: list[_Work] = []
        self._queueing, self._committing = threading.Lock(), threading.Lock()
        in_file = self._sqlite and engine.url.database not in (None, "", ":memory:")
        self._file = Path(str(engine.url.database)).absolute() if in_file else None
        self._inode = _inode(self._file)
        with self.reading() as connection:
            self._salt = bytes(connection.execute(select(schema.log_state.c.salt)).scalar_one())
        self.identity = hashlib.sha256(b"identity" + self._salt).hexdigest()[:16]

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> EventLog:
        """Open a log, and create or upgrade its tables.

        Args:
            url: sqlite:///FILE, or postgresql+psycopg://USER@HOST/DATABASE.
            create: whether to make a log where there is none.

        Raises:
            ColdStartError: the URL is of another kind, the database cannot be opened, or there is no log in it.
        """
        try:
            return cls(schema.connect(url, create=create))
        except SQLAlchemyError as error:
            raise EventLogError(f"the event log cannot be opened: {_reason(error)}; see that the database is there "
                                "and may be written") from None  # fmt: skip

    @property
    def last(self) -> int:
        """The id of the last entry; 0 for an empty log."""
        return self.after(0, limit=0).last

    def append(self, events: Sequence[Event], key: str | None = None) -> Appended:
        """Write events, all or none. They are durable when this returns.

        Searches are redacted first (see `coldstart_udfs.text.redaction`).

        Args:
            events: in the order in which they count.
            key: an idempotency key. The same key with the same events again gives the first answer, for seven days.

        Raises:
            IdempotencyError: the key came with other events before; nothing was written.
            ColdStartError: an event is in the future; nothing was written.
            EventLogError: the database cannot be written. If it was lost during the commit, the events may be in it:
                send them again with the same key.
        """
        latest = max((event.event_timestamp for event in events), default=EPOCH)
        if latest > datetime.now(UTC) + _AHEAD:
            raise ColdStartError(
                f"the event_timestamp {latest.isoformat()} is in the future; see to the clock of the sender"
            )
        stored = [replace(event, query=redact(event.query)) if event.query else event for event in events]
        if not stored:
            return Appended([])
        return self.transaction(lambda connection: self._append(connection, stored, key))

    def put(self, side: Side, entity_id: str, description: str, attributes: Sequence[str] | None = None) -> int:
        """Write the description of a user or an item; a user's is redacted first. It is durable when this returns.

        Args:
            side: "user" or "item".
            entity_id: its id, known or new.
            description: "" for none.
            attributes: "column=value"; None: they stay as they are.

        Returns:
            The id of the entry.

        Raises:
            ColdStartError: the id is blank, a text cannot be stored, or the database cannot be written.
        """
        if not has_text(entity_id):
            raise ColdStartError(f"{entity_id!r} is no {side}_id: ids are not blank")
        for text in (entity_id, description, *(attributes or ())):
            check_text(f"what describes the {side}", text)
        row = {
            "entity": side, "entity_id": entity_id,
            "description": redact(description) if side == "user" else description,
            "attributes": None if attributes is None else json.dumps(list(attributes), ensure_ascii=False),
            "event_us": to_us(datetime.now(UTC)),
        }  # fmt: skip

        def write(connection: Connection) -> int:
            number = self._last(connection) + 1
            connection.execute(insert(schema.descriptions), {"id": number, **row})
            return self._advance(connection, number)

        found: int = self.transaction(write)
        return found

    def after(self, watermark: int, limit: int = 50_000) -> Changes:
        """Return what was written after a watermark, oldest first.

        Args:
            watermark: of the last `Changes`; 0 is the beginning.
            limit: how many ids to read at most.

        Raises:
            EventLogError: the database cannot be read.
        """
        with self.reading() as connection:
            last = int(connection.execute(select(schema.log_state.c.last)).scalar_one())
            end = min(last, watermark + limit)
            if end <= watermark:
                return Changes([], [], [], watermark, max(last, watermark))
            rows = {
                table.name: connection.execute(
                    select(table).where(table.c.id > watermark, table.c.id <= end).order_by(table.c.id)
                ).all()
                for table in (schema.events, schema.descriptions, schema.erasures)
            }
        events, odd_events = read(rows["events"], to_event)
        descriptions, odd_descriptions = read(rows["descriptions"], to_description)
        erasures = [(row.id, bytes(row.digest)) for row in rows["erasures"]]
        return Changes(events, descriptions, erasures, end, last, [*odd_events, *odd_descriptions])

    def erase_user(self, user_id: str, *, dry_run: bool = False) -> Erased:
        """Erase what a user did, searched for and said of themselves, and what was explored with them.

        Later events of the same id count again.

        Args:
            user_id: the user.
            dry_run: only count.

        Returns:
            The numbers of rows that were erased, and what their bytes are still in.

        Raises:
            EventLogError: the database cannot be written; nothing was erased.
        """
        of_user = {
            schema.events: schema.events.c.user_id == user_id,
            schema.descriptions: and_(
                schema.descriptions.c.entity == "user", schema.descriptions.c.entity_id == user_id
            ),
            schema.exposures: schema.exposures.c.user_id == user_id,
            schema.explorations: schema.explorations.c.user_id == user_id,
        }  # fmt: skip
        return self._erase(of_user, self.digest_of(user_id), dry_run)

    def erase_item(self, item_id: str, *, dry_run: bool = False) -> Erased:
        """Erase what was said of an item. What users did with it stays, and is theirs.

        Arguments, result and errors are those of `erase_user`. Workers keep the item until they start again.
        """
        said = schema.descriptions.c
        of_item = {schema.descriptions: and_(said.entity == "item", said.entity_id == item_id)}
        return self._erase(of_item, None, dry_run)

    def _erase(self, of_entity: Mapping[Table, ColumnElement[bool]], digest: bytes | None, dry_run: bool) -> Erased:
        """Erase rows; the digest tells those who follow the log of a user that is gone."""
        if dry_run:
            with self.reading() as connection:
                found = {
                    table.name: connection.execute(select(func.count()).select_from(table).where(those)).scalar_one()
                    for table, those in of_entity.items()
                }
            return Erased(found, [])

        def write(connection: Connection) -> dict[str, int]:
            number = self._last(connection) + 1
            gone = {
                table.name: connection.execute(delete(table).where(those)).rowcount
                for table, those in of_entity.items()
            }
            if digest is not None:
                connection.execute(insert(schema.erasures), {"id": number, "digest": digest})
                self._advance(connection, number)
            return gone

        removed = self.transaction(write)
        if not self._sqlite:
            remains = ["PostgreSQL keeps erased rows until its next VACUUM, and in its write-ahead log, replicas and "
                       "backups for as long as they are kept"]  # fmt: skip
        elif self._empty_wal():
            remains = []
        else:
            remains = ["another process reads the event log, so its file events.db-wal has the erased rows until "
                       "somebody writes"]  # fmt: skip
        return Erased(removed, remains)

    def erased(self, user_ids: Sequence[str], *, after: int) -> list[str]:
        """Who of these was erased after an entry of the log.

        Raises:
            EventLogError: the database cannot be read.
        """
        table = schema.erasures
        with self.reading() as connection:
            found = connection.execute(select(table.c.digest).where(table.c.id > after)).scalars().all()
        digests = {bytes(digest) for digest in found}
        return [name for name in user_ids if self.digest_of(name) in digests] if digests else []

    def digest_of(self, user_id: str) -> bytes:
        """What `Changes.erasures` calls a user."""
        return hmac.digest(self._salt, user_id.encode(), "sha256")

    def transaction(self, write: Callable[[Connection], T]) -> T:
        """Run a write in a transaction, which it shares with those of other threads that wait at the same time.

        Args:
            write: begins with a statement that writes. If it raises a ColdStartError, it has written nothing.

        Returns:
            What `write` returns; it is durable.

        Raises:
            EventLogError: the database cannot be written.
        """
        mine = _Work(write)
        with self._queueing:
            self._waiting.append(mine)
        with self._committing:
            if not mine.done:
                with self._queueing:
                    works, self._waiting = self._waiting, []
                self._commit(works)
        if mine.error is not None:
            raise mine.error
        result: T = mine.result
        return result

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _append(self, connection: Connection, events: Sequence[Event], key: str | None) -> Appended:
        last = self._last(connection)
        if key is not None:
            named, digest = hashlib.sha256(key.encode()).digest(), contents_digest(events)
            before = connection.execute(select(schema.batches).where(schema.batches.c.key_digest == named)).first()
            if before is not None:
                if bytes(before.digest) != digest:
                    raise IdempotencyError("this idempotency key came with other events before; give each request its "
                                           "own key, and the same key only to the same events")  # fmt: skip
                return Appended(range(before.first_id, before.first_id + before.size), replayed=True)
            now = datetime.now(UTC)
            batch = {"key_digest": named, "digest": digest, "first_id": last + 1, "size": len(events),
                     "received_us": to_us(now)}  # fmt: skip
            forgotten = schema.batches.c.received_us < to_us(now - KEY_MEMORY)
            connection.execute(delete(schema.batches).where(forgotten))
            connection.execute(insert(schema.batches), batch)
        ids = range(last + 1, last + 1 + len(events))
        rows = [to_row(number, event) for number, event in zip(ids, events, strict=True)]
        connection.execute(insert(schema.events), rows)
        self._advance(connection, ids[-1])
        return Appended(ids)

    def _last(self, connection: Connection) -> int:
        """The id of the last entry; other processes cannot write until the transaction has ended."""
        state = schema.log_state
        return int(connection.execute(update(state).values(last=state.c.last).returning(state.c.last)).scalar_one())

    def _advance(self, connection: Connection, last: int) -> int:
        connection.execute(update(schema.log_state).values(last=last))
        return last

    def _commit(self, works: Sequence[_Work]) -> None:
        try:
            self._check_file()
            with self._engine.begin() as connection:
                for work in works:
                    try:
                        work.result = work.write(connection)
                    except ColdStartError as error:  # it has written nothing
                        work.error = error
        except BaseException as error:
            failed = error
            if isinstance(error, SQLAlchemyError):
                failed = EventLogError(
                    f"the event log cannot be written: {_reason(error)}; send the same again, with the same "
                    "idempotency key, when its database is up and has room"
                )
            for work in works:
                work.error = work.error or failed
            if not isinstance(error, SQLAlchemyError):
                raise
        finally:
            for work in works:
                work.done = True

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database.

        Raises:
            EventLogError: the database cannot be read.
        """
        self._check_file()
        level = {} if self._sqlite else {"isolation_level": "REPEATABLE READ"}
        try:
            with self._engine.connect().execution_options(**level) as connection:
                yield connection
        except SQLAlchemyError as error:
            raise EventLogError(f"the event log cannot be read: {_reason(error)}; is its database up?") from None

    def _check_file(self) -> None:
        """Raise an error if SQLite's file was taken away: what is written to it then, nobody would ever read."""
        if _inode(self._file) != self._inode:
            raise EventLogError(
                f"the file of the event log, {self._file}, was removed or replaced; put it back, or restart the service"
            )

    def _empty_wal(self) -> bool:
        """Empty SQLite's write-ahead log, which has pages as they were; whether no reader prevented it."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            return not connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]


def _inode(file: Path | None) -> int | None:
    try:
        return file.stat().st_ino if file else None
    except FileNotFoundError:
        return 0


def _reason(error: SQLAlchemyError) -> str:
    """The database's own words, without statement and parameters, which hold what users did."""
    return str(getattr(error, "orig", None) or type(error).__name__).partition("\n")[0]
