"""`coldstart serve` for minutes under reads and events: `make bench-soak SHOP=a folder where make demo has run`."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
from bench_serve import known_users, told
from common import ROOT, Row, write_section
from http_load import Service, closed, open_loop, serving

ABOUT = (
    "Reading clients ask again as soon as they have an answer; events of known users with items of the shop arrive at "
    "fixed moments, in batches. Memory is the proportional set size (PSS) of a worker, which counts a page that two "
    "processes share half for each. Growth is from the end of the first minute to the last sample."
)
CLIENTS, EVENTS, BATCH, WORKERS = 32, 50, 5, 2
# Seconds between two looks at the memory; when growth begins to count.
LOOK, SETTLED = 10.0, 60.0
# Processes below this do not answer: the one that starts the workers, and Python's trackers.
_WORKER_MIB = 150.0


async def rows(shop: Path, seconds: float) -> list[Row]:
    """Load two workers for some seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        async with serving(shop, Path(scratch), workers=WORKERS) as service:
            reads, events, samples = await asyncio.gather(
                closed(service, "/v1/recommend", known_users(shop), CLIENTS, seconds),
                open_loop(service, "/v1/events", batches(shop), EVENTS / BATCH, seconds),
                memory(service, seconds),
            )
    settled = next(sample for at, sample in samples if at >= min(SETTLED, seconds / 2))
    last = samples[-1][1]
    growth = {pid: last[pid] / settled[pid] - 1 for pid in settled if pid in last}
    highest = max(max(sample.values()) for _, sample in samples)
    ended = sorted(settled.keys() ^ last.keys())
    curve = ", ".join(f"{max(sample.values()):,.0f}" for _, sample in thinned(samples))
    return [
        (f"known users, {CLIENTS} clients, {WORKERS} workers, {seconds / 60:g} min", "", told(reads)),
        (f"{EVENTS} events/s in batches of {BATCH}, meanwhile", "", told(events)),
        ("memory of the largest worker, at most", "", f"**{highest:,.0f} MiB**"),
        ("growth of a worker after the first minute, at most", "", f"**{max(growth.values()):+.1%}**"),
        ("memory of the largest worker over time", "", f"{curve} MiB"),
        ("workers that ended", "", f"{len(ended)}"),
    ]  # fmt: skip


def batches(shop: Path) -> Iterator[dict[str, Any]]:
    """Batches of events, of users and items of the shop in an order of chance."""
    with duckdb.connect() as con:
        users, items = (
            [name for (name,) in con.sql(f"SELECT {side}_id FROM '{shop}/data/{side}s.parquet' ORDER BY hash({side}_id)").fetchall()]  # noqa: E501
            for side in ("user", "item")
        )  # fmt: skip
    kinds = itertools.cycle(("view", "view", "view", "cart", "purchase"))
    pairs = zip(itertools.cycle(users), itertools.cycle(items), kinds, strict=False)
    return (
        {"events": [{"user_id": user, "item_id": item, "event_type": kind}
                    for user, item, kind in itertools.islice(pairs, BATCH)]}
        for _ in itertools.count()
    )  # fmt: skip


async def memory(service: Service, seconds: float) -> list[tuple[float, dict[int, float]]]:
    """Seconds since the beginning, and the memory of each worker in MiB by its process."""
    began, found = time.perf_counter(), []
    while (at := time.perf_counter() - began) < seconds:
        used = {pid: pss_mib(pid) for pid in service.pids()}
        found.append((at, {pid: mib for pid, mib in used.items() if mib >= _WORKER_MIB}))
        print(f"{at:6.0f} s  " + "  ".join(f"{pid}: {mib:,.0f} MiB" for pid, mib in found[-1][1].items()), flush=True)
        await asyncio.sleep(min(LOOK, max(seconds - at, 0.1)))
    return found


def pss_mib(pid: int) -> float:
    """The proportional set size of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def thinned(samples: list[tuple[float, dict[int, float]]], most: int = 11) -> list[tuple[float, dict[int, float]]]:
    """At most so many of the samples, evenly, the first and the last among them."""
    step = max(1, -(-(len(samples) - 1) // (most - 1)))
    return [*samples[:-1:step], samples[-1]]


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    if not (place / "data" / "bundle").is_dir():
        raise SystemExit(f"{place} has no data/bundle; run `make demo` there first")
    found = asyncio.run(rows(place, 60 * minutes))
    for what, _, measured in found:
        print(f"{what}: {measured}")
    write_section("soak", f"make bench-soak MINUTES={minutes:g}", ABOUT, found)
