"""Pictures that others made: what is read as what, and what is refused with which error."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from coldstart_udfs.encoder.images.reading import MAX_BYTES, content_of, open_picture
from coldstart_udfs.errors import ColdStartError
from tests.support.pictures import drawn, encoded, png_of

RED, BLUE = (255, 0, 0), (0, 0, 255)
HALVES = Image.new("RGB", (40, 20), RED)
HALVES.paste(BLUE, (20, 0, 40, 20))

GOOD = {
    "JPEG": encoded(HALVES, "JPEG", quality=95, subsampling=0),
    "CMYK": encoded(HALVES.convert("CMYK"), "JPEG", quality=95),
    "PNG": encoded(HALVES),
    "palette": encoded(HALVES.quantize(8)),
    "WebP": encoded(HALVES, "WEBP", lossless=True),
    "GIF": encoded(HALVES, "GIF"),
    "BMP": encoded(HALVES, "BMP"),
    "TIFF": encoded(HALVES, "TIFF"),
    "animated GIF": encoded(HALVES, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 20), BLUE)]),
    "animated WebP": encoded(
        HALVES, "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 20), BLUE)], lossless=True
    ),
}
BAD = {
    "empty": (b"", "is empty"),
    "text": (b"item_id,description\n1,Mug\n", "is text, and no picture"),
    "noise": (bytes(range(256)) * 4, "no picture of a known format"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "is SVG"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "is HEIC"),
    "AVIF": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(64), "is AVIF"),
    "truncated JPEG": (encoded(drawn(size=(900, 600)), "JPEG")[:3_000], "is damaged"),
    "truncated PNG": (encoded(drawn())[:150], "is damaged"),
    "pixel": (encoded(Image.new("RGB", (1, 1))), "1 × 1 pixels"),
    "line": (encoded(Image.new("RGB", (4_000, 2))), "4000 × 2 pixels"),
    "100 megapixels": (png_of(10_000, 10_000), "10,000 × 10,000 pixels, more than 40,000,000"),
    "400 megapixels": (png_of(20_000, 20_000), "more than 40,000,000 pixels"),
    "floating point": (encoded(Image.new("F", (40, 20)), "TIFF"), "floating point"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_each_kind_of_picture_shows_its_first_frame_in_its_colours(kind: str) -> None:
    pixels = np.asarray(open_picture(GOOD[kind])).astype(int)
    assert pixels.shape == (20, 40, 3)
    assert np.abs(pixels[10, 5] - RED).max() < 12
    assert np.abs(pixels[10, 35] - BLUE).max() < 12


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_usable_picture_is_refused_with_its_reason(kind: str) -> None:
    content, reason = BAD[kind]
    with pytest.raises(ColdStartError, match=reason):
        open_picture(content)


def test_a_camera_held_upright_gives_an_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    image = open_picture(encoded(HALVES, "JPEG", exif=exif, quality=95))
    assert image.size == (20, 40)
    assert np.abs(np.asarray(image)[5, 10].astype(int) - RED).max() < 12


def test_transparent_parts_are_white() -> None:
    image = HALVES.convert("RGBA")
    image.paste((0, 0, 0, 0), (20, 0, 40, 20))
    palette = HALVES.quantize(4)
    clear = palette.getpixel((30, 10))
    for content in (encoded(image), encoded(palette, transparency=clear)):
        pixels = np.asarray(open_picture(content))
        assert pixels[10, 30].tolist() == [255, 255, 255]
        assert np.abs(pixels[10, 5].astype(int) - RED).max() < 12


@pytest.mark.parametrize(("brightest", "expected"), [(65_535, 255), (32_768, 127), (4_095, 255), (200, 200)])
def test_sixteen_bits_become_eight(brightest: int, expected: int) -> None:
    values = np.zeros((16, 16), dtype=np.uint16)
    values[:, 8:] = brightest
    pixels = np.asarray(open_picture(encoded(Image.fromarray(values))))
    assert abs(int(pixels[4, 12, 0]) - expected) <= 1
    assert pixels[4, 2].tolist() == [0, 0, 0]


def test_a_bomb_costs_no_memory() -> None:
    """A megabyte of zeros in each kilobyte: the header says more pixels than are decoded."""
    bomb = png_of(30_000, 3_000, compressed=zlib.compress(bytes(90_003_000), 9)[:200_000])
    tracemalloc.start()
    with pytest.raises(ColdStartError, match="more than 40,000,000"):
        open_picture(bomb)
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_a_text_chunk_that_unpacks_to_gigabytes_is_refused() -> None:
    import struct

    data = b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    content = GOOD["PNG"]
    with pytest.raises(ColdStartError, match="is damaged"):
        open_picture(content[:33] + chunk + content[33:])


def test_paths_and_bytes_give_the_same_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b ü.png").write_bytes(GOOD["PNG"])
    monkeypatch.chdir(tmp_path)
    for picture in (GOOD["PNG"], bytearray(GOOD["PNG"]), "a b ü.png", tmp_path / "a b ü.png"):
        assert content_of(picture) == GOOD["PNG"]


def test_paths_that_are_no_file_say_why(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        ("https://shop.example/1.jpg", "is a URL"), (str(tmp_path), "is a folder"),
        (str(tmp_path / "none.jpg"), "no file"), (str(tmp_path / "pipe"), "no regular file"),
        (str(large), "MiB, more than 64"), (str(large / "x.png"), "no file"), ("a\0b", "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(ColdStartError, match=reason):
            content_of(path)
    with pytest.raises(ColdStartError, match="give the path of a file"):
        content_of(5)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(GOOD)), st.integers(0, 2_000),
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), max_size=8),
)  # fmt: skip
def test_damaged_bytes_give_a_picture_or_one_clear_error(
    kind: str, cut: int, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(GOOD[kind])
    for place, value in changes:
        content[place % len(content)] = value
    damaged = bytes(content[: len(content) - cut % len(content)])
    told = ""
    try:
        image = open_picture(damaged)
    except ColdStartError as error:
        told = str(error)
    if told:
        assert len(told.splitlines()) == 1
    else:
        assert image.mode == "RGB"
        assert image.width * image.height <= 40_000_000
