"""Copy the records of `coldstart`'s runs to MLflow. Needs MLflow alone: it runs in an environment of MLflow's own.

Usage: python runs_to_mlflow.py FOLDER TRACKING_URI, such as data/runs sqlite:///mlflow.db. Runs that MLflow has
already, and runs that have not ended, are left out.
"""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

EXPERIMENT, TAG = "coldstart", "coldstart.run"
# What MLflow takes at once.
BATCH = 500


def copied(folder: Path, uri: str) -> list[str]:
    """Copy what MLflow does not have yet; the ids of these runs."""
    client = MlflowClient(tracking_uri=uri)
    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
    done = []
    for path in sorted(folder.glob("*/run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        asked = f"tags.`{TAG}` = '{record['id']}'"
        if record["ended"] and not client.search_runs([experiment], asked, max_results=1):
            copy(client, experiment, record, path.parent)
            done.append(record["id"])
    return done


def copy(client: MlflowClient, experiment: str, record: dict[str, Any], folder: Path) -> None:
    """One record, with the times at which it ran."""
    began, ended = (moment(record[name]) for name in ("began", "ended"))
    tags = {TAG: record["id"], "command": record["command"]}
    run = client.create_run(experiment, start_time=began, tags=tags, run_name=record["id"]).info.run_id
    versions = {f"versions.{name}": value for name, value in record["versions"].items()}
    for some in batches([Param(named(name), str(value)) for name, value in (record["parameters"] | versions).items()]):
        client.log_batch(run, params=some)
    points = [(name, value, step) for name, pairs in record["metrics"].items() for step, value in pairs]
    points += [(name, value, 0) for name, value in record["figures"].items()]
    metrics = [Metric(named(name), value, ended, step) for name, value, step in points if value is not None]
    for some in batches(metrics):
        client.log_batch(run, metrics=some)
    for one in record["artifacts"]:
        if one["copied"]:
            client.log_artifact(run, str(folder / one["name"]))
    client.set_terminated(run, "FINISHED" if record["status"] == "finished" else "FAILED", ended)


def batches(values: list[Any]) -> list[list[Any]]:
    """Parts that MLflow takes at once."""
    return [values[start : start + BATCH] for start in range(0, len(values), BATCH)]


def named(name: str) -> str:
    """A name that MLflow allows: "ndcg@20" becomes "ndcg_20"."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def moment(text: str) -> int:
    """A time of a record in milliseconds since 1970."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


if __name__ == "__main__":
    found = copied(Path(sys.argv[1]), sys.argv[2])
    print(f"{len(found)} runs copied to {sys.argv[2]}")
