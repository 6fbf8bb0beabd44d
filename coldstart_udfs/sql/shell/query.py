"""Running SQL for `coldstart sql`: cutting text into statements, and running each with progress and Ctrl-C."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
from rich.console import Console
from rich.live import Live
from rich.text import Text

from coldstart_udfs.encoder.progress import EncodingProgress
from coldstart_udfs.sql.registration import connection_progress

Connection = duckdb.DuckDBPyConnection
Relation = duckdb.DuckDBPyRelation
Statement = duckdb.Statement
T = TypeVar("T")

# Tables and views: name, path (with database and schema if they are not the current ones), kind, statement.
RELATIONS = """
    SELECT name, kind, sql, CASE WHEN database_name = current_database() AND schema_name = current_schema()
        THEN name ELSE concat_ws('.', database_name, schema_name, name) END AS path
    FROM (
        SELECT database_name, schema_name, table_name AS name, 'table' AS kind, sql
        FROM duckdb_tables() WHERE NOT internal
        UNION ALL SELECT database_name, schema_name, view_name, 'view', sql FROM duckdb_views() WHERE NOT internal
    )
"""

_QUIET_SECONDS = 0.5
_PYTHON_ERROR = "Python exception occurred while executing the UDF: "


class StatementError(Exception):
    """A statement failed.

    Attributes:
        details: the useful part of DuckDB's message; `str()` is its first line.
        line: " (line 3)" if DuckDB names a line of the text that it parsed, else "".
    """

    def __init__(self, error: BaseException) -> None:
        # Errors of our functions are wrapped by DuckDB; 1.x adds a traceback.
        text = str(error).strip().split("\n\nAt:")[0].split(_PYTHON_ERROR)[-1].removeprefix("ColdStartError: ")
        first, *further = text.split("\n\n")
        super().__init__(first.split("\n")[0])
        # On DuckDB 1.x the quoted line may belong to the projection that `batches` adds.
        line = re.search(r"^LINE (\d+):", text, re.MULTILINE)
        self.line = f" (line {line[1]})" if line else ""
        self.details = "\n".join([first, *(part for part in further if "(#1" not in part)])


class Cancelled(Exception):  # noqa: N818  # not an error
    """The user cancelled the statement with Ctrl-C."""


def split(con: Connection, text: str) -> list[Statement]:
    """Cut SQL into statements.

    Raises:
        StatementError: the text cannot be parsed.
    """
    try:
        return con.extract_statements(text)
    except duckdb.Error as error:
        raise StatementError(error) from None


def is_complete(con: Connection, text: str) -> bool:
    """Whether the last statement ends with a semicolon outside of strings and comments."""
    try:
        con.extract_statements(text)
    except duckdb.ParserException as error:
        if "unterminated" in str(error):
            return False
    tokens = [start for start, kind in duckdb.tokenize(text) if kind is not duckdb.token_type.comment]
    # Positions count bytes.
    return bool(tokens) and text.encode()[tokens[-1] :][:1] == b";"


def gives_rows(statement: Statement) -> bool:
    """Whether a statement returns rows, as SELECT does and CREATE does not; it is not run."""
    kinds = statement.expected_result_type
    if kinds == [duckdb.ExpectedResultType.QUERY_RESULT]:
        return True
    text = statement.query.encode()  # positions count bytes
    quoted = (duckdb.token_type.comment, duckdb.token_type.string_const)
    return duckdb.ExpectedResultType.QUERY_RESULT in kinds and any(
        text[start : start + 9].lower() == b"returning"
        for start, kind in duckdb.tokenize(statement.query) if kind not in quoted
    )  # fmt: skip


def execute(con: Connection, statement: Statement) -> Relation | None:
    """Run a statement; None if it returns no rows. A SELECT is only bound and runs when its relation is read."""
    relation = con.sql(statement)
    # On DuckDB 2.0 every statement returns a row; on 1.x statements like CREATE return None.
    if relation is None or (relation.columns in (["Count"], ["Success"]) and not gives_rows(statement)):
        return None
    return relation


@contextmanager
def batches(
    relation: Relation, expression: Callable[[int, str], str], size: int = 2048
) -> Iterator[pa.RecordBatchReader]:
    """Read a relation's columns, each through an SQL expression made from its position (from 1) and its type.

    Rows are streamed, `size` at a time. Rows that are not read are not computed, unless DuckDB has begun their chunk.
    """
    expressions = [expression(place, str(kind)) for place, kind in enumerate(relation.types, 1)]
    chosen = relation.project(", ".join(expressions))
    # DuckDB 1.4 only has fetch_record_batch, which warns from 1.5 on.
    read = chosen.to_arrow_reader if hasattr(chosen, "to_arrow_reader") else chosen.fetch_record_batch
    # On DuckDB 2.0 no other statement can run before the reader is closed.
    with read(size) as reader:
        yield reader


def drain(relation: Relation) -> None:
    """Run a relation to its end without keeping its rows."""
    with batches(relation, lambda place, _: f"#{place}") as reader:
        for _ in reader:
            pass


class Runner:
    """Runs work on a connection in a thread, while the main thread shows progress and handles Ctrl-C.

    Args:
        con: the connection.
        console: where progress is shown, if it is a terminal.

    Attributes:
        cancelled: whether Ctrl-C was pressed during the last work, be it too late to cancel it.
    """

    def __init__(self, con: Connection, console: Console) -> None:
        self.con = con
        self._console = console
        self.cancelled = False
        # Without the first, query_progress() returns -1; without the second, DuckDB prints its own progress bar.
        con.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")

    def run(self, work: Callable[[], T]) -> T:
        """Run `work` and return its result; call it in the main thread.

        Raises:
            StatementError: DuckDB raised an error.
            OSError: the output cannot be written.
            Cancelled: the user cancelled it with Ctrl-C.
        """
        # Not a threading.Event: the handler of a second Ctrl-C would wait for the lock that the first one holds.
        self.cancelled = False

        def cancel(signum: int, frame: FrameType | None) -> None:
            self.cancelled = True

        before = signal.signal(signal.SIGINT, cancel)
        try:
            with connection_progress(self.con) as progress, ThreadPoolExecutor(1) as pool:
                future = pool.submit(work)
                self._watch(future, progress)
            return future.result()
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if self.cancelled:
                raise Cancelled from None
            # An error in an Arrow stream is an OSError without a number; with one, the output cannot be written.
            if getattr(error, "errno", None) is not None:
                raise
            raise StatementError(error) from None
        finally:
            signal.signal(signal.SIGINT, before)

    def _watch(self, future: Future[Any], progress: EncodingProgress) -> None:
        start = time.monotonic()
        live: Live | None = None
        try:
            while not wait([future], timeout=0.1).done:
                if self.cancelled:
                    # Repeatedly, because between two steps of the work there is nothing to interrupt.
                    self.con.interrupt()
                    # DuckDB checks for an interrupt only after a function has returned; this makes it return.
                    progress.cancel()
                seconds = time.monotonic() - start
                if not self._console.is_terminal or (seconds < _QUIET_SECONDS and not self.cancelled):
                    continue
                if live is None:
                    # Rich would move what the work writes to stdout into the stream of the progress line.
                    live = Live(console=self._console, transient=True, redirect_stdout=False)
                    live.start()
                live.update(self._line(seconds, progress), refresh=True)
        finally:
            if live:
                live.stop()

    def _line(self, seconds: float, progress: EncodingProgress) -> Text:
        parts = [f"{seconds:,.0f} s"]
        percent = self.con.query_progress()
        if percent > 0:  # -1: unknown; 0: not started
            parts.append(f"{percent:.0f} %")
        stats = progress.stats
        if stats.encoded or stats.hits:
            parts.append(f"{stats.encoded:,} texts encoded, {stats.hits:,} from the cache")
        parts.append("cancelling …" if self.cancelled else "Ctrl-C cancels")
        return Text(" · ".join(parts), style="dim", no_wrap=True, overflow="ellipsis")
