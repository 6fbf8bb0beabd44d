"""docs/sql.md, made from the catalogue: `python -m coldstart_udfs.reference > docs/sql.md`, or `make docs`."""

from __future__ import annotations

from coldstart_udfs.functions import FUNCTIONS, SqlFunction

_INTRODUCTION = """\
# SQL functions

Made from the catalogue by `make docs`; a test compares. After `coldstart_udfs.register(con)`, or in `coldstart sql`,
these are ordinary SQL. The database knows them too: `FROM duckdb_functions() WHERE database_name = 'temp'` has their
comments. Patterns, rules on NULL and what to know of DuckDB's versions: [sql-patterns.md](sql-patterns.md).
"""


def reference() -> str:
    """The page: a table of all functions, then each with its example."""
    rows = [f"| [`{function.name}`](#{function.name}) | {_cell(_kind(function))} | {_cell(_first(function))} |"
            for function in FUNCTIONS]  # fmt: skip
    sections = [_section(function) for function in FUNCTIONS]
    return "\n".join([_INTRODUCTION, "| function | gives | what |", "|---|---|---|", *rows, "", *sections])


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


if __name__ == "__main__":
    print(reference(), end="")
