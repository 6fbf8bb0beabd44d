"""Two replicas behind a real HAProxy that share a Redis, a PostgreSQL and a folder, as deploy/ starts them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import yaml

from recommender.serve.events.log import EventLog
from tests.support.commands import ROOT, free_port, must
from tests.support.services import program, running, serving, until
from tests.support.small_shop import LAST, apply

pytestmark = pytest.mark.slow

DEPLOY = ROOT / "deploy"
# What one replica accepts, another one uses after so many seconds; it looks every second.
STATED = 3


@dataclass(frozen=True)
class Replicas:
    """Processes and clients; `proxy` is HAProxy."""

    processes: list[subprocess.Popen[bytes]]
    ports: list[int]
    clients: list[httpx.Client]
    proxy: httpx.Client
    events: str
    log: Path

    def answered(self, replica: int) -> int:
        """How many recommendations a replica has made."""
        text = self.clients[replica].get("/metrics").text
        found = re.search(r'coldstart_requests_total\{route="/v1/recommend",status="200"\} (\S+)', text)
        return int(float(found[1])) if found else 0


@pytest.fixture(scope="module")
def replicas(
    served_shop: Path, redis_server: str, postgresql_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    haproxy = program("haproxy", "haproxy")
    shop = tmp_path_factory.mktemp("replicas") / "shop"
    shutil.copytree(served_shop, shop, ignore=shutil.ignore_patterns("*.db*", "keys.json*"))
    config = shop / "feature_repo" / "feature_store.yaml"
    given = yaml.safe_load(config.read_text())
    given["online_store"] = {"type": "redis", "connection_string": redis_server}
    config.write_text(yaml.safe_dump(given))
    apply(shop / "feature_repo").materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    name = f"replicas_{uuid4().hex}"
    with psycopg.connect(f"postgresql://{postgresql_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    events = f"postgresql+psycopg://{postgresql_server}/{name}"
    scopes = [part for scope in ("read", "feedback", "admin") for part in ("--scope", scope)]
    key = must("coldstart", "keys", "create", "shop", *scopes, cwd=shop).strip()
    options = ("--keys", "data/keys.json", "--events", events, "--rates", f"redis://{redis_server}", "--rate",
               "100000/minute")  # fmt: skip
    ports, own = [free_port(), free_port()], free_port()
    places = {"BIND": f"127.0.0.1:{own}", "REPLICA_A": f"127.0.0.1:{ports[0]}", "REPLICA_B": f"127.0.0.1:{ports[1]}"}
    command = ["env", *(f"{name}={place}" for name, place in places.items()),
               haproxy, "-db", "-f", str(DEPLOY / "haproxy" / "haproxy.cfg")]  # fmt: skip
    with ExitStack() as stack:
        processes = [stack.enter_context(serving(shop, port, *options)) for port in ports]
        stack.enter_context(running(command, shop / "haproxy.log", own, shop))
        header = {"Authorization": f"Bearer {key}"}
        clients = [
            stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=header, timeout=60))
            for port in (*ports, own)
        ]
        yield Replicas(processes, ports, clients[:2], clients[2], events, shop / "haproxy.log")


def recommended(client: httpx.Client, user: str) -> dict[str, Any]:
    response = client.post("/v1/recommend", json={"user_id": user})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def event(user: str, item: str = "pot", kind: str = "purchase") -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "event_type": kind, "event_timestamp": "2026-01-01T00:00:00Z"}


def test_requests_go_to_both_and_get_the_same_answer(replicas: Replicas) -> None:
    answers = [recommended(replicas.proxy, "ann") for _ in range(10)]
    assert {answer["degraded"] for answer in answers} == {None}
    assert len({json.dumps(answer["items"]) for answer in answers}) == 1
    assert (replicas.answered(0), replicas.answered(1)) == (5, 5)


def test_what_one_accepts_the_other_uses(replicas: Replicas) -> None:
    one, other = replicas.clients
    assert recommended(other, "eve")["tier"] == "unknown"
    assert one.post("/v1/events", json={"events": [event("eve")]}).status_code == 202
    assert recommended(one, "eve")["tier"] == "warm"
    until(lambda: recommended(other, "eve")["tier"] == "warm", STATED)


def test_who_is_erased_on_one_is_gone_on_the_other(replicas: Replicas) -> None:
    one, other = replicas.clients
    assert one.put("/v1/users/finn", json={"description": "I collect garden pots"}).status_code == 200
    assert one.post("/v1/events", json={"events": [event("finn")]}).status_code == 202
    for user in ("finn", "ann"):
        until(lambda user=user: recommended(other, user)["tier"] == "warm", STATED)
        receipt = one.delete(f"/v1/users/{user}").json()
        assert receipt["removed"]["events"] == (1 if user == "finn" else 0)
        until(lambda user=user: recommended(other, user)["tier"] == "unknown", STATED)
    with closing(EventLog.open(replicas.events)) as log:
        assert "finn" not in {told.user_id for _, told in log.after(0).events}


def test_the_health_check_of_the_image_tells_a_replica_from_a_closed_port(replicas: Replicas) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    (_, *check) = json.loads(re.findall(r"CMD (\[\"python\", .*\])", text)[0])
    found = [
        subprocess.run([sys.executable, *(part.replace("8000", str(port)) for part in check)], stderr=subprocess.PIPE,
                       check=False).returncode
        for port in (replicas.ports[0], free_port())
    ]  # fmt: skip
    assert found == [0, 1]


def test_a_replica_that_is_killed_under_load_is_not_missed(replicas: Replicas) -> None:
    """Of what runs at that moment an answer may be lost; afterwards none is, and no event is lost or counted twice."""
    proxy, numbers, clients = replicas.proxy, count(), 4

    def load(going_on: Callable[[], bool]) -> list[tuple[str, int]]:
        found = []
        while going_on():
            user = f"load{next(numbers)}"
            found.append(("", proxy.post("/v1/recommend", json={"user_id": "bob", "k": 2}).status_code))
            sent = proxy.post("/v1/events", json={"events": [event(user)]}, headers={"Idempotency-Key": user})
            found.append((user, sent.status_code))
        return found

    def under_load(while_running: Callable[[], None]) -> list[tuple[str, int]]:
        running_on = [True]
        with ThreadPoolExecutor(clients) as pool:
            loads = [pool.submit(load, lambda: running_on[0]) for _ in range(clients)]
            try:
                while_running()
            finally:
                running_on[0] = False
            return [one for future in loads for one in future.result()]

    def kill() -> None:
        time.sleep(2)
        os.kill(replicas.processes[0].pid, signal.SIGKILL)
        time.sleep(3)

    during, after = under_load(kill), under_load(lambda: time.sleep(3))
    failed = [one for one in during if one[1] not in (200, 202)]
    assert len(failed) <= clients
    assert {status for _, status in after} == {200, 202}
    assert len(after) > 20
    acknowledged = {user for user, status in [*during, *after] if status == 202}
    with closing(EventLog.open(replicas.events)) as log:
        stored = [told.user_id for _, told in log.after(0).events if told.user_id.startswith("load")]
    assert len(stored) == len(set(stored))
    assert acknowledged <= set(stored) <= acknowledged | {user for user, _ in failed}
