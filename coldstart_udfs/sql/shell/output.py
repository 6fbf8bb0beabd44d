"""Results of `coldstart sql`: as a table on the terminal, or as CSV, JSON or parquet."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coldstart_udfs.files import staged
from coldstart_udfs.sql.shell.query import Relation, batches

ROWS_SHOWN = 40

# Seconds to count rows that are not shown. Counting the rows of a table takes no time; computing every row, with
# embeddings for example, would take too long.
_COUNT_SECONDS = 1.0

_TEXT_SHOWN = 1000
_NARROWEST = 8
_TEXT_LEAST = 12
_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\([\d,]*\)")
_NUMBERS = re.compile(r"(INT|INTEGER|FLOAT|DOUBLE|DECIMAL\([\d,]*\))\[")
_VECTOR = re.compile(r"\[((?:[-+.\w]+, ){4,}[-+.\w]+)\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_NESTED = re.compile(r"\]$|^(STRUCT|MAP|UNION|JSON|VARIANT)")
_FLOATS = re.compile(r"(FLOAT|DOUBLE)(\[\d*\])*")
_NOT_FINITE = re.compile(r'("(?:[^"\\]|\\.)*")|-?\b(?:nan|inf|Infinity)\b', re.IGNORECASE)
_CSV_SPECIAL = re.compile(r'[",\r\n]')


@dataclass(frozen=True)
class Page:
    """The first rows of a result, as text.

    Attributes:
        columns: names.
        types: SQL types.
        rows: at most `ROWS_SHOWN` rows; None is NULL.
        total: number of rows of the result, or of those counted.
        exact: whether all rows were counted.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[str | None, ...]]
    total: int
    exact: bool


def read_page(relation: Relation) -> Page:
    """Run a relation for its first rows, and count the other rows for at most a second."""

    def text(place: int, kind: str) -> str:
        # Long texts are cut in SQL. Vectors are shortened below, which needs all their numbers.
        cast = f"CAST(#{place} AS VARCHAR)"
        return cast if _NUMBERS.search(kind) else f"left({cast}, {_TEXT_SHOWN})"

    start = time.monotonic()
    rows: list[tuple[str | None, ...]] = []
    total, exact = 0, True
    # Small batches: a larger one would wait for DuckDB's next chunk, in which 2,048 texts are encoded.
    with batches(relation, text, size=ROWS_SHOWN + 1) as reader:
        for batch in reader:
            wanted = batch.slice(0, max(ROWS_SHOWN - total, 0))
            rows += zip(*(column.to_pylist() for column in wanted.columns), strict=True)
            total += batch.num_rows
            if total > ROWS_SHOWN and time.monotonic() - start > _COUNT_SECONDS:
                exact = False
                break
    return Page(relation.columns, [str(kind) for kind in relation.types], rows, total, exact)


def print_page(console: Console, page: Page, seconds: float) -> None:
    """Print a table no wider than the terminal, with the number of rows and the seconds below."""
    if page.columns == ["explain_key", "explain_value"]:
        for _, plan in page.rows:
            console.print(Text(plan or ""), soft_wrap=True)
        return
    cells = [
        [_cell(value, kind) for value, kind in zip(row, page.types, strict=True)] for row in page.rows
    ]
    names = [_clean(name) for name in page.columns]
    natural = [
        max(1, *(cell_len(str(cell)) for cell in column))
        for column in zip(names, *cells, strict=True)
    ]
    numeric = [_NUMBER.fullmatch(kind) is not None for kind in page.types]
    textual = [re.search(r"VARCHAR|STRUCT|MAP|UNION|JSON|\]\[", kind) is not None for kind in page.types]
    widths = _fit(natural, textual, console.width)
    table = Table()
    for name, is_number, width in zip(names, numeric, widths, strict=False):
        table.add_column(
            Text(name), width=width, no_wrap=True, overflow="ellipsis", justify="right" if is_number else "left"
        )
    for row in cells:
        table.add_row(*row[: len(widths)])
    console.print(table)
    shown = len(page.rows)
    if shown == page.total:
        notes = [f"{shown:,} row{'' if shown == 1 else 's'}"]
    else:
        notes = [f"… {'' if page.exact else 'more than '}{page.total:,} rows, the first {shown} shown"]
    if len(widths) < len(names):
        notes.append(f"the first {len(widths)} of {len(names)} columns")
    console.print(Text(" · ".join([*notes, f"{seconds:.2f} s"]), style="dim"))


