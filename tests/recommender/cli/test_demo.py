"""`coldstart demo --language zh`, and languages for which the demo has no shop. The English demo is `make demo`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart_udfs.errors import ColdStartError
from recommender.cli.app import app
from tests.support.commands import ROOT


def test_a_language_without_a_shop_is_an_error_that_names_those_with_one() -> None:
    refused = CliRunner().invoke(app, ["demo", "--language", "de"])
    assert isinstance(refused.exception, ColdStartError)
    told = "language is 'de'; the demo has shops in en (Online Retail) and zh (a Chinese shop)"
    assert str(refused.exception).startswith(told)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what the demo needs of a clone, so that it writes nothing in this one."""
    for name in ("coldstart_udfs", "recommender", "examples", "feature_repo"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "enrichment.json"))
    shutil.rmtree(tmp_path / "feature_repo" / "data", ignore_errors=True)
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    return tmp_path


def demo(clone: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "recommender.cli", "demo", "--language", "zh"], cwd=clone, timeout=900, check=False,
        env={**os.environ, "PYTHONPATH": str(clone)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_the_chinese_demo_goes_from_raw_files_to_answers_and_does_not_repeat_itself(clone: Path) -> None:
    first = demo(clone)
    assert "are made up" in first
    assert "languages of descriptions: zh 100%" in first
    recommended = first.partition("$ coldstart recommend")[2].partition("$ coldstart audience")[0]
    assert "│    1 │ C04     │ 逗猫棒" in recommended
    assert "item C04 (逗猫棒 羽毛铃铛 长杆钢丝)" in first
    assert (clone / "data" / "chinese_shop" / "data" / "bundle").is_dir()

    again = demo(clone)
    assert again.count("unchanged since the last run, skipped") == 7
    assert again.partition("$ coldstart recommend")[2].count("│ C04     │") == 1

    # Changed code: the folder is made anew.
    (clone / "recommender" / "changed.py").touch()
    (clone / "data" / "chinese_shop" / "data" / "bundle" / "manifest.json").write_text("{}")
    assert "skipped" not in demo(clone)
