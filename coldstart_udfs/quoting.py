"""Names and strings in SQL text."""

from __future__ import annotations


def quote_name(name: str) -> str:
    """Quote the name of a table or column.

    >>> print(quote_name('my "own" table'))
    "my ""own"" table"
    """
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Quote a string.

    >>> print(quote_text("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"
