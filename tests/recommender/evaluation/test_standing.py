"""The measure for defaults, which ends `make bench-recommender`: differences to the best other method, and ranks."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench_recommender_tables")


def result(dataset: str, split: str, **kinds: dict[str, float]) -> dict[str, Any]:
    """An evaluation: NDCG@20 by candidates and method; the interval is the difference ± 0.02."""
    rows = [
        {"candidates": name, "method": method, "users": 100.0 if split != "user_cold" else 7.0, "ndcg@20": value,
         "ci_low": values["coldstart"] - value - 0.02, "ci_high": values["coldstart"] - value + 0.02}
        for name, values in kinds.items() for method, value in values.items()
    ]  # fmt: skip
    return {"dataset": dataset, "split": split, "seeds": 1, "rows": rows, "notes": []}


RESULTS = [
    result("online-retail", "item_cold", cold={"EASE": 0.0, "popularity": 0.0, "TF-IDF": 0.2, "coldstart": 0.4},
           overall={"EASE": 0.2, "popularity": 0.1, "TF-IDF": 0.21, "coldstart": 0.2}),
    result("polis-austria", "warm", overall={"EASE": 0.5, "popularity": 0.1, "TF-IDF": 0.2, "coldstart": 0.4}),
    result("polis-austria", "user_cold", overall={"EASE": 0.5, "popularity": 0.6, "TF-IDF": 0.2, "coldstart": 0.4}),
]  # fmt: skip


def test_every_table_is_a_row_with_the_difference_to_the_best_other(tables: Any) -> None:
    found = [tuple(row[k] for k in (0, 1, 3, 6, 8, 9)) for row in tables.summary(RESULTS)]
    assert found == [
        ("Online Retail, new items", "cold", "TF-IDF", "+0.200", "above", "1"),
        ("Online Retail, new items", "overall", "TF-IDF", "-0.010", "level", "2.5"),
        ("Polis (Austria, German), held-out pairs", "overall", "EASE", "-0.100", "**below**", "2"),
        ("Polis (Austria, German), new users", "overall", "popularity", "-0.200", "**below**", "3"),
    ]


def test_ranks_are_means_over_tables_with_enough_users(tables: Any) -> None:
    found = {row[0]: tuple(row[1:]) for row in tables.mean_ranks(RESULTS)}
    assert list(found) == ["**coldstart**", "TF-IDF", "EASE", "popularity"]
    assert found["**coldstart**"] == ("1.8", "1.0", "", "2.2", "1 of 3")  # 1, 2.5 and 2
    assert found["EASE"] == ("2.3", "3.5", "", "1.8", "1 of 3")  # 3.5, 2.5 and 1
    assert tables.standing(RESULTS)[0] == "### Summary"
