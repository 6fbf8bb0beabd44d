"""Word boundaries and digits for texts in any script."""

from __future__ import annotations

import sys
import unicodedata
from functools import cache

from coldstart_udfs.text.characters import WORD

# (start, stop, kind) in a text.
Span = tuple[int, int, str]

START, END = rf"(?<![{WORD}])", rf"(?![{WORD}])"
CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー、。，；：！？「」『』（）"

_HYPHENS = "\u2010\u2011\u2012\u2015\u2212\uff0d\ufe63"
_SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000"


def in_ascii(text: str) -> str:
    """The text with full-width forms and the digits of all scripts in ASCII, character by character.

    Each character stays at its place, so that a slice of the result is the same slice of the text.

    >>> in_ascii("手机１３８００１３８０００")
    '手机13800138000'
    """
    return text if text.isascii() else text.translate(_table())


def before(text: str, place: int, length: int = 40) -> str:
    """The characters before a place."""
    return text[max(0, place - length) : place]


def has_any(text: str, words: tuple[str, ...]) -> bool:
    """Whether a text has one of some words in lower case, as a cheap test before a pattern."""
    lowered = text.lower()
    return any(word in lowered for word in words)


@cache
def _table() -> dict[int, str]:
    table = {code: str(unicodedata.decimal(chr(code))) for code in range(0x80, sys.maxunicode + 1)
             if unicodedata.category(chr(code)) == "Nd"}  # fmt: skip
    # A full-width comma or full stop ends a phrase, and is not part of a number.
    table |= {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) not in "，；！？"}
    return table | dict.fromkeys(map(ord, _HYPHENS), "-") | dict.fromkeys(map(ord, _SPACES), " ")
