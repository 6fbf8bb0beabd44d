"""Commands in the folder of a shop take the shop's encoder, unless another one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart_udfs import Encoder
from coldstart_udfs.settings import Enrichment
from recommender.cli.app import app
from tests.support.word_model import BACKEND, word_model

runner = CliRunner()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the settings of a shop, whose encoder has 64 dimensions, and a table."""
    model = word_model(tmp_path / "words", ["red", "lamp"])
    (tmp_path / "feature_repo").mkdir()
    Enrichment(model=model, backend=BACKEND, alpha=3.0).write(tmp_path / "feature_repo" / "enrichment.json")
    (tmp_path / "items.csv").write_text("item_id,description\n1,red lamp\n2,a lamp\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*command: str) -> str:
    done = runner.invoke(app, list(command))
    assert done.exit_code == 0, done.output
    return done.output


def test_sql_takes_its_encoder_and_its_alpha(shop: Path) -> None:
    query = "SELECT len(embed('red lamp')) AS width, alpha(0) AS alpha"
    assert json.loads(said("sql", "--json", "-c", query)) == [{"width": 64, "alpha": 3.0}]


def test_coverage_and_embed_take_its_encoder(shop: Path) -> None:
    said("coverage", "items.csv", "--json", "coverage.json")
    assert json.loads(Path("coverage.json").read_text(encoding="utf-8"))["encoder"] == str(shop / "words")
    expected = Encoder(str(shop / "words"), backend=BACKEND).fingerprint
    assert expected in said("embed", "items.csv", "--text", "description", "--out", "embedded.parquet")


def test_another_model_can_be_named(shop: Path) -> None:
    other = word_model(shop / "other", ["red"], width=32)
    query = "SELECT len(embed('red lamp')) AS width, alpha(0) AS alpha"
    shown = said("sql", "--json", "--model", other, "--backend", BACKEND, "-c", query)
    assert json.loads(shown) == [{"width": 32, "alpha": 1.0}]


def test_settings_that_cannot_be_read_are_an_error(shop: Path) -> None:
    (shop / "feature_repo" / "enrichment.json").write_text("{", encoding="utf-8")
    done = runner.invoke(app, ["coverage", "items.csv"])
    assert "enrichment.json is not JSON" in str(done.exception)
