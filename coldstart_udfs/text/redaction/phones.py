"""Telephone numbers, international and in the national forms of many countries."""

from __future__ import annotations

from collections.abc import Iterator

import phonenumbers
import regex

from coldstart_udfs.text.characters import LETTER, WORD
from coldstart_udfs.text.redaction.scripts import Span, before

_NUMBER = regex.compile(rf"(?<![\d])(?:\(?\+|00)?\(?\d(?:[\s().\-/–—]{{0,3}}\d){{6,14}}(?![{WORD}-]|[.,]\d)")
# The words that a number may touch: "tel.0207…", "rappel au0612…".
_SAID = (
    rf"(?:(?<![{LETTER}])(?:(?:tele|mobil)?phone?|telf?|fone|telefon\w*|tele?fono|teléfono|téléphone|tél|tlf|cell?|cel|celular|cellulare|mobile?|"
    r"mobil|móvil|mob|ph|handy|portable|fixe|fijo|festnetz|landline|whats ?app|wa|vx|wx|call|ring|text|sms|fax|contact\w*|kontakt\w*|reach|dial|"
    r"ruf\w*|anruf\w*|rückruf\w*|erreich\w*|joign\w*|appel\w*|rappel\w*|llám\w*|llam\w*|"
    r"(?:my|mein\w*|mon|mi|meu|mio|mijn|mera|mere) (?:numbers?|nummer|numéro|n[úu]mero|tel\w*|no)|(?:phone|tel|mobile|contact|cell|handy|call)[ -]?(?:number|nummer|no|nr)|"
    rf"numéro de tel|nummer|numéro|n[úu]mero|au|al|at|on|under|unter)(?![{LETTER}])(?:['’]s)?"
    r"|电话|電話|手机|手機|手机号|手機號|号码|號碼|微信|座机|固话|热线|联系|聯絡|致电|来电|拨打|打给?|短信|携帯|スマホ|連絡先|ファックス|फोन|전화|연락처|휴대폰)"
)
# Of these alone, only numbers in a plan of their own count ("at 98765 43210", "number 9876501234").
_WEAK = regex.compile(r"(?:au|al|at|on|under|unter|nummer|numéro|n[úu]mero|号码|號碼)\b\W*$", regex.I)
_SAID_BEFORE = regex.compile(rf"{_SAID}(?P<gap>[^\d\n]{{0,30}})$", regex.I)
_SAID_TOUCHING = regex.compile(rf"{_SAID}[.:,/#=-]?$", regex.I)
_OTHER_NUMBER = regex.compile(rf"(?<![{LETTER}/])\d[\d -]{{6,16}}/$|<PHONE>/$")
_SAID_AFTER = regex.compile(
    r"^\W{0,3}(?:(?:is|est|es|ist|c'est)\s)?(?:my|meine|mi|mon)\s(?:\w+\s)?(?:number|cell|mobile|phone|nummer|n[úu]mero|tel[ée]fono|móvil|handy|numéro|portable)|"
    r"^\W{0,2}(?:这个号|是我的?(?:电话|手机|号)|が電話|に電話|に連絡)",
    regex.I,
)
_ORDER_BEFORE = regex.compile(
    rf"(?:(?<![{LETTER}])(?:order|tracking|invoice|ref(?:erence|erencia)?|réf(?:érence)?|ticket|case|isbn|sku|ean|upc|gtin|pzn|item|article|part|"
    r"serial|model|parcel|shipment|batch|lot|lote|bestell\w*|sendung\w*|rechnung\w*|artikel\w*|art|paket\w*|kunden\w*|commande|suivi|colis|facture|"
    r"client|pedido|factura|seguimiento|artículo|doi|arxiv|version|id|(?<!(?:contact|phone|tel|mobile|cell|my|handy|call|mein|mi|mon|mera|mere)[. -]{0,2})(?:no|nr|n[°º])"
    rf")(?![{LETTER}])|订单号?|訂單|单号|單號|编号|编码|货号|条码|条形码|批号|许可证|注文|伝票|商品|品番|型番|JAN|問い合わせ|ロット|(?<!電話|携帯|連絡先|FAX)番号)(?P<gap>[^\d\n]{{0,24}})$",
    regex.I,
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_DATE = rf"(?:(?:19|20)\d\d[-./]{_DAY}[-./]{_DAY}|{_DAY}[-./]{_DAY}[-./](?:19|20)?\d\d)"
# Dates, dates with hours, ranges of dates and of years.
_DATES = regex.compile(
    rf"{_DATE}(?:\s?[–-]\s?{_DATE}|\s{{1,3}}{_DATE})?(?:\s{{1,3}}\d{{1,4}})?|(?:19|20)\d\d(?:\s?[-–/]\s?(?:19|20)\d\d)+"
)
# The regions whose numbering plans are tried, in this order.
_REGIONS = ("GB", "US", "DE", "FR", "IN", "CN", "ES", "IT", "NL", "AU", "PL", "BR", "MX", "JP", "CO", "AR")
# Those where a national number begins with 0.
_TRUNK = ("GB", "DE", "FR", "IN", "NL", "AU", "IT", "JP", "CN", "TW", "CH", "AT", "BE")
# Forms that only telephone numbers have: North America; mobiles of China, Spain, India, Brazil.
_FORMS = (
    (r"(?:1[\s.-])?\(?[2-9]\d{2}\)?[\s.-]*\d{3}[\s.-]\d{4}", None),  # plans lack the numbers reserved for fiction
    (r"1[3-9]\d[ -]?\d{4}[ -]?\d{4}", "CN"),
    (r"[67]\d\d[ .-]\d{3}[ .-]\d{3}|[67]\d\d(?:[ .-]\d\d){3}|9[1-8]\d?[ .-]\d{2,3}(?:[ .-]\d\d){2}", "ES"),
    (r"86[- ](?:1[3-9]\d{9}|\d{2,3}[- ]\d{7,8})", None),
    (r"[6-9]\d{4}[ -]\d{5}", "IN"),
    (r"\(\d\d\) ?9?\d{4}-?\d{4}|\d\d 9\d{4}-\d{4}", "BR"),
    (r"8[ -]?\(?9\d\d\)?[ -]?\d{3}[ -]?\d\d[ -]?\d\d", "RU"),
)
_MEASURE = regex.compile(r"\s?(?:mm|cm|m|ml|cl|l|g|kg|w|pcs|pieces|%|€|£|\$)(?!\p{L})", regex.I)
_ROUND = regex.compile(r"(?:\d+00\D){2,}\d+00")
# Five pairs: not even an article has such a number.
_FRENCH = regex.compile(r"0[1-9](?:[ .-]\d\d){4}")
_FORMS_COMPILED = tuple((regex.compile(form), region) for form, region in _FORMS)


def phone_spans(text: str) -> Iterator[Span]:
    """Telephone numbers.

    With a country code, in a form that only telephone numbers have, or with a word for telephones nearer to the number
    than a word for orders and articles.
    """
    for found in _NUMBER.finditer(text):
        start, stop = found.span()
        number, ahead = found[0], before(text, start)
        touched = regex.search(rf"[{WORD}.,/=#:-]$", ahead)
        if touched and touched[0] != ":" and not _SAID_TOUCHING.search(ahead) and not _OTHER_NUMBER.search(ahead):
            continue
        if _DATES.fullmatch(number.strip("()")) or not _is_phone(number, ahead, text[stop : stop + 24]):
            continue
        # An opening bracket that is not closed inside belongs to the sentence.
        if number.startswith("(") and ")" not in number:
            start += 1
        yield start, stop, "PHONE"


def _is_phone(number: str, ahead: str, after: str) -> bool:
    bare = number.lstrip("(")
    digits = sum(map(str.isdigit, number))
    if bare.startswith("+") or (bare.startswith("00") and not bare.startswith("000")):
        return digits >= 8 and not _ROUND.fullmatch(bare[1:]) and _parsed(bare, None) is not None
    if _FRENCH.fullmatch(number):
        return True
    said, order = _SAID_BEFORE.search(ahead), _ORDER_BEFORE.search(ahead)
    if order and not (said and len(said["gap"]) < len(order["gap"])):
        return False
    weak = said is not None and _WEAK.search(ahead) is not None
    if _MEASURE.match(after) or _ROUND.fullmatch(number):
        return False
    if (said and not weak) or _SAID_AFTER.search(after):
        return any(_possible(number, region) for region in _REGIONS)
    if any(form.fullmatch(number) and (not region or _valid(number, region)) for form, region in _FORMS_COMPILED):
        return True
    if weak and number.isdigit() and digits >= 9 and any(_valid(number, region) for region in _REGIONS):
        return True
    # Without such a word, the number must begin with the trunk prefix 0, and be in some plan.
    return bare.startswith("0") and digits >= 9 and not regex.search(r"\d\s{2,}\d", number) and any(
        _possible(number, region) for region in _TRUNK
    )


def _possible(number: str, region: str | None) -> bool:
    parsed = _parsed(number, region)
    return parsed is not None and phonenumbers.is_possible_number(parsed)


def _valid(number: str, region: str) -> bool:
    parsed = _parsed(number, region)
    return parsed is not None and phonenumbers.is_valid_number_for_region(parsed, region)


def _parsed(number: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    if region is None and number.startswith("00"):
        number = "+" + number[2:]
    try:
        return phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
