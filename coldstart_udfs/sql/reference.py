"""docs/sql.md, made from the catalogues of SQL functions by `make docs`."""

from __future__ import annotations

from coldstart_udfs.sql.catalogue import Catalogue, SqlFunction

_INTRODUCTION = """\
# SQL functions

Made from the catalogue by `make docs`; a test compares. After the call that stands above each table, these are ordinary
SQL; `coldstart sql` makes the first call, and with `--bundle PATH` the second. The database knows the functions too:
`FROM duckdb_functions() WHERE database_name = 'temp'` has their comments. Patterns, rules on NULL and what to know of
DuckDB's versions: [sql-patterns.md](sql-patterns.md).
"""


def reference(*catalogues: Catalogue) -> str:
    """The page as Markdown: a table of all functions of each catalogue, then each function with its example."""
    lines = [_INTRODUCTION]
    for catalogue in catalogues:
        rows = [f"| [`{function.name}`](#{function.name}) | {_cell(_kind(function))} | {_cell(_first(function))} |"
                for function in catalogue.functions]  # fmt: skip
        lines += [f"After `{catalogue.registered_by}`:", "", "| function | gives | what |", "|---|---|---|", *rows, ""]
    sections = [_section(function) for catalogue in catalogues for function in catalogue.functions]
    return "\n".join([*lines, *sections])


def _section(function: SqlFunction) -> str:
    stays = "" if function.deterministic else " Not deterministic: computed anew in each query."
    lines = [f"## {function.name}", "", f"    {function.signature} → {function.returns}", "",
             f"{function.description}{stays}", "", "```sql", f"{function.example};", "```", ""]  # fmt: skip
    return "\n".join(lines)


def _kind(function: SqlFunction) -> str:
    return "a table" if function.is_table else f"`{function.returns}`"


def _first(function: SqlFunction) -> str:
    return function.description.split(". ")[0].rstrip(".") + "."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")
