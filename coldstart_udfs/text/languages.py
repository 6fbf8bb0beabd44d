"""The languages of texts, and the encoder that knows them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

from coldstart_udfs.encoder.multilingual import LANGUAGES as MULTILINGUAL_LANGUAGES
from coldstart_udfs.encoder.multilingual import MULTILINGUAL
from coldstart_udfs.errors import ColdStartError

# The languages that the detector distinguishes. With all 139 of its languages there are 1.5 times as many false alarms:
# short English texts are taken for Latin or Hausa. Norwegian is one language here.
LANGUAGES = (
    "ar be bg bs ca cs da de el en es et eu fa fi fr gl he hi hr hu id is it ja ka kk ko lt lv mk mr ms ne nl no pl pt "
    "ro ru sk sl sq sr sv th tl tr uk ur vi zh"
)
_CODES = frozenset(LANGUAGES.split()).union(MULTILINGUAL_LANGUAGES.split())
# A language with a smaller share of the texts is more often a false alarm, unless it is certain.
SMALLEST_SHARE = 0.05
# Shorter texts do not tell; a letter that is not Latin tells as much as five.
_LONG = 20
_GREEK, _AS_MANY = "\u0370", 5

# A text is in another language if that one is this many times as likely as the most likely language of the encoder, and
# the text has this many letters. Less certain texts count as in the encoder's language. Both numbers were chosen on
# one half of real texts (by a hash) and measured on the other, with py3langid 0.4.0. For an encoder of English, false
# alarms: 5 of 2,121 product texts of Online Retail, 1 of 1,218 product types of Complete Journey, none of 302 titles of
# Stack Exchange, 3 of 3,087 product categories of Google. Hits, of Google's categories of two words and more: German
# 75 %, French 86 %, Spanish 93 %, Italian 76 %, Polish 89 %, Turkish 90 %; of four words and more 88 to 99 %; by their
# script Russian, Japanese and Chinese, 99 to 100 %. For an encoder of one of 12 other languages in Latin letters: at
# most 0.3 % of its own categories are false alarms, but only 16 to 54 % of the English ones are found.
_TIMES_AS_LIKELY = 30
_MIN_LETTERS = 12
# Number of characters that the detector reads; more do not change its result and take more time.
_READ = 1_000
# Scripts by the first word of their characters' Unicode names, and the languages that use them. A language
# that is not here is written in Latin letters.
_SCRIPTS = {
    "ARABIC": "ar ary arz azb ckb fa ks ku ps sd ug ur", "ARMENIAN": "hy", "BENGALI": "as bn",
    "CJK": "ja ko wuu yue zh", "CYRILLIC": "ba be bg ce cv kk ky mk mn ru sr tg tt uk uz",
    "DEVANAGARI": "bh hi mr ne sa", "ETHIOPIC": "am ti", "GEORGIAN": "ka", "GREEK": "el grc", "GUJARATI": "gu",
    "GURMUKHI": "pa", "HANGUL": "ko", "HEBREW": "he yi", "HIRAGANA": "ja", "KANNADA": "kn", "KATAKANA": "ja",
    "KHMER": "km", "LAO": "lo", "MALAYALAM": "ml", "MYANMAR": "my", "ORIYA": "or", "SINHALA": "si", "TAMIL": "ta",
    "TELUGU": "te", "THAI": "th", "TIBETAN": "bo dz",
}  # fmt: skip
_LATIN, _KANA = "LATIN", ("HIRAGANA", "KATAKANA")
# The language with the most readers, of scripts that several use.
_USUAL = {"ARABIC": "ar", "CJK": "zh", "DEVANAGARI": "hi", "HEBREW": "he"}
_ALSO_LATIN = frozenset(("ku", "sr", "uz"))
# What the sentence about the encoder names: so many languages, the first and those of at least this share.
_NAMED, _NAMED_SHARE = 5, 0.01
_GUIDE = "docs/how-to/language-or-encoder.md"


def frequent_languages(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of texts by language, the most frequent first; languages of few texts are left out.

    >>> frequent_languages(["a red lamp for the garden", "eine rote Lampe für den Garten"])
    {'en': 0.5, 'de': 0.5}
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    long = [text for text in texts if _letters(text) >= _LONG]
    if not long:
        return {}
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(LANGUAGES.split())
    found = Counter(identifier.classify(text.lower())[0] for text in long)
    return {name: times / len(long) for name, times in found.most_common() if times >= SMALLEST_SHARE * len(long)}


def known_language(language: str | None) -> str | None:
    """The ISO 639-1 code of a language that somebody gave, in lower case and without a region; None for None or "".

    Raises:
        ColdStartError: it is not a code that is known here.

    >>> known_language("zh-TW"), known_language(" DE "), known_language(None)
    ('zh', 'de', None)
    """
    code = re.split("[-_]", (language or "").strip().lower(), maxsplit=1)[0] or None
    if code is not None and code not in _CODES:
        raise ColdStartError(
            f"language is {language!r}; known are the codes {' '.join(sorted(_CODES))}, with or without a region. "
            "Leave it out (NULL) if you do not know it: the text then tells"
        )
    return code


def written_in(text: str, usual: str | None = None) -> str | None:
    """The language that a text's script tells, for the `lang` of a page; None if many languages use it.

    Args:
        text: any text.
        usual: the language of most texts around it, as `frequent_languages` finds it; it counts if it uses the script.

    >>> written_in("赤いランプ"), written_in("红色台灯"), written_in("東京駅", "ja"), written_in("a red lamp")
    ('ja', 'zh', 'ja', None)
    >>> written_in("LED台灯 USB Type-C"), written_in("47 Ω resistor"), written_in("eine rote Lampe", "de")
    ('zh', None, 'de')
    """
    found = Counter(one for char in text if char.isalpha() and (one := script(char)))
    if not found:
        return None
    # Brands and units are in Latin letters in any language; a single letter of another script may be a symbol: Ω, β.
    others = Counter({one: count for one, count in found.items() if one != _LATIN and (count > 1 or one == "CJK")})
    # Japanese texts mix three scripts, of which Chinese uses one.
    name = next((one for one in _KANA if one in others), None) or (others or found).most_common(1)[0][0]
    if name == _LATIN:
        users = tuple(set(LANGUAGES.split()).difference(*(each.split() for each in _SCRIPTS.values())))
    else:
        users = tuple(_SCRIPTS[name].split())
    if usual in users:
        return usual
    return users[0] if len(users) == 1 else _USUAL.get(name)


class Detector:
    """Detects the language of a text for an encoder that knows some languages.

    Args:
        codes: the encoder's languages; empty if it names none.

    Attributes:
        own: those of the encoder's languages that can be detected.
    """

    def __init__(self, codes: Sequence[str]) -> None:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self.own = frozenset(codes).intersection(self._identifier.labels)
        self._candidates = self.own.union(LANGUAGES.split())
        self._identifier.set_languages(sorted(self._candidates))
        # The scripts of all languages of the card, also of those that the detector does not know.
        self._scripts = {name for name, users in _SCRIPTS.items() if not set(codes).isdisjoint(users.split())}
        without_latin = {code for users in _SCRIPTS.values() for code in users.split()} - _ALSO_LATIN
        if not without_latin.issuperset(codes):
            self._scripts.add(_LATIN)

    def language(self, text: str) -> str | None:
        """The code of the text's language; None where the text does not tell.

        A language that the encoder does not know is returned only if it is certain.
        """
        text = text[:_READ].lower()
        if self.own and (not text.isascii() or _LATIN not in self._scripts):
            text = unicodedata.normalize("NFKC", text)
            scripts = [found for char in text if char.isalpha() and (found := script(char))]
            own = sum(one in self._scripts for one in scripts)
            # Names and brands are often in Latin letters in any language.
            foreign = [one for one in scripts if one not in self._scripts and one != _LATIN]
            if len(foreign) > own or (scripts and not own):
                # A single letter may be a symbol: Ω, β.
                return self._most_likely(text, foreign or scripts) if len(scripts) > 1 else None
        if _letters(text) < _MIN_LETTERS:
            return None
        code: str = self._identifier.classify(text)[0]
        if not self.own or code in self.own:
            return code
        likely = dict(self._identifier.rank(text))
        certain = likely[code] > _TIMES_AS_LIKELY * max(likely[own] for own in self.own)
        return code if certain and sum(map(str.isalpha, text)) >= _MIN_LETTERS else None

    def is_foreign(self, code: str | None) -> bool:
        """Whether the language of a text is not one of the encoder's; False if the text or the encoder tells none."""
        return bool(self.own) and code is not None and code not in self.own

    def _most_likely(self, text: str, scripts: Sequence[str]) -> str:
        """The most likely of the languages that use all of some scripts, or at least the most frequent one."""
        others = self._candidates - self.own
        users = [set(_SCRIPTS.get(one, "").split()) or others for one, _ in Counter(scripts).most_common()]
        likely_users = set.intersection(*map(set, users)) or users[0]  # Han characters and kana are Japanese
        likely = dict(self._identifier.rank(text))
        return max(sorted(likely_users), key=lambda code: likely.get(code, -1.0))


