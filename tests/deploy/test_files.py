"""The files of deploy/, as the tools of their formats read them; no container is built, and no cluster is asked."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from recommender.cli.app import app
from tests.support.commands import ROOT
from tests.support.services import program

DEPLOY = ROOT / "deploy"
# An older version of Kubernetes, and the newest one that the validator knows.
KUBERNETES = ("1.33", "1.37")
MANIFESTS = [
    one for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
]


def ran(*command: str | Path) -> str:
    """What a program of this environment says; it has to end well."""
    name, *rest = map(str, command)
    own = Path(sys.executable).parent / name
    done = subprocess.run([str(own if own.exists() else name), *rest], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_image_gets_every_package_that_the_wheel_holds() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = re.findall(r"^COPY (\w+) \1$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {*packages} <= {*copied}
    assert {f"!{name}" for name in packages} <= {*sent}


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    assert ran("hadolint", DEPLOY / "Dockerfile") == ""


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp\n")
    with pytest.raises(AssertionError, match="DL3006"):
        ran("hadolint", tmp_path / "Dockerfile")


def test_the_compose_file_follows_its_schema(tmp_path: Path) -> None:
    ran("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    wrong = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    wrong["services"]["coldstart"]["volume"] = []
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(wrong))
    with pytest.raises(AssertionError, match="'volume' was unexpected"):
        ran("check-jsonschema", "--builtin-schema", "vendor.compose-spec", tmp_path / "compose.yaml")


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: one["kind"])
def test_a_manifest_follows_the_schema_of_kubernetes(manifest: Any, version: str) -> None:
    assert kubernetes_validate.validate(manifest, version, strict=True) == version
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest | {"spce": {}}, version, strict=True)


def test_manifests_name_each_other() -> None:
    by_kind = {one["kind"]: one for one in MANIFESTS}
    pod = by_kind["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    for selecting in (by_kind["Service"]["spec"]["selector"],
                      by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
                      by_kind["Deployment"]["spec"]["selector"]["matchLabels"]):  # fmt: skip
        assert selecting.items() <= pod["metadata"]["labels"].items()
    assert container["envFrom"] == [{"configMapRef": {"name": by_kind["ConfigMap"]["metadata"]["name"]}}]
    assert set(re.findall(r"\$\((\w+)\)", " ".join(container["args"]))) <= set(by_kind["ConfigMap"]["data"])
    claim = by_kind["PersistentVolumeClaim"]["metadata"]["name"]
    assert {"name": "shop", "persistentVolumeClaim": {"claimName": claim}} in pod["spec"]["volumes"]
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["spec"]["volumes"]}


def given_to_the_service() -> list[tuple[str, list[str]]]:
    """The options with which each file starts `coldstart serve`."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    (deployment,) = (one for one in MANIFESTS if one["kind"] == "Deployment")
    entry = ast.literal_eval(re.search(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)[1])  # type: ignore[index]
    assert entry[:2] == ["coldstart", "serve"]
    return [
        ("Dockerfile", entry[2:] + ast.literal_eval(re.search(r"^CMD (.*)$", dockerfile, re.MULTILINE)[1])),  # type: ignore[index]
        ("compose.yaml", entry[2:] + compose["services"]["coldstart"]["command"]),
        ("kubernetes", entry[2:] + deployment["spec"]["template"]["spec"]["containers"][0]["args"]),
    ]


@pytest.mark.parametrize(("file", "options"), given_to_the_service())
def test_the_service_knows_the_options_that_it_is_given(file: str, options: list[str]) -> None:
    serve: Any = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    found = serve.make_context("serve", list(options), resilient_parsing=False).params
    assert (found["host"], found["port"], found["workers"]) == ("0.0.0.0", 8000, 2)
    assert str(found["keys"]).endswith("keys.json")


def test_every_extra_and_folder_of_the_dockerfile_exists() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    copied = [name for line in re.findall(r"^COPY (?!--)(.*)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    assert project["license-files"] == ["LICENSE"]
    assert {"LICENSE", "pyproject.toml", "constraints.txt"} <= set(copied)
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in sent if line.startswith("!")} == set(copied)


def test_compose_gives_haproxy_its_addresses() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    wanted = re.findall(r'"\$\{(\w+)\}"', (DEPLOY / "haproxy" / "haproxy.cfg").read_text())
    assert sorted(services["haproxy"]["environment"]) == sorted(wanted)
    replicas = [value for name, value in services["haproxy"]["environment"].items() if name.startswith("REPLICA_")]
    assert replicas == [f"coldstart-coldstart-{n + 1}:8000" for n in range(services["coldstart"]["scale"])]


ALERTS = [
    rule["alert"]
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ALERT_TESTS = sorted((DEPLOY / "prometheus").glob("*_test.yaml"))


def test_every_alert_is_tested_quiet_and_firing() -> None:
    tests = [
        asked for file in ALERT_TESTS for test in yaml.safe_load(file.read_text())["tests"]
        for asked in test["alert_rule_test"]
    ]  # fmt: skip
    assert {one["alertname"] for one in tests if one.get("exp_alerts")} == set(ALERTS)
    assert {one["alertname"] for one in tests if not one.get("exp_alerts")} == set(ALERTS)


@pytest.mark.slow
def test_promtool_passes_the_rules_and_their_tests() -> None:
    promtool = program("promtool", "prometheus")
    ran(promtool, "check", "rules", DEPLOY / "prometheus" / "alerts.yaml")
    ran(promtool, "check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    assert "FAILED" not in ran(promtool, "test", "rules", *ALERT_TESTS)


@pytest.mark.slow
def test_promtool_would_tell_an_alert_that_does_not_fire(tmp_path: Path) -> None:
    promtool = program("promtool", "prometheus")
    alerts = (DEPLOY / "prometheus" / "alerts.yaml").read_text()
    (tmp_path / "alerts.yaml").write_text(alerts.replace('up{job="coldstart"} == 0', 'up{job="coldstart"} == 2'))
    (tmp_path / "alerts_test.yaml").write_text((DEPLOY / "prometheus" / "alerts_test.yaml").read_text())
    with pytest.raises(AssertionError, match="ColdstartDown"):
        ran(promtool, "test", "rules", tmp_path / "alerts_test.yaml")


def test_the_dashboard_says_what_each_panel_shows() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "coldstart.json").read_text())
    assert all(len(panel["description"]) > 30 and panel["targets"] for panel in dashboard["panels"])
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
