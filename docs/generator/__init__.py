"""The reference pages, each made from the code by the function `page` of a module."""

from __future__ import annotations

from collections.abc import Callable

from . import command_line, data_contract, python_names, settings, sql_functions

# By the name of the file in docs/reference.
PAGES: dict[str, Callable[[], str]] = {
    "sql-functions.md": sql_functions.page,
    "command-line.md": command_line.page,
    "python.md": python_names.page,
    "settings.md": settings.page,
    "data-contract.md": data_contract.page,
}
