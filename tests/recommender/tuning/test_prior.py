"""Priors of weights: levels and mixtures worked out by hand, their file, and what training makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.measure.splits import stable_share
from recommender.model.parameters import Parameters
from recommender.model.weights import Weights
from recommender.tuning.prior import Level, Prior
from recommender.tuning.validation import fit_tuned
from recommender.tuning.weights import FITTED, tune
from tests.support.shop_of_words import divided, shop_of_words

SMALL = Parameters(components=8, epochs=5)
OF_FIVE = Level(5, Weights(warm={"text": (1.0, 2.0)}, cold={"text": (0.5, 0.5)}, cold_offset=-1.0), 0.0)
OF_HUNDRED = Level(125, Weights(warm={"text": (3.0, 2.0), "popularity": (1.0, 1.0)}, cold={"text": (0.5, 1.5)}), 0.5)
PRIOR = Prior([OF_FIVE, OF_HUNDRED], [{"users": 900}], {"by": "a test"})


def test_between_two_levels_weights_follow_the_logarithm_of_users() -> None:
    # √(5 · 125) = 25 users are half way.
    half = PRIOR.at(25)
    assert half is not None
    assert half.weights.warm == {"text": (2.0, 2.0), "popularity": (0.5, 0.5)}
    assert half.weights.cold == {"text": (0.5, 1.0)}
    assert (half.users, half.own, half.weights.cold_offset) == (25, 0.25, -0.5)


def test_outside_the_levels_the_nearest_counts_until_the_prior_ends() -> None:
    few, many = PRIOR.at(0), PRIOR.at(249)
    assert few is not None
    assert many is not None
    assert (few.weights, few.own) == (OF_FIVE.weights, 0.0)
    assert (many.weights, many.own) == (OF_HUNDRED.weights, 0.5)
    assert PRIOR.at(250) is None


def test_the_own_weights_of_a_shop_are_scaled_to_the_sum_of_the_prior_before_they_are_mixed() -> None:
    level = Level(20, Weights(warm={"text": (1.0, 1.0)}, cold={"text": (2.0, 2.0)}, cold_offset=-0.25), 0.5)
    learned = Weights(warm={"text": (2.0, 2.0), "popularity": (3.0, 1.0)}, cold={"text": (8.0, 0.0)}, cold_offset=5.0)
    mixed = level.mixed(learned)
    # Warm: 8 in all become 2, so (0.5, 0.5) of text and (0.75, 0.25) of popularity; of the mixture they are half.
    assert mixed.warm == {"text": (0.75, 0.75), "popularity": (0.375, 0.125)}
    assert mixed.cold == {"text": (3.0, 1.0)}
    assert mixed.cold_offset == -0.25
    assert Level(20, level.weights, 0.0).mixed(learned) == level.weights
    assert Level(20, level.weights, 1.0).mixed(learned).warm == {"text": (0.5, 0.5), "popularity": (0.75, 0.25)}


def test_a_prior_is_read_as_it_was_written(tmp_path: Path) -> None:
    PRIOR.write(tmp_path / "prior.json")
    found = Prior.read(tmp_path / "prior.json")
    assert found.as_json() == PRIOR.as_json()
    assert found.at(25) == PRIOR.at(25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has the format 2, this version reads 1"),
        ({"levels": []}, "give at least one, in rising order"),
        ({"levels": PRIOR.as_json()["levels"][::-1]}, "in rising order"),
        ({"levels": [{"users": 5}]}, r"\['own', 'weights'\] too many or too few"),
        ({"levels": [PRIOR.as_json()["levels"][0] | {"own": 2}]}, "own of a level of a prior is 2"),
        ({"levels": [PRIOR.as_json()["levels"][0] | {"users": float("inf")}]}, "users of a level of a prior is inf"),
        ({"levels": [PRIOR.as_json()["levels"][0] | {"weights": {"warm": {}}}]}, "weights are"),
        ({"levels": 7}, "the levels of the prior are 7"),
    ],
)
def test_a_file_that_is_no_prior_is_refused_by_name(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(PRIOR.as_json() | change))
    with pytest.raises(ColdStartError, match=message) as told:
        Prior.named(str(path))
    assert str(path) in str(told.value)


@pytest.mark.parametrize("text", ["", "[1]", "{}"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ColdStartError, match=r"other\.json"):
        Prior.named(str(path))
    with pytest.raises(ColdStartError, match="give a file, public or none"):
        Prior.named(str(tmp_path / "absent.json"))


def test_the_public_prior_is_of_small_shops_and_names_nobody() -> None:
    public = Prior.named("public")
    assert public is not None
    assert [level.users for level in public.levels] == [5, 20, 100]
    assert public.at(10_000) is None
    assert Prior.named("none") is None
    known = {"name", "tables_sha256", "users", "items", "interactions", "encoder"}
    assert all(set(shop) <= known for shop in public.shops)


def test_training_takes_the_prior_and_the_bundle_says_so() -> None:
    shop = shop_of_words()
    held = np.array([stable_share(str(place), "held") < 0.3 for place in range(len(shop[0]))])
    alone = tune(SMALL, [divided(shop, held)])
    level = Level(20, OF_FIVE.weights, 0.0)
    under = tune(SMALL, [divided(shop, held)], prior=level)
    assert alone.parameters.source["weights"] == FITTED
    assert under.parameters.weights.warm == OF_FIVE.weights.warm
    assert under.parameters.weights.cold_offset == -1.0
    assert under.parameters.source["weights"] == "prior for 20 users"
    assert under.parameters.source["weights"] == under.parameters.source["cold_offset"]
    assert under.learned == alone.learned
    # The prior cannot say what the words of users weigh; the shop could, but its own weights do not count.
    assert (under.parameters.weights.words, alone.parameters.weights.words) == (1.5, 0.0)


def test_a_shop_with_many_users_is_trained_as_without_a_prior() -> None:
    interactions, users, items = shop_of_words()
    small = Prior([Level(50, OF_FIVE.weights, 0.0)])
    for prior, taken in ((small, False), (PRIOR, True)):
        model = fit_tuned(interactions, users, items, kind="warm", parameters=SMALL, prior=prior)
        assert model.parameters.source["weights"].startswith("prior for 120 users") == taken
