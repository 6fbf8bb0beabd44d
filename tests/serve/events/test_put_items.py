"""Items that were put are in the lists of who has no service, as a worker would have them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recommender.model.recommender import HybridRecommender
from recommender.serve.events.log import EventLog
from recommender.serve.events.put_items import put_items, with_items
from recommender.serve.live import Live
from tests.support.made_up_shop import LAMP, SPADE, shared


class Words:
    """An encoder that knows two words."""

    dimensions, fingerprint = 3, "stub"

    def encode(self, texts: Sequence[str], prompt: str = "document") -> np.ndarray:
        return np.array([LAMP if "lamp" in text else SPADE for text in texts], np.float32).reshape(-1, 3)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    shared().with_parameters(freshness=2.0, freshness_half_life=1.0).save(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_the_items_are_those_of_a_worker(bundle: Path, tmp_path: Path) -> None:
    url, encoder = f"sqlite:///{tmp_path}/events.db", Words()
    assert put_items(bundle, url) == {}
    assert not (tmp_path / "events.db").exists()
    with closing(EventLog.open(url)) as log:
        log.put("item", "one", "spade model 7")
        log.put("item", "one", "lamp model 77", ["category=lamp"])
        log.put("user", "somebody", "a lamp")
        log.put("item", "i00", "spade after all")
        found = put_items(bundle, url)
        assert {name: told.description for name, told in found.items()} == {
            "one": "lamp model 77", "i00": "spade after all"
        }  # fmt: skip
        mine = HybridRecommender.of(with_items(HybridRecommender.load(bundle).fitted, found, as_encoder(encoder)))
        with Live(bundle, log, encoder=as_encoder(encoder), poll=None) as live:
            assert list(mine.items.ids) == list(live.model.items.ids)
            moment = datetime.now(UTC) + timedelta(hours=1)
            scores = [one.as_of(moment).score("u03", mine.items.ids) for one in (mine, live.model)]
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_a_worker_lists_what_is_put_and_measures_ages_by_its_clock(bundle: Path, tmp_path: Path) -> None:
    with (
        closing(EventLog.open(f"sqlite:///{tmp_path}/events.db")) as log,
        Live(bundle, log, encoder=as_encoder(Words()), poll=None) as live,
    ):
        log.put("item", "one", "lamp model 77")
        live.refresh()
        model = live.model
        assert "one" in list(model.recommend("u03", 3)["item_id"])
        plain = model.with_parameters(freshness=0.0).score("u03", ["one"])
        assert (model.score("u03", ["one"]) - plain)[0, 0] == pytest.approx(2.0, abs=0.01)
        clock = np.datetime64(datetime.now(UTC).replace(tzinfo=None))
        assert abs(model.fitted.births.now - clock) < np.timedelta64(60, "s")
        # The state that other requests share is another version with the same arrays.
        assert model.fitted.all_items is live.model.fitted.all_items


def as_encoder(words: Words) -> Any:
    """Words, for who wants an `Encoder`."""
    return words
