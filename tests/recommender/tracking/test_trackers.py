"""What `--track` writes, read back by TensorBoard and by wandb."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.tracking import tracked
from recommender.tracking.records import runs
from tests.support.commands import ROOT
from tests.support.network_calls import ports_called
from tests.support.tracked_run import REPORT


@pytest.fixture(autouse=True)
def _folders_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config", "cache", "data"):
        monkeypatch.setenv(f"WANDB_{name.upper()}_DIR", str(tmp_path / f"wandb-{name}"))


def python(*arguments: str, cwd: Path) -> str:
    """Python in a process of its own: both libraries start threads, and wandb a service."""
    result = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("spec", ["mlflow", "tensorboard:", "tensorboard", "wandb:online", "wandb", ""])
def test_another_tracker_is_refused_with_those_that_there_are(spec: str, tmp_path: Path) -> None:
    with pytest.raises(ColdStartError, match="give tensorboard:DIR or wandb:offline"), tracked("train", spec, tmp_path):
        pytest.fail("the run must not begin")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("spec", "package"), [("tensorboard:tb", "tensorboard"), ("wandb:offline", "wandb")])
def test_a_tracker_that_is_not_installed_is_told_before_the_run(
    spec: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    monkeypatch.setattr(f"recommender.tracking.{package}.find_spec", lambda name: None)
    missing = r"pip install 'feast-coldstart\[track\]'"
    with pytest.raises(ColdStartError, match=missing), tracked("train", spec, tmp_path):
        pytest.fail("the run must not begin")


def test_tensorboard_reads_curves_parameters_figures_and_files(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    python("-W", "error", "-m", "tests.support.tracked_run", "tensorboard:tb", cwd=tmp_path)
    (record,) = runs(tmp_path / "data" / "runs")
    folder = tmp_path / "tb" / record.id
    events: Any = EventAccumulator(str(folder))
    events.Reload()

    def curve(name: str) -> list[tuple[int, float]]:
        return [(one.step, round(one.value, 4)) for one in events.Scalars(name)]

    assert curve("cutoff_fit/auc") == [(1, 0.6), (2, 0.7), (3, 0.8)]
    assert curve("final_fit/auc") == [(1, 0.6), (2, 0.7)]
    assert [value for _, value in curve("validation/ndcg@20")] == [0.25]
    assert {"_hparams_/session_start_info", "_hparams_/session_end_info"} <= set(events.summary_metadata)
    started = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"learning_rate" in started
    texts = {name: events.Tensors(name)[0].tensor_proto.string_val[0].decode() for name in events.Tags()["tensors"]
             if name.endswith("text_summary")}  # fmt: skip
    assert "| cutoff | 2011-08-01 00:00:00+00:00 |" in texts["parameters/text_summary"]
    assert "| validation/ndcg@20 | 0.25 |" in texts["figures/text_summary"]
    assert "report.html" in texts["files/text_summary"]
    assert (folder / "report.html").read_text() == REPORT


@pytest.mark.service
def test_an_offline_run_of_wandb_holds_the_same_and_nothing_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What would send it at once, if the run were not offline.
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "not-to-be-told-" + "0" * 25)
    python("-m", "tests.support.tracked_run", "wandb:offline", cwd=tmp_path)
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    read = python("-c", READ, str(written), cwd=tmp_path)
    for expected in (
        "learning_rate 0.05", 'weights.warm.text "[0.5, 1.25]"', "cutoff_fit/auc 0.8", "final_fit/step 2",
        "validation/ndcg@20 0.25", "artifact report", "exit 0", "host ''",
    ):  # fmt: skip
        assert expected in read.splitlines(), read
    everything = b"".join(path.read_bytes() for path in written.parent.rglob("*") if path.is_file())
    for private in ("not-to-be-told", "tracked_run", sys.executable):
        assert private.encode() not in everything


# What a run of wandb holds, one line for each value. wandb has no public reader of its files: a header of seven bytes,
# then messages in the log format of LevelDB.
READ = """
import sys
from pathlib import Path
from wandb.proto import wandb_internal_pb2 as proto

data, place, messages, parts = Path(sys.argv[1]).read_bytes(), 7, [], b''
while place + 7 <= len(data):
    if (left := 32768 - place % 32768) < 7:
        place += left
        continue
    size, kind = int.from_bytes(data[place + 4 : place + 6], 'little'), data[place + 6]
    parts += data[place + 7 : place + 7 + size]
    place += 7 + size
    if kind in (1, 4):
        messages.append(parts)
        parts = b''
for message in messages:
    record = proto.Record()
    record.ParseFromString(message)
    for item in record.history.item:
        print('/'.join(item.nested_key) or item.key, item.value_json)
    for item in record.summary.update:
        print('/'.join(item.nested_key) or item.key, item.value_json)
    for item in (*record.config.update, *record.run.config.update):
        print('/'.join(item.nested_key) or item.key, item.value_json)
    if record.HasField('run'):
        print('host', repr(record.run.host))
    if record.HasField('artifact'):
        print('artifact', record.artifact.type)
    if record.request.HasField('log_artifact'):
        print('artifact', record.request.log_artifact.artifact.type)
    if record.HasField('exit'):
        print('exit', record.exit.exit_code)
"""


@pytest.mark.service
@pytest.mark.parametrize("spec", ["wandb:offline", "tensorboard:tb"])
def test_no_network_call_is_made(spec: str, tmp_path: Path) -> None:
    assert ports_called(sys.executable, "-m", "tests.support.tracked_run", spec, cwd=tmp_path) == []
    (run,) = runs(tmp_path / "data" / "runs")
    assert run.status == "finished"
    assert [*tmp_path.glob("wandb/offline-run-*/run-*.wandb"), *tmp_path.glob(f"tb/{run.id}/events*")]


@pytest.mark.service
def test_a_network_call_would_be_seen(tmp_path: Path) -> None:
    call = "import socket; socket.create_connection(('93.184.216.34', 443)).recv(1)"
    assert ports_called(sys.executable, "-c", call, cwd=tmp_path) == [443]
    lookup = "import socket, contextlib\nwith contextlib.suppress(OSError): socket.getaddrinfo('wandb.example', 80)"
    assert 53 in ports_called(sys.executable, "-c", lookup, cwd=tmp_path)
