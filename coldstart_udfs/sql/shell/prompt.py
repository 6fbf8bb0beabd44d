"""The line editor of `coldstart sql`: history, completion, colours, input over several lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

import duckdb
import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from coldstart_udfs.quoting import quote_name
from coldstart_udfs.sql.catalogue import FUNCTIONS, SqlFunction
from coldstart_udfs.sql.shell.query import RELATIONS, Connection, is_complete

PROMPT = "coldstart> "
# The argument of each, and its description.
DOT_COMMANDS = {
    ".exit": ("", "leave, as Ctrl-D does"),
    ".functions": ("[name]", "the functions added to DuckDB's, or those with NAME in theirs"),
    ".help": ("", "this list"),
    ".schema": ("[table]", "the statements that make the tables and views, or that one"),
    ".tables": ("", "the tables and views"),
}

_COLUMNS = "SELECT DISTINCT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"


def session(con: Connection, completer: SqlCompleter, *, remember: bool) -> PromptSession[str]:
    """A prompt in which Enter runs a complete statement and otherwise starts a new line.

    Args:
        con: the connection whose parser decides whether a statement is complete.
        completer: the completer for Tab.
        remember: keep the input in the user's history file.
    """
    keys = KeyBindings()

    @keys.add("enter", filter=has_focus(DEFAULT_BUFFER))
    def _enter(event: KeyPressEvent) -> None:
        text = event.current_buffer.text
        if not text.strip() or text.lstrip().startswith(".") or is_complete(con, text):
            event.current_buffer.validate_and_handle()
        else:
            event.current_buffer.insert_text("\n")

    return PromptSession(
        PROMPT, completer=completer, history=_history() if remember else InMemoryHistory(), key_bindings=keys,
        lexer=PygmentsLexer(SqlLexer), multiline=True,
        prompt_continuation=lambda width, line, wraps: ("" if wraps else "...> ").rjust(width),
    )  # fmt: skip


class SqlCompleter(Completer):
    """Completes columns, tables, our functions, keywords, and the shell's own commands."""

    def __init__(self, con: Connection, functions: tuple[SqlFunction, ...] = FUNCTIONS) -> None:
        self._con = con
        self._functions = functions
        keywords = con.execute("SELECT DISTINCT upper(keyword_name) FROM duckdb_keywords() ORDER BY 1").fetchall()
        self._keywords = [name for (name,) in keywords]
        self._tables: dict[str, str] = {}
        self._columns: list[tuple[str, str, str]] = []
        self.refresh()

    def refresh(self) -> None:
        """Read the tables and columns of the database; call it after a statement."""
        try:
            self._tables = dict(self._con.execute(f"SELECT DISTINCT name, kind FROM ({RELATIONS})").fetchall())
            self._columns = self._con.execute(_COLUMNS).fetchall()
        except duckdb.Error:  # in an aborted transaction the known names stay
            pass

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Completions of the word before the cursor, likeliest first."""
        before = document.text_before_cursor
        if before.lstrip().startswith("."):
            yield from self._commands(before.lstrip())
            return
        if before.count("'") % 2:  # inside a text
            return
        word = re.search(r"(?:(\w+)\.)?(\w*)$", before)
        owner, start = word.groups() if word else (None, "")
        if start or owner or complete_event.completion_requested:
            yield from _matching(start, self._after(owner) if owner else self._anywhere(start))

    def _anywhere(self, start: str) -> Iterator[tuple[str, str, str]]:
        """The text, the name shown, and a description of each completion."""
        yield from self._after(None)
        for name, kind in self._tables.items():
            yield _identifier(name), name, kind
        for function in self._functions:
            yield f"{function.name}(", function.signature, f"{function.returns}: {function.description}"
        for keyword in self._keywords:
            text = keyword.lower() if start.islower() else keyword
            yield text, text, ""

    def _after(self, owner: str | None) -> Iterator[tuple[str, str, str]]:
        """The columns of a table; of all tables if the name is an alias."""
        known = {name.lower() for name in self._tables}
        owners: dict[tuple[str, str], list[str]] = {}
        for table, column, kind in self._columns:
            if owner is None or owner.lower() == table.lower() or owner.lower() not in known:
                owners.setdefault((column, kind), []).append(table)
        for (column, kind), tables in owners.items():
            yield _identifier(column), column, f"{kind}, {', '.join(tables[:3])}{' …' if tables[3:] else ''}"

    def _commands(self, before: str) -> Iterator[Completion]:
        command, space, argument = before.partition(" ")
        if not space:
            yield from _matching(before, ((name, name, what) for name, (_, what) in DOT_COMMANDS.items()))
        elif command == ".schema":
            yield from _matching(argument, ((name, name, kind) for name, kind in self._tables.items()))
        elif command == ".functions":
            yield from _matching(argument, ((one.name, one.name, one.description) for one in self._functions))


def _matching(start: str, candidates: Iterable[tuple[str, str, str]]) -> Iterator[Completion]:
    for text, display, meta in candidates:
        if text.lower().lstrip('"').startswith(start.lower()) and text.lower() != start.lower():
            yield Completion(text, -len(start), display=display, display_meta=meta)


def _identifier(name: str) -> str:
    return name if re.fullmatch(r"[^\W\d]\w*", name) else quote_name(name)


def _history() -> History:
    """Earlier input, in a file that only the user can read; in memory if it cannot be written."""
    try:
        path = platformdirs.user_state_path("coldstart") / "sql_history"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return InMemoryHistory()
    return FileHistory(str(path))
