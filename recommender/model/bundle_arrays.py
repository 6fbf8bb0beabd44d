"""The arrays in a bundle's file, each checked: size before anything is allocated, then type, numbers, references."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError

Arrays = dict[str, NDArray[Any]]

# Type, and number of dimensions, by the end of an array's name. Other floats, or integers, are converted.
_TYPES: dict[str, tuple[type[np.generic], int]] = {
    r"\.bytes": (np.uint8, 1), r"\.offsets": (np.int64, 1),
    "_embeddings|_profiles": (np.float32, 2), "_evidence": (np.float64, 1),
    "_space_idf": (np.float64, 1), "_space_identity": (np.float64, 0),
    "_came": (np.int64, 1), "moment": (np.int64, 0),
    "_data": (np.float32, 1), "_indices|_indptr": (np.int64, 1),
    "metric|maps|trends|lightfm_users|lightfm_items|predicted|lifts": (np.float32, 2),
    "map_centre|newness|activity|lightfm_biases": (np.float32, 1),
}  # fmt: skip

_SPACE = [
    f"{side}_space_{part}{ending}" for side in ("user", "item") for part in ("ids", "words", "attributes")
    for ending in (".bytes", ".offsets")
]  # fmt: skip
_ENTITIES = [
    f"{side}_{part}{ending}" for side in ("user", "item") for part in ("ids", "descriptions", "attributes")
    for ending in (".bytes", ".offsets")
]  # fmt: skip
NAMES = (
    *_ENTITIES, *_SPACE, "groups.bytes", "groups.offsets",
    *(f"{side}_{part}" for side in ("user", "item")
      for part in ("embeddings", "profiles", "evidence", "space_idf", "space_identity")),
    *(f"{name}_{part}" for name in ("history", "seen", "item_item") for part in ("data", "indices", "indptr")),
    "metric", "maps", "map_centre", "trends", "newness", "activity", "lightfm_users", "lightfm_items", "lightfm_biases",
    "predicted", "lifts", "item_came", "moment",
)  # fmt: skip


def read_arrays(file: Path, names: Iterable[str] = NAMES) -> Arrays:
    """Some arrays of a file, of the types that they are written in.

    Raises:
        ColdStartError: the file is no archive, or an array is missing, of another kind, or has numbers that are not
            finite.
        MemoryError: they do not fit into memory.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check_sizes(archive, file.stat().st_size, names)
        with np.load(file, allow_pickle=False) as opened:
            return {name: _typed(name, opened[name]) for name in names}
    except (ColdStartError, MemoryError):
        raise
    except Exception as error:  # the readers of archives let errors of many kinds out
        raise ColdStartError(f"it cannot be read: {error!r}") from None


