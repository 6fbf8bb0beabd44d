"""`coldstart sql`: an SQL shell on a DuckDB database, with our functions in it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from coldstart_udfs.console import console
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.sql.catalogue import FUNCTIONS, SqlFunction
from coldstart_udfs.sql.shell.dot_commands import obey, print_functions
from recommender.cli.options import ModelOption

# DuckDB, Arrow and the line editor are imported where they are used: every command imports this module.
if TYPE_CHECKING:
    from coldstart_udfs.sql.shell.output import Page
    from coldstart_udfs.sql.shell.query import Connection, Relation, Runner, Statement

T = TypeVar("T")

_MEMORY = ":memory:"

# Takes the rows of the last result.
Export = Callable[["Relation"], None]


@dataclass(frozen=True)
class Bundles:
    """What `--bundle` brings. The recommender, which imports this package and not the other way, says it: as the `obj`
    of the command's context, `app.command(context_settings={"obj": Bundles(…)})(sql)`.

    Attributes:
        functions: those that it adds.
        register: adds them to a connection, from the folder of a bundle.
    """

    functions: tuple[SqlFunction, ...]
    register: Callable[[Connection, Path], None]


def sql(
    database: Annotated[str, typer.Argument(help="A DuckDB file; made if there is none.")] = _MEMORY,
    command: Annotated[str | None, typer.Option("-c", metavar="SQL", help="Run this and leave.")] = None,
    file: Annotated[Path | None, typer.Option("-f", metavar="FILE", help="Run this file and leave.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the last result as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the last result as JSON.")] = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="OUT", help="Write the last result to a file.")
    ] = None,
    functions: Annotated[bool, typer.Option("--functions", help="Print what is added to DuckDB's functions.")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Change nothing in the database.")] = False,
    model: ModelOption = None,
    backend: Annotated[
        str | None, typer.Option(help="auto, torch, torch-fp16, onnx, onnx-int8 or static.")
    ] = None,
    cache: Annotated[bool, typer.Option(help="Use the machine's vector cache.")] = True,
    enrichment: Annotated[Path | None, typer.Option(help="An enrichment.json: α, β, the encoder.")] = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Replace private data before a text is encoded; keep no history.")
    ] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="A trained recommender: adds recommend(), audience(), score(), explain().")
    ] = None,
    context: typer.Context = None,  # type: ignore[assignment]  # whoever calls this as a function has none
) -> None:
    """SQL with embed(), similarity() and the rest: at a prompt, or from -c, -f or a pipe.

    At the prompt a statement ends with a semicolon, Tab completes, Ctrl-C cancels a query, .help says more.
    """
    bundles: Bundles | None = context.obj if context else None
    if bundle and not bundles:
        raise ColdStartError("--bundle needs a recommender, and this command line has none; leave it out")
    known = FUNCTIONS + bundles.functions if bundle and bundles else FUNCTIONS
    if functions:
        print_functions(known, "")
        return
    script = _script(command, file)
    if sum([as_csv, as_json, parquet is not None]) > 1:
        raise ColdStartError("--csv, --json and --parquet exclude each other; give one of them")
    if script is None and (as_csv or as_json or parquet):
        raise ColdStartError("--csv, --json and --parquet need the SQL beforehand: -c SQL, -f FILE, or a pipe")
    if script is None and not sys.stdout.isatty():
        raise ColdStartError("the prompt needs a terminal to write to; give the SQL by -c SQL, -f FILE, or a pipe")
    with contextlib.closing(_open(database, read_only)) as con:
        from coldstart_udfs.sql.connection import register
        from coldstart_udfs.sql.shell.query import Runner

        register(con, model=model, backend=backend, cache=cache, enrichment=enrichment, redact=redact)
        if bundle and bundles:
            bundles.register(con, bundle)
        # A table's name should never find one of our own variables.
        con.execute("SET python_enable_replacements = false")
        if script is None:
            interact(Runner(con, Console(stderr=True, highlight=False)), database, known, remember=not redact)
        else:
            export = _export(as_csv, as_json, parquet)
            # On one terminal a line of progress would stand between the rows.
            silent = (as_csv or as_json) and sys.stdout.isatty()
            watched = Console(stderr=True, highlight=False, force_terminal=False if silent else None)
            try:
                run_script(Runner(con, watched), script, export)
            except BrokenPipeError:  # `| head` has seen enough; what is still in the buffer must not complain either
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(1) from None


def run_script(runner: Runner, script: str, export: Export | None) -> None:
    """Run statements one after the other; the first that fails ends all with status 1.

    Args:
        runner: of the connection.
        script: SQL.
        export: where the last result goes; without one each result is printed as a table.

    Raises:
        ColdStartError: there is an `export`, and no statement that gives rows.
        typer.Exit: a statement failed (1) or was cancelled (130).
    """
    from coldstart_udfs.sql.shell.query import Cancelled, StatementError, drain, gives_rows, split

    try:
        statements = split(runner.con, script)
    except StatementError as error:
        _fail(f"nothing was run: {error}{error.line}")
    last = max((number for number, statement in enumerate(statements, 1) if gives_rows(statement)), default=0)
    if export and not last:
        raise ColdStartError("no statement gives rows, so nothing was run; end the SQL with a SELECT")
    for number, statement in enumerate(statements, 1):
        try:
            if export:
                _run(runner, statement, export if number == last else drain)
            else:
                _print_result(*_run(runner, statement, _read_page))
        except Cancelled:
            raise typer.Exit(130) from None
        except StatementError as error:
            _fail(f"statement {number} of {len(statements)}: {error}")


def interact(runner: Runner, database: str, functions: tuple[SqlFunction, ...], *, remember: bool) -> None:
    """Prompt, run, print, until Ctrl-D or `.exit`.

    Args:
        runner: of the connection.
        database: its name, for the greeting.
        functions: what is registered.
        remember: keep what is typed in the user's history file.
    """
    import duckdb

    from coldstart_udfs.sql.shell.prompt import SqlCompleter, session

    completer = SqlCompleter(runner.con, functions)
    prompt = session(runner.con, completer, remember=remember)
    # A Ctrl-C that comes between the prompt, which reads it as a key, and a query, which has its own handler, must
    # not end the shell. Nor may one while it is leaving: this stays.
    signal.signal(signal.SIGINT, lambda *_: None)
    place = "in memory" if database == _MEMORY else database
    console.print(Text(f"DuckDB {duckdb.__version__}, {place}. .help lists commands, Ctrl-D leaves.", style="dim"))
    while True:
        try:
            text = prompt.prompt().strip()
            if text.startswith("."):
                if not obey(runner.con, functions, text):
                    return
            elif text:
                _run_input(runner, text)
                completer.refresh()
        except KeyboardInterrupt:  # as a key, at the prompt: a fresh line
            continue
        except EOFError:
            return
        except duckdb.Error as error:  # .tables in an aborted transaction
            console.print(Text(str(error), style="red"))


def _run_input(runner: Runner, text: str) -> None:
    from coldstart_udfs.sql.shell.query import Cancelled, StatementError, split

    try:
        for statement in split(runner.con, text):
            page, seconds = _run(runner, statement, _read_page)
            _print_result(page, seconds)
            if page is None:
                console.print(Text(f"done · {seconds:.2f} s", style="dim"))
    except Cancelled:
        console.print("cancelled")
    except StatementError as error:
        console.print(Text(error.details, style="red"), soft_wrap=True)


def _run(runner: Runner, statement: Statement, deliver: Callable[[Relation], T]) -> tuple[T | None, float]:
    """Run a statement and hand its rows on, both in the runner's thread. None: it gives no rows; and the seconds."""
    from coldstart_udfs.sql.shell.query import execute

    def work() -> T | None:
        relation = execute(runner.con, statement)
        return None if relation is None else deliver(relation)

    start = time.monotonic()
    return runner.run(work), time.monotonic() - start


