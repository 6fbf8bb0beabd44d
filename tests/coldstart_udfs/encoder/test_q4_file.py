"""The reader of 4-bit encoders, on a file of two pieces and two tensors."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs.encoder.q4_file import read_q4
from coldstart_udfs.errors import ColdStartError


def content(*, version: int = 1, block: int = 32) -> bytes:
    """A network of width 32 with the pieces "▁a" and "b", the vector `bias` and the matrix `weight` of two rows."""
    head = struct.pack("<4sI7ifi", b"E5S1", version, 32, 1, 2, 64, 2, 8, 1, 1e-5, block)
    pieces = ["▁a".encode(), b"b"]
    offsets = np.cumsum([0, *map(len, pieces)]).astype("<u4").tobytes()
    vocabulary = struct.pack("<5iQ", 2, 0, 2, 1, 3, sum(map(len, pieces))) + offsets
    vocabulary += struct.pack("<2f", -1.5, -2.0) + b"".join(pieces)
    normalised = struct.pack("<iI", 1, 9) + struct.pack("<IBI", 0xFF21, 1, ord("A"))
    # The first row is q = 0 in its lower and 15 in its upper half with scale 0.5, the second all 9 with scale 2.
    blocks = struct.pack("<e", 0.5) + bytes([0xF0] * 16) + struct.pack("<e", 2.0) + bytes([0x99] * 16)
    bias = struct.pack("<2f", 0.25, -1.0)
    names = [(b"bias", 0, 2, len(bias)), (b"weight", 1, 64, len(blocks))]
    size = 4 + sum(2 + len(name) + struct.calcsize("<BIQQ") for name, *_ in names)
    start = len(head) + len(vocabulary) + len(normalised) + size
    directory = struct.pack("<i", len(names))
    for name, kind, number, length in names:
        directory += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", kind, number, start, length)
        start += length
    return head + vocabulary + normalised + directory + bias + blocks


def test_a_file_is_read_and_dequantised(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(content())
    model = read_q4(tmp_path / "model.bin")
    assert (model.width, model.layers, model.heads, model.inner) == (32, 1, 2, 64)
    assert (model.vocabulary, model.positions) == (2, 8)
    assert model.pieces == ["▁a", "b"]
    assert model.scores.tolist() == [-1.5, -2.0]
    assert model.special == {"bos": 0, "eos": 2, "pad": 1, "unk": 3}
    assert model.tensors["bias"].tolist() == [0.25, -1.0]
    assert model.tensors["weight"].tolist() == [-4.0] * 16 + [3.5] * 16 + [2.0] * 32


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is damaged"),
        (b"GGUF" + content()[4:], "begins with b'GGUF', version 1; expected b'E5S1', version 1"),
        (content(version=2), "version 2; expected b'E5S1', version 1"),
        (content(block=64), "blocks of 64 weights; only blocks of 32"),
        (content()[:-1], "is damaged"),
        (content()[:60], "is damaged"),
    ],
)
def test_another_or_incomplete_file_is_an_error(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(ColdStartError, match=message):
        read_q4(tmp_path / "model.bin")
