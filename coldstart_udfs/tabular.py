"""Files as DuckDB tables: Parquet, CSV, JSON and Excel, without guesses from a sample.

A CSV file is split by the separator of its header and read as text. What a column means is decided by whoever knows it:
the data contract, or the user's script.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.quoting import quote_name, quote_text

_SEPARATED: dict[str, str | None] = {".csv": None, ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
_EXCEL = ".xlsx"
_PARQUET = (".parquet", ".pq")
_PACKED = ".gz"

# Long descriptions are valid; DuckDB's own limits for a CSV line and a JSON object are 2 and 16 MB.
_LONGEST = 64 * 1024 * 1024
_QUOTED = '; a text with the separator, a quote (twice) or a line break stands in double quotes: "a ""red"" lamp, 5 W"'
_SEPARATORS = ",;\t|"
_SNIFFED = 1 << 16
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
# Whole numbers of more digits than this are not exact as DOUBLE.
_EXACT_DIGITS = 15
# Encodings that old exports of shops have.
_LIKELY = ["utf_16", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "gb18030", "big5", "cp932", "euc_jp", "cp949"]
_ADVICE = "name its encoding: --encoding latin-1 (or cp1252, gbk, shift_jis, utf-16 …), or save it as UTF-8"


class FileError(ColdStartError):
    """A file cannot be read as a table."""


def kind_of(path: Path) -> str | None:
    """Return the ending that says how to read a file, in lower case and without `.gz`; None for other files.

    >>> kind_of(Path("Orders.CSV")), kind_of(Path("items.jsonl.gz")), kind_of(Path("notes.txt"))
    ('.csv', '.jsonl', None)
    """
    packed = path.suffix.lower() == _PACKED
    ending = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    known = (*_SEPARATED, *_JSON) if packed else (*_SEPARATED, *_JSON, *_PARQUET, _EXCEL)
    return ending if ending in known else None


def table_name(path: Path) -> str:
    """Return the name of a file without its endings.

    >>> table_name(Path("raw/orders.csv.gz"))
    'orders'
    """
    return Path(path.stem).stem if path.suffix.lower() == _PACKED else path.stem


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
        _check_encoding(encoding)
    try:
        if kind in _PARQUET:
            con.execute(f"CREATE TABLE {quote_name(table)} AS FROM read_parquet({quote_text(str(path))})")
            _decode_binary(con, table)
        elif kind == _EXCEL:
            _read_workbook(con, path, table)
        else:
            try:
                _read_text(con, path, table, encoding, copied=False)
            except duckdb.Error as error:
                # What it says of a file in which lines end in two ways.
                if "reached an invalid state" not in str(error):
                    raise
                _read_text(con, path, table, encoding, copied=True)
    except duckdb.Error as error:
        wrong = _wrong_encoding(path, encoding) if kind in (*_SEPARATED, *_JSON) else None
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
        read_file(con, path, "file_rows", encoding=encoding)
        con.execute(f"COPY file_rows TO {quote_text(str(copy))} (FORMAT parquet)")
        yield copy


def sheets_of(path: Path) -> list[str]:
    """Return the names of the sheets of a workbook.

    Raises:
        FileError: the file is no workbook, or python-calamine is not installed.
    """
    with _workbook(path) as book:
        return list(book.sheet_names)


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
    kind = kind_of(path)
    con.execute(f"DROP TABLE IF EXISTS {quote_name(table)}")
    with _as_utf8(path, encoding, copied=copied) as file:
        if kind in _SEPARATED:
            _read_separated(con, file, path, table)
        else:
            _read_json(con, file, quote_name(table))


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
    if not any(header):
        raise FileError(f"{path} has no header: its first line must name the columns")
    columns = [column.strip() or f"column{place}" for place, column in enumerate(header)]
    lower = [column.lower() for column in columns]
    repeated = sorted({column for column in columns if lower.count(column.lower()) > 1})
    if repeated:
        raise FileError(f"{path}: the header names {repeated} more than once; rename one, letter case does not count")
    names = ", ".join(f"{quote_text(column)}: 'VARCHAR'" for column in columns)
    con.execute(f"""
        CREATE TABLE {quote_name(table)} AS FROM read_csv({quote_text(str(file))}, auto_detect = false, header = true,
            delim = {quote_text(separator)}, quote = '"', escape = '"', columns = {{{names}}}, skip = {skipped},
            max_line_size = {_LONGEST})
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
            found.append((alike, len(rows[0]), separator))
    return max(found, key=lambda one: one[:2])[2] if found else ","


