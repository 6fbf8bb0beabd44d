"""The encodings of text files: a copy in UTF-8 where DuckDB needs one, and what is wrong with other files."""

from __future__ import annotations

import codecs
import gzip
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from coldstart_udfs.errors import ColdStartError

PACKED = ".gz"
_SNIFFED = 1 << 16
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
# Encodings that old exports of shops have. Those of Latin letters cannot be told apart by a few of them.
_LIKELY = ["utf_16", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "gb18030", "big5", "cp932", "euc_jp", "cp949"]
_LATIN = ("cp1252", "cp1250", "cp1254")
_ADVICE = "name its encoding: --encoding latin-1 (or cp1252, gbk, shift_jis, utf-16 …), or save it as UTF-8"
# Beginnings of compressed files.
_ARCHIVES = {
    b"\x1f\x8b": "compressed with gzip; name it with .gz at the end",
    b"PK\x03\x04": "a zip archive or an Excel file; unpack it, or name it .xlsx",
}


class FileError(ColdStartError):
    """A file cannot be read as a table."""


def is_packed(path: Path) -> bool:
    """Whether the name says that the file is compressed."""
    return path.suffix.lower() == PACKED


def opened(path: Path) -> IO[bytes]:
    """The bytes of a file, decompressed."""
    return gzip.open(path) if is_packed(path) else path.open("rb")  # type: ignore[return-value]


def check_encoding(encoding: str) -> None:
    """Check that an encoding exists.

    Raises:
        FileError: it does not, or is none of text.
    """
    try:
        "a".encode(encoding)
    except (LookupError, UnicodeError):
        raise FileError(
            f"the encoding {encoding!r} is not known; possible are utf-8, utf-16, latin-1, cp1252, gbk, shift_jis, "
            "and the others that Python names"
        ) from None


def encoding_of(path: Path, given: str | None) -> str:
    """The encoding of a file: what its byte order mark says, or the given one, or UTF-8.

    Raises:
        FileError: the file is an archive, or contains NUL bytes, which no such text has.
    """
    with opened(path) as stream:
        head = stream.read(_SNIFFED)
    for start, what in _ARCHIVES.items():
        if head.startswith(start):
            raise FileError(f"{path} is {what}")
    marked = next((name for bom, name in _BOMS if head.startswith(bom)), None)
    encoding = marked or given or "utf-8"
    if b"\0" in head and not encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
        raise FileError(f"{path} contains NUL bytes; it may be UTF-16 without a byte order mark: --encoding utf-16-le")
    return encoding


@contextmanager
def as_utf8(path: Path, encoding: str | None, *, copied: bool) -> Iterator[Path]:
    """Yield a file in UTF-8: the file itself, or a copy whose lines all end alike.

    DuckDB does not notice that the end of a compressed file is missing, so that such a file is always copied.
    """
    name = encoding_of(path, encoding)
    if not (copied or is_packed(path)) and codecs.lookup(name).name in ("utf-8", "utf-8-sig"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="coldstart-") as folder:
        copy = Path(folder) / "copy"
        try:
            with (
                opened(path) as stream, io.TextIOWrapper(stream, name) as text,
                copy.open("w", encoding="utf-8", newline="\n") as out,
            ):  # fmt: skip
                shutil.copyfileobj(text, out)
        except UnicodeError as error:
            raise FileError(f"{path} {wrong_encoding(path, encoding) or f'is not {name}: {error}'}") from None
        yield copy


def ends_in_two_ways(path: Path) -> bool:
    """Whether some lines of a file end with CR LF and others with LF alone."""
    both, alone = False, False
    with opened(path) as stream:
        while piece := stream.read(1 << 20):
            pairs = piece.count(b"\r\n")
            both, alone = both or pairs > 0, alone or piece.count(b"\n") > pairs
    return both and alone


def wrong_encoding(path: Path, encoding: str | None) -> str | None:
    """A sentence about a file that is not in its encoding; None if it is."""
    name = encoding_of(path, encoding)
    decoder = codecs.getincrementaldecoder(name)()
    line, before = 1, b""
    with opened(path) as stream:
        while piece := stream.read(1 << 20):
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                line += piece[: error.start].count(b"\n")
                start = max(0, error.start - _SNIFFED // 2)
                around = (before[-1024:] if start == 0 else b"") + piece[start : error.start + _SNIFFED]
                bad = _line_at(piece, min(error.start, len(piece) - 1))
                shown = "UTF-8" if name.startswith("utf-8") else name
                return f"is not {shown} (line {line:,}){_likely(around, bad)}; {_ADVICE}"
            line += piece.count(b"\n")
            before = piece
    return None


def _line_at(piece: bytes, place: int) -> bytes:
    start = piece.rfind(b"\n", 0, place) + 1
    end = piece.find(b"\n", place)
    return piece[max(start, place - 20) : min(end if end >= 0 else len(piece), place + 20)].strip()


def _likely(around: bytes, bad: bytes) -> str:
    """What the line with the fault reads like in the encodings that the text around it may have."""
    from charset_normalizer import from_bytes

    # Line ends apart: they are the same in all of them.
    lines = b"\n".join(line for line in around.splitlines() if not line.isascii())
    best = from_bytes(lines, cp_isolation=_LIKELY).best()
    if best is None:
        return ""
    names = _LATIN[:2] if best.encoding in _LATIN else (best.encoding,)
    readings = [f"{bad.decode(name, 'replace')!r} as {name}" for name in names]
    return f"; line read: {' or '.join(readings)}"
