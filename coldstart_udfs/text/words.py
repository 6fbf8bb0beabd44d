"""Splitting texts into words. Pure Python and dictionaries, without the encoder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import regex

from coldstart_udfs.text.characters import normalised
from coldstart_udfs.text.languages import known_language

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+|(?<=\p{N})[.,](?=\p{N})\p{N}+)*(?:\+{2,3}(?!\+))?")
_KANA = r"\p{Hiragana}\p{Katakana}ー"
_IS_JAPANESE = regex.compile(rf"[{_KANA}]")
# Runs of scripts without spaces between words: Chinese or Japanese; Thai and its neighbours.
_UNSPACED = regex.compile(rf"(?P<cjk>[\p{{Han}}{_KANA}]+)|[\p{{Thai}}\p{{Lao}}\p{{Khmer}}\p{{Myanmar}}]+")
# The dot above that lower case leaves of the Turkish İ.
_DOTTED_I = "i\u0307"


def tokens(text: str, language: str | None = None) -> list[str]:
    """The words of a text, lower case, in order.

    A word is a run of letters, marks and digits, including apostrophes inside words, points inside numbers, and two or
    three plus signs at the end (C++, A+++). Case is folded (ß is ss, the Turkish İ and ı are i); accents stay. Runs of
    scripts that put no spaces between words are split with dictionaries: Chinese with that of jieba; Japanese (a text
    with kana), Thai, Lao, Khmer and Burmese with those of ICU.

    Args:
        text: any text.
        language: an ISO 639-1 code, for texts that have Han characters: with "ja" they are Japanese also without kana,
            with "zh" Chinese in spite of kana. It makes no difference to other texts. By default the text tells.

    Raises:
        ColdStartError: the language is not known.

    >>> tokens("SET OF 6 HERB-POTS, 10.5cm: I'm 红色的台灯")
    ['set', 'of', '6', 'herb', 'pots', '10.5', 'cm', "i'm", '红色', '的', '台灯']
    >>> tokens("赤いワンピース"), tokens("กระเป๋าหนัง")
    (['赤い', 'ワンピース'], ['กระเป๋า', 'หนัง'])
    >>> tokens("抹茶茶碗"), tokens("抹茶茶碗", "ja")
    (['抹', '茶', '茶碗'], ['抹茶', '茶碗'])
    """
    code = known_language(language)
    if text.isascii():
        return _WORD.findall(text.lower())
    text = _folded(normalised(text))
    japanese = code == "ja" or (code != "zh" and bool(_IS_JAPANESE.search(text)))
    words: list[str] = []
    for word in _WORD.findall(text):
        if word.isascii():
            words.append(word)
        else:
            words += _segments(word, japanese)
    return words


def _folded(text: str) -> str:
    return text.casefold().replace(_DOTTED_I, "i").replace("ı", "i")


def _segments(word: str, japanese: bool) -> Iterator[str]:
    end = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > end:
            yield word[end : run.start()]
        if run["cjk"] and not japanese:
            yield from _jieba().cut(run[0])
        else:
            yield from _icu()(run[0], "ja" if run["cjk"] else "th")
        end = run.end()
    if end < len(word):
        yield word[end:]


@cache
def _jieba() -> Any:
    import rjieba  # loading its dictionary takes a tenth of a second

    return rjieba


@cache
def _icu() -> Any:
    from icu4py.breakers import WordBreaker

    return WordBreaker
