"""What LightFM does in each epoch: the share of pairs in the right order."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from recommender.model.fitting import fit
from recommender.model.pair_order import PairOrder
from recommender.model.parameters import Parameters
from tests.support.made_up_shop import made_up_shop

# Two users, three items, each with its identity alone. User 0 has taken items 0 and 1, user 1 item 2.
TAKEN = sp.csr_matrix(np.array([[1, 1, 0], [0, 0, 2]], np.float32))
USERS, ITEMS = sp.identity(2, format="csr"), sp.identity(3, format="csr")


def model(scores: list[list[float]], biases: tuple[float, ...] = (0, 0, 0)) -> SimpleNamespace:
    """A stub of a fit of LightFM with these scores, (users, items), before biases."""
    return SimpleNamespace(
        user_embeddings=np.identity(2), item_embeddings=np.array(scores).T, item_biases=np.array(biases)
    )


@pytest.mark.parametrize(
    ("models", "share"),
    [
        ([model([[2, 1, 0], [0, 0, 1]])], 1.0),
        ([model([[0, 0, 1], [1, 1, 0]])], 0.0),
        ([model([[1, 1, 1], [2, 2, 2]])], 0.5),
        ([model([[0, 0, 1], [1, 1, 0]]), model([[3, 3, 0], [0, 0, 3]])], 1.0),  # the mean of two fits
        ([model([[0, 0, 1], [1, 1, 0]], (2, 2, 0))], None),  # biases count: right for user 0, wrong for user 1
    ],
)
def test_pairs_are_counted_by_the_scores_of_the_mean_of_the_fits(
    models: list[SimpleNamespace], share: float | None
) -> None:
    order = PairOrder.of(*TAKEN.nonzero(), TAKEN, USERS, ITEMS)
    of_the_first = float((order.users @ np.array([1, 0])).mean())
    assert 0 < of_the_first < 1
    assert order.share(models) == pytest.approx(of_the_first if share is None else share)


def test_the_other_item_is_one_that_the_user_did_not_take() -> None:
    order = PairOrder.of(*TAKEN.nonzero(), TAKEN, USERS, ITEMS)
    for rows, right in ((order.taken, 1), (order.others, 0)):
        assert set(((order.users @ (TAKEN > 0)).multiply(rows).sum(axis=1) > 0).A1.tolist()) == {bool(right)}


def test_without_pairs_there_is_no_share() -> None:
    everything = sp.csr_matrix(np.ones((2, 3)))
    assert np.isnan(PairOrder.of(*everything.nonzero(), everything, USERS, ITEMS).share([model([[0, 0, 0]] * 2)]))
    nothing = np.zeros(0, np.int64)
    assert np.isnan(PairOrder.of(nothing, nothing, TAKEN, USERS, ITEMS).share([model([[0, 0, 0]] * 2)]))


def test_epochs_are_told_and_the_fit_stays_the_same() -> None:
    interactions, users, items = made_up_shop()
    held = np.arange(len(interactions)) % 5 == 0
    learned, wanted = interactions.select(~held), interactions.select(held)
    settings = Parameters(components=8, epochs=4)
    told: list[tuple[int, Mapping[str, float]]] = []
    watched = fit(
        settings, learned, users, items, on_epoch=lambda epoch, values: told.append((epoch, values)), held_out=wanted
    )
    assert [(epoch, sorted(values)) for epoch, values in told] == [
        (epoch, ["auc", "held_out_auc"]) for epoch in range(1, 5)
    ]
    # Everybody buys what their kind buys; two kinds.
    assert all(value > 0.8 for value in told[-1][1].values())
    plain = fit(settings, learned, users, items)
    for name in ("users", "items", "biases"):
        np.testing.assert_array_equal(getattr(watched.factors, name), getattr(plain.factors, name))
    fit(settings, learned, users, items, on_epoch=lambda epoch, values: told.append((epoch, values)))
    assert told[4:] == [(epoch, {"auc": values["auc"]}) for epoch, values in told[:4]]
