"""Where the machine fails a command: one sentence and status 2, or 130 after Ctrl-C, and never a traceback."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
import typer
from rich.console import Console

from coldstart_udfs.files import staged
from coldstart_udfs.settings import Enrichment
from coldstart_udfs.sql.shell.query import Runner
from recommender.cli import failures
from recommender.cli.failures import sentence
from recommender.cli.shop import init
from recommender.cli.sql import run_script
from tests.support.commands import ROOT

COLDSTART = (sys.executable, "-m", "recommender.cli")


def coldstart(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COLDSTART, *arguments], stderr=subprocess.PIPE, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings.pop("env", {})}, **settings,  # type: ignore
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "x", "data/a.parquet"), "data/a.parquet cannot be written, the disk is full; free some"),
        (OSError(errno.EROFS, "x", "a"), "a cannot be written, its file system is read-only; name another place"),
        (PermissionError(errno.EACCES, "x", b"a"), "a may not be read or written by this user; mend its permissions"),
        (FileNotFoundError(errno.ENOENT, "x", Path("a")), "a does not exist; correct the path"),
        (IsADirectoryError(errno.EISDIR, "x", "a"), "a is a folder; name a file"),
        (OSError(errno.EMFILE, "x", "a"), "a cannot be opened, too many files are open; raise the limit (ulimit -n)"),
        (OSError("[Errno 28] No space left on device"), "a file cannot be written, the disk is full ([Errno 28]"),
        (OSError(errno.EBUSY, "in use", "a"), "[Errno 16] in use: 'a'; make this possible, then run the same"),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")]), "b cannot be written, the disk"),
        (duckdb.IOException('IO Error: Could not write file "x/.unfinished-1/a": No space left on device'),
         "x/a cannot be written, the disk is full; free"),
        (sqlite3.OperationalError("database or disk is full"), "a file cannot be written, the disk is full (database"),
        (MemoryError(), "there is not enough memory"),
    ],
)  # fmt: skip
def test_an_error_of_the_machine_is_a_sentence_with_a_remedy(error: Exception, told: str) -> None:
    found = sentence(error)
    assert found is not None
    assert found.startswith(told)
    assert "; " in found
    assert "\n" not in found


def raising(error: BaseException) -> Callable[[], int | None]:
    def command() -> int | None:
        raise error

    return command


def test_it_is_told_on_stderr_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert failures.run(raising(PermissionError(errno.EACCES, "x", "shop.db"))) == 2
    assert capsys.readouterr().err.startswith("error: shop.db may not be read or written by this user")
    wrapped = RuntimeError("a library's own words")
    wrapped.__cause__ = OSError(errno.ENOSPC, "x", "a")
    assert failures.run(raising(wrapped)) == 2


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        failures.run(raising(KeyError("x")))


# -- Ctrl-C --------------------------------------------------------------------------------------------


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C as in a terminal: tests that run in the background of a shell (`&`, nohup) inherit that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)  # until the handler has run


def swallowed() -> int:
    try:
        press()
    except KeyboardInterrupt:
        return 0
    return 1


def turned_into_another() -> int:
    try:
        press()
    except KeyboardInterrupt:
        raise ImportError("numpy could not be imported") from None
    return 1


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("command", [press, swallowed, turned_into_another, raising(KeyboardInterrupt())])
def test_ctrl_c_ends_with_130_whatever_a_library_makes_of_it(
    capsys: pytest.CaptureFixture[str], command: Callable[[], int | None]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert failures.run(command) == 130
    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("heard")  # which the process inherits
@pytest.mark.parametrize("seconds", [0.1, 0.3])
def test_ctrl_c_while_modules_are_imported_ends_with_130(tmp_path: Path, seconds: float) -> None:
    # The signal waits for Python itself to have started, and for the first module.
    code = "from recommender.cli import failures, main; print('started', flush=True); main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "evaluate", "--data", "nowhere"], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


def test_ctrl_c_too_late_for_a_statement_stops_the_script_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with duckdb.connect() as con:
        runner = Runner(con, Console(file=io.StringIO()))
        wait_for = runner._watch

        def watch(*arguments: object) -> None:
            wait_for(*arguments)  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGINT)  # the statement has ended, its handler is still there
            time.sleep(0.1)

        monkeypatch.setattr(runner, "_watch", watch)
        with pytest.raises(typer.Exit) as ended:
            run_script(runner, "CREATE TABLE a (x INT); CREATE TABLE b (x INT)", None)
        assert ended.value.exit_code == 130
        assert con.execute("SELECT name FROM (SHOW TABLES)").fetchall() == [("a",)]


# -- the output ----------------------------------------------------------------------------------------

ROWS = ("sql", "-c", "FROM range(100000)", "--csv")


@pytest.mark.parametrize("asked", [("cache", "stats"), ROWS], ids=["text", "rows"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_is_full_is_a_sentence(asked: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = coldstart(*asked, stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the output cannot be written, the disk is full")
    assert done.stderr.count("\n") == 1


def test_a_closed_output_and_a_reader_that_leaves_cost_no_traceback(tmp_path: Path) -> None:
    program = " ".join([*COLDSTART, *ROWS])
    for command, status in ((f"{program} >&-", 0), (f"{program} | head -1; exit ${{PIPESTATUS[0]}}", 1)):
        command = command.replace("FROM range(100000)", "'FROM range(100000)'")
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (status, "")


def test_an_output_that_knows_ascii_alone_gets_escapes() -> None:
    done = coldstart("sql", "-c", "SELECT 'é→漢' AS a", stdout=subprocess.PIPE, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9\\u2192\\u6f22" in done.stdout


# -- files ---------------------------------------------------------------------------------------------


def test_a_file_that_may_not_grow_is_named(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with duckdb.connect() as con:
        for name, columns in (
            ("items", "i::VARCHAR AS item_id, md5(i::VARCHAR) AS description"),
            ("users", "i::VARCHAR AS user_id, NULL::VARCHAR AS description"),
            ("interactions", "i::VARCHAR AS user_id, i::VARCHAR AS item_id, TIMESTAMP '2024-01-01' AS event_timestamp"),
        ):
            con.execute(f"COPY (SELECT {columns} FROM range(2000) t(i)) TO '{tmp_path}/raw/{name}.parquet'")
    command = f"ulimit -f 1; {' '.join(COLDSTART)} ingest raw"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: data/")
    assert "cannot be written, it is larger than allowed" in done.stderr
    assert not (tmp_path / "data").exists()


def test_what_a_full_disk_refuses_in_a_scratch_folder_names_the_folder(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, "x"), PermissionError(errno.EACCES, "x", str(tmp_path / ".unfinished-1/a"))):
        with pytest.raises(OSError, match=r"No space|denied") as told, staged(tmp_path):
            raise error
        assert (told.value.filename, told.value.errno) == (str(tmp_path), error.errno)
    with pytest.raises(FileNotFoundError) as told, staged(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "x", "another")
    assert told.value.filename == "another"


def test_a_shop_that_cannot_be_written_leaves_no_half(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "x")

    monkeypatch.setattr(Enrichment, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*new'"):
        init(tmp_path / "new")
    assert not (tmp_path / "new").exists()
