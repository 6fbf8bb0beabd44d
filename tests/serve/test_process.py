"""`coldstart serve` and `coldstart keys` as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.commands import free_port, must, run, wait_for


def test_an_address_of_the_network_needs_keys(served_shop: Path) -> None:
    refused = run("coldstart", "serve", "--host", "0.0.0.0", cwd=served_shop)
    assert refused.returncode == 2
    assert "without keys the service listens on this machine alone, and 0.0.0.0 is another address" in refused.stderr
    missing = run("coldstart", "serve", "--host", "0.0.0.0", "--keys", "none.json", cwd=served_shop)
    assert "none.json does not exist; `coldstart keys create NAME --file none.json` writes it" in missing.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--events", "mysql://x/y", "the event log cannot be at mysql://x/y; give sqlite:///FILE or postgresql"),
        ("--events", "sqlite:////dev/null/events.db", "the event log cannot be at sqlite:////dev/null/events.db: "),
        ("--keys", "feature_repo/enrichment.json", "is no file of keys"),
        ("--learn-every", "24h", "--learn-every and --raw go together"),
        ("--explore", "0.9", "the share of explored places is 0.9; give a number from 0 (none) to 0.5 (half)"),
        ("--explore-window", "5s", "'5s' is no time; give minutes, hours or days such as 90m, 24h, 7d"),
    ],
)
def test_what_cannot_be_opened_is_said_before_the_service_starts(
    served_shop: Path, option: str, value: str, said: str
) -> None:
    refused = run("coldstart", "serve", option, value, cwd=served_shop)
    assert refused.returncode == 2
    assert said in " ".join(refused.stderr.split())


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    made = must("coldstart", "keys", "create", "shop", "--scope", "read", "--scope", "feedback", cwd=tmp_path)
    assert re.fullmatch(r"csk_[0-9a-f]{12}_[\w-]{43}\n", made)
    listed = must("coldstart", "keys", "list", cwd=tmp_path)
    assert "read, feedback" in listed
    public = made[4:16]
    assert public in listed
    assert must("coldstart", "keys", "revoke", public, cwd=tmp_path) == f"{public} (shop) is revoked\n"
    assert public not in must("coldstart", "keys", "list", cwd=tmp_path)


@pytest.fixture(scope="module")
def service(served_shop: Path) -> Iterator[tuple[str, str, Path]]:
    """Two workers with keys: the address, a key for everything, the log."""
    key = must("coldstart", "keys", "create", "all", "--scope", "read", "--scope", "feedback", cwd=served_shop).strip()
    port, log = free_port(), served_shop / "serve.log"
    program = Path(sys.executable).with_name("coldstart")
    command = [str(program), "serve", "--port", str(port), "--workers", "2", "--keys", "data/keys.json"]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, cwd=served_shop) as server:
        try:
            wait_for(port, server)
            url = f"http://127.0.0.1:{port}"
            _ready(url)
            yield url, key, log
        finally:
            server.terminate()


def _ready(url: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz", timeout=60).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError("the service does not answer")


@pytest.mark.service
def test_two_workers_answer_learn_from_each_other_and_count_together(service: tuple[str, str, Path]) -> None:
    url, key, log = service
    header = {"Authorization": f"Bearer {key}"}
    # Each connection is taken by either worker.
    answers = [httpx.post(f"{url}/v1/recommend", json={"user_id": "ann"}, headers=header) for _ in range(20)]
    assert {one.status_code for one in answers} == {200}
    assert len({json.dumps(one.json()["items"]) for one in answers}) == 1
    assert httpx.post(f"{url}/v1/recommend", json={}).status_code == 401
    event = {"user_id": "ann", "item_id": "pot", "event_type": "purchase"}
    assert httpx.post(f"{url}/v1/events", json={"events": [event]}, headers=header).status_code == 202
    time.sleep(3)
    after = [httpx.post(f"{url}/v1/recommend", json={"user_id": "ann"}, headers=header).json() for _ in range(20)]
    assert {item["item_id"] for one in after for item in one["items"]} == {"flag"}
    numbers = [httpx.get(f"{url}/metrics", headers=header).text for _ in range(10)]
    counts = {
        re.search(r'coldstart_requests_total\{route="/v1/recommend",status="200"\} (\S+)', text)[1] for text in numbers  # type: ignore[index]
    }
    assert counts == {"40.0"}
    # Whoever asks for a WebSocket is answered, and logged, as everybody else.
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "a" * 24}  # fmt: skip
    assert httpx.get(f"{url}/v1/users/somebody", headers=upgrade).status_code == 405
    assert "somebody" not in log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"ready", "request"} <= {line["event"] for line in lines}
    assert key not in log.read_text()


@pytest.mark.service
def test_a_worker_that_dies_while_it_is_asked_whether_it_lives_is_replaced(service: tuple[str, str, Path]) -> None:
    url, _, log = service
    worker = int(re.findall(r"Started server process \[(\d+)\]", log.read_text())[0])
    os.kill(worker, signal.SIGSTOP)
    time.sleep(2)  # it is asked twice a second
    os.kill(worker, signal.SIGKILL)
    for _ in range(300):
        if f"Child process [{worker}] died" in log.read_text():
            break
        time.sleep(0.1)
    else:
        raise AssertionError("nobody saw that it died")
    _ready(url)


@pytest.mark.service
def test_a_single_worker_that_is_stopped_leaves_no_folder(served_shop: Path, tmp_path: Path) -> None:
    port, program = free_port(), Path(sys.executable).with_name("coldstart")
    command = [str(program), "serve", "--port", str(port)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=served_shop, env=environment, stderr=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL) as server:  # fmt: skip
        try:
            wait_for(port, server)
            assert [*tmp_path.glob("coldstart-metrics-*")]
        finally:
            server.terminate()
    assert server.returncode == 0
    assert not [*tmp_path.glob("coldstart-metrics-*")]
