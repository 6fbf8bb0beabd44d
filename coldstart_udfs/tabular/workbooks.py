"""Excel files as DuckDB tables of text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from coldstart_udfs.quoting import quote_name
from coldstart_udfs.tabular.encoding import FileError


def sheets_of(path: Path) -> list[str]:
    """Return the names of the sheets of a workbook that are not empty.

    Raises:
        FileError: the file is no workbook, or python-calamine is not installed.
    """
    with _workbook(path) as book:
        return [name for name in book.sheet_names if book.get_sheet_by_name(name).height]


def read_workbook(con: duckdb.DuckDBPyConnection, path: Path, table: str) -> None:
    """Create a table from the sheet named like it, or from the only sheet; its first row names the columns.

    Raises:
        FileError: no sheet or several are meant, or a number has more digits than Excel keeps.
    """
    names = sheets_of(path)
    meant = [name for name in names if name.lower() == table.lower()] or (names if len(names) == 1 else [])
    if not names:
        raise FileError(f"{path} is empty: the first row must name the columns")
    if not meant:
        raise FileError(f"{path} has the sheets {names}, and none is called {table!r}; rename one, or keep one")
    with _workbook(path) as book:
        rows = book.get_sheet_by_name(meant[0]).to_python(skip_empty_area=True)
    header = header_of(path, [_cell(path, 1, cell) or "" for cell in rows[0]])
    texts = [[_cell(path, number, cell) for cell in row] for number, row in enumerate(rows[1:], 2)]
    filled = [row for row in texts if any(cell is not None for cell in row)]
    given = pa.table({name: pa.array([row[place] for row in filled], pa.string()) for place, name in enumerate(header)})
    con.register("coldstart_sheet", given)
    con.execute(f"CREATE TABLE {quote_name(table)} AS FROM coldstart_sheet")
    con.unregister("coldstart_sheet")


def header_of(path: Path, cells: list[str]) -> list[str]:
    """The names of columns; a blank one is named by its place.

    Raises:
        FileError: all are blank, or two are the same but for letter case.
    """
    if not any(cell.strip() for cell in cells):
        raise FileError(f"{path} has no header: its first line must name the columns")
    columns = [cell.strip() or f"column{place}" for place, cell in enumerate(cells)]
    lower = [column.lower() for column in columns]
    repeated = sorted({column for column in columns if lower.count(column.lower()) > 1})
    if repeated:
        raise FileError(f"{path}: the header names {repeated} more than once; rename one, letter case does not count")
    return columns


@contextmanager
def _workbook(path: Path) -> Iterator[Any]:
    try:
        from python_calamine import CalamineWorkbook
    except ImportError:
        raise FileError(
            f"{path}: Excel files need python-calamine: pip install 'feast-coldstart[excel]', or save it as CSV UTF-8"
        ) from None
    try:
        with CalamineWorkbook.from_path(str(path)) as book:
            yield book
    except FileError:
        raise
    except Exception as error:  # the reader has an error of its own for each part of the format
        raise FileError(f"{path} cannot be read as xlsx: {error}") from None


def _cell(path: Path, row: int, value: Any) -> str | None:
    """A cell as text. Excel keeps every number as a float: a whole one is written without a fraction."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        if abs(value) >= 2**53:
            raise FileError(
                f"{path}: row {row:,} has the number {value:.0f}, of which Excel keeps 15 digits only; make its column "
                "text, in the program that writes the file"
            )
        value = int(value)
    return str(value) if value != "" and value is not None else None
