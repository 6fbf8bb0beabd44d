"""What commands print on: the console and progress bars; and how long work reports its progress.

Rich is imported when the first of them is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    console: Console

# Called with (stage, done, total): the name of what is being done, and how many of its parts are finished.
Report: TypeAlias = Callable[[str, int, int], None]


def no_report(stage: str, done: int, total: int) -> None:
    """A `Report` that does nothing."""


@contextmanager
def progress(*, remaining: bool = False) -> Iterator[Report]:
    """Bars on the terminal, one for each stage that is reported; `remaining` adds an estimate of the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    if remaining:
        columns.append(TimeRemainingColumn(compact=True))
    # The estimate is of the last minute: texts differ in length, and cached ones cost nothing.
    with Progress(*columns, console=_console(), speed_estimate_period=60) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=min(done, total), total=total)

        yield report


def _console() -> Console:
    if "console" not in globals():
        from rich.console import Console

        # A pipe has no width, and a table folded at 80 columns cannot be read.
        globals()["console"] = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    found: Console = globals()["console"]
    return found


def __getattr__(name: str) -> Any:
    if name != "console":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _console()
