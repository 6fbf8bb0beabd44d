"""What must go wrong when texts, or times, say nothing: a small form of the benchmark's leakage section."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import duckdb
import numpy as np
import pytest

from coldstart_udfs.encoder.encoder import Encoder
from recommender.data.dataset import Dataset
from recommender.data.entities import Entities, describe, with_history
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.data.tables import ingest, load, read_interactions
from recommender.evaluation.baselines import METHODS, Scorer, scorer_of
from recommender.evaluation.comparison import measure
from recommender.measure.splits import CANDIDATES, Split, make_splits, pair_matrix
from recommender.model.recommender import HybridRecommender, Parameters
from tests.support.encoders import WordEncoder

RAW = Path(__file__).resolve().parents[3] / "examples" / "online_retail"
CUTOFF = datetime(2011, 9, 1, tzinfo=UTC)
MONTH = EventWeights(half_life_days=30)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Every fourth product of Online Retail, by stem, and who bought at least ten of them."""
    folder = tmp_path_factory.mktemp("leakage")
    ingest(RAW, folder)
    with duckdb.connect() as con:
        load(con, folder)
        con.execute("""
            DELETE FROM items WHERE ('0x' || left(md5(left(item_id, 5)), 4))::INT % 4 > 0;
            DELETE FROM interactions WHERE item_id NOT IN (SELECT item_id FROM items);
            DELETE FROM users WHERE user_id NOT IN (
                SELECT user_id FROM interactions GROUP BY user_id HAVING count(*) >= 10
            );
            DELETE FROM interactions WHERE user_id NOT IN (SELECT user_id FROM users);
        """)
        texts = dict(con.execute("SELECT item_id, description FROM items ORDER BY 1").fetchall())
        interactions = read_interactions(con)
    encoder = cast("Encoder", WordEncoder())
    users = describe(encoder, list(interactions.user_ids))
    items = describe(encoder, list(texts), list(texts.values()))
    return Dataset("a part of Online Retail", interactions, users, items, [name[:5] for name in texts])


def cold_ndcg(data: Dataset, items: Entities, scorer: Callable[[Split], Scorer]) -> float:
    """Of a method that knows the items as given, on those that it has not seen."""
    (split,) = make_splits(data.interactions, data.users, items, "item_cold", groups=data.groups)
    return float(measure(split, scorer(split))["cold"].ndcg.mean())


def test_the_advantage_on_cold_items_vanishes_when_their_texts_are_shuffled(data: Dataset) -> None:
    """Ids, groups and interactions stay: if something of the cold items leaked by them, it would still be used."""

    def ours(split: Split) -> Scorer:
        model = HybridRecommender(Parameters(epochs=5, components=16))
        return scorer_of(model.fit(split.train, split.users, split.items))

    true = cold_ndcg(data, data.items, ours)
    shuffled, random = [], []
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(len(data.items))
        shuffled.append(cold_ndcg(data, replace(data.items.take(order), ids=data.items.ids), ours))
        random.append(cold_ndcg(data, data.items, lambda split, seed=seed: METHODS["random"](split, seed)))
    assert true > 2 * np.mean(random)
    assert np.mean(shuffled) - np.mean(random) < 0.1 * (true - np.mean(random))


@pytest.mark.parametrize("kind", ["item_cold", "both_cold"])
def test_no_pair_that_is_asked_for_is_in_the_training_part_or_in_a_profile(kind: str, data: Dataset) -> None:
    """Pairs of old items are held out beside those of new ones."""
    (split,) = make_splits(data.interactions, data.users, data.items, kind, groups=data.groups)
    train = pair_matrix(split.train)
    for name in CANDIDATES:
        wanted = split.candidates(name).wanted
        assert wanted.nnz > 20
        assert wanted.multiply(train).nnz == 0
    users, items = with_history(split.train, data.users, data.items)
    for given, made in ((split.users, users), (split.items, items)):
        np.testing.assert_array_equal(given.profiles, made.profiles)
        np.testing.assert_array_equal(given.evidence, made.evidence)


def test_recency_is_of_no_use_when_the_times_are_shuffled(data: Dataset) -> None:
    """Profiles that forget rank what comes later better; if what they keep is not what is recent, they only forget."""
    (split,) = make_splits(data.interactions, data.users, data.items, "temporal", cutoff=CUTOFF)

    def ndcg(train: Interactions, weights: EventWeights) -> float:
        users, _ = with_history(train.weighted(weights, CUTOFF), split.users, split.items)
        scores = users.profiles @ split.items.embeddings.T
        return float(measure(split, lambda rows: scores[rows])["warm"].ndcg.mean())

    shuffled = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(split.train))
        moved = {name: getattr(split.train, name)[order] for name in ("users", "items", "weights")}
        shuffled.append(ndcg(replace(split.train, **moved), MONTH))
    plain, recent = ndcg(split.train, EventWeights()), ndcg(split.train, MONTH)
    assert recent > plain > np.mean(shuffled)
