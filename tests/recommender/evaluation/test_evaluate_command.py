"""`coldstart evaluate` from the command line, for every kind of split, on the small real shop."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from recommender.evaluation.baselines import METHODS, OURS, missing
from recommender.measure.splits import SPLITS
from recommender.tracking.records import runs
from tests.support.commands import must

# The candidates of whom somebody wants one. An item is cold if nobody has it in the training part: under user_cold,
# warm and k_shot that happens to items that few bought.
CANDIDATES = {
    "item_cold": ["cold", "warm", "overall"],
    "user_cold": ["cold", "warm", "overall"],
    "both_cold": ["cold", "warm", "overall"],
    "warm": ["cold", "warm", "overall"],
    "k_shot": ["cold", "warm", "overall"],
    "temporal": ["cold", "warm", "overall"],
}
# Half a minute each; three kinds are enough for every day.
SLOW = {"both_cold", "warm", "k_shot"}
OPTIONS = {"temporal": ["--cutoff", "2011-08-01"], "k_shot": ["--shots", "1,3"]}


def test_every_split_is_evaluated_here() -> None:
    assert set(CANDIDATES) == set(SPLITS)


@pytest.mark.parametrize(
    "split", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CANDIDATES]
)
def test_a_split_is_evaluated_from_the_command_line(split: str, shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    printed = must(
        "coldstart", "evaluate", "--data", shop / "data", "--split", split, "--seeds", "1", "--tuning", "0.05",
        "--json", out, *OPTIONS.get(split, []), cwd=tmp_path,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(out.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert (result["split"], result["seeds"]) == (split, 1)
    methods = [*(name for name in METHODS if name not in missing()), OURS]
    shots = [1, 3] if split == "k_shot" else [None]
    assert [(row.get("shots"), row["candidates"], row["method"]) for row in result["rows"]] == [
        (given, candidates, method) for given in shots for candidates in CANDIDATES[split] for method in methods
    ]
    for row in result["rows"]:
        assert row["users"] >= 10
        for name in ("ndcg@20", "recall@20", "precision@10", "auc", "coverage", "cold_share"):
            assert 0 <= row[name] <= 1, (row["method"], name)
        assert min(row["fit_s"], row["score_s"]) >= 0
        if row["method"] != OURS:
            assert row["ci_low"] <= row["ci_high"]
            assert row["trials"] >= 1
            assert row["tuning_s"] > 0
        elif row["candidates"] == "overall":
            assert row["auc"] > 0.55  # chance is a half
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    assert all(method in printed for method in methods)
    assert not list(tmp_path.glob("*.unfinished"))
    recorded(tmp_path, result, out)


def recorded(folder: Path, result: dict[str, Any], out: Path) -> None:
    """The record of the run says the same as its result."""
    (run,) = runs(folder / "data" / "runs")
    assert (run.command, run.status, run.parameters["split"]) == ("evaluate", "finished", result["split"])
    assert len(run.parameters["data_sha256"]) == 64
    for row in result["rows"]:
        shots = f"/{row['shots']} shots" if "shots" in row else ""
        assert run.figures[f"{row['candidates']}{shots}/{row['method']}/ndcg@20"] == row["ndcg@20"]
        if not shots:  # of one seed
            ((seed, value),) = run.metrics[f"by_seed/{row['candidates']}/{row['method']}"]
            assert (seed, value) == (0, pytest.approx(row["ndcg@20"]))
    assert next(iter(run.figures)).endswith(f"/{OURS}/ndcg@20")
    assert (folder / "data" / "runs" / run.id / "result.json").read_bytes() == out.read_bytes()
