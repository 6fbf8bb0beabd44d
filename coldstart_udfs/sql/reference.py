"""docs/reference/sql-functions.md, from the catalogues of SQL functions."""

from __future__ import annotations

from coldstart_udfs.sql.catalogue import Catalogue, SqlFunction

_INTRODUCTION = """\
# SQL functions

Functions that are added to a DuckDB connection. `coldstart_udfs.register(con)` adds the first group,
`recommender.register(con, bundle=…)` the second; `coldstart sql` and `coldstart sql --bundle FOLDER` do the same. In
the database, `FROM duckdb_functions() WHERE database_name = 'temp'` lists them with their comments.
[SQL recipes](../how-to/sql-recipes.md) show them at work.
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
