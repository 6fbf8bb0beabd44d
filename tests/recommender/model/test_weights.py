"""What the parts of a score weigh: what is accepted, what lies between two kinds of users, and what JSON keeps."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.model.parameters import Parameters
from recommender.model.weights import MOST, OF_WARM_ITEMS, PARTS, Weights
from tests.support.made_up_shop import every_score, new, only, shared


def test_a_weight_goes_from_that_of_a_new_user_to_that_of_a_known_one() -> None:
    weights = Weights(warm={"text": (2.0, 1.0)}, cold={"text": (0.0, 4.0)}, half_evidence=5.0)
    n = np.array([0, 5, 15, 10**9])
    np.testing.assert_allclose(weights.of("text", n), [2, 1.5, 1.25, 1], rtol=1e-6)
    np.testing.assert_allclose(weights.of("text", n, cold=True), [0, 2, 3, 4], rtol=1e-6)
    np.testing.assert_allclose(weights.evidence(n), [0, 0.5, 0.75, 1], rtol=1e-6)
    assert not weights.of("lightfm", n).any()  # not named
    assert Weights(half_evidence=1.0).evidence(np.array([1]))[0] == 0.5


def test_the_least_weight_of_a_description_falls_as_the_history_grows() -> None:
    weights = Weights({"text": (0.5, 1.0)}, {}, half_evidence=5.0, words=4.0)
    n, told = np.array([0, 1, 5, 10**9]), np.ones(4, bool)
    np.testing.assert_allclose(weights.of("text", n, told=told), [4, 4 * 5 / 6, 2, 1], rtol=1e-6)
    np.testing.assert_allclose(weights.of("text", n, told=~told), weights.of("text", n), rtol=1e-6)
    np.testing.assert_allclose(weights.of("text", n, cold=True, told=told)[:3], [4, 4 * 5 / 6, 2], rtol=1e-6)
    for cold, all_parts in enumerate(weights.of_all(n, told)):
        np.testing.assert_allclose(all_parts, [weights.of("text", n, cold=bool(cold), told=told)], rtol=1e-6)


def test_parts_are_those_that_weigh_anything_anywhere_in_their_order() -> None:
    weights = Weights(warm={"text": (0.0, 1.0), "lightfm": (0.0, 0.0)}, cold={"popularity": (1.0, 0.0)})
    assert weights.parts == ("popularity", "text")
    assert not Weights({}, {}).parts
    assert list(Weights({"text": (1, 1), "lightfm": (1, 1)}, {}).warm) == ["lightfm", "text"]


def test_no_default_says_something_of_new_items_by_what_only_old_ones_have() -> None:
    assert not set(OF_WARM_ITEMS) & set(Weights().cold)
    assert set(Weights().parts) <= set(PARTS)


def test_scores_are_the_sum_of_weighed_parts() -> None:
    model = shared()

    def scores(weights: Weights) -> np.ndarray:
        return every_score(model.with_parameters(weights=weights)).astype(np.float64)

    text, popularity = scores(only(text=(1.0, 1.0))), scores(only(popularity=(1.0, 1.0)))
    both = scores(only(text=(2.0, 2.0), popularity=(0.5, 0.5)))
    np.testing.assert_allclose(both, 2 * text + popularity / 2, atol=1e-5)
    # Users of the made-up shop have six items.
    np.testing.assert_allclose(scores(only(text=(1.0, 3.0))), (1 + 2 * 6 / 11) * text, atol=1e-5)


def test_the_weights_of_cold_items_and_the_offset_move_cold_items_alone() -> None:
    model = shared()
    warm = {"text": (1.0, 1.0)}
    before = every_score(model.with_parameters(weights=Weights(warm, {"text": (1.0, 1.0)})))
    after = every_score(model.with_parameters(weights=Weights(warm, {"text": (2.0, 2.0)}, cold_offset=-1.5)))
    cold = model.fitted.all_items.cold
    assert cold.sum() == 2
    np.testing.assert_array_equal(after[:, ~cold], before[:, ~cold])
    np.testing.assert_allclose(after[:, cold], 2 * before[:, cold] - 1.5, atol=1e-5)
    offset_alone = model.with_parameters(weights=Weights({}, {}, cold_offset=2.0))
    assert offset_alone.score("u00", new("x", np.zeros(3)))[0, 0] == 2


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"warm": {"gamma": (1, 1)}}, "warm weights are .*gamma.*the parts of a score are lightfm, lightfm_map"),
        ({"cold": [("text", (1, 1))]}, "cold weights are"),
        ({"warm": None}, "warm weights are None"),
        ({"warm": {"text": 1.0}}, "the weight of text is 1.0; give two numbers from 0 to 10"),
        ({"warm": {"text": (1.0,)}}, "the weight of text"),
        ({"cold": {"text": (1, 1, 1)}}, "the weight of text"),
        ({"warm": {"text": (-0.1, 1)}}, "the weight of text"),
        ({"warm": {"text": (1, MOST + 0.01)}}, "the weight of text"),
        ({"warm": {"text": (1, math.nan)}}, "the weight of text"),
        ({"warm": {"text": (True, 1)}}, "the weight of text is"),
        ({"warm": {"text": ("1", 1)}}, "the weight of text is"),
        ({"warm": {"text": "11"}}, "the weight of text is"),
        ({"half_evidence": 0.0}, "half_evidence is 0.0; it must be positive"),
        ({"half_evidence": -1}, "half_evidence is -1; it must be positive"),
        ({"half_evidence": math.inf}, "half_evidence is inf; it must be a finite number"),
        ({"cold_offset": math.nan}, "cold_offset is nan; it must be a finite number"),
        ({"cold_offset": "0"}, "cold_offset is '0'; it must be a finite number"),
        ({"cold_offset": True}, "cold_offset is True"),
    ],
)
def test_what_is_no_weight_is_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ColdStartError, match=named):
        Weights(**given)


def test_json_keeps_weights_as_they_are() -> None:
    weights = Weights({"text": (0.1, 1.0 / 3)}, {"lightfm": (0, 10)}, half_evidence=2.5, cold_offset=-0.75)
    for one in (weights, Weights(), Weights({}, {})):
        assert Weights.of_json(json.loads(json.dumps(one.as_json()))) == one
    parameters = Parameters(weights=weights, source={"weights": "by hand"})
    assert Parameters.of_json(json.loads(json.dumps(parameters.as_json()))) == parameters


@pytest.mark.parametrize("change", ["one less", "one more", "a list", "nothing"])
def test_json_of_anything_else_is_refused(change: str) -> None:
    values: Any = Weights().as_json()
    if change == "one less":
        values.pop("cold_offset")
    elif change == "one more":
        values["few"] = 1.0
    else:
        values = list(values) if change == "a list" else None
    with pytest.raises(ColdStartError, match=r"weights are .*; give cold, cold_offset, half_evidence, warm"):
        Weights.of_json(values)
    with pytest.raises(ColdStartError, match="weights are"):
        Parameters.of_json({"weights": values})


def test_parameters_take_nothing_else_for_weights_and_know_no_former_name() -> None:
    with pytest.raises(ColdStartError, match=r"weights are .*; give `Weights`"):
        Parameters(weights={"text": (1, 1)})  # type: ignore[arg-type]
    with pytest.raises(ColdStartError, match=r"unknown parameters \['cold_offset', 'gamma'\]"):
        Parameters.of_json({"gamma": 1.0, "cold_offset": 0.0})
    with pytest.raises(ColdStartError, match="parameters are \\[\\]; give a dictionary"):
        Parameters.of_json([])  # type: ignore[arg-type]
