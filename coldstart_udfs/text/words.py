"""Splitting texts into words. Pure Python, without the encoder."""

from __future__ import annotations

from functools import cache
from typing import Any

import regex

from coldstart_udfs.text.characters import normalised

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+|(?<=\p{N})[.,](?=\p{N})\p{N}+)*(?:\+{2,3}(?!\+))?")
_HAN = regex.compile(r"\p{Han}+")


def tokens(text: str) -> list[str]:
    """The words of a text, lower case, in order.

    A word is a run of letters, marks and digits, including apostrophes inside words, points inside numbers, and two or
    three plus signs at the end (C++, A+++). Runs of Chinese characters are split with the dictionary of jieba.

    >>> tokens("SET OF 6 HERB-POTS, 10.5cm: I'm 红色的台灯")
    ['set', 'of', '6', 'herb', 'pots', '10.5', 'cm', "i'm", '红色', '的', '台灯']
    """
    if text.isascii():
        return _WORD.findall(text.lower())
    words: list[str] = []
    for word in _WORD.findall(normalised(text).lower()):
        if _HAN.search(word):
            words += _segment(word)
        else:
            words.append(word)
    return words


def _segment(word: str) -> list[str]:
    parts: list[str] = []
    end = 0
    for run in _HAN.finditer(word):
        if run.start() > end:
            parts.append(word[end : run.start()])
        parts += _dictionary().cut(run.group())
        end = run.end()
    return parts + ([word[end:]] if end < len(word) else [])


@cache
def _dictionary() -> Any:
    import rjieba  # loading its dictionary takes a tenth of a second

    return rjieba
