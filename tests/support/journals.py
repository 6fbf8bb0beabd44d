"""What a search of settings wrote down."""

from __future__ import annotations

import json
from pathlib import Path


def tried(storage: Path) -> list[dict[str, float]]:
    """The settings of each trial in an Optuna journal, in order."""
    trials: list[dict[str, float]] = []
    for line in storage.read_text().splitlines():
        entry = json.loads(line)
        if entry["op_code"] == 4:  # a trial begins
            trials.append({})
        elif entry["op_code"] == 5:  # it is given a parameter
            trials[entry["trial_id"]][entry["param_name"]] = entry["param_value_internal"]
    return trials
