"""`coldstart embed --image`: pictures alone, beside texts with a map, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from coldstart_udfs import Encoder, ImageEncoder, PictureMap
from coldstart_udfs.settings import Enrichment
from recommender.cli.app import app
from tests.support.word_model import BACKEND, word_model

COLOURS = ("red", "blue", "green", "black", "yellow", "pink")
SHAPES = ("circle", "square", "cross", "ring")
ITEMS = [(colour, shape) for colour in COLOURS for shape in SHAPES]


def draw(colour: str, shape: str, path: Path) -> None:
    image = Image.new("RGB", (96, 96), "white")
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse((16, 16, 80, 80), fill=colour)
    elif shape == "square":
        pen.rectangle((16, 16, 80, 80), fill=colour)
    elif shape == "cross":
        pen.line((16, 16, 80, 80), fill=colour, width=14)
        pen.line((16, 80, 80, 16), fill=colour, width=14)
    else:
        pen.ellipse((16, 16, 80, 80), outline=colour, width=10)
    image.save(path)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures of coloured shapes, whose texts name both; two have no text, one no picture, one a broken one."""
    model = word_model(tmp_path / "words", [*COLOURS, *SHAPES])
    (tmp_path / "feature_repo").mkdir()
    Enrichment(model=model, backend=BACKEND).write(tmp_path / "feature_repo" / "enrichment.json")
    rows = [["item_id", "description", "photo"]]
    for number, (colour, shape) in enumerate(ITEMS):
        draw(colour, shape, tmp_path / f"{number}.png")
        rows.append([str(number), "" if number in (5, 14) else f"{colour} {shape}", f"{number}.png"])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows += [["24", "red ring", ""], ["25", "", "broken.png"]]
    with (tmp_path / "items.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*command: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["embed", "items.csv", *command])
    return done.exit_code, done.output + str(done.exception or "")


def test_pictures_alone_have_vectors_of_their_own_space(shop: Path) -> None:
    status, output = run("--image", "photo", "--out", "pictures.parquet")
    assert status == 0, output
    table = pq.read_table("pictures.parquet").to_pydict()
    expected = ImageEncoder().encode([shop / "3.png"])[0]
    assert table["embedding"][3] == pytest.approx(expected, abs=1e-5)
    assert table["embedding_from"] == ["image"] * 24 + [None, None]
    assert table["embedding"][24] is None
    assert table["embedding"][25] is None
    assert "is text, and no picture" in table["embedding_error"][25]
    assert set(table["embedding_fingerprint"]) == {ImageEncoder().fingerprint}
    assert "1 pictures cannot be used" in output


@pytest.mark.slow  # fits a map, with the names of 1,000 classes
def test_a_row_without_text_gets_its_picture_in_the_space_of_texts(shop: Path) -> None:
    status, output = run("--text", "description", "--image", "photo", "--map", "map", "--out", "all.parquet")
    assert status == 0, output
    assert "23 by their text, 2 by their image, 1 without a vector" in output
    table = pq.read_table("all.parquet").to_pydict()
    encoder = Encoder(str(shop / "words"), backend=BACKEND)
    assert set(table["embedding_fingerprint"]) == {encoder.fingerprint}
    assert table["embedding"][3] == pytest.approx(encoder.encode(["red ring"])[0], abs=1e-5)
    fitted = PictureMap.load("map", text_fingerprint=encoder.fingerprint)
    assert table["embedding"][5] == pytest.approx(fitted.predict(ImageEncoder().encode(["5.png"]))[0], abs=1e-5)
    # The two that had no text: what they show is among what is nearest.
    texts = [f"{colour} {shape}" for colour, shape in ITEMS]
    for row in (5, 14):
        nearest = (encoder.encode(texts) @ np.array(table["embedding"][row])).argsort()[::-1][:6]
        assert row in nearest
    # The map that was written serves rows of which none has a text.
    status, output = run("--image", "photo", "--map", "map", "--out", "mapped.parquet")
    assert status == 0, output
    assert pq.read_table("mapped.parquet").to_pydict()["embedding"][5] == pytest.approx(table["embedding"][5], abs=1e-5)


def test_what_does_not_belong_together_is_refused_and_nothing_is_written(shop: Path) -> None:
    for command, reason in (
        ((), "no column was named"),
        (("--text", "description", "--map", "map"), "belong to --image"),
        (("--text", "description", "--image", "photo"), "give --map FOLDER"),
        (("--image", "photo", "--map", "none"), "holds no picture-map"),
        (("--image", "nothing"), "has no column 'nothing'"),
        (("--image", "item_id", "--engine", "ray"), "leave out --engine ray"),
    ):
        status, output = run(*command, "--out", "out.parquet")
        assert status != 0
        assert reason in output
        assert not Path("out.parquet").exists()
    assert not Path("map").exists()
