"""`coldstart sql`: an SQL shell on a DuckDB database, with the functions of this project."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from coldstart_udfs.console import console
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import writing
from coldstart_udfs.sql.catalogue import FUNCTIONS, SqlFunction
from coldstart_udfs.sql.shell.dot_commands import obey, print_functions
from recommender.cli.checks import warn_of_repo
from recommender.cli.failures import INTERRUPTED
from recommender.cli.options import CacheOption, ModelOption, settings_of_shop
from recommender.sql.catalogue import FUNCTIONS as BUNDLE_FUNCTIONS
from recommender.sql.catalogue import hint
from recommender.sql.catalogue import register as register_bundle

# DuckDB, Arrow and the line editor are imported where they are used, for every command imports this module.
if TYPE_CHECKING:
    from coldstart_udfs.sql.shell.output import Page
    from coldstart_udfs.sql.shell.query import Connection, Relation, Runner, Statement

T = TypeVar("T")

_MEMORY = ":memory:"

# Takes the rows of the last result.
Export = Callable[["Relation"], None]


def sql(
    database: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A DuckDB database; a new one is created. Default: in memory.", show_default=False
        ),
    ] = _MEMORY,
    command: Annotated[str | None, typer.Option("-c", metavar="SQL", help="Run this SQL and exit.")] = None,
    file: Annotated[Path | None, typer.Option("-f", metavar="FILE", help="Run the SQL in this file and exit.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the last result as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the last result as JSON.")] = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="Write the last result to this Parquet file.")
    ] = None,
    functions: Annotated[
        bool, typer.Option("--functions", help="List the functions that are added to DuckDB, and exit.")
    ] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Open the database for reading only.")] = False,
    model: ModelOption = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="What runs the encoder: auto, torch, torch-fp16, onnx, onnx-int8 or static. Default: the backend in "
            "--enrichment, else auto."
        ),
    ] = None,
    cache: CacheOption = True,
    enrichment: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An enrichment.json, for α, β and the encoder. Default: without --model, that of feature_repo, if "
            "there is one.",
        ),
    ] = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Replace private data before a text is encoded; keep no history.")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A trained recommender: adds recommend(), audience(), score(), expected_demand() and explain().",
        ),
    ] = None,
) -> None:
    """Run SQL with embed(), similarity() and the other functions.

    Without -c, -f or a pipe this opens a prompt. There a statement ends with a semicolon, Tab completes, Ctrl-C cancels
    a query, and .help lists the commands of the prompt.

    Examples:
        coldstart sql shop.db
        coldstart sql --bundle data/bundle -c "FROM recommend(user_id := '17850')"
    """
    known = FUNCTIONS + BUNDLE_FUNCTIONS if bundle else FUNCTIONS
    if functions:
        print_functions(known, "")
        return
    script = _script(command, file)
    if sum([as_csv, as_json, parquet is not None]) > 1:
        raise ColdStartError("--csv, --json and --parquet exclude each other; give one of them")
    if script is None and (as_csv or as_json or parquet):
        raise ColdStartError("--csv, --json and --parquet need SQL to run; give it by -c SQL, -f FILE, or a pipe")
    if script is None and not sys.stdout.isatty():
        raise ColdStartError("the prompt needs a terminal to write to; give the SQL by -c SQL, -f FILE, or a pipe")
    if model is None:
        enrichment = enrichment or settings_of_shop()
    with contextlib.closing(_open(database, read_only)) as con:
        from coldstart_udfs.link import is_linked
        from coldstart_udfs.sql.connection import register
        from coldstart_udfs.sql.shell.query import Runner

        register(con, model=model, backend=backend, cache=cache, enrichment=enrichment, redact=redact)
        if enrichment and is_linked(enrichment.absolute().parent):
            from recommender.model.linked import show_linked_profiles

            show_linked_profiles(con, enrichment.absolute().parent)
        if bundle:
            register_bundle(con, bundle, enrichment and enrichment.absolute().parent)
            if enrichment:
                warn_of_repo(enrichment.absolute().parent, bundle)
        else:
            hint(con)
        # DuckDB would take a table name for a Python variable of that name.
        con.execute("SET python_enable_replacements = false")
        if script is None:
            interact(Runner(con, Console(stderr=True, highlight=False)), database, known, remember=not redact)
        else:
            export = _export(as_csv, as_json, parquet)
            # Progress and rows would mix where both go to one terminal.
            silent = (as_csv or as_json) and sys.stdout.isatty()
            watched = Console(stderr=True, highlight=False, force_terminal=False if silent else None)
            run_script(Runner(con, watched), script, export)


def run_script(runner: Runner, script: str, export: Export | None) -> None:
    """Run statements in order; the first failure ends the command with status 1.

    Args:
        runner: runs a statement on the connection.
        script: SQL.
        export: writes the rows of the last result; None prints each result as a table.

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
            # Pressed too late for this statement, Ctrl-C is meant for the next one.
            if runner.cancelled:
                raise Cancelled
        except Cancelled:
            raise typer.Exit(INTERRUPTED) from None
        except StatementError as error:
            _fail(f"statement {number} of {len(statements)}: {error}")


def interact(runner: Runner, database: str, functions: tuple[SqlFunction, ...], *, remember: bool) -> None:
    """Prompt, run, print, until Ctrl-D or `.exit`.

    Args:
        runner: runs a statement on the connection.
        database: the name shown in the greeting.
        functions: the registered functions.
        remember: write input to the user's history file.
    """
    import duckdb

    from coldstart_udfs.sql.shell.prompt import SqlCompleter, session

    completer = SqlCompleter(runner.con, functions)
    prompt = session(runner.con, completer, remember=remember)
    # The prompt reads Ctrl-C as a key, and a query has its own handler. Between the two, and while the shell exits,
    # Ctrl-C must do nothing.
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
    """Run a statement and `deliver` its rows, both in the runner's thread; what `deliver` returns, and the seconds.

    The result is None for a statement without rows.
    """
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

        def write_and_report(relation: Relation) -> None:
            with writing(parquet, command="coldstart sql --parquet"):
                rows = write_parquet(relation, parquet)
            console.print(f"{rows:,} row{'' if rows == 1 else 's'} → {parquet}", markup=False, soft_wrap=True)

        return write_and_report
    if as_csv or as_json:
        write = write_csv if as_csv else write_json
        return lambda relation: write(relation, sys.stdout.buffer)
    return None


def _script(command: str | None, file: Path | None) -> str | None:
    """The SQL to run; None for an interactive terminal."""
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
            raise ColdStartError("--read-only needs a database file, and none was given; add FILE or leave it out")
    elif read_only and not path.exists() and "://" not in database:
        raise ColdStartError(f"{database} does not exist, and --read-only creates no file; correct the path or omit it")
    elif path.is_file() and not _is_duckdb(path):
        # For some other kinds of file DuckDB would try to download an extension.
        raise ColdStartError(
            f"{database} is not a DuckDB database; give the path of one, or of a new file "
            f"(to query a Parquet or CSV file: coldstart sql -c \"FROM '{database}'\")"
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
