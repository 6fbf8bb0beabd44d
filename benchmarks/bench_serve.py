"""`coldstart serve` under load, over loopback: `make bench-serve SHOP=a folder where make demo has run`."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
from common import ROOT, Row, short_texts, write_section
from http_load import Outcome, closed, open_loop, serving

ABOUT = (
    "Service and load share the processors; the share of the load in their time is stated. An open loop sends at fixed "
    "moments and times an answer from the moment at which its request was due."
)
SECONDS = 15.0


async def rows(shop: Path, seconds: float = SECONDS) -> list[Row]:
    """Measure one worker, then two."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        async with serving(shop, Path(scratch)) as service:
            users, texts = known_users(shop), new_sentences()
            await closed(service, "/v1/recommend", users, 1, 3)
            alone = await closed(service, "/v1/recommend", users, 1, seconds)
            found += [
                ("processor time of a recommendation to a known user, HTTP and store read included", "goal 1.5 ms",
                 f"**{alone.processor_ms():.1f} ms**"),
                ("known user, 1 client", "goal p50 5 ms", told(alone)),
            ]  # fmt: skip
            steady = await open_loop(service, "/v1/recommend", users, 150, seconds)
            found.append(("known users, open loop, 150/s", "goal p99 25 ms", told(steady)))
            spoken = await open_loop(service, "/v1/recommend", texts, 20, seconds)
            found.append(("a new sentence each, open loop, 20/s", "goal p99 120 ms", told(spoken)))
            flood = await open_loop(service, "/v1/recommend", texts, 400, 5)
            found.append(("a new sentence each, open loop, 400/s", "beyond capacity: 429", told(flood)))
            why = await closed(service, "/v1/explain", explained(users), 1, seconds / 3)
            found.append(("explanation, 1 client", "goal 20 ms", told(why)))
            batches = await closed(service, "/v1/events", events(users), 8, seconds)
            found.append((
                "events in batches of 10, 8 clients, on disk in SQLite", "goal 1,000 events/s",
                f"**{10 * batches.per_second():,.0f} events/s**, {told(batches)}",
            ))  # fmt: skip
            found.append(("memory of the worker after that", "goal 600 MiB", f"{service.largest_mib():,.0f} MiB"))
    with tempfile.TemporaryDirectory() as scratch:
        async with serving(shop, Path(scratch), workers=2) as service:
            users = known_users(shop)
            await closed(service, "/v1/recommend", users, 8, 3)
            both = await closed(service, "/v1/recommend", users, 8, seconds)
            found.append(("known users, 8 clients, 2 workers", "goal 400/s, p99 40 ms", told(both)))
    return found


def told(outcome: Outcome) -> str:
    """An outcome in words."""
    errors = ", ".join(f"{count:,} × {status}" for status, count in outcome.statuses.items() if status >= 400)
    return (
        f"p50 {outcome.ms(50):.1f} ms, p99 {outcome.ms(99):.1f} ms, {outcome.per_second():,.0f}/s, "
        f"{errors or 'no errors'}; load {outcome.share():.0%}"
    )


def known_users(shop: Path) -> Iterator[dict[str, Any]]:
    """Requests of all users, again and again."""
    with duckdb.connect() as con:
        ids = con.sql(f"SELECT user_id FROM '{shop}/data/users.parquet' ORDER BY hash(user_id)").fetchall()
    return ({"user_id": name, "k": 10} for (name,) in itertools.cycle(ids))


def new_sentences() -> Iterator[dict[str, Any]]:
    """Requests with a sentence that none before had."""
    texts = short_texts(3_000)
    return ({"description": f"I look for {texts[n % 3_000].lower()} number {n}", "k": 10} for n in itertools.count())


def explained(users: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Questions why an item is recommended."""
    return ({"user_id": one["user_id"], "item_id": "22423"} for one in users)


def events(users: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Batches of ten events."""
    return (
        {"events": [{"user_id": next(users)["user_id"], "item_id": "22423", "event_type": "view"} for _ in range(10)]}
        for _ in itertools.count()
    )


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    if not (place / "data" / "bundle").is_dir():
        raise SystemExit(f"{place} has no data/bundle; run `make demo` there first")
    write_section("serve", "make bench-serve", ABOUT, asyncio.run(rows(place)))
