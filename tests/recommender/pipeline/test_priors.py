"""`coldstart prior learn`: from tables of shops to a file that training takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.cli.app import app
from recommender.pipeline.priors import learn, shop_in
from recommender.tuning.prior import Prior

USERS = 30


def shop(folder: Path, seed: int, users: int = USERS) -> Path:
    """Two kinds of things; each user buys one kind, a day after the other."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    items = [f"{kind}{n},{kind} of shop {seed}" for kind in ("lamp", "rug") for n in range(8)]
    kinds = [("lamp", "rug")[user % 2] for user in range(users)]
    bought = [(user, kind, day, n) for user, kind in enumerate(kinds) for day, n in enumerate(rng.permutation(8)[:5])]
    rows = [f"u{user},{kind}{n},2026-01-{day + 1:02}" for user, kind, day, n in bought]
    (folder / "items.csv").write_text("\n".join(["item_id,description", *items]) + "\n")
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,event_timestamp", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shops")
    return [shop(folder / f"shop{n}", n) for n in range(3)]


@pytest.mark.slow
def test_a_prior_of_three_shops_is_written_and_read_again(shops: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "prior.json"
    app(["prior", "learn", *map(str, shops), "--sizes", "5", "--draws", "1", "--out", str(path)], standalone_mode=False)
    prior = Prior.named(str(path))
    assert prior is not None
    assert [level.users for level in prior.levels] == [5]
    assert [one["users"] for one in prior.shops] == [USERS] * 3
    assert len({one["tables_sha256"] for one in prior.shops}) == 3
    # Nobody and nothing is named.
    text = path.read_text()
    assert not any(word in text for word in ("u1", "rug", shops[0].name))


def test_shops_that_are_too_few_or_too_small_are_refused(shops: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ColdStartError, match="2 shops are given, a prior needs 3"):
        learn(shops[:2])
    with pytest.raises(ColdStartError, match="has the tables of a shop that was given before"):
        learn([*shops[:2], shops[0]], [20], draws=1)
    # 30 users leave 20 others to nobody but shops of 10.
    with pytest.raises(ColdStartError, match="fewer than 3 shops have 40 users"):
        learn(shops, [20, 100], draws=1)
    with pytest.raises(ColdStartError, match="--sizes is '5,x'"):
        app(["prior", "learn", *map(str, shops), "--sizes", "5,x", "--out", str(tmp_path / "no.json")],
            standalone_mode=False)  # fmt: skip
    assert not (tmp_path / "no.json").exists()


def test_the_settings_of_a_shop_count(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shop(folder / "data", 0)
    (folder / "feature_repo").mkdir()
    settings = {"event_weights": {"interaction": 0.5}, "alpha": 1.0}
    (folder / "feature_repo" / "enrichment.json").write_text(json.dumps(settings))
    found, about = shop_in(folder)
    assert found.weights.of("interaction") == 0.5
    assert (about["items"], about["interactions"]) == (16, 150)
    with pytest.raises(ColdStartError, match="has no items"):
        shop_in(folder / "feature_repo")
