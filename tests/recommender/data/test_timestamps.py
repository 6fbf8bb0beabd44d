"""Timestamps as shops write them: one format for a column, decided by all of its values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from recommender.cli import options
from recommender.data import timestamps
from recommender.data.contract import ContractError
from recommender.data.tables import Loaded, load_files, read_interactions


def load(folder: Path, timestamps: Sequence[str], date_order: str | None = None) -> tuple[Loaded, list[str]]:
    """The times of interactions in the order of the file."""
    (folder / "items.csv").write_text("item_id,description\ni,lamp\n")
    rows = "".join(f'u{number},i,"{value}"\n' for number, value in enumerate(timestamps))
    (folder / "interactions.csv").write_text(f"user_id,item_id,event_timestamp\n{rows}")
    files = {"items": folder / "items.csv", "users": None, "interactions": folder / "interactions.csv"}
    with duckdb.connect() as con:
        loaded = load_files(con, files, date_order=date_order)
        found = read_interactions(con)
    times = dict(zip([found.user_ids[user] for user in found.users], found.timestamps.astype("datetime64[s]"), strict=True))
    return loaded, [str(times[f"u{number}"]) for number in range(len(timestamps))]


@pytest.mark.parametrize(
    ("given", "found", "told"),
    [
        (["2024-03-01", "2024-03-02T10:30:00+02:00"], ["2024-03-01T00:00:00", "2024-03-02T08:30:00"], "ISO 8601"),
        (["2024/3/1 10:30", "2024.03.02"], ["2024-03-01T10:30:00", "2024-03-02T00:00:00"], "ISO 8601"),
        (["2024年3月1日", "2024年03月02日 9时05分", "2024年3月2日10:30"], ["2024-03-01T00:00:00", "2024-03-02T09:05:00", "2024-03-02T10:30:00"], "ISO 8601"),
        (["2024年3月1日 10時30分05秒", "2024년 3월 1일 10:30"], ["2024-03-01T10:30:05", "2024-03-01T10:30:00"], "ISO 8601"),
        (["20240301", "20240302"], ["2024-03-01T00:00:00", "2024-03-02T00:00:00"], "year, month and day"),
        (["20240301103000"], ["2024-03-01T10:30:00"], "year, month and day"),
        (["1709289000", "1709375400.5"], ["2024-03-01T10:30:00", "2024-03-02T10:30:00"], "seconds since 1970"),
        (["1709289000000"], ["2024-03-01T10:30:00"], "milliseconds since 1970"),
        (["1709289000000000"], ["2024-03-01T10:30:00"], "microseconds since 1970"),
        (["1709289000123456789"], ["2024-03-01T10:30:00"], "nanoseconds since 1970"),
        (["01/03/2024", "25/03/2024"], ["2024-03-01T00:00:00", "2024-03-25T00:00:00"], "day, month, year"),
        (["3/1/2024 1:30 PM", "3/25/2024 1:30:05 am"], ["2024-03-01T13:30:00", "2024-03-25T01:30:05"], "month, day, year"),
        (["3/1/2024, 1:30:00 PM", "3/25/2024, 1:30:05 AM"], ["2024-03-01T13:30:00", "2024-03-25T01:30:05"], "month, day"),
        (["01.03.2024", "02.03.2024"], ["2024-03-01T00:00:00", "2024-03-02T00:00:00"], "day, month, year"),
        (["01/03/24", "28/03/24"], ["2024-03-01T00:00:00", "2024-03-28T00:00:00"], "day, month, year"),
        (["24-03-13", "24-03-31"], ["2024-03-13T00:00:00", "2024-03-31T00:00:00"], "year, month, day"),
        (["2024-01-05 10:30:00 -0500", "2024-01-05 10:30Z"], ["2024-01-05T15:30:00", "2024-01-05T10:30:00"], "ISO 8601"),
        (["20240105T103000Z"], ["2024-01-05T10:30:00"], "without separators"),
        (["05-JAN-24", "25-Jan-24 10:30:00"], ["2024-01-05T00:00:00", "2024-01-25T10:30:00"], "name of the month"),
        (["1 Mar 2024", "25 Mar 2024"], ["2024-03-01T00:00:00", "2024-03-25T00:00:00"], "name of the month"),
        (["Mar 1, 2024 1:30 PM"], ["2024-03-01T13:30:00"], "name of the month"),
        (["Fri, 01 Mar 2024 10:30:00 GMT"], ["2024-03-01T10:30:00"], "name of the month"),
    ],
)
def test_a_column_is_read_in_its_format_and_the_format_is_told(
    given: list[str], found: list[str], told: str, tmp_path: Path
) -> None:
    loaded, times = load(tmp_path, given)
    assert times == found
    moments = loaded.tables["interactions"].moments
    assert moments is not None
    assert told in str(moments.format)


@pytest.mark.parametrize(("order", "month"), [("dmy", "2024-04-03"), ("mdy", "2024-03-04")])
def test_dates_of_two_orders_are_refused_until_the_order_is_given(order: str, month: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"'03/04/2024', which are day, month, year \(dmy\) or month, day, year \(mdy\)"):
        load(tmp_path, ["03/04/2024", "05/06/2024"])
    assert load(tmp_path, ["03/04/2024", "05/06/2024"], order)[1][0] == f"{month}T00:00:00"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["2024-03-01"] * 30 + ["01/04/2024"], r"1 row has a timestamp that cannot be parsed like the others \(ISO 8601\).*row 31 "),
        (["25/03/2024", "03/25/2024"], "no order of day, month and year fits all of them; say which: --date-order"),
        (["1709289000", "1709289000000"], "not all seconds, all milliseconds"),
        (["45352", "45353"], "numbers from 45,352 to 45,353, which are not all seconds"),
        (["0024-03-01", "2024-03-01"], "1 of 2 timestamps is in a year below 1000, such as 0024-03-01"),
        (["01/02/2024", "05/12/2026", "03/04/2024"], "say which: --date-order"),
        (["2024-06-05 10:30:00 BST"], "cannot be parsed like the others"),
        (["2024-Q1", "2024-Q2"], "contains '2024-Q1', which is no timestamp of a known format"),
        (["2024-03-01", "yesterday"], r"cannot be parsed.*yesterday"),
    ],
)
def test_what_has_no_single_meaning_is_refused(given: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=message):
        load(tmp_path, given)


def test_implausible_timestamps_are_counted(tmp_path: Path) -> None:
    loaded, _ = load(tmp_path, ["2024-03-01"] * 5 + ["1970-01-01", "2999-01-01", "2999-01-02"])
    notes = " ".join(loaded.notes)
    assert "1 of 8 timestamps is before 1990-01-01, the first 1970-01-01" in notes
    assert "2 of 8 timestamps are in the future, the last 2999-01-02" in notes


def test_one_date_that_does_not_fit_does_not_change_the_order_of_the_others(tmp_path: Path) -> None:
    given = [f"{day:02}/03/2024" for day in range(1, 31)]
    with pytest.raises(ContractError, match=r"1 row has a timestamp that cannot be parsed like the others \(day, month, year\)"):
        load(tmp_path, [*given, "31/02/2024"])


def test_the_command_offers_the_orders_that_can_be_read() -> None:
    assert options.DATE_ORDERS == timestamps.DATE_ORDERS
