"""Seconds and memory of every command, from raw files to recommendations, on made-up shops of growing size.

Each command runs in a process of its own. What was measured is kept in data/bench-scale, so that an interrupted run
continues; delete this folder to measure again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from common import EXPLANATION, ROOT, made_by, table, write_between
from scale_shop import MOST_ITEMS, PER_ITEM, PER_USER, write_shop

from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.encoder.places import own_folder
from coldstart_udfs.files import write_text

SCRATCH = ROOT / "data" / "bench-scale"
SIZES = (100_000, 1_000_000, 10_000_000)
COMMANDS = ("ingest", "encoding", "profiles", "apply", "materialize", "train", "recommend")
LIMIT = 3_600
_PAUSE = 0.1
_CACHE = "cache"
_PACKAGES = ("duckdb", "feast", "numpy", "onnxruntime", "pyarrow", "scipy")
_NEW_USER = "I run a small garden cafe and look for vintage enamel and hanging decorations"
# `coldstart profiles` encodes what is not in the vector cache. Here this is a command of its own before it.
_ENCODE = """
import duckdb, sys
from coldstart_udfs.encoder.encoder import shared_encoder
encoder = shared_encoder()
for name in ("items", "users"):
    query = f"SELECT DISTINCT description FROM 'data/{name}.parquet' WHERE description IS NOT NULL"
    texts = [text for (text,) in duckdb.sql(query).fetchall()]
    for first in range(0, len(texts), 8_192):
        encoder.encode(texts[first : first + 8_192])
"""


def main() -> None:
    """Measure what is not measured yet, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, help="numbers of interactions")
    parser.add_argument("--until", choices=COMMANDS, default=COMMANDS[-1], help="the last command to run")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds after which a command is ended")
    arguments = parser.parse_args()
    wanted = COMMANDS[: COMMANDS.index(arguments.until) + 1]
    for size in arguments.sizes:
        for command in wanted:
            if not run(size, command, arguments.limit):
                break  # the commands after it need its output
    write(sorted(size for size in map(int, (path.name for path in SCRATCH.iterdir())) if results(size)))


def run(size: int, command: str, limit: float) -> bool:
    """Measure one command of one shop unless it is measured; returns whether it came to its end."""
    found = results(size)
    if command not in found:
        shop = SCRATCH / str(size)
        if not (shop / "feature_repo").exists():
            shutil.rmtree(shop, ignore_errors=True)
            found = {"shop": dict(zip(("items", "users"), write_shop(shop / "raw", size), strict=True))}
            subprocess.run([*_coldstart("init"), str(shop)], check=True, stdout=subprocess.DEVNULL)
            _empty_cache(shop)
        print(f"{size:,} interactions: {command}", flush=True)
        found[command] = measured(_words(command), shop, limit)
        print(f"  {found[command]}", flush=True)
        write_text(shop / "results.json", json.dumps(found, indent=2) + "\n")
    return "over" not in found[command]


def measured(words: list[str], folder: Path, limit: float) -> dict[str, float]:
    """Run a command in a folder; returns its seconds, those of the processor, and its peak memory in GiB.

    The memory is that of the largest process, or of all of the command's processes together if that was seen to be
    more at one of ten looks a second.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / _CACHE), "NO_COLOR": "1"}
    with (folder / "log.txt").open("a") as log:
        began = time.monotonic()
        child = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        together = [0]
        watcher = threading.Thread(target=_watch, args=(child.pid, began + limit, together))
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        watcher.join()
    values = {
        "s": round(seconds, 1), "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "gib": round(max(usage.ru_maxrss / 2**20, together[0] / 2**30), 2),
    }  # fmt: skip
    if seconds >= limit:
        return {**values, "over": limit}
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} failed with status {child.returncode}; see {folder / 'log.txt'}")
    return values


def _empty_cache(shop: Path) -> None:
    """A vector cache of the shop's own, with the derived models of this machine."""
    shared_encoder().encode(["a text"])  # builds them once
    cache = shop / _CACHE / own_folder().name
    cache.mkdir(parents=True)
    (cache / "models").symlink_to(own_folder() / "models", target_is_directory=True)


def _watch(pid: int, until: float, together: list[int]) -> None:
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            family = [process, *process.children(recursive=True)]
            together[0] = max(together[0], sum(one.memory_info().rss for one in family))
            if time.monotonic() > until:
                process.kill()
            time.sleep(_PAUSE)
    except psutil.Error:  # it, or one of its processes, has ended meanwhile
        return


def results(size: int) -> dict[str, Any]:
    """What is measured of a size."""
    path = SCRATCH / str(size) / "results.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def write(sizes: list[int]) -> None:
    """Write the section of docs/explanation/performance.md."""
    rows, found = [], {size: results(size) for size in sizes}
    for command in COMMANDS:
        cells = []
        for size in sizes:
            one = found[size].get(command)
            if one is None:
                cells.append("not run")
            elif "over" in one:
                cells.append(f"ended after {one['over']:,.0f} s, {one['gib']:.1f} GiB")
            else:
                cells.append(f"{one['s']:,.0f} s ({one['cpu_s']:,.0f} s), {one['gib']:.1f} GiB")
        rows.append((_shown(command), *cells, " → ".join(_slopes(command, sizes, found))))
    shops = "; ".join(f"{size:,}: {found[size]['shop']['items']:,} items, {found[size]['shop']['users']:,} users"
                      for size in sizes)  # fmt: skip
    about = (
        "Made-up shops with the products of Online Retail, varied by colour, size and material, as items: "
        f"{PER_USER} interactions for each user and {PER_ITEM} for each item, at most {MOST_ITEMS:,} items, 12 monthly "
        f"snapshots ({shops}). Each command runs once, in a process of its own: seconds, in brackets those of the "
        "processor, and peak memory of all its processes. `profiles` finds its vectors in the cache: the row above it "
        "is the encoding of the distinct texts. The slope is log(processor time) over log(interactions) between two "
        "sizes: 1 is linear. On a machine that has other work to do, compare the processor's seconds."
    )
    head = ("command", *(f"{size:,} interactions" for size in sizes), "slope")
    text = [made_by("make bench-scale", about, _PACKAGES), "", *table(head, rows)]
    write_between(EXPLANATION / "performance.md", "scale", "\n".join(text))


def _slopes(command: str, sizes: list[int], found: dict[int, dict[str, Any]]) -> list[str]:
    slopes = []
    for small, large in pairwise(sizes):
        values = [found[size].get(command, {}) for size in (small, large)]
        if all("cpu_s" in one and "over" not in one for one in values):
            slopes.append(f"{math.log(values[1]['cpu_s'] / values[0]['cpu_s']) / math.log(large / small):.2f}")
    return slopes


def _words(command: str) -> list[str]:
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    feast = [str(Path(sys.executable).with_name("feast")), "-c", "feature_repo"]
    return {
        "ingest": [*_coldstart("ingest"), "raw"],
        "encoding": [sys.executable, "-c", _ENCODE],
        "profiles": _coldstart("profiles"),
        "apply": [*feast, "apply"],
        "materialize": [*feast, "materialize", "2024-01-01T00:00:00", now],
        "train": _coldstart("train"),
        "recommend": [*_coldstart("recommend"), "--description", _NEW_USER],
    }[command]


def _shown(command: str) -> str:
    if command == "encoding":
        return "encoding of all texts"
    return f"`feast {command}`" if command in ("apply", "materialize") else f"`coldstart {command}`"


def _coldstart(command: str) -> list[str]:
    return [sys.executable, "-m", "recommender.cli", command]


if __name__ == "__main__":
    main()
