"""Seconds from the `put` of an article until every worker lists it; `make bench-feed-put SHOP=folder`.

Writes its section of docs/explanation/feed.md, for a shop where `coldstart demo feed` has run. The workers are services
of their own that share the event log, so that each can be asked by itself. A reader whose words are the article's asks
each of them again and again until it is among the first ten.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from common import EXPLANATION, made_by, table, write_between
from http_load import Service

from coldstart_client import Client
from coldstart_client.models import EntityRequest, RecommendRequest
from coldstart_udfs.feast.operations.put import put
from coldstart_udfs.feast.operations.stores import open_store
from recommender.serve.events.opening import open_log

WORKERS, ARTICLES = 3, 50
# Distinct texts: which of them a reader asks for decides the list.
ABOUT = ("sour ale with cherries", "smoked porter", "gluten free lager", "mead from heather honey", "cask ale at home")
WHERE = ("in Lisbon", "on a boat", "for a wedding", "in a small cellar", "at altitude", "for a chess club",
         "in Iceland", "after a marathon", "in a caravan", "for my aunt")  # fmt: skip


def main() -> None:
    """Put the articles one by one, in both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shop", type=Path, help="a folder where `coldstart demo feed` has run; it is copied")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        shop = Path(folder) / "shop"
        shutil.copytree(given.shop, shop)
        os.chdir(shop)
        options = ["serve", "--port", "{port}"]
        services = []
        for number in range(WORKERS):
            scratch = Path(folder) / str(number)
            scratch.mkdir()
            services.append(stack.enter_context(closing(Service("coldstart", options, shop, scratch))))
        for one in services:
            asyncio.run(one.ready("Uvicorn running"))
        clients = [Client(f"http://127.0.0.1:{one.port}") for one in services]
        store, log = open_store(shop / "feature_repo"), open_log("sqlite:///data/events.db", Path("data/bundle"))
        texts = [f"{about} {where}" for where in WHERE for about in ABOUT][:ARTICLES]

        def by_command(name: str, text: str) -> None:
            put(store, "item", name, text)
            log.put("item", name, text)

        def by_http(name: str, text: str) -> None:
            clients[0].put_item(name, EntityRequest(description=text))

        rows = [
            (way, *measured(act, clients, [(f"{way[:4]}-{place}", text) for place, text in enumerate(texts)]))
            for way, act in (("`coldstart put`", by_command), ("`PUT /v1/items/{id}`", by_http))
        ]
    lines = table(("put by", "p50", "p95", "longest"), rows)
    print("\n".join(lines))
    about = (
        f"{ARTICLES} articles, {WORKERS} workers, seconds from the start of the call until the last worker lists the "
        "article among ten. For `coldstart put` it is what the command calls, without the start of the process; the "
        "longest is the first one, which loads the encoder."
    )
    text = made_by("make bench-feed-put SHOP=folder", about, ("feast", "numpy", "uvicorn"))
    write_between(EXPLANATION / "feed.md", "bench-feed-put", "\n".join([text, "", *lines]))


def measured(
    act: Callable[[str, str], None], clients: list[Client], articles: list[tuple[str, str]]
) -> tuple[str, str, str]:
    """p50, p95 and the longest of the seconds until every worker lists an article."""
    seconds = []
    for name, text in articles:
        listed = [0.0] * len(clients)

        def ask(place: int, name: str = name, text: str = text, listed: list[float] = listed) -> None:
            request = RecommendRequest.model_validate({"description": text, "k": 10})
            while name not in [one.item_id for one in clients[place].recommend(request).items]:
                time.sleep(0.02)
            listed[place] = time.perf_counter()

        began = time.perf_counter()
        act(name, text)
        threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(clients))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds.append(max(listed) - began)
    p50, p95 = np.percentile(seconds, [50, 95])
    return f"{p50:.2f} s", f"{p95:.2f} s", f"{max(seconds):.2f} s"


if __name__ == "__main__":
    main()
