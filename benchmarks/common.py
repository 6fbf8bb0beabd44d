"""Shared by the benchmarks: real texts, interleaved medians, and writing their sections of docs/explanation/."""

from __future__ import annotations

import html
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import duckdb

from coldstart_udfs.files import write_text

ROOT = Path(__file__).resolve().parents[1]
RETAIL = ROOT / "examples" / "online_retail" / "transactions.parquet"
QUESTIONS = ROOT / "benchmarks" / "data" / "questions.parquet"
ROUNDS = 5

# What is measured, what it is compared with, the result.
Row: TypeAlias = tuple[str, str, str]
HEAD = ("what", "compared with", "measured")
EXPLANATION = ROOT / "docs" / "explanation"


def short_texts(count: int) -> list[str]:
    """Distinct product texts of Online Retail."""
    return texts_of(f"SELECT DISTINCT trim(description) AS d FROM '{RETAIL}' WHERE customer_id IS NOT NULL", count)


def long_texts(count: int) -> list[str]:
    """Bodies of Stack Exchange questions, without HTML."""
    bodies = texts_of(f"SELECT DISTINCT body AS d FROM '{QUESTIONS}'", count)
    return [html.unescape(re.sub("<[^>]+>", " ", body)).strip() for body in bodies]


def texts_of(query: str, count: int) -> list[str]:
    """The first `count` results of a query with a column d, in a stable order."""
    with duckdb.connect() as con:
        return [row[0] for row in con.sql(f"SELECT d FROM ({query}) ORDER BY md5(d) LIMIT {count}").fetchall()]


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median seconds of each run, over rounds in which every run has its turn."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(timed(run))
    return {name: statistics.median(values) for name, values in seconds.items()}


def write_section(name: str, command: str, about: str, rows: Sequence[Row]) -> None:
    """Write a benchmark's table into docs/explanation/performance.md, between its marks."""
    packages = ("duckdb", "numpy", "onnxruntime", "pyarrow", "sentence-transformers", "torch")
    lines = [made_by(command, about, packages), "", *table(HEAD, rows)]
    write_between(EXPLANATION / "performance.md", name, "\n".join(lines))


def made_by(command: str, about: str, packages: Sequence[str]) -> str:
    """Return the text above a benchmark's tables: the command, the method, the date, the machine and the versions."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    machine = f"Python {platform.python_version()}, {processor()}, {os.cpu_count()} processors"
    return f"Written by `{command}`. {about}\n\n{datetime.now(UTC):%Y-%m-%d}, {machine}; {versions}."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    first, *others = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return [first, "|" + "---|" * len(head), *others]


def write_between(page: Path, name: str, text: str) -> None:
    """Replace the text between a page's marks of this name."""
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, mark, rest = page.read_text(encoding="utf-8").partition(first)
    if not mark:
        raise SystemExit(f"{page} has no line {first}; add it where this section belongs")
    write_text(page, f"{before}{first}\n{text}\n{last}{rest.partition(last)[2]}")


def processor() -> str:
    """Return the processor's name."""
    try:
        names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
