"""What commands print on: the console, and progress bars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# A pipe has no width of its own, and a table folded at 80 columns cannot be read.
console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)

# Told (stage, done, total).
Report = Callable[[str, int, int], None]


@contextmanager
def progress(*, remaining: bool = False) -> Iterator[Report]:
    """Bars on the terminal, one for each stage that is reported; `remaining` adds an estimate of the time left."""
    columns = [TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    if remaining:
        columns.append(TimeRemainingColumn(compact=True))
    # The estimate is of the last minute: texts differ in length, and cached ones cost nothing.
    with Progress(*columns, console=console, speed_estimate_period=60) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=min(done, total), total=total)

        yield report
