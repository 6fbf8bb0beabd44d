"""Attributes: what the columns outside the contract mean, and their labels "column=value"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import duckdb

from coldstart_udfs.quoting import quote_name, quote_text
from recommender.data.sql_types import FRACTIONAL_NUMBERS, WHOLE_NUMBERS

_AS_TEXT = ("VARCHAR", "BOOLEAN", "UUID", "ENUM")
# A text column is one of numbers if this share of its values are numbers.
_MOST = 0.9
# Whole numbers in text are codes, such as those of categories, unless a word of the column's name is here.
_QUANTITIES = frozenset(
    "price prices cost amount weight height width length depth volume area power age duration pages preis kosten "
    "gewicht prix poids precio peso prezzo preco cena prijs pris fiyat цена 価格 値段 重さ 价格 價格 "
    "单价 售价 重量 가격".split()
)
_CURRENCY = (
    "[$€£¥￥₹₩₽₺₴₫฿]|USD|EUR|GBP|JPY|CHF|SEK|NOK|DKK|PLN|CZK|HUF|RON|BGN|TRY|RUB|UAH|INR|CNY|KRW|BRL|MXN|ARS|CLP|COP|PEN|CAD|"
    "元|圆|円|원|AUD|NZD|SGD|HKD|TWD|THB|IDR|MYR|PHP|VND|ZAR|ILS|AED|SAR|EGP|NGN|KES|kr|zł|Kč|Ft|лв|руб[.]?"
)
_CODES = frozenset("id code class group category band type".split())
# The name of an element in a lambda; a column of the same name would hide it.
_EACH = "coldstart_element"
# What stands for a missing number.
_MISSING = r"(?i)[-–—.?]+|#?n/?a|nan|null|none|[-+]?inf(inity)?"
# With a point as decimal mark, and with a comma.
_POINT = r"[-+]?(\d+|[1-9]\d{0,2}([, '’]\d{3})+)(\.\d+)?([eE][-+]?\d+)?|[-+]?\.\d+"
_COMMA = r"[-+]?(\d+|[1-9]\d{0,2}([. '’]\d{3})+)(,\d+)?"
# A number that is no whole one; tools write the whole number 10 as 10.0 too.
_FRACTION = r".*[.,](\d*[1-9]\d*|\d\d+)"
# A number whose mark may stand for thousands or for decimals.
_EITHER = r"[-+]?[1-9]\d{0,2}[.,]\d{3}"


@dataclass(frozen=True)
class Attribute:
    """A column outside the contract, and how it is used.

    Attributes:
        name: the column; of a struct's field, "column.field".
        kind: what its values are: "text", "number", "code", "list" …
        used: whether it gives labels.
        note: what a reader should know, such as values that are not numbers; "" for nothing.
    """

    name: str
    kind: str
    used: bool = True
    note: str = ""


def type_attributes(con: duckdb.DuckDBPyConnection, table: str, columns: list[str]) -> dict[str, tuple[str, str]]:
    """Give text columns the type of what they contain: numbers, or lists. Decided by all values of a column.

    Args:
        con: a connection.
        table: a table of the contract.
        columns: the columns that the contract does not name.

    Returns:
        For each column with something to say: its kind and a note.
    """
    types = {row[0]: row[1] for row in con.execute(f"DESCRIBE {table}").fetchall()}
    found = {}
    for column in columns:
        name = quote_name(column)
        if types[column] == "JSON":
            types[column] = _type_json(con, table, name)
        if types[column] == "VARCHAR":
            kind = _type_lists(con, table, name) or _type_numbers(con, table, column)
            if kind:
                found[column] = kind
        elif types[column] in ("FLOAT", "DOUBLE"):
            odd = con.execute(f"SELECT count(*) FROM {table} WHERE NOT isfinite({name})").fetchall()[0][0]
            if odd:
                found[column] = "number", f"{odd:,} value{'s' if odd > 1 else ''} NaN or infinite"
    return found


def attributes_of(columns: list[tuple[str, Any]], kinds: dict[str, tuple[str, str]]) -> tuple[list[Attribute], str]:
    """Return the attributes of a table, and SQL for their labels: ["country=France", "price=2^1", "tags=oak"].

    A number becomes a band between powers of two, as in `coldstart_udfs.profile.band_label`: bands do not depend on the
    data, so they neither leak information nor change when data are added. A list gives one label for each element, a
    struct or map those of each field.

    Args:
        columns: names and types, as in `DuckDBPyRelation.dtypes`, of the columns that the contract does not name.
        kinds: from `type_attributes`.
    """
    attributes: list[Attribute] = []
    lists: list[str] = []
    for name, sql_type in columns:
        kind, note = kinds.get(name, ("", ""))
        for one, sql in _labelled(name, quote_name(name), sql_type):
            attributes.append(Attribute(one.name, kind or one.kind, one.used, note or one.note))
            lists.extend(sql)
    joined = " || ".join(f"coalesce({sql}, [])" for sql in lists) or "[]"
    return attributes, f"list_filter(([]::VARCHAR[] || {joined})::VARCHAR[], lambda {_EACH}: {_EACH} IS NOT NULL)"


def band_sql(value: str, name: str) -> str:
    """SQL for the label of a number; NULL for NaN and infinity."""
    prefix = quote_text(f"{name}=")
    return (
        f"CASE WHEN {value} > 0 AND isfinite({value}::DOUBLE) THEN {prefix} || '2^' || floor(log2({value}))::INTEGER "
        f"WHEN {value} <= 0 AND isfinite({value}::DOUBLE) THEN {quote_text(f'{name}<=0')} END"
    )


def _labelled(name: str, value: str, sql_type: Any) -> list[tuple[Attribute, list[str]]]:
    """The attributes of one column, or field, each with SQL for lists of its labels."""
    kind, text = sql_type.id, str(sql_type)
    prefix = quote_text(f"{name}=")
    if text.startswith((*WHOLE_NUMBERS, *FRACTIONAL_NUMBERS)) and not text.endswith("]"):
        return [(Attribute(name, "number"), [f"[{band_sql(value, name)}]"])]
    if text.startswith(_AS_TEXT) and kind != "list":
        shown = "yes or no" if text == "BOOLEAN" else "text"
        return [(Attribute(name, shown), [f"[{prefix} || nullif(trim({value}::VARCHAR), '')]"])]
    if kind == "list":
        element = str(sql_type.children[0][1])
        if element.startswith((*_AS_TEXT, *WHOLE_NUMBERS)) and not element.endswith("]"):
            labels = f"list_transform({value}::VARCHAR[], lambda {_EACH}: {prefix} || nullif(trim({_EACH}), ''))"
            return [(Attribute(name, "list"), [labels])]
    if kind == "struct":
        fields = [_labelled(f"{name}.{field}", f"struct_extract({value}, {quote_text(field)})", inner)
                  for field, inner in sql_type.children]  # fmt: skip
        return [one for field in fields for one in field]
    if kind == "map":
        held = str(dict(sql_type.children)["value"])
        if held.startswith((*_AS_TEXT, *WHOLE_NUMBERS)) and not held.endswith("]"):
            start = quote_text(f"{name}.")
            labels = (f"list_transform(map_entries({value}), lambda {_EACH}: {start} || {_EACH}.key::VARCHAR || '=' || "
                      f"nullif(trim({_EACH}.value::VARCHAR), ''))")  # fmt: skip
            return [(Attribute(name, "map"), [labels])]
    what = {"list": "a list of " + (str(sql_type.children[0][1]).lower() if kind == "list" else ""),
            "map": "a map of " + (str(dict(sql_type.children)["value"]).lower() if kind == "map" else "")}  # fmt: skip
    return [(Attribute(name, what.get(kind, text.lower()), used=False), [])]


def _type_json(con: duckdb.DuckDBPyConnection, table: str, name: str) -> str:
    """Give a JSON column the type of its values, if they are all texts and numbers, or all lists of them."""
    elements = f"list_transform(json_extract({name}, '$[*]'), lambda {_EACH}: json_type({_EACH}))"
    lists, scalars, total = con.execute(f"""
        SELECT
            count(*) FILTER (kind = 'ARRAY' AND NOT list_has_any(elements, ['ARRAY', 'OBJECT'])),
            count(*) FILTER (kind NOT IN ('ARRAY', 'OBJECT')),
            count(*)
        FROM (SELECT json_type({name}) AS kind, {elements} AS elements FROM {table})
        WHERE kind <> 'NULL'
    """).fetchall()[0]
    if total and total == scalars:
        con.execute(f"ALTER TABLE {table} ALTER {name} TYPE VARCHAR USING json_extract_string({name}, '$')")
        return "VARCHAR"
    if total and total == lists:
        con.execute(f"ALTER TABLE {table} ALTER {name} TYPE VARCHAR[] USING json_extract_string({name}, '$[*]')")
        return "VARCHAR[]"
    return "JSON"


def as_plain_text(con: duckdb.DuckDBPyConnection, table: str, column: str) -> None:
    """Turn a column of JSON texts, or of lists of texts, into text; the elements of a list are joined by spaces.

    A column of anything else stays as it is.
    """
    name = quote_name(column)
    if dict(con.execute(f"SELECT column_name, column_type FROM (DESCRIBE {table})").fetchall())[column] == "JSON":
        _type_json(con, table, name)
    if dict(con.execute(f"SELECT column_name, column_type FROM (DESCRIBE {table})").fetchall())[column] == "VARCHAR[]":
        con.execute(f"ALTER TABLE {table} ALTER {name} TYPE VARCHAR USING nullif(array_to_string({name}, ' '), '')")


def _type_lists(con: duckdb.DuckDBPyConnection, table: str, name: str) -> tuple[str, str] | None:
    """Turn texts such as [oak, outdoor] and ["oak", "outdoor"] into lists, if all values are such."""
    text = f"nullif(trim({name}), '')"
    other, total = con.execute(f"""
        SELECT count(*) FILTER (
            NOT regexp_full_match({text}, '(?s)\\[.*\\]') OR TRY_CAST({text} AS VARCHAR[]) IS NULL
        ), count(*)
        FROM {table} WHERE {text} IS NOT NULL
    """).fetchall()[0]
    if other or not total:
        return None
    # TRY_CAST knows no escapes of JSON.
    parsed = f"json_extract_string({text}, '$[*]')"
    listed = f"CASE WHEN json_valid({text}) THEN {parsed} ELSE TRY_CAST({text} AS VARCHAR[]) END"
    con.execute(f"ALTER TABLE {table} ALTER {name} TYPE VARCHAR[] USING {listed}")
    return "list", ""


def _type_numbers(con: duckdb.DuckDBPyConnection, table: str, column: str) -> tuple[str, str] | None:
    """Turn a text column of quantities into DOUBLE; values that are not numbers become NULL and are counted."""
    name = quote_name(column)
    bare = f"regexp_replace(trim({name}), '^({_CURRENCY})\\s*|\\s*({_CURRENCY})$', '', 'g')"
    # A currency alone is no missing number.
    text = f"coalesce(nullif({bare}, ''), nullif(trim({name}), ''))"
    # Spaces of every kind group digits.
    text = rf"regexp_replace({text}, '[\x{{00a0}}\x{{2009}}\x{{202f}}]', ' ', 'g')"
    row: Any = con.execute(f"""
        SELECT count(*), count(*) FILTER (point), count(*) FILTER (comma),
            count(*) FILTER ((point OR comma) AND regexp_matches(value, '^[-+]?0[0-9]')),
            count(*) FILTER ((point OR comma) AND regexp_full_match(value, {quote_text(_FRACTION)})),
            count(*) FILTER (regexp_full_match(value, {quote_text(_EITHER)}))
        FROM (
            SELECT value, regexp_full_match(value, {quote_text(_POINT)}) AS point,
                regexp_full_match(value, {quote_text(_COMMA)}) AS comma
            FROM (SELECT {text} AS value FROM {table})
            WHERE value IS NOT NULL AND NOT regexp_full_match(value, {quote_text(_MISSING)})
        )
    """).fetchall()[0]
    total, point, comma, padded, fractions, either = row
    numbers = max(point, comma)
    if not total or numbers < _MOST * total:
        return None
    # Some values do not make quantities of codes, nor a few zeros codes of quantities.
    measured = fractions > (1 - _MOST) * numbers
    if not measured and (padded or not _is_quantity(column)):
        return "code", ""
    pattern, groups, mark = (_POINT, "[, '’]", ".") if point >= comma else (_COMMA, "[. '’]", ",")
    digits = f"replace(regexp_replace({text}, {quote_text(groups)}, '', 'g'), '{mark}', '.')"
    as_number = f"CASE WHEN regexp_full_match({text}, {quote_text(pattern)}) THEN TRY_CAST({digits} AS DOUBLE) END"
    others = con.execute(
        f"SELECT trim({name}), count(*) FROM {table} WHERE trim({name}) <> '' AND {as_number} IS NULL "
        "GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    con.execute(f"ALTER TABLE {table} ALTER {name} TYPE DOUBLE USING {as_number}")
    notes = []
    if others:
        wrong = sum(count for _, count in others)
        notes.append(f"{wrong:,} value{'s' if wrong > 1 else ''} not a number, such as {others[0][0]!r}")
    if either == numbers == point == comma:
        notes.append("marks are read as in English: 1,250 is 1250, and 1.250 is 1.25")
    return "number", "; ".join(notes)


def _is_quantity(column: str) -> bool:
    """Whether the words of a name say that its whole numbers are quantities.

    >>> [_is_quantity(name) for name in ("unitPrice", "Price (EUR)", "weight_kg", "price_code")]
    [True, True, True, False]
    """
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", column).replace("_", " ")
    found = [word.lower() for word in re.findall(r"[^\W\d]+", words)]
    return not _QUANTITIES.isdisjoint(found) and _CODES.isdisjoint(found)