def write_csv(relation: Relation, out: BinaryIO) -> None:
    """Stream a result as CSV with a header: NULL is empty, an empty text "", lists and structs are JSON."""

    def text(place: int, kind: str) -> str:
        return _json(place, kind) if _NESTED.search(kind) else f"CAST(#{place} AS VARCHAR)"

    nested = [bool(_NESTED.search(str(kind))) for kind in relation.types]
    out.write((",".join(map(_quoted, relation.columns)) + "\n").encode())
    for rows in _rows(relation, text, nested):
        lines = (",".join("" if value is None else _quoted(value) for value in row) + "\n" for row in rows)
        out.write("".join(lines).encode())
    out.flush()


def write_json(relation: Relation, out: BinaryIO) -> None:
    """Stream a result as a JSON array of objects, one on each line; NULL, NaN and infinity are null."""
    keys = [json.dumps(name, ensure_ascii=False) + ": " for name in _distinct(relation.columns)]
    separator = "[\n"
    for rows in _rows(relation, _json, [True] * len(keys)):
        objects = [
            "{" + ", ".join(key + (value or "null") for key, value in zip(keys, row, strict=True)) + "}"
            for row in rows
        ]
        out.write((separator + ",\n".join(objects)).encode())
        separator = ",\n"
    out.write(("[]\n" if separator == "[\n" else "\n]\n").encode())
    out.flush()


def write_parquet(relation: Relation, path: Path) -> int:
    """Write a result to a file; the old file stays if the query fails. Returns the number of rows."""
    from pyarrow.parquet import read_metadata

    with staged(path.absolute().parent) as scratch:
        relation.write_parquet(str(scratch / path.name))
        rows: int = read_metadata(scratch / path.name).num_rows
    return rows


def _rows(
    relation: Relation, text: Callable[[int, str], str], is_json: Sequence[bool]
) -> Iterator[Iterator[tuple[str | None, ...]]]:
    """A relation's rows as text, a batch at a time."""
    with batches(relation, text) as reader:
        for batch in reader:
            columns: list[list[str | None]] = [column.to_pylist() for column in batch.columns]
            cleaned = [
                [_finite(value) for value in column] if json_text else column
                for column, json_text in zip(columns, is_json, strict=True)
            ]
            if batch.num_rows:
                yield zip(*cleaned, strict=True)


def _json(place: int, kind: str) -> str:
    if kind.strip('"') == "NULL":
        return f"CAST(#{place} AS VARCHAR)"  # DuckDB folds to_json(NULL), without computing the column
    if _FLOATS.fullmatch(kind):
        # The shortest digits of the FLOAT; to_json() would write the digits of a DOUBLE.
        return f"replace(CAST(#{place} AS VARCHAR), 'NULL', 'null')"
    return f"CAST(to_json(#{place}) AS VARCHAR)"


def _finite(value: str | None) -> str | None:
    """JSON text with null for NaN and infinity, which JSON does not have."""
    if value is None or ("n" not in value and "N" not in value):
        return value
    return _NOT_FINITE.sub(lambda match: match[1] or "null", value)


def _quoted(value: str) -> str:
    if value and value == value.strip() and not _CSV_SPECIAL.search(value):
        return value
    return '"' + value.replace('"', '""') + '"'


def _distinct(names: list[str]) -> list[str]:
    """Names with a number added to repeated ones, as DuckDB does in its files."""
    result: list[str] = []
    for name in names:
        fresh, number = name, 0
        while fresh in result:
            number += 1
            fresh = f"{name}_{number}"
        result.append(fresh)
    return result


def _cell(value: str | None, kind: str) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    if _NUMBERS.search(kind):
        value = _VECTOR.sub(_shortened, value)
    return Text(_clean(value[:_TEXT_SHOWN]))


def _shortened(match: re.Match[str]) -> str:
    numbers = match[1].split(", ")
    shown = (f"{float(one):.3f}" if re.search(r"\d[.e]", one) else one for one in numbers[:3])
    return f"[{', '.join(shown)}, … {len(numbers)}]"


def _clean(text: str) -> str:
    """One line without control characters, which a terminal would act on."""
    return _CONTROL.sub(" ", text)


def _fit(natural: list[int], is_text: list[bool], available: int) -> list[int]:
    """The widths of the columns that fit; the widest text columns are narrowed first, then all columns."""

    def total(widths: list[int]) -> int:  # with borders and the space beside them
        return sum(width + 3 for width in widths) + 1

    widths = list(natural)
    while len(widths) > 1 and total([min(width, _NARROWEST) for width in widths]) > available:
        widths.pop()
    for least, may_shrink in ((_TEXT_LEAST, is_text), (_NARROWEST, [True] * len(natural))):
        most = max(widths)
        while most > least and total(widths) > available:
            most -= 1
            widths = [
                min(width, most) if shrinks else width for width, shrinks in zip(widths, may_shrink, strict=False)
            ]
    return widths
