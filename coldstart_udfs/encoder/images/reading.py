"""Reading pictures that others made: a clear error for what is no usable picture, in bounded memory.

A picture is refused by its header, before its pixels are decoded. Of several frames the first counts. Transparent parts
are white, and a camera's rotation (EXIF) is applied.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from coldstart_udfs.errors import ColdStartError

if TYPE_CHECKING:
    from PIL import Image

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview

# A picture of 40 megapixels takes 160 MB with transparency, and as much again while it is converted.
MAX_PIXELS = 40_000_000
MAX_BYTES = 64 * 2**20
# Smaller pictures, such as tracking pixels, show nothing.
MIN_SIDE = 8

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_POSSIBLE = "JPEG, PNG, WebP, GIF, BMP and TIFF"
# JPEG decodes at a half, a quarter or an eighth of its size, down to this side: encoders look at 224 pixels.
_DRAFT_SIDE = 448
# Brands of ISO media files, ISO/IEC 23008-12.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# `warnings.catch_warnings` changes the state of the process.
_opening = threading.Lock()


def check_installed() -> None:
    """Check that Pillow is there.

    Raises:
        ColdStartError: it is not installed.
    """
    if find_spec("PIL") is None:
        raise ColdStartError("pictures need Pillow, not installed here: pip install 'feast-coldstart[image]'")


def content_of(picture: Source) -> bytes:
    """The bytes of a picture.

    Args:
        picture: the bytes themselves, or a path; a relative one starts from the working directory.

    Raises:
        ColdStartError: there is no such file, it cannot be read, or it is larger than 64 MiB.
    """
    if isinstance(picture, (bytes, bytearray, memoryview)):
        content = bytes(picture)
        _check_size(len(content), "the picture")
        return content
    if not isinstance(picture, (str, os.PathLike)):
        raise ColdStartError(
            f"a picture is {picture!r:.80} ({type(picture).__name__}); give the path of a file, or its bytes"
        )
    path = os.fspath(picture)
    if "://" in path:
        raise ColdStartError(f"{path!r:.200} is a URL, from which nothing is loaded; give a file, or its bytes")
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ColdStartError(f"{path!r:.200} is a folder; give the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise ColdStartError(f"{path!r:.200} is no regular file; give a file with a picture")
        _check_size(status.st_size, repr(path))
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ColdStartError(f"there is no file {path!r:.200}; relative paths start from {os.getcwd()}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ColdStartError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ColdStartError(f"{path!r:.200} cannot be read: {reason}") from None


def open_picture(content: bytes) -> Image.Image:
    """Decode a picture.

    Args:
        content: the bytes of its file.

    Returns:
        Its first frame, upright, in RGB. JPEG may be decoded at a smaller scale, of 448 pixels or more a side.

    Raises:
        ColdStartError: the bytes are no picture of a supported kind, are damaged, or hold too many or too few pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not content:
        raise ColdStartError("the picture is empty: it has no bytes; give a file with a picture")
    try:
        with _opening, warnings.catch_warnings():
            # Its own limit, and what it notes on damaged metadata, which do not matter here.
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise ColdStartError(f"the picture has more than {MAX_PIXELS:,} pixels; scale it down") from None
    except UnidentifiedImageError:
        raise ColdStartError(f"{_what(content)}; possible are {_POSSIBLE}: convert it") from None
    except Exception as error:  # Pillow's readers raise whatever damaged bytes lead to
        raise ColdStartError(f"the picture is damaged: {_short(error)}; save it anew") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ColdStartError(
            f"the picture has {width:,} × {height:,} pixels, more than {MAX_PIXELS:,}; scale it down"
        )
    if min(width, height) < MIN_SIDE:
        raise ColdStartError(
            f"the picture has {width} × {height} pixels, on which nothing can be seen; give one of at least "
            f"{MIN_SIDE} × {MIN_SIDE}"
        )
    try:
        image.draft("RGB", (_DRAFT_SIDE, _DRAFT_SIDE))
        image.load()
        return _as_rgb(ImageOps.exif_transpose(image) if _rotated(image) else image)
    except ColdStartError:
        raise
    except Exception as error:  # as above
        raise ColdStartError(f"the picture is damaged: {_short(error)}; save it anew") from None


def _rotated(image: Image.Image) -> bool:
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return image.getexif().get(0x0112, 1) in range(2, 9)
    except Exception:  # damaged metadata say nothing of the pixels
        return False


def _as_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode: 16 bits to 8, transparent parts to white, CMYK and palettes to RGB."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, in containers of 16 or 32
        import numpy as np

        # A camera's 12 bits fill a sixteenth of the range: the brightest pixel is white then.
        values = np.asarray(image).astype(np.float32)
        top = 65_535.0 if values.max() > 4_095 else max(float(values.max()), 255.0)
        image = Image.fromarray(np.clip(values * (255 / top), 0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ColdStartError("the picture has pixels in floating point; convert it to 8 or 16 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_size(size: int, what: str) -> None:
    if size > MAX_BYTES:
        raise ColdStartError(f"{what:.200} has {size / 2**20:,.0f} MiB, more than {MAX_BYTES // 2**20}; scale it down")


def _what(content: bytes) -> str:
    """What the bytes are, if they are none of the supported formats."""
    head = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        return "the picture is SVG, which has no pixels"
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        name = "HEIC" if brand in _HEIC else "AVIF" if brand.startswith(b"avi") else "video or HEIC"
        return f"the picture is {name}, which is not read"
    if b"\0" not in content[:1024]:
        return "this is text, and no picture"
    return "these bytes are no picture of a known format"


def _short(error: Any) -> str:
    return f"{error}".split("\n", 1)[0][:120] or type(error).__name__
