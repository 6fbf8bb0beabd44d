from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest

from coldstart_udfs import profile
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import band_label, evidence_weight, item_profiles, updated_item_profiles, user_profiles
from coldstart_udfs.settings import Enrichment
from recommender.data.entities import Entities, with_history
from recommender.data.tables import load, read_interactions

X = np.array([[1, 0], [0, 1]], dtype=np.float32)
# Two users: the first bought both items (the second with weight 2), the other item 0 alone.
USERS, ITEMS, WEIGHTS = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1, 2, 1], dtype=np.float32)


def test_a_user_profile_is_the_weighted_sum_of_his_items() -> None:
    profiles = user_profiles(USERS, ITEMS, WEIGHTS, X, 3)
    np.testing.assert_array_equal(profiles, [[1, 2], [1, 0], [0, 0]])


def test_an_item_profile_is_the_mean_of_its_buyers_without_the_item_itself() -> None:
    profiles = item_profiles(USERS, ITEMS, WEIGHTS, X, user_profiles(USERS, ITEMS, WEIGHTS, X, 2))
    # Item 0: user 0 without it is [0, 2], unit [0, 1]; user 1 bought nothing else and is not counted.
    np.testing.assert_array_equal(profiles, [[0, 1], [1, 0]])


@pytest.mark.parametrize("rows", [2_048, 3])
def test_sums_are_those_of_a_plain_loop_however_they_are_cut(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "_SLICE", rows)
    monkeypatch.setattr(profile, "_BLOCK", 2 * rows)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(7, 5)).astype(np.float32)
    users, items = np.nonzero(rng.random((40, 7)) < 0.4)
    weights = rng.uniform(0.1, 2, len(users))
    weights[rng.random(len(users)) < 0.1] = 500  # the rest of such a profile is a small difference of large numbers
    found = user_profiles(users, items, weights, x, 40)
    wanted = np.zeros((40, 5))
    np.add.at(wanted, users, weights[:, None] * x[items].astype(np.float64))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    means = np.zeros((7, 5))
    for item in range(7):
        buyers = [row for row in np.flatnonzero(items == item) if np.sum(users == users[row]) > 1]
        rests = np.array([found[users[row]].astype(np.float64) - weights[row] * x[item] for row in buyers])
        means[item] = (rests / np.linalg.norm(rests, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(item_profiles(users, items, weights, x, found), means, atol=2e-6)


def test_running_means_from_nothing_are_the_item_profiles() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3)).astype(np.float32)
    users, items = np.nonzero(np.ones((5, 4), bool) & (np.arange(4) != np.arange(5)[:, None] % 4))
    weights = rng.uniform(1, 2, 15).astype(np.float32)
    profiles = user_profiles(users, items, weights, x, 5)
    updated = updated_item_profiles(np.zeros((4, 3), np.float32), np.zeros(4), items, weights, x, profiles[users])
    np.testing.assert_allclose(updated, item_profiles(users, items, weights, x, profiles), atol=1e-6)


def test_a_running_mean_counts_the_buyers_of_before() -> None:
    before = np.array([[1, 0]], np.float32)
    buyer = np.array([[1, 2]], np.float32)  # without the item [1, 0] itself it points to [0, 1]
    updated = updated_item_profiles(before, np.array([3.0]), np.array([0]), np.array([1], np.float32), X[:1], buyer)
    np.testing.assert_allclose(updated, [[0.75, 0.25]])


def test_a_new_buyer_of_nothing_else_leaves_a_running_mean_as_it_is() -> None:
    before = np.array([[0, 1]], np.float32)
    updated = updated_item_profiles(before, np.array([2.0]), np.array([0]), np.array([1], np.float32), X[:1], X[:1])
    np.testing.assert_array_equal(updated, before)


