"""Addresses as Europe and America write them: a street with a number, a post box, a postcode with a town."""

from __future__ import annotations

from collections.abc import Iterator

import regex

from coldstart_udfs.text.redaction.scripts import CJK, Span, before, has_any

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
# No house has a number of centimetres or pieces.
_NO_UNIT = r"(?![-.,]?\s?(?:[ckm]?m|[mcd]?l|[km]?g|[x×%€$£]|stück|stk|teil\w*|pcs|uds|pi[eè]ces)(?!\p{L})|-\p{L}|[.,]\d)"
_UK_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}"
_TOWN_NAME = rf"\p{{Lu}}[^\W\d_{CJK}][^\W\d_{CJK}'’.-]{{0,29}}(?:[-'’]\p{{Lu}}?[\p{{Latin}}]{{1,20}}){{0,3}}"
_TOWN = rf"(?:,?\s{{1,2}}{_TOWN_NAME}){{1,3}}"
_LONG_TOWN = rf"\s{{1,2}}{_TOWN_NAME}(?:\s(?:(?:am|an der|im|de|del|la|las|los|sur|sous|en|le|les)\s)*{_TOWN_NAME}){{0,2}}"
_FLAT = r"(?:flat|apt|apartment|unit|suite)\.?\s\w{1,5},?\s"
_AFTER_STREET = (
    rf"(?:,?\s{{1,2}}(?:apt|apartment|flat|unit|suite|ste|floor)\.?\s?\#?\w{{1,5}})?"
    rf"(?:(?:,\s?|\s)(?:{_UK_POSTCODE}|\d{{4,6}}(?:{_TOWN})?)\b"
    rf"|{_TOWN},?\s(?:{_UK_POSTCODE}|[A-Z]{{2}}\s\d{{5}}(?:-\d{{4}})?|(?:NSW|VIC|QLD|SA|WA|TAS|ACT|NT)\s\d{{4}})\b)?"
)
# 12 Baker Street, 221B Old Mill Rd.; the name may be in any case, so the end must be a whole word.
_ENGLISH = regex.compile(
    rf"(?<![\w.,£$€-])(?:(?i:{_FLAT})|(?i:plot|house|door)\s(?i:no\.?\s)?)?{_HOUSE},?\s"
    rf"(?P<street>(?!(?:way|on|in|of|per|for|by)\b)(?:\p{{L}}[\p{{L}}'’.-]{{0,30}}\s){{1,3}}?(?P<end>(?i:{_STREET_END})))\b\.?(?P<rest>{_AFTER_STREET})"
)
_OF = r"(?:(?:de|du|des|la|le|les)\s|[ld]['’]){0,2}"
# 12 rue de la Paix, 75002 Paris; types that are common words need a name with a capital.
_FRENCH = regex.compile(
    rf"(?<![\w.,-]){_HOUSE}(?:\s(?:bis|ter|quater))?,?\s(?:(?i:rue|r\.|avenue|av\.|boulevard|bd|impasse|allée)\s(?=\p{{L}})|"
    rf"(?i:place|chemin|quai|cours|route|square|faubourg|passage)\s(?={_OF}\p{{Lu}}))"
    rf"{_OF}\p{{L}}[\p{{L}}'’-]{{0,30}}(?:\s(?:(?:de|du|des|la|le)\s)?\p{{Lu}}[\p{{L}}'’-]{{0,30}}){{0,3}}"
    rf"(?:,?\s\d{{5}}(?:{_LONG_TOWN})?)?"
)
_GERMAN_END = r"(?:stra(?:ß|ss)e|str\.|gasse|allee|chaussee)"
# Ends of other words too: they need a postcode, or a word for an address before them.
_GERMAN_UNSURE = r"(?:weg|platz|ufer|damm|ring|steig|-(?:Weg|Platz|Ufer|Damm|Ring|Steig))"
_GERMAN_POSTCODE = rf"(?:,?\s(?:D-|A-|CH-)?\d{{5}}(?:{_LONG_TOWN})?|,\s(?:A-|CH-)?\d{{4}}{_LONG_TOWN})"
_GERMAN_NAME = r"\p{Lu}[\p{L}.-]{0,40}(?:\s(?:(?:der|des|den|dem|am|im|zum|zur)\s)?\p{Lu}[\p{L}.-]{1,40}){0,2}"
_GERMAN_WORD = r"\b(?i:wohn|adresse|anschrift|liefer|schick|send|bin|bitte)\p{L}*[^\d\n]{0,24}(?<![\w-])"
_NAME = r"(?:(?:de|del|de la|de las|de los|della|do|da|dos|la|las|los|el)\s)?\p{Lu}[\p{L}'’.-]{0,30}(?:\s\p{L}[\p{L}'’.-]{0,30}){0,4}?"
_WORDS = r"\p{L}[\p{L}'’.-]{0,30}(?:\s\p{L}[\p{L}'’.-]{0,30}){0,4}?"
_SPANISH_STREET = (
    rf"(?:(?i:calle|carrer|rua|rúa|ul\.|ulica)\s{_WORDS}|(?i:c/)\s?{_WORDS}"
    rf"|(?i:avenida|avda\.?|av\.|travesera|travesía|glorieta|viale|piazza|corso)\s{_NAME})"
)
# These are other things too: they need a postcode, or the end of the phrase after the number.
_SPANISH_UNSURE = (
    r"(?i:paseo|p\.º|plaza|pza\.|via|camino|ronda|carretera|ctra\.|cuesta|pasaje|carrera|cra\.|urbanización|urb\.|praça|travessa|"
    rf"largo|vicolo|strada)\s{_NAME}"
)
_SPANISH_HINTS = (
    "call", "c/", "av", "paseo", "p.º", "plaza", "pza.", "traves", "rúa", "carrer", "glorieta", "vi", "piazza", "corso", "rua", "ul",
    "camino", "ronda", "ctra.", "cuesta", "pasaje", "cra.", "urban", "praça", "largo", "strada",
)  # fmt: skip
_NUMBER = r"(?:n(?:[.º°]{1,2}|úm\.?)\s?)?"
_COLONIA = rf",\s(?:Col\.|Colonia|Urb\.)\s{_WORDS}"
_SPANISH_POSTCODE = rf",?\s(?:CP\s)?(?:\d{{2}}-\d{{3}}|[A-Z]?\d{{4,5}})(?:{_LONG_TOWN})?"
_SPANISH_DOOR = r"(?:,?\s(?:\d{1,2}\s?[º°ª](?:\s?(?:[A-Z]|\d{1,2}[ªa]|izquierda|derecha|izq\.?|dcha\.?))?|bajo(?:\s[A-Z])?|(?i:piso|planta|bloque|portal|escalera|esc\.?)\s\w{1,3})){0,2}"
# Each with what stands in every text that it matches: words in lower case, or a short pattern.
_ADDRESSES: tuple[tuple[tuple[str, ...] | regex.Pattern[str], regex.Pattern[str]], ...] = (
    (regex.compile(r"\d[a-z]?,?\s\p{L}", regex.I), _ENGLISH),
    # Hauptstraße 5, Mariahilfer Straße 88, Straße des Friedens 14, Musterweg 12a, 10115 Berlin
    (("stra", "str.", "weg", "gasse", "platz", "allee", "ufer", "damm", "ring", "steig", "chaussee"), regex.compile(
        rf"(?<![\w-])(?:(?:D-)?\d{{5}}{_LONG_TOWN},\s)?(?:\p{{Lu}}[\p{{L}}.-]{{0,40}}(?:{_GERMAN_END}|\s(?:Stra(?:ß|ss)e|Str\.|Allee))"
        rf"|(?:Straße|Platz|Allee)\s(?:der|des)\s(?:\d{{1,2}}\.\s)?\p{{Lu}}[\p{{L}}-]{{1,30}})"
        rf"\s?(?:Nr\.\s?)?{_HOUSE}\b{_NO_UNIT}(?:{_GERMAN_POSTCODE})?"
        rf"|(?<![\w-])\p{{Lu}}[\p{{L}}-]{{0,40}}(?:{_GERMAN_UNSURE}|\s(?:Weg|Platz))\s?(?:Nr\.\s?)?{_HOUSE}\b{_GERMAN_POSTCODE}"
        rf"|(?<={_GERMAN_WORD})\p{{Lu}}[\p{{L}}-]{{0,40}}(?:{_GERMAN_UNSURE}|\s(?:Weg|Platz))\s{_HOUSE}\b{_NO_UNIT}"
    )),
    # After a word for an address: Am Ring 4a
    (("wohn", "adresse", "anschrift", "liefer", "schick", "send"), regex.compile(
        rf"(?<={_GERMAN_WORD})(?:Am|Im|An der|Auf der|Auf dem|Zum|Zur|Beim|Hinter der|In der)\s"
        rf"\p{{Lu}}[\p{{L}}-]{{1,40}}(?:\s\p{{Lu}}[\p{{L}}-]{{1,40}})?\s{_HOUSE}\b{_NO_UNIT}(?:{_GERMAN_POSTCODE})?"
    )),
    (("rue", "r.", "av", "boulevard", "bd", "impasse", "allée", "place", "chemin", "quai", "cours", "route", "square",
      "faubourg", "passage"), _FRENCH),
    # rue Neuve 45, 1000 Bruxelles; Rue de la Paix 12, 75002 Paris
    (("rue", "avenue", "boulevard", "chaussée", "place"), regex.compile(
        rf"(?<!\w)(?i:rue|avenue|boulevard|chaussée|place)\s{_OF}\p{{Lu}}[\p{{L}}'’-]{{1,30}}(?:\s{_OF}\p{{Lu}}[\p{{L}}'’-]{{0,30}}){{0,3}}"
        rf",?\s{_HOUSE},?\s(?:[BFL]-)?\d{{4,5}}{_LONG_TOWN}"
    )),
    # Calle Mayor 5, Via Roma 12, ul. Długa 3; C/ Almendro 12, 3º B, 41003 Sevilla
    (_SPANISH_HINTS, regex.compile(
        rf"(?<!\w){_SPANISH_STREET},?\s?{_NUMBER}{_HOUSE}\b{_NO_UNIT}{_SPANISH_DOOR}(?:{_COLONIA})?(?:{_SPANISH_POSTCODE})?"
        rf"|(?<!\w){_SPANISH_UNSURE},?\s?{_NUMBER}{_HOUSE}\b{_SPANISH_DOOR}(?:(?:{_COLONIA})?{_SPANISH_POSTCODE}|(?=\s*(?:[.,;)!?](?!\d)|$)))"
    )),
    # Carrera 7 # 72-41, Bogotá
    (("#", "no", "n°", "nº"), regex.compile(
        rf"(?<!\w)(?i:carrera|calle|cra\.?|cl\.?|diagonal|transversal)\s\d{{1,3}}\s?[A-Z]?\s?(?:\#|(?i:n[o.º°]{{1,2}}))\s?\d{{1,3}}[A-Z]?\s?-\s?\d{{1,3}}(?:,{_LONG_TOWN})?"
    )),
    # Unter den Linden 77, 10117 Berlin
    (regex.compile(r"\d[a-z]?,?\s(?:D-|A-|CH-)?\d{4,5}\s\p{Lu}"), regex.compile(
        rf"(?<![\w-]){_GERMAN_NAME}\s\d{{1,4}}[a-z]?(?:\s?-\s?\d{{1,4}}[a-z]?)?(?:,?\s(?:D-)?\d{{5}}"
        rf"|,\s(?:A-|CH-)?(?!19|20)[1-9]\d{{3}}(?={_LONG_TOWN}\s*(?:[.,;)!?]|$)))"
        rf"(?!\s(?:Stück|Stk|Teil|Euro|EUR|Paar|Blatt|Seiten|Punkte|Meter|Liter|Watt|Gramm))"
        rf"{_LONG_TOWN}"
    )),
    (("box", "post", "bp", "bo", "apartado"), regex.compile(
        r"\b(?:p\.?\s?o\.?\s?box|post(?:fach| office box)|bo[iî]te postale|(?-i:BP)|apartado(?: de correos)?)\s?\#?\s?\d[\d ]{0,8}(?<=\d)\b"
        rf"(?-i:,\s\d{{5}}{_LONG_TOWN}|{_TOWN},\s[A-Z]{{2}}\s\d{{5}})?", regex.I
    )),
    (regex.compile(r"\d[A-Z]{2}(?![\w-])"), regex.compile(
        rf"(?<![\w-])(?:\p{{Lu}}[\p{{L}}'’-]{{1,30}},?\s)?{_UK_POSTCODE}(?![\w-])"
    )),
    # Springfield, IL 62704; 10115 Berlin only after a word for an address.
    (regex.compile(r",\s?[A-Z]{2}\s\d{5}"), regex.compile(
        r"(?<!\w)(?:\p{Lu}[\p{L}'’.-]{1,30}\s?){1,3},\s?[A-Z]{2}\s\d{5}(?:-\d{4})?\b"
    )),
    (regex.compile(r"\d{5}"), regex.compile(
        r"(?<=\b(?:live|living|wohne|wohnen|address|adresse|anschrift|postcode|plz|zip|habite|vivo)\b[^\d\n]{0,16})"
        rf"\d{{5}}(?:{_TOWN})?\b", regex.I
    )),
)  # fmt: skip


def address_spans(text: str) -> Iterator[Span]:
    """Streets with a number, post boxes, and postcodes with a town."""
    for hint, pattern in _ADDRESSES:
        if not (has_any(text, hint) if isinstance(hint, tuple) else hint.search(text)):
            continue
        for found in pattern.finditer(text):
            if pattern is _ENGLISH and not _is_street(found, text):
                continue
            # A code before "PLACE SETTING WHITE" is not the number of a house in France, unless a postcode follows.
            if pattern is _FRENCH and found[0].isupper() and not regex.search(r"\d{5}", found[0][5:]):
                continue
            yield *found.span(), "ADDRESS"


def _is_street(found: regex.Match[str], text: str) -> bool:
    """Whether a match like "3 PIECE PLACE" is a street: an address word, a postcode or a proper name shows it."""
    if found["rest"] or _LIVES.search(before(text, found.start())):
        return True
    if found["street"].isupper():
        return False
    if found["end"].lower() in _SURE_ENDS:
        return True
    # "5 Star Hotel Drive Belt" is none: the phrase ends with a street.
    return found["end"][0].isupper() and not regex.match(r"\.?\s?[\p{L}\d]", found.string[found.end() :])
