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

# Data sets that are not here have no time.
CUTOFFS = {
    ONLINE_RETAIL: datetime(2011, 9, 1), "complete-journey": datetime(2017, 10, 1),
    "stackexchange-quantum": datetime(2018, 7, 1), "stackexchange-beer": datetime(2015, 6, 1),
}  # fmt: skip
# The others have too few users with more interactions than that, or take too long.
K_SHOT = (ONLINE_RETAIL, "polis-vtaiwan", "polis-austria")
SHOTS = (1, 3, 5)
# The longest first, so that none is left running alone at the end.
_SPLITS = ("k_shot", "item_cold", "temporal", "user_cold", "warm")
_ORDER = ("item_cold", "temporal", "user_cold", "k_shot", "warm")

Found = dict[str, Any]


def main() -> None:
    """Evaluate in this process; arguments: data set, split, number of seeds, tuning, output file."""
    name, split, seeds, tuning, out = sys.argv[1:]
    Path(out).write_text(json.dumps(one(name, split, int(seeds), float(tuning))), encoding="utf-8")


def splits_of(name: str) -> list[str]:
    """Return the splits of a data set, in the order of the page."""
    possible = {"temporal": name in CUTOFFS, "k_shot": name in K_SHOT}
    return [split for split in _ORDER if possible.get(split, True)]


def measure(names: Sequence[str], seeds: int, tuning: float) -> list[Found]:
    """Return the evaluations of all data sets and splits, in the order of the page."""
    pairs = [(name, split) for split in _SPLITS for name in names if split in splits_of(name)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(_apart, *zip(*pairs, strict=True), repeat(seeds), repeat(tuning)))
    return sorted(found, key=lambda result: (names.index(result["dataset"]), _ORDER.index(result["split"])))


def _apart(name: str, split: str, seeds: int, tuning: float) -> Found:
    def run() -> Found:
        out = SCRATCH / f"{name}-{split}.json"
        command = [sys.executable, "-W", "ignore", __file__, name, split, str(seeds), str(tuning), str(out)]
        subprocess.run(command, env=one_thread(), check=True)
        result: Found = json.loads(out.read_text(encoding="utf-8"))
        out.unlink()
        return result

    result: Found = kept(f"ranking {name} {split}", run, [seeds, tuning, data_hash(name)])
    return result


def one(name: str, split: str, seeds: int, tuning: float) -> Found:
    """Evaluate one data set and split; an interrupted evaluation resumes at the method that was running."""
    from recommender.evaluation.comparison import evaluate

    def report(stage: str, done: int, total: int) -> None:
        if stage.startswith("seed") and done < total:
            told(f"  {name} {split}: {stage}, method {done + 1} of {total}")

    return evaluate(
        dataset(name), split, seeds=seeds, cutoff=CUTOFFS[name] if split == "temporal" else None, shots=SHOTS,
        tuning=tuning, unfinished=UNFINISHED / "ranking" / f"{name} {split}", report=report,
    ).result  # fmt: skip


if __name__ == "__main__":
    main()
