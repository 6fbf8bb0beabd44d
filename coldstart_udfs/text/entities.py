"""Extracting sizes, quantities, prices, colours, materials, audiences and given brands from product texts."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import regex

from coldstart_udfs.text.characters import WORD
from coldstart_udfs.text.prices import prices
from coldstart_udfs.text.vocabulary import mentions

KINDS = ("price", "size", "quantity", "brand", "colour", "material", "audience")

_VULGAR = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_NUMBER = (
    r"(?:(?<!of\s)\d+[\s-])?\d+\s?[/⁄]\s?\d+"
    rf"|\d*\s?[{_VULGAR}]|\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+"
)

_UNITS = (
    r"mm|cm|m|metres?|meters?|km|in|inch(?:es)?|ins|ft|feet|foot|yds?|yards?|ml|cl|dl|l|ltr|lt|litres?|liters?|fl\.?\s?oz|oz|"
    r"ounces?|lbs?|pounds?|kg|g|gr|grams?|mg|gal|gallons?|qts?|quarts?|pt|pts|pints?|sq\.?\s?ft|sqft|watts?|w|gb|tb|mb|ply|"
    r"zoll|pulgadas?|pouces?|liter|litros?|gramm|gramos?|grammes?|metros?|mètres?|vatios?|"
    r"unzen|onzas?|onces?|pfund|libras?|fuß|pies|pieds?|kilos?|(?-i:[GM]o)|"
    r"毫升|公升|升|毫克|千克|公斤|克|斤|磅|盎司|毫米|厘米|公分|米|英寸|英尺|寸|瓦|ミリリットル|リットル|グラム|キロ|オンス|ポンド|センチ|ミリ|メートル|フィート|インチ|ワット"
)
_CHINESE_NUMBER = "[一二两三四五六七八九十]"
_TO = r"(?:\s?[-–~〜～至]\s?|\s(?:bis|to|à)\s)"  # 230 bis 350 ml
# Weights and volumes, and rates such as 75 g/m2.
_AMOUNTS = r"kg|g|gr|mg|ml|cl|dl|l|oz|lbs?|毫升|升|克|公斤|グラム|リットル"
_RATE = r"(?!\s?/\s?(?:m[²2]|s|sec|min|h|秒|分)(?!\p{L}))"
_SIZE = regex.compile(
    rf"(?<![{WORD}.,/])(?!\d{{1,3}}\s?[x×*]\s?(?:{_NUMBER})\s?(?:{_AMOUNTS})(?![{WORD}]))"
    rf"(?:{_NUMBER})(?:\s?(?:{_UNITS}|\"|”|''|′′|″)?\s?(?:x|×|by|\*(?=\s?\d{{2}}))\s?(?:{_NUMBER})){{1,2}}"
    rf"(?:\s?(?:{_UNITS})(?![{WORD}])|\s?(?:\"|”|''|′′|″))?"
    rf"|(?:(?<![{WORD}.,/£$€])|(?<=\d[x×*]))(?!(?-i:[2-6]G)(?!\w)|\d-in-\d)(?:{_NUMBER})(?:{_TO}(?:{_NUMBER}))?[\s-]?(?:(?:{_UNITS})(?![{WORD}]){_RATE}(?:\.(?=\s(?-i:\p{{Ll}})))?|\"|”|''|′′|″)"
    rf"|(?<![{WORD}.,第]){_CHINESE_NUMBER}{{1,2}}\s?(?:英寸|英尺|厘米|毫米|公斤|千克|斤|升|毫升)(?![{WORD}])"
    rf"|(?:\b(?:größe|talla|taille|pointure)\s|(?:尺码|サイズ)\s?)(?:xx?s|xs|s|m|l|xl|x{{2,3}}l|\d{{2,3}})(?![\p{{Latin}}\d]|[.,]\d|\s?[x×*]|\s?(?:{_UNITS})(?![{WORD}]))"
    r"|(?<=[\p{L}\d)]\s?[-–,/]\s?)(?-i:XX?S|S|M|L|XL|X{2,3}L)$|(?<=\p{Ll},\s)(?-i:P|G|SG|EG)$|(?<=,\s)(?:grande|grand|groß|pequeñ[oa]|petite?|klein|median[oa]|moyen|mittel)$"
    r"|(?:大|中|小|加大|特大)号(?!\p{Han}{0,2}机)"
    r"|(?<![\p{Latin}\d])(?:xx?s|s|m|l|xl|x{2,3}l)(?=\s?(?:サイズ|码))"
    r"|\bsize\s(?:xx?s|xs|s|m|l|xl|x{2,3}l|\d{1,3})\b|(?<![\w&'])(?:x{1,3}s|x{1,3}l)(?![\w'])"
    r"|\b(?:extra[ -](?:small|large)|small|medium|large|mini|miniature|jumbo|giant|tiny|"
    r"(?:(?:king|queen)[ -]?|travel[ -])size)\b",
    regex.I,
)
_COUNTED = "one two three four five six seven eight nine ten eleven twelve".split()
# Numbers in other words.
_NUMBERS = {
    word: number
    for words in (
        "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
        "dos tres cuatro cinco seis siete ocho nueve diez once doce",
        "deux trois quatre cinq six sept huit neuf dix onze douze",
    )
    for number, word in enumerate(words.split(), 2)
} | {word: number for number, word in enumerate("一二三四五六七八九十", 1)} | {"两": 2}  # fmt: skip
_COUNT = rf"(?:\d{{1,4}}|{'|'.join(_COUNTED)}|(?:a )?dozen|half a dozen)"
_LOCAL_COUNT = rf"(?:\d{{1,4}}|{'|'.join(word for word in _NUMBERS if word.isalpha() and word[0] < '一')})"
_PIECES = (  # what is counted in packs
    "blatt|stück|stk|beutel|kapseln|tabletten|rollen|tücher|packungen|dosen|flaschen|paar|hojas|unidades|uds|piezas|cajas|paquetes|bolsas|bolsitas|sobres|rollos|"
    "cápsulas|pastillas|latas|botellas|toallitas|pares|feuilles|pi[èe]ces|bo[îi]tes|paquets|sachets|rouleaux|capsules|comprimés|canettes|bouteilles|ramettes|dosettes|paires|lingettes"
)
_IN_PACKS = (
    r"set aus|packung(?:en)? (?:mit|zu|à)|juegos? de|packs? de|estuche de|lots? de|coffret(?: de)?|"
    r"(?:paquete|caja|bolsa|bote)s?(?: de \p{L}+)?(?: de| con)|"
    r"(?:paquet|boîte|sachet|pochette|étui)s?(?: en \p{L}+)? de"
)
_QUANTITY = regex.compile(
    # A word before the number.
    rf"(?<![/\w])(?:(?:set|pack|box|pkt|packet|bag|case|roll|tray|carton|bundle|s)\s?(?:of|/)\s?(?P<count>{_COUNT})(?!\s?(?:{_UNITS})\b)(?!\w)"
    r"|(?:set|pack|s)\s?/\s?(?P<count>\d{1,4})(?!\w)|(?P<pair>(?:a )?pair)\sof\b)"
    rf"|\b(?:(?:set|pack|tub|envelope)\s?(?P<count>\d{{1,4}})(?!\w)(?!\s?(?:{_UNITS})\b)"
    rf"|(?:{_IN_PACKS})\s?(?P<count>{_LOCAL_COUNT})(?!\w)(?!\s?(?:{_UNITS}|docenas?|douzaines?|dutzend)(?![{WORD}]))"
    rf"|(?:inhalt|contenido|contenu)\s?:?\s?(?P<count>\d{{1,4}})(?!\w)(?!\s?(?:{_UNITS})(?![{WORD}]))"
    r"|(?:enthält|contiene|contient)\s(?P<count>\d{1,4})\s(?=\p{L}{3}))"
    # A number before the word.
    rf"|(?<![\w.,/])(?:(?P<count>{_COUNT})[\s-]?(?:ct|count|pk|pks|pack|packs|pcs?|pieces?|piece|pairs?|sheets?|rolls?|tablets?|caps(?:ules)?|"
    r"bags|cans?|bottles?|servings?|loads?|units?)\b"
    rf"|(?P<count>{_LOCAL_COUNT})[\s-]?(?:{_PIECES})(?!\w)"
    r"|(?P<count>\d{1,4})(?:er[ -]?(?:set|pack(?:ung)?)|[\s-]?teilig|\sde contenido)(?!\w)"
    r"|(?P<dozen>\d{1,2})\s?(?:docenas?|douzaines?|dutzend)(?!\w)"
    rf"|(?P<count>\d{{1,3}})\s?[x×*]\s?(?=(?:{_NUMBER})\s?(?:{_AMOUNTS})(?![{WORD}])))"
    # Chinese and Japanese counters.
    rf"|(?<![{WORD}.,第])(?<!\d\s?/\s?)(?P<count>\d{{1,4}})\s?"
    r"(?:[件只个個套包盒片支瓶袋条條双雙本张張粒罐卷枚块塊足缶箱](?!月|用)|パック|セット|ピース)"
    rf"|(?P<dozen>\d{{1,2}}|{_CHINESE_NUMBER})\s?(?:ダース|打(?![印开火折底包造磨扫动]))"
    rf"|(?<![第\p{{Nd}}])(?P<count>{_CHINESE_NUMBER})(?:件套|[只片个支瓶盒双条包枚袋]装)"
    rf"|(?<=[（(]\s?)(?P<count>{_CHINESE_NUMBER})[件只个套包盒片支瓶袋条双本张把块对](?=\s?[）)])"
    # "12 RED ROSE PEGS": a number at the start, and a plural among the next words.
    rf"|^\s*(?P<count>\d{{1,3}})\s(?=(?:[\p{{L}}-]+\s){{0,4}}\p{{L}}{{2,}}(?<!s)s\b)(?!(?:{_UNITS})\b)"
    r"|(?<![\w.,])x\s?(?P<count>\d{1,3})(?![\w.,])|(?<![\w.,])(?P<count>\d{1,3})\s?x(?=\s\p{L})",
    regex.I,
)  # fmt: skip


# A quantity needs a digit or one of these words; most texts have neither.
_COUNT_WORDS = frozenset((*_COUNTED, *_NUMBERS, "dozen", "pair"))
_WORD_OR_CHARACTER = regex.compile(r"\p{Han}|[\p{Latin}\p{M}]+")


@dataclass(frozen=True)
class Entity:
    """A stated fact in a text.

    Attributes:
        kind: one of `KINDS`.
        value: normalised: "12.50 GBP", "10 x 12 cm", "6", a brand as given in the list, or a label of `tags`.
        start: start in the text, counted from 0.
        stop: end in the text; the words are `text[start:stop]`.
    """

    kind: str
    value: str
    start: int
    stop: int


def entities(text: str, brands: Iterable[str] = (), language: str | None = None) -> list[Entity]:
    """The entities of a text, in order.

    Args:
        text: a product text in English, German, Spanish, French, Chinese or Japanese.
        brands: names to look for, as whole words in any case; the longest match counts.
        language: an ISO 639-1 code. It decides about colours and materials that mean something else in other languages
            (French "rose" and "or", German "rot", Spanish "lino"). By default the text tells. It makes no other
            difference: the words of all languages are looked for in every text.

    Raises:
        ColdStartError: the language is not known.

    >>> [(one.kind, one.value) for one in entities("SET OF 6 red Acme mugs 10cm, £12.50", ["ACME"])]
    [('quantity', '6'), ('colour', 'red'), ('brand', 'ACME'), ('size', '10 cm'), ('price', '12.50 GBP')]
    """
    result: list[Entity] = []
    names = tuple(brands)
    if names:
        pattern, known = _brand_pattern(names)
        result += [Entity("brand", known.get(_folded(one[0]), one[0]), *one.span()) for one in pattern.finditer(text)]
    has_digits = any(character.isdigit() for character in text)
    if has_digits:
        result += [Entity("price", f"{one.amount:.2f} {one.currency}", one.start, one.stop) for one in prices(text)]
    taken = bytearray(len(text))
    for entity in result:
        taken[entity.start : entity.stop] = b"\1" * (entity.stop - entity.start)
    for kind, pattern, value in (("size", _SIZE, _size), ("quantity", _QUANTITY, _quantity)):
        if kind == "quantity" and not has_digits and _COUNT_WORDS.isdisjoint(_WORD_OR_CHARACTER.findall(text.lower())):
            continue
        for one in pattern.finditer(text):
            start, stop = one.span()
            if taken.find(1, start, stop) < 0:
                result.append(Entity(kind, value(one), start, stop))
                taken[start:stop] = b"\1" * (stop - start)
    result += [
        Entity(one.group, one.label, one.start, one.stop)
        for one in mentions(text, language)
        if one.group in KINDS
    ]
    return sorted(result, key=lambda one: (one.start, one.stop, one.kind, one.value))


def stated_price(text: str) -> float | None:
    """The last price in a text, in any currency ("was £20, now £15"); None if there is none.

    >>> stated_price("was £20, now only £15.50"), stated_price("a lamp")
    (15.5, None)
    """
    known = [one.amount for one in prices(text) if one.amount]
    return known[-1] if known else None


@lru_cache(maxsize=16)
def _brand_pattern(names: tuple[str, ...]) -> tuple[regex.Pattern[str], dict[str, str]]:
    known = {_folded(name): name for name in names if name.strip()}
    return regex.compile(r"(?<!\w)(?:\L<names>)(?!\w)", regex.I, names=list(known)), known


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def _quantity(found: regex.Match[str]) -> str:
    if found["pair"]:
        return "2"
    if found["dozen"]:
        return str(12 * (_NUMBERS.get(found["dozen"]) or int(found["dozen"])))
    count = found["count"].lower()
    if count in _NUMBERS:
        return str(_NUMBERS[count])
    if "dozen" in count:
        return "6" if "half" in count else "12"
    return str(_COUNTED.index(count) + 1) if count in _COUNTED else str(int(count))


def _size(found: regex.Match[str]) -> str:
    words = regex.sub(rf"(?<=\d)(?=[{_VULGAR}])", " ", found[0].lower())  # 1½ is 1 1/2
    words = unicodedata.normalize("NFKC", words).replace("⁄", "/").replace("′′", "″")
    words = regex.sub(r"(?<![/\d])(\d+)-(?=\d+/\d)", r"\1 ", words)
    words = regex.sub(r"\s*(?:\bby\b|x|×)\s*(?=[\d.])", " x ", words)
    return " ".join(regex.sub(r"(?<=\d)(?=[a-z\"”″])", " ", words).split())