def _read_json(con: duckdb.DuckDBPyConnection, file: Path, name: str) -> None:
    shape = f"maximum_object_size = {_LONGEST}"
    source = quote_text(str(file))
    # -1 is the whole file; one depth would make JSON of lists and objects.
    inferred = con.execute(f"DESCRIBE FROM read_json({source}, sample_size = -1, {shape})").fetchall()
    types = {column: kind if kind in ("BOOLEAN", "BIGINT") or kind.endswith((")", "]")) else "VARCHAR"
             for column, kind, *_ in inferred}  # fmt: skip
    doubles = [column for column, kind, *_ in inferred if kind == "DOUBLE"]

    def columns() -> str:
        return "{" + ", ".join(f"{quote_text(column)}: {quote_text(kind)}" for column, kind in types.items()) + "}"

    con.execute(f"CREATE TABLE {name} AS FROM read_json({source}, columns = {columns()}, {shape})")
    for column in map(quote_name, doubles):
        long = f"regexp_full_match({column}, '-?[0-9]{{{_EXACT_DIGITS + 1},}}')"
        if not con.execute(f"SELECT count(*) FROM {name} WHERE {long}").fetchall()[0][0]:
            con.execute(f"ALTER TABLE {name} ALTER {column} TYPE DOUBLE")


@contextmanager
def _workbook(path: Path) -> Iterator[Any]:
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError:
        raise FileError(
            f"{path}: Excel files need python-calamine: pip install 'feast-coldstart[excel]', or save it as CSV UTF-8"
        ) from None
    try:
        book = CalamineWorkbook.from_path(str(path))
    except (CalamineError, OSError) as error:
        raise FileError(f"{path} cannot be read as xlsx: {error}") from None
    try:
        yield book
    finally:
        book.close()


def _read_workbook(con: duckdb.DuckDBPyConnection, path: Path, table: str) -> None:
    """Read the sheet named like the table, or the only sheet; its first row names the columns."""
    with _workbook(path) as book:
        names = list(book.sheet_names)
        if table not in names and len(names) != 1:
            raise FileError(f"{path} has the sheets {names}, and none is called {table!r}; rename one, or keep one")
        rows = book.get_sheet_by_name(table if table in names else names[0]).to_python(skip_empty_area=True)
    if not rows:
        raise FileError(f"{path} is empty: its first row must name the columns")
    header = [_cell(cell) or f"column{place}" for place, cell in enumerate(rows[0])]
    texts = [[_cell(cell) for cell in row] for row in rows[1:]]
    filled = [row for row in texts if any(cell is not None for cell in row)]
    given = pa.table({name: pa.array([row[place] for row in filled], pa.string()) for place, name in enumerate(header)})
    con.register("sheet_rows", given)
    con.execute(f"CREATE TABLE {quote_name(table)} AS FROM sheet_rows")
    con.unregister("sheet_rows")


def _cell(value: Any) -> str | None:
    """A cell as text. Excel keeps every number as a float: a whole one is written without a fraction."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" and value is not None else None


@contextmanager
def _as_utf8(path: Path, encoding: str | None, *, copied: bool) -> Iterator[Path]:
    """Yield a file in UTF-8: the file itself, or a copy whose lines all end alike.

    DuckDB does not notice that the end of a compressed file is missing, so that such a file is always copied.
    """
    packed = path.suffix.lower() == _PACKED
    with _opened(path, packed) as stream:
        head = stream.read(4)
    encoding = encoding or next((name for bom, name in _BOMS if head.startswith(bom)), "utf-8")
    if not (copied or packed) and codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="coldstart-") as folder:
        copy = Path(folder) / table_name(path)
        try:
            with (
                _opened(path, packed) as stream, io.TextIOWrapper(stream, encoding) as text,
                copy.open("w", encoding="utf-8", newline="\n") as out,
            ):  # fmt: skip
                shutil.copyfileobj(text, out)
        except UnicodeError as error:
            raise FileError(f"{path} is not {encoding}: {error}; {_ADVICE}") from None
        yield copy


def _opened(path: Path, packed: bool) -> IO[bytes]:
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def _check_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise FileError(
            f"the encoding {encoding!r} is not known; possible are utf-8, utf-16, latin-1, cp1252, gbk, shift_jis, "
            "and the others that Python names"
        ) from None


def _wrong_encoding(path: Path, encoding: str | None) -> str | None:
    """A sentence about a file that is not in its encoding; None if it is."""
    decoder = codecs.getincrementaldecoder(encoding or "utf-8")()
    line = 1
    with _opened(path, path.suffix.lower() == _PACKED) as stream:
        while piece := stream.read(1 << 20):
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                line += piece[: error.start].count(b"\n")
                return f"is not {encoding or 'UTF-8'} (line {line:,}){_likely(path)}; {_ADVICE}"
            line += piece.count(b"\n")
    return None


def _likely(path: Path) -> str:
    from charset_normalizer import from_bytes

    with _opened(path, path.suffix.lower() == _PACKED) as stream:
        found = from_bytes(stream.read(_SNIFFED), cp_isolation=_LIKELY).best()
    return f"; it looks like {found.encoding}" if found else ""


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
