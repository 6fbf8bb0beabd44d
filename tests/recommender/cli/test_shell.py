"""`coldstart sql`: its parts in this process, the command in a process of its own, the prompt in a real pty."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from pexpect.fdpexpect import fdspawn
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from rich.console import Console

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.sql.catalogue import FUNCTIONS
from coldstart_udfs.sql.shell import output as shell_output
from coldstart_udfs.sql.shell.output import print_page, read_page, write_csv, write_json, write_parquet
from coldstart_udfs.sql.shell.prompt import SqlCompleter
from coldstart_udfs.sql.shell.query import Cancelled, Runner, StatementError, execute, gives_rows, is_complete, split
from recommender.cli.sql import sql
from tests.support.commands import must, run
from tests.support.encoders import StubEncoder

Connection = duckdb.DuckDBPyConnection

# Slower than anybody's patience, and stopped at once by an interrupt.
ENDLESS = "SELECT count(*) FROM range(100000000000) a WHERE a.range % 7 = 3"


def shown(con: Connection, query: str, width: int = 100) -> str:
    out = io.StringIO()
    print_page(Console(file=out, width=width), read_page(con.sql(query)), 0.1)
    return out.getvalue()


def written(write: Callable[[duckdb.DuckDBPyRelation, io.BytesIO], None], con: Connection, query: str) -> str:
    out = io.BytesIO()
    write(con.sql(query), out)
    return out.getvalue().decode()


def test_a_table_shortens_vectors_and_long_texts_and_nothing_else(con: Connection) -> None:
    table = shown(con, """
        SELECT [0.01234, -0.5, 0.1, 0.2, 0.3]::FLOAT[] AS v, [1, 2, 3, 4] AS short, NULL AS n,
            TIMESTAMP '2024-01-01 10:00:00' AS t, repeat('long ', 30) AS long
    """)  # fmt: skip
    for text in ("[0.012, -0.500, 0.100, … 5]", "[1, 2, 3, 4]", "NULL", "2024-01-01 10:00:00", "1 row · "):
        assert text in table
    assert re.search(r"long l.*…", table)
    assert max(map(len, table.splitlines())) <= 100
    assert "{'e': [0, 1, 2, … 384], 's': x}" in shown(con, "SELECT {'e': range(384), 's': 'x'} AS s")


def test_a_table_of_many_columns_says_how_many_it_shows(con: Connection) -> None:
    table = shown(con, f"SELECT {', '.join(f'{n} AS column_{n}' for n in range(40))}", width=80)
    assert max(map(len, table.splitlines())) <= 80
    assert "the first 7 of 40 columns" in table


def test_what_a_terminal_would_obey_is_not_printed(con: Connection) -> None:
    assert "\x1b" not in shown(con, "SELECT chr(27) || '[2J' || chr(10) || 'x' AS \"a\x1bb\"")


def test_many_rows_are_counted_and_not_shown(con: Connection) -> None:
    table = shown(con, "SELECT 'row ' || i FROM range(5000) r(i)")
    assert "row 39 " in table
    assert "row 40 " not in table
    assert "… 5,000 rows, the first 40 shown" in table


def test_rows_that_cost_something_are_not_computed_to_be_counted(
    con: Connection, stub: StubEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell_output, "_COUNT_SECONDS", 0)
    con.execute("CREATE TABLE t AS SELECT i, 'text ' || i AS s FROM range(200000) r(i)")
    # Rows as wide as those with a real vector: DuckDB reads ahead by bytes.
    page = read_page(con.sql("SELECT i, embed(s), repeat('x', 1500) FROM t"))
    assert len(page.rows) == 40
    assert (page.exact, page.total < 200000, len(stub.seen) < 50000) == (False, True, True)
    assert con.sql("SELECT 1").fetchall() == [(1,)]  # nothing is left open


def test_explain_is_printed_as_it_is(con: Connection) -> None:
    assert "┃" not in shown(con, "EXPLAIN SELECT 1")


def test_csv_has_empty_null_and_json_vectors(con: Connection) -> None:
    text = written(write_csv, con, """
        SELECT 1 AS a, NULL AS "n,1", '' AS e, 'x,"y"' AS q, [0.1, NULL]::FLOAT[] AS v, ['b', 'c'] AS l,
            {'k': 1.5, 'm': NULL} AS s, DATE '2024-01-01' AS d
        FROM range(2)
    """)  # fmt: skip
    assert text.splitlines() == [
        'a,"n,1",e,q,v,l,s,d',
        *['1,,"","x,""y""","[0.1, null]","[""b"",""c""]","{""k"":1.5,""m"":null}",2024-01-01'] * 2,
    ]


