"""Records of runs: what `coldstart train`, `evaluate` and `encoder tune` were started with, and what came of it.

Each run has a record of its own on disk (`recommender.tracking.records`). `--track` also tells TensorBoard or Weights &
Biases (`recommender.tracking.tensorboard`, `recommender.tracking.wandb`).
"""

from __future__ import annotations

from recommender.tracking.protocol import Several, Tracker
from recommender.tracking.running import RUNS, tracked, tracker_of

__all__ = ["RUNS", "Several", "Tracker", "tracked", "tracker_of"]
