"""Read features the three ways, after `feast apply` and `feast materialize`: python test_workflow.py."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from feast import FeatureStore


def main() -> None:
    store = FeatureStore(repo_path=str(Path(__file__).resolve().parent))
    known = pd.read_parquet(Path(__file__).resolve().parent / "data" / "user_profiles.parquet")["user_id"].iloc[0]

    print(f"\n--- online, stored descriptions: user {known}, and one who does not exist")
    show(
        store.get_online_features(
            features=["user_enriched:user_is_cold", "user_enriched:user_enriched_profile"],
            entity_rows=[{"user_id": known}, {"user_id": "nobody"}],
        ).to_df()
    )

    print("\n--- online, a description that comes with the request")
    show(
        store.get_online_features(
            features=store.get_feature_service("coldstart_request"),
            entity_rows=[{"user_id": "nobody", "request_description": "enamel and garden decorations"}],
        ).to_df()
    )

    print("\n--- history: what was known of the user at two moments")
    entities = pd.DataFrame(
        {
            "user_id": [known, known],
            "event_timestamp": [datetime(2011, 1, 15, tzinfo=UTC), datetime(2011, 12, 31, tzinfo=UTC)],
        }
    )
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
    print(features.to_string(index=False))


def _shortened(vector: Any) -> Any:
    return vector if vector is None else f"[{vector[0]:.3f}, {vector[1]:.3f}, …] × {len(vector)}"


if __name__ == "__main__":
    main()
