"""A conversation as a text: in Python and in SQL."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

import coldstart_udfs
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.text.conversation import conversation

CHAT = [
    {"role": "customer", "text": "I ordered a card."},
    {"role": "agent", "text": "When did you order it?"},
    {"role": "customer", "text": "Last week.\n My number is 020 7946 0958"},
]


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect()
    coldstart_udfs.register(opened)
    return opened


def test_the_newest_turn_of_the_customer_comes_first_and_twice_and_nothing_private_stays() -> None:
    assert conversation(CHAT) == "Last week. My number is <PHONE> Last week. My number is <PHONE> I ordered a card."


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        ([], None), ([None], None), ([{"role": "agent", "text": "Hello"}], None),
        ([{"role": "user", "text": " "}], None), (["one turn stands once", " "], "one turn stands once"),
        ([{"role": "user", "text": None}], None), ([{"role": None, "text": "who says it?"}], None),
        (["first", "second"], "second second first"),
        ([{"role": " USER", "content": "as chat models have it"}], "as chat models have it"),
        ([{"role": "user", "text": "second", "at": "2026-01-02"},
          {"role": "user", "text": "first", "at": "2026-01-01"}], "second second first"),
        ([{"role": "user", "text": "second", "at": 10}, {"role": "user", "text": "first", "at": 9.5}],
         "second second first"),
    ],
)  # fmt: skip
def test_shapes_of_turns(con: duckdb.DuckDBPyConnection, turns: list[Any], text: str | None) -> None:
    assert conversation(turns) == text
    assert con.execute("SELECT conversation(?::JSON)", [json.dumps(turns)]).fetchall() == [(text,)]


def test_half_a_character_fails_no_query(con: duckdb.DuckDBPyConnection) -> None:
    found = con.execute("SELECT conversation(?)", ['["half a character: \\ud800"]']).fetchall()
    assert found == [("half a character: \ufffd",)]


@pytest.mark.parametrize(
    ("turns", "characters", "text"),
    [
        (["an old turn", "a newer one", "the newest"], 33, "the newest the newest a newer one"),
        (["an old turn", "a newer one", "the newest"], 32, "the newest"),
        (["old", "the newest is cut between its words"], 14, "the newest is"),
        (["红色的台灯还没有到"], 4, "红色的台"), (["ringing:020 7946 0958"], 11, "ringing:"),
    ],
)  # fmt: skip
def test_whole_turns_are_kept_while_they_fit(turns: list[str], characters: int, text: str) -> None:
    assert conversation(turns, characters=characters) == text


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ("'hello, my name is Jo'", "a list of turns such as .*; a text was given"),
        ("{'role': 'user'}", "an object with role was given"),
        ("[1]", "one is a int"), ("[{'role': 'user', 'txt': 'my name is Jo'}]", "one is an object with role, txt"),
        ("[{'rolle': 'user', 'text': 'a'}]", "one is an object with rolle, text"),
        ("[{'role': 3, 'text': 'a'}]", "are texts"),
        ("[{'role': 'user', 'text': 'a', 'at': 'x'}, {'role': 'user', 'text': 'a', 'at': NULL}]", "1 of the 2 turns"),
        ("""'[{"role": "user", "text": "a", "at": 1}, {"role": "user", "text": "a", "at": "1"}]'""",
         "at is a number in 1 of the 2 turns"),
        ("['a'], characters := 0", "characters is 0; it is the most that is kept"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_said_without_its_words(
    con: duckdb.DuckDBPyConnection, turns: str, said: str
) -> None:
    with pytest.raises(duckdb.InvalidInputException, match=rf"conversation\(\): .*{said}") as raised:
        con.sql(f"SELECT conversation({turns})").fetchall()
    assert "Jo" not in str(raised.value)
    with pytest.raises(ColdStartError, match="list of turns"):
        conversation("a text")
    with pytest.raises(ColdStartError, match="roles is 'customer'; it is a list of texts"):
        conversation(CHAT, roles="customer")


def test_conversations_of_a_table_of_turns(con: duckdb.DuckDBPyConnection) -> None:
    found = con.sql("""
        WITH log AS (FROM (VALUES
            (1, 'customer', 'it is lost', TIMESTAMP '2026-01-01 10:02:00'),
            (1, 'bot', 'How can I help?', TIMESTAMP '2026-01-01 10:01:00'),
            (1, 'customer', 'about my card', TIMESTAMP '2026-01-01 10:00:00'), (2, 'bot', 'Hello', NULL)
        ) AS t(chat, role, text, sent))
        SELECT chat, conversation(list({'role': role, 'text': text} ORDER BY sent)),
            conversation(list({'role': role, 'text': text}), roles := ['BOT'])
        FROM log GROUP BY chat ORDER BY chat
    """).fetchall()
    assert found == [(1, "it is lost it is lost about my card", "How can I help?"), (2, None, "Hello")]
    assert con.sql("SELECT conversation(NULL)").fetchall() == [(None,)]