def _read_page(relation: Relation) -> Page:
    from coldstart_udfs.sql.shell.output import read_page

    return read_page(relation)


def _print_result(page: Page | None, seconds: float) -> None:
    from coldstart_udfs.sql.shell.output import print_page

    if page is not None:
        print_page(console, page, seconds)


def _export(as_csv: bool, as_json: bool, parquet: Path | None) -> Export | None:
    from coldstart_udfs.sql.shell.output import write_csv, write_json, write_parquet

    if parquet:

        def write_and_tell(relation: Relation) -> None:
            rows = write_parquet(relation, parquet)
            console.print(f"{rows:,} row{'' if rows == 1 else 's'} → {parquet}", markup=False, soft_wrap=True)

        return write_and_tell
    if as_csv or as_json:
        write = write_csv if as_csv else write_json
        return lambda relation: write(relation, sys.stdout.buffer)
    return None


def _script(command: str | None, file: Path | None) -> str | None:
    """The SQL to run; None where a person sits at a terminal."""
    if command is not None and file is not None:
        raise ColdStartError("-c and -f exclude each other; give one of them")
    if command is not None:
        return command
    if file is None and sys.stdin.isatty():
        return None
    try:
        return (sys.stdin.buffer.read() if file is None else file.read_bytes()).decode("utf-8-sig")
    except OSError as error:
        raise ColdStartError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ColdStartError(f"{file or 'the piped SQL'} is not UTF-8 text: {error}") from None


def _open(database: str, read_only: bool) -> Connection:
    import duckdb

    path = Path(database)
    if database == _MEMORY:
        if read_only:
            raise ColdStartError("--read-only needs a database file; without one there is nothing to protect")
    elif read_only and not path.exists() and "://" not in database:
        raise ColdStartError(f"{database} does not exist, and --read-only makes none; leave it out, or mend the path")
    elif path.is_file() and not _is_duckdb(path):
        # DuckDB would try to fetch an extension for some other kinds of file.
        raise ColdStartError(
            f"{database} is no DuckDB database; give the path of one, or of a file to be made "
            f"(to query a parquet or CSV file: coldstart sql -c \"FROM '{database}'\")"
        )
    try:
        return duckdb.connect(database, read_only=read_only)
    except duckdb.Error as error:
        raise ColdStartError(f"{database} cannot be opened: {str(error).splitlines()[0]}") from None


def _is_duckdb(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(12)[8:] == b"DUCK"
    except OSError as error:
        raise ColdStartError(f"{path} cannot be read: {error.strerror}") from None


def _fail(message: str) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", markup=False)
    raise typer.Exit(1)
