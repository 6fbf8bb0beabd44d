"""E-mail addresses, IP addresses and the ids of messengers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import regex

from coldstart_udfs.text.characters import LETTER, WORD
from coldstart_udfs.text.redaction.scripts import END, Span, before, has_any

_DOT = r"(?:\.|\s?[(\[{]\s?(?:dot|punkt|point|punto|ponto|\.)\s?[)\]}]\s?|\s(?:dot|punkt|point|punto|ponto)\s)"
_AT = r"at|ät|arroba|arobase|@"
_LABEL = rf"[{LETTER}\d-]{{1,63}}"
_EMAIL = regex.compile(
    rf"(?<![{WORD}.+%'-])[{WORD}][{WORD}.+%'-]{{0,63}}@(?!\dx\.)(?:(?:{_LABEL}|[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}ー]{{1,30}})\.)+[{LETTER}]{{2,24}}(?![{WORD}])"
)
# "jo (at) example.com", "jo at example dot com": at least one of "at" and "dot" must be in a form not used in prose.
_DISGUISED = regex.compile(
    rf"(?<![{WORD}])[{WORD}][{WORD}.+-]{{0,63}}(?:[ ](?:dot|punkt|point|punto)[ ][{WORD}]{{1,30}})?"
    rf"(?:\s?[(\[{{]\s?(?:{_AT})\s?[)\]}}]\s?(?:{_LABEL}{_DOT})+"
    rf"|\s(?:{_AT})\s(?:{_LABEL}(?:\s?[(\[{{]\s?(?:dot|\.)\s?[)\]}}]\s?|\s(?:dot|punkt)\s))+"
    rf"|\s(?:arroba|arobase)\s(?:{_LABEL}\s(?:point|punto|ponto)\s)+)"
    rf"[{LETTER}]{{2,24}}(?![{WORD}])",
    regex.I,
)

_DISGUISES = ("dot", "punkt", "arroba", "arobase", "(at", "(ät", "[at", "{at", "( at", "[ at", "{ at", "(@", "[@")

_IPV4 = regex.compile(r"(?<![\p{Latin}\d_.,/-])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\p{Latin}\d_]|[.,-]\d)")
_IPV4_URL = regex.compile(r"(?<=://|@)(?:\d{1,3}\.){3}\d{1,3}(?![\p{Latin}\d_]|[.,-]\d)")
_IPV6 = regex.compile(r"(?<![\p{Latin}\d:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?::|(?![\p{Latin}\d:]))")
_NOT_IP_WORD = regex.compile(
    rf"(?:(?<![{LETTER}])(?:v|ver|versions?|versión|firmware|release|build|update|software|chapter|section|kapitel|code|cas|tel\w{{0,6}}|"
    r"phone|fax|mobil\w*|móvil|portable|handy|numéro|número)(?![\p{Latin}])|版本号?|固件|系统|バージョン|ファームウェア|버전)[^\d\n]{0,6}$",
    regex.I,
)

_IP_WORD = regex.compile(r"(?:(?<![\p{Latin}])(?:ip(?:v4)?|host|server|log(?:ged)? ?in|adress\w*|from)(?![\p{Latin}])|主机|登录|登錄|服务器|ログイン)[^\d\n]{0,12}$", regex.I)

_ID = r"[A-Za-z][A-Za-z0-9_-]{4,29}"
_WECHAT = regex.compile(
    rf"(?:(?:微信|薇信|威信|[vVＶ]信)(?:号|號|账号|帐号|id|ID)?\s?(?:[是为為:]\s?)?|(?<![{WORD}])(?:(?:we ?chat|weixin|wx|vx)(?:[ _-]?id|号|號)?\s?[:是为]?\s?))"
    rf"(?-i:({_ID}){END})",
    regex.I,
)
# "加V：…": whom to add.
_ADD = regex.compile(rf"加(?:我|一下)?(?:的)?(?:微信|薇信|威信|[vV][xX]?|wx)(?:号|號)?\s?[:是]?\s?({_ID}){END}")
_QQ = regex.compile(rf"(?<![{WORD}])(?:QQ|扣扣|企鹅)(?:号码?|號碼?|群|id)?\s?(?:[是为為:]\s?)?([1-9]\d{{4,10}})(?![\d\p{{Latin}}])", regex.I)
_QQ_HAN = regex.compile(r"扣扣(?:号码?)?\s?(?:[是为:]\s?)?([1-9]\d{4,10})(?![\d\p{Latin}])")
_LINE = regex.compile(
    r"(?:(?<![\p{Latin}\d_])(?:LINE|Kakao(?:Talk)?)|ライン|카카오톡|카톡)(?:\s?の)?\s?(?:ID|아이디)\s?(?:は|[:=]|is)?\s?@?([a-z0-9][a-z0-9._-]{3,19})(?![\p{Latin}\d_])"
    r"|(?<![\p{Latin}\d_])line\s?:\s?(?-i:([a-z][a-z0-9._-]*[._\d][a-z0-9._-]*))(?![\p{Latin}\d_])",
    regex.I,
)


_MESSENGERS = ("信", "wechat", "we chat", "weixin", "wx", "vx", "qq", "扣扣", "企鹅", "加", "line", "kakao", "ライン", "카")


def email_spans(text: str) -> Iterator[Span]:
    """E-mail addresses, disguised ones too."""
    if "@" in text:
        for found in _EMAIL.finditer(text):
            yield *found.span(), "EMAIL"
    if has_any(text, _DISGUISES):
        for found in _DISGUISED.finditer(text):
            yield *found.span(), "EMAIL"


def ip_spans(text: str) -> Iterator[Span]:
    """IPv4 and IPv6 addresses, but those of every machine (127.0.0.1, 0.0.0.0), and versions with four parts."""
    if text.count(".") >= 3:
        for pattern in (_IPV4_URL, _IPV4):
            for found in pattern.finditer(text):
                ahead = before(text, found.start())
                # Most addresses have a part of three digits; most lists of sizes and versions do not.
                likely = pattern is _IPV4_URL or regex.search(r"\d{3}", found[0]) or _IP_WORD.search(ahead)
                if likely and _is_address(found[0]) and not _NOT_IP_WORD.search(ahead):
                    yield *found.span(), "IP"
    if text.count(":") >= 3:
        for found in _IPV6.finditer(text):
            groups = [group for group in found[0].split(":") if group]
            if len(groups) >= 3 and any(map(str.isdigit, "".join(groups))) and _is_address(found[0]):
                yield *found.span(), "IP"


def messenger_spans(text: str) -> Iterator[Span]:
    """Ids of WeChat, QQ, LINE and KakaoTalk after the name of the messenger."""
    if not has_any(text, _MESSENGERS):
        return
    for found in _WECHAT.finditer(text):
        # "wechat official": without "id" or a colon, an id has more than letters.
        if regex.search(r"[:：号號是为為]\s?$|id\s?$", text[found.start() : found.start(1)], regex.I) or not found[1].isalpha():
            yield *found.span(1), "ACCOUNT"
    for pattern in (_ADD, _QQ, _QQ_HAN):
        for found in pattern.finditer(text):
            yield *found.span(1), "ACCOUNT"
    for found in _LINE.finditer(text):
        yield *found.span(1 if found[1] else 2), "ACCOUNT"


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)
