"""Read features in three ways. Run `python test_workflow.py` after `feast apply` and `feast materialize`."""

from pathlib import Path
from typing import Any

import pandas as pd
from feast import FeatureStore

HERE = Path(__file__).resolve().parent


def main() -> None:
    store = FeatureStore(repo_path=str(HERE))
    snapshots = pd.read_parquet(HERE / "data" / "user_profiles.parquet", columns=["user_id", "event_timestamp"])
    known = snapshots["user_id"].value_counts().sort_index(kind="stable").idxmax()
    moments = snapshots.loc[snapshots["user_id"] == known, "event_timestamp"]

    print(f"\n--- online, stored descriptions: user {known}, and a user that does not exist")
    show(
        store.get_online_features(
            features=["user_enriched:user_is_cold", "user_enriched:user_enriched_profile"],
            entity_rows=[{"user_id": known}, {"user_id": "nobody"}],
        ).to_df()
    )

    print("\n--- online, a description in the request")
    show(
        store.get_online_features(
            features=store.get_feature_service("coldstart_request"),
            entity_rows=[{"user_id": "nobody", "request_description": "enamel and garden decorations"}],
        ).to_df()
    )

    print("\n--- history: the user after the first interactions, and at the end")
    entities = pd.DataFrame({"user_id": known, "event_timestamp": [moments.min(), moments.max()]})
    show(
        store.get_historical_features(
            entity_df=entities,
            features=["user_profiles:user_evidence", "user_enriched_training:user_enriched_profile"],
        ).to_df()
    )


def show(features: pd.DataFrame) -> None:
    """Print features with vectors shortened to their first numbers."""
    for column in features.columns[features.columns.str.endswith("_profile")]:
        features[column] = features[column].map(_shortened)
    print(features.T.to_string(header=False))


def _shortened(vector: Any) -> Any:
    return vector if vector is None else f"[{vector[0]:.3f}, {vector[1]:.3f}, …] × {len(vector)}"


if __name__ == "__main__":
    main()