def test_bands_of_the_data_contract_are_those_of_the_kernel(tmp_path: Path) -> None:
    numbers = [0.3, 0.5, 1, 3.5, 7.999, 8, 1e-9, 1e12, 0, -2.5]
    with duckdb.connect() as con:
        con.execute("CREATE TABLE numbers AS SELECT unnest($1) AS price", [numbers])
        ids = "lpad(rowid::VARCHAR, 2, '0')"
        con.execute(f"COPY (SELECT {ids} AS item_id, 'a lamp' AS description, price FROM numbers) "
                    f"TO '{tmp_path}/items.parquet'")
        con.execute(f"COPY (SELECT 'u' AS user_id, '' AS description) TO '{tmp_path}/users.parquet'")
        con.execute(f"COPY (SELECT 'u' AS user_id, '00' AS item_id, TIMESTAMP '2024-01-01' AS event_timestamp) "
                    f"TO '{tmp_path}/interactions.parquet'")
    with duckdb.connect() as con:
        load(con, tmp_path)
        found = [labels for (labels,) in con.execute("SELECT attributes FROM items ORDER BY item_id").fetchall()]
    assert found == [[band_label("price", number)] for number in numbers]


def test_unknown_evidence_counts_as_none_and_negative_evidence_is_refused() -> None:
    np.testing.assert_array_equal(evidence_weight([np.nan, 0, 10], 2.0, 10.0), [2, 2, 1])
    with pytest.raises(ColdStartError, match="-3"):
        evidence_weight([-3], 1.0)


def test_settings_survive_writing_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "enrichment.json"
    weights = {"view": 0.25, "answer": 3}
    settings = Enrichment(alpha=2.5, beta=0.5, event_weights=weights, half_life_days=90, source={"alpha": "by hand"})
    settings.write(path)
    assert Enrichment.read(path) == settings
    assert Enrichment.of_repo(tmp_path / "empty") == Enrichment(source=dict.fromkeys(settings_names(), "default"))


def settings_names() -> tuple[str, ...]:
    return ("alpha", "beta", "evidence_scale", "event_weights", "half_life_days")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ('{"alfa": 1}', r"alfa.*possible keys are"),
        ('{"alpha": -1}', "alpha is -1"),
        ('{"alpha": "1"}', "alpha is '1'"),
        ('{"evidence_scale": 0}', "must be positive"),
        ('{"half_life_days": 0}', "half_life_days is 0.*null for events that do not age"),
        ('{"event_weights": [1]}', r"event_weights is \[1\]; it must be like .*'view'"),
        ('{"event_weights": {"View": 1}}', "names 'View'; types of events are lower case"),
        ('{"event_weights": {"view": -1}}', "the event weight of 'view' is -1"),
        ('{"event_weights": {"return": 2}}', "the event weight of 'return' is 2; it must be finite, of 'return' ≤ 1"),
        ("[]", "list"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "enrichment.json"
    path.write_text(text)
    with pytest.raises(ColdStartError, match=problem) as caught:
        Enrichment.read(path)
    assert "enrichment.json" in str(caught.value)


def test_the_sql_files_and_the_kernel_give_the_same_profiles(shop: Path) -> None:
    with duckdb.connect() as con:
        load(con, shop / "data")
        interactions = read_interactions(con)
        source = f"'{shop}/feature_repo/data/item_descriptions/*.parquet'"
        embeddings = dict(con.execute(f"SELECT item_id, item_embedding FROM {source}").fetchall())
        stored = {
            side: con.execute(f"""
                SELECT {side}_id, {side}_profile, {side}_evidence
                FROM '{shop}/feature_repo/data/{side}_profiles.parquet'
                QUALIFY row_number() OVER (PARTITION BY {side}_id ORDER BY event_timestamp DESC) = 1 ORDER BY 1
            """).fetchall()
            for side in ("user", "item")
        }
    matrix = np.array([embeddings[name] for name in interactions.item_ids], dtype=np.float32)
    rebuilt = with_history(interactions, blank(interactions.user_ids), blank(interactions.item_ids, matrix))
    for side, entities in zip(("user", "item"), rebuilt, strict=True):
        ids, profiles, evidence = zip(*stored[side], strict=True)
        assert list(ids) == list(entities.ids)
        np.testing.assert_array_equal(evidence, entities.evidence)
        np.testing.assert_allclose(np.array(profiles), entities.profiles, rtol=1e-6, atol=1e-6)


def blank(ids: list[str], embeddings: np.ndarray | None = None) -> Entities:
    matrix = np.zeros((len(ids), 384), np.float32) if embeddings is None else embeddings
    return Entities(ids, [""] * len(ids), [[]] * len(ids), matrix, np.zeros_like(matrix), np.zeros(len(ids)), "any")
