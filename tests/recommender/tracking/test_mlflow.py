"""Records of runs copied to a real MLflow, which has an environment of its own, because it needs other packages.

Its Python is that of COLDSTART_MLFLOW, or .venv/mlflow/bin/python, which `make test-all` sets up.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from recommender.tracking import tracked
from recommender.tracking.records import run_named, runs
from tests.support.commands import ROOT
from tests.support.tracked_run import REPORT, told

MLFLOW = Path(os.environ.get("COLDSTART_MLFLOW", ROOT / ".venv" / "mlflow" / "bin" / "python"))
# What MLflow has, as JSON.
READ = """
import json, sys
from pathlib import Path
from mlflow import MlflowClient

client = MlflowClient(tracking_uri=sys.argv[1])
found = []
for run in client.search_runs([client.get_experiment_by_name('coldstart').experiment_id]):
    name = run.info.run_id
    curve = [(one.step, one.value) for one in client.get_metric_history(name, 'cutoff_fit/auc')]
    paths = [one.path for one in client.list_artifacts(name)]
    files = {path: Path(client.download_artifacts(name, path)).read_text() for path in paths}
    found.append({'name': run.info.run_name, 'status': run.info.status, 'curve': curve, 'files': files,
                  'metrics': run.data.metrics, 'params': run.data.params})
print(json.dumps(found))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not MLFLOW.exists():
        pytest.skip(f"{MLFLOW} does not exist; `make test-all` sets it up, or set COLDSTART_MLFLOW")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mlflow(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(MLFLOW), *arguments], capture_output=True, text=True, check=False, env=environment, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.service
def test_runs_are_copied_once_with_all_that_they_hold(folder: Path) -> None:
    uri = f"sqlite:///{folder}/mlflow.db"
    copy = str(ROOT / "examples" / "mlflow" / "runs_to_mlflow.py"), "data/runs", uri
    told()
    assert mlflow(*copy) == f"1 runs copied to {uri}\n"
    with pytest.raises(KeyboardInterrupt):
        stopped()
    with tracked("evaluate") as running:
        running.figures({"auc": 1.0})  # has not ended
        assert mlflow(*copy) == f"1 runs copied to {uri}\n"
    (first,) = [run for run in runs(Path("data/runs")) if run.status == "finished" and run.command == "train"]
    found: dict[str, Any] = {run["name"]: run for run in json.loads(mlflow("-c", READ, uri))}
    assert len(found) == 2
    copied = found.pop(first.id)
    assert copied["status"] == "FINISHED"
    assert copied["curve"] == [[1, 0.6], [2, 0.7], [3, 0.8]]
    assert copied["metrics"]["validation/ndcg_20"] == 0.25
    assert copied["params"]["learning_rate"] == "0.05"
    assert copied["params"]["weights.warm.text"] == "[0.5, 1.25]"
    assert copied["files"] == {"report.html": REPORT}
    ((name, failed),) = found.items()
    assert failed["status"] == "FAILED"
    assert run_named(Path("data/runs"), name).status == "failed"


def stopped() -> None:
    with tracked("train") as tracker:
        tracker.metrics({"loss": 1.0}, 1)
        raise KeyboardInterrupt
