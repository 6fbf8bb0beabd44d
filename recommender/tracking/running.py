"""A run and its trackers: the record on disk always, TensorBoard or Weights & Biases if `--track` asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coldstart_udfs.errors import ColdStartError
from recommender.tracking.protocol import Several, Tracker
from recommender.tracking.records import RecordTracker

RUNS = Path("data/runs")


@contextmanager
def tracked(command: str, spec: str | None = None, folder: Path = RUNS) -> Iterator[Tracker]:
    """The tracker of a run for as long as the block runs; if the block raises, the run has failed.

    A record of the run is always written, with its first metric or figure. Where it cannot be written, the run goes on
    without it, with a warning.

    Args:
        command: what runs, such as "train".
        spec: what else is told about the run: "tensorboard:DIR" writes event files into a folder in DIR;
            "wandb:offline" a run that `wandb sync` can upload, into the folder wandb. Neither makes a network call.
        folder: where the records of all runs are.

    Raises:
        ColdStartError: another `spec`, or the extra `track` is not installed.
    """
    record = RecordTracker(folder, command)
    asked = tracker_of(spec, name=record.id)
    run = Several(record, asked) if asked else Several(record)
    failed = True
    try:
        yield run
        failed = False
    finally:
        run.close(failed)


def tracker_of(spec: str | None, *, name: str) -> Tracker | None:
    """The tracker that `--track` names; None for None.

    Args:
        spec: see `tracked`; event files go to DIR/name.
        name: of the run.

    Raises:
        ColdStartError: another `spec`, or the extra `track` is not installed.
    """
    if spec is None:
        return None
    kind, _, value = spec.partition(":")
    if kind == "tensorboard" and value:
        from recommender.tracking.tensorboard import TensorBoardTracker

        return TensorBoardTracker(Path(value) / name)
    if spec == "wandb:offline":
        from recommender.tracking.wandb import WandbTracker

        return WandbTracker(name)
    raise ColdStartError(f"--track {spec}: there is no such tracker; give tensorboard:DIR or wandb:offline")
