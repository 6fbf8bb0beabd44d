"""Attributes of every type: labels of a documented kind, or named as not used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from recommender.data.contract import ContractError
from recommender.data.tables import ingest, load, load_files
from recommender.data.understood import Understood


def folder_of(path: Path, items: str | None = None, rows: Sequence[str] = ()) -> Path:
    """A folder with one user and interactions with every item: items from SQL, or prices in a CSV file."""
    path.mkdir(exist_ok=True)
    (path / "users.csv").write_text("user_id,description\nu,\n")
    with duckdb.connect() as con:
        if items:
            con.execute(f"COPY ({items}) TO '{path}/items.parquet'")
        else:
            lines = "".join(f'i{number},lamp,"{value}"\n' for number, value in enumerate(rows))
            (path / "items.csv").write_text(f"item_id,description,price\n{lines}")
    (path / "interactions.csv").write_text("user_id,item_id,event_timestamp\nu,i0,2024-01-01\n")
    return path


def labels(path: Path) -> list[list[str]]:
    with duckdb.connect() as con:
        load(con, path)
        return [row[0] for row in con.execute("SELECT attributes FROM items ORDER BY length(item_id), item_id").fetchall()]


def meaning(understood: Understood, name: str) -> tuple[str, str]:
    return next((one.meaning, one.note) for one in understood.columns if one.table == "items" and one.name == name)


@pytest.mark.parametrize(
    ("value", "name", "found", "told"),
    [
        ("'oak'", "x", ["x=oak"], "text, 1 label"),
        ("true", "x", ["x=true"], "yes or no, 1 label"),
        ("3.5", "x", ["x=2^1"], "number, 1 band"),
        ("-1", "x", ["x<=0"], "number, 1 band"),
        ("'inf'::DOUBLE", "x", [], "number, 0 bands"),
        ("'-inf'::FLOAT", "x", [], "number, 0 bands"),
        ("'nan'::DOUBLE", "x", [], "number, 0 bands"),
        ("['oak', ' elm ', '', NULL]", "x", ["x=oak", "x=elm"], "list, 2 labels"),
        ("[10, 20]", "x", ["x=10", "x=20"], "list, 2 labels"),
        ("[0.1, 0.2]", "x", [], "a list of decimal(2,1), not used"),
        ("DATE '2024-05-01'", "x", [], "date, not used"),
        ("TIME '10:00'", "x", [], "time, not used"),
        ("'6f9619ff-8b86-d011-b42d-00c04fc964ff'::UUID", "x", ["x=6f9619ff-8b86-d011-b42d-00c04fc964ff"], "text, 1 label"),
        ("""'["oak"]'::JSON""", "x", ["x=oak"], "list, 1 label"),
        ("""'"oak"'::JSON""", "x", ["x=oak"], "text, 1 label"),
        ("""'{"a": 1}'::JSON""", "x", [], "json, not used"),
        ("{'w': 3, 'colour': 'red'}", "x.w", ["x.w=2^1", "x.colour=red"], "number, 1 band"),
        ("{'made': DATE '2024-05-01', 'in': 'UK'}", "x.made", ["x.in=UK"], "date, not used"),
        ("MAP {'colour': 'red'}", "x", ["x.colour=red"], "map, 1 label"),
        ("[{'name': 'x'}]", "x", [], 'a list of struct("name" varchar), not used'),
        ("[['a']]", "x", [], "a list of varchar[], not used"),
        ("'[oak, elm]'", "x", ["x=oak", "x=elm"], "list, 2 labels"),
        ("""'["oak", "elm"]'""", "x", ["x=oak", "x=elm"], "list, 2 labels"),
        ("'[oak'", "x", ["x=[oak"], "text, 1 label"),
    ],
)
def test_each_type_gives_its_labels_and_is_told(value: str, name: str, found: list[str], told: str, tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", f"SELECT 'i0' AS item_id, 'lamp' AS description, {value} AS x")
    assert labels(raw) == [found]
    understood = ingest(raw, tmp_path / "data")
    assert meaning(understood, name)[0] == told
    # What was written is understood in the same way.
    assert labels(tmp_path / "data") == [found]


@pytest.mark.parametrize("odd", ["—", "N/A", "on request", "NaN", "inf"])
def test_one_value_that_is_no_number_costs_its_own_band_only(odd: str, tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", rows=[f"{number}.99" for number in range(1, 30)] + [odd])
    assert labels(raw) == [[f"price=2^{number.bit_length() - 1}"] for number in range(1, 30)] + [[]]
    told = meaning(ingest(raw, tmp_path / "data"), "price")
    assert told == ("number, 5 bands", f"1 value not a number, such as {odd!r}")


@pytest.mark.parametrize(
    ("rows", "bands"),
    [
        (["€12,50", "€ 1.250,00", "3,99"], ["2^3", "2^10", "2^1"]),
        (["$12.50", "$1,250.00", "3.99 USD"], ["2^3", "2^10", "2^1"]),
        (["12,50 €", "1\u202f250,00 €", "3,99 €"], ["2^3", "2^10", "2^1"]),
        (["￥12.50", "1,250.00元", "3.99 円"], ["2^3", "2^10", "2^1"]),
        (["CHF 1'250.50", "CHF 12.50"], ["2^10", "2^3"]),
        (["12", "1250", "3"], ["2^3", "2^10", "2^1"]),
        (["1e3", "12.5"], ["2^9", "2^3"]),
        (["0,500", "1,250", "2,000"], ["2^-1", "2^0", "2^1"]),
        (["9.50"] * 30 + ["07.99"], ["2^3"] * 30 + ["2^2"]),
    ],
)
def test_prices_are_numbers_as_shops_write_them(rows: list[str], bands: list[str], tmp_path: Path) -> None:
    assert labels(folder_of(tmp_path / "raw", rows=rows)) == [[f"price={band}"] for band in bands]


@pytest.mark.parametrize(
    "rows",
    [
        ["00123", "10115", "00124"], ["small", "large", "12"], ["USB 2.0", "USB 3.0", "USB 3.1"], ["XXL"] * 9 + ["38.5"],
        ["USD", "EUR", "12.50"],
    ],
)  # fmt: skip
def test_leading_zeros_and_words_make_labels(rows: list[str], tmp_path: Path) -> None:
    assert labels(folder_of(tmp_path / "raw", rows=rows)) == [[f"price={value}"] for value in rows]


def test_whole_numbers_are_codes_unless_the_column_is_named_like_a_quantity(tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", rows=["5"])
    (raw / "items.csv").write_text("item_id,description,department,list_price\ni0,lamp,10,10\ni1,lamp,20,20\n")
    assert labels(raw) == [["department=10", "list_price=2^3"], ["department=20", "list_price=2^4"]]


def test_one_value_does_not_make_numbers_of_codes(tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", rows=["5"])
    values = [*map(str, range(10, 30)), "1E5"]
    rows = "".join(f"i{number},lamp,{value},{value}.0\n" for number, value in enumerate(values[:-1]))
    (raw / "items.csv").write_text(f"item_id,description,department,floor\n{rows}i99,lamp,1E5,\n")
    assert labels(raw)[0] == ["department=10", "floor=10.0"]


def test_a_mark_that_may_mean_thousands_is_told(tmp_path: Path) -> None:
    understood = ingest(folder_of(tmp_path / "raw", rows=["1.250", "2.500", "12.000"]), tmp_path / "data")
    assert "1.250 is 1.25" in meaning(understood, "price")[1]


@pytest.mark.parametrize(
    ("value", "found"),
    [("['A lamp', 'Nice']", "A lamp Nice"), ("[]::VARCHAR[]", None), ("""'"a lamp"'::JSON""", "a lamp")],
)
def test_a_description_of_several_texts_is_joined(value: str, found: str | None, tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", f"SELECT 'i0' AS item_id, {value} AS description")
    with duckdb.connect() as con:
        load(con, raw)
        assert con.execute("SELECT description FROM items").fetchall() == [(found,)]


@pytest.mark.parametrize("column", ["item_id", "description"])
def test_a_struct_is_no_text(column: str, tmp_path: Path) -> None:
    other = {"item_id": "description", "description": "item_id"}[column]
    raw = folder_of(tmp_path / "raw", f"SELECT {{'en': 'a'}} AS {column}, 'x' AS {other}")
    with pytest.raises(ContractError, match=f"column '{column}' has the type STRUCT.*, not text; choose a part of it"):
        labels(raw)


def test_escapes_of_json_in_a_csv_file_are_read(tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", rows=["5"])
    (raw / "items.csv").write_text('item_id,description,tags\ni0,lamp,"[""caf\\u00e9""]"\n')
    assert labels(raw) == [["tags=café"]]


@pytest.mark.parametrize("name", ["id", "seen", "rowid", "similarity", "attributes", "Attributes", "labels", "given", "first", "select", "t"])
def test_a_column_may_have_any_name(name: str, tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", f"""SELECT 'i0' AS item_id, 'lamp' AS description, 'oak' AS "{name}" """)
    (raw / "users.csv").write_text(f"{name},user_id,description\nyes,u,\n")
    assert labels(raw) == [[f"{name}=oak"]]
    understood = ingest(raw, tmp_path / "data")
    assert meaning(understood, name)[0] == "text, 1 label"
    assert labels(tmp_path / "data") == [[f"{name}=oak"]]
    with duckdb.connect() as con:
        assert con.execute(f"""SELECT "{name}" FROM '{tmp_path}/data/items.parquet'""").fetchall() == [("oak",)]


def test_columns_of_the_contract_may_be_in_capital_letters(tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", "SELECT 'i0' AS ITEM_ID, 'lamp' AS Description, 'oak' AS Wood")
    assert labels(raw) == [["Wood=oak"]]


def test_ids_that_a_tool_made_floats_are_whole_numbers_again(tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", "SELECT 108775015 AS item_id, 'lamp' AS description")
    with duckdb.connect() as con:
        con.execute(f"COPY (SELECT 'u' AS user_id, 108775015.0::DOUBLE AS item_id, DATE '2024-01-01' AS event_timestamp) "
                    f"TO '{raw}/interactions.parquet'")  # fmt: skip
        files = {name: next(raw.glob(f"{name}.parquet"), None) for name in ("items", "users", "interactions")}
        load_files(con, files)
        assert con.execute("SELECT item_id FROM interactions").fetchall() == [("108775015",)]


def test_ids_that_are_no_whole_numbers_are_refused(tmp_path: Path) -> None:
    for odd, problem in (
        ("'nan'::DOUBLE", "1 row has no id"), ("1.5::DOUBLE", "DOUBLE, and 1 of its ids are not exact"),
        ("9007199254740992::DOUBLE", "not exact"), ("16777216::FLOAT", "FLOAT, and 1 of its ids are not exact"),
    ):  # fmt: skip
        raw = folder_of(tmp_path / "raw", f"SELECT {odd} AS item_id, 'lamp' AS description")
        with pytest.raises(ContractError, match=problem):
            labels(raw)


def test_values_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    values = "(VALUES ('i0', 'a', 1.5::DOUBLE), ('i1', 'b', 'nan'), ('i2', 'c', '-inf')) AS t(item_id, description, size)"
    raw = folder_of(tmp_path / "raw", f"FROM {values}")
    assert meaning(ingest(raw, tmp_path / "data"), "size") == ("number, 1 band", "2 values NaN or infinite")
