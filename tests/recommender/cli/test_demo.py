"""`coldstart demo NAME`. The demo without a name is `make demo`."""

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


def test_an_unknown_name_is_an_error_that_names_the_demos() -> None:
    refused = CliRunner().invoke(app, ["demo", "no_such"])
    assert isinstance(refused.exception, ColdStartError)
    assert str(refused.exception).startswith("there is no demo 'no_such'; there are ")
    assert "chinese_shop" in str(refused.exception)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what the demo needs of a clone, so that it writes nothing in this one."""
    for name in ("coldstart_udfs", "recommender", "examples", "feature_repo"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "enrichment.json"))
    shutil.rmtree(tmp_path / "feature_repo" / "data", ignore_errors=True)
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    return tmp_path


def demo(clone: Path, *words: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "recommender.cli", "demo", *words], cwd=clone, timeout=900, check=False,
        env={**os.environ, "PYTHONPATH": str(clone)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    return done.stdout


def test_a_demo_goes_on_where_it_stopped_and_begins_anew_when_its_folder_changes(clone: Path) -> None:
    example = clone / "examples" / "tiny"
    example.mkdir()
    commands = example / "demo.txt"
    commands.write_text(
        "# Words of a file.\n"
        "python -c \"print(open('words.txt').read().upper())\"\n\n"
        "python -c \"open('made.txt', 'a').write('x'); assert open('ready.txt')\"\n"
    )
    (example / "words.txt").write_text("[red] kite")
    first = demo(clone, "tiny", status=2)
    assert "Words of a file." in first
    assert "[RED] KITE" in first
    assert "failed with status 1" in first
    assert (example / "made.txt").exists() is False

    shop = clone / "data" / "tiny"
    (shop / "ready.txt").touch()
    second = demo(clone, "tiny")
    assert second.count("skipped") == 1
    assert "[RED] KITE" in second
    assert (shop / "made.txt").read_text() == "xx"
    assert demo(clone, "tiny").count("skipped") == 2

    (example / "words.txt").write_text("blue kite")
    third = demo(clone, "tiny", status=2)
    assert "skipped" not in third
    assert "BLUE KITE" in third
    assert (shop / "made.txt").read_text() == "x"


def test_a_demo_touches_no_folder_that_is_not_its_own_and_serves_no_shop_that_is_not_there(clone: Path) -> None:
    example, shop = clone / "examples" / "tiny", clone / "data" / "tiny"
    example.mkdir()
    (example / "demo.txt").write_text("python -c \"print('made')\"\n")
    shop.mkdir(parents=True)
    (shop / "mine.csv").touch()
    assert "is not a demo's folder (no demo.json); move it away" in " ".join(demo(clone, "tiny", status=2).split())
    assert (shop / "mine.csv").exists()
    (shop / "mine.csv").unlink()
    shop.rmdir()
    assert "made" in demo(clone, "tiny")
    for damaged in ("{", "[]", "{}"):
        (shop / "demo.json").write_text(damaged)
        assert "skipped" not in demo(clone, "tiny")
    assert "nothing to serve" in demo(clone, "tiny", "--serve", status=2)


def test_a_demo_runs_no_other_programs(clone: Path) -> None:
    (clone / "examples" / "tiny").mkdir()
    (clone / "examples" / "tiny" / "demo.txt").write_text("rm -r data\n")
    told = demo(clone, "tiny", status=2)
    assert "starts with 'rm'; a command is one of coldstart, feast, python" in " ".join(told.split())


@pytest.mark.slow
def test_the_chinese_demo_goes_from_raw_files_to_answers_and_does_not_repeat_itself(clone: Path) -> None:
    first = demo(clone, "chinese_shop")
    assert "are made up" in first
    assert "languages of descriptions: zh 100%" in first
    recommended = first.partition("$ coldstart recommend")[2].partition("$ coldstart audience")[0]
    assert "│    1 │ C04     │ 逗猫棒" in recommended
    assert "item C04 (逗猫棒 羽毛铃铛 长杆钢丝)" in first
    assert (clone / "data" / "chinese_shop" / "data" / "bundle").is_dir()

    again = demo(clone, "chinese_shop")
    assert again.count("unchanged since the last run, skipped") == 10
    assert again.partition("$ coldstart recommend")[2].count("│ C04     │") == 1

    # Changed code: the folder is made anew.
    (clone / "recommender" / "changed.py").touch()
    (clone / "data" / "chinese_shop" / "data" / "bundle" / "manifest.json").write_text("{}")
    assert "skipped" not in demo(clone, "chinese_shop")


@pytest.mark.slow
def test_the_catalogue_ranks_for_people_of_the_other_shop_and_rates_new_products(clone: Path) -> None:
    said = demo(clone, "catalogue")
    assert "652 of 804 users with history in grocery are linked, 526 of them are in both shops" in said
    assert "for user 2019 (linked)" in said
    assert said.count(" linked ") >= 9  # three products for each of three people, in SQL
    assert "VITAMINS / VITAMIN C / 100 CT" in said
