"""A conversation as a text: what the customer said, newest first. Pure Python, without the encoder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from operator import itemgetter
from types import NoneType
from typing import Any, TypeAlias

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.text.cleaning import PLACEHOLDERS
from coldstart_udfs.text.redaction import redact

# A turn as chat logs have it: {"role", "text" or "content"} and perhaps "at"; a text alone is the customer's.
Turn: TypeAlias = Mapping[str, Any] | str | None

# Who is the customer, unless the caller says otherwise: help desks say customer, interfaces of chat models say user.
CUSTOMER = ("customer", "user")
# About what an encoder reads that stops after 256 tokens.
CHARACTERS = 1_000

# When something was said: a number, or a text that sorts as time does.
_At: TypeAlias = Real | str | None
# JSON can hold half a character, which no encoder or database takes.
_SURROGATE = re.compile("[\ud800-\udfff]")
_TURN = "{'role': 'customer', 'text': 'where is my card?'}"


def conversation(
    turns: Sequence[Turn], *, roles: Sequence[str] = CUSTOMER, characters: int = CHARACTERS
) -> str | None:
    """What the customer said, newest turn first and twice, redacted and cut: a text for an encoder.

    Encoders cut the end of what is too long, and the last turn says best what a conversation is about now. Before older
    ones, it stands there twice, so that it weighs double (docs/explanation/helpdesk.md has figures). Turns of others
    (agents, bots, system messages) are left out: their words say what was answered, not what is wanted. Each turn is
    redacted by itself, before anything is cut.

    Args:
        turns: the turns, oldest first. If all of them say `at`, that decides: numbers, such as seconds, or times of
            one format and time zone.
        roles: who is the customer, in any case.
        characters: the most that is kept: whole turns, newest first, while they fit; the newest one is cut between
            words if it does not fit alone.

    Returns:
        The text; None if the customer said nothing.

    Raises:
        ColdStartError: something that is not a turn; `at` in some turns only, or a number in some only; `roles` that is
            no list of texts; `characters` below 1.

    >>> conversation([
    ...     {"role": "customer", "text": "I ordered a card."}, {"role": "agent", "text": "When was that?"},
    ...     {"role": "customer", "text": "Last week. My number is 020 7946 0958"},
    ... ])
    'Last week. My number is <PHONE> Last week. My number is <PHONE> I ordered a card.'
    """
    if isinstance(characters, bool) or not isinstance(characters, int) or characters < 1:
        raise ColdStartError(f"characters is {characters}; it is the most that is kept, at least 1")
    if isinstance(turns, (str, Mapping)) or not isinstance(turns, Sequence):
        raise _no_list(turns)
    if isinstance(roles, str) or not all(isinstance(role, str) for role in roles):
        raise ColdStartError(f"roles is {roles!r}; it is a list of texts, such as {list(CUSTOMER)}")
    wanted = {role.strip().lower() for role in roles}
    kept: list[str] = []
    used = 0
    for text in reversed(_in_time([_understood(turn, wanted) for turn in turns if turn is not None])):
        said = " ".join(redact(_SURROGATE.sub("\ufffd", text)).split())
        if not said:
            continue
        if kept and used + len(said) > characters:
            break
        kept.append(said if len(said) <= characters else _start(said, characters))
        # The newest turn will stand there twice.
        used += (len(kept[-1]) + 1) * (2 if len(kept) == 1 else 1)
    return " ".join([*kept[:1], *kept] if len(kept) > 1 else kept) or None


def turns_of(document: str) -> list[Turn]:
    """The turns in a JSON document: an array of objects and texts, or a text that is such a document itself.

    Raises:
        ColdStartError: another document.

    >>> turns_of('[{"role": "user", "content": "hello"}]')
    [{'role': 'user', 'content': 'hello'}]
    """
    try:
        found = json.loads(document)
        found = json.loads(found) if isinstance(found, str) else found
    except ValueError:
        found = document
    if not isinstance(found, list):
        raise _no_list(found)
    return found


def _understood(turn: Turn, wanted: set[str]) -> tuple[str, _At]:
    """What the customer said in this turn, "" if it is another's; and when."""
    if isinstance(turn, str):
        return turn, None
    if not isinstance(turn, Mapping) or "role" not in turn or not {"text", "content"} & set(turn):
        raise ColdStartError(f"a turn has a role and a text (or content), such as {_TURN}; one is {_kind(turn)}")
    role, at = turn["role"], turn.get("at")
    text = turn.get("content") if turn.get("text") is None else turn["text"]
    if not isinstance(role, (str, NoneType)) or not isinstance(text, (str, NoneType)):
        raise ColdStartError(f"role and text of a turn are texts, such as {_TURN}; of one they are not")
    is_customer = role is not None and role.strip().lower() in wanted
    if at is not None and (isinstance(at, bool) or not isinstance(at, Real)):
        at = str(at)
    return text or "" if is_customer else "", at


def _in_time(turns: list[tuple[str, _At]]) -> list[str]:
    known = sum(at is not None for _, at in turns)
    if known not in (0, len(turns)):
        raise ColdStartError(
            f"{known} of the {len(turns)} turns say at; give it for all of them, or for none and the list in order"
        )
    if not known:
        return [text for text, _ in turns]
    numbers = sum(not isinstance(at, str) for _, at in turns)
    if numbers not in (0, len(turns)):
        raise ColdStartError(
            f"at is a number in {numbers} of the {len(turns)} turns and a text in the others; give numbers in all, or "
            "times of one format"
        )
    # A stable sort: what was said at the same time stays in the order of the list.
    return [text for text, _ in sorted(turns, key=itemgetter(1))]


def _start(text: str, characters: int) -> str:
    """The first words of a text; of one that has no spaces, the first characters."""
    start = text[: characters + 1].rpartition(" ")[0] or text[:characters]
    # Not half a placeholder of redact().
    opened = start.rfind("<")
    is_cut = opened > start.rfind(">") and text[opened + 1 :].partition(">")[0] in PLACEHOLDERS
    return start[:opened].rstrip() if is_cut else start


def _no_list(given: Any) -> ColdStartError:
    return ColdStartError(
        f"a conversation is a list of turns such as [{_TURN}], oldest first; {_kind(given)} was given"
    )


def _kind(value: Any) -> str:
    """What was given, without what somebody wrote: it may be private."""
    if isinstance(value, Mapping):
        return f"an object with {', '.join(map(str, value)) or 'nothing'}"
    return "a text" if isinstance(value, str) else f"a {type(value).__name__}"
