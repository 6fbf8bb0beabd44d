"""`ingest.sql`: what a script finds, and what it may leave."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from recommender.cli.app import app
from recommender.data.contract import ContractError
from recommender.data.tables import ingest, load

SCRIPT = """
CREATE TABLE items AS SELECT sku AS item_id, name AS description, zip FROM products;
CREATE TABLE users AS SELECT DISTINCT customer AS user_id, NULL::VARCHAR AS description FROM orders;
CREATE TABLE interactions AS SELECT customer AS user_id, sku AS item_id, day AS event_timestamp FROM orders;
"""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "products.csv").write_text("sku,name,zip\n0108775015,lamp,00123\n108775015,mug,10115\n")
    (folder / "orders.csv").write_text(
        "customer,sku,day\n900719925474099301,0108775015,2024-01-05\n900719925474099302,108775015,2024-01-06\n"
    )
    (folder / "ingest.sql").write_text(SCRIPT)
    return folder


def tables(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    with duckdb.connect() as con:
        load(con, folder)
        names = [name for (name,) in con.execute("SELECT table_name FROM information_schema.tables").fetchall()]
        return {name: con.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in names}


def test_a_script_gets_every_character_of_ids_and_codes(raw: Path) -> None:
    found = tables(raw)
    assert [row[0] for row in found["users"]] == ["900719925474099301", "900719925474099302"]
    labels = [(row[0], row[-1]) for row in found["items"]]
    assert labels == [("0108775015", ["zip=00123"]), ("108775015", ["zip=10115"])]


@pytest.mark.parametrize("kind", ["VIEW", "TEMP TABLE", "TEMP VIEW", "OR REPLACE TABLE"])
def test_the_tables_may_be_views_or_temporary(kind: str, raw: Path) -> None:
    expected = tables(raw)
    (raw / "ingest.sql").write_text(SCRIPT.replace("CREATE TABLE", f"CREATE {kind}"))
    assert tables(raw) == expected


@pytest.mark.parametrize("name", ["normalised", "taken", "first", "changes", "user_profiles", "Quoted name"])
def test_a_file_may_have_any_name_and_only_the_tables_of_the_contract_are_left(name: str, raw: Path) -> None:
    (raw / f"{name}.csv").write_text("a\n1\n")
    assert set(tables(raw)) == {"items", "users", "interactions"}


def test_a_script_may_read_what_no_reader_can(raw: Path) -> None:
    (raw / "products.csv").write_bytes("sku;name;zip\n0108775015;Küche;1\n108775015;Größe;2\n".encode("latin-1"))
    with pytest.raises(ContractError) as refused:
        load(duckdb.connect(), raw)
    assert "ingest.sql failed: Catalog Error" in str(refused.value)
    assert "products.csv is not UTF-8 (line 2)" in str(refused.value)
    # A path in the script may be relative to its folder.
    read = "read_csv('products.csv', delim = ';', encoding = 'latin-1', all_varchar = true)"
    (raw / "ingest.sql").write_text(SCRIPT.replace("FROM products", f"FROM {read}"))
    assert [row[1] for row in tables(raw)["items"]] == ["Küche", "Größe"]


def test_a_database_that_a_script_attaches_stays_as_it_is(raw: Path, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as con:
        con.execute("CREATE TABLE kept AS SELECT 1 AS a; CREATE TABLE items AS SELECT 'their own' AS item_id")
    (raw / "ingest.sql").write_text(f"ATTACH '{tmp_path}/shop.duckdb' AS shop; USE shop; USE memory;" + SCRIPT)
    assert [row[0] for row in tables(raw)["items"]] == ["0108775015", "108775015"]
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as con:
        assert con.execute("SHOW TABLES").fetchall() == [("items",), ("kept",)]


def test_a_view_over_a_file_beside_the_script_and_a_table_with_an_index_are_read(raw: Path) -> None:
    expected = tables(raw)
    view = "CREATE VIEW interactions AS SELECT customer AS user_id, sku AS item_id, day AS event_timestamp FROM "
    script = SCRIPT[: SCRIPT.index("CREATE TABLE interactions")] + "CREATE INDEX i ON items (zip);"
    read = "read_csv('orders.csv', all_varchar = true); SET TimeZone = 'Asia/Tokyo'"
    (raw / "ingest.sql").write_text(script + view + read)
    assert tables(raw) == expected


def test_without_a_script_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,description\ni,lamp\n")
    (tmp_path / "users.csv").write_text("user_id,description\nu,\n")
    (tmp_path / "interactions.csv").write_text("user_id,item_id,event_timestamp\nu,i,2024-01-01\n")
    (tmp_path / "notes.csv").write_bytes(b"\xff\xfe\x00broken")
    assert set(tables(tmp_path)) == {"items", "users", "interactions"}


def test_binary_text_that_is_not_utf_8_is_refused(raw: Path) -> None:
    (raw / "ingest.sql").write_text(SCRIPT.replace("name AS description", "'\\xFF\\xFE'::BLOB AS description"))
    with pytest.raises(ContractError, match=r"column 'description' is binary and not UTF-8; decode it in ingest.sql"):
        load(duckdb.connect(), raw)


@pytest.mark.parametrize("weight", ["1e39", "1e-46", "nan", "inf", "0", "-1", "many"])
def test_a_weight_that_is_no_positive_number_of_its_type_is_refused(weight: str, raw: Path) -> None:
    weighed = SCRIPT.replace("day AS event_timestamp", f"day AS event_timestamp, '{weight}' AS weight")
    (raw / "ingest.sql").write_text(weighed)
    with pytest.raises(ContractError, match="column 'weight': 2 rows have a weight that is not a positive number"):
        load(duckdb.connect(), raw)


def test_the_report_says_what_each_column_is_taken_for(raw: Path, tmp_path: Path) -> None:
    script = SCRIPT.replace("zip FROM", "zip, DATE '2024-01-01' AS released, '1.50' AS price FROM")
    script = script.replace("day AS event_timestamp", "day AS event_timestamp, 'view' AS event_type, 1 AS page")
    (raw / "ingest.sql").write_text(script)
    report = tmp_path / "report.json"
    command = ["ingest", str(raw), "--data", str(tmp_path / "data"), "--dry-run", "--json", str(report)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "items: 2 rows", "  item_id: id", "  description: text, 2 given", "  zip: code, 2 labels",
        "  released: date, not used", "  price: number, 1 band",
        "users: 2 rows", "  user_id: id", "  description: text, 0 given",
        "interactions: 2 rows", "  user_id: id", "  item_id: id", "  event_timestamp: time, ISO 8601",
        "  event_type: event type", "  page: not used",
        "event types: view 2 (0.1)", "events: 2024-01-05 00:00:00 to 2024-01-06 00:00:00 UTC",
        "2 items, 2 users, 2 interactions → nothing written (--dry-run)",
    ]  # fmt: skip
    assert not (tmp_path / "data").exists()
    found = json.loads(report.read_text())
    assert found["rows"] == {"items": 2, "users": 2, "interactions": 2}
    assert {"table": "items", "name": "released", "meaning": "date, not used", "note": ""} in found["columns"]


def test_what_a_dry_run_accepts_is_written_without_it(raw: Path, tmp_path: Path) -> None:
    assert ingest(raw, tmp_path / "data", dry_run=True) == ingest(raw, tmp_path / "data")
    written = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert written == ["interactions.parquet", "items.parquet", "users.parquet"]
