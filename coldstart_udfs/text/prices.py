"""Prices in texts, as shops of many countries write them. Pure Python.

How the digits of a price are read:

- Two different separators: the last one is the decimal separator (1.250,00 and 1,250.00 are 1250). One separator that
  is repeated separates thousands (1.250.000), also in India (1,25,000).
- One separator with other than three digits after it is the decimal separator (12,50 and 12.5).
- One separator with three digits after it separates thousands (€1.250 and $1,250 are 1250), because prices have two
  decimals. A point in a currency of countries with decimal points (£1.250) may be either: this is no price.
- Spaces and apostrophes separate thousands. After a sign, a space may also end the price: "£5 100 ml" is 5. Before a
  noun ("£5 100 beads") it may be either: this is no price.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import regex

from coldstart_udfs.text.characters import WORD

_DOLLARS = {
    "US": "USD", "AU": "AUD", "A": "AUD", "CA": "CAD", "CDN": "CAD", "C": "CAD", "NZ": "NZD", "HK": "HKD", "SG": "SGD",
    "S": "SGD", "R": "BRL", "MX": "MXN", "NT": "TWD",
}  # fmt: skip
_SIGNS = {
    "£": "GBP", "￡": "GBP", "$": "USD", "＄": "USD", "€": "EUR", "¥": "JPY", "￥": "JPY", "₹": "INR", "₽": "RUB",
    "₺": "TRY", "₩": "KRW", "₫": "VND", "₴": "UAH", "₪": "ILS", "฿": "THB", "₱": "PHP", "₦": "NGN",
}  # fmt: skip
# Currencies in words: before a number, after it. The crown may be Swedish, Norwegian, Danish or Icelandic.
_WORDS_BEFORE = {"kr": "kr", "kr.": "kr", "rp": "IDR", "rp.": "IDR"}
_WORDS_AFTER = {
    "kr": "kr", "zł": "PLN", "kč": "CZK", "euro": "EUR", "euros": "EUR", "quid": "GBP", "dollar": "USD",
    "dollars": "USD", "円": "JPY", "元": "CNY", "zl": "PLN", "tl": "TRY",
}  # fmt: skip
# Codes in any case, and codes that only count in capitals. Codes that are English words (ALL, CUP, PEN, TOP) are left
# out, and TRY counts only after a number.
_OLD_CODES = ("GBP", "USD", "EUR", "CHF", "JPY", "INR")
_CODES = (
    "AUD", "CAD", "NZD", "HKD", "SGD", "BRL", "MXN", "CNY", "RMB", "KRW", "TWD", "THB", "PHP", "IDR", "MYR", "VND",
    "ZAR", "ILS", "AED", "SAR", "RUB", "UAH", "CLP", "COP", "ARS", "SEK", "NOK", "DKK", "ISK", "PLN", "CZK", "HUF",
    "RON", "BGN", "NGN",
)  # fmt: skip
_RENAMED = {"RMB": "CNY"}

# Where a point is the decimal separator.
_DECIMAL_POINT = frozenset(
    "USD GBP AUD CAD NZD HKD SGD TWD CNY INR CHF MXN ILS THB PHP MYR AED SAR NGN ZAR".split()
)
_SCALES = {
    "k": 1e3, "thousand": 1e3, "lakh": 1e5, "mn": 1e6, "mio": 1e6, "mln": 1e6, "million": 1e6, "crore": 1e7, "bn": 1e9,
    "billion": 1e9,
}  # fmt: skip

_SPACES = " \u00a0\u202f\u2009"
# Possessive, and only from its first digit on: a run of a megabyte is read once.
_RUN = rf"(?:\d++(?:[.,'’{_SPACES}]\d++)*+|\.\d++)"
_OLD, _NEW, _SIGN = "|".join(_OLD_CODES), "|".join(_CODES), f"[{''.join(_SIGNS)}]"
_BEFORE = (
    rf"(?<!\w)(?:(?i:{_OLD})|{_NEW})\s?{_SIGN}?"
    rf"|(?<!\w)(?:{'|'.join(_DOLLARS)})\$|(?<!\w)(?:US|AU|CA|NZ|HK|SG|NT|MX)\s\$"
    rf"|(?<!(?<!\p{{L}})\p{{Lu}}\p{{L}}{{0,2}})\$|(?!\$){_SIGN}"  # an unknown dollar is not the American one
    rf"|(?<!\w)(?i:kr\.?|rp\.?)"
)
# After a space and before a digit, a sign belongs to the number that follows.
_AFTER = (
    rf"(?:US|AU|CA|NZ|HK|SG|A|C|S|R)\$(?!\d)|(?:(?<!\s){_SIGN}|{_SIGN}(?!\d))"
    rf"|(?:(?i:{_OLD}|kr|z[łl]|kč|euros?|quid|dollars?)|{_NEW}|TRY|TL)(?!\w)|[円元]"
)
_SCALE = rf"(?:k(?!\w|-\p{{L}})|\s?(?:{'|'.join(name for name in _SCALES if name != 'k')})\b)"
_NO_CENTS = r"[.,:]\s?[-–—]{1,2}(?!\w)"  # 19,- and 199:-
_CANDIDATE = regex.compile(
    rf"(?P<sign>{_BEFORE})\s?(?P<run>{_RUN})"
    rf"|(?<![{WORD}.,٬])(?:\G|(?<!\d[{_SPACES}'’]))(?:(?P<low>{_RUN})\s?(?:[-–—]|to|bis|à)\s?)?(?P<run>{_RUN})(?:{_NO_CENTS})?"
    rf"(?:\s?(?P<scale>(?i:{_SCALE})))?\s?(?P<sign>{_AFTER})"
)
_HINT = regex.compile(rf"{_SIGN}|[円元]|(?:{_OLD}|{_NEW}|TRY|TL|kr|rp|z[łl]|kč|quid|dollar)", regex.I)
_TAIL = regex.compile(rf"(?:{_NO_CENTS})?(?P<scale>(?i:{_SCALE}))?")
_TRAILING_CODE = regex.compile(rf"\s?(?P<code>{_OLD}|{_NEW})\b(?!\s?(?:\d|{_SIGN}))")
_CODE = regex.compile(rf"(?i:{_OLD}|{_NEW}|TRY)")
# The code after "$25 AUD" says whose dollar it is.
_TRAILING = {
    "USD": frozenset(("USD", "AUD", "CAD", "NZD", "HKD", "SGD", "TWD", "MXN", "CLP", "COP", "ARS")),
    "JPY": frozenset(("JPY", "CNY", "RMB")),
    "kr": frozenset(("SEK", "NOK", "DKK", "ISK")),
}
_CENTS = regex.compile(r"\d\d(?![\w.,€])")
_UPPER = regex.compile(rf"[-–—](?P<run>{_RUN})(?:(?P<scale>(?i:{_SCALE})))?")
_UNCLEAR_SCALE = regex.compile(r"m(?!\w)|k-\p{L}", regex.I)  # £5m: millions, or per metre
# Prices with three decimals: fuel, electricity, telephone.
_PER_UNIT = regex.compile(r"\s?(?:/|per\s|pro\s)\s?(?:l|lit(?:re|er)|kwh|gal|gallon|min|minute|km|g|ml)(?!\w)", regex.I)
_FRACTION = regex.compile(r"\p{No}")
_UNIT = regex.compile(r"(?:mm|cm|m|ml|cl|l|kg|g|gr|mg|oz|lbs?)(?!\w)", regex.I)
# What follows a number that is not the first part of another statement.
_CLEAR = regex.compile(
    r"\s*(?:$|[.,](?!\d)|[;:!?)\]|<•·](?=\s|$)|[-–—]\s|/(?!\d)"
    r"|(?:and|or|now|was|instead|per|each|incl|excl|inc|only|plus|from|to|for|with|in|at)\b)",
    regex.I,
)
_COUNTED = regex.compile(
    r"%|x\d|[\s-]?(?:(?:mm|cm|m|km|ft|feet|yds?|ml|cl|dl|l|litres?|liters?|fl|oz|lbs?|kg|g|gr|grams?|mg|gal|pt|pints?|w|"
    r"gb|tb|ct|count|pk|packs?|pcs?|pieces?|pairs?|sheets?|rolls?|tablets?|caps|capsules?|bags|cans?|bottles?|"
    r"servings?|loads?|units?|ply|days?)(?!\w)|[\"”″])",
    regex.I,
)
_COUNT_BEFORE = regex.compile(
    r"(?:(?<!\w)(?:of|size|model|no\.?|nr\.?|type|gr\.?|age)\s|(?:(?<!\p{L})x|[×/])\s?)$", regex.I
)
_NEXT_NUMBER = regex.compile(r"\s?\d")
_ANY_SPACE = regex.compile(f"[{_SPACES}]")
_UNCLEAR_GROUP = regex.compile(r"\d{3}[.,'’]")
_GROUP, _LAST_GROUP = regex.compile(r"\d{3}"), regex.compile(r"\d{3}(?:[.,]\d{1,2})?")


@dataclass(frozen=True)
class Price:
    """A price in a text, at `text[start:stop]`: an amount, and an ISO 4217 code or "kr" for a crown of any country."""

    amount: float
    currency: str
    start: int
    stop: int


def prices(text: str) -> Iterator[Price]:
    """The prices of a text, in order; both ends of a range.

    A `$` alone is USD and a `¥` JPY, but CNY in a Chinese text. Signs of other dollars (A$, C$, NZ$, HK$, S$, R$ …) and
    a code after the number ("$25 AUD") say which; one that is not known ("Z$5") is no price. Nor is "£5m", which may be
    millions or a metre.

    >>> [(one.amount, one.currency) for one in prices("was €1.250,00, A$25 to £1.5k, 10–15 zł")]
    [(1250.0, 'EUR'), (25.0, 'AUD'), (1500.0, 'GBP'), (10.0, 'PLN'), (15.0, 'PLN')]
    """
    if not _HINT.search(text):
        return
    place = 0
    while found := _CANDIDATE.search(text, place):
        known = _after_sign(text, found) if found.start("sign") < found.start("run") else _before_sign(text, found)
        place = known[-1].stop if known else found.end("run")
        place += text[place : place + 1].isspace()
        for one in known:
            if math.isfinite(one.amount):
                yield replace(one, currency="CNY") if _is_yuan(text, one) else one


def _is_yuan(text: str, price: Price) -> bool:
    """Whether a ¥ stands in a Chinese text: Han characters, but neither kana nor the sign of the yen."""
    if price.currency != "JPY" or text.isascii() or not regex.search("[¥￥]", text[price.start : price.stop]):
        return False
    return bool(regex.search(r"\p{Han}", text)) and not regex.search(r"[\p{Hiragana}\p{Katakana}円]|日元|JPY", text)


def read_number(run: str, currency: str) -> float | None:
    """The amount that the digits of a price mean; None if they mean none, or several.

    >>> [read_number(run, "EUR") for run in ("1.250,00", "1 250", "1.250", "1'250.5", "1.25.00")]
    [1250.0, 1250.0, 1250.0, 1250.5, None]
    >>> read_number("1.250", "GBP"), read_number("1,25,000", "INR"), read_number("0.125", "USD")
    (None, 125000.0, 0.125)
    """
    parts = regex.split(r"\D", run)
    marks = [" " if mark in _SPACES else "'" if mark in "'’" else mark for mark in regex.findall(r"\D", run)]
    decimals = ""
    if marks and marks[-1] in ".," and marks.count(marks[-1]) == 1:
        if len(marks) == 1 and len(parts[1]) == 3 and 1 <= len(parts[0]) <= 3 and parts[0][0] != "0":
            if marks[0] == "." and currency in _DECIMAL_POINT:
                return None
        elif marks[-1] == "," and len(parts[-1]) > 3:
            return None
        else:
            decimals = parts.pop()
            marks.pop()
    if marks and not _are_groups(parts, marks):
        return None
    try:
        return float(f"{''.join(parts)}.{decimals}")
    except ValueError:  # a digit such as ² is none here
        return None


def _are_groups(parts: list[str], marks: list[str]) -> bool:
    if len(set(marks)) > 1 or not regex.fullmatch(r"[1-9]\d{0,2}", parts[0]) or len(parts[-1]) != 3:
        return False
    inner = {len(part) for part in parts[1:-1]}
    return inner <= {3} or (inner == {2} and marks[0] == "," and len(parts[0]) <= 2)


def _after_sign(text: str, found: regex.Match[str]) -> list[Price]:
    """The price, or both ends of a range, of a sign and a number; none if it cannot be told."""
    currency, first = _currency(found["sign"]), found.start("run")
    run = _leading_number(text, found)
    amount = read_number(run, currency)
    stop = first + len(run)
    grouped = amount is not None and amount >= 1000 and "," in run and "." not in run
    if _is_per_unit(text, run, stop):
        return []
    if amount is None or _UNCLEAR_SCALE.match(text, stop) or _FRACTION.match(text, stop):
        return []
    if grouped and _UNIT.match(text, stop):  # "£5,100g"
        return []
    upper = _UPPER.match(text, stop)
    high = read_number(upper["run"], currency) if upper and _CLEAR.match(text, upper.end()) else None
    if upper and high is not None and high > amount:
        factor = _factor(upper["scale"])
        low = Price(amount * factor, currency, found.start(), stop)
        return _with_code(text, [low, Price(high * factor, currency, upper.start("run"), upper.end())])
    tail = _TAIL.match(text, stop)
    scale, stop = (tail["scale"], tail.end()) if tail else (None, stop)
    return _with_code(text, [Price(amount * _factor(scale), currency, found.start(), stop)])


def _before_sign(text: str, found: regex.Match[str]) -> list[Price]:
    """As `_after_sign`, of a number and a sign."""
    currency = _currency(found["sign"])
    run = _trailing_number(found["run"])
    whole = len(run) == len(found["run"])
    if found["sign"] == "$" and run.isdigit() and text.count("$") > 1:
        return []  # mathematics: $4\\times 4$
    start, stop = found.end("run") - len(run), found.end()
    if _COUNT_BEFORE.search(text, max(0, start - 8), start) and (
        _ANY_SPACE.search(run) or _NEXT_NUMBER.match(text, stop)
    ):
        return []  # "set of 2 500 €", "pack of 6 EUR 12"
    amount, factor = read_number(run, currency), _factor(found["scale"])
    if amount is None or _is_per_unit(text, run, stop):
        return []
    low = read_number(found["low"], currency) if found["low"] and whole else None
    cents = _CENTS.match(text, stop) if found["sign"] == "€" and run.isdigit() else None
    if cents:  # 12€50
        amount, stop = amount + int(cents[0]) / 100, cents.end()
    known = [] if low is None or low >= amount else [Price(low * factor, currency, *found.span("low"))]
    return _with_code(text, [*known, Price(amount * factor, currency, start, stop)])


def _is_per_unit(text: str, run: str, stop: int) -> bool:
    """Whether a number with one separator before three digits is the price of a unit: "1.659 €/l" has decimals."""
    return bool(regex.fullmatch(r"\d{1,3}[.,]\d{3}", run) and _PER_UNIT.match(text, stop))


def _with_code(text: str, known: list[Price]) -> list[Price]:
    """The prices in the currency of the code after them, if it is one that their sign may mean."""
    last = known[-1]
    code = _TRAILING_CODE.match(text, last.stop)
    if not code or code["code"] not in _TRAILING.get(last.currency, (last.currency,)):
        return known
    known[-1] = replace(last, stop=code.end())
    return [replace(one, currency=_currency(code["code"])) for one in known]


def _leading_number(text: str, found: regex.Match[str]) -> str:
    """The part of a run of digits after a sign that is the price; "" if it cannot be told."""
    run: str = found["run"]
    pieces = _ANY_SPACE.split(run)
    whole = 1
    if regex.fullmatch(r"[1-9]\d{0,2}", pieces[0]):
        while whole < len(pieces) and pieces[whole - 1].isdigit() and _LAST_GROUP.fullmatch(pieces[whole]):
            whole += 1
    if whole < len(pieces) and _UNCLEAR_GROUP.match(pieces[whole]):
        return ""
    grouped = run[: len(" ".join(pieces[:whole]))]
    stop = found.start("run") + len(grouped)
    if whole == 1 or not pieces[whole - 1].isdigit() or _CLEAR.match(text, stop):
        return grouped
    if _COUNTED.match(text, stop):
        return pieces[0] if whole == 2 else ""
    return grouped if " " not in grouped else ""


def _trailing_number(run: str) -> str:
    """The part of a run of digits before a sign that is the price: "1 250" of "3 1 250"."""
    pieces = _ANY_SPACE.split(run)
    first = len(pieces) - 1
    if _LAST_GROUP.fullmatch(pieces[first]):
        while first and _GROUP.fullmatch(pieces[first - 1]):
            first -= 1
        if first and regex.fullmatch(r"\d{1,2}", pieces[first - 1]):
            first -= 1
    return run[len(run) - len(" ".join(pieces[first:])) :]


def _factor(scale: str | None) -> float:
    return _SCALES[scale.strip().lower()] if scale else 1.0


def _currency(sign: str) -> str:
    code = _CODE.match(sign)
    if code:
        return _RENAMED.get(code[0].upper(), code[0].upper())
    if sign[-1] == "$" and len(sign) > 1:
        return _DOLLARS[sign[:-1].strip()]
    word = sign.lower()
    return _SIGNS.get(sign) or _WORDS_BEFORE.get(word) or _WORDS_AFTER[word]
