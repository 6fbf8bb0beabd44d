"""Removals from cart and wishlist: they take back what was added, and never a purchase."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from recommender.data.events import EventWeights
from recommender.data.tables import load, read_interactions

START = datetime(2024, 1, 1)
NAMES = {"v": "view", "c": "add_to_cart", "b": "begin_checkout", "x": "remove_from_cart", "p": "purchase",
         "r": "refund", "w": "add_to_wishlist", "y": "remove_from_wishlist"}  # fmt: skip


def taken_back(folder: Path, sequences: dict[str, str]) -> dict[str, str]:
    """Below each event of a user with one item, the number of the event that takes it back."""
    folder.mkdir(exist_ok=True)
    events = [(user, "i", START + timedelta(days=n), NAMES[letter])
              for user, types in sequences.items() for n, letter in enumerate(types)]  # fmt: skip
    random.Random(1).shuffle(events)
    with duckdb.connect() as con:
        con.execute("CREATE TABLE items AS SELECT 'i' AS item_id, 'thing' AS description")
        con.execute("CREATE TABLE users AS SELECT unnest($1) AS user_id, NULL AS description", [list(sequences)])
        con.execute("CREATE TABLE interactions AS SELECT unnest($1) AS user_id, unnest($2) AS item_id, "
                    "unnest($3) AS event_timestamp, unnest($4) AS event_type",
                    [list(column) for column in zip(*events, strict=True)])  # fmt: skip
        for table in ("items", "users", "interactions"):
            con.execute(f"COPY {table} TO '{folder / table}.parquet'")
    with duckdb.connect() as con:
        load(con, folder)
        rows = con.sql("SELECT user_id, event_timestamp::TIMESTAMP, returned::TIMESTAMP FROM interactions").fetchall()
    found = {user: ["."] * len(types) for user, types in sequences.items()}
    for user, moment, back in rows:
        if back is not None:
            found[user][(moment - START).days] = f"{(back - START).days:x}"
    return {user: "".join(row) for user, row in found.items()}


SEQUENCES = {
    "cx": "1.", "x": ".", "xc": "..", "ccx": ".2.", "ccxx": "32..", "cxx": "1..", "cxcx": "1.3.",
    # A purchase is never taken back, nor the cart that led to it: shops empty the cart after an order.
    "px": "..", "cpx": "...", "cpcx": "..3.", "ccpx": "....", "cxpx": "1...",
    # Views, checkouts and wishlists stay; a refund takes back all that is left.
    "vcx": ".2.", "cbx": "2..", "wcx": ".2.", "wy": "1.", "wcy": "2..", "wpy": "...",
    "vcpr": "333.", "vcxr": "32..", "cpxr": "33..", "ccxpr": "42.4.",
}  # fmt: skip


def test_a_removal_takes_back_the_last_cart_since_the_last_purchase(tmp_path: Path) -> None:
    found = taken_back(tmp_path, {types: types for types in SEQUENCES})
    assert found == SEQUENCES


def test_removals_of_many_pairs_agree_with_a_stack(tmp_path: Path) -> None:
    draw = random.Random(0)
    sequences = {f"u{n}": "".join(draw.choices("cccxxpv", k=draw.randrange(1, 12))) for n in range(200)}
    found = taken_back(tmp_path, sequences)
    assert found == {name: stack(types) for name, types in sequences.items()}
    assert sum(set(row) != {"."} for row in found.values()) > 80


def stack(types: str) -> str:
    """The same rule, event by event."""
    answer, carts = ["."] * len(types), list[int]()
    for n, letter in enumerate(types):
        if letter == "c":
            carts.append(n)
        elif letter == "p":
            carts = []
        elif letter == "x" and carts:
            answer[carts.pop()] = f"{n:x}"
    return "".join(answer)


@pytest.mark.parametrize(
    ("types", "weight"), [("cx", 0), ("cxx", 0), ("px", 1), ("cpx", 1.5), ("vcx", 0.1), ("xv", 0.1)]
)
def test_what_takes_back_never_speaks_for_the_item(types: str, weight: float, tmp_path: Path) -> None:
    taken_back(tmp_path, {"ann": types})
    with duckdb.connect() as con:
        load(con, tmp_path)
        counted = read_interactions(con).weighted(EventWeights(), START + timedelta(days=30))
    assert counted.weights.sum() == pytest.approx(weight)
