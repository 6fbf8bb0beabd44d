"""What `coldstart sql` runs: text cut into statements, each run in a thread that can be watched and cancelled."""

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

# Tables and views: name, path (with database and schema where they are not the current ones), kind, statement.
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
        details: all of DuckDB's message that helps; `str()` is its first line.
        line: " (line 3)" where DuckDB names a line of the text that it parsed, else "".
    """

    def __init__(self, error: BaseException) -> None:
        # Ours arrive wrapped, and on DuckDB 1.x with a traceback.
        text = str(error).strip().split("\n\nAt:")[0].split(_PYTHON_ERROR)[-1].removeprefix("ColdStartError: ")
        first, *further = text.split("\n\n")
        super().__init__(first.split("\n")[0])
        # On DuckDB 1.x the quoted line may be the projection that we put around the user's query.
        line = re.search(r"^LINE (\d+):", text, re.MULTILINE)
        self.line = f" (line {line[1]})" if line else ""
        self.details = "\n".join([first, *(part for part in further if "(#1" not in part)])


class Cancelled(Exception):  # noqa: N818  # it is no error
    """The user pressed Ctrl-C, and the statement ended."""


def split(con: Connection, text: str) -> list[Statement]:
    """Cut SQL into statements.

    Raises:
        StatementError: it cannot be parsed.
    """
    try:
        return con.extract_statements(text)
    except duckdb.Error as error:
        raise StatementError(error) from None


def is_complete(con: Connection, text: str) -> bool:
    """Whether the last statement has its semicolon, one that is not inside a string or a comment."""
    try:
        con.extract_statements(text)
    except duckdb.ParserException as error:
        if "unterminated" in str(error):
            return False
    tokens = [start for start, kind in duckdb.tokenize(text) if kind is not duckdb.token_type.comment]
    # Positions count bytes.
    return bool(tokens) and text.encode()[tokens[-1] :][:1] == b";"


def gives_rows(statement: Statement) -> bool:
    """Whether a statement is there for its rows, as SELECT is and CREATE is not; nothing is run."""
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
    """Run a statement. A SELECT is only bound: its relation runs when it is read. None: it gives no rows."""
    relation = con.sql(statement)
    # DuckDB 2.0 answers every statement with a row; on 1.x those without rows of their own give None.
    if relation is None or (relation.columns in (["Count"], ["Success"]) and not gives_rows(statement)):
        return None
    return relation


@contextmanager
def batches(
    relation: Relation, expression: Callable[[int, str], str], size: int = 2048
) -> Iterator[pa.RecordBatchReader]:
    """Read a relation's columns, each through an SQL expression made of its place (from 1) and its type.

    The rows stream, `size` at a time: what is not read is not computed, but for the chunks that DuckDB has begun.
    """
    expressions = [expression(place, str(kind)) for place, kind in enumerate(relation.types, 1)]
    chosen = relation.project(", ".join(expressions))
    # DuckDB 1.4 has only the one, and from 1.5 on it warns.
    read = chosen.to_arrow_reader if hasattr(chosen, "to_arrow_reader") else chosen.fetch_record_batch
    # On DuckDB 2.0 nothing else can run before the reader is closed.
    with read(size) as reader:
        yield reader


def drain(relation: Relation) -> None:
    """Run a relation to its end, for what it does."""
    with batches(relation, lambda place, _: f"#{place}") as reader:
        for _ in reader:
            pass


class Runner:
    """Runs work on a connection in a thread, while this thread shows progress and obeys Ctrl-C.

    Args:
        con: what the work uses.
        console: for the line of progress, if it is a terminal.
    """

    def __init__(self, con: Connection, console: Console) -> None:
        self.con = con
        self._console = console
        self._cancelled = False
        # Without these two there is no progress to ask for, and with the first alone DuckDB prints its own bar.
        con.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")

    def run(self, work: Callable[[], T]) -> T:
        """The result of `work`; call it in the main thread.

        Raises:
            StatementError: DuckDB refused or failed.
            Cancelled: Ctrl-C was pressed and stopped it.
        """
        # Not a threading.Event: a second Ctrl-C would wait for the lock that the first one's handler holds.
        self._cancelled = False

        def cancel(signum: int, frame: FrameType | None) -> None:
            self._cancelled = True

        before = signal.signal(signal.SIGINT, cancel)
        try:
            with connection_progress(self.con) as progress, ThreadPoolExecutor(1) as pool:
                future = pool.submit(work)
                self._watch(future, progress)
            return future.result()
        except BrokenPipeError:
            raise
        except (duckdb.Error, pa.ArrowException, OSError) as error:  # OSError: what ends an Arrow stream
            if self._cancelled:
                raise Cancelled from None
            raise StatementError(error) from None
        finally:
            signal.signal(signal.SIGINT, before)

    def _watch(self, future: Future[Any], progress: EncodingProgress) -> None:
        start = time.monotonic()
        live: Live | None = None
        try:
            while not wait([future], timeout=0.1).done:
                if self._cancelled:
                    # Again and again: between two steps of the work there is nothing to interrupt.
                    self.con.interrupt()
                    # DuckDB looks for an interrupt only when a function has returned; this ends the function.
                    progress.cancel()
                seconds = time.monotonic() - start
                if not self._console.is_terminal or (seconds < _QUIET_SECONDS and not self._cancelled):
                    continue
                if live is None:
                    # Not stdout: what the work writes there would end up in the progress' stream.
                    live = Live(console=self._console, transient=True, redirect_stdout=False)
                    live.start()
                live.update(self._line(seconds, progress), refresh=True)
        finally:
            if live:
                live.stop()

    def _line(self, seconds: float, progress: EncodingProgress) -> Text:
        parts = [f"{seconds:,.0f} s"]
        percent = self.con.query_progress()
        if percent > 0:  # -1: DuckDB does not know; 0: it has not begun to count
            parts.append(f"{percent:.0f} %")
        stats = progress.stats
        if stats.encoded or stats.hits:
            parts.append(f"{stats.encoded:,} texts encoded, {stats.hits:,} from the cache")
        parts.append("cancelling …" if self._cancelled else "Ctrl-C cancels")
        return Text(" · ".join(parts), style="dim", no_wrap=True, overflow="ellipsis")
