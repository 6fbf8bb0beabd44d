"""Evaluate every method on every data set and split with `recommender.evaluation.comparison`.

Each data set and split runs in a separate process with one thread; as many run at a time as there are processors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import repeat
from pathlib import Path
from typing import Any

from bench_recommender_setup import ONLINE_RETAIL, SCRATCH, UNFINISHED, data_hash, dataset, kept, one_thread, told

CUTOFF = datetime(2011, 9, 1)
SHOTS = (1, 3, 5)
# The longest first, so that none is left running alone at the end.
_SPLITS = ("item_cold", "k_shot", "temporal", "user_cold", "warm")
_ELSEWHERE = ("item_cold", "user_cold", "warm")

Found = dict[str, Any]


def main() -> None:
    """Evaluate one data set and split in this process; arguments: data set, split, number of seeds, output file."""
    name, split, seeds, out = sys.argv[1:]
    Path(out).write_text(json.dumps(one(name, split, int(seeds))), encoding="utf-8")


def measure(names: Sequence[str], seeds: int) -> list[Found]:
    """Return the evaluations of all data sets and splits, in the order of the page."""
    pairs = [(name, split) for split in _SPLITS for name in names if name == ONLINE_RETAIL or split in _ELSEWHERE]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(_apart, *zip(*pairs, strict=True), repeat(seeds)))
    order = {split: place for place, split in enumerate(("item_cold", "temporal", "user_cold", "k_shot", "warm"))}
    return sorted(found, key=lambda result: (names.index(result["dataset"]), order[result["split"]]))


def _apart(name: str, split: str, seeds: int) -> Found:
    def run() -> Found:
        out = SCRATCH / f"{name}-{split}.json"
        command = [sys.executable, "-W", "ignore", __file__, name, split, str(seeds), str(out)]
        subprocess.run(command, env=one_thread(), check=True)
        result: Found = json.loads(out.read_text(encoding="utf-8"))
        out.unlink()
        return result

    result: Found = kept(f"ranking {name} {split}", run, [seeds, data_hash(name)])
    return result


def one(name: str, split: str, seeds: int) -> Found:
    """Evaluate one data set and split; an interrupted evaluation resumes at the method that was running."""
    from recommender.evaluation.comparison import evaluate

    stages: list[str] = []

    def report(stage: str, done: int, total: int) -> None:
        if stage.startswith("seed") and (not done or done == total - 1):
            stages.append(stage)
            told(f"  {name} {split}: {stage}, method {done + 1} of {total}")

    return evaluate(
        dataset(name), split, seeds=seeds, cutoff=CUTOFF if split == "temporal" else None, shots=SHOTS,
        unfinished=UNFINISHED / "ranking" / f"{name} {split}", report=report,
    ).result  # fmt: skip


if __name__ == "__main__":
    main()
