"""Every command that writes refuses to run beside another one that writes the same; `put` waits instead."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from coldstart_udfs.encoder.cache.store import default_path
from coldstart_udfs.encoder.manifests import models_folder
from coldstart_udfs.feast.operations import put as put_module
from coldstart_udfs.locks import InUseError, whole, writing
from recommender.cli.app import app
from tests.support.commands import ROOT

# The command, and what it writes, in the folder where it runs.
COMMANDS: dict[str, tuple[tuple[str, ...], Callable[[Path], Path]]] = {
    "embed": (("items.parquet", "--text", "description", "--out", "out.parquet"), lambda here: here / "out.parquet"),
    "coverage": (("items.parquet", "--json", "out.json"), lambda here: here / "out.json"),
    "sql": (("-c", "SELECT 1", "--parquet", "out.parquet"), lambda here: here / "out.parquet"),
    "evaluate": (("--data", ".", "--html", "out.html"), lambda here: here / "out.html"),
    "ingest": ((".", "--data", "data"), lambda here: whole(here / "data")),
    "profiles": (("--repo", "repo"), lambda here: whole(here / "repo" / "data")),
    "weigh": (("--repo", "repo"), lambda here: whole(here / "repo" / "data")),
    "train": (("--repo", "repo", "--bundle", "bundle"), lambda here: here / "bundle"),
    "init": (("shop",), lambda here: here / "shop" / "feature_repo"),
    "encoder build": (("--backend", "onnx"), lambda here: whole(models_folder())),
    "cache clear": (("--path", "vectors.sqlite"), lambda here: here / "vectors.sqlite"),
    "demo": ((), lambda here: ROOT / "data" / "demo.json"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_refuses_while_another_writes_the_same(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"description": ["red lamp"]}), "items.parquet")
    options, place = COMMANDS[command]
    with writing(place(tmp_path), command="coldstart other"):
        before = sorted(tmp_path.rglob("*"))
        refused = CliRunner().invoke(app, [*command.split(), *options])
        assert sorted(tmp_path.rglob("*")) == before
    assert isinstance(refused.exception, InUseError), refused.output + str(refused.exception)
    assert f"is being written by `coldstart other` (process {os.getpid()} on " in str(refused.exception)


def test_a_put_waits_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure is waited for likewise."""
    came = threading.Event()

    def put(*arguments: object) -> None:
        came.set()
        raise RuntimeError("reached")

    monkeypatch.setattr(put_module, "put", put)
    results = []
    options = ["put", "--user-id", "ann", "--description", "brass", "--repo", str(tmp_path)]
    second = threading.Thread(target=lambda: results.append(CliRunner().invoke(app, options)))
    with writing(tmp_path / "data" / put_module.PUT, command="coldstart put"):
        second.start()
        assert not came.wait(0.3)
    second.join()
    assert "reached" in str(results[0].exception)


def test_the_cache_of_the_machine_is_locked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with writing(default_path(), command="coldstart other"):
        assert isinstance(CliRunner().invoke(app, ["cache", "clear"]).exception, InUseError)


def test_a_shop_that_could_not_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recommender.cli import shop

    def failing(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shop.shutil, "copytree", failing)
        CliRunner().invoke(app, ["init", str(tmp_path / "shop")])
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(app, ["init", str(tmp_path / "shop")]).exit_code == 0