def test_json_has_null_for_what_it_cannot_say_and_a_name_for_each_column(con: Connection) -> None:
    text = written(write_json, con, """
        SELECT NULL AS n, 'nan "inf' AS t, ['nan'::FLOAT, 0.1, NULL] AS v, '-inf'::DOUBLE AS i, 1 AS a, 2 AS a,
            {'x': 'nan', 'y': 'inf'::DOUBLE} AS s
    """)  # fmt: skip
    row = {"n": None, "t": 'nan "inf', "v": [None, 0.1, None], "i": None, "a": 1, "a_1": 2}
    assert json.loads(text) == [{**row, "s": {"x": "nan", "y": None}}]
    assert json.loads(written(write_json, con, "SELECT 1 WHERE false")) == []
    assert len(json.loads(written(write_json, con, "FROM range(5000)"))) == 5000


def test_a_failed_query_leaves_the_parquet_file_that_was_there(con: Connection, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    assert write_parquet(con.sql("SELECT i, embed('text ' || i) AS v FROM range(10) r(i)"), path) == 10
    before = path.read_bytes()
    with pytest.raises(duckdb.Error, match="cannot be encoded"):
        write_parquet(con.sql("SELECT embed(CASE WHEN i = 99999 THEN 'poison' END) FROM range(100000) r(i)"), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert con.sql(f"SELECT count(*), min(len(v)) FROM '{path}'").fetchall() == [(10, 4)]


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("SELECT 1;", True),
        ("SELECT 1; -- and more", True),
        ("SELECT 1 -- not here;", False),
        ("SELECT 'a;", False),
        ("SELECT 'ü;';", True),
        ('SELECT "a;', False),
        ("SELECT /* ; ", False),
        ("SELECT $$ ; ", False),
        ("SELECT 1; SELECT 2", False),
        ("SELEC 1;", True),
        ("", False),
    ],
)
def test_a_statement_ends_at_its_own_semicolon(text: str, complete: bool) -> None:
    with duckdb.connect() as con:
        assert is_complete(con, text) is complete


def test_statements_that_are_there_for_their_rows(con: Connection) -> None:
    text = "CREATE TABLE t (i INT); INSERT INTO t VALUES (1) RETURNING i; INSERT INTO t VALUES (2); FROM t; DESCRIBE t"
    statements = split(con, text)
    assert [gives_rows(statement) for statement in statements] == [False, True, False, True, True]
    results = [execute(con, statement) for statement in statements]
    assert [result is not None for result in results] == [False, True, False, True, True]
    (pivoted,) = [execute(con, statement) for statement in split(con, "PIVOT t ON i USING count(*)")][-1:]
    assert pivoted is not None
    assert pivoted.fetchall() == [(1, 1)]


def test_the_word_returning_in_a_text_gives_no_rows(con: Connection) -> None:
    con.execute("CREATE TABLE t (a VARCHAR)")
    with_rows = "INSERT INTO t VALUES (1) RETURNING a"
    for text in ("INSERT INTO t VALUES ('returning')", "DELETE FROM t -- returning", with_rows):
        (statement,) = split(con, text)
        assert gives_rows(statement) == (text == with_rows)


