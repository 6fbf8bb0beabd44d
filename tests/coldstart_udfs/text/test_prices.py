"""Prices as shops of many countries write them: never a thousand times wrong, in the right currency or in none."""

from __future__ import annotations

import duckdb
import pytest

from coldstart_udfs.text.cleaning import clean_text
from coldstart_udfs.text.entities import entities, stated_price
from coldstart_udfs.text.prices import prices


def values(text: str) -> list[str]:
    return [one.value for one in entities(text) if one.kind == "price"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sofa €1.250,00", "1250.00 EUR"),
        ("sofa €1.250", "1250.00 EUR"),
        ("sofa € 1 250", "1250.00 EUR"),
        ("sofa € 1 250,00 incl. VAT", "1250.00 EUR"),
        ("€\u00a01\u202f250 sofa", "1250.00 EUR"),
        ("1 250 € sofa", "1250.00 EUR"),
        ("CHF 1'250.– sofa", "1250.00 CHF"),
        ("1’250.50 CHF", "1250.50 CHF"),
        ("sofa £1.5k", "1500.00 GBP"),
        ("sofa $1,250.00", "1250.00 USD"),
        ("sofa $1,250", "1250.00 USD"),
        ("$1,250,000.50", "1250000.50 USD"),
        ("a house for $1.2 million", "1200000.00 USD"),
        ("EUR 12,50", "12.50 EUR"),
        ("12.50 EUR", "12.50 EUR"),
        ("1,5 €", "1.50 EUR"),
        ("12€50", "12.50 EUR"),
        ("€ 19,-", "19.00 EUR"),
        ("19,- €", "19.00 EUR"),
        ("199:- SEK", "199.00 SEK"),
        ("1.250 kr", "1250.00 kr"),
        ("kr 1.250,50", "1250.50 kr"),
        ("1.250,- kr", "1250.00 kr"),
        ("SEK 1 250", "1250.00 SEK"),
        ("¥1,200", "1200.00 JPY"),
        ("JPY 1.250", "1250.00 JPY"),
        ("₹1,25,000", "125000.00 INR"),
        ("199,99 zł", "199.99 PLN"),
        ("1 290 Kč", "1290.00 CZK"),
        ("Rp 150.000", "150000.00 IDR"),
        ("fuel $0.125", "0.12 USD"),
        ("£5 100 ml", "5.00 GBP"),
        ("€ 12 500 g", "12.00 EUR"),
        ("£25 100% cotton", "25.00 GBP"),
        ("SET OF 5 £10", "10.00 GBP"),
        ("pack of 6 EUR 12", "12.00 EUR"),
    ],
)
def test_the_amount_is_the_one_that_was_written(text: str, value: str) -> None:
    assert values(text) == [value]


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("$5 mug", "USD"), ("US$5 mug", "USD"), ("US $5 mug", "USD"), ("only$5", "USD"), ("A$5 mug", "AUD"),
        ("C$5 mug", "CAD"), ("NZ$5 mug", "NZD"), ("HK$5 mug", "HKD"), ("S$5 mug", "SGD"), ("R$ 5 caneca", "BRL"),
        ("AUD $5", "AUD"), ("CAD$5", "CAD"), ("$5 AUD", "AUD"), ("$5 MXN", "MXN"), ("¥5 CNY", "CNY"),
        ("5 kr NOK", "NOK"),
    ],
)  # fmt: skip
def test_a_dollar_is_the_one_that_was_written(text: str, currency: str) -> None:
    assert values(text) == [f"5.00 {currency}"]


@pytest.mark.parametrize(
    "text",
    [
        "£1.250", "$1.250", "€ 1 250.000", "€1.50.00",  # decimals, or thousands
        "1.659 €/l", "€1,250 per litre",
        "£5 100 beads", "set of 2 500 €",  # a price and a number, or one price
        "£1.5m", "£1.5K-cup", "£5,100g", "Z$5", "Mex$5", "£1½",  # of what?
        "for $n \\times 4$ systems", "10 Ft hose", "TRY 3 NEW FLAVOURS", "version 1.250.000",
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_no_price(text: str) -> None:
    assert values(text) == []
    assert stated_price(text) is None


@pytest.mark.parametrize(
    "text", ["10–15 €", "10-15 EUR", "€10-15", "€10 - €15", "10 to 15 euros", "10 bis 15 €", "EUR 10–15 each"]
)
def test_both_ends_of_a_range_are_prices(text: str) -> None:
    assert values(text) == ["10.00 EUR", "15.00 EUR"]


def test_both_ends_of_a_range_have_its_thousands() -> None:
    assert values("5-10k €") == values("€5-10k") == ["5000.00 EUR", "10000.00 EUR"]
    assert values("£1k-£2k") == ["1000.00 GBP", "2000.00 GBP"]
    assert values("€5-10 mugs") == ["5.00 EUR"]


def test_the_words_of_a_price_are_the_whole_price() -> None:
    text = "was € 1 250,00 now 999,- kr SEK, or A$25 each"
    assert [text[one.start : one.stop] for one in prices(text)] == ["€ 1 250,00", "999,- kr SEK", "A$25"]


def test_cleaning_keeps_a_price_what_it_is() -> None:
    for text in ("€\u00a01\u202f250,00", "CHF 1'250.–", "19,- €", "10–15 €", "R$\u00a019,90", "＄5"):
        assert values(clean_text(text)) == values(text), text


def test_the_band_of_a_price_in_sql(con: duckdb.DuckDBPyConnection) -> None:
    rows = con.sql("""
        SELECT list_filter(tags(t), lambda tag: tag."group" = 'price')[1].label
        FROM (VALUES ('sofa €1.250,00'), ('sofa € 1 250'), ('sofa £1.5k'), ('sofa £1.250')) v(t)
    """).fetchall()
    assert rows == [("2^10",), ("2^10",), ("2^10",), (None,)]


@pytest.mark.parametrize("unit", ["1 ", "1.", "£1 ", "kr", "1-", "€1.250,", "1½", "$A"])
def test_a_long_text_is_read_in_linear_time(unit: str) -> None:
    """Quadratic, one of these would take hours: that it ends is what is tested."""
    assert sum(1 for _ in prices("£" + unit * (200_000 // len(unit)))) >= 0
