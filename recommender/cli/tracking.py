"""What `coldstart train` and `coldstart evaluate` tell a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recommender.tracking.protocol import Tracker

if TYPE_CHECKING:
    from recommender.evaluation.comparison import Evaluation

# Of a manifest: what the bundle was made with, and what it holds.
_MADE_WITH = ("embedding_fingerprint", "cutoff", "trained_until", "data_sha256")
_HOLDS = ("users", "items", "warm_items", "interactions", "held_out")
# Of a row of an evaluation: of every method, and of the recommender.
_OF_ALL, _OF_OURS = ("ndcg@20",), ("recall@20", "precision@10", "auc", "coverage", "cold_share")


def tell_training(tracker: Tracker, manifest: Mapping[str, Any]) -> None:
    """Tell the manifest of a bundle: its parameters, the data, the encoder, and the quality on held-out data."""
    parameters = {name: value for name, value in manifest["parameters"].items() if name not in ("source", "weights")}
    weights = manifest["parameters"]["weights"]
    for side in ("warm", "cold"):
        parameters |= {f"weights.{side}.{part}": pair for part, pair in weights[side].items()}
    parameters |= {f"weights.{name}": value for name, value in weights.items() if name not in ("warm", "cold")}
    made_with = {name: manifest[name] for name in _MADE_WITH if name in manifest}
    tracker.parameters(parameters | made_with | {"bundle_id": manifest["id"]})
    quality = manifest.get("metrics", {}).get("validation", {})
    tracker.figures({f"validation/{name}": value for name, value in quality.items()})
    tracker.figures({f"data/{name}": manifest[name] for name in _HOLDS if name in manifest})


def tell_evaluation(tracker: Tracker, found: Evaluation) -> None:
    """Tell the figures of all methods, and NDCG@20 of each by seed."""
    from recommender.evaluation.baselines import OURS

    tracker.parameters({"dataset": found.result["dataset"], "encoder": found.result["versions"]["encoder"]})
    draws = found.details.draws
    for seed in range(found.result["seeds"]):
        told = {
            f"by_seed/{candidates}/{method}": float(values[draws[candidates] == seed].mean())
            for (method, candidates), values in found.details.per_user.items() if (draws[candidates] == seed).any()
        }  # fmt: skip
        tracker.metrics(told, seed)
    # The first figure of a run is the one in the list of all runs.
    for row in sorted(found.result["rows"], key=lambda row: row["method"] != OURS):
        shots = f"/{row['shots']} shots" if row.get("shots") else ""
        group = f"{row['candidates']}{shots}/{row['method']}"
        names = _OF_ALL + _OF_OURS if row["method"] == OURS else _OF_ALL
        tracker.figures({f"{group}/{name}": row[name] for name in names})
