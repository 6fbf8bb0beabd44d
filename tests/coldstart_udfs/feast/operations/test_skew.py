"""`coldstart skew` on a shop of its own: nothing differs, then each reason in turn."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.operations import skew as reasons
from coldstart_udfs.feast.operations.skew import Skew, measure_skew
from coldstart_udfs.feast.operations.stores import open_store
from tests.support.commands import must

SPAN = ("2010-01-01T00:00:00", "2012-01-01T00:00:00")
MOMENT = datetime(2012, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def store(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the shop that these tests may spoil."""
    folder = tmp_path_factory.mktemp("skewed")
    shutil.copytree(shop / "feature_repo", folder / "feature_repo", ignore=shutil.ignore_patterns("*.db"))
    must("feast", "-c", "feature_repo", "apply", cwd=folder)
    must("feast", "-c", "feature_repo", "materialize", *SPAN, cwd=folder)
    return open_store(folder / "feature_repo")


@pytest.fixture(scope="module")
def users(shop: Path) -> list[str]:
    with duckdb.connect() as con:
        query = f"SELECT user_id FROM '{shop}/data/users.parquet' WHERE description IS NOT NULL ORDER BY 1 LIMIT 40"
        return [name for (name,) in con.sql(query).fetchall()]


@pytest.fixture(scope="module")
def training(store: Any, users: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame({"user_id": users, "item_id": "none", "event_timestamp": MOMENT})
    return store.get_historical_features(frame, store.get_feature_service("coldstart_training")).to_df()


def by_feature(found: list[Skew]) -> dict[str, Skew]:
    return {one.feature: one for one in found}


def test_nothing_differs_after_materialize(store: Any, training: pd.DataFrame) -> None:
    found = by_feature(measure_skew(store, training))
    assert found["user_profile"].compared == found["user_enriched_profile"].compared == 40
    assert found["user_description"].compared == 40
    assert {name: one.different for name, one in found.items() if one.different} == {}


def test_a_value_that_the_source_never_had_was_rewritten_and_what_is_computed_of_it_says_so(
    store: Any, training: pd.DataFrame
) -> None:
    changed = training.copy()
    row = changed.index[3]
    changed.at[row, "user_profile"] = changed.at[row, "user_profile"] + np.float32(0.5)
    changed.at[row, "user_enriched_profile"] = changed.at[row, "user_enriched_profile"] + np.float32(0.5)
    found = by_feature(measure_skew(store, changed))
    assert found["user_profile"].reasons == {reasons.REWRITTEN: 1}
    assert found["user_profile"].largest == pytest.approx(0.5, abs=1e-3)
    assert found["user_enriched_profile"].reasons == {reasons.INPUTS: 1}
    assert found["user_profile"].examples == [f"user_id={changed.user_id[row]}"]


def test_another_alpha_is_told_from_other_inputs(store: Any, training: pd.DataFrame) -> None:
    other = training.assign(user_evidence_weight=2.0)
    found = by_feature(measure_skew(store, other))["user_evidence_weight"]
    assert (found.different, found.reasons) == (40, {reasons.PARAMETERS: 40})


def test_a_later_event_online_is_no_fault_and_one_that_is_missing_is(
    store: Any, training: pd.DataFrame, users: list[str]
) -> None:
    new = {
        "user_id": users[0], "user_description": "a red lamp", "user_attributes": [], "user_embedding": np.ones(384),
        "user_text_fingerprint": training.user_text_fingerprint[0], "event_timestamp": MOMENT + timedelta(days=1),
    }  # fmt: skip
    store.write_to_online_store("user_descriptions", pd.DataFrame([new]))
    unknown = training.assign(user_id=training.user_id.where(training.user_id != users[1], "nobody"))
    found = by_feature(measure_skew(store, unknown))
    assert found["user_description"].reasons == {reasons.NEWER: 1, reasons.MISSING: 1}
    assert found["user_description"].faulty == 1
    assert found["user_profile"].reasons == {reasons.MISSING: 1}


def test_an_online_store_that_was_not_materialised_since_is_behind(store: Any, training: pd.DataFrame) -> None:
    old = training.user_id.iloc[5]
    stale = {
        "user_id": old, "user_profile": np.zeros(384), "user_evidence": 1,
        "user_profile_fingerprint": training.user_profile_fingerprint[0],
        "event_timestamp": datetime(2010, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    store.write_to_online_store("user_profiles", pd.DataFrame([stale]))
    assert by_feature(measure_skew(store, training))["user_profile"].reasons == {reasons.BEHIND: 1}


def test_a_history_of_which_all_was_returned_is_as_none_and_not_as_what_it_was(
    store: Any, training: pd.DataFrame, users: list[str]
) -> None:
    nothing = {
        "user_id": users[7], "user_profile": np.zeros(384), "user_evidence": 0,
        "user_profile_fingerprint": training.user_profile_fingerprint[0], "event_timestamp": MOMENT,
    }  # fmt: skip
    store.write_to_online_store("user_profiles", pd.DataFrame([nothing]))
    one = training[training.user_id == users[7]]
    read = by_feature(measure_skew(store, one))
    assert (read["user_profile"].different, read["user_evidence"].different) == (1, 1)
    silent = one.assign(user_profile=None, user_evidence=None)
    read = by_feature(measure_skew(store, silent))
    assert (read["user_profile"].compared, read["user_profile"].different) == (1, 0)
    assert (read["user_evidence"].compared, read["user_evidence"].different) == (1, 0)


def test_a_frame_that_cannot_be_compared_says_why(store: Any, training: pd.DataFrame) -> None:
    with pytest.raises(ColdStartError, match="no event_timestamp"):
        measure_skew(store, training.drop(columns="event_timestamp"))
    with pytest.raises(ColdStartError, match="no row or no feature of coldstart_serving"):
        measure_skew(store, training[["user_id", "event_timestamp"]])
    with pytest.raises(ColdStartError, match="no row or no feature"):
        measure_skew(store, training[:0])
    with pytest.raises(ColdStartError, match="no feature service 'serving'; there are coldstart_quality"):
        measure_skew(store, training, service="serving")
