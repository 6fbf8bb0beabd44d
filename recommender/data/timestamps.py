"""How a column of timestamps is read: one format for the whole column, and what looks implausible in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from coldstart_udfs.quoting import quote_name, quote_text
from recommender.data.sql_types import FRACTIONAL_NUMBERS, WHOLE_NUMBERS

# Order of day, month and year in dates such as 03/04/24.
DATE_ORDERS = ("dmy", "mdy", "ymd")
_ORDER_WORDS = {"dmy": "day, month, year", "mdy": "month, day, year", "ymd": "year, month, day"}
# What all events of a shop come after. An older timestamp is more often a missing one.
_EARLIEST = "1990-01-01"
_MOST = 0.9
# Later than the first moment that the documentation materialises, and the same in every run.
_NO_TIME = "TIMESTAMPTZ '2020-01-01 00:00:00+00'"
# A year below this was written with two digits.
_FIRST_YEAR = 1000

_YEAR_FIRST = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(\D.*)?"
_PARTS = r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})(\D.*)?"
# Chinese, Japanese and Korean dates and times, and what they are in digits: 2024年3月1日 10时30分.
_EAST_ASIAN = (
    (r"^(\d{4}) ?[年년] ?(\d{1,2}) ?[月월] ?(\d{1,2}) ?[日号號일] *", r"\1-\2-\3 "),
    (r" *(\d{1,2}) ?[时時点點시] ?(\d{1,2}) ?[分분] ?(\d{1,2}) ?[秒초]$", r" \1:\2:\3"),
    (r" *(\d{1,2}) ?[时時点點시] ?(\d{1,2}) ?[分분]$", r" \1:\2"),
)
_NUMBER = r"[-+]?\d+(\.\d+)?"
_COMPACT = r"(19|20)\d{6}(T?\d{6}Z?)?"
# Units of time since 1970, each with the numbers that lie between 1973 and 5138.
_EPOCHS = (("seconds", 1e8, 1_000_000), ("milliseconds", 1e11, 1_000), ("microseconds", 1e14, 1),
           ("nanoseconds", 1e17, 0.001))  # fmt: skip
# Years of two digits first: %Y takes 24 for the year 24.
_DAYS = ("%d-%b-%y", "%d %b %y", "%d/%b/%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y",
         "%d-%b-%Y", "%d/%b/%Y", "%Y-%b-%d", "%a, %d %b %Y", "%a %b %d %Y")  # fmt: skip
_TIMES = ("", " %H:%M:%S", " %H:%M", ":%H:%M:%S", " %I:%M:%S %p", " %I:%M %p")


@dataclass(frozen=True)
class Moments:
    """How to read a column of timestamps.

    Attributes:
        sql: an expression of the type TIMESTAMPTZ; NULL where the value is blank or does not have the format.
        format: the format in words; None for a column of a timestamp type.
        problem: why the column cannot be read; None if it can.
    """

    sql: str
    format: str | None = None
    problem: str | None = None


def read_moments(
    con: duckdb.DuckDBPyConnection, table: str, column: str, sql_type: str, date_order: str | None = None
) -> Moments:
    """Decide how to read a column of timestamps, by all of its values.

    Text may be ISO 8601, year first, day or month first, with month names in English, with 年, 月 and 日, or a number
    of seconds, milliseconds, microseconds or nanoseconds since 1970. Values without a time zone are UTC.

    Args:
        con: a connection in UTC.
        table: the table.
        column: the column.
        sql_type: the type of the column.
        date_order: "dmy", "mdy" or "ymd" for dates such as 03/04/24; None: the only order that fits all values.
    """
    name = quote_name(column)
    if sql_type.startswith(("TIMESTAMP", "DATE")) and not sql_type.endswith("]"):
        return Moments(f"{name}::TIMESTAMPTZ")
    numeric = sql_type.startswith((*WHOLE_NUMBERS, *FRACTIONAL_NUMBERS)) and not sql_type.endswith("]")
    if sql_type != "VARCHAR" and not numeric:
        return Moments("NULL::TIMESTAMPTZ", problem=f"has the type {sql_type}; it must contain timestamps, dates, "
                       "ISO 8601 text, or numbers of seconds since 1970")  # fmt: skip
    text = f"nullif(trim({name}::VARCHAR), '')"
    if sql_type.startswith(("FLOAT", "DOUBLE")):
        text = f"CASE WHEN isfinite({name}) THEN format('{{:.6f}}', {name}) END"
    elif not numeric:
        for pattern, digits in _EAST_ASIAN:
            text = f"trim(regexp_replace({text}, '{pattern}', '{digits}'))"
    shape = (
        f"CASE WHEN regexp_full_match({text}, '{_YEAR_FIRST}') THEN 'year first' "
        f"WHEN regexp_full_match({text}, '{_COMPACT}') THEN 'compact' "
        f"WHEN regexp_full_match({text}, '{_NUMBER}') THEN 'number' "
        f"WHEN regexp_full_match({text}, '{_PARTS}') THEN 'parts' ELSE 'words' END"
    )
    rows = con.execute(
        f"SELECT {shape} AS shape FROM {table} WHERE {text} IS NOT NULL GROUP BY 1 "
        "ORDER BY count(*) DESC, shape = 'words', 1 LIMIT 1"
    ).fetchall()
    if not rows or rows[0][0] == "year first":
        dashed = f"regexp_replace({text}, '^(\\d+)[.](\\d+)[.]', '\\1-\\2-')"
        # What DuckDB does not take: 10:30:00 -0500 and 10:30Z.
        zoned = f"regexp_replace({dashed}, '(:\\d\\d(?:[.]\\d+)?) ?([-+]\\d\\d):?(\\d\\d)$', '\\1\\2:\\3')"
        zoned = f"regexp_replace({zoned}, '([T ]\\d\\d:\\d\\d)Z$', '\\1:00Z')"
        # An abbreviation such as BST or IST stands for several zones.
        known = f"NOT regexp_matches({text}, '\\d ?[A-Z]{{2,5}}$') OR regexp_matches({text}, ' ?(UTC|GMT)$')"
        return Moments(f"CASE WHEN {known} THEN TRY_CAST({zoned} AS TIMESTAMPTZ) END", "ISO 8601")
    if rows[0][0] == "compact":
        formats = ("%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ")
        return Moments(_strptime(text, formats), "year, month and day without separators")
    if rows[0][0] == "number":
        return _since_1970(con, table, text)
    if rows[0][0] == "parts":
        return _in_order(con, table, text, date_order)
    bare = f"regexp_replace({text}, ' *(GMT|UTC|Z|\\+0000)$', '')"
    moment = _strptime(bare, tuple(day + time for day in _DAYS for time in _TIMES))
    if not con.execute(f"SELECT count({moment}) FROM {table}").fetchall()[0][0]:
        (example,) = con.execute(f"SELECT min({text}) FROM {table}").fetchall()[0]
        what = f"contains {example!r}, which is no timestamp of a known format"
        return Moments("NULL::TIMESTAMPTZ", problem=f"{what}; make timestamps of it in ingest.sql")
    return Moments(moment, "with the name of the month")


def implausible(con: duckdb.DuckDBPyConnection, table: str, moments: Moments) -> tuple[list[str], list[str]]:
    """Return what makes timestamps wrong, and what makes them doubtful: sentences with counts."""
    row: Any = con.execute(f"""
        SELECT count(m), count(*) FILTER (year(m) < {_FIRST_YEAR}), min(m)::VARCHAR,
            count(*) FILTER (m < TIMESTAMPTZ '{_EARLIEST}' AND year(m) >= {_FIRST_YEAR}),
            count(*) FILTER (m > now() + INTERVAL 1 DAY), max(m)::VARCHAR
        FROM (SELECT {moments.sql} AS m FROM {table}) WHERE isfinite(m)
    """).fetchall()[0]
    total, ancient, first, early, late, last = row
    wrong = [
        f"{_of(ancient, total)} in a year below {_FIRST_YEAR}, such as {first}; write years with four digits"
    ] if ancient else []  # fmt: skip
    doubtful = []
    if early:
        what = "a missing date is often written as 1970 or 1900"
        doubtful.append(f"{_of(early, total)} before {_EARLIEST}, the first {first}; {what}")
    if late:
        doubtful.append(f"{_of(late, total)} in the future, the last {last}")
    return wrong, doubtful


def moment_without_time(con: duckdb.DuckDBPyConnection, others: dict[str, Moments | None]) -> str:
    """SQL for the moment of interactions without timestamps: fixed, but no earlier than those of users and items.

    Args:
        con: a connection with the tables.
        others: how the timestamps of other tables are read, by table.
    """
    latest = [_NO_TIME]
    for table, moments in others.items():
        if moments and not moments.problem:
            last = f"SELECT max(m)::VARCHAR FROM (SELECT {moments.sql} AS m FROM {table}) WHERE isfinite(m)"
            latest += [f"TIMESTAMPTZ {quote_text(value)}" for (value,) in con.execute(last).fetchall() if value]
    return f"greatest({', '.join(latest)})"


def time_note(con: duckdb.DuckDBPyConnection, column: str) -> list[str]:
    """Return one sentence if all normalised interactions have one timestamp, otherwise none."""
    row: Any = con.execute(
        f"SELECT count(*), strftime(min({column}), '%Y-%m-%d %H:%M:%S'), strftime(max({column}), '%Y-%m-%d %H:%M:%S') "
        "FROM interactions"
    ).fetchall()[0]
    rows, low, high = row
    if low != high or rows < 2:
        return []
    return [
        f"all {rows:,} interactions have the timestamp {low}: the data have no time. `coldstart "
        "train` and `weigh` choose on interactions drawn by chance, and nothing ages"
    ]


def _of(some: int, total: int) -> str:
    return f"{some:,} of {total:,} timestamps {'is' if some == 1 else 'are'}"


def _strptime(text: str, formats: tuple[str, ...]) -> str:
    listed = ", ".join(map(quote_text, formats))
    return f"try_strptime({text}, [{listed}])::TIMESTAMPTZ"


def _since_1970(con: duckdb.DuckDBPyConnection, table: str, text: str) -> Moments:
    value = f"abs(TRY_CAST({text} AS DOUBLE))"
    # Zero stands for a missing time.
    row: Any = con.execute(f"SELECT min({value}), max({value}) FROM {table} WHERE {value} <> 0").fetchall()[0]
    low, high = row
    found = [unit for unit in _EPOCHS if low is not None and unit[1] <= low and high < unit[1] * 1000]
    if not found:
        return Moments(
            "NULL::TIMESTAMPTZ",
            problem=f"contains numbers from {low or 0:,.0f} to {high or 0:,.0f}, which are not all seconds, all "
            "milliseconds, all microseconds or all nanoseconds since 1970; make timestamps of them in ingest.sql",
        )
    name, _, factor = found[0]
    exact = f"TRY_CAST({text} AS DECIMAL(38, 9)) * {factor}"
    return Moments(f"make_timestamp(TRY_CAST({exact} AS BIGINT))::TIMESTAMPTZ", f"{name} since 1970")


def _in_order(con: duckdb.DuckDBPyConnection, table: str, text: str, date_order: str | None) -> Moments:
    tried = {order: _ordered(text, order) for order in ([date_order] if date_order else DATE_ORDERS)}
    marks = f"regexp_full_match({text}, '{_PARTS}')"
    # With slashes nobody writes a year of two digits first. With other marks the years tell: not in the future.
    slashes = f"contains({text}, '/')"
    fits = [
        f"count({sql}) FILTER ({f'NOT {slashes} AND ' if order == 'ymd' else f'{slashes} OR '}"
        f"{sql} <= now() + INTERVAL 1 DAY)"
        for order, sql in tried.items()
    ]
    row: Any = con.execute(
        f"SELECT count(*) FILTER ({marks}), count(*) FILTER (contains({text}, '.')), {', '.join(fits)} FROM {table}"
    ).fetchall()[0]
    total, dotted, *counts = row
    # Values that do not fit the best order are reported one by one, unless they are many.
    best = max(counts)
    possible = [order for order, fit in zip(tried, counts, strict=True) if fit == best and best >= _MOST * total]
    # No country writes the month first with dots.
    if len(possible) > 1 and dotted == total and "dmy" in possible:
        possible = ["dmy"]
    if len(possible) == 1 or date_order:
        order = date_order or possible[0]
        return Moments(tried[order], _ORDER_WORDS[order])
    example = con.execute(f"SELECT {text} FROM {table} WHERE {marks} LIMIT 1").fetchall()[0][0]
    if possible:
        orders = " or ".join(f"{_ORDER_WORDS[order]} ({order})" for order in possible)
        why = f"contains dates such as {example!r}, which are {orders}"
    else:
        why = f"contains dates such as {example!r}, and no order of day, month and year fits all of them"
    return Moments("NULL::TIMESTAMPTZ", problem=f"{why}; say which: --date-order dmy, mdy or ymd")


def _ordered(text: str, order: str) -> str:
    """SQL for a date of three numbers; years of two digits are 1969 to 2068, as in strptime."""
    part = {letter: f"regexp_extract({text}, '{_PARTS}', {place + 1})" for place, letter in enumerate(order)}
    short = f"lpad({part['y']}, 2, '0')"
    century = f"CASE WHEN {short} < '69' THEN '20' ELSE '19' END"
    year = f"CASE WHEN length({part['y']}) = 4 THEN {part['y']} ELSE {century} || {short} END"
    rest = f"regexp_replace(coalesce(regexp_extract({text}, '{_PARTS}', 4), ''), '^[,T ]+', ' ')"
    day = f"{year} || '-' || lpad({part['m']}, 2, '0') || '-' || lpad({part['d']}, 2, '0') || {rest}"
    clock = f"regexp_matches({text}, '(?i)[ap]\\.?m')"
    return (
        f"CASE WHEN NOT regexp_full_match({text}, '{_PARTS}') THEN NULL WHEN length({part['m']}) > 2 OR "
        f"length({part['d']}) > 2 THEN NULL WHEN {clock} "
        f"THEN {_strptime(day, ('%Y-%m-%d %I:%M:%S %p', '%Y-%m-%d %I:%M %p'))} ELSE TRY_CAST({day} AS TIMESTAMPTZ) END"
    )
