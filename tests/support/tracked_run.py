"""A run that tells a tracker everything; `python -m tests.support.tracked_run SPEC` runs it in the working folder."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime
from pathlib import Path

from recommender.tracking import tracked

REPORT = "<h1>report</h1>"


def told(spec: str | None = None, *, folder: Path = Path("data/runs"), ndcg: float = 0.25, rate: float = 0.05) -> None:
    """Two phases with epochs of their own, figures, one of them not finite, and a file; in the working folder."""
    report = Path("written.html")
    report.write_text(REPORT)
    with tracked("train", spec, folder) as tracker:
        tracker.parameters({"data": Path("data"), "learning_rate": rate, "search": None, "resumed": False})
        tracker.parameters({"cutoff": datetime(2011, 8, 1, tzinfo=UTC), "weights.warm.text": [0.5, 1.25]})
        for epoch in (1, 2, 3):
            tracker.metrics({"cutoff_fit/auc": 0.5 + epoch / 10, "cutoff_fit/held_out_auc": 0.5}, epoch)
        for epoch in (1, 2):
            tracker.metrics({"final_fit/auc": 0.5 + epoch / 10}, epoch)
        tracker.figures({"validation/ndcg@20": ndcg, "validation/none": math.nan})
        tracker.artifact(report, "report.html")


if __name__ == "__main__":
    told(sys.argv[1])
