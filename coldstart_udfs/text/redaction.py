"""Replacing private data in texts by their kind: `<EMAIL>`, `<PHONE>`, `<CARD>` and others.

Numbers are recognised with libraries that know numbering plans and check digits (phonenumbers, python-stdnum) and by
the words before them. A number that may be an order, a size or a date is kept if nothing else marks it as private.
`make bench-text` measures recall and precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import phonenumbers
import regex
from stdnum import iban, luhn
from stdnum.us import ssn

Span = tuple[int, int, str]

# Private data always contain one of these; most product texts do not.
_HINT = regex.compile(
    r"[@\d=]|\bdot\b|[(\[{]\s?(?:at|dot)\s?[)\]}]|pass|pwd|token|secret|bearer|contrase|key\b|\bpin\b|"
    r"\b(?:sk|gh|xox|glpat|akia|aiza|eyj)",
    regex.I,
)

_DOT = r"(?:\.|\s?[(\[{]\s?(?:dot|\.)\s?[)\]}]\s?|\sdot\s)"
_EMAIL = regex.compile(r"(?<![\w.+%-])[\w][\w.+%'-]{0,63}@(?:[\p{L}\d-]{1,63}\.)+\p{L}{2,24}\b")
# "jo (at) example.com", "jo at example dot com": at least one of "at" and "dot" must be in a form not used in prose.
_DISGUISED = regex.compile(
    rf"\b[\w][\w.+-]{{0,63}}(?:\s?[(\[{{]\s?(?:at|@)\s?[)\]}}]\s?(?:[\p{{L}}\d-]{{1,63}}{_DOT})+"
    rf"|\s(?:at|@)\s(?:[\p{{L}}\d-]{{1,63}}(?:\s?[(\[{{]\s?(?:dot|\.)\s?[)\]}}]\s?|\sdot\s))+)\p{{L}}{{2,24}}\b",
    regex.I,
)

_PARAMETERS = (
    r"(?:access_?|auth_?|refresh_?|id_?|session_?|csrf_?)?token|api[_-]?key|apikey|access_?key|secret(?:_?key)?|client_?secret|"
    r"password|passwd|passwort|pwd|signature|sig|auth|session_?id|sessionid|sid|otp|key|code"
)
_URL_USER = regex.compile(r"\b[a-z][a-z0-9+.-]{1,20}://([^\s/@:?#]{1,128}:[^\s/@?#]{1,128})@", regex.I)
_URL_SECRET = regex.compile(rf"[?&#;](?:{_PARAMETERS})=([^\s&#;\"'<>)\]]{{3,}})", regex.I)
# "my password is hunter2", "PIN: 4711". The word that follows must not be a common word in questions about passwords.
_SAID_SECRET = regex.compile(
    r"\b(?:password|passwd|passwort|pass ?code|pass ?phrase|pwd|mot de passe|contrase[nñ]a|api[ _-]?key|secret key|"
    r"access token|bearer|pin)\b(?:\s+(?:is|was|ist|lautet|est|es)\b\s*:?|\s*[:=]|(?<=bearer))\s*[\"'“„«]?"
    r"(?!(?:not|no|too|so|very|wrong|right|incorrect|expired|required|needed|the|a|an|my|being|still|always|never|"
    r"what|why|how|that|this|in|on|for|to|case|case-sensitive|weak|strong|invalid|correct|lost|forgotten|reset|"
    r"nicht|falsch|only|just|now|is)\b)([^\s\"'”“»,;<>]{3,}?)(?=[\"'”“»,;<>]|[.!?]?(?:\s|$))",
    regex.I,
)
_TOKEN = regex.compile(
    r"(?<![\w-])(?:sk-(?:[a-z]+-)?[A-Za-z0-9_-]{8,}|sk_(?:live|test)_[A-Za-z0-9]{8,}|gh[pousr]_[A-Za-z0-9]{8,}|github_pat_\w{8,}|"
    r"glpat-[\w-]{8,}|xox[abprs]-[\w-]{8,}|AKIA[A-Z0-9]{12,}|AIza[\w-]{20,}|eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*)"
)

_CARD = regex.compile(r"(?<![\w.,-])[3-6]\d(?:[ -]?\d){11,17}(?![\w-]|[.,]\d)")
_IBAN = regex.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{2,4}){3,8}(?:[ -]?[A-Z0-9]{1,3})?(?!\w)", regex.I)
_SSN = regex.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_SORT_CODE = regex.compile(r"\bsort(?:ing)?[ -]?code\b[^\d\n]{0,12}(\d{2}[- ]?\d{2}[- ]?\d{2})(?!\d)", regex.I)
_ACCOUNT = regex.compile(
    r"\b(?:a/c|acc(?:oun)?t|bank account|account|konto|kontonummer|kto|compte|cuenta|conto|routing|aba|"
    r"social security|ssn|sozialversicherungsnummer|national insurance|iban|bic|blz)\b\.?"
    r"[^\d\n]{0,24}?((?:\d[ -]?){5,16}\d)(?!\d)",
    regex.I,
)

_PHONE = regex.compile(r"(?<![\w.,/=#-])(?:\+|00)?\(?\d(?:[\s().\-/–]{0,3}\d){6,14}(?![\w-]|[.,]\d)")
_PHONE_WORD = regex.compile(
    r"(?<![A-Za-z])(?:phone|fone|telefon\w*|teléfono|téléphone|numero|número|numéro|tel|cell|mobile?|mob|handy|"
    r"whats ?app|call|ring|text|"
    r"sms|fax|contact|reach|dial|ruf\w*|appel\w*|llám\w*|电话|手机|致电|फोन)\b\.?[^\d\n]{0,30}$",
    regex.I,
)
_ORDER_WORD = regex.compile(r"\b(?:order|tracking|invoice|isbn|parcel|shipment)\b[^\d\n]{0,20}$", regex.I)
_NOT_PHONE_WORD = regex.compile(
    r"(?:order|tracking|invoice|ref(?:erence)?|ticket|case|isbn|sku|ean|upc|item|article|part|serial|model|parcel|"
    r"shipment|bestell\w*|sendung\w*|commande|pedido|doi|arxiv|version|id|no|nr|number)\b[^\d\n]{0,16}$",
    regex.I,
)
_DATE = regex.compile(r"(?:19|20)\d\d[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:19|20)?\d\d(?!\d)")
# The regions whose numbering plans are tried, in this order.
_REGIONS = ("GB", "US", "DE", "FR", "IN", "CN", "ES", "IT", "NL", "AU", "PL", "BR")

_STREET_END = (
    r"street|st|road|rd|avenue|ave|lane|ln|drive|dr|close|court|ct|way|place|pl|square|sq|terrace|crescent|cres|"
    r"boulevard|blvd|highway|hwy|parkway|pkwy|gardens|mews|grove|row|hill|walk|circle|cir|trail"
)
_SURE_ENDS = {"street", "road", "rd", "avenue", "ave", "lane", "crescent", "boulevard", "blvd", "terrace"}
_LIVES = regex.compile(
    r"\b(?:live|living|address|adresse|deliver|delivered|ship|send|post|at|to|in|home|house|moved)\b[^\d\n]{0,12}$",
    regex.I,
)
_HOUSE = r"\d{1,5}[a-z]?(?:\s?[-/]\s?\d{1,4}[a-z]?)?"
_UK_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}"
_TOWN = r"(?:,?\s{1,2}\p{Lu}[\p{L}'’.-]{1,30}){1,3}"
_AFTER_STREET = (
    rf"(?:,?\s{{1,2}}(?:apt|apartment|flat|unit|suite|ste|floor)\.?\s?\#?\w{{1,5}})?"
    rf"(?:(?:,\s?|\s)(?:{_UK_POSTCODE}|\d{{4,6}}(?:{_TOWN})?)\b"
    rf"|{_TOWN},?\s(?:{_UK_POSTCODE}|[A-Z]{{2}}\s\d{{5}}(?:-\d{{4}})?)\b)?"
)
# 12 rue de la Paix, 75002 Paris
_FRENCH = regex.compile(
    rf"(?<![\w.,-]){_HOUSE},?\s(?:bis\s|ter\s)?(?i:rue|avenue|boulevard|bd|place|chemin|impasse|quai|allée)\s"
    rf"(?:(?:de|du|des|la|le|les|l['’]|d['’])\s?){{0,2}}[\p{{L}}][\p{{L}}'’-]{{0,30}}(?:\s\p{{Lu}}[\p{{L}}'’-]{{0,30}})?(?:,?\s\d{{5}}(?:{_TOWN})?)?"
)
_ADDRESSES = (
    # 12 Baker Street, 221B Old Mill Rd.; the name may be in any case, so the end must be a whole word.
    regex.compile(
        rf"(?<![\w.,£$€-])(?:(?:flat|apt|apartment|unit|suite)\.?\s\w{{1,5}},?\s|(?i:plot|house|door)\s(?i:no\.?\s)?)?{_HOUSE},?\s(?P<street>(?:\p{{L}}[\p{{L}}'’.-]{{0,30}}\s){{1,3}}?"
        rf"(?P<end>(?i:{_STREET_END})))\b\.?(?P<rest>{_AFTER_STREET})"
    ),
    # Hauptstraße 5, Musterweg 12a, 10115 Berlin
    regex.compile(
        rf"\b\p{{Lu}}[\p{{L}}-]{{0,40}}(?:stra(?:ß|ss)e|str\.|weg|gasse|platz|allee|ufer|damm)\s{_HOUSE}\b(?:,?\s(?:D-)?\d{{5}}(?:{_TOWN})?)?"
        rf"|\b\p{{Lu}}[\p{{L}}-]{{0,40}}\s(?:Stra(?:ß|ss)e|Str\.|Weg|Platz|Allee)\s{_HOUSE}\b(?:,?\s(?:D-)?\d{{5}}(?:{_TOWN})?)?"
    ),
    _FRENCH,
    # Calle Mayor 5, Via Roma 12, ul. Długa 3
    regex.compile(
        rf"\b(?i:calle|c/|avenida|avda\.?|plaza|via|viale|piazza|corso|rua|ul\.|ulica)\s(?:\p{{L}}[\p{{L}}'’.-]{{0,30}}\s?){{1,4}}?,?\s?"
        rf"(?:n[.º°]\s?)?{_HOUSE}\b(?:,?\s(?:\d{{2}}-\d{{3}}|\d{{4,5}})(?:{_TOWN})?)?"
    ),
    regex.compile(
        r"\b(?:p\.?\s?o\.?\s?box|post(?:fach| office box)|bo[iî]te postale|apartado)\s?\#?\s?\d[\d ]{0,6}\d?\b", regex.I
    ),
    regex.compile(rf"(?<![\w-])(?:\p{{Lu}}[\p{{L}}'’-]{{1,30}},?\s)?{_UK_POSTCODE}(?![\w-])"),
    # Springfield, IL 62704; 10115 Berlin only after a word for an address.
    regex.compile(r"(?<!\w)(?:\p{Lu}[\p{L}'’.-]{1,30}\s?){1,3},\s?[A-Z]{2}\s\d{5}(?:-\d{4})?\b"),
    regex.compile(r"(?<=\b(?:live|living|wohne|wohnen|address|adresse|anschrift|postcode|plz|zip|habite|vivo)\b[^\d\n]{0,16})"
                  rf"\d{{5}}(?:{_TOWN})?\b", regex.I),
)  # fmt: skip


def redact(text: str) -> str:
    """The text with private data replaced by `<EMAIL>`, `<PHONE>`, `<CARD>`, `<ACCOUNT>`, `<ADDRESS>`, `<SECRET>`.

    E-mail addresses (disguised ones too); phone numbers; payment cards whose check digit is right; IBANs, bank
    accounts and social security numbers; streets with a number, post boxes, postcodes with a town; passwords, keys and
    tokens, also inside URLs (the rest of the URL is kept). Redacting a redacted text changes nothing.

    >>> redact("Mail jo@example.com or ring 020 7946 0958, card 4111 1111 1111 1111")
    'Mail <EMAIL> or ring <PHONE>, card <CARD>'
    """
    # Repeated, because the match of one telephone number may include the first digits of the next.
    while _HINT.search(text) and (spans := private_spans(text)):
        parts, end = [], 0
        for start, stop, kind in spans:
            parts += [text[end:start], f"<{kind}>"]
            end = stop
        text = "".join(parts) + text[end:]
    return text


def private_spans(text: str) -> list[Span]:
    """The slices of private data, as (start, stop, kind), in order and without overlap."""
    spans: list[Span] = []
    taken = bytearray(len(text))
    for find in _FINDERS:
        for start, stop, kind in find(text):
            if stop > start and taken.find(1, start, stop) < 0:
                spans.append((start, stop, kind))
                taken[start:stop] = b"\1" * (stop - start)
    return sorted(spans)


def _secrets(text: str) -> Iterator[Span]:
    for pattern in (_URL_USER, _URL_SECRET, _SAID_SECRET):
        for found in pattern.finditer(text):
            if found[1] != "<SECRET>":
                yield *found.span(1), "SECRET"
    for found in _TOKEN.finditer(text):
        yield *found.span(), "SECRET"


def _emails(text: str) -> Iterator[Span]:
    if "@" in text:
        for found in _EMAIL.finditer(text):
            yield *found.span(), "EMAIL"
    for found in _DISGUISED.finditer(text):
        yield *found.span(), "EMAIL"


def _accounts(text: str) -> Iterator[Span]:
    for found in _IBAN.finditer(text):
        # The pattern may run on into the next word: the longest beginning that checks out is the number.
        for stop in range(found.end(), found.start() + 14, -1):
            ends = stop == len(text) or not text[stop].isalnum()
            if ends and iban.is_valid(text[found.start() : stop]):
                yield found.start(), stop, "ACCOUNT"
                break
    for found in _CARD.finditer(text):
        digits = regex.sub(r"\D", "", found[0])
        if luhn.is_valid(digits) and len(set(digits)) > 1 and not _ORDER_WORD.search(_before(text, found.start())):
            yield *found.span(), "CARD"
    for pattern in (_SORT_CODE, _ACCOUNT):
        for found in pattern.finditer(text):
            yield *found.span(1), "ACCOUNT"
    for found in _SSN.finditer(text):
        if ssn.is_valid(found[0]):
            yield *found.span(), "ACCOUNT"


def _phones(text: str) -> Iterator[Span]:
    for found in _PHONE.finditer(text):
        number, before = found[0], _before(text, found.start())
        if _DATE.match(number.strip("()")) or not _is_phone(number, before):
            continue
        start, stop = found.span()
        yield start, stop, "PHONE"


def _is_phone(number: str, before: str) -> bool:
    digits = sum(character.isdigit() for character in number)
    said = bool(_PHONE_WORD.search(before))
    if number.startswith(("+", "00")):
        return digits >= 8 and _possible(number, None)
    if said and not _ORDER_WORD.search(before):
        return any(_possible(number, region) for region in _REGIONS)
    if _NOT_PHONE_WORD.search(before):
        return False
    # Without such a word, the number must be grouped or begin with the trunk prefix 0, and be in some plan.
    grouped = bool(regex.search(r"\d[\s().\-/–]+\d", number))
    if not (grouped or number.startswith("0")) or digits < 9:
        return False
    if regex.fullmatch(r"(?:1[\s.-])?\(?[2-9]\d{2}\)?[\s.-]*\d{3}[\s.-]\d{4}", number):
        return True  # the North American form; plans do not contain numbers reserved for fiction
    return number.lstrip("(").startswith("0") and any(
        _possible(number, region) for region in ("GB", "DE", "FR", "IN", "NL", "AU", "IT")
    ) and not regex.search(r"\d\s{2,}\d", number)


def _possible(number: str, region: str | None) -> bool:
    if region is None and number.startswith("00"):
        number = "+" + number[2:]
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def _addresses(text: str) -> Iterator[Span]:
    for pattern in _ADDRESSES:
        for found in pattern.finditer(text):
            if pattern is _ADDRESSES[0] and not _is_street(found, text):
                continue
            # A code before "PLACE SETTING WHITE" is not the number of a house in France, unless a postcode follows.
            if pattern is _FRENCH and found[0].isupper() and not regex.search(r"\d{5}", found[0][5:]):
                continue
            yield *found.span(), "ADDRESS"


def _is_street(found: regex.Match[str], text: str) -> bool:
    """Whether a match like "3 PIECE PLACE" is a street: an address word, a postcode or a proper name shows it."""
    if found["rest"] or _LIVES.search(_before(text, found.start())):
        return True
    if found["street"].isupper():
        return False
    return found["end"].lower() in _SURE_ENDS or found["end"][0].isupper()


def _before(text: str, place: int) -> str:
    return text[max(0, place - 40) : place]


# The most reliable first: later finders may not overlap the spans of earlier ones.
_FINDERS: tuple[Callable[[str], Iterator[Span]], ...] = (_secrets, _emails, _accounts, _phones, _addresses)
