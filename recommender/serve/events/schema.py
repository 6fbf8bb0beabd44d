"""The tables of the event log, and what they need of SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from coldstart_udfs.errors import ColdStartError

DIALECTS = ("sqlite", "postgresql")
# Seconds that a writer waits for another process.
_PATIENCE = 30
_MIGRATING = 0x636F6C64  # any number: the name of the lock
_MIGRATIONS = Path(__file__).with_name("migrations")

metadata = MetaData()

# One row. `last` is the id of the last entry. A writer changes it first, and the row stays locked until the commit: so
# ids become visible in their order, whichever process writes. `salt` keys the digests of erased ids.
log_state = Table(
    "log_state", metadata,
    Column("only", Integer, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False), Column("salt", LargeBinary, nullable=False),
)  # fmt: skip

# Moments are microseconds since 1970, UTC.
events = Table(
    "events", metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", Text, nullable=False), Column("item_id", Text), Column("event_type", Text, nullable=False),
    Column("event_us", BigInteger, nullable=False), Column("weight", Float(53)), Column("rating", Float(53)),
    Column("position", Integer), Column("query", Text), Column("recommendation_id", Text),
    Index("events_of_user", "user_id"), Index("events_of_recommendation", "recommendation_id"),
)  # fmt: skip

descriptions = Table(
    "descriptions", metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("entity", Text, nullable=False), Column("entity_id", Text, nullable=False),
    Column("description", Text, nullable=False), Column("attributes", Text),
    Column("event_us", BigInteger, nullable=False),
    Index("descriptions_of_entity", "entity", "entity_id"),
)  # fmt: skip

# Users who were erased. The digest says that an id is theirs, and does not say the id.
erasures = Table(
    "erasures", metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False), Column("digest", LargeBinary, nullable=False),
)  # fmt: skip

# Appends with an idempotency key: digests of key and contents, and the ids that were given.
batches = Table(
    "batches", metadata,
    Column("key_digest", LargeBinary, primary_key=True), Column("digest", LargeBinary, nullable=False),
    Column("first_id", BigInteger, nullable=False), Column("size", Integer, nullable=False),
    Column("received_us", BigInteger, nullable=False), Index("batches_by_age", "received_us"),
)  # fmt: skip

# Work that one worker does for all: who does it, until when nobody else may, and what the next one has to know (JSON).
leases = Table(
    "leases", metadata,
    Column("name", Text, primary_key=True), Column("holder", Text), Column("until_us", BigInteger, nullable=False),
    Column("state", Text),
)  # fmt: skip

# `spec` is the experiment as it was created (JSON), `buckets` the part of the layer that it has since it was started.
experiments = Table(
    "experiments", metadata,
    Column("name", Text, primary_key=True), Column("layer", Text, nullable=False),
    Column("state", Text, nullable=False), Column("spec", Text, nullable=False), Column("buckets", Text),
    Column("created_us", BigInteger, nullable=False), Column("started_us", BigInteger),
    Column("stopped_us", BigInteger),
)  # fmt: skip

# Who was shown which arm, once per `occasion`: a day; or an answer of two arms, with the items of each in `teams`.
exposures = Table(
    "exposures", metadata,
    Column("experiment", Text, primary_key=True), Column("user_id", Text, primary_key=True),
    Column("occasion", Text, primary_key=True), Column("arm", Text, nullable=False),
    Column("exposed_us", BigInteger, nullable=False), Column("recommendation_id", Text, nullable=False),
    Column("teams", Text), Index("exposures_of_user", "user_id"),
)  # fmt: skip

# What was explored: see `recommender.serve.policy.decisions`. `items` is JSON; `probabilities` are float64 and
# `contexts` float32, little-endian, row by row. `settled` numbers the rows whose reward is known, in the order in which
# it became so.
explorations = Table(
    "explorations", metadata,
    Column("recommendation_id", Text, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("user_id", Text, nullable=False), Column("at_us", BigInteger, nullable=False),
    Column("item_id", Text, nullable=False), Column("items", Text, nullable=False),
    Column("probabilities", LargeBinary, nullable=False), Column("contexts", LargeBinary, nullable=False),
    Column("policy", Text, nullable=False), Column("settled", BigInteger), Column("reward", Float(53)),
    Index("explorations_of_user", "user_id"), Index("explorations_by_time", "at_us"),
    Index("explorations_settled", "settled"),
)  # fmt: skip


def connect(url: str, *, create: bool = True) -> Engine:
    """An engine whose commits are durable, with the tables of this version.

    Raises:
        ColdStartError: the URL names no SQLite or PostgreSQL database, or one without a log that shall not be created.
    """
    try:
        parsed = make_url(url)
        known = parsed.get_backend_name() in DIALECTS
        if known and parsed.get_backend_name() == "sqlite" and parsed.database and parsed.database != ":memory:":
            file = Path(parsed.database).absolute()
            if not create and not file.is_file():
                raise ColdStartError(_missing(url))
            file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite") if known else None
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, OSError) as error:
        raise ColdStartError(f"the event log cannot be at {shown(url)}: {error}; {_POSSIBLE}") from None
    if engine is None:
        raise ColdStartError(f"the event log cannot be at {shown(url)}; {_POSSIBLE}")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgresql)
    if not create and not inspect(engine).has_table(log_state.name):
        engine.dispose()
        raise ColdStartError(_missing(url))
    _migrate(engine)
    return engine


def exists(url: str) -> bool:
    """Whether there may be a log at a URL: false only for a file of SQLite that is not there."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return True  # `connect` says what is wrong with it
    return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").is_file()


def _missing(url: str) -> str:
    return f"there is no event log at {shown(url)}; name the one that `coldstart serve` writes (--events)"


_POSSIBLE = "give sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"


def shown(url: str) -> str:
    """A URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url.partition("://")[0])


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin by `_begin_sqlite`
    # In this order: the write-ahead log is chosen under the lock that the timeout waits for.
    for pragma in (f"busy_timeout = {_PATIENCE * 1000}", "journal_mode = WAL", "synchronous = FULL",
                   "secure_delete = ON"):  # fmt: skip
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _prepare_postgresql(connection: Any, _: Any) -> None:
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.execute(f"SET lock_timeout = '{_PATIENCE}s'")
    connection.commit()


def _migrate(engine: Engine) -> None:
    """Bring the tables to this version; of several processes one does it, the others wait."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(text("SELECT 1"))
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