def _letters(text: str) -> int:
    return sum(1 if char < _GREEK else _AS_MANY for char in text if char.isalpha())


@cache
def script(char: str) -> str | None:
    """The script of a letter, as "LATIN" or "CJK"; None for a rare one."""
    name = re.split("[ -]", unicodedata.name(char, ""), maxsplit=1)[0]
    return name if name == _LATIN or name in _SCRIPTS else None


def encoder_advice(name: str, shares: Mapping[str, float]) -> str:
    """A sentence about texts in languages that an encoder does not know, and the encoder that knows them.

    Args:
        name: the encoder's name.
        shares: the share of the texts, 0 to 1, by language that it does not know; not empty, the most frequent first.

    >>> encoder_advice("MiniLM", {"de": 0.08, "fr": 0.04}).partition(";")[0]
    '12 % of the texts are in languages that MiniLM does not know (de 8 %, fr 4 %)'
    """
    first = next(iter(shares))
    listed = {code: share for code, share in list(shares.items())[:_NAMED] if code == first or share >= _NAMED_SHARE}
    told = ", ".join(f"{code} {_per_cent(share)}" for code, share in listed.items())
    said = f"{_per_cent(sum(shares.values()))} of the texts are in languages that {name} does not know ({told}); "
    known = [code for code in listed if code in MULTILINGUAL_LANGUAGES.split()]
    if name == MULTILINGUAL or not known:
        return f'{said}set "model" in enrichment.json to an encoder that knows them ({_GUIDE})'
    new_shop = next((f"coldstart init --language {code}, or " for code in known if code != "en"), "")
    them = "them" if len(known) == len(listed) else ", ".join(known)
    change = f'set "model" to "{MULTILINGUAL}" in enrichment.json'
    return f"{said}the encoder {MULTILINGUAL!r} knows {them}: {new_shop}{change} ({_GUIDE})"


def _per_cent(share: float) -> str:
    return "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"
