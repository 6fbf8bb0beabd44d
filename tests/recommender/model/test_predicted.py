"""What users with the same words or attributes have in common is what the formulas say, however it is summed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recommender.data.entities import Entities
from recommender.model import predicted
from recommender.model.fitting import as_matrix
from recommender.model.predicted import AttributePopularity, PredictedProfiles
from tests.support.made_up_shop import entities, made_up_shop

LABELS = ["home=farm", "home=flat"]


def people(n: int = 50) -> Entities:
    """Users with words, attributes and profiles; every fifth has no profile, and every seventh nothing else."""
    rng = np.random.default_rng(0)
    vectors, profiles = rng.normal(size=(2, n, 4)).astype(np.float32)
    profiles[::5], vectors[::7] = 0, 0
    labels = [[] if row % 7 == 0 else [LABELS[row % 2]] for row in range(n)]
    return replace(entities([f"u{row}" for row in range(n)], [""] * n, vectors, labels), profiles=profiles)


@pytest.mark.parametrize("block", [1, 7, 1_000])
def test_the_map_to_profiles_is_ridge_regression_on_directions(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import Ridge

    monkeypatch.setattr(predicted, "_BLOCK", block)
    users = people()
    known = users.profiles.any(axis=1)
    directions = users.profiles[known] / np.linalg.norm(users.profiles[known], axis=1, keepdims=True)
    features = np.hstack([users.embeddings, [[label in labels for label in LABELS] for labels in users.attributes]])
    told = features[known].any(axis=1)
    plain = Ridge(alpha=10.0, fit_intercept=False)
    plain.fit(features[known][told], (directions - directions.mean(axis=0))[told])
    np.testing.assert_allclose(PredictedProfiles.fit(users, LABELS).weights, plain.coef_.T, atol=1e-6)


def test_the_mean_popularity_among_users_like_these_is_the_mean_over_items() -> None:
    interactions, users, _ = made_up_shop()
    lifts = AttributePopularity.fit(as_matrix(interactions), users)
    rows = np.array([3, 0, 15, -1, 99])  # two that it does not know
    each = lifts.of(users, rows)
    assert each[:, :3].all()
    assert not each[:, 3:].any()
    means = lifts.lifts[:, rows[:3]].mean(axis=1)
    np.testing.assert_allclose(lifts.mean_of(users, means), each[:, :3].mean(axis=1, keepdims=True), atol=1e-6)
    for row in (0, 39):  # one user alone, and with others
        np.testing.assert_allclose(lifts.of(users.take(np.array([row])), rows), each[[row]], atol=1e-6)
