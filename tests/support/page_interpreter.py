"""Runs blocks of code that arrive as JSON lines, and answers each with what it printed: `python -m`, for `Session`."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import duckdb


def main() -> None:
    """Answer requests until standard input ends."""
    answers = sys.stdout
    namespace: dict[str, Any] = {"__name__": "__main__"}
    connection: list[duckdb.DuckDBPyConnection] = []
    # A script's folder comes first, as in `python script.py`.
    sys.path.insert(0, "")
    for line in sys.stdin:
        request = json.loads(line)
        printed, error = io.StringIO(), ""
        with contextlib.redirect_stdout(printed):
            try:
                if request["language"] == "sql":
                    connection = connection or [_connect()]
                    _run_sql(connection[0], request["code"])
                else:
                    # Lines before the block, so that a traceback has the lines of the page.
                    source = "\n" * request["line"] + request["code"]
                    exec(compile(source, request["file"], "exec"), namespace)
            except BaseException:
                error = traceback.format_exc()
        answers.write(json.dumps({"printed": printed.getvalue(), "error": error}) + "\n")
        answers.flush()
    for con in connection:
        con.close()


def _connect() -> duckdb.DuckDBPyConnection:
    """A connection with all SQL functions; those of a recommender if there is a bundle."""
    import coldstart_udfs
    import recommender

    con = coldstart_udfs.connect()
    if Path("data/bundle").exists():
        recommender.register(con, bundle="data/bundle")
    return con


def _run_sql(con: duckdb.DuckDBPyConnection, code: str) -> None:
    """Print the result of each query as `coldstart sql` does."""
    from rich.console import Console

    from coldstart_udfs.sql.shell.output import print_page, read_page

    for statement in con.extract_statements(code):
        relation = con.sql(statement.query)
        if relation is not None:
            print_page(Console(width=120), read_page(relation), 0.0)


if __name__ == "__main__":
    main()
