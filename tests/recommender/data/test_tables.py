"""The data contract, through the command line: clear error, exit status 2, nothing half written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from coldstart_udfs.files import staged
from recommender.cli import main
from recommender.data import tables as data
from recommender.data.contract import ContractError
from recommender.data.interactions import Interactions
from recommender.data.searches import read_searches
from recommender.data.tables import load, read_interactions

Ingest = Callable[[], tuple[int, str]]

ITEMS = "item_id,description,price,colour\ni1,red lamp,3.5,red\ni2,blue lamp,0.5,\n"
USERS = "user_id,description\nu1,I like lamps\nu2,\n"
INTERACTIONS = (
    "user_id,item_id,event_timestamp\nu1,i1,2024-01-05T10:00:00\nu1,i2,2024-02-05 10:00:00+02\nu2,i1,2024-03-01\n"
)
EVENTS = (
    "user_id,item_id,event_timestamp,event_type,weight,query\n"
    "u1,i1,2024-04-01,Purchase,2,\nu1,i1,2024-04-02,return,1,\nu1,i2,2024-04-02,,1,\n"
    "u1,,2024-04-03,search,1,  Red\tLAMP \nu2,i1,2024-04-03,search,1,17\n"
)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, text in (("items", ITEMS), ("users", USERS), ("interactions", INTERACTIONS)):
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def ingest(raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ingest:
    """Run `coldstart ingest`; its exit status and what it said on stderr."""

    def call() -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["coldstart", "ingest", str(raw), "--data", str(raw.parent / "out")])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), capsys.readouterr().err

    return call


def test_good_files_become_the_three_tables(raw: Path, ingest: Ingest) -> None:
    assert ingest() == (0, "")
    with duckdb.connect() as con:
        load(con, raw.parent / "out")
        assert con.sql("SELECT item_id, attributes FROM items ORDER BY 1").fetchall() == [
            ("i1", ["price=2^1", "colour=red"]), ("i2", ["price=2^-1"]),
        ]  # fmt: skip
        users = con.sql("SELECT user_id, description FROM users ORDER BY 1").fetchall()
        assert users == [("u1", "I like lamps"), ("u2", None)]
        interactions = read_interactions(con)
    assert interactions.timestamps.astype(str).tolist() == [
        "2024-01-05T10:00:00.000000", "2024-02-05T08:00:00.000000", "2024-03-01T00:00:00.000000",
    ]  # fmt: skip
    assert (interactions.users.tolist(), interactions.items.tolist()) == ([0, 0, 1], [0, 1, 0])


def test_consent_to_share_a_profile_is_kept_and_is_no_attribute(raw: Path, ingest: Ingest) -> None:
    (raw / "users.csv").write_text("user_id,description,Share,country\nu1,,yes,FR\nu2,,,DE\n")
    assert ingest() == (0, "")
    with duckdb.connect() as con:
        load(con, raw.parent / "out")
        found = con.sql("SELECT user_id, share, attributes FROM users ORDER BY 1").fetchall()
    assert found == [("u1", True, ["country=FR"]), ("u2", None, ["country=DE"])]


BAD = {
    "missing file": ("interactions", None, r"no table interactions; the folder contains \['items.csv', 'users.csv'\]"),
    "missing column": ("items", "id,description\ni1,x\n", r"items.csv: column 'item_id' is missing; the columns are \['description', 'id'\]"),
    "empty table": ("users", "user_id,description\n", r"users.csv: column 'user_id': the table has no rows"),
    "duplicate id": ("items", ITEMS + "i1,again,1,\n", r"items.csv: column 'item_id': 2 rows have an id that is not unique.*red lamp"),
    "null id": ("users", USERS + ",nobody\n", r"users.csv: column 'user_id': 1 row has no id.*nobody"),
    "blank id": ("users", USERS + "' ',nobody\n".replace("'", '"'), r"column 'user_id': 1 row has no id"),
    "unknown item": ("interactions", INTERACTIONS + "".join(f"u1,x{n},2024-01-01\n" for n in range(5)), r"column 'item_id': 5 rows have an id that is not in the table items.*x0.*x1.*x2"),
    "unknown user": ("interactions", INTERACTIONS + "u9,i1,2024-01-01\n", r"column 'user_id': 1 row has an id that is not in the table users"),
    "bad timestamp": ("interactions", INTERACTIONS + "u1,i1,yesterday\n", r"column 'event_timestamp': 1 row has a timestamp that cannot be parsed.*yesterday"),
    "no timestamp": ("interactions", INTERACTIONS + "u1,i1,\n", r"column 'event_timestamp': 1 row has no timestamp"),
    "search without words": ("interactions", EVENTS + "u2,,2024-04-03,Search,,  \nu2,i1,2024-04-04,search,,\n", r"column 'event_type': 2 rows have the type 'search' and no text in the column 'query'.*2024-04-03"),
    "search without a column of words": ("interactions", "user_id,item_id,event_timestamp,event_type\nu1,i1,2024-01-01,search\n", r"column 'event_type': 1 row has the type 'search' and no text"),
    "purchase of nothing": ("interactions", EVENTS + "u2,,2024-04-03,purchase,,red lamp\n", r"column 'item_id': 1 row has no id; only a search may have none"),
    "search and unknown item": ("interactions", EVENTS + "u2,i9,2024-04-03,search,,red lamp\n", r"column 'item_id': 1 row has an id that is not in the table items"),
    "negative weight": ("interactions", INTERACTIONS.replace("timestamp\n", "timestamp,weight\n").replace("00:00\n", "00:00,-1\n").replace("+02\n", "+02,1\n").replace("03-01\n", "03-01,1\n"), r"column 'weight': 1 row has a weight that is not a positive number"),
    "consent that is no answer": ("users", "user_id,description,share\nu1,,yes\nu2,,maybe\n", r"users.csv: column 'share': 1 row has a consent that is neither true nor false.*maybe"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_broken_contract_is_told_with_file_column_and_rows(
    name: str, raw: Path, ingest: Ingest
) -> None:
    table, text, message = BAD[name]
    path = raw / f"{table}.csv"
    path.unlink() if text is None else path.write_text(text)
    status, said = ingest()
    assert status == 2
    assert re.search(message, said), said
    assert not (raw.parent / "out").exists()


def test_all_breaches_are_told_at_once_one_line_each(raw: Path, ingest: Ingest) -> None:
    (raw / "items.csv").write_text(ITEMS + "i1,again,1,\n,no id,1,\n")
    (raw / "users.csv").write_text("id,description\nu1,x\n")
    (raw / "interactions.csv").write_text(INTERACTIONS + "u1,x1,2024-01-01\nu9,i1,yesterday\n")
    status, said = ingest()
    lines = said.splitlines()
    assert status == 2
    expected = [
        "items.csv: column 'item_id': 1 row has no id", "items.csv: column 'item_id': 2 rows have an id that is not unique",
        "users.csv: column 'user_id' is missing", "interactions.csv: column 'event_timestamp': 1 row",
        "interactions.csv: column 'item_id': 1 row has an id that is not in the table items",
    ]  # fmt: skip
    assert len(lines) == len(expected)
    assert all(wanted in line for line, wanted in zip(lines, expected, strict=True)), said


def test_events_of_all_types_are_read_and_searches_are_no_interactions(raw: Path, ingest: Ingest) -> None:
    (raw / "interactions.csv").write_text(EVENTS)
    assert ingest() == (0, "")
    with duckdb.connect() as con:
        load(con, raw.parent / "out")
        rows = con.sql("SELECT event_type, item_id, query FROM interactions ORDER BY event_timestamp, 1, 2").fetchall()
        interactions, searches = read_interactions(con), read_searches(con)
    assert rows == [
        ("purchase", "i1", None), ("interaction", "i2", None), ("return", "i1", None),
        ("search", "i1", "17"), ("search", None, "red lamp"),
    ]  # fmt: skip
    # The search that led to an item is an event of both; the return stands in the purchase that it took back.
    assert [interactions.event_types[code] for code in interactions.events] == ["purchase", "interaction", "search"]
    assert interactions.items.tolist() == [0, 1, 0]
    assert interactions.weights.tolist() == [2, 1, 1]
    assert interactions.returned.astype(str).tolist() == ["2024-04-02T00:00:00.000000", "NaT", "NaT"]
    assert (searches.users.tolist(), searches.texts) == ([1, 0], ["17", "red lamp"])


def test_a_second_ingest_of_what_the_first_wrote_changes_nothing(raw: Path, ingest: Ingest, tmp_path: Path) -> None:
    (raw / "interactions.csv").write_text(EVENTS)
    ingest()
    counts = data.ingest(tmp_path / "out", tmp_path / "again")
    assert counts.rows == {"items": 2, "users": 2, "interactions": 5}
    assert counts.event_types == "search 2 (0.2), interaction 1 (1), purchase 1 (1), return 1 (takes back)"
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_binary_rubbish_is_named(suffix: str, raw: Path, ingest: Ingest) -> None:
    (raw / "items.csv").unlink()
    (raw / f"items.{suffix}").write_bytes(bytes(range(256)) * 40)
    status, said = ingest()
    assert status == 2
    assert f"items.{suffix}" in said
    assert not (raw.parent / "out").exists()


def test_a_folder_that_is_missing_is_named(raw: Path, ingest: Ingest) -> None:
    raw.rename(raw.with_name("elsewhere"))
    status, said = ingest()
    assert (status, "is not a folder; pass the folder of the raw files" in said) == (2, True)


def test_where_nothing_was_ingested_the_command_to_run_is_named(tmp_path: Path) -> None:
    with duckdb.connect() as con, pytest.raises(ContractError, match="is not a folder; run `coldstart ingest RAW --data "):
        load(con, tmp_path / "data")


def test_a_script_that_fails_is_named(raw: Path, ingest: Ingest) -> None:
    (raw / "ingest.sql").write_text("SELECT nonsense FROM items")
    status, said = ingest()
    assert status == 2
    assert "ingest.sql failed" in said
    assert "nonsense" in said


def test_descriptions_of_every_kind_are_kept_as_they_are(raw: Path, ingest: Ingest) -> None:
    texts = ["x" * 1_000_000, "🫖🪔", "你好，世界", "a\u200bb\u202e", "'; DROP TABLE items; --", "<b>\n\n</b>"]
    with duckdb.connect() as con:
        (raw / "items.csv").unlink()
        rows = "SELECT 'i' || row_number() OVER () AS item_id, d AS description FROM (SELECT unnest($1) AS d)"
        con.execute(f"CREATE TABLE t AS {rows}", [texts])
        con.execute(f"COPY t TO '{raw / 'items.parquet'}'")
    assert ingest() == (0, "")
    with duckdb.connect() as con:
        items = f"'{raw.parent / 'out' / 'items.parquet'}'"
        stored = con.sql(f"SELECT description FROM {items} ORDER BY item_id").fetchall()
    assert [row[0] for row in stored] == texts


def test_a_csv_line_of_a_megabyte_is_read(raw: Path, ingest: Ingest) -> None:
    (raw / "items.csv").write_text(f"item_id,description\ni1,{'word ' * 700_000}\ni2,x\n")
    assert ingest() == (0, "")


def test_a_failed_run_leaves_the_last_good_output(raw: Path, ingest: Ingest) -> None:
    ingest()
    before = {path.name: path.read_bytes() for path in (raw.parent / "out").iterdir()}
    (raw / "users.csv").write_text("user_id,description\n")
    assert ingest()[0] == 2
    assert {path.name: path.read_bytes() for path in (raw.parent / "out").iterdir()} == before


def test_an_interrupted_write_leaves_the_last_good_output(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("good")

    def interrupted() -> None:
        with staged(tmp_path) as scratch:
            (scratch / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "good"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weights": np.array([1, 0], np.float32)}, "positive"),
        ({"weights": np.array([1], np.float32)}, "must have one length"),
        ({"items": np.array([0, 7])}, "rows 0 to 7, but there are 1 items"),
        ({"item_ids": ["i", "i"]}, "repeated"),
        ({"events": np.array([0, 1])}, "events has rows 0 to 1, but there are 1 events"),
        ({"returned": np.array(["NaT"], "datetime64[us]")}, "must have one length"),
    ],
)
def test_interactions_check_themselves(change: dict[str, object], problem: str) -> None:
    good = {
        "user_ids": ["u"], "item_ids": ["i"], "users": np.array([0, 0]), "items": np.array([0, 0]),
        "timestamps": np.array(["2024-01-01", "2024-01-02"], "datetime64[us]"), "weights": np.ones(2, np.float32),
    }  # fmt: skip
    assert Interactions(**good).pairs().weights.tolist() == [2]  # type: ignore[arg-type]
    with pytest.raises(ContractError, match=problem):
        Interactions(**{**good, **change})  # type: ignore[arg-type]


def test_every_error_fits_one_line_and_names_three_rows_at_most(raw: Path, ingest: Ingest) -> None:
    (raw / "interactions.csv").write_text(INTERACTIONS + "".join(f"u1,x{n},2024-01-01\n" for n in range(50)))
    _, said = ingest()
    assert said.count("\n") == 1
    assert said.count('"item_id"') == 3
    json.loads(said.split("The first: row 4 ")[1].split("; ")[0])


def test_each_element_of_a_list_is_an_attribute(tmp_path: Path) -> None:
    with duckdb.connect() as con:
        con.execute(f"""
            COPY (FROM (VALUES ('i1', 'a lamp', ['oak', ' outdoor ', NULL, ''], [1, 2]), ('i2', 'a bed', NULL, NULL))
                  AS items(item_id, description, tags, numbers)) TO '{tmp_path}/items.parquet';
            COPY (SELECT 'u1' AS user_id, 'words' AS description) TO '{tmp_path}/users.parquet';
            COPY (SELECT 'u1' AS user_id, 'i1' AS item_id, TIMESTAMP '2024-01-01' AS event_timestamp)
                TO '{tmp_path}/interactions.parquet'
        """)
        load(con, tmp_path)
        found = con.execute("SELECT attributes FROM items ORDER BY item_id").fetchall()
    assert found == [(["tags=oak", "tags=outdoor", "numbers=1", "numbers=2"],), ([],)]
