"""A real Prometheus reads a real service: the dashboard and the alerts of deploy/ ask for numbers that exist."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.commands import ROOT, free_port, must
from tests.support.services import program, running, serving, until
from tests.support.small_shop import apply

pytestmark = pytest.mark.slow

DEPLOY = ROOT / "deploy"
RULES = [rule for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
         for rule in group["rules"]]  # fmt: skip
PANELS = json.loads((DEPLOY / "grafana" / "coldstart.json").read_text())["panels"]
# Alerts that ask for what a service does not have as long as it is well.
EMPTY = {"ColdstartFailing": "no request failed"}


@pytest.fixture(scope="module")
def prometheus(served_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that has read two workers, after requests of every kind.

    The store has nothing of the shop's users, so their answers are degraded.
    """
    binary = program("prometheus", "prometheus")
    shop = tmp_path_factory.mktemp("watched") / "shop"
    shutil.copytree(served_shop, shop, ignore=shutil.ignore_patterns("*.db*", "keys.json*"))
    apply(shop / "feature_repo")
    everything = ("--scope", "read", "--scope", "feedback", "--scope", "admin")
    keys = [must("coldstart", "keys", "create", name, *everything, cwd=shop).strip() for name in ("shop", "eager")]
    secret = shop / "prometheus_key"
    secret.write_text(must("coldstart", "keys", "create", "prometheus", cwd=shop).strip())
    port, own = free_port(), free_port()
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yaml")]
    (job,) = config["scrape_configs"]
    job["authorization"]["credentials_file"] = str(secret)
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    (shop / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [binary, f"--config.file={shop / 'prometheus.yml'}", f"--storage.tsdb.path={shop / 'tsdb'}",
               f"--web.listen-address=127.0.0.1:{own}"]  # fmt: skip
    options = ("--workers", "2", "--keys", "data/keys.json", "--rate", "300/minute")
    with serving(shop, port, *options), running(command, shop / "prometheus.log", own, shop):
        url = f"http://127.0.0.1:{own}"
        until(lambda: asked(url, 'up{job="coldstart"} == 1'))
        # Twice, so that counters which begin with the first request are seen to increase.
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", limits=httpx.Limits(max_keepalive_connections=0), timeout=60
        ) as client:
            for _ in range(2):
                use(client, *keys)
                until(lambda: asked(url, "coldstart_text_drift > 0"))
        until(lambda: asked(url, 'coldstart_requests_total{status="429"} > 0'))
        yield url


def use(service: httpx.Client, key: str, eager: str) -> None:
    """Requests of every kind; each connection is taken by either worker."""

    def post(path: str, body: Any, key: str = key) -> int:
        return service.post(path, json=body, headers={"Authorization": f"Bearer {key}"}).status_code

    for body in [*[{"user_id": "ann"}] * 50, {}, *({"description": f"{n} brass lamps"} for n in range(130))]:
        assert post("/v1/recommend", body) == 200
    assert post("/v1/recommend", {"description": "1 brass lamps"}) == 200
    assert post("/v1/audience", {"item_id": "mug"}) == 200
    event = {"user_id": "ann", "item_id": "mug", "event_type": "view"}
    assert post("/v1/events", {"events": [event]}) == 202
    assert any(post("/v1/enrich", {"description": "lamp"}, eager) == 429 for _ in range(2000))


def asked(prometheus: str, expression: str) -> list[Any]:
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression}, timeout=60).json()
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


@pytest.mark.parametrize(
    ("title", "expression"),
    [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]],
)
def test_every_expression_of_the_dashboard_gives_data(prometheus: str, title: str, expression: str) -> None:
    found = asked(prometheus, expression.replace("$__rate_interval", "30s"))
    assert found, title
    assert all(one["value"][1] != "NaN" for one in found if "quantile" not in expression)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_compares_numbers_that_there_are(prometheus: str, rule: Any) -> None:
    compared = re.sub(r"\s(==|<|>)\s[^<>=]*$", "", rule["expr"]).replace("[7d:1h]", "[30s:1s]")
    assert compared != rule["expr"]
    assert bool(asked(prometheus, compared)) == (rule["alert"] not in EMPTY)


def test_every_alert_is_evaluated_and_those_of_a_degraded_store_wait_to_fire(prometheus: str) -> None:
    groups = httpx.get(f"{prometheus}/api/v1/rules", timeout=60).json()["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert set(rules) == {rule["alert"] for rule in RULES}
    assert {rule["health"] for rule in rules.values()} == {"ok"}
    assert rules["ColdstartDegradedAnswers"]["state"] == "pending"
    assert rules["ColdstartDown"]["state"] == "inactive"
