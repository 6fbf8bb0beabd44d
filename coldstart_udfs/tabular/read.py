"""One table from one file."""

from __future__ import annotations

import csv
import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from coldstart_udfs.quoting import quote_name, quote_text
from coldstart_udfs.tabular.encoding import (
    FileError,
    as_utf8,
    check_encoding,
    ends_in_two_ways,
    is_packed,
    wrong_encoding,
)
from coldstart_udfs.tabular.json_lines import read_json
from coldstart_udfs.tabular.workbooks import header_of, read_workbook

_SEPARATED: dict[str, str | None] = {".csv": None, ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
_EXCEL = ".xlsx"
_PARQUET = (".parquet", ".pq")

# Long descriptions are valid; DuckDB's own limit for a CSV line is 2 MB.
_LONGEST = 64 * 1024 * 1024
_QUOTED = '; a text with the separator, a quote (twice) or a line break stands in double quotes: "a ""red"" lamp, 5 W"'
_SEPARATORS = ",;\t|"
_SNIFFED = 1 << 16


def kind_of(path: Path) -> str | None:
    """Return the ending that says how to read a file, in lower case and without `.gz`; None for other files.

    >>> kind_of(Path("Orders.CSV")), kind_of(Path("items.jsonl.gz")), kind_of(Path("notes.txt"))
    ('.csv', '.jsonl', None)
    """
    packed = is_packed(path)
    ending = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    known = (*_SEPARATED, *_JSON) if packed else (*_SEPARATED, *_JSON, *_PARQUET, _EXCEL)
    return ending if ending in known else None


def table_name(path: Path) -> str:
    """Return the name of a file without its endings.

    >>> table_name(Path("raw/orders.csv.gz"))
    'orders'
    """
    return Path(path.stem).stem if is_packed(path) else path.stem


def read_file(con: duckdb.DuckDBPyConnection, path: Path, table: str, *, encoding: str | None = None) -> None:
    """Create a table from a file.

    Columns of CSV and Excel files are VARCHAR. In JSON, lists, objects, booleans and numbers keep their types; texts
    are not parsed. Empty CSV fields are NULL.

    Args:
        con: a connection.
        path: a file with one of the endings .parquet, .csv, .tsv, .jsonl, .ndjson, .json, .xlsx, in any case; CSV and
            JSON may be compressed with gzip (.csv.gz).
        table: the name of the table to create.
        encoding: of CSV and JSON, a name that Python knows, such as "latin-1"; None: UTF-8, or UTF-16 and UTF-32 by
            their byte order mark.

    Raises:
        FileError: the file does not exist, has another ending, or its content does not fit. The message names the line
            where the format has lines.
    """
    kind = kind_of(path)
    if not path.is_file():
        raise FileError(f"{path} {'is a folder; name a file in it' if path.is_dir() else 'does not exist'}")
    if kind is None:
        raise FileError(f"{path} has an unknown ending; possible are .parquet, .csv, .tsv, .jsonl, .json and .xlsx")
    if encoding is not None:
        check_encoding(encoding)
    try:
        if kind in _PARQUET:
            source = f"read_parquet({quote_text(_pattern(path))}, hive_partitioning = false)"
            con.execute(f"CREATE TABLE {quote_name(table)} AS FROM {source}")
            _decode_binary(con, table)
        elif kind == _EXCEL:
            read_workbook(con, path, table)
        else:
            try:
                _read_text(con, path, table, encoding, copied=False)
            except duckdb.Error:
                # DuckDB refuses a file in which lines end in two ways, for one reason or another.
                if kind in _JSON or not ends_in_two_ways(path):
                    raise
                _read_text(con, path, table, encoding, copied=True)
    except duckdb.Error as error:
        wrong = wrong_encoding(path, encoding) if kind in (*_SEPARATED, *_JSON) else None
        raise FileError(f"{path} {wrong or f'cannot be read as {kind[1:]}: {_reason(error)}'}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{path} cannot be read: {error}") from None


@contextmanager
def as_parquet(path: Path, *, encoding: str | None = None) -> Iterator[Path]:
    """Yield a file as Parquet: the file itself, or a copy that is removed afterwards.

    Args:
        path: as for `read_file`.
        encoding: as for `read_file`.

    Raises:
        FileError: as `read_file`.
    """
    if kind_of(path) in (None, *_PARQUET) and path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="coldstart-") as folder, duckdb.connect(f"{folder}/rows.duckdb") as con:
        copy = Path(folder) / "rows.parquet"
        read_file(con, path, table_name(path), encoding=encoding)
        con.execute(f"COPY {quote_name(table_name(path))} TO {quote_text(str(copy))} (FORMAT parquet)")
        yield copy


