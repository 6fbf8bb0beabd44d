"""The shell's own commands: `.help`, `.tables` and the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from coldstart_udfs.console import console
from coldstart_udfs.sql.catalogue import SqlFunction

if TYPE_CHECKING:
    from coldstart_udfs.sql.shell.query import Connection


def print_functions(functions: tuple[SqlFunction, ...], part: str) -> None:
    """Print the SQL functions with `part` in their names, and an example of the one that is meant."""
    found = [function for function in functions if part.lower() in function.name]
    if not found:
        console.print(f"no function has {part!r} in its name; .functions lists all", markup=False)
        return
    table = Table("function", "returns", "description", show_lines=True)
    for function in found:
        table.add_row(*map(Text, (function.signature, function.returns, function.description)))
    console.print(table)
    for function in found:
        if len(found) == 1 or function.name == part.lower():
            console.print(f"{function.example};", markup=False, soft_wrap=True)


def obey(con: Connection, functions: tuple[SqlFunction, ...], text: str) -> bool:
    """Run one of the shell's own commands, such as `.tables`.

    Args:
        con: the connection.
        functions: the registered functions.
        text: the command as typed.

    Returns:
        False if the shell should exit.
    """
    from coldstart_udfs.sql.shell.prompt import DOT_COMMANDS
    from coldstart_udfs.sql.shell.query import RELATIONS

    name, _, argument = text.rstrip("; ").partition(" ")
    argument = argument.strip()
    if name == ".exit":
        return False
    if name == ".help":
        for command, (takes, what) in DOT_COMMANDS.items():
            console.print(f"{f'{command} {takes}':<19}{what}", markup=False)
        console.print("Anything else is SQL and ends with a semicolon; Ctrl-C cancels it.")
    elif name == ".tables":
        for path, kind in con.execute(f"SELECT path, kind FROM ({RELATIONS}) ORDER BY ALL").fetchall():
            console.print(Text(path) + Text("" if kind == "table" else f"  {kind}", style="dim"))
    elif name == ".schema":
        matching = f"SELECT sql FROM ({RELATIONS}) WHERE $1 IN ('', lower(name), lower(path)) ORDER BY path"
        found = con.execute(matching, [argument.lower()]).fetchall()
        for (statement,) in found:
            console.print(statement, markup=False, soft_wrap=True)
        if argument and not found:
            console.print(f"no table or view is called {argument!r}; .tables lists them", markup=False)
    elif name == ".functions":
        print_functions(functions, argument)
    else:
        console.print(f"there is no {name}; .help lists the commands", markup=False)
    return True
