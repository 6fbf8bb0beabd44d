"""Cleaning of texts that people wrote. Pure Python, without the encoder."""

from __future__ import annotations

import html

import regex

from coldstart_udfs.text.characters import normalised

# The placeholders of `redact` are not mark-up.
PLACEHOLDERS = ("EMAIL", "PHONE", "CARD", "ACCOUNT", "ADDRESS", "IP", "SECRET")

# Inline tags ("wo<b>o</b>d") are removed, all others become a space. A tag contains no other "<", so that a megabyte
# of them is read once.
_PLACEHOLDER = rf"(?!(?:{'|'.join(PLACEHOLDERS)})>)"
# Parts that are not displayed, by their first and last mark.
_HIDDEN = (
    (regex.compile("<!--"), regex.compile("-->")),
    (regex.compile(r"<script\b[^<>]*>", regex.I), regex.compile(r"</script\s*>", regex.I)),
    (regex.compile(r"<style\b[^<>]*>", regex.I), regex.compile(r"</style\s*>", regex.I)),
)
_INLINE = regex.compile(
    r"</?(?:a|abbr|b|big|code|em|font|i|mark|s|small|span|strong|sub|sup|u)(?:\s[^<>]*)?/?>", regex.I
)
_TAG = regex.compile(rf"<{_PLACEHOLDER}/?[a-zA-Z!?][^<>]*>")
_NESTED_AMP = regex.compile(r"&(?:amp;)+")

# Markdown that cannot be meant literally: [text](address), ![picture](address), **bold**, __bold__, `code`, and marks
# at the start of a line. "#1" or "- 5" at the start of a line may be text: a space must follow, and hyphens are kept.
_LINK = regex.compile(r"!?\[([^\[\]]*)\]\((?:https?:|mailto:|/|#|www\.)[^()\s]*\)")
_BOLD = regex.compile(r"(?<![\w*])(\*\*|__)(?=\S)([^*_\n]+)(?<=\S)\1(?![\w*])")
_CODE = regex.compile(r"(?<!`)`++([^`\n]+)`++")
_LINE_START = regex.compile(r"^[ \t]*(?:#{1,6}|>+|[*•])[ \t]+", regex.MULTILINE)

# Invisible characters without meaning: zero-width space, word joiner, byte order mark, soft hyphen, directions. Joiners
# U+200C and U+200D are kept, because Persian, Hindi and emoji need them. Then code points that are not characters.
_INVISIBLE = regex.compile(
    "[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\u00ad\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
    r"|[\p{Co}\p{Cn}\p{Cs}]"
)
_CONTROL = regex.compile(r"[\p{Cc}\p{Zl}\p{Zp}&&[^\n]]", regex.V1)

# Standard sentences that occur in many texts. Each must be a sentence or line of its own.
_BOILERPLATE_HINT = regex.compile(r"copyright|©|\(c\)|rights|click|sent from|unsubscribe|conditions|cookie|read more|"
                                  r"add to|shipping|delivery|confidential|javascript|wrote:|disclaimer", regex.I)
_BOILERPLATE = regex.compile(
    r"(?:(?<=^|[\n.!?|])[ \t]*)(?:"
    r"(?:copyright\b|©|\(c\)\s*(?:19|20)\d\d)[^\n.!?]*"
    r"|all rights reserved"
    r"|(?:please )?click (?:here|below|the link|on the link)[^\n.!?]*"
    r"|sent from my [^\n.!?]{1,40}"
    r"|(?:to )?unsubscribe[^\n.!?]*"
    r"|(?:terms (?:and|&) )?conditions apply"
    r"|(?:this|our) (?:web)?site uses cookies[^\n.!?]*|(?:accept|we use) (?:all )?cookies[^\n.!?]*"
    r"|(?:\.\.\.|…)?\s*read more(?: here)?"
    r"|add to (?:basket|cart|bag|wish ?list)"
    r"|free (?:uk |us |worldwide )?(?:shipping|delivery)[^\n.!?]*"
    r"|this (?:e-?mail|message)[^\n.!?]*\bconfidential\b[^\n.!?]*"
    r"|(?:please )?(?:enable|turn on) javascript[^\n.!?]*"
    r"|on [^\n]{6,80}? wrote:"
    r")[ \t]*(?:[.!?|]+|(?=\n)|$)",
    regex.IGNORECASE,
)  # fmt: skip
_SPACE = regex.compile(r"\s+")
# Not the plus signs of "C++" and "A+++".
_REPEATED = regex.compile(r"(?<=\w)(\+{2,3})(?!\+)|([!?.,;:~_=#|*+<>\\/-])(?:\s?\2)+")
# A URL's "//" is not repeated punctuation.
_KEEP_SLASHES = regex.compile(r"(\w:)//")
# Characters that are removed at both ends, unless they touch a word ("-5 degrees", "lamp:").
_LOOSE = " ,;:|*•–—-"

# Each round of cleaning removes one layer of mark-up; real texts have one or two.
_ROUNDS = 6


def clean_text(text: str) -> str:
    """The text without mark-up, entities, control characters, boilerplate, repeated space and punctuation.

    Unicode is normalised to NFKC, but fractions and superscripts after a digit are kept (1½, 10²). Marks of HTML and
    Markdown are removed and their text kept; `<EMAIL>` and the other placeholders of `redact` are kept. Lone surrogates
    are removed. Cleaning a cleaned text changes nothing.

    Returns:
        The cleaned text, "" where nothing is left.

    >>> clean_text("<p>A &amp; B:   <b>red</b> lamp!!!</p>")
    'A & B: red lamp!'
    """
    for _ in range(_ROUNDS):
        cleaned = _clean_once(text)
        if cleaned == text:
            return cleaned
        text = cleaned
    # More layers of mark-up than real texts have: every character that could still be mark-up is removed.
    text = regex.sub(rf"<{_PLACEHOLDER}|(?<!{'|'.join(f'<{name}' for name in PLACEHOLDERS)})>|[&`*_#]", " ", text)
    return _SPACE.sub(" ", _clean_once(text)).strip()


def _clean_once(text: str) -> str:
    if "&" in text:
        text = html.unescape(_NESTED_AMP.sub("&", text))
    if not text.isascii():
        text = _INVISIBLE.sub("", normalised(text))
    if "<" in text:
        text = _TAG.sub(" ", _INLINE.sub("", _without_hidden(text)))
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    if "**" in text or "__" in text:
        text = _BOLD.sub(r"\2", text)
    if "`" in text:
        text = _CODE.sub(r"\1", text)
    text = _LINE_START.sub("", _CONTROL.sub(" ", text))
    if _BOILERPLATE_HINT.search(text):
        text = _BOILERPLATE.sub(" ", text)
    text = _SPACE.sub(" ", text)
    if "//" in text:
        text = _KEEP_SLASHES.sub("\\1\x00", text)
    text = _REPEATED.sub(r"\1\2", text).replace("\x00", "//")
    body = text.strip(_LOOSE)
    start = text.find(body)
    head, tail = text[:start].rpartition(" ")[2], text[start + len(body) :].partition(" ")[0]
    return head + body + tail if body else ""


def _without_hidden(text: str) -> str:
    for first, last in _HIDDEN:
        parts, end = [], 0
        # Not one pattern from first to last mark: without a last mark it would read the rest again for each first one.
        while (opened := first.search(text, end)) and (closed := last.search(text, opened.end())):
            parts.append(text[end : opened.start()])
            end = closed.end()
        text = " ".join([*parts, text[end:]])
    return text
