"""SQL functions of pictures: `embed_image`, `try_embed_image`, `image_to_text`; `nearest` and `tags` of vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from coldstart_udfs import Encoder, ImageEncoder, PictureMap, connect
from tests.support.pictures import drawn, encoded

PICTURES = Path(__file__).parents[2] / "data" / "pictures"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "vectors.sqlite"


@pytest.fixture(scope="module")
def con(cache: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(cache=cache, backend="torch") as con:
        yield con


def test_a_path_and_its_content_give_the_vector_of_the_encoder(con: duckdb.DuckDBPyConnection) -> None:
    path = PICTURES / "banana.jpg"
    rows = con.execute(
        "SELECT embed_image($1), embed_image(content), (try_embed_image(content)).embedding FROM read_blob($1)",
        [str(path)],
    ).fetchall()
    expected = ImageEncoder(cache=False).encode([path])[0]
    for vector in rows[0]:
        assert vector == pytest.approx(expected, abs=1e-5)


def test_nulls_empty_paths_and_repeated_pictures(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(drawn(11)))
    rows = con.execute(
        "SELECT embed_image(p) IS NULL, try_embed_image(p).embedding IS NULL, try_embed_image(p).error "
        "FROM (SELECT unnest([$1, NULL, '', $1]) AS p)",
        [str(tmp_path / "a.png")],
    ).fetchall()
    assert rows == [(False, False, None), (True, True, None), (True, True, None), (False, False, None)]
    assert con.sql("SELECT embed_image(NULL), embed_image(NULL::BLOB), image_to_text(NULL)").fetchall() == [(None,) * 3]


def test_a_bad_picture_is_an_error_and_with_try_costs_no_other_row(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good ü.png").write_bytes(encoded(drawn(12)))
    (tmp_path / "bad.png").write_bytes(b"item_id\n1\n")
    con.execute("CREATE OR REPLACE TABLE photos AS SELECT unnest(['good ü.png', 'bad.png', 'none.png']) AS file")
    found = con.sql("SELECT len(t.embedding), t.error FROM (SELECT try_embed_image(file) AS t FROM photos)").fetchall()
    assert [length for length, _ in found] == [1_280, None, None]
    assert "is text, and no picture" in found[1][1]
    assert f"no file 'none.png'; relative paths start from {tmp_path}" in found[2][1]
    with pytest.raises(duckdb.Error, match=r"is text, and no picture.*\(1 more fail\); try_embed_image\(\) gives"):
        con.sql("SELECT embed_image(file) FROM photos").fetchall()


def test_files_are_not_read_where_duckdb_may_not_read_them() -> None:
    with connect(cache=False) as con:
        con.execute("SET enable_external_access = false")
        for function in ("embed_image", "try_embed_image"):
            with pytest.raises(duckdb.Error, match="give the picture as a BLOB"):
                con.execute(f"SELECT {function}($1)", [str(PICTURES / "banana.jpg")]).fetchall()
        content = (PICTURES / "banana.jpg").read_bytes()
        assert con.execute("SELECT len(embed_image($1))", [content]).fetchall() == [(1_280,)]


@pytest.mark.slow  # encodes the names of 1,000 classes
def test_a_picture_finds_and_is_tagged_with_what_it_shows(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(
        "CREATE OR REPLACE TABLE goods AS SELECT d AS description, embed(d) AS embedding FROM "
        "(SELECT unnest(['a ripe yellow banana', 'a red lamp', 'a crisp green apple']) AS d)"
    )
    for file, expected in (("banana", "a ripe yellow banana"), ("granny-smith", "a crisp green apple")):
        con.execute("SET VARIABLE shown = image_to_text(embed_image($1))", [str(PICTURES / f"{file}.jpg")])
        found = con.sql("SELECT description, rank FROM nearest('goods', getvariable('shown'), k := 1)").fetchall()
        assert found == [(expected, 1)]
    con.execute("SET VARIABLE shown = image_to_text(embed_image($1))", [str(PICTURES / "banana.jpg")])
    (tags,) = con.sql("SELECT tags(getvariable('shown'), labels := ['apple', 'banana', 'milk'])").fetchall()[0]
    assert [tag["label"] for tag in tags] == ["banana"]
    with pytest.raises(duckdb.Error, match=r"image_to_text\(\) makes such a vector"):
        con.execute("SELECT tags(embed_image($1))", [str(PICTURES / "banana.jpg")]).fetchall()
    with pytest.raises(duckdb.Error, match="k is 0"):
        con.sql("FROM nearest('goods', getvariable('shown'), k := 0)").fetchall()


def test_pictures_are_nearest_to_pictures(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(
        "CREATE OR REPLACE TABLE album AS SELECT filename AS file, embed_image(content) AS embedding "
        "FROM read_blob($1)",
        [str(PICTURES / "*.jpg")],
    )
    query = "SELECT file, similarity FROM nearest('album', embed_image('{}'), k := 1)"
    ((file, similarity),) = con.sql(query.format(PICTURES / "banana.jpg")).fetchall()
    assert Path(file).name == "banana.jpg"
    assert similarity == pytest.approx(1, abs=1e-5)


@pytest.mark.slow  # encodes the names of 1,000 classes
def test_a_fitted_map_is_read_from_its_folder(con: duckdb.DuckDBPyConnection, cache: Path, tmp_path: Path) -> None:
    encoder = Encoder(backend="torch", cache=cache)
    PictureMap.of_classes(ImageEncoder(cache=False), encoder).save(tmp_path / "map")
    path = str(PICTURES / "banana.jpg")
    given, default = con.execute(
        "SELECT image_to_text(embed_image($1), map := $2), image_to_text(embed_image($1))",
        [path, str(tmp_path / "map")],
    ).fetchall()[0]
    assert given == pytest.approx(default, abs=1e-5)
    with pytest.raises(duckdb.Error, match=r"holds no picture-map\.json"):
        con.execute("SELECT image_to_text(embed_image($1), map := $2)", [path, str(tmp_path)]).fetchall()


def test_a_vector_that_says_nothing_finds_nothing(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE OR REPLACE TABLE goods AS SELECT embed('a red lamp') AS embedding")
    assert con.sql("SELECT tags(NULL::FLOAT[])").fetchall() == [(None,)]
    for number in ("0", "'nan'", "'inf'"):
        vector = f"list_transform(range(384), lambda _: {number}::FLOAT)"
        assert con.sql(f"FROM nearest('goods', {vector})").fetchall() == []


@pytest.mark.slow  # encodes ordinary texts to compare with
def test_the_length_of_a_vector_does_not_change_its_tags(con: duckdb.DuckDBPyConnection) -> None:
    unit, long = con.sql(
        "SELECT tags(v, labels := ['red', 'blue', 'lamp']), tags(list_transform(v, lambda x: 1000 * x), "
        "labels := ['red', 'blue', 'lamp']) FROM (SELECT embed('red lamp') AS v)"
    ).fetchall()[0]
    assert {tag["label"] for tag in unit} >= {"red"}
    assert [tag["label"] for tag in long] == [tag["label"] for tag in unit]
    assert [tag["score"] for tag in long] == pytest.approx([tag["score"] for tag in unit], abs=1e-3)
    for number in ("0", "'nan'", "'inf'"):
        vector = f"list_transform(range(384), lambda _: {number}::FLOAT)"
        assert con.sql(f"SELECT tags({vector}, labels := ['red', 'blue', 'lamp'])").fetchall() == [([],)]
