"""Unicode normalisation of texts that people wrote."""

from __future__ import annotations

import unicodedata

import regex

# For classes of a pattern: letters of scripts that put spaces between words, and with them digits. A Han character
# beside a number is not part of it.
LETTER = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Arabic}\p{Hebrew}\p{Devanagari}"
WORD = rf"{LETTER}\p{{Nd}}_"

# NFKC would join digits that mean something else beside each other: 1½ to 11⁄2, 10² to 102, ①② to 12. Superscripts
# after a letter are written as digits (m² as m2, x¹⁰ as x10). It would also take apart the Thai and Lao vowel am and
# two letters of Lao, which nobody writes in parts.
_KEPT = regex.compile(
    r"(?<=\p{Nd})[\p{No}⁺⁻]+|\p{No}+(?=\p{Nd})|[\p{No}--[¹²³⁰⁴-⁹₀-₉]]{2,}|[\u0e33\u0eb3\u0edc\u0edd]", regex.V1
)


def normalised(text: str) -> str:
    """The text in Unicode NFKC, but fractions, superscripts and enclosed numbers beside a digit stay as they are.

    So do letters of Thai and Lao that NFKC would take apart.

    >>> normalised("１２ ｃｍ, 5 m², 10² pieces, 1½ inch, ½ inch")
    '12 cm, 5 m2, 10² pieces, 1½ inch, 1⁄2 inch'
    """
    if text.isascii():
        return text
    parts, end = [], 0
    for kept in _KEPT.finditer(text):
        parts += [unicodedata.normalize("NFKC", text[end : kept.start()]), kept[0]]
        end = kept.end()
    return "".join([*parts, unicodedata.normalize("NFKC", text[end:])])
