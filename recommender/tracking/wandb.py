"""Runs for Weights & Biases, kept on this machine until the user uploads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from coldstart_udfs.errors import ColdStartError

_PROJECT = "coldstart"


class WandbTracker:
    """Writes an offline run into the folder `wandb`, or where `WANDB_DIR` says; `wandb sync` uploads it.

    What wandb collects by itself is off: source code, git, the command line, the machine, packages, output of the
    terminal and reports of errors.

    Args:
        name: of the run.

    Raises:
        ColdStartError: wandb is not installed.
    """

    def __init__(self, name: str) -> None:
        if find_spec("wandb") is None:
            raise ColdStartError(
                "--track wandb:offline needs wandb, which is missing: pip install 'feast-coldstart[track]'"
            )
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # read when wandb is imported
        import wandb

        settings = wandb.Settings(
            console="off", disable_code=True, disable_git=True, host="", save_code=False, silent=True,
            x_disable_machine_info=True, x_disable_meta=True, x_disable_stats=True, x_save_requirements=False,
        )  # fmt: skip
        self._wandb: Any = wandb
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT), name=name, mode="offline", settings=settings
        )
        self._groups: set[str] = set()

    def parameters(self, values: Mapping[str, object]) -> None:
        """See `Tracker`."""
        told = {
            name: value if value is None or isinstance(value, bool | int | float) else str(value)
            for name, value in values.items()
        }
        self._run.config.update(told, allow_val_change=True)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        groups: dict[str, dict[str, float]] = {}
        for name, value in values.items():
            groups.setdefault(name.rpartition("/")[0], {})[name] = value
        for group, told in groups.items():
            # wandb counts one step for all metrics, which phases with epochs of their own do not share.
            axis = f"{group}/step" if group else "step"
            if group not in self._groups:
                self._groups.add(group)
                self._run.define_metric(axis, hidden=True)
                self._run.define_metric(f"{group}/*" if group else "*", step_metric=axis)
            self._run.log({**told, axis: step})

    def figures(self, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.summary.update(dict(values))

    def artifact(self, path: Path, name: str) -> None:
        """See `Tracker`."""
        made = self._wandb.Artifact(f"{self._run.id}-{Path(name).stem}", type="report")
        made.add_file(str(path), name=name)
        self._run.log_artifact(made)

    def close(self, failed: bool) -> None:
        """See `Tracker`."""
        self._run.finish(exit_code=int(failed))
