"""What a run tells a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Takes what one run tells: parameters once, metrics by step, figures at the end, files."""

    def parameters(self, values: Mapping[str, object]) -> None:
        """Keep what the run was started with; a later call adds to it.

        Args:
            values: numbers, texts, booleans, dates, paths or None by name; anything else is kept as its text.
        """

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Keep what was measured after an epoch, a step, a trial or a seed.

        Args:
            values: by name. Names with a slash are grouped by what is before it, and each group counts its own steps.
            step: the number of the epoch, step, trial or seed; within a group it does not decrease.
        """

    def figures(self, values: Mapping[str, float]) -> None:
        """Keep what the run comes to, by name; a later call adds to it."""

    def artifact(self, path: Path, name: str) -> None:
        """Keep a copy of a file, such as a report.

        Args:
            path: the file.
            name: what it is called in the record, such as "report.html"; a file name without a folder.
        """

    def close(self, failed: bool) -> None:
        """End the run; nothing is told after it.

        Args:
            failed: whether the run was stopped by an error or by the user.
        """


class Several:
    """Several trackers that are told the same.

    Args:
        trackers: in the order in which they are told.
    """

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def parameters(self, values: Mapping[str, object]) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.parameters(values)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.metrics(values, step)

    def figures(self, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.figures(values)

    def artifact(self, path: Path, name: str) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.artifact(path, name)

    def close(self, failed: bool) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.close(failed)
