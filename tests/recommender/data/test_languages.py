"""What `coldstart ingest` says of texts in languages that the shop's encoder does not know."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from recommender.cli.app import app

ENGLISH = [f"a {colour} lamp for the desk in your bedroom" for colour in "red green blue white black grey pink".split()]
GERMAN = ["Eine rote Lampe für den Schreibtisch", "Bunte Decke aus Wolle für kalte Tage"]
CHINESE = ["红色金属台灯，适合书桌", "纯棉四件套，柔软舒适"]

Ingest = Callable[[Sequence[str]], tuple[str, dict[str, Any]]]


@pytest.fixture
def ingest(tmp_path: Path) -> Ingest:
    """Run `coldstart ingest --dry-run` on items with some texts; what it printed, and its JSON."""

    def call(texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        raw = tmp_path / "raw"
        raw.mkdir()
        items = "".join(f'{number},"{text}"\n' for number, text in enumerate(texts))
        (raw / "items.csv").write_text(f"item_id,description\n{items}", encoding="utf-8")
        (raw / "users.csv").write_text("user_id,description\nu,\n")
        (raw / "interactions.csv").write_text("user_id,item_id,event_timestamp\nu,0,2024-01-05\n")
        report = tmp_path / "report.json"
        arguments = ["ingest", raw, "--dry-run", "--repo", tmp_path / "repo", "--json", report]
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.output, json.loads(report.read_text(encoding="utf-8"))

    return call


def choose_encoder(folder: Path, model: str) -> None:
    (folder / "repo").mkdir()
    (folder / "repo" / "enrichment.json").write_text(json.dumps({"model": model}))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([*GERMAN, *ENGLISH], "(de 22 %); the encoder 'multilingual' knows them: coldstart init --language de, or"),
        (CHINESE, "(zh 100 %); the encoder 'multilingual' knows them: coldstart init --language zh, or"),
    ],
)
def test_a_note_names_the_encoder_that_knows_the_languages(ingest: Ingest, texts: list[str], said: str) -> None:
    told, report = ingest(texts)
    (note,) = [line for line in told.splitlines() if "all-MiniLM-L6-v2 (embedded) does not know" in line]
    assert said in note
    assert note.removeprefix("note: ") in report["notes"]


@pytest.mark.parametrize("texts", [ENGLISH, [*(f"{one}, {size}" for one in ENGLISH for size in (1, 2)), GERMAN[0]]])
def test_nothing_is_noted_of_a_tenth_of_the_texts_or_less(ingest: Ingest, texts: list[str]) -> None:
    told, _ = ingest(texts)
    assert "does not know" not in told


@pytest.mark.parametrize("model", ["multilingual", "intfloat/some-model-elsewhere"])
def test_nothing_is_noted_where_the_encoder_knows_the_languages_or_does_not_say_which(
    ingest: Ingest, tmp_path: Path, model: str
) -> None:
    choose_encoder(tmp_path, model)
    told, _ = ingest([*GERMAN, *CHINESE])
    assert "does not know" not in told


def test_the_card_of_a_folder_says_what_the_encoder_knows(ingest: Ingest, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlanguage: de\n---\n")
    choose_encoder(tmp_path, str(folder))
    told, _ = ingest([*GERMAN, *CHINESE])
    assert "50 % of the texts are in languages that" in told
    assert "(zh 50 %)" in told
