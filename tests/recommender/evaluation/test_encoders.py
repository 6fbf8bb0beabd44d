"""`coldstart encoder compare`: what it says of encoders whose differences are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart_udfs.errors import ColdStartError
from recommender.cli.app import app
from recommender.evaluation import encoders
from recommender.evaluation.encoders import compare_encoders
from tests.support.word_model import BACKEND, word_model

KINDS = ("lamp", "spade", "mug", "kite")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """40 items of four kinds; 40 users who each buy six of one kind."""
    items = [f"i{kind}{n},{word} number {n}" for kind, word in enumerate(KINDS) for n in range(10)]
    bought = [f"u{u},i{u % 4}{(u + 3 * n) % 10},2024-01-{1 + n:02}" for u in range(40) for n in range(6)]
    for name, rows in {"items": ["item_id,description", *items],
                       "interactions": ["user_id,item_id,event_timestamp", *bought]}.items():  # fmt: skip
        (tmp_path / f"{name}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def test_the_encoder_that_tells_kinds_apart_ranks_new_items_better(shop: Path) -> None:
    seeing = word_model(shop / "seeing", [*KINDS, "number"])
    blind = word_model(shop / "blind", ["number"], width=32)
    found = compare_encoders(
        shop / "items.csv", [(seeing, BACKEND), (blind, BACKEND)], interactions=shop / "interactions.csv"
    )
    one, other = found.encoders
    assert (one.name, one.backend, one.dimensions, one.known) == (seeing, BACKEND, 64, None)
    assert other.dimensions == 32
    assert one.texts_per_second > 0
    assert (found.texts, len(found.shown)) == (40, 3)
    for text, nearest in zip(found.shown, one.nearest, strict=True):
        assert nearest != text
        assert nearest.split()[0] == text.split()[0]
    assert one.ndcg is not None
    assert other.ndcg is not None
    assert one.ndcg > other.ndcg + 0.2


def test_the_command_shows_every_encoder_and_its_neighbours(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeing = word_model(shop / "seeing", KINDS)
    monkeypatch.setattr(encoders, "installed", lambda models: [(one, BACKEND) for one in models])
    done = CliRunner().invoke(app, ["encoder", "compare", str(shop / "items.csv"), "--model", seeing])
    assert done.exit_code == 0, done.output
    assert "knows the language" in done.output
    assert "NDCG" not in done.output
    assert done.output.count("number") == 6


def test_the_default_and_what_is_installed_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(encoders.installed(["a"])) == [
        (None, "auto"), (None, "static"), ("multilingual", "auto"), ("a", "auto")
    ]  # fmt: skip
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    monkeypatch.setattr(encoders, "is_installed", lambda: False)
    assert list(encoders.installed()) == [(None, "auto")]


def test_a_file_without_texts_is_an_error(shop: Path) -> None:
    with pytest.raises(ColdStartError, match=r"no column 'title'; it has \['item_id', 'description'\]"):
        compare_encoders(shop / "items.csv", [], text="title")
    (shop / "one.csv").write_text("description\na lamp\na lamp\n", encoding="utf-8")
    with pytest.raises(ColdStartError, match="1 different texts; at least 2"):
        compare_encoders(shop / "one.csv", [])
