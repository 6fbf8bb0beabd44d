"""Files of shops as tables: read right, or refused with file, line and cause."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import pytest

from coldstart_udfs.tabular import FileError, read_file, sheets_of

PLAIN = "id,name\n007,Küche\n2,Lampe\n"
ROWS = [("007", "Küche"), ("2", "Lampe")]
# Longer than the sample of any reader that guesses.
MANY = "id,name\n" + "".join(f"{number},lamp {number}\n" for number in range(30_000))


def read(path: Path, content: str | bytes, encoding: str | None = None, table: str = "t") -> list[tuple[Any, ...]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with duckdb.connect() as con:
        read_file(con, path, table, encoding=encoding)
        return con.execute(f"FROM {table}").fetchall()


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("a.csv", PLAIN, None),
        ("a.CSV", PLAIN.replace("\n", "\r\n"), None),
        ("a.csv", "\ufeff" + PLAIN, None),
        ("a.csv", PLAIN.replace(",", ";"), None),
        ("a.csv", PLAIN.replace(",", "|"), None),
        ("a.tsv", PLAIN.replace(",", "\t"), None),
        ("a.csv", "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"), None),
        ("a.csv", PLAIN.replace("Küche\n", "Küche\r\n"), None),
        ("a.csv.gz", gzip.compress(PLAIN.encode(), mtime=0), None),
        ("a.csv", PLAIN.encode("utf-16"), None),
        ("a.csv", PLAIN.encode("utf-16-le"), "utf-16-le"),
        ("a.csv", PLAIN.encode("latin-1"), "latin-1"),
        ("a.csv.gz", gzip.compress(PLAIN.encode("cp1252"), mtime=0), "cp1252"),
        ("a.jsonl", '{"id": "007", "name": "Küche"}\n{"id": "2", "name": "Lampe"}\n', None),
        ("a.ndjson", '{"id": "007", "name": "Küche"}\n{"id": 2, "name": "Lampe"}\n', None),
        ("a.json", '[{"id": "007", "name": "Küche"}, {"id": "2", "name": "Lampe"}]', None),
        ("a.jsonl.gz", gzip.compress('{"id": "007", "name": "Küche"}\n{"id": "2", "name": "Lampe"}\n'.encode(), mtime=0), None),
        ("a.jsonl", '{"id": "007", "name": "Küche"}\n{"id": "2", "name": "Lampe"}\n'.encode("latin-1"), "latin-1"),
    ],
)
def test_a_file_is_read_whatever_its_format(
    name: str, content: str | bytes, encoding: str | None, tmp_path: Path
) -> None:
    assert read(tmp_path / name, content, encoding) == ROWS


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("赤いランプと青いカップ", "shift_jis"), ("红色的台灯和蓝色的杯子", "gbk"), ("Красная лампа и кружка", "cp1251"), ("Größe", "latin-1")],
)
def test_another_encoding_is_named_with_its_line_and_read_when_it_is_given(
    text: str, encoding: str, tmp_path: Path
) -> None:
    content = f"id,name\n1,lamp\n2,{text}\n".encode(encoding)
    with pytest.raises(FileError, match=r"a.csv is not UTF-8 \(line 3\).*--encoding"):
        read(tmp_path / "a.csv", content)
    assert read(tmp_path / "a.csv", content, encoding)[1] == ("2", text)


@pytest.mark.parametrize(
    ("value", "found"),
    [('5" pipe', '5" pipe'), ('"a ""red"" lamp, 5 W"', 'a "red" lamp, 5 W'), ('"two\nlines"', "two\nlines"), ("#1", "#1"),
     ("NULL", "NULL"), (" spaced ", " spaced ")],
)  # fmt: skip
def test_a_value_that_comes_late_is_read_as_an_early_one(value: str, found: str, tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", f"{MANY}last,{value}\n")[-1] == ("last", found)
    assert read(tmp_path / "a.csv", f"id,name\nlast,{value}\n") == [("last", found)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,name\n1,lamp\n2,lamp, more\n", r"a.csv cannot be read as csv: line 3: .*2 Found: 3.*2,lamp, more"),
        (f"{MANY}1,lamp, more\n", r"line 30002: .*2 Found: 3"),
        (f"{MANY}Total rows: 1\n1,lamp\n", r"line 30002: .*2 Found: 1.*Total rows: 1"),
        ('id,name\n1,"5 inch\n' + "2,lamp\n" * 500, r"line 2: Value with unterminated quote"),
        ("id,name,ID\n1,lamp,2\n", r"the header names \['ID', 'id'\] more than once"),
        ("", r"has no header: its first line must name the columns"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=message) as refused:
        read(tmp_path / "a.csv", content)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xls", b"", "unknown ending; possible are .parquet, .csv"),
        ("a.csv.gz", PLAIN.encode(), "Not a gzipped file"),
        ("a.csv.gz", gzip.compress(MANY.encode(), mtime=0)[:-30], "ended before the end-of-stream"),
        ("a.parquet", b"PAR1", "cannot be read as parquet"),
        ("a.xlsx", b"no", "cannot be read as xlsx"),
        ("a.jsonl", b'{"id": 1}\n{"id":\n', "cannot be read as JSON lines: line 2: Expecting value"),
    ],
)
def test_a_file_of_another_format_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=message):
        read(tmp_path / name, content)


def test_an_encoding_that_python_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="'utf-88' is not known; possible are utf-8, utf-16"):
        read(tmp_path / "a.csv", PLAIN, "utf-88")


def test_long_numbers_of_json_keep_every_digit(tmp_path: Path) -> None:
    content = '{"id": 123456789012345678901, "n": 1.5}\n{"id": 123456789012345678902, "n": 2}\n'
    assert read(tmp_path / "a.jsonl", content) == [("123456789012345678901", 1.5), ("123456789012345678902", 2.0)]


def test_binary_columns_of_parquet_are_text_if_they_are_utf_8(tmp_path: Path) -> None:
    with duckdb.connect() as con:
        con.execute(f"COPY (SELECT encode('Küche') AS a, '\\xFF'::BLOB AS b) TO '{tmp_path}/a.parquet'")
        read_file(con, tmp_path / "a.parquet", "t")
        assert con.execute("FROM t").fetchall() == [("Küche", b"\xff")]


def workbook(path: Path, sheets: dict[str, list[list[str]]]) -> None:
    """Write the parts of an Excel file that a reader needs; a cell is XML, such as <v>1</v>."""
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    listed = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
    targets = "".join(
        f'<Relationship Id="r{n}" Type="{relations}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("_rels/.rels", f'<Relationships xmlns="{package}"><Relationship Id="r" '
                      f'Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>')  # fmt: skip
        book.writestr("xl/workbook.xml", f'<workbook {main} xmlns:r="{relations}"><sheets>{listed}</sheets></workbook>')
        book.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}">{targets}</Relationships>')
        for n, rows in enumerate(sheets.values(), 1):
            cells = "".join(f"<row>{''.join(row)}</row>" for row in rows)
            book.writestr(f"xl/worksheets/sheet{n}.xml", f"<worksheet {main}><sheetData>{cells}</sheetData></worksheet>")


def text(value: str) -> str:
    return f'<c t="inlineStr"><is><t>{value}</t></is></c>'


def test_a_sheet_of_excel_is_read_as_text_and_whole_numbers_have_no_fraction(tmp_path: Path) -> None:
    rows = [[text("id"), text("name")], [text("007"), text("Küche")], ["<c><v>108775015</v></c>", "<c><v>1.5</v></c>"]]
    workbook(tmp_path / "a.xlsx", {"Sheet1": rows})
    with duckdb.connect() as con:
        read_file(con, tmp_path / "a.xlsx", "t")
        assert con.execute("FROM t").fetchall() == [("007", "Küche"), ("108775015", "1.5")]


def test_of_several_sheets_the_one_with_the_name_of_the_table_is_read(tmp_path: Path) -> None:
    workbook(tmp_path / "a.xlsx", {"items": [[text("id")], [text("x")]], "users": [[text("id")], [text("y")]]})
    assert sheets_of(tmp_path / "a.xlsx") == ["items", "users"]
    with duckdb.connect() as con:
        read_file(con, tmp_path / "a.xlsx", "users")
        assert con.execute("FROM users").fetchall() == [("y",)]
        with pytest.raises(FileError, match=r"has the sheets \['items', 'users'\], and none is called 'orders'"):
            read_file(con, tmp_path / "a.xlsx", "orders")


@pytest.mark.parametrize("folder", ["plain", "data[12]", "shop*", "what?", "description=foo", "raw=2", "a,b", "it's"])
def test_a_path_is_one_file_and_adds_no_columns(folder: str, tmp_path: Path) -> None:
    for other in ("data1", "shop1", "whatx"):
        (tmp_path / other).mkdir()
        (tmp_path / other / "a.csv").write_text("id,name\nother,WRONG\n")
    (tmp_path / folder).mkdir()
    assert read(tmp_path / folder / "a.csv", PLAIN) == ROWS
    assert read(tmp_path / folder / "a[1].jsonl", '{"id": "1"}\n') == [("1",)]
    with duckdb.connect() as con:
        con.execute("COPY (SELECT 1 AS id) TO '{}'".format(str(tmp_path / folder / "b.parquet").replace("'", "''")))
        read_file(con, tmp_path / folder / "b.parquet", "t")
        assert con.execute("FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": 1, "Price": 1}\n{"id": 2, "price": 2}\n', r"differ in letter case alone: \['Price', 'price'\]"),
        ('{"id": 1}\n5\n', "must hold objects, .* and has 1 other values"),
        ("", "must hold objects"),
        ('{"id": 1}\n{"id": 2}\n{"id"\n', "line 3: Expecting"),
    ],
)
def test_json_that_is_no_table_is_refused(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=message):
        read(tmp_path / "a.jsonl", content)


def test_texts_and_long_numbers_within_json_objects_stay_as_they_are(tmp_path: Path) -> None:
    inner = {"id": 123456789012345678901, "when": "05-01-2024", "at": "2024-01-05T10:00:00+02:00",
             "uuid": "550E8400-E29B-41D4-A716-446655440000", "days": ["2024-01-05"]}  # fmt: skip
    assert read(tmp_path / "a.jsonl", json.dumps({"x": inner}) + "\n") == [({**inner, "id": str(inner["id"])},)]


def test_many_and_rare_keys_are_columns(tmp_path: Path) -> None:
    rows = [{"id": str(row), **{f"k{row}_{key}": "x" for key in range(30)}} for row in range(20)]
    found = read(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert [sum(value is not None for value in row) for row in found] == [31] * 20


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (PLAIN.encode("utf-16-le"), None, "contains NUL bytes; it may be UTF-16"),
        (gzip.compress(b"id\n1\n", mtime=0), None, "compressed with gzip; name it with .gz at the end"),
        (PLAIN.encode(), "rot13", "'rot13' is not known"),
        ("id,name\n1,a,b\n".encode("utf-16"), None, "line 2: .*2 Found: 3"),
        (b"id,name\n" + b"1,lamp\n" * 20_000 + "2,Niño pequeño\n".encode("cp1252"), None,
         "line 20,002.*'2,Niño pequeño' as cp1252"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_encoding_is_named(
    content: bytes, encoding: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(FileError, match=message):
        read(tmp_path / "a.csv", content, encoding)


def test_a_byte_order_mark_wins_over_a_given_encoding(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", b"\xef\xbb\xbf" + PLAIN.encode(), "cp1252") == ROWS


def test_mixed_line_ends_with_quoted_fields_are_read(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", 'id,name\n1,a\n2,"b"\r\n3,c\n') == [("1", "a"), ("2", "b"), ("3", "c")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["id", "Id"], ["1", "2"]], r"names \['Id', 'id'\] more than once"),
        ([["id"], ["<c><v>123456789012345678</v></c>"]], "row 2 has the number 123456789012345680"),
    ],
)
def test_a_sheet_that_would_lose_data_is_refused(rows: list[list[str]], message: str, tmp_path: Path) -> None:
    cells = [[cell if cell.startswith("<") else text(cell) for cell in row] for row in rows]
    workbook(tmp_path / "a.xlsx", {"Sheet1": cells})
    with duckdb.connect() as con, pytest.raises(FileError, match=message):
        read_file(con, tmp_path / "a.xlsx", "t")


def test_an_empty_sheet_does_not_count(tmp_path: Path) -> None:
    workbook(tmp_path / "a.xlsx", {"Sheet1": [[text("id ")], [text("1")]], "Sheet2": []})
    with duckdb.connect() as con:
        read_file(con, tmp_path / "a.xlsx", "anything")
        assert con.execute("SELECT id FROM anything").fetchall() == [("1",)]
