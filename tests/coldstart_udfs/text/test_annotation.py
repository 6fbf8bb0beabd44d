"""Columns that say what texts state, beside those that people fill in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.tabular.encoding import FileError
from coldstart_udfs.text.annotation import annotate
from recommender.cli.app import app

ITEMS = """item_id,description,Color,price
1,"Red enamel lamp, vintage",,
2,"Pink baby bib £12.50",rose,
3,Mug,,4.50
4,,,
5,"Glass vase, blue, 3.99 EUR"," ",
5,"Glass vase, blue, 3.99 EUR",,2
"""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(cache=False)


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text(ITEMS, encoding="utf-8")
    return path


def rows(path: Path, columns: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as con:
        return con.execute(f"SELECT {columns} FROM '{path}'").fetchall()


def test_what_people_wrote_stays_and_what_texts_state_stands_beside_it(items: Path, encoder: Encoder) -> None:
    output = items.with_name("annotated.parquet")
    told = {one.name: one for one in annotate(items, output, encoder=encoder)}
    with duckdb.connect() as con:
        given = con.execute(f"FROM read_csv('{items}', all_varchar := true)").fetchall()
    assert rows(output, "item_id, description, Color, price") == given
    assert rows(output, "text_colour, text_price_band") == [
        (["red"], None), (None, "2^3"), (None, None), (None, None), (["blue"], "2^1"), (["blue"], None),
    ]  # fmt: skip
    assert rows(output, "text_material, text_style, text_audience")[:2] == [
        (["metal"], ["vintage"], None), (None, None, ["babies"]),
    ]  # fmt: skip
    colour = told["text_colour"]
    assert (colour.rows, colour.given, colour.examples) == (3, 1, ("blue", "red"))
    assert (told["text_price_band"].rows, told["text_price_band"].given) == (2, 2)


def test_another_run_replaces_its_own_columns_only(items: Path, encoder: Encoder) -> None:
    first, second = items.with_name("first.parquet"), items.with_name("second.parquet")
    annotate(items, first, encoder=encoder)
    annotate(first, second, encoder=encoder)
    assert rows(first, "*") == rows(second, "*")


def test_a_column_that_people_filled_in_is_not_replaced_and_rows_keep_their_order(
    tmp_path: Path, encoder: Encoder
) -> None:
    items, output = tmp_path / "items.csv", tmp_path / "annotated.parquet"
    items.write_text("description,Text_Style\nred lamp,mine\n", encoding="utf-8")
    with pytest.raises(ColdStartError, match=r"a column 'Text_Style' \(VARCHAR\), which would be replaced: rename it"):
        annotate(items, output, encoder=encoder)
    assert not output.exists()
    lines = [{"place": "B", "description": "red lamp", "color": [None]}, {"place": "A", "description": "blue lamp"}]
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    annotate(items, output, encoder=encoder)
    assert rows(output, "place, text_colour") == [("B", ["red"]), ("A", ["blue"])]


def test_labels_become_attributes_of_items(
    items: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    items.write_text("\n".join(ITEMS.splitlines()[:4]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["annotate", "items.csv", "--output", "raw/items.parquet"])
    assert done.exit_code == 0, done.output
    (raw / "users.csv").write_text("user_id,description\nann,\n", encoding="utf-8")
    (raw / "interactions.csv").write_text(
        "user_id,item_id,event_timestamp\nann,1,2024-01-01\n", encoding="utf-8"
    )
    assert CliRunner().invoke(app, ["ingest", "raw"]).exit_code == 0
    from recommender.data.dataset import read_dataset

    data = tmp_path / "data"
    read = read_dataset(data / "items.parquet", None, data / "interactions.parquet", embed=False)
    assert {"text_colour=red", "text_material=metal", "text_style=vintage"} <= set(read.items.attributes[0])


@pytest.mark.parametrize(
    ("output", "text", "error", "message"),
    [
        ("a.csv", "description", ColdStartError, "a.csv is no Parquet file"),
        ("a.parquet", "title", ColdStartError, "has no column 'title'; name the column with the texts"),
    ],
)
def test_what_cannot_be_done_is_named(
    items: Path, encoder: Encoder, output: str, text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        annotate(items, items.with_name(output), encoder=encoder, text=text)
    assert not items.with_name(output).exists()
    with pytest.raises(FileError, match="does not exist"):
        annotate(items.with_name("gone.csv"), items.with_name("a.parquet"), encoder=encoder)


def test_the_input_is_never_the_output(items: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["annotate", str(items), "--output", str(items)])
    assert isinstance(done.exception, ColdStartError)
    assert "is the input" in str(done.exception)
