"""`coldstart serve` under load, over loopback: `make bench-serve SHOP=a folder where make demo has run`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
from common import ROOT, Row, short_texts, write_section
from http_load import Outcome, closed, feast_serving, open_loop, serving

ABOUT = (
    "Service and load share the processors; the share of the load in their time is stated. An open loop sends at fixed "
    "moments and times an answer from the moment at which its request was due. `feast serve` reads the features of a "
    "user that a recommendation reads."
)
SECONDS = 15.0


async def rows(shop: Path, seconds: float = SECONDS) -> list[Row]:
    """Measure `feast serve`, one worker of the service, another on PostgreSQL, then two workers."""
    users, texts = known_users(shop), new_sentences()
    with tempfile.TemporaryDirectory() as scratch:
        async with feast_serving(shop, Path(scratch)) as feast:
            await closed(feast, "/get-online-features", features(users), 1, 3)
            theirs = await closed(feast, "/get-online-features", features(users), 1, seconds)
    feast_told = f"`feast serve`, features alone: {theirs.processor_ms():.1f} ms"
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        async with serving(shop, Path(scratch)) as service:
            await closed(service, "/v1/recommend", users, 1, 3)
            alone = await closed(service, "/v1/recommend", users, 1, seconds)
            found += [
                ("processor time of a recommendation to a known user, HTTP and store read included", feast_told,
                 f"**{alone.processor_ms():.1f} ms**"),
                ("known user, 1 client", f"`feast serve`, features alone: {told(theirs)}", told(alone)),
            ]  # fmt: skip
            steady = await open_loop(service, "/v1/recommend", users, 150, seconds)
            found.append(("known users, open loop, 150/s", "", told(steady)))
            spoken = await open_loop(service, "/v1/recommend", texts, 20, seconds)
            found.append(("a new sentence each, open loop, 20/s", "", told(spoken)))
            flood = await open_loop(service, "/v1/recommend", texts, 400, 5)
            found.append(("a new sentence each, open loop, 400/s: more than one worker can do", "", told(flood)))
            why = await closed(service, "/v1/explain", explained(users), 1, seconds / 3)
            found.append(("explanation, 1 client", "", told(why)))
            batches = await closed(service, "/v1/events", events(users), 8, seconds)
            memory = service.largest_mib()
    with tempfile.TemporaryDirectory() as scratch, postgresql(Path(scratch)) as url:
        compared = ""
        if url:
            async with serving(shop, Path(scratch), events=url) as service:
                others = await closed(service, "/v1/events", events(users), 8, seconds)
                compared = f"PostgreSQL: {10 * others.per_second():,.0f} events/s, {told(others)}"
        found.append((
            "events in batches of 10, 8 clients, on disk in SQLite", compared,
            f"**{10 * batches.per_second():,.0f} events/s**, {told(batches)}",
        ))  # fmt: skip
    found.append(("memory of the worker after that", "", f"{memory:,.0f} MiB"))
    with tempfile.TemporaryDirectory() as scratch:
        async with serving(shop, Path(scratch), workers=2) as service:
            await closed(service, "/v1/recommend", users, 8, 3)
            both = await closed(service, "/v1/recommend", users, 8, seconds)
            found.append(("known users, 8 clients, 2 workers", "", told(both)))
    return found


@contextlib.contextmanager
def postgresql(scratch: Path) -> Iterator[str | None]:
    """A PostgreSQL until the block ends, as the URL of an event log; None if it is not installed."""
    programs = [Path(name).parent for name in [shutil.which("initdb")] if name]
    programs += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        yield None
        return
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if owner:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    def run(*options: str) -> None:
        command = [str(programs[-1] / "pg_ctl"), "-D", str(folder / "data"), "-w", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **owner)

    try:
        run("init", "-o", "-U shop --auth trust -E UTF8 --locale C")
        run("start", "-l", str(folder / "log"), "-o", f"-p {port} -h 127.0.0.1 -k {folder}")
        try:
            yield f"postgresql+psycopg://shop@127.0.0.1:{port}/postgres"
        finally:
            run("stop", "-m", "fast")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def features(users: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Requests to `feast serve` for what the service reads of a user."""
    names = [
        "user_profiles:user_profile", "user_profiles:user_evidence", "user_descriptions:user_description",
        "user_descriptions:user_embedding", "user_descriptions:user_attributes",
    ]  # fmt: skip
    return ({"features": names, "entities": {"user_id": [one["user_id"]]}} for one in users)


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
