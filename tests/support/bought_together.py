"""Items of kinds that no word tells, and users who each buy one kind: what an encoder can learn from behaviour."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import scipy.sparse as sp

KINDS = 6
# Each kind has words that share nothing; an item has one of them and one that all kinds share.
_NOUNS = (
    ("lamp", "candle", "lantern", "bulb"), ("mug", "cup", "plate", "bowl"), ("spade", "rake", "hose", "seed"),
    ("kite", "ball", "puzzle", "doll"), ("scarf", "hat", "glove", "coat"), ("pen", "paper", "stamp", "card"),
)  # fmt: skip
_OTHERS = ("red", "blue", "green", "small", "large", "vintage", "wooden", "metal", "old", "new")


def texts(items: int) -> list[str]:
    """One description for each item; item n is of kind n modulo `KINDS`."""
    rng = np.random.default_rng(0)
    nouns = [_NOUNS[n % KINDS][n // KINDS % 4] for n in range(items)]
    return [f"{rng.choice(_OTHERS)} {noun} {rng.choice(_OTHERS)}" for noun in nouns]


def taken(users: int, items: int, *, each: int = 8, seed: int = 0) -> sp.csr_matrix:
    """(users, items), 1 for what a user took: four fifths are of their kind, user n's is n modulo `KINDS`."""
    rng = np.random.default_rng(seed)
    matrix = sp.lil_matrix((users, items), dtype=np.float32)
    for user in range(users):
        own = rng.integers(items // KINDS, size=each) * KINDS + user % KINDS
        any_kind = rng.integers(items, size=each)
        matrix[user, np.where(rng.random(each) < 0.8, own, any_kind)] = 1
    return matrix.tocsr()


def write_tables(folder: Path, users: int = 200, items: int = 180) -> Path:
    """The files items.csv, users.csv and interactions.csv of such a shop, over ten months; users say nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("item_id", "description"),
                                    *((f"i{n:03}", text) for n, text in enumerate(texts(items)))])  # fmt: skip
    with (folder / "users.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user_id", "description"), *((f"u{n:03}", "") for n in range(users))])
    rng, pairs = np.random.default_rng(1), taken(users, items).tocoo()
    with (folder / "interactions.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [
            (f"u{user:03}", f"i{item:03}", f"2024-{month:02}-{day:02}")
            for user, item, month, day in zip(
                pairs.row, pairs.col, rng.integers(1, 11, pairs.nnz), rng.integers(1, 29, pairs.nnz), strict=True
            )
        ]
        csv.writer(file).writerows([("user_id", "item_id", "event_timestamp"), *rows])
    return folder