def _pattern(path: Path) -> str:
    """A path as DuckDB's readers take it: characters of patterns stand for themselves."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))


def _decode_binary(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Turn binary columns that hold UTF-8 into text: some writers do not mark text as such."""
    name = quote_name(table)
    for row in con.execute(f"DESCRIBE {name}").fetchall():
        column = quote_name(row[0])
        if row[1] == "BLOB" and not con.execute(
            f"SELECT count(*) FROM {name} WHERE {column} IS NOT NULL AND TRY(decode({column})) IS NULL"
        ).fetchall()[0][0]:
            con.execute(f"ALTER TABLE {name} ALTER {column} TYPE VARCHAR USING decode({column})")


def _read_text(
    con: duckdb.DuckDBPyConnection, path: Path, table: str, encoding: str | None, *, copied: bool
) -> None:
    with as_utf8(path, encoding, copied=copied) as file:
        if kind_of(path) in _SEPARATED:
            _read_separated(con, file, path, table)
        else:
            read_json(con, file, path, _pattern(file), table)


def _read_separated(con: duckdb.DuckDBPyConnection, file: Path, path: Path, table: str) -> None:
    separator = _SEPARATED[kind_of(path) or ".csv"]
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        head = text.read(_SNIFFED)
    skipped = 0
    first = head.split("\n", 1)[0].rstrip("\r")
    # Excel writes this line so that it finds the separator itself.
    if len(first) == 5 and first.lower().startswith("sep="):
        separator, skipped, head = first[4], 1, head.partition("\n")[2]
    separator = separator or _separator(head)
    header = next(csv.reader(io.StringIO(head, newline=""), delimiter=separator), [])
    columns = header_of(path, header)
    names = ", ".join(f"{quote_text(column)}: 'VARCHAR'" for column in columns)
    con.execute(f"""
        CREATE TABLE {quote_name(table)} AS FROM read_csv({quote_text(_pattern(file))}, auto_detect = false,
            header = true, delim = {quote_text(separator)}, quote = '"', escape = '"', columns = {{{names}}},
            skip = {skipped}, max_line_size = {_LONGEST}, hive_partitioning = false)
    """)


def _separator(head: str) -> str:
    """The character that separates the fields of the header; of several, the one that splits the next lines alike.

    >>> _separator("id;name, size\\n1;a, b\\n"), _separator("id\\n1\\n")
    (';', ',')
    """
    found = []
    for separator in _SEPARATORS:
        rows = [row for row in csv.reader(io.StringIO(head, newline=""), delimiter=separator) if row][:50]
        # The last row may be cut.
        alike = sum(len(row) == len(rows[0]) for row in rows[: max(1, len(rows) - 1)]) if rows else 0
        if rows and len(rows[0]) > 1:
            # A comma before a space is one of a text.
            spaced = sum(field.startswith(" ") for field in rows[0])
            found.append((alike, -spaced, len(rows[0]), separator))
    return max(found, key=lambda one: one[:3])[3] if found else ","


def _reason(error: duckdb.Error) -> str:
    """The message of the database, without the options of its reader, which the user did not choose."""
    text = str(error).replace("Attempting to execute an unsuccessful or closed pending query result\nError: ", "")
    text = text.partition("\nPossible fixes:")[0].partition("\n\nLINE 1:")[0]
    text = " ".join(text.replace("Invalid Input Error: ", "").replace("CSV Error on Line:", "line").split())
    line, found, rest = text.partition(" Original Line: ")
    if not found:
        return text
    # An unclosed quote makes the rest of the file one line.
    problems = [parts for word in ("Expected Number", "Value with") if (parts := rest.partition(word))[1]]
    content, word, what = problems[0] if problems else (rest, "", "no row")
    shown = content.strip()
    return f"{line}: {word}{what.rstrip('.')}. It is: {shown if len(shown) <= 120 else shown[:120] + ' …'}{_QUOTED}"