def texts(name: str, arrays: Arrays, *, unique: bool = False) -> list[str]:
    """Strings, from their bytes and offsets.

    Raises:
        ColdStartError: an offset is out of range, the bytes are no text, or strings that have to differ are equal.
    """
    data, offsets = arrays[f"{name}.bytes"].tobytes(), arrays[f"{name}.offsets"]
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(data) or (np.diff(offsets) < 0).any():
        raise ColdStartError(f"the offsets of {name} do not divide its {len(data):,} bytes")
    try:
        found = [data[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(offsets.tolist())]
    except UnicodeDecodeError as error:
        raise ColdStartError(f"{name} is no text: {error}") from None
    if unique and len(set(found)) < len(found):
        raise ColdStartError(f"{name} repeats {len(found) - len(set(found)):,} of {len(found):,} names")
    return found


def label_lists(name: str, arrays: Arrays) -> list[list[str]]:
    """Lists of strings, each from a JSON text.

    Raises:
        ColdStartError: one of them is no such list.
    """
    found, decode, strings = [], json.JSONDecoder().decode, {str}
    for row, text in enumerate(texts(name, arrays)):
        try:
            labels = decode(text)
        except (ValueError, RecursionError) as error:
            raise ColdStartError(f"{name}, row {row}, is no JSON: {error}") from None
        if not isinstance(labels, list) or not strings.issuperset(map(type, labels)):
            raise ColdStartError(f"{name}, row {row}, is no list of strings")
        found.append(labels)
    return found


def sparse(name: str, arrays: Arrays, shape: tuple[int, int]) -> sp.csr_matrix:
    """A sparse matrix of this shape.

    Raises:
        ColdStartError: rows or columns are out of range, or a place is named twice.
    """
    data, columns, ends = (arrays[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    if len(ends) != shape[0] + 1 or ends[0] != 0 or ends[-1] != len(columns) or (np.diff(ends) < 0).any():
        raise ColdStartError(f"the rows of {name} do not divide its {len(columns):,} numbers into {shape[0]:,} rows")
    if len(data) != len(columns):
        raise ColdStartError(f"{name} has {len(data):,} numbers and {len(columns):,} places for them")
    if len(columns) and not (columns.min() >= 0 and columns.max() < shape[1]):
        raise ColdStartError(f"{name} names columns {columns.min()} to {columns.max()}, and there are {shape[1]:,}")
    matrix = sp.csr_matrix((data, columns, ends), shape=shape)
    if not matrix.has_canonical_format:
        rows = np.repeat(np.arange(shape[0]), np.diff(ends))
        if len(np.unique(rows * shape[1] + columns)) < len(columns):
            raise ColdStartError(f"{name} names a place twice")
    return matrix


def _check_sizes(archive: zipfile.ZipFile, size: int, names: Iterable[str]) -> None:
    """Check that every array is there once and as large as its shape says, in a file of `size` bytes."""
    entries: dict[str, list[zipfile.ZipInfo]] = {}
    for entry in archive.infolist():
        entries.setdefault(entry.filename, []).append(entry)
    for name in names:
        found = entries.get(f"{name}.npy", [])
        if len(found) != 1:
            raise ColdStartError(f"there are {len(found)} arrays called {name}, not one")
        (entry,) = found
        if entry.compress_type != zipfile.ZIP_STORED or entry.header_offset + entry.file_size > size:
            raise ColdStartError(f"{name} is larger than the file, or compressed")
        with archive.open(entry) as stream:
            shape, kind = _header(stream)
            rest = entry.file_size - stream.tell()
        if kind.hasobject:
            raise ColdStartError(f"{name} holds objects, not numbers")
        expected = kind.itemsize
        for length in shape:
            expected *= length
        if any(length < 0 for length in shape) or expected != rest:
            raise ColdStartError(f"{name} has {rest:,} bytes, its shape {list(shape)} needs {expected:,}")


def _header(stream: IO[bytes]) -> tuple[Sequence[int], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ColdStartError(f"an array is of version {version} of NumPy's format, not 1.0 or 2.0")
    try:
        shape, _, kind = read(stream)
    except Exception as error:  # NumPy parses the header as Python, and lets any of its parser's errors out
        raise ColdStartError(f"the header of an array cannot be read: {error!r}") from None
    return shape, kind


def _typed(name: str, array: NDArray[Any]) -> NDArray[Any]:
    kind, dimensions = next(found for end, found in _TYPES.items() if re.search(f"(?:{end})$", name))
    whole = issubclass(kind, np.integer)
    if array.dtype.kind not in ("iu" if whole else "fiu" if kind is np.float64 else "f"):
        raise ColdStartError(f"{name} is of type {array.dtype}, not {np.dtype(kind)}")
    if array.ndim != dimensions:
        raise ColdStartError(f"{name} has {array.ndim} dimensions, not {dimensions}")
    if kind is np.uint8 and array.dtype != np.uint8:
        raise ColdStartError(f"{name} is of type {array.dtype}, not uint8")
    with np.errstate(over="ignore", invalid="ignore"):
        found = array.astype(kind, copy=False)
    if not whole and not np.isfinite(found).all():
        raise ColdStartError(f"{name} has {int((~np.isfinite(found)).sum()):,} numbers that are not finite")
    return found
