"""Which items to describe next: what a rank is made of, from files alone and with interactions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart_udfs import Encoder
from coldstart_udfs.errors import ColdStartError
from recommender.cli.app import app
from recommender.pipeline.descriptions import Asked, to_describe

ITEMS = {
    "001": "blue china mug with a saucer", "002": "white china mug with a handle", "003": "green china mug for tea",
    "004": "mug", "005": "", "006": "", "007": "bag", "008": "industrial hydraulic excavator bucket",
}  # fmt: skip
# How many users have each.
USERS = {"001": 40, "002": 40, "003": 40, "004": 40, "005": 40, "006": 0, "007": 3, "008": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shop")
    rows = "".join(f"{name},{text}\n" for name, text in ITEMS.items())
    (made / "items.csv").write_text(f"item_id,description\n{rows}")
    events = "".join(f"u{user},{name}\nu{user},{name}\n" for name, n in USERS.items() for user in range(n))
    (made / "interactions.csv").write_text(f"user_id,item_id\n{events}")
    return made


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(cache=False)


def found(folder: Path, encoder: Encoder, with_events: bool = True, k: int = 9) -> dict[str, Asked]:
    events = folder / "interactions.csv" if with_events else None
    return {one.item_id: one for one in to_describe(folder / "items.csv", events, k, encoder=encoder)}


def test_a_rank_is_reach_times_uncertainty(folder: Path, encoder: Encoder) -> None:
    asked = found(folder, encoder)
    gains = [one.gain for one in asked.values()]
    assert gains == sorted(gains, reverse=True)
    for one in asked.values():
        assert one.gain == pytest.approx(one.reach * one.uncertainty)
        assert (one.users, one.text) == (USERS[one.item_id], ITEMS[one.item_id])
    assert len(found(folder, encoder, k=2)) == 2


def test_only_texts_with_something_wrong_are_named(folder: Path, encoder: Encoder) -> None:
    assert {name: one.why for name, one in found(folder, encoder).items()} == {
        "004": "under 3 words", "005": "no text", "006": "no text", "007": "under 3 words", "008": "unlike the others",
    }  # fmt: skip


def test_uncertainty_falls_with_the_users_of_an_item_and_of_its_like(folder: Path, encoder: Encoder) -> None:
    asked = found(folder, encoder)
    assert (asked["005"].uncertainty, asked["006"].uncertainty) == (pytest.approx(8 / 48), 1)
    # "mug" is like what many have, "bag" is not.
    assert asked["004"].uncertainty < asked["007"].uncertainty < asked["008"].uncertainty


def test_the_reach_of_an_item_that_nobody_has_is_predicted(folder: Path, encoder: Encoder) -> None:
    asked = found(folder, encoder)
    assert asked["005"].reach == 40
    assert 3 < asked["006"].reach < 40  # the mean of the others, on a logarithmic scale


def test_without_interactions_a_missing_text_comes_first(folder: Path, encoder: Encoder) -> None:
    asked = found(folder, encoder, with_events=False)
    assert list(asked)[:2] == ["005", "006"]
    assert {one.users for one in asked.values()} == {None}
    assert {one.reach for one in asked.values()} == {1.0}


def test_the_command_reads_the_interactions_beside_the_file(folder: Path, tmp_path: Path) -> None:
    written = tmp_path / "found.json"
    done = CliRunner().invoke(app, ["coverage", str(folder / "items.csv"), "--ask", "3", "--json", str(written)])
    assert done.exit_code == 0, done.output
    assert "describe next" in done.output
    rows = json.loads(written.read_text())["ask"]
    assert len(rows) == 3
    assert {row["item_id"]: row["users"] for row in rows}.items() <= USERS.items()


def test_a_file_without_ids_is_an_error(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "items.csv"
    path.write_text("description\nlamp\n")
    with pytest.raises(ColdStartError, match=r"no column 'item_id', which --ask needs; it has \['description'\]"):
        to_describe(path, None, 3, encoder=encoder)
