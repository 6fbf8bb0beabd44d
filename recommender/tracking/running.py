"""A run and its trackers: the record on disk always, TensorBoard or Weights & Biases if `--track` asks for them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coldstart_udfs.errors import ColdStartError, ColdStartWarning
from recommender.tracking.protocol import Several, Tracker
from recommender.tracking.records import RecordTracker

RUNS = Path("data/runs")
POSSIBLE = "tensorboard:DIR or wandb:offline"


@contextmanager
def tracked(command: str, spec: str | None = None, folder: Path = RUNS) -> Iterator[Tracker]:
    """The tracker of a run for as long as the block runs; if the block raises, the run has failed.

    The record in `folder` is written without being asked for. Where it cannot be written (a read-only folder) the run
    goes on without it, with a warning.

    Args:
        command: what runs, such as "train".
        spec: see `tracker_of`; checked before the block begins.
        folder: where the records of all runs are.

    Raises:
        ColdStartError: see `tracker_of`.
    """
    check(spec)
    record = _record(folder, command)
    name = record.id if record else f"{command.replace(' ', '-')}-{os.getpid()}"
    asked = tracker_of(spec, name=name)
    run = Several(*(one for one in (record, asked) if one is not None))
    failed = True
    try:
        yield run
        failed = False
    finally:
        run.close(failed)


def check(spec: str | None) -> None:
    """See whether a tracker is possible, before a run of hours begins; arguments and errors as of `tracker_of`."""
    kind, _, value = (spec or "").partition(":")
    if spec is not None and not (kind == "tensorboard" and value or spec == "wandb:offline"):
        raise ColdStartError(f"--track {spec}: there is no such tracker; give {POSSIBLE}")
    if kind == "tensorboard":
        from recommender.tracking.tensorboard import require_tensorboard

        require_tensorboard()
    if kind == "wandb":
        from recommender.tracking.wandb import require_wandb

        require_wandb()


def tracker_of(spec: str | None, *, name: str) -> Tracker | None:
    """The tracker that `--track` names; None for None.

    Args:
        spec: "tensorboard:DIR" writes event files into the folder DIR/name; "wandb:offline" writes a run that
            `wandb sync` can upload into the folder wandb. Neither makes a network call.
        name: of the run.

    Raises:
        ColdStartError: another text, or the extra `track` is not installed.
    """
    check(spec)
    if spec is None:
        return None
    if spec == "wandb:offline":
        from recommender.tracking.wandb import WandbTracker

        return WandbTracker(name)
    from recommender.tracking.tensorboard import TensorBoardTracker

    return TensorBoardTracker(Path(spec.partition(":")[2]) / name)


def _record(folder: Path, command: str) -> RecordTracker | None:
    try:
        return RecordTracker(folder, command)
    except OSError as error:
        warnings.warn(f"no record of this run is written: {error}", ColdStartWarning, stacklevel=3)
        return None