def test_our_own_errors_come_without_duckdbs_wrapping(con: Connection) -> None:
    runner = Runner(con, Console(file=io.StringIO()))
    with pytest.raises(StatementError) as caught:
        runner.run(lambda: con.sql("SELECT similarity([1, 0], [1, 0, 0])").fetchall())
    assert str(caught.value).startswith("similarity() of vectors of 2 and 3 numbers")
    with pytest.raises(StatementError) as caught:
        runner.run(lambda: read_page(con.sql("SELECT ('x' || i)::INTEGER FROM range(3) r(i)")))
    assert "#1" not in caught.value.details


def test_ctrl_c_ends_the_query_and_the_connection_goes_on(con: Connection) -> None:
    runner = Runner(con, Console(file=io.StringIO()))

    def work() -> object:
        for _ in range(50):  # an impatient one
            os.kill(os.getpid(), signal.SIGINT)
        return con.sql(ENDLESS).fetchall()

    with pytest.raises(Cancelled):
        runner.run(work)
    assert runner.run(lambda: con.sql("SELECT 42").fetchall()) == [(42,)]


def completions(con: Connection, text: str) -> dict[str, str]:
    event = CompleteEvent(completion_requested=True)
    found = SqlCompleter(con).get_completions(Document(text), event)
    return {completion.text: completion.display_meta_text for completion in found}


