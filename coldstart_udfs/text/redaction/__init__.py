"""Replacing private data in texts by their kind: `<EMAIL>`, `<PHONE>`, `<CARD>` and others.

Numbers are recognised with libraries that know numbering plans and check digits (phonenumbers, python-stdnum) and by
the words before them. A number that may be an order, a size or a date is kept if nothing else marks it as private.
All forms and words of all languages are looked for in every text. `make bench-text` measures recall and precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import regex

from coldstart_udfs.text.redaction.accounts import account_spans, wallet_spans
from coldstart_udfs.text.redaction.addresses import address_spans
from coldstart_udfs.text.redaction.addresses_east_asia import east_asian_address_spans
from coldstart_udfs.text.redaction.contacts import email_spans, ip_spans, messenger_spans
from coldstart_udfs.text.redaction.phones import phone_spans
from coldstart_udfs.text.redaction.scripts import Span, has_any, in_ascii
from coldstart_udfs.text.redaction.secrets import secret_spans, url_secret_spans

# Private data always have one of these; most product texts do not.
_SIGN = regex.compile(r"[@\d=＠:：]")
_WORDS = (
    "dot", "punkt", "punto", "ponto", "(at", "(ät", "[at", "{at", "( at", "[ at", "{ at", "arroba", "arobase", "pass", "kennwort", "pwd", "pw ", "mdp", "clave", "senha", "token", "secret",
    "bearer", "authorization", "contrase", "key", "mot de", "信", "wechat", "we chat", "weixin", "vx", "line", "ライン", "카", "密", "口令", "令牌", "パス", "トークン",
    "sk-", "sk_", "gh", "xox", "glpat", "akia", "aiza", "eyj",
)  # fmt: skip
# Accounts and telephones have so many digits that stand near each other.
_LONG_NUMBER = regex.compile(r"\d(?:[^\p{L}\d]{0,3}[A-Z]{0,3}[^\p{L}\d]{0,3}\d){3}", regex.I)

# The most reliable first: later finders may not overlap the spans of earlier ones.
_FINDERS: tuple[Callable[[str], Iterator[Span]], ...] = (url_secret_spans, email_spans, secret_spans, messenger_spans)
_NUMBER_FINDERS: tuple[Callable[[str], Iterator[Span]], ...] = (ip_spans, account_spans, phone_spans)
_ADDRESS_FINDERS: tuple[Callable[[str], Iterator[Span]], ...] = (east_asian_address_spans, address_spans)


def redact(text: str) -> str:
    """The text with private data replaced by `<EMAIL>`, `<PHONE>`, `<CARD>`, `<ACCOUNT>`, `<ADDRESS>`, `<IP>`, `<SECRET>`.

    E-mail addresses (disguised ones too); phone numbers; payment cards whose check digit is right; IBANs, bank accounts,
    wallets, national ids and the ids of messengers; streets with a number, post boxes, postcodes with a town; IP
    addresses; passwords, codes, keys and tokens, also inside URLs (the rest of the URL is kept). Redacting a redacted
    text changes nothing.

    >>> redact("Mail jo@example.com or ring 020 7946 0958, card 4111 1111 1111 1111")
    'Mail <EMAIL> or ring <PHONE>, card <CARD>'
    >>> redact("我的电话是13812345678")
    '我的电话是<PHONE>'
    """
    # Repeated, because the match of one telephone number may include the first digits of the next.
    while (_SIGN.search(text) or has_any(text, _WORDS)) and (spans := private_spans(text)):
        parts, end = [], 0
        for start, stop, kind in spans:
            parts += [text[end:start], f"<{kind}>"]
            end = stop
        text = "".join(parts) + text[end:]
    return text


def private_spans(text: str) -> list[Span]:
    """The slices of private data, as (start, stop, kind), in order and without overlap."""
    text = in_ascii(text)
    spans: list[Span] = []
    taken = bytearray(len(text))
    finders = _FINDERS
    if any(map(str.isdigit, text)):
        finders += (wallet_spans, *(_NUMBER_FINDERS if _LONG_NUMBER.search(text) else ()), *_ADDRESS_FINDERS)
    for find in finders:
        for start, stop, kind in find(text):
            if stop > start and taken.find(1, start, stop) < 0:
                spans.append((start, stop, kind))
                taken[start:stop] = b"\1" * (stop - start)
    return sorted(spans)
