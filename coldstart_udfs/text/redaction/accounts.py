"""Payment cards, bank accounts, wallets, and the numbers by which a state knows a person.

What a check digit proves needs no word beside it, and no word beside it takes that back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import regex
from stdnum import bitcoin, ean, iban, luhn
from stdnum.ar import cuit
from stdnum.be import nn as be_nn
from stdnum.br import cnpj, cpf
from stdnum.ch import ssn as ch_ssn
from stdnum.cl import rut
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.mx import curp, rfc
from stdnum.us import ssn

from coldstart_udfs.text.characters import LETTER, WORD
from coldstart_udfs.text.redaction.scripts import END, START, Span

# Numbers of issuers by their first digits and length: Visa, Mastercard, American Express, Diners, JCB, Discover,
# UnionPay, Maestro, RuPay, Mir.
_CARD_PLAN = regex.compile(
    r"4(?:\d{15}|\d{18})|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|220[0-4]\d{12}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|"
    r"35(?:2[89]|[3-8]\d)\d{12}|6(?:011|4[4-9]\d|5\d\d)\d{12}|(?:62|81)\d{14,17}|(?:50|5[6-8]|6[0137])\d{14,17}"
)
_CARD = regex.compile(rf"(?<![{WORD}.,-])[2-68]\d(?:[ .-]?\d){{11,17}}(?![{WORD}-]|[.,]\d)")
_IBAN = regex.compile(rf"{START}[A-Z]{{2}} ?\d{{2}}(?:[ -]?[A-Z0-9]{{2,4}}){{3,8}}(?:[ -]?[A-Z0-9]{{1,3}})?{END}", regex.I)

# National and tax ids: the form that is proof enough together with the check digit.
_IDS: tuple[tuple[regex.Pattern[str], Callable[[str], bool]], ...] = tuple(
    (regex.compile(rf"(?<![{WORD}.,-])(?:{form})(?![{WORD}-]|[.,]\d)"), valid)
    for form, valid in (
        (r"\d{6} ?(?:19|20)\d{6} ?\d{3}[\dXx]", ric.is_valid),
        (r"[12] ?\d\d ?\d\d ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d", nir.is_valid),
        (r"\d{8}[ -]?[A-Za-z]|\d{2}\.\d{3}\.\d{3}[ -]?[A-Z]", lambda number: dni.is_valid(number.replace(".", ""))),
        (r"[XYZ][ -]?\d{7}[ -]?[A-Z]", nie.is_valid),
        (r"[1-9]\d ?\d{3} ?\d{3} ?\d{3}", idnr.is_valid),
        (r"[A-Z]{6}\d\d[A-EHLMPR-T]\d\d[A-Z]\d{3}[A-Z]", codicefiscale.is_valid),
        (r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z\d]\d", curp.is_valid),
        (r"[A-ZÑ&]{4}\d{6}[A-Z\d]{3}", lambda number: rfc.is_valid(number, validate_check_digits=True)),
        (r"\d{3}\.\d{3}\.\d{3}-\d\d", cpf.is_valid),
        (r"\d\d\.\d{3}\.\d{3}/\d{4}-\d\d", cnpj.is_valid),
        (r"[2-9]\d{3}[ -]\d{4}[ -]\d{4}(?![ -]\d)", aadhaar.is_valid),
        (r"756\.?\d{4}\.?\d{4}\.?\d\d", ch_ssn.is_valid),
        (r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", be_nn.is_valid),
        (r"\d{6}-[1-8]\d{6}", rrn.is_valid),
        (r"(?:20|23|24|27)-\d{8}-\d", cuit.is_valid),
        (r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]", rut.is_valid),
        (r"\d{3}-\d{2}-\d{4}", ssn.is_valid),
    )
)
_WALLET = regex.compile(rf"{START}(?:[13][1-9A-HJ-NP-Za-km-z]{{25,34}}|bc1[02-9ac-hj-np-z]{{11,71}}){END}")
# Ethereum and chains like it; Tron.
_WALLET_FORM = regex.compile(
    rf"{START}(?:0x[0-9a-fA-F]{{40}}|T(?=\w*\d)(?=\w*[a-z])[1-9A-HJ-NP-Za-km-z]{{33}}){END}"
)

_SORT_CODE = regex.compile(r"\bsort(?:ing)?[ -]?code\b[^\d\n]{0,12}(\d{2}[- ]?\d{2}[- ]?\d{2})(?!\d)", regex.I)
_ACCOUNT = regex.compile(
    rf"(?<![{LETTER}])(?:a/c|acc(?:oun)?t|acc|bank account|account|konto(?:nummer|-?nr)?|kto(?:-?nr)?|clabe|cbu|compte(?! à rebours)|cuenta|conto|routing|aba|"
    r"iban|bic|blz|rib|packstation|postnummer)"
    rf"(?![{LETTER}])\.?[^\d\n]{{0,24}}?((?:\d[ -]?){{5,19}}\d)(?!\d)",
    regex.I,
)
_ACCOUNT_CJK = regex.compile(
    r"(?:账号|帐号|账户|賬號|帳號|帳戶|银行卡|銀行卡|(?<!身份证)卡号|卡號|口座|계좌)[^\d\n]{0,8}?(?!1[3-9]\d{9}(?!\d))"
    rf"((?:\d[ -]?){{4,18}}\d)(?![\d{LETTER}])"
)
_POSTAL_SAVINGS = regex.compile(r"記号\s?:?\s?(\d{5})-?\d?\s?(?:番号)?\s?:?\s?(\d{7,8})(?!\d)")

# Ids after their word. A group has a digit, or is the last letter ("AB 12 34 56 C").
_GROUP = r"(?:(?=[A-Z]{0,6}\d)[A-Z\d]{1,18}|[A-Z](?=[ -]\d))"
_ID_VALUE = rf"(?-i:((?:[A-Z]{{1,3}} )?{_GROUP}(?:[ ./-]{_GROUP}){{0,8}}(?:[ -][A-Z](?![A-Za-z]))?))(?![{LETTER}\d])"
_ID_WORD = regex.compile(
    rf"(?:(?<![{LETTER}])(?:pass(?:port|eport|aporte)|pasaporte|passeport|reisepass|passnummer|passaporto|passaporte|"
    r"driv(?:er'?s|ing) licen[cs]e|führerschein|permis de conduire|(?:permiso|carnet|licencia) de conduc\w+|patente di guida|"
    r"national insurance|ni n(?:umber|o\.?)|nino|ssn|social security|identity card|id card|personalausweis|"
    r"ausweis|carte d'identité|carta d'identità|dni|nif|curp|rfc|cpf|cnpj|nhs|aadhaar|aadhar|pesel|bsn|"
    r"personnummer|codice fiscale|steuer-?id(?:entifikationsnummer)?|steuernummer|sozialversicherungsnummer|"
    r"rentenversicherungsnummer|sv-?nummer|svnr|(?:kranken)?versicherten(?:nummer|nr\.?)|cédula|nss|nir|n[°º]? ?sécu|sécurité sociale|numéro (?:de sécu|fiscal)|"
    rf"seguridad social|tax id)(?:nummer|number)?(?![{LETTER}])"
    r"|护照|護照|身份证|身份證|证件|證件|驾驶证|驾照|駕照|港澳通行证|パスポート|旅券|免許証|マイナンバー|個人番号|保険証|आधार|주민등록번호|여권)"
    rf"[^\d\n,;]{{0,24}}?(?<![{LETTER}\d]){_ID_VALUE}",
    regex.I,
)
_PAN = regex.compile(rf"(?<![{LETTER}])pan(?![{LETTER}])[^\d\n]{{0,12}}?(?-i:([A-Z]{{3}}[ABCFGHJLPT][A-Z]\d{{4}}[A-Z])){END}", regex.I)


def account_spans(text: str) -> Iterator[Span]:
    """IBANs, cards and ids that prove themselves, then numbers after their word."""
    for finder in (_ibans, _cards, _ids):
        yield from finder(text)
    for pattern in (_SORT_CODE, _ID_WORD, _PAN, _ACCOUNT, _ACCOUNT_CJK, _POSTAL_SAVINGS):
        for found in pattern.finditer(text):
            if pattern is _ID_WORD and sum(map(str.isdigit, found[1])) < 5:
                continue
            for group in range(1, pattern.groups + 1):
                yield *found.span(group), "ACCOUNT"


def _ibans(text: str) -> Iterator[Span]:
    for found in _IBAN.finditer(text):
        # The pattern may run on into the next word: the longest beginning that checks out is the number.
        for stop in range(found.end(), found.start() + 14, -1):
            ends = stop == len(text) or not (text[stop].isascii() and text[stop].isalnum())
            if ends and iban.is_valid(text[found.start() : stop]):
                yield found.start(), stop, "ACCOUNT"
                break


def _ids(text: str) -> Iterator[Span]:
    for pattern, valid in _IDS:
        for found in pattern.finditer(text):
            if valid(found[0]):
                yield *found.span(), "ACCOUNT"


def _cards(text: str) -> Iterator[Span]:
    for found in _CARD.finditer(text):
        digits = regex.sub(r"\D", "", found[0])
        if not _CARD_PLAN.fullmatch(digits) or not luhn.is_valid(digits) or len(set(digits)) == 1:
            continue
        # The number of a carton of goods (GTIN-14) has a check digit of its own.
        if len(digits) == 14 and found[0] == digits and ean.is_valid(digits):
            continue
        yield *found.span(), "CARD"


def wallet_spans(text: str) -> Iterator[Span]:
    """Addresses of cryptocurrencies."""
    for found in _WALLET.finditer(text):
        if bitcoin.is_valid(found[0]):
            yield *found.span(), "ACCOUNT"
    for found in _WALLET_FORM.finditer(text):
        yield *found.span(), "ACCOUNT"
