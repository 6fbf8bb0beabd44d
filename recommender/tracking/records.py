"""Records of runs on disk: one folder for each run, with `run.json` and copies of its files.

    data/runs/20261201-052233-train-3f2a/run.json
    data/runs/20261201-060012-evaluate-91bc/run.json, report.html
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from coldstart_udfs.errors import ColdStartError, ColdStartWarning
from coldstart_udfs.files import staged, write_text
from coldstart_udfs.made_from import versions_of

# Runs that are kept; the oldest go first.
KEPT = 200
# Steps of a metric that are kept: of more, every second one goes.
STEPS = 1_000
# Files that are copied, in bytes; a larger one is only named.
LARGEST = 16 << 20
FORMAT = 1
Status = Literal["running", "finished", "failed"]

_FILE = "run.json"
_PACKAGES = ("feast-coldstart", "lightfm-next", "sentence-transformers", "torch", "numpy", "scipy", "duckdb", "feast")


@dataclass(frozen=True)
class Artifact:
    """A file of a run.

    Attributes:
        name: of the file in the folder of the run.
        bytes: its size.
        sha256: in hexadecimal digits.
        copied: whether the copy is there; False if the file was too large.
    """

    name: str
    bytes: int
    sha256: str
    copied: bool


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run.

    Attributes:
        id: when it began (UTC), its command, and four digits that tell runs of the same second apart.
        command: such as "train".
        began: in ISO format, UTC.
        ended: the same; None while it runs, and if it was killed.
        status: "running" (or killed), "finished" or "failed" (by an error, or stopped by the user).
        parameters: what it was started with.
        metrics: by name, pairs of a step and a value.
        figures: what it came to; None is a number that is not finite.
        artifacts: its files.
        versions: of the packages that it ran with.
        format: of this record.
    """

    id: str
    command: str
    began: str
    ended: str | None = None
    status: Status = "running"
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float | None]]] = field(default_factory=dict)
    figures: dict[str, float | None] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


class RecordTracker:
    """Writes the record of a run: with its first metric or figure, as one that runs, and whole at its end.

    A run that is refused for its input leaves no record. Where the record cannot be written (a read-only folder, a full
    disk) the run goes on without it, with a warning.

    Args:
        folder: the folder of all runs; made where it is missing.
        command: such as "train".
    """

    def __init__(self, folder: Path, command: str) -> None:
        began = datetime.now(UTC)
        name = f"{began:%Y%m%d-%H%M%S}-{command.replace(' ', '-')}-{secrets.token_hex(2)}"
        self.folder = folder / name
        self._record = RunRecord(name, command, began.isoformat(timespec="seconds"), versions=versions_of(_PACKAGES))
        self._begun = self._lost = False

    @property
    def id(self) -> str:
        """The id of the run."""
        return self._record.id

    def parameters(self, values: Mapping[str, object]) -> None:
        """See `Tracker`."""
        self._record.parameters.update({name: _plain(value) for name, value in values.items()})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._begin()
        for name, value in values.items():
            points = self._record.metrics.setdefault(name, [])
            points.append((step, _finite(value)))
            if len(points) > STEPS:
                del points[1:-1:2]

    def figures(self, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._begin()
        self._record.figures.update({name: _finite(value) for name, value in values.items()})

    def artifact(self, path: Path, name: str) -> None:
        """See `Tracker`."""
        self._begin()
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        copied = size <= LARGEST and not self._lost
        if copied:
            with self._warned(), staged(self.folder) as scratch:
                shutil.copyfile(path, scratch / name)
        self._record.artifacts.append(Artifact(name, size, digest, copied and not self._lost))

    def close(self, failed: bool) -> None:
        """See `Tracker`."""
        if self._begun:
            ended = datetime.now(UTC).isoformat(timespec="seconds")
            self._write(asdict(self._record) | {"ended": ended, "status": "failed" if failed else "finished"})

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._write(asdict(self._record))
            _prune(self.folder.parent)

    def _write(self, values: dict[str, Any]) -> None:
        if not self._lost:
            with self._warned():
                write_text(self.folder / _FILE, json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")

    @contextmanager
    def _warned(self) -> Iterator[None]:
        """Warn once if a file of the record cannot be written, and write no more."""
        try:
            yield
        except OSError as error:
            self._lost = True
            warnings.warn(f"the record of this run is not written: {error}", ColdStartWarning, stacklevel=2)


def runs(folder: Path) -> list[RunRecord]:
    """The records in a folder, oldest first; folders without a readable record are left out."""
    found = []
    for path in sorted(folder.glob(f"*/{_FILE}")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != FORMAT:
                continue
            metrics = {name: [(step, value) for step, value in pairs] for name, pairs in values["metrics"].items()}
            artifacts = [Artifact(**one) for one in values["artifacts"]]
            record = RunRecord(**values | {"metrics": metrics, "artifacts": artifacts})
            texts, tables = (record.id, record.command, record.began), (record.parameters, record.figures)
            if all(isinstance(one, str) for one in texts) and all(isinstance(one, dict) for one in tables):
                found.append(record)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return sorted(found, key=lambda run: run.id)


def run_named(folder: Path, name: str) -> RunRecord:
    """The run with an id, or with the only id that contains the given text.

    Args:
        folder: the folder of all runs.
        name: an id, or a part of it, such as its last four digits.

    Raises:
        ColdStartError: no run, or more than one.
    """
    known = runs(folder)
    if not known:
        raise ColdStartError(f"{folder} has no records of runs; `coldstart train` and `coldstart evaluate` write them")
    found = [run for run in known if run.id == name] or [run for run in known if name in run.id]
    if len(found) != 1:
        told = ", ".join(run.id for run in (found or known)[-5:])
        which = f"{len(found)} runs have" if found else "no run has"
        raise ColdStartError(f"{which} {name!r} in the id; give more of one of {told}")
    return found[0]


def _prune(folder: Path) -> None:
    """Remove the oldest runs beyond those that are kept; folders that are no records stay."""
    records = sorted(path.parent for path in folder.glob(f"*/{_FILE}"))
    for old in records[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _plain(value: object) -> Any:
    """A value that JSON has; a number that is not finite becomes its text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value)


def _finite(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