def test_completion_knows_functions_tables_columns_keywords_and_commands(con: Connection) -> None:
    con.execute('CREATE TABLE items (item_id INTEGER, "Unit price" DOUBLE); CREATE VIEW "my view" AS FROM items')
    assert "FLOAT[]" in completions(con, "SELECT emb")["embed("]
    assert completions(con, "FROM ite") == {"items": "table", "item_id": "INTEGER, items, my view"}
    assert set(completions(con, "SELECT items.")) == {"item_id", '"Unit price"'}
    assert completions(con, "FROM my")['"my view"'] == "view"
    assert "SELECT" in completions(con, "SEL")
    assert "select" in completions(con, "sel")
    assert completions(con, "SELECT 'emb") == {}
    assert set(completions(con, ".t")) == {".tables"}
    assert set(completions(con, ".functions enr")) == {"enrich"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"command": "SELECT 1", "file": Path("x.sql")}, "-c and -f exclude each other"),
        ({"command": "SELECT 1", "as_csv": True, "as_json": True}, "--csv, --json and --parquet exclude each other"),
        ({"command": "SELECT 1", "read_only": True}, "--read-only needs a database file"),
        ({"command": "SELECT 1", "read_only": True, "database": "nowhere.db"}, "nowhere.db does not exist"),
        ({"command": "SELECT 1", "database": "nowhere/x.db"}, "nowhere/x.db cannot be opened"),
        ({"command": "SELECT 1", "backend": "bogus"}, "bogus"),
        ({"command": "SET threads = 1", "as_csv": True}, "no statement gives rows"),
        ({"file": Path("nowhere.sql")}, "nowhere.sql cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_runs(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ColdStartError, match=message):
        sql(**arguments)  # type: ignore[arg-type]


def test_a_file_that_is_no_database_is_one_line_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,description\n1,a red lamp\n")
    result = run("coldstart", "sql", path, "-c", "SELECT 1", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {path} is not a DuckDB database")
    assert result.stderr.count("\n") == 1
    assert path.read_text().startswith("item_id")


def test_statements_run_until_the_first_that_fails(tmp_path: Path) -> None:
    script = "CREATE TABLE t AS SELECT 7 AS n; FROM t; SELECT nope FROM t; CREATE TABLE never (i INT)"
    result = run("coldstart", "sql", "shop.db", "-c", script, cwd=tmp_path)
    assert result.returncode == 1
    assert "│ 7 │" in result.stdout
    assert result.stderr.startswith('error: statement 3 of 4: Binder Error: Referenced column "nope"')
    assert result.stderr.count("\n") == 1
    # What ran is in the file, and opening it for reading alone changes nothing.
    result = run("coldstart", "sql", "shop.db", "--read-only", "-c", "SHOW TABLES; DROP TABLE t", cwd=tmp_path)
    assert result.returncode == 1
    assert "│ t " in result.stdout
    assert "never" not in result.stdout
    assert "read-only" in result.stderr


def test_nothing_runs_of_sql_that_cannot_be_parsed(tmp_path: Path) -> None:
    (tmp_path / "x.sql").write_text("CREATE TABLE t (i INT);\nSELEC 1;")
    result = run("coldstart", "sql", "shop.db", "-f", "x.sql", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == 'error: nothing was run: Parser Error: syntax error at or near "SELEC" (line 2)\n'
    with duckdb.connect(str(tmp_path / "shop.db")) as con:
        assert con.sql("SHOW TABLES").fetchall() == []


def test_json_and_parquet_hold_the_last_result(tmp_path: Path) -> None:
    script = "SELECT 1 AS first; SELECT [1, 2] AS v, NULL AS n; SET threads = 1"
    assert json.loads(must("coldstart", "sql", "-c", script, "--json", cwd=tmp_path)) == [{"v": [1, 2], "n": None}]
    told = must("coldstart", "sql", "-c", script, "--parquet", "out.parquet", cwd=tmp_path)
    assert told == "1 row → out.parquet\n"
    with duckdb.connect() as con:
        assert con.sql(f"FROM '{tmp_path}/out.parquet'").fetchall() == [([1, 2], None)]


def test_piped_sql_streams_and_a_closed_pipe_is_no_news(tmp_path: Path) -> None:
    query = b"SELECT i, 'text ' || i AS t FROM range(10000000000) r(i)"
    with command("--csv", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(query)
        process.stdin.close()
        assert [process.stdout.readline() for _ in range(2)] == [b"i,t\n", b"0,text 0\n"]
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == b""


def test_ctrl_c_ends_a_script_with_status_130(tmp_path: Path) -> None:
    started = tmp_path / "started.csv"
    query = f"COPY ({ENDLESS}) TO '{started}' (USE_TMP_FILE false)"
    with command("-c", query, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not started.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert b"Traceback" not in process.stderr.read()


def test_functions_lists_the_catalogue(tmp_path: Path) -> None:
    told = must("coldstart", "sql", "--functions", cwd=tmp_path)
    assert [one.name for one in FUNCTIONS if f"│ {one.name}(" not in told] == []


def test_nothing_heavy_is_loaded_before_a_text_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    result = run("coldstart", "sql", "-c", "SELECT [1, 2] AS v, 'a' AS t", cwd=tmp_path)
    loaded = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "duckdb" in loaded
    assert loaded.isdisjoint(
        {"torch", "feast", "pandas", "transformers", "sentence_transformers", "onnxruntime", "prompt_toolkit"}
    )


def command(*arguments: str, **settings: object) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).with_name("coldstart")
    return subprocess.Popen([program, "sql", *arguments], **settings)  # type: ignore[call-overload,no-any-return]


# A new session whose terminal is stdin, so that Ctrl-C reaches it; forking this process for it would be a
# gamble with its threads.
_LOGIN = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A person at the prompt."""

    def __init__(self, screen: fdspawn, process: subprocess.Popen[bytes]) -> None:
        self.screen = screen
        self.process = process

    def sees(self, text: str) -> None:
        self.screen.expect_exact(text)

    def types(self, text: str) -> None:
        self.screen.send(text)


@contextmanager
def terminal(home: Path, *arguments: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    # Neither colours nor questions to the terminal, which nobody here would answer.
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    quiet = {"NO_COLOR": "1", "PROMPT_TOOLKIT_COLOR_DEPTH": "DEPTH_1_BIT", "PROMPT_TOOLKIT_NO_CPR": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", _LOGIN, Path(sys.executable).with_name("coldstart"), "sql", *arguments],
        stdin=slave, stdout=slave, stderr=slave,
        env={**inherited, **quiet, "TERM": "xterm", "XDG_STATE_HOME": str(home)},
    ) as process:  # fmt: skip
        os.close(slave)
        screen = fdspawn(master, timeout=60, encoding="utf-8")
        try:
            screen.expect_exact("coldstart>")
            yield Terminal(screen, process)
        finally:
            process.kill()
            screen.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def person(home: Path) -> Iterator[Terminal]:
    """One session for the tests below; each leaves an empty prompt."""
    with terminal(home) as someone:
        yield someone


def test_the_prompt_takes_several_lines_and_shows_the_result(person: Terminal) -> None:
    person.types("SELECT 'a; b' AS t,\r")
    person.sees("...>")
    person.types("6 * 7 AS answer;\r")
    person.sees("│ a; b │     42 │")
    person.sees("1 row · ")
    person.types("CREATE TABLE shelf (board INT);\r")
    person.sees("done · ")


def test_an_error_is_shown_and_the_prompt_comes_back(person: Terminal) -> None:
    person.types("SELECT nope FROM range(3);\r")
    person.sees('Binder Error: Referenced column "nope" not found')
    person.types("SELECT 'still ' || 'here';\r")
    person.sees("│ still here")


def test_ctrl_c_cancels_the_query_and_not_the_shell(person: Terminal) -> None:
    person.types("SET VARIABLE kept = 'connection';\r")
    person.sees("done")
    person.types(ENDLESS + ";\r")
    person.sees("Ctrl-C cancels")
    person.types("\x03\x03")
    person.sees("cancelled")
    person.types("SELECT 'the same ' || getvariable('kept');\r")
    person.sees("│ the same connection")


def test_ctrl_c_cancels_what_the_encoder_is_doing(person: Terminal) -> None:
    person.types("SELECT count(try_embed('lamp ' || i)) FROM range(100000) r(i);\r")
    person.sees("texts encoded")
    person.types("\x03")
    person.sees("cancelled")
    person.sees("coldstart>")
    person.types("SELECT 40 + 3, len(embed('a lamp'));\r")
    person.sees("43")
    person.sees("384")
    person.sees("coldstart>")


def test_ctrl_c_at_the_prompt_clears_the_line(person: Terminal) -> None:
    person.types("SELECT rubbish")
    person.sees("rubbish")
    person.types("\x03")
    person.sees("coldstart>")
    person.types("SELECT 'fresh ' || 'line';\r")
    person.sees("│ fresh line")


def test_tab_takes_one_of_our_functions(person: Terminal) -> None:
    person.types("SELECT emb")
    person.sees("embed(text, model := NULL)")
    person.types("\tNULL) IS NULL AS nothing;\r")
    person.sees("│ true")


def test_the_shells_own_commands(person: Terminal) -> None:
    person.types(".tables\r")
    person.sees("shelf\r\n")
    person.types(".schema shelf\r")
    person.sees("CREATE TABLE shelf(board INTEGER);")
    person.types(".functions try_\r")
    person.sees("try_embed(text, model := NULL)")
    person.types(".nonsense\r")
    person.sees("there is no .nonsense")
    person.types(".help\r")
    person.sees("Ctrl-C cancels it.")
    person.sees("coldstart>")


def test_leaving_is_silent_and_what_was_typed_is_kept_for_its_owner_alone(person: Terminal, home: Path) -> None:
    person.types("\x04")
    assert person.process.wait(timeout=60) == 0
    rest = person.screen.read()
    assert not re.search("nanobind|Error|Traceback|Warning", rest)
    (history,) = home.rglob("sql_history")
    assert history.stat().st_mode & 0o777 == 0o600
    assert "6 * 7 AS answer;" in history.read_text()


def test_redact_keeps_no_history(tmp_path: Path) -> None:
    with terminal(tmp_path, "--redact") as person:
        person.types("SELECT redact('jo@example.com');\r")
        person.sees("│ <EMAIL>")
        person.types(".exit\r")
        assert person.process.wait(timeout=60) == 0
    assert list(tmp_path.iterdir()) == []
