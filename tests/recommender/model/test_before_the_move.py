"""A bundle written before the code moved, and that code's answers from it: tests/fixtures/bundle_before_the_move."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recommender import HybridRecommender
from recommender.data.entities import Entities
from tests.support.commands import ROOT
from tests.support.made_up_shop import LAMP, SPADE, entities, events, new

FIXTURE = ROOT / "tests" / "fixtures" / "bundle_before_the_move"
NOTHING = np.zeros(3, np.float32)
FORMER_COLUMNS = {"rung": "tier", "words": "text"}


@pytest.fixture
def model(tmp_path: Path) -> HybridRecommender:
    shutil.copytree(FIXTURE / "bundle", tmp_path / "bundle")
    return HybridRecommender.load(tmp_path / "bundle")


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    with np.load(FIXTURE / "answers.npz") as arrays:
        return {**arrays, **json.loads((FIXTURE / "answers.json").read_text())}


def some_users(model: HybridRecommender) -> Entities:
    """All known users, one with words, one without anything, one with an attribute."""
    told = new("a spade please", SPADE, "told", ["home=farm"])
    return model.users.join(told).join(new("", NOTHING, "nobody")).join(new("", NOTHING, "farmer", ["home=farm"]))


def some_items(model: HybridRecommender) -> Entities:
    return model.items.join(new("lamp model new", LAMP, "thing", ["category=lamp"]))


def assert_same_table(found: pd.DataFrame, expected: list[dict[str, Any]]) -> None:
    frame = pd.DataFrame(expected).rename(columns=FORMER_COLUMNS)
    pd.testing.assert_frame_equal(found[frame.columns].reset_index(drop=True), frame, atol=1e-6, check_dtype=False)


def test_its_parameters_have_their_names_of_today(model: HybridRecommender) -> None:
    parameters = model.parameters
    assert (parameters.lightfm_half_trust, parameters.metric_ridge, parameters.warm_text_weight) == (1.0, 5.0, 0.25)
    assert (parameters.item_item_weight, parameters.item_item_smoothing) == (2.0, 0.5)
    assert parameters.predicted_profile_weight == 2.0
    assert set(parameters.source) == {"lightfm_half_trust", "item_item_weight", "metric_ridge"}


def test_its_scores_are_the_same(model: HybridRecommender, answers: dict[str, Any]) -> None:
    users, items = some_users(model), some_items(model)
    np.testing.assert_allclose(model.score(users, items), answers["scores"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.score(None, items), answers["demand"], rtol=1e-6, atol=1e-6)


def test_its_tables_are_the_same(model: HybridRecommender, answers: dict[str, Any]) -> None:
    asked = some_users(model).take(np.array([3, 25, 40, 41, 42]))
    assert_same_table(model.recommend(asked, k=6), answers["recommend"])
    assert_same_table(model.audience(["i00", "i19"], k=5), answers["audience"])


@pytest.mark.parametrize(("user", "item"), [("u03", "i09"), ("told", "i12")])
def test_its_explanations_are_the_same(
    model: HybridRecommender, answers: dict[str, Any], user: str, item: str
) -> None:
    users = some_users(model)
    found = model.explain(users.take(np.array([list(users.ids).index(user)])), item)
    expected = [row for row in answers["explain"] if row["pair"] == f"{user} {item}"]
    terms = {(row["term"], row["kind"]): row["value"] for row in expected}
    assert {(term, kind) for term, kind, _ in found.itertuples(index=False)} == set(terms)
    for term, kind, value in found.itertuples(index=False):
        assert value == pytest.approx(terms[term, kind], abs=2e-6)


def test_it_is_updated_in_the_same_way(model: HybridRecommender, answers: dict[str, Any]) -> None:
    users = entities(["fresh", "u03"], ["spades", ""], np.stack([SPADE, NOTHING]))
    items = entities(["i12", "thing", "i01"], ["spade model 2", "lamp model new", "lamp model 1"],
                     np.stack([SPADE, LAMP, LAMP]))  # fmt: skip
    pairs = [(0, 0), (0, 1), (1, 1), (1, 2), (0, 0)]
    model.partial_fit(events(users, items, pairs, weights=[1, 0.5, 1, 2, 1]), users, items)
    np.testing.assert_allclose(model.users.profiles, answers["user_profiles"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.items.profiles, answers["item_profiles"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.score(model.users, model.items), answers["after"], rtol=1e-6, atol=1e-6)


def test_it_is_written_with_the_names_of_today(model: HybridRecommender, tmp_path: Path) -> None:
    model.save(tmp_path / "again")
    parameters = json.loads((tmp_path / "again" / "manifest.json").read_text())["parameters"]
    assert {"few", "beta", "taste"} & {*parameters, *parameters["source"]} == set()
    again = HybridRecommender.load(tmp_path / "again")
    np.testing.assert_array_equal(again.score(again.users.ids, "i09"), model.score(model.users.ids, "i09"))
